//! `plan`: what would become of actions. It runs nothing, asks nobody and leaves nothing behind.

use std::fs;

use serde_json::{Value, json};

use crate::support::Dialect;
use crate::support::collector::Collector;
use crate::support::node::Node;
use crate::support::process::{Ended, Launch};
use crate::support::world::World;

const RULES: &str = "[execution]\ntimeout = \"1h\"\n[policy]\ndefault = \"deny\"\n\
    [[policy.rule]]\nverdict = \"allow\"\nservice = \"web*\"\ncommand = [\"start\", \"**\"]\ntimeout = \"90s\"\n\
    [[policy.rule]]\nverdict = \"deny\"\nservice = \"\"\ncommand = [\"reboot\", \"**\"]\n\
    [[policy.rule]]\nverdict = \"allow\"\nservice = \"\"\nends_boot = true\nretarget = true\n";

fn node() -> Node {
    let node = World::new(Dialect::Oc3).node; // its collector is gone: nobody is asked
    node.configure(RULES);
    node
}

/// `plan` with a file of these rows.
fn plan(node: &Node, rows: &Value) -> Launch {
    let file = node.write("rows.json", json!({ "actions": rows }).to_string());
    node.handler().arg("plan").arg(file)
}

fn row(id: i64, service: &str, command: &str) -> Value {
    let svc_id = if service.is_empty() { "" } else { "5f2c" };
    json!({ "id": id, "status": "W", "command": command, "svc_id": svc_id, "svcname": service })
}

fn actions(ended: &Ended) -> Vec<Value> {
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    document["actions"].as_array().unwrap().clone()
}

#[test]
fn each_action_gets_its_verdict_the_rule_and_the_words() {
    let node = node();
    let rows = json!([
        row(7, "web1", "start --rid 'fs#1'"),
        row(10, "", "reboot --force"),
        row(11, "", "drain --node n2"),
        row(12, "db", "start"),
        row(13, "web1", "it's"),
        { "id": 14, "command": 7 },
    ]);
    let om = node.path("bin/om").display().to_string();
    let file = node.path("etc/actions.d/50-test.toml").display().to_string();
    let text = plan(&node, &rows).run();
    text.exits(0);
    let expected = [
        format!(" 7  allow  {om} svc -s web1 start --rid 'fs#1'"),
        format!("           by rule 1 of {file} (line 5): allow service=\"web*\" command=[\"start\", \"**\"]"),
        "10  deny   reboot --force".to_owned(),
        format!("           by rule 2 of {file} (line 10): deny service=\"\" command=[\"reboot\", \"**\"]"),
        format!("11  allow  {om} node drain --node n2"),
        format!("           by rule 3 of {file} (line 14): allow service=\"\""),
        "12  deny   db: start".to_owned(),
        format!("           no rule of the policy allows it, and its default is \"deny\" ({file}:4)"),
        "13  deny   web1: it's".to_owned(),
        "           the command cannot be split into words: no closing quotation".to_owned(),
        "14  deny".to_owned(),
        "           command is an integer, not text".to_owned(),
    ];
    assert_eq!(text.stdout.lines().map(str::trim_end).collect::<Vec<_>>(), expected);

    let ended = plan(&node, &rows).arg("--json").run();
    ended.exits(0);
    let planned = actions(&ended);
    assert_eq!(
        planned[0],
        json!({
            "id": 7, "service": "web1", "command": "start --rid 'fs#1'", "verdict": "allow", "reason": null,
            "rule": { "file": file, "number": 1, "line": 5, "text": "allow service=\"web*\" command=[\"start\", \"**\"]" },
            "argv": [om, "svc", "-s", "web1", "start", "--rid", "fs#1"],
            "timeout_seconds": 90.0, "memory_max": null, "cpu_quota_percent": null, "tasks_max": null,
            "user": null, "ends_boot": false,
        })
    );
    assert_eq!((&planned[1]["verdict"], &planned[1]["argv"]), (&json!("deny"), &Value::Null));
    assert_eq!((&planned[2]["timeout_seconds"], &planned[2]["ends_boot"]), (&json!(3600.0), &json!(true)));
    assert_eq!((&planned[3]["rule"], &planned[4]["rule"]), (&Value::Null, &Value::Null));
    assert_eq!((&planned[5]["id"], &planned[5]["command"]), (&json!(14), &Value::Null));
}

