//! Every key of `actions.toml` arrives: each is set to something that is not its default.
//!
//! That is where it is read. What each of them does is shown by the black-box tests.

use std::collections::BTreeSet;

use super::super::known_keys;
use super::Node;

/// The key, a value, and how that is shown.
const KEYS: &[(&str, &str, &str)] = &[
    ("queues", r#"["rpc", "oc3"]"#, "rpc, oc3"),
    ("collector.node", r#""other""#, "other"),
    ("collector.ca_file", r#""/etc/passwd""#, "/etc/passwd"),
    ("collector.client_cert", r#""/etc/passwd""#, "/etc/passwd"),
    ("collector.client_key", r#""/etc/group""#, "/etc/group"),
    ("collector.proxy", r#""none""#, "none"),
    ("collector.connect_timeout", r#""7s""#, "7s"),
    ("collector.request_timeout", r#""90s""#, "90s"),
    ("collector.ack", r#""started""#, "started"),
    ("collector.exclusive", "true", "true"),
    ("collector.rpc.format", r#""json""#, "json"),
    ("wake.allow", r#"["10.0.0.0/8", "fd00::/8", "::ffff:192.0.2.0/120"]"#, "10.0.0.0/8, fd00::/8, 192.0.2.0/24"),
    ("wake.min_interval", r#""250ms""#, "250ms"),
    ("execution.om", r#""/opt/om""#, "/opt/om"),
    ("execution.timeout", r#""90m""#, "90m"),
    ("execution.kill_grace", r#""0s""#, "0s"),
    ("execution.warn_after", r#""2h""#, "2h"),
    ("execution.max_parallel", "64", "64"),
    ("execution.launcher", r#""direct""#, "direct"),
    ("execution.kept_output", r#""64KiB""#, "64KiB"),
    ("execution.environment", r#"{ SITE = "a b" }"#, "a b"),
    ("retention.unreported", r#""36h""#, "36h"),
    ("retention.history", r#""366d""#, "366d"),
    ("retention.kept_output", r#""2GiB""#, "2GiB"),
    ("external_actions.NAME.description", r#""a b""#, "a b"),
    ("external_actions.NAME.action", r#"["/x", "y z"]"#, "/x 'y z'"),
    ("external_actions.NAME.check", r#"["/x"]"#, "/x"),
    ("external_actions.NAME.interval", r#""100ms""#, "100ms"),
    ("external_actions.NAME.timeout", r#""none""#, "none"),
    ("external_actions.NAME.start_timeout", r#""1h""#, "1h"),
    ("external_actions.NAME.check_timeout", r#""5s""#, "5s"),
    ("external_actions.NAME.required", r#"["a", "b"]"#, "a, b"),
    ("external_actions.NAME.user", r#""backup""#, "backup"),
    ("log.redact", r#"["*phrase*", "pin"]"#, "*phrase*, pin"),
    ("metrics.textfile", r#""/srv/n1.prom""#, "/srv/n1.prom"),
];

fn toml(key: &str, value: &str) -> String {
    // a client's certificate and its key go together
    let other = match key {
        "collector.client_cert" => "collector.client_key = \"/etc/group\"\n",
        "collector.client_key" => "collector.client_cert = \"/etc/passwd\"\n",
        "external_actions.NAME.action" => "external_actions.NAME.check = [\"/c\"]\n",
        "external_actions.NAME.check" => "external_actions.NAME.action = [\"/a\"]\n",
        key if key.starts_with("external_actions.") => {
            "external_actions.NAME.action = [\"/a\"]\nexternal_actions.NAME.check = [\"/c\"]\n"
        }
        _ => "",
    };
    format!("{key} = {value}\n{other}")
}

fn node() -> Node {
    Node::new("collector = c\ndbopensvc = d")
}

/// The keys under which a key is shown: those of `[collector]` once for each queue.
fn shown_as(key: &str) -> Vec<String> {
    match key.strip_prefix("collector.").filter(|key| !key.starts_with("rpc.")) {
        Some(key) => vec![format!("collector.oc3.{key}"), format!("collector.rpc.{key}")],
        None if key == "execution.environment" => vec!["execution.environment.SITE".to_owned()],
        None => vec![key.to_owned()],
    }
}

fn value_of(node: &Node, key: &str) -> Option<String> {
    node.load().explain().into_iter().find(|row| row.key == key).map(|row| row.value)
}

#[test]
fn a_value_that_is_not_the_default_arrives() {
    let default = node();
    for (key, value, expected) in KEYS {
        let node = node().toml(&toml(key, value));
        for shown in shown_as(key) {
            assert_eq!(value_of(&node, &shown).as_deref(), Some(*expected), "{key} = {value}");
            assert_ne!(value_of(&default, &shown).as_deref(), Some(*expected), "{key} = {value} is the default");
        }
    }
}

#[test]
fn the_table_of_one_dialect_overrides_each_key_of_the_collector_table_for_it_alone() {
    for (key, value, expected) in KEYS.iter().filter(|(key, ..)| key.starts_with("collector.")) {
        let Some(key) = key.strip_prefix("collector.").filter(|key| !key.contains('.')) else { continue };
        for (queue, other) in [("oc3", "rpc"), ("rpc", "oc3")] {
            let node = node()
                .toml(&toml(&format!("collector.{key}"), value).replace("collector.", &format!("collector.{queue}.")));
            let of = |queue: &str| value_of(&node, &format!("collector.{queue}.{key}")).unwrap();
            assert_eq!(of(queue), *expected, "collector.{queue}.{key}");
            assert_ne!(of(other), *expected, "collector.{queue}.{key} of {other}");
        }
    }
}

#[test]
fn these_are_all_the_keys_there_are() {
    let of_dialects = |key: &&str| key.starts_with("collector.") && !key.starts_with("collector.rpc.");
    let mut tested: BTreeSet<String> = KEYS.iter().map(|(key, ..)| (*key).to_owned()).collect();
    for (key, ..) in KEYS.iter().filter(|(key, ..)| of_dialects(key)) {
        let key = key.trim_start_matches("collector.");
        tested.extend([format!("collector.oc3.{key}"), format!("collector.rpc.{key}")]);
    }
    let known = known_keys();
    // [policy] has its own tests
    let known: BTreeSet<String> = known.into_iter().filter(|key| !key.starts_with("policy")).collect();
    assert_eq!(known, tested, "a key was added or removed: give it a value in this file");
}
