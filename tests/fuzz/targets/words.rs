//! Command strings: what is split, quoted and split again is the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use opensvc_actions::action::redact;
use opensvc_actions::action::words::split;

fuzz_target!(|command: &str| {
    let Ok(words) = split(command) else { return };
    let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', r#"'"'"'"#))).collect();
    assert_eq!(split(&quoted.join(" ")).as_ref(), Ok(&words));
    // What a log says of it is one line.
    let said = redact::command_line(&words, &[]);
    assert!(!said.contains('\n'), "{said:?}");
});
