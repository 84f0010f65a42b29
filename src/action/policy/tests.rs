//! What the policy decides, and what does not get past it.

use super::*;
use crate::action::redact::quoted;
use crate::action::{ActionId, RowStatus};
use proptest::prelude::*;

fn row(service: &str, command: &str) -> QueuedAction {
    QueuedAction {
        id: ActionId(1),
        status: RowStatus::Waiting,
        command: command.to_owned(),
        svc_id: String::new(),
        svcname: service.to_owned(),
        queued_at: None,
        earlier_ret: None,
    }
}

fn rule(verdict: Verdict, service: Option<&str>, command: &[&str]) -> Rule {
    let command: Vec<_> = command.iter().map(|&word| word.to_owned()).collect();
    Rule {
        number: 1,
        place: Place { file: "/p.toml".into(), line: 3 },
        verdict,
        about: service.map(|service| match service {
            "" => About::Node,
            glob => About::Services(glob.parse().unwrap()),
        }),
        command: Some(command).filter(|words| !words.is_empty()).map(|words| CommandGlobs::read(&words).unwrap()),
        timeout: None,
        group: GroupLimits::default(),
        user: None,
        retarget: false,
        ends_boot: None,
    }
}

fn allow(service: Option<&str>, command: &[&str]) -> Rule {
    rule(Verdict::Allow, service, command)
}

fn deny(service: Option<&str>, command: &[&str]) -> Rule {
    rule(Verdict::Deny, service, command)
}

fn policy(default: Verdict, rules: Vec<Rule>) -> Policy {
    let numbered = rules.into_iter().enumerate().map(|(index, rule)| Rule { number: index + 1, ..rule });
    Policy { default, default_place: None, rules: numbered.collect() }
}

/// Only what is listed may run.
fn only(rules: Vec<Rule>) -> Policy {
    policy(Verdict::Deny, rules)
}

fn allows(policy: &Policy, service: &str, command: &str) -> bool {
    policy.judge(&row(service, command)).command.is_ok()
}

#[test]
fn without_rules_the_default_decides() {
    assert!(allows(&Policy::default(), "a", "start"));
    let refused = only(Vec::new()).judge(&row("a", "start")).command.unwrap_err().to_string();
    assert_eq!(refused, "no rule of the policy allows it, and its default is \"deny\"");
    let place = Place { file: "/etc/p.toml".into(), line: 2 };
    let located = Policy { default_place: Some(place), ..only(Vec::new()) };
    assert!(located.judge(&row("", "x")).command.unwrap_err().to_string().ends_with("\"deny\" (/etc/p.toml:2)"));
}

#[test]
fn the_first_rule_that_fits_decides_and_is_named() {
    let policy = policy(
        Verdict::Allow,
        vec![allow(Some("web"), &["stop"]), deny(None, &["stop", "**"]), allow(None, &["stop", "**"])],
    );
    assert!(allows(&policy, "web", "stop"));
    let permit = policy.judge(&row("web", "stop --local"));
    assert_eq!(permit.rule, Some(&policy.rules[1]));
    assert_eq!(
        permit.command.unwrap_err().to_string(),
        "by rule 2 of /p.toml (line 3): deny command=[\"stop\", \"**\"]"
    );
    assert!(allows(&policy, "db", "start"));
}

#[test]
fn a_rule_is_about_the_node_or_services_or_both() {
    for (service, node, web, db) in [
        (None, true, true, true),
        (Some(""), true, false, false),
        (Some("*"), false, true, true),
        (Some("web"), false, true, false),
        (Some("ns/svc/*"), false, false, false),
    ] {
        let policy = only(vec![allow(service, &["x"])]);
        assert_eq!(["", "web", "db"].map(|name| allows(&policy, name, "x")), [node, web, db], "{service:?}");
    }
    let policy = only(vec![allow(Some("ns/svc/*"), &["x"])]);
    assert!(allows(&policy, "ns/svc/a", "x") && !allows(&policy, "ns2/svc/a", "x"));
}

