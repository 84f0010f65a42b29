//! `[policy]`, from files to rules.

use std::time::Duration;

use super::{Node, toml_error};
use crate::action::limits::GroupLimits;
use crate::action::policy::Verdict;

/// The rows of show-config about the policy: key, value, origin.
fn explained(node: &Node) -> Vec<[String; 3]> {
    let rows = node.load().explain().into_iter().filter(|row| row.key.starts_with("policy."));
    rows.map(|row| [row.key, row.value, node.strip(&row.origin.to_string())]).collect()
}

#[test]
fn the_rules_of_all_files_form_one_list_in_reading_order() {
    let node = Node::new("collector = c")
        .toml("[policy]\ndefault = \"deny\"\n\n[[policy.rule]]\nverdict = \"allow\"\ncommand = [\"start\"]\n")
        .file(
            "etc/actions.d/20.toml",
            "[[policy.rule]]\nverdict = \"deny\"\n[policy]\ndefault = \"allow\"\n",
        )
        .file(
            "etc/actions.d/10.toml",
            "[[policy.rule]]\nservice = \"\"\nverdict = \"deny\"\n[[policy.rule]]\nservice = \"web*\"\nverdict = \"allow\"\n\
             command = [\"stop\", \"**\"]\ntimeout = \"10m\"\nmemory_max = \"512MiB\"\ncpu_quota = \"150%\"\n\
             tasks_max = 100\nuser = \"svc-web\"\nretarget = true\nends_boot = false\n",
        );
    let expected = [
        ["policy.default", "allow", "actions.d/20.toml:4"],
        ["policy.rule.1", "allow command=[\"start\"]", "actions.toml:4"],
        ["policy.rule.2", "deny service=\"\"", "actions.d/10.toml:1"],
        [
            "policy.rule.3",
            "allow service=\"web*\" command=[\"stop\", \"**\"] timeout=\"10m\" memory_max=\"512MiB\" cpu_quota=\"150%\" \
             tasks_max=100 user=\"svc-web\" retarget=true ends_boot=false",
            "actions.d/10.toml:4",
        ],
        ["policy.rule.4", "deny", "actions.d/20.toml:1"],
    ];
    assert_eq!(explained(&node), expected);
    let rules = node.load().policy.rules;
    assert_eq!(rules.iter().map(|rule| rule.number).collect::<Vec<_>>(), [1, 1, 2, 1]);
    assert_eq!(rules[2].group, GroupLimits { memory_max: Some(512 << 20), cpu_quota: Some(150), tasks_max: Some(100) });
    assert_eq!(rules[2].timeout, Some(Some(Duration::from_secs(600))));
}

#[test]
fn without_a_policy_everything_is_allowed() {
    let node = Node::new("collector = c");
    assert_eq!(explained(&node), [["policy.default", "allow", "default"]]);
    assert_eq!(node.load().policy.default, Verdict::Allow);
}

#[test]
fn a_timeout_of_none_is_a_timeout() {
    let node = Node::new("collector = c").toml("[[policy.rule]]\nverdict = \"allow\"\ntimeout = \"none\"\n");
    assert_eq!(node.load().policy.rules[0].timeout, Some(None));
    assert_eq!(explained(&node)[1][1], "allow timeout=\"none\"");
}

