//! The man pages are generated from the command lines' own definitions and from the hand-written sections in
//! `man/*.sections`. `UPDATE=1 cargo test --test docs` rewrites them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory as _;

/// When the texts last changed in substance.
const DATE: &str = "2026-11-21";

/// One page: its name and section, and the command line that it describes, if it does.
struct Page {
    name: &'static str,
    section: u8,
    command: Option<clap::Command>,
}

fn pages() -> [Page; 3] {
    let built = |command: clap::Command| {
        let mut command = command.disable_help_subcommand(true);
        command.build();
        Some(command)
    };
    [
        Page { name: "opensvc-actions", section: 8, command: built(opensvc_actions::cli::Cli::command()) },
        Page { name: "opensvc-actions.toml", section: 5, command: None },
        Page {
            name: "opensvc-actions-collector",
            section: 8,
            command: built(opensvc_actions_collector::cli::Cli::command()),
        },
    ]
}

fn handler_page() -> Page {
    let [page, ..] = pages();
    page
}

impl Page {
    fn path(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("man/{}.{}", self.name, self.section))
    }

    /// What stands before the hand-written sections.
    fn head(&self) -> String {
        let Some(command) = &self.command else {
            let title = format!(".TH opensvc-actions.toml 5 {DATE} \"opensvc-actions\" \"File Formats\"");
            return format!("{title}\n.SH NAME\nopensvc\\-actions.toml \\- settings of opensvc\\-actions\n");
        };
        let man = clap_mangen::Man::new(command.clone()).section("8").date(DATE).manual("System Administration");
        let mut page = Vec::new();
        man.render_title(&mut page).unwrap();
        man.render_name_section(&mut page).unwrap();
        man.render_synopsis_section(&mut page).unwrap();
        man.render_description_section(&mut page).unwrap();
        man.render_options_section(&mut page).unwrap();
        let mut page = String::from_utf8(page).unwrap();
        page.push_str(".SH COMMANDS\n");
        for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            render_command(&mut page, "", command);
        }
        page
    }

    fn render(&self) -> String {
        let path = self.path();
        let sections = fs::read_to_string(path.with_file_name(format!("{}.{}.sections", self.name, self.section)));
        let mut text = self.head() + &sections.unwrap();
        for (name, id) in message_ids() {
            text = text.replace(&format!("@{name}@"), &id);
        }
        text.replace("@KEYS@", &super::settings::keys_with_defaults())
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

    /// One section of that text.
    fn section_as_read(&self, name: &str, next: &str) -> String {
        let text = self.as_read();
        let from = text.find(name).unwrap_or_else(|| panic!("{}: no section {name}", self.name)) + name.len();
        let to = text[from..].find(next).unwrap_or_else(|| panic!("{}: no section {next}", self.name));
        text[from..from + to].to_owned()
    }
}

fn source(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file)).unwrap()
}

/// Names and values of what is a `MESSAGE_ID` in the code.
fn message_ids() -> Vec<(String, String)> {
    let id = |line: &str| {
        let (name, value) = line.strip_prefix("pub const ")?.split_once(": &str = \"")?;
        Some((name.to_owned(), value.strip_suffix("\";")?.to_owned()))
    };
    let ids: Vec<_> = source("telemetry/log.rs").lines().filter_map(id).collect();
    let is_id = |(_, id): &(String, String)| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(ids.len() >= 5 && ids.iter().all(is_id), "{ids:?}");
    ids
}

/// The fields of the journal in the code: what `field = value` stands in an event, capitals in the journal.
fn journal_fields() -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    let mut look = |dir: &Path| {
        for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            let text = fs::read_to_string(entry).unwrap();
            let words: Vec<_> = text.split_whitespace().map(|word| word.trim_start_matches('[')).collect();
            let named = words.windows(2).filter(|pair| pair[1] == "=").map(|pair| pair[0]);
            let is_field = |name: &&str| name.starts_with("action_") || ["svcname", "message_id"].contains(name);
            fields.extend(named.filter(is_field).map(str::to_uppercase));
        }
    };
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    look(&src.join("handler"));
    look(&src.join("commands"));
    assert!(fields.len() >= 7 && fields.contains("ACTION_DURATION_USEC"), "{fields:?}");
    fields
}

/// The exit statuses in the code.
fn exit_statuses() -> Vec<String> {
    let text = source("error.rs");
    let body = text.split("pub enum Exit {").nth(1).unwrap().split('}').next().unwrap();
    let numbers: Vec<_> =
        body.lines().filter_map(|line| Some(line.split_once(" = ")?.1.trim_end_matches(',').to_owned())).collect();
    assert!(numbers.len() >= 8 && numbers.iter().all(|number| number.parse::<u8>().is_ok()), "{numbers:?}");
    numbers
}

