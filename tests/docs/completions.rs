//! The completions in `completions/`, which `opensvc-actions completions` prints and packages install, are those of the
//! command line as it is. `UPDATE=1 cargo test --test docs` rewrites them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory as _;
use clap_complete::Shell;
use opensvc_actions::cli::{self, Cli};

/// The file of a shell, under the name that it is installed with.
fn file(shell: Shell) -> PathBuf {
    let name = match shell {
        Shell::Bash => "opensvc-actions.bash",
        Shell::Fish => "opensvc-actions.fish",
        Shell::Zsh => "_opensvc-actions",
        other => panic!("{other}"),
    };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("completions").join(name)
}

const SHELLS: [(Shell, cli::Shell); 3] =
    [(Shell::Bash, cli::Shell::Bash), (Shell::Fish, cli::Shell::Fish), (Shell::Zsh, cli::Shell::Zsh)];

#[test]
fn the_committed_completions_are_the_generated_ones() {
    for (shell, printed) in SHELLS {
        let mut generated = Vec::new();
        // `help` knows every command once more, and the program carries these scripts.
        let mut command = Cli::command().disable_help_subcommand(true);
        clap_complete::generate(shell, &mut command, "opensvc-actions", &mut generated);
        let generated = mended(&String::from_utf8(generated).unwrap());
        // bash reads it in another test at the same time.
        let is_old = fs::read(file(shell)).map_or(true, |committed| committed != generated.as_bytes());
        if is_old && std::env::var_os("UPDATE").is_some() {
            fs::write(file(shell), &generated).unwrap();
        }
        let committed = fs::read_to_string(file(shell)).unwrap();
        assert!(committed == generated, "the completions for {shell} are out of date: UPDATE=1 cargo test --test docs");
        // What has just been rewritten is not in the program yet.
        let is_new = std::env::var_os("UPDATE").is_some();
        assert!(is_new || printed.script() == committed, "the program prints others: build it again");
    }
}

/// `clap_complete` 4.6 writes the labels of commands otherwise than it looks for them in bash, where a name has a hyphen:
/// nothing behind such a command would be completed.
fn mended(script: &str) -> String {
    let bare = |label: &str| label.replace("__subcmd", "");
    let wanted = script.lines().filter_map(|line| line.trim().strip_prefix("cmd=\"")?.strip_suffix('"'));
    let wanted: BTreeMap<String, &str> =
        wanted.filter(|label| !label.is_empty()).map(|label| (bare(label), label)).collect();
    let mend = |line: &str| {
        let label = line.trim().strip_suffix(')')?;
        let right = wanted.get(&bare(label)).filter(|right| **right != label)?;
        Some(line.replace(label, right))
    };
    script.lines().map(|line| mend(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

/// What bash offers for the last of these words.
fn offered_by_bash(words: &[&str]) -> Vec<String> {
    let script = format!(
        "source {}; COMP_WORDS=({}); COMP_CWORD={}; _opensvc__actions opensvc-actions {:?} {:?}; echo \"${{COMPREPLY[@]}}\"",
        file(Shell::Bash).display(),
        words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" "),
        words.len() - 1,
        words[words.len() - 1],
        words[words.len() - 2],
    );
    let output = Command::new("bash").args(["--norc", "-c", &script]).output().expect("bash has to be installed");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    assert_eq!(offered_by_bash(&["opensvc-actions", "sta"]), ["status"]);
    assert_eq!(offered_by_bash(&["opensvc-actions", "pause", "--re"]), ["--reason"]);
    assert_eq!(offered_by_bash(&["opensvc-actions", "--color", "a"]), ["auto", "always"]);
    assert_eq!(offered_by_bash(&["opensvc-actions", "completions", ""]).len(), 3 + options());
    let commands = offered_by_bash(&["opensvc-actions", ""]);
    let mut command = Cli::command();
    command.build();
    for command in command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help") {
        assert!(commands.contains(&command.get_name().to_owned()), "{command}");
        let offered = offered_by_bash(&["opensvc-actions", command.get_name(), "--"]);
        for option in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(offered.contains(&format!("--{option}")), "{command} --{option}: {offered:?}");
        }
    }
}

/// How many spellings of options `completions` has.
fn options() -> usize {
    let mut command = Cli::command();
    command.build();
    let command = command.find_subcommand("completions").unwrap();
    let spellings =
        |option: &clap::Arg| usize::from(option.get_short().is_some()) + usize::from(option.get_long().is_some());
    command.get_arguments().map(spellings).sum()
}

#[test]
fn fish_and_zsh_understand_theirs() {
    for (shell, program) in [(Shell::Fish, "fish"), (Shell::Zsh, "zsh")] {
        match Command::new(program).arg("-n").arg(file(shell)).output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(err) => eprintln!("NOT TESTED: {program} is not installed here ({err})"),
        }
    }
}
