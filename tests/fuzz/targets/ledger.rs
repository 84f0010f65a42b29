//! The texts by which the ledger is read again: queue dates, times, names of actions.

#![no_main]

use libfuzzer_sys::fuzz_target;
use opensvc_actions::action::evidence::{Evidence, Fingerprint, is_same_action};
use opensvc_actions::action::name::ActionName;
use opensvc_actions::action::time::Timestamp;

fuzz_target!(|input: (&str, Option<String>, Option<String>, &str)| {
    let (command, one, other, text) = input;
    let evidence = |queued_at| Evidence { command: command.to_owned(), svc_id: String::new(), queued_at };
    let (row, recorded) = (evidence(one), evidence(other));
    assert!(is_same_action(&row, &row), "{row:?}");
    assert_eq!(is_same_action(&row, &recorded), is_same_action(&recorded, &row), "{row:?} {recorded:?}");
    // What the ledger knows as the same action, it knows as such when only the tombstone is left: it never runs again.
    if is_same_action(&row, &recorded) {
        assert!(Fingerprint::from(&recorded).is_of(&row), "{row:?} {recorded:?}");
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        // Years have four digits; what is older or later is shown, and not read again.
        let shown = time.to_string();
        if let Ok(again) = shown.parse::<Timestamp>() {
            assert_eq!(again.to_string(), shown);
        }
    }
    if let Ok(name) = text.parse::<ActionName>() {
        assert_eq!(name.to_string().parse::<ActionName>().as_ref(), Ok(&name));
    }
});