#[test]
fn mistakes_in_rules_name_file_line_and_key() {
    for (text, expected) in [
        ("[policy]\ndefault = \"no\"", "2: policy.default: \"no\" is neither \"allow\" nor \"deny\""),
        ("[policy]\nrules = []", "2: unknown key \"rules\" in [policy]; did you mean \"rule\"?"),
        ("[policy.rule]\nverdict = \"deny\"", "1: policy.rule: expected an array of tables"),
        ("policy.rule = [1]", "1: policy.rule: expected a table"),
        ("\n[[policy.rule]]\nservice = \"a\"", "2: policy.rule.verdict: rule 1 of this file has no verdict"),
        ("[[policy.rule]]\nverdict = \"Deny\"", "2: policy.rule.verdict: \"Deny\" is neither"),
        (
            "[[policy.rule]]\nverdict = \"deny\"\n[[policy.rule]]\nverdict = \"deny\"\ncomand = [\"a\"]",
            "5: unknown key \"comand\" in [policy.rule]; did you mean \"command\"?",
        ),
        ("[[policy.rule]]\nverdict = \"deny\"\nservice = \"a[\"", "3: policy.rule.service: \"a[\" has a [ without"),
        ("[[policy.rule]]\nverdict = \"deny\"\nservice = [\"a\"]", "3: policy.rule.service: expected a string"),
        (
            "[[policy.rule]]\nverdict = \"deny\"\ncommand = \"a\"",
            "3: policy.rule.command: expected an array of strings",
        ),
        ("[[policy.rule]]\nverdict = \"deny\"\ncommand = []", "3: policy.rule.command: an empty list fits no action"),
        ("[[policy.rule]]\nverdict = \"deny\"\ncommand = [\n\"a\",\n\"[b-a]\"\n]", "5: policy.rule.command: \"[b-a]\""),
        ("[[policy.rule]]\nverdict = \"deny\"\ncommand = [\n\"**\",\n\"a\"\n]", "4: policy.rule.command: \"**\""),
        ("[[policy.rule]]\nverdict = \"deny\"\ncommand = [\"a\", 1]", "3: policy.rule.command: expected a string"),
        ("[[policy.rule]]\nverdict = \"allow\"\ntimeout = \"0s\"", "3: policy.rule.timeout: \"0s\" is out of range"),
        (
            "[[policy.rule]]\nverdict = \"allow\"\ncpu_quota = \"0%\"",
            "3: policy.rule.cpu_quota: \"0%\" is out of range",
        ),
        ("[[policy.rule]]\nverdict = \"allow\"\nuser = \"\"", "3: policy.rule.user: \"\" is not the name of a user"),
        ("[[policy.rule]]\nverdict = \"allow\"\nuser = \"1000\"", "3: policy.rule.user: \"1000\" is not the name"),
        ("[[policy.rule]]\nverdict = \"allow\"\nuser = \"a:b\"", "3: policy.rule.user: \"a:b\" is not the name"),
        ("[[policy.rule]]\nverdict = \"allow\"\ncpu_quota = \"%\"", "3: policy.rule.cpu_quota: \"%\" is no share"),
        ("[[policy.rule]]\nverdict = \"allow\"\ncpu_quota = \"1.5\"", "3: policy.rule.cpu_quota: \"1.5\" is no share"),
        ("[[policy.rule]]\nverdict = \"allow\"\ntasks_max = 0", "3: policy.rule.tasks_max: 0 is out of range"),
        (
            "[[policy.rule]]\nverdict = \"allow\"\nmemory_max = \"1KiB\"",
            "3: policy.rule.memory_max: \"1KiB\" is out of",
        ),
    ] {
        let error = toml_error(text);
        assert!(error.starts_with(&format!("actions.toml:{expected}")), "{text}\n{error}\n{expected}");
    }
}

#[test]
fn only_an_allow_rule_sets_bounds() {
    for setting in [
        "timeout = \"1s\"",
        "memory_max = \"1GiB\"",
        "cpu_quota = \"1%\"",
        "tasks_max = 1",
        "user = \"backup\"",
        "retarget = true",
        "ends_boot = true",
    ] {
        let error = toml_error(&format!("[[policy.rule]]\nverdict = \"deny\"\n{setting}"));
        let key = setting.split(' ').next().unwrap();
        let expected =
            format!("actions.toml:3: policy.rule.{key}: only a rule whose verdict is \"allow\" can set this");
        assert_eq!(error, expected);
    }
}

#[test]
fn what_only_the_service_manager_can_bound_needs_its_launcher() {
    for (setting, key) in
        [("memory_max = \"1GiB\"", "memory_max"), ("cpu_quota = \"50%\"", "cpu_quota"), ("tasks_max = 9", "tasks_max")]
    {
        let rule = format!("[[policy.rule]]\nverdict = \"allow\"\n{setting}\n");
        for launcher in ["auto", "systemd"] {
            Node::new("collector = c").toml(&format!("[execution]\nlauncher = \"{launcher}\"\n{rule}")).load();
        }
        let error = toml_error(&format!("[execution]\nlauncher = \"direct\"\n{rule}"));
        assert!(error.starts_with(&format!("actions.toml:5: policy.rule.{key}: only the service manager")), "{error}");
    }
}