/// The names of the metrics in the code.
fn metric_names() -> BTreeSet<String> {
    let text = source("telemetry/metrics.rs");
    let calls = ["text.family(\"", "text.single(\"", "self.times(&mut text, \""];
    let found = calls.iter().flat_map(|call| text.split(call).skip(1)).filter_map(|rest| rest.split('"').next());
    let names: BTreeSet<_> = found.map(|name| format!("opensvc_actions_{name}")).collect();
    assert!(names.len() >= 11, "{names:?}");
    names
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
        let value = if argument.is_required_set() { value } else { format!("[{value}]") };
        write!(page, " \\fI{}\\fR", roff(&value)).unwrap();
    }
    writeln!(page, "\n{}", roff(&about)).unwrap();
    for option in command.get_arguments().filter(|argument| !argument.is_global_set() && !argument.is_hide_set()) {
        let Some(long) = option.get_long().filter(|long| *long != "help" && *long != "version") else { continue };
        let help = option.get_help().map(ToString::to_string).unwrap_or_default();
        let short = option.get_short().map_or_else(String::new, |short| format!("\\fB\\-{short}\\fR, "));
        write!(page, ".RS\n.TP\n{short}\\fB\\-\\-{}\\fR", roff(long)).unwrap();
        if option.get_action().takes_values() {
            let value = option.get_value_names().map(|names| names.join(" ")).unwrap_or_default();
            write!(page, " \\fI{}\\fR", roff(&value)).unwrap();
        }
        let defaults = option.get_default_values().iter().map(|value| value.to_string_lossy()).collect::<Vec<_>>();
        let is_shown =
            option.get_action().takes_values() && !option.is_hide_default_value_set() && !defaults.is_empty();
        let default = if is_shown { format!(" [default: {}]", defaults.join(",")) } else { String::new() };
        writeln!(page, "\n{}\n.RE", roff(&format!("{help}{default}"))).unwrap();
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
        assert!(
            committed == rendered,
            "man/{}.{} is out of date: UPDATE=1 cargo test --test docs",
            page.name,
            page.section
        );
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
        if let Some(command) = &page.command {
            check(&page, &page.as_read(), command);
        }
    }
}

#[test]
fn man_itself_reads_the_pages_without_a_warning() {
    for page in pages() {
        let output = Command::new("man").args(["--warnings", "-l"]).arg(page.path()).env("LC_ALL", "C.UTF-8").output();
        let output = output.expect("man has to be installed (apt-get install man-db)");
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", page.name);
    }
}

#[test]
fn the_sections_that_an_operator_looks_for_are_there() {
    for page in pages() {
        let text = fs::read_to_string(page.path()).unwrap();
        let mut wanted = vec!["NAME", "DESCRIPTION", "FILES", "SECURITY", "EXAMPLES", "SEE ALSO"];
        if page.section == 8 {
            wanted.extend(["SYNOPSIS", "OPTIONS", "COMMANDS", "EXIT STATUS", "SIGNALS"]);
        }
        if page.name == "opensvc-actions" {
            wanted.extend(["JOURNAL FIELDS", "METRICS", "KNOWN WINDOWS"]);
        }
        for section in wanted {
            assert!(text.contains(&format!(".SH {section}\n")), "{}: no section {section}", page.name);
        }
        // Every page names the others.
        for other in pages().iter().filter(|other| other.name != page.name) {
            let reference = format!("{} ({})", other.name, other.section);
            let see_also = text.split(".SH SEE ALSO").nth(1).unwrap().replace('\\', "");
            assert!(see_also.contains(&reference), "{}: {reference} is not named", page.name);
        }
    }
}

#[test]
fn every_exit_status_is_described_and_no_other() {
    let described = handler_page().section_as_read("EXIT STATUS", "SIGNALS");
    for status in exit_statuses() {
        assert!(described.split(' ').any(|word| word == status), "exit status {status} is not in the page");
    }
    let source = fs::read_to_string(handler_page().path()).unwrap();
    let section = source.split(".SH EXIT STATUS\n").nth(1).unwrap().split("\n.SH ").next().unwrap();
    let entries = section.split(".TP\n.B ").skip(1).filter_map(|entry| entry.lines().next());
    assert_eq!(entries.collect::<Vec<_>>(), exit_statuses(), "left: the manual, right: the program");
}

#[test]
fn every_journal_field_and_message_is_described_and_no_other() {
    let described = handler_page().section_as_read("JOURNAL FIELDS", "METRICS");
    for field in journal_fields() {
        assert!(described.contains(&field), "{field} is not in the page");
    }
    let is_field =
        |word: &&str| word.contains('_') && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let words = described.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let unknown: Vec<_> = words.clone().filter(is_field).filter(|word| !journal_fields().contains(*word)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are not in the program");
    let ids: Vec<_> = message_ids().into_iter().map(|(_, id)| id).collect();
    for id in &ids {
        assert!(described.contains(id.as_str()), "{id} is not in the page");
    }
    let is_id = |word: &&str| word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let unknown: Vec<_> = words.filter(is_id).filter(|word| !ids.iter().any(|id| id == word)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are not in the program");
}

#[test]
fn every_metric_is_described_and_no_other() {
    let described = handler_page().section_as_read("METRICS", "SECURITY");
    let words = described.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let described: BTreeSet<_> = words.filter(|word| word.starts_with("opensvc_actions_")).map(str::to_owned).collect();
    assert_eq!(described, metric_names(), "left: the manual, right: the program");
}
