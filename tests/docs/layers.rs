//! The walls of the house: which module may name which. The crate documentation claims them; this reads the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// The lines of every source file below `src/`, without comments and without unit tests.
fn sources() -> Vec<(String, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &mut found);
    assert!(found.len() > 20, "the sources were not found: {found:?}");
    found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let lines = code.lines().map(str::trim).filter(|line| !line.starts_with("//")).map(str::to_owned);
            (path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), lines.collect())
        })
        .collect()
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().unwrap() != "tests" {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every place outside `allowed` where a line contains one of `names`.
fn trespassers(names: &[&str], allowed: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (file, lines) in sources() {
        if allowed.iter().any(|prefix| file.starts_with(prefix)) {
            continue;
        }
        for line in lines.iter().filter(|line| names.iter().any(|name| line.contains(name))) {
            found.push(format!("src/{file}: {line}"));
        }
    }
    found
}

#[track_caller]
fn assert_only_in(names: &[&str], allowed: &[&str]) {
    let found = trespassers(names, allowed);
    assert!(found.is_empty(), "only {allowed:?} may name {names:?}:\n{}", found.join("\n"));
    assert_ne!(trespassers(names, &[]), found, "nothing names {names:?}: this test checks nothing");
}

#[test]
fn only_the_http_client_names_the_http_library() {
    assert_only_in(&["reqwest::", "rustls::"], &["collector/http.rs"]);
}

#[test]
fn only_the_ledger_names_the_database() {
    assert_only_in(&["rusqlite::"], &["ledger/"]);
}

#[test]
fn only_the_zone_names_the_time_library() {
    assert_only_in(&["chrono::"], &["zone.rs"]);
}

#[test]
fn only_the_executor_starts_processes() {
    assert_only_in(&["process::Command", "Command::new("], &["executor/"]);
}

#[test]
fn only_the_edge_reads_the_clock() {
    assert_only_in(&["SystemTime::now"], &["handler/mod.rs", "executor/supervisor.rs", "commands/"]);
}

#[test]
fn nothing_ends_the_process_by_itself_and_nothing_is_unsafe() {
    assert_eq!(trespassers(&["unsafe {", "unsafe fn", "todo!(", "unimplemented!("], &[]), [""; 0]);
    assert_only_in(&["process::exit"], &["main.rs"]); // for a panic, which cannot return
}

#[test]
fn pure_modules_do_not_touch_the_world() {
    let effects = [
        "std::fs",
        "std::net",
        "std::process",
        "std::env",
        "tokio",
        "rustix",
        "crate::wake",
        "crate::collector",
        "crate::executor",
        "crate::ledger",
        "crate::telemetry",
        "crate::handler",
        "crate::commands",
        "crate::zone",
        "tracing",
    ];
    for (file, lines) in sources() {
        if file.starts_with("action/") || file == "wake/protocol.rs" {
            let found: Vec<_> = lines.iter().filter(|line| effects.iter().any(|name| line.contains(name))).collect();
            assert!(found.is_empty(), "src/{file}: {found:?}");
        }
    }
}

#[test]
fn effect_modules_do_not_know_each_other() {
    let effects = ["wake", "collector", "executor", "ledger", "telemetry"];
    for (file, lines) in sources() {
        let Some(own) = effects.into_iter().find(|effect| file.starts_with(&format!("{effect}/"))) else { continue };
        for other in effects.into_iter().filter(|other| *other != own).chain(["handler", "commands", "cli", "error"]) {
            let name = format!("crate::{other}");
            let found: Vec<_> = lines.iter().filter(|line| line.contains(&name)).collect();
            assert!(found.is_empty(), "src/{file} knows {other}: {found:?}");
        }
    }
}
