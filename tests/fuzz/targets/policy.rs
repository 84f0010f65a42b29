//! The policy: what is executed is what was judged, and where nothing is allowed nothing is executed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use opensvc_actions::action::argv::Agent;
use opensvc_actions::action::limits::GroupLimits;
use opensvc_actions::action::policy::{CommandGlobs, Place, Policy, Rule, Verdict};
use opensvc_actions::action::words::split;
use opensvc_actions::action::{ActionId, QueuedAction, RowStatus};

fuzz_target!(|input: (Vec<String>, &str, &str)| {
    let (globs, command, svcname) = input;
    let Ok(globs) = CommandGlobs::read(&globs) else { return };
    let row = QueuedAction {
        id: ActionId(1),
        status: RowStatus::Waiting,
        command: command.to_owned(),
        svc_id: svcname.to_owned(),
        svcname: svcname.to_owned(),
        queued_at: None,
        earlier_ret: None,
    };
    let rule = |command: Option<CommandGlobs>| Rule {
        number: 1,
        place: Place { file: "p.toml".into(), line: 1 },
        verdict: Verdict::Allow,
        about: None,
        command,
        timeout: None,
        user: None,
        group: GroupLimits::default(),
        retarget: false,
        ends_boot: None,
    };
    let policy = |rules| Policy { default: Verdict::Deny, default_place: None, rules };
    assert!(policy(Vec::new()).judge(&row).command.is_err());
    let narrow = policy(vec![rule(Some(globs))]);
    let wide = policy(vec![rule(None)]);
    match (narrow.judge(&row).command, wide.judge(&row).command) {
        (Ok(one), Ok(other)) => {
            assert_eq!(one, other);
            // An external action has words of its own: its name and its arguments.
            if one.external().is_none() {
                assert_eq!(Ok(one.words().to_vec()), split(command));
                let argv = one.argv(&Agent::Om("om".into()));
                assert!(argv.args().ends_with(one.words()));
            }
        }
        // A narrower rule never allows more.
        (Ok(command), Err(refusal)) => panic!("{command:?} {refusal}"),
        _ => {}
    }
});