#[test]
fn one_glob_fits_one_word_and_the_last_may_take_the_rest() {
    for (globs, command, expected) in [
        (&["start"][..], "start", true),
        (&["start"], "start --local", false),
        (&["start"], "--local start", false),
        (&["start", "*"], "start", false),
        (&["start", "*"], "start x", true),
        (&["start", "*"], "start ''", true),
        (&["start", "*"], "start x y", false),
        (&["start", "**"], "start", true),
        (&["start", "**"], "start x y", true),
        (&["start", "**"], "restart x", false),
        (&["**"], "anything at all", true),
        (&["print", "status"], "print_status", false),
    ] {
        assert_eq!(allows(&only(vec![allow(None, globs)]), "a", command), expected, "{globs:?} {command:?}");
    }
}

#[test]
fn a_list_of_globs_is_well_formed() {
    let wrong = |words: &[&str]| {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        CommandGlobs::read(&words).unwrap_err()
    };
    assert_eq!(wrong(&[]).0, 0);
    assert_eq!(wrong(&["a", "[", "b"]).0, 1);
    for words in [&["**", "a"][..], &["a**"], &["**", "**"], &["--rid=**"]] {
        assert!(wrong(words).1.contains("takes the rest"), "{words:?}");
    }
}

/// What an action must not be able to do where only `start` and `start --rid X` are allowed for services that are
/// called web-something.
#[test]
fn nothing_gets_past_a_list_of_what_is_allowed() {
    let policy = only(vec![allow(Some("web*"), &["start"]), allow(Some("web*"), &["start", "--rid", "fs#[0-9]"])]);
    for command in ["start", "'start'", "st\"ar\"t", "\\start", " start\t\n", "start --rid fs#1", "start --rid 'fs#1'"]
    {
        assert!(allows(&policy, "web1", command), "{command:?}");
    }
    for command in [
        // more words, fewer words, empty words
        "start --local",
        "start stop",
        "start ''",
        "'' start",
        "start --rid",
        "start --rid fs#1 --force",
        "--rid fs#1",
        // an option before the sub-command, or several commands in one
        "--local start",
        "--color no start",
        "-- start",
        "start -- stop",
        "start;stop",
        "start\\;stop",
        "start && stop",
        "start|sh",
        "$(start)",
        "`start`",
        // quotes that glue words together or take them apart
        "'start stop'",
        "'start --rid fs#1'",
        "start --rid 'fs#1 '",
        "start\\ stop",
        "start \"--rid\" \"fs#1\" \"\"",
        "start '--rid=fs#1'",
        // line feeds and other control characters within a word
        "'start\n'",
        "'start\nstop'",
        "start\u{b}",
        "start\u{85}",
        "start\u{a0}",
        "'\tstart'",
        "start\0",
        "\u{feff}start",
        "start --rid 'fs#1\n'",
        "start --rid fs#1\u{200b}",
        // letters that look like others, or are capitals
        "START",
        "Start",
        "\u{455}tart",
        "st\u{3b1}rt",
        "\u{ff53}tart",
        "start --RID fs#1",
        "start --rid fs#\u{661}",
        // abbreviations and other spellings that only an agent would understand
        "star",
        "start --ri fs#1",
        "start --rid=fs#1",
        "start -rid fs#1",
        // another target
        "start -s db",
        "start --rid -sdb",
        "start --service=db",
        "start --node n2",
        // no command at all
        "",
        " ",
        "''",
        "'",
    ] {
        assert!(!allows(&policy, "web1", command), "{command:?}");
    }
    for service in
        ["", "db", "Web1", "web1,db", "web*", "*", "web1 -s db", "-sweb1", "web1\n", "svc/web1", "ns/svc/web1"]
    {
        assert!(!allows(&policy, service, "start"), "{service:?}");
    }
    let vanished = QueuedAction { svc_id: "id".to_owned(), ..row("", "start") };
    assert!(policy.judge(&vanished).command.is_err());
}

#[test]
fn only_a_rule_that_says_so_lets_words_choose_another_target() {
    let retargeting = "start -s db";
    assert!(!allows(&Policy::default(), "a", retargeting));
    assert!(!allows(&only(vec![allow(None, &["**"])]), "a", retargeting));
    let permitted = Rule { retarget: true, ..allow(None, &["start", "**"]) };
    let policy = only(vec![permitted.clone()]);
    assert!(allows(&policy, "a", retargeting));
    assert!(!allows(&policy, "*", "start"), "a name that stands for several is no target");
    assert!(!allows(&policy, "a", "stop -s db"));
    let denied_first = only(vec![deny(None, &["start", "-s", "**"]), permitted]);
    assert!(!allows(&denied_first, "a", retargeting));
}

