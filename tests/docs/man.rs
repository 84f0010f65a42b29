//! The man pages are generated from the command lines' own definitions and from the hand-written sections in
//! `man/*.sections`. `UPDATE=1 cargo test --test docs` rewrites them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory as _;
use opensvc_actions::telemetry::log;

/// When the texts last changed in substance.
const DATE: &str = "2026-11-21";

/// One page: its name and the command line that it describes.
struct Page {
    name: &'static str,
    command: clap::Command,
}

fn pages() -> [Page; 2] {
    [
        Page { name: "opensvc-actions", command: opensvc_actions::cli::Cli::command() },
        Page { name: "opensvc-actions-collector", command: opensvc_actions_collector::cli::Cli::command() },
    ]
    .map(|page| {
        let mut command = page.command.disable_help_subcommand(true);
        command.build();
        Page { command, ..page }
    })
}

fn handler_page() -> Page {
    let [page, _] = pages();
    page
}

impl Page {
    fn path(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("man/{}.8", self.name))
    }

    fn render(&self) -> String {
        let man = clap_mangen::Man::new(self.command.clone()).section("8").date(DATE).manual("System Administration");
        let mut page = Vec::new();
        man.render_title(&mut page).unwrap();
        man.render_name_section(&mut page).unwrap();
        man.render_synopsis_section(&mut page).unwrap();
        man.render_description_section(&mut page).unwrap();
        man.render_options_section(&mut page).unwrap();
        let mut page = String::from_utf8(page).unwrap();
        page.push_str(".SH COMMANDS\n");
        for command in self.command.get_subcommands().filter(|command| !command.is_hide_set()) {
            render_command(&mut page, "", command);
        }
        let sections = fs::read_to_string(self.path().with_extension("8.sections")).unwrap();
        page + &sections
            .replace("@RECEIVED@", log::RECEIVED)
            .replace("@STARTED@", log::STARTED)
            .replace("@FINISHED@", log::FINISHED)
            .replace("@REPORTED@", log::REPORTED)
            .replace("@INTERRUPTED@", log::INTERRUPTED)
    }

    /// The page's text as a reader sees it, on one line.
    fn as_read(&self) -> String {
        let output = Command::new("mandoc").args(["-T", "utf8", "-O", "width=200"]).arg(self.path()).output();
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
}

fn render_command(page: &mut String, parent: &str, command: &clap::Command) {
    let name = format!("{parent}{}", command.get_name());
    if command.has_subcommands() {
        for child in command.get_subcommands() {
            render_command(page, &format!("{name} "), child);
        }
        return;
    }
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    write!(page, ".TP\n\\fB{}\\fR", roff(&name)).unwrap();
    for argument in command.get_positionals() {
        let value = argument.get_value_names().map(|names| names.join(" ")).unwrap_or_default();
        write!(page, " \\fI{}\\fR", roff(&value)).unwrap();
    }
    writeln!(page, "\n{}", roff(&about)).unwrap();
    for option in command.get_arguments().filter(|argument| !argument.is_global_set() && !argument.is_hide_set()) {
        let Some(long) = option.get_long().filter(|long| *long != "help" && *long != "version") else { continue };
        let help = option.get_help().map(ToString::to_string).unwrap_or_default();
        write!(page, ".RS\n.TP\n\\fB\\-\\-{}\\fR", roff(long)).unwrap();
        if option.get_action().takes_values() {
            let value = option.get_value_names().map(|names| names.join(" ")).unwrap_or_default();
            write!(page, " \\fI{}\\fR", roff(&value)).unwrap();
        }
        writeln!(page, "\n{}\n.RE", roff(&help)).unwrap();
    }
}

fn roff(text: &str) -> String {
    text.replace('\\', "\\\\").replace('-', "\\-")
}

#[test]
fn the_committed_pages_are_the_generated_ones() {
    for page in pages() {
        let rendered = page.render();
        if std::env::var_os("UPDATE").is_some() {
            fs::write(page.path(), &rendered).unwrap();
        }
        let committed = fs::read_to_string(page.path()).unwrap_or_default();
        assert!(committed == rendered, "man/{}.8 is out of date: UPDATE=1 cargo test --test docs", page.name);
    }
}

#[test]
fn mandoc_has_nothing_to_complain_about() {
    for page in pages() {
        let output = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(page.path()).output();
        let output = output.expect("mandoc has to be installed (apt-get install mandoc)");
        let complaints = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && complaints.is_empty(), "{complaints}");
    }
}

#[test]
fn every_option_and_command_is_described() {
    fn check(page: &Page, text: &str, command: &clap::Command) {
        for long in command.get_arguments().filter(|option| !option.is_hide_set()).filter_map(clap::Arg::get_long) {
            assert!(text.contains(&format!("--{long}")), "{}: --{long} is not in the page", page.name);
        }
        for command in command.get_subcommands() {
            assert!(text.contains(command.get_name()), "{}: {} is not in the page", page.name, command.get_name());
            check(page, text, command);
        }
    }
    for page in pages() {
        check(&page, &page.as_read(), &page.command);
    }
}

#[test]
fn every_exit_status_journal_field_and_message_is_described() {
    let page = handler_page().as_read();
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