#[test]
fn nothing_runs_nobody_is_asked_and_nothing_is_left() {
    let collector = Collector::start();
    let node = Node::of(&collector, &Dialect::BOTH);
    plan(&node, &json!([row(1, "", "echo x"), row(2, "a", "echo y")])).run().exits(0);
    assert!(node.starts().is_empty());
    assert!(collector.events().is_empty());
    assert!(!node.path("var").exists(), "it has made a state directory");
}

#[test]
fn without_a_file_standard_input_is_read() {
    let node = node();
    let ended = node.handler().arg("plan").run(); // from /dev/null
    ended.exits(65).says("standard input holds no actions");
    let ended = node.handler().args(["plan", "--json"]).arg("/dev/stdin").run();
    ended.exits(65);
    let file = node.write("rows.json", json!({ "actions": [row(3, "web2", "start")] }).to_string());
    let words = ["-c", "exec \"$@\" <\"$0\""];
    let ended = node.handler().args(["plan", "--json"]).under("/bin/sh", &words, &file).run();
    ended.exits(0);
    assert_eq!(actions(&ended)[0]["argv"][3], "web2");
}

#[test]
fn what_is_not_actions_is_65_and_names_the_place() {
    let node = node();
    for (text, place) in
        [("", "line 1"), ("[]", "line 1"), ("{\"actions\":\n[{]}", "line 2"), ("{\"rows\": []}", "actions")]
    {
        let file = node.write("rows.json", text);
        node.handler().arg("plan").arg(&file).run().exits(65).says("rows.json").says(place);
    }
    let ended = plan(&node, &json!([row(1, "web1", "start"), { "command": "start" }])).arg("--json").run();
    ended.exits(65).says("a row cannot be handled");
    assert_eq!(actions(&ended).len(), 1);
    node.handler().args(["plan", "/nonexistent/rows.json"]).run().exits(69).says("/nonexistent/rows.json");
}

#[test]
fn without_an_agent_it_says_so_and_goes_on() {
    let node = node();
    fs::remove_file(node.path("bin/om")).unwrap();
    let ended = plan(&node, &json!([row(1, "web1", "start")])).arg("--json").run();
    ended.exits(0).says("no program to run actions with");
    assert_eq!(actions(&ended)[0]["argv"], json!(["om", "svc", "-s", "web1", "start"]));
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(document["agent"], json!(false));
}

#[test]
fn a_broken_policy_is_78_here_too() {
    let node = node();
    node.configure("[[policy.rule]]\nverdict = \"deny\"\ntimeout = \"1s\"\n");
    plan(&node, &json!([])).run().exits(78).says("50-test.toml:3: policy.rule.timeout");
}

/// Control characters of a command cannot reach a terminal.
#[test]
fn nothing_moves_the_cursor() {
    let node = node();
    let rows = json!([row(1, "web1", "start '\u{1b}[2J'"), row(2, "db\u{1b}[2J", "\u{1b}[2J")]);
    let ended = plan(&node, &rows).run();
    ended.exits(0);
    assert!(!ended.stdout.contains('\u{1b}'), "{:?}", ended.stdout);
}

#[test]
fn the_example_decides_as_its_comments_say() {
    let example = include_str!("../../examples/deny-by-default.toml");
    let node = World::new(Dialect::Oc3).node;
    node.configure(example);
    let mut expected = Vec::new();
    let mut rows = Vec::new();
    for line in example.lines() {
        let verdicts = [("# allows  ", "allow"), ("# refuses ", "deny")];
        for (rest, verdict) in verdicts.iter().filter_map(|(mark, verdict)| Some((line.strip_prefix(mark)?, verdict))) {
            let (service, command) = rest.split_once(": ").unwrap();
            rows.push(row(
                i64::try_from(rows.len()).unwrap() + 1,
                if service == "NODE" { "" } else { service },
                command,
            ));
            expected.push((line, *verdict));
        }
    }
    assert!(expected.len() > 20, "{expected:?}");
    let ended = plan(&node, &json!(rows)).arg("--json").run();
    ended.exits(0);
    let planned = actions(&ended);
    let planned: Vec<_> = planned.iter().map(|action| action["verdict"].as_str().unwrap()).collect();
    let wrong: Vec<_> = expected.iter().zip(&planned).filter(|((_, expected), planned)| expected != *planned).collect();
    assert!(wrong.is_empty() && planned.len() == expected.len(), "{wrong:#?}");
}
