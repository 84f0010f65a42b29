//! The man page is generated from the command line's own definition and from the sections in
//! `man/opensvc-actions.8.sections`. `UPDATE=1 cargo test --test docs` rewrites it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory as _;
use opensvc_actions::cli::Cli;
use opensvc_actions::telemetry::log;

/// When the text last changed in substance.
const DATE: &str = "2026-11-21";

fn page_path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("man/opensvc-actions.8")
}

fn render() -> String {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let man = clap_mangen::Man::new(command.clone()).section("8").date(DATE).manual("System Administration");
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    let mut page = String::from_utf8(page).unwrap();
    page.push_str(".SH COMMANDS\n");
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
        let operands: String = subcommand
            .get_positionals()
            .map(|operand| format!(" \\fI{}\\fR", roff(operand.get_id().as_str()).to_uppercase()))
            .collect();
        writeln!(page, ".TP\n\\fB{}\\fR{operands}\n{}", roff(subcommand.get_name()), roff(&about)).unwrap();
        for option in subcommand.get_arguments().filter(|argument| !argument.is_global_set()) {
            let Some(long) = option.get_long().filter(|long| *long != "help" && *long != "version") else { continue };
            let help = option.get_help().map(ToString::to_string).unwrap_or_default();
            let takes_value = option.get_action().takes_values();
            let value = option.get_value_names().filter(|_| takes_value).and_then(|names| names.first());
            let value = value.map_or_else(String::new, |name| format!(" \\fI{}\\fR", roff(name)));
            writeln!(page, ".RS\n.TP\n\\fB\\-\\-{}\\fR{value}\n{}\n.RE", roff(long), roff(&help)).unwrap();
        }
    }
    let sections = fs::read_to_string(page_path().with_extension("8.sections")).unwrap();
    page + &sections
        .replace("@RECEIVED@", log::RECEIVED)
        .replace("@STARTED@", log::STARTED)
        .replace("@FINISHED@", log::FINISHED)
        .replace("@REPORTED@", log::REPORTED)
        .replace("@INTERRUPTED@", log::INTERRUPTED)
}

fn roff(text: &str) -> String {
    text.replace('\\', "\\\\").replace('-', "\\-")
}

/// The page's text as a reader sees it, on one line.
fn as_read() -> String {
    let output = Command::new("mandoc").args(["-T", "utf8", "-O", "width=200"]).arg(page_path()).output();
    let output = output.expect("mandoc has to be installed (apt-get install mandoc)");
    let text = String::from_utf8(output.stdout).unwrap();
    // Overstriking ("x\bx") is how bold text is printed.
    let mut plain = String::new();
    for c in text.chars() {
        if c == '\u{8}' {
            plain.pop();
        } else {
            plain.push(c);
        }
    }
    plain.replace('\u{2010}', "-").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_committed_page_is_the_generated_one() {
    let rendered = render();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(page_path(), &rendered).unwrap();
    }
    let committed = fs::read_to_string(page_path()).unwrap_or_default();
    assert!(committed == rendered, "man/opensvc-actions.8 is out of date: UPDATE=1 cargo test --test docs");
}

#[test]
fn mandoc_has_nothing_to_complain_about() {
    let output = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(page_path()).output();
    let output = output.expect("mandoc has to be installed (apt-get install mandoc)");
    let complaints = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
}

#[test]
fn every_option_and_command_is_described() {
    let page = as_read();
    let mut command = Cli::command();
    command.build();
    let options = command.get_arguments().chain(command.get_subcommands().flat_map(clap::Command::get_arguments));
    for long in options.filter_map(clap::Arg::get_long) {
        assert!(page.contains(&format!("--{long}")), "--{long} is not in the page");
    }
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        assert!(page.contains(subcommand.get_name()), "{} is not in the page", subcommand.get_name());
    }
}

#[test]
fn every_exit_status_journal_field_and_message_is_described() {
    let page = as_read();
    let exit_status = page.split("EXIT STATUS").nth(1).unwrap().split("SIGNALS").next().unwrap();
    for status in ["0", "64", "65", "69", "70", "75", "77", "78"] {
        assert!(exit_status.split(' ').any(|word| word == status), "exit status {status} is not in the page");
    }
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/error.rs")).unwrap();
    let variants = source.split("pub enum Exit {").nth(1).unwrap().split('}').next().unwrap().matches(" = ").count();
    assert_eq!(variants, 8, "an exit status was added or removed: describe it, and list it in this test");
    for field in [
        "ACTION_ID",
        "ACTION_QUEUE",
        "ACTION_GENERATION",
        "SVCNAME",
        "ACTION_RET",
        "ACTION_DURATION_USEC",
        "MESSAGE_ID",
    ] {
        assert!(page.contains(field), "{field} is not in the page");
    }
    for id in [log::RECEIVED, log::STARTED, log::FINISHED, log::REPORTED, log::INTERRUPTED] {
        assert!(page.contains(id), "{id} is not in the page");
    }
}
