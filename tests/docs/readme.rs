//! What README says can be pasted.

use std::fs;
use std::path::Path;
use std::process::Command;

use clap::Parser as _;
use opensvc_actions::cli::Cli;

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The indented blocks.
fn blocks() -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in readme().lines() {
        let open = blocks.last_mut().unwrap();
        match line.strip_prefix("    ") {
            Some(code) => {
                open.push_str(code);
                open.push('\n');
            }
            None if !open.is_empty() => blocks.push(String::new()),
            None => {}
        }
    }
    blocks
}

#[test]
fn every_command_line_of_the_program_is_one() {
    let mut seen = 0;
    for line in blocks().iter().flat_map(|block| block.lines()).filter(|line| line.starts_with("opensvc-actions ")) {
        let words = line.split(" # ").next().unwrap_or_default().split_whitespace();
        if let Err(err) = Cli::try_parse_from(words) {
            panic!("{line}: {err}");
        }
        seen += 1;
    }
    assert!(seen > 8, "where are the commands?");
}

#[test]
fn every_drop_in_is_understood_by_systemd() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("units");
    let mut seen = 0;
    for block in blocks() {
        let unit = match block.lines().next() {
            Some("[Socket]") => "opensvc-actions.socket",
            Some("[Service]") => "opensvc-actions.service",
            _ => continue,
        };
        seen += 1;
        let dir = tempfile::tempdir().unwrap();
        for name in ["opensvc-actions.socket", "opensvc-actions.service"] {
            fs::copy(units.join(name), dir.path().join(name)).unwrap();
        }
        let drop_in = dir.path().join(format!("{unit}.d/50-readme.conf"));
        fs::create_dir(drop_in.parent().unwrap()).unwrap();
        // The program need not be installed where this is tested.
        fs::write(&drop_in, block.replace("/usr/bin/opensvc-actions", "/bin/true")).unwrap();
        let service = fs::read_to_string(dir.path().join("opensvc-actions.service")).unwrap();
        let service = service.replace("/usr/bin/opensvc-actions", "/bin/true");
        fs::write(dir.path().join("opensvc-actions.service"), service).unwrap();
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(dir.path().join(unit))
            .env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()))
            .output()
            .expect("systemd-analyze is missing: install systemd");
        let said = String::from_utf8_lossy(&output.stderr);
        let about_us: Vec<_> =
            said.lines().filter(|line| line.contains("opensvc") || line.contains("readme")).collect();
        assert!(about_us.is_empty(), "{block}\n{said}");
    }
    assert!(seen >= 4, "where are the drop-ins?");
}