#[test]
fn what_ends_the_boot_is_built_in_and_a_rule_says_otherwise() {
    let ends_boot = |policy: &Policy, service: &str, command: &str| {
        let row = row(service, command);
        policy.judge(&row).ends_boot(&row)
    };
    let plain = Policy::default();
    for (service, command, expected) in
        [("", "reboot", true), ("", "'shut'down --force", true), ("web", "shutdown", false), ("", "checks", false)]
    {
        assert_eq!(ends_boot(&plain, service, command), expected, "{service} {command}");
    }
    let said = |ends_boot| policy(Verdict::Allow, vec![Rule { ends_boot, ..allow(Some(""), &["*boot", "**"]) }]);
    assert!(ends_boot(&said(Some(true)), "", "kexec-boot"));
    assert!(!ends_boot(&said(Some(false)), "", "reboot"));
    assert!(ends_boot(&said(None), "", "reboot"));
}

#[test]
fn what_may_reach_beyond_its_service_takes_the_whole_node() {
    let lane = |policy: &Policy, service: &str, command: &str| {
        let row = row(service, command);
        policy.judge(&row).lane(&row)
    };
    let plain = Policy::default();
    assert_eq!(lane(&plain, "", "checks"), Lane::Node);
    assert_eq!(lane(&plain, "svc/a", "start"), Lane::of_service("a"));
    let wide = policy(
        Verdict::Allow,
        vec![
            Rule { retarget: true, ..allow(None, &["start", "**"]) },
            Rule { ends_boot: Some(true), ..allow(None, &["fence"]) },
        ],
    );
    assert_eq!(lane(&wide, "a", "start"), Lane::of_service("a"));
    assert_eq!(lane(&wide, "a", "start -s b"), Lane::Node);
    assert_eq!(lane(&wide, "a", "fence"), Lane::Node);
    assert_eq!(lane(&only(Vec::new()), "a", "start"), Lane::of_service("a"));
    assert_ne!(lane(&only(Vec::new()), "", "checks"), Lane::Node, "it does not run: nobody has to wait for it");
    let running = |service: &str, command: &str| {
        let row = row(service, command);
        only(Vec::new()).judge(&row).lane_of_running(&row)
    };
    assert_eq!((running("", "checks"), running("a", "start")), (Lane::Node, Lane::of_service("a")));
}

proptest! {
    /// However the words are quoted, exactly the words that are listed are allowed.
    #[test]
    fn quoting_hides_nothing(words in prop::collection::vec("[ab*?'\" \\\\\n-]{0,4}", 1..4), allowed in prop::collection::vec("[ab]{0,4}", 1..4)) {
        let list: Vec<&str> = allowed.iter().map(String::as_str).collect();
        let policy = only(vec![allow(None, &list)]);
        let single = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect::<Vec<_>>().join(" ");
        let escape = |word: &String| match word.as_str() {
            "" => "''".to_owned(),
            word => word.chars().flat_map(|c| ['\\', c]).collect(),
        };
        let escaped = words.iter().map(escape).collect::<Vec<String>>().join("\t");
        let plain = words.join(" ");
        for command in [&single, &escaped] {
            prop_assert_eq!(allows(&policy, "a", command), words == allowed, "{:?}", command);
        }
        if allows(&policy, "a", &plain) {
            prop_assert_eq!(crate::action::words::split(&plain).unwrap(), allowed);
        }
    }

    /// What is allowed is executed as it stands behind the target that the row has: no word before it, none lost.
    #[test]
    fn what_is_executed_is_what_was_judged(command in "\\PC{0,30}", service in "[a-z]{0,3}") {
        let policy = Policy::default();
        if let Ok(permitted) = policy.judge(&row(&service, &command)).command {
            let argv = permitted.argv(&crate::action::argv::Agent::Om("om".into()));
            let target = if service.is_empty() { vec!["node"] } else { vec!["svc", "-s", &service] };
            let expected: Vec<_> = target.into_iter().map(str::to_owned).chain(permitted.words().iter().cloned()).collect();
            prop_assert_eq!(argv.args(), &expected);
            prop_assert!(permitted.retargeting_word().is_none(), "{}", quoted(&command));
        }
    }
}
