//! A newcomer finds the room: the crate documentation names every module there is, and the papers name this version.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn every_module_has_its_line_in_the_table_of_the_house() {
    let text = read("src/lib.rs");
    let table = text.split("//! # The house").nth(1).unwrap().split("//! Imports go one way").next().unwrap();
    let mut seen = 0;
    for line in text.lines().filter(|line| !line.starts_with("//")) {
        let Some(name) = line.trim_start_matches("pub ").strip_prefix("mod ").and_then(|it| it.strip_suffix(';'))
        else {
            continue;
        };
        assert!(table.contains(&format!("`{name}`")), "src/lib.rs: the table of the house does not name `{name}`");
        seen += 1;
    }
    assert!(seen > 8, "where are the modules?");
}

/// The paths below `src/`, `tests/` and the like that the crate documentation and CONTRIBUTING name in backquotes.
#[test]
fn every_file_that_the_architecture_and_contributing_name_is_there() {
    let mut seen = 0;
    for (paper, home) in [("src/lib.rs", "src"), ("CONTRIBUTING.md", ".")] {
        let text = read(paper);
        let docs: String = match paper {
            "src/lib.rs" => text.lines().filter(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n"),
            _ => text,
        };
        for name in docs.split('`').skip(1).step_by(2) {
            let is_path = name.contains('/') && !name.contains([' ', '*', '<']) && !name.starts_with('/');
            if !is_path || name.contains("NAME") || name.starts_with("target/") {
                continue;
            }
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let found = [home, ".", "src"].iter().any(|home| root.join(home).join(name).exists());
            assert!(found, "{paper} names {name}, which is not there");
            seen += 1;
        }
    }
    assert!(seen > 20, "where are the paths?");
}

#[test]
fn the_changelog_knows_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(read("CHANGELOG.md").contains(version), "CHANGELOG.md says nothing of {version}");
}
