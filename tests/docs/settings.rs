//! The keys of `actions.toml`: what the reader knows, what the manual describes and what the shipped example shows are
//! the same.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use opensvc_actions::config::{Paths, Settings, known_keys};

fn shipped(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The keys that have to be described: those of the dialects' tables only where `[collector]` has none of the name.
fn to_describe() -> BTreeSet<String> {
    let known = known_keys();
    assert!(known.len() > 20 && known.contains("execution.environment"), "{known:?}");
    let overrides = |key: &&String| of_collector(key).is_some_and(|common| known.contains(&common));
    known.iter().filter(|key| !overrides(key)).cloned().collect()
}

/// `collector.node` for `collector.rpc.node`.
fn of_collector(key: &str) -> Option<String> {
    let rest = key.strip_prefix("collector.oc3.").or_else(|| key.strip_prefix("collector.rpc."))?;
    Some(format!("collector.{rest}"))
}

/// The example without the signs that make comments of its settings.
fn example(wanted: impl Fn(&str) -> bool) -> String {
    let text = shipped("examples/actions.toml");
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') && !setting.is_empty() && wanted(setting) => setting,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn leaves(prefix: &str, table: &toml::Table, known: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match value {
            toml::Value::Table(inner) if !known.contains(&key) => leaves(&format!("{key}."), inner, known, found),
            _ => drop(found.insert(key)),
        }
    }
}

/// Loads a text as the settings of a node that has all the files that the example names.
fn load(text: &str) -> Settings {
    let root = tempfile::tempdir().unwrap();
    let etc = root.path().join("etc");
    DirBuilder::new().mode(0o755).create(&etc).unwrap();
    for file in ["ca.pem", "node.pem", "node.key"] {
        fs::write(etc.join(file), "").unwrap();
    }
    fs::write(etc.join("node.conf"), "[node]\ncollector = c\ndbopensvc = c\nuuid = x\n").unwrap();
    let text = text.replace("\"/etc/opensvc/", &format!("\"{}/", etc.display()));
    fs::write(etc.join("actions.toml"), text).unwrap();
    let paths = Paths::resolve(Some(root.path()), &|_| None);
    Settings::load(&paths, None, "n1", &|_| None).unwrap_or_else(|error| panic!("{error}"))
}

/// Keys and values as `show-config` prints them.
fn shown(settings: &Settings) -> Vec<(String, String)> {
    settings.explain().into_iter().map(|row| (row.key, row.value)).collect()
}

#[test]
fn the_tables_of_the_dialects_know_every_key_of_the_collector_table() {
    let known = known_keys();
    for queue in ["oc3", "rpc"] {
        let prefix = format!("collector.{queue}.");
        let own: BTreeSet<_> =
            known.iter().filter(|key| key.starts_with(&prefix)).filter_map(|key| of_collector(key)).collect();
        let is_common = |key: &&String| key.starts_with("collector.") && of_collector(key).is_none();
        let common: BTreeSet<_> = known.iter().filter(is_common).cloned().collect();
        assert!(common.len() > 8 && own.is_superset(&common), "{queue}: {own:?}");
    }
}

/// For the manual: every key as the program knows it, with its default as `show-config` prints it.
pub(super) fn keys_with_defaults() -> String {
    let defaults = shown(&load(""));
    let of = |key: &str| {
        let shown = key.strip_prefix("collector.").filter(|key| !key.starts_with("rpc."));
        let shown = shown.map_or_else(|| key.to_owned(), |key| format!("collector.oc3.{key}"));
        defaults.iter().find(|(key, _)| *key == shown).map(|(_, value)| value.clone())
    };
    let line = |key: String| {
        let default = match &*key {
            "queues" => Some("auto".to_owned()),
            "collector.node" => Some("the host name".to_owned()),
            _ => of(&key),
        };
        format!("{key:26} {}", default.unwrap_or_else(|| "none".to_owned())).replace('-', "\\-") + "\n"
    };
    to_describe().into_iter().map(line).collect()
}

#[test]
fn the_manual_describes_every_key_and_no_other() {
    let sections = shipped("man/opensvc-actions.toml.5.sections");
    let settings = sections.split(".SH SETTINGS\n").nth(1).unwrap().split("\n.SH ").next().unwrap();
    let described: Vec<&str> = settings.split(".TP\n").filter_map(|entry| entry.lines().next()).collect();
    let described: BTreeSet<String> = described
        .iter()
        .filter_map(|line| line.strip_prefix(".B ").or_else(|| line.strip_prefix(".BR ")))
        .flat_map(|names| names.split([' ', '"', ',']))
        .map(|name| name.strip_prefix("[[").and_then(|name| name.strip_suffix("]]")).unwrap_or(name))
        .filter(|name| name.contains('.') && !name.starts_with('['))
        .chain(Some("queues").filter(|name| described.contains(&format!(".B {name}").as_str())))
        .map(|name| name.replace("\\-", "-"))
        .collect();
    assert_eq!(described, to_describe(), "left: the manual, right: the program");
}

#[test]
fn the_example_shows_every_key_and_no_other_and_loads() {
    let text = example(|_| true);
    let mut found = BTreeSet::new();
    leaves("", &text.parse().unwrap(), &known_keys(), &mut found);
    let found: BTreeSet<_> = found
        .into_iter()
        .map(|key| match key.strip_prefix("external_actions.").and_then(|rest| rest.rsplit_once('.')) {
            Some((_, leaf)) => format!("external_actions.NAME.{leaf}"),
            None => key,
        })
        .map(|key| of_collector(&key).filter(|common| known_keys().contains(common)).unwrap_or(key))
        .collect();
    assert_eq!(found, to_describe(), "left: the example, right: the program");
    load(&text);
}

#[test]
fn the_example_changes_nothing_as_it_is_and_says_which_lines_are_defaults() {
    let default = shown(&load(""));
    assert_eq!(shown(&load(&example(|_| false))), default);
    let defaults = example(|line| !line.ends_with("# example"));
    assert!(defaults.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count() > 10);
    assert_eq!(shown(&load(&defaults)), default);
    // what belongs together stands together
    let text = shipped("examples/actions.toml");
    let lines: Vec<&str> = text.lines().collect();
    for group in lines.chunk_by(|a, b| a.ends_with("# example") == b.ends_with("# example")) {
        if group[0].ends_with("# example") {
            let some = example(|setting| group.iter().any(|line| line.strip_prefix('#') == Some(setting)));
            assert_ne!(shown(&load(&some)), default, "this is the default: {group:?}");
        }
    }
}
