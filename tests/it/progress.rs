//! What a person sees on a real terminal of 80 columns: the lines that are redrawn, what stays of them, what ^C does, and
//! colour.

use std::fs::File;
use std::io::Write as _;

use crate::support::collector::fault::{Call, Fault, When};
use crate::support::process::{Launch, Process};
use crate::support::world::World;
use crate::support::{Dialect, both};

/// The columns of the terminal.
const COLUMNS: usize = 80;

/// What the terminal shows after all of this was written, and the lines that were too long for it.
fn screen(written: &str) -> Vec<String> {
    let (mut lines, mut row, mut column, mut wraps) = (vec![Vec::new()], 0_usize, 0_usize, true);
    let mut rest = written;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\n' => {
                row += 1;
                while lines.len() <= row {
                    lines.push(Vec::new());
                }
            }
            '\r' => column = 0,
            '\u{1b}' => {
                let end = rest.find(|c: char| c.is_ascii_alphabetic()).expect("an escape sequence without an end");
                let (sequence, behind) = rest.split_at(end + 1);
                rest = behind;
                match sequence {
                    "[J" => {
                        lines.truncate(row + 1);
                        lines[row].truncate(column);
                    }
                    "[?7l" => wraps = false,
                    "[?7h" => wraps = true,
                    color if color.ends_with('m') => {}
                    up => {
                        let count = up.strip_prefix('[').and_then(|up| up.strip_suffix('A')).expect("unknown sequence");
                        row -= count.parse::<usize>().unwrap();
                    }
                }
            }
            c => {
                assert!(column < COLUMNS || wraps, "cut by the terminal: {:?}", lines[row].iter().collect::<String>());
                let line: &mut Vec<char> = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
    }
    assert!(wraps && column == 0, "the terminal is left in disorder");
    let lines: Vec<String> = lines.into_iter().map(|line| line.into_iter().collect()).collect();
    lines.into_iter().filter(|line| !line.is_empty()).collect()
}

/// A terminal that can redraw.
fn on_terminal(launch: Launch) -> Process {
    launch.env("TERM", "xterm").terminal().start()
}

/// The same, and its keyboard.
fn with_keyboard(launch: Launch) -> (Process, File) {
    let (keyboard, keys) = rustix::pipe::pipe().unwrap();
    (launch.env("TERM", "xterm").terminal_with(keyboard).start(), File::from(keys))
}

const CTRL_C: &[u8] = b"\x03";

both!(a_run_is_shown_while_it_goes_on_and_only_its_story_and_its_sum_stay);
fn a_run_is_shown_while_it_goes_on_and_only_its_story_and_its_sum_stay(dialect: Dialect) {
    let world = World::new(dialect);
    let (mut gate, mut other) = (world.node.gate("gate"), world.node.gate("other"));
    let first = world.enqueue_for("svc1", &format!("start wait gate {}", "long ".repeat(30)));
    let second = world.enqueue("wait other exit 3");
    let person = on_terminal(world.node.handler().arg("dequeue"));
    world.node.wait_for_start(first);
    person.wait_until_prints("1 running, 1 waiting, 0 done, 0 failed");
    gate.open();
    world.node.wait_for_start(second);
    person.wait_until_prints("1 running, 0 waiting, 1 done, 0 failed");
    other.open();
    let ended = person.wait();
    let screen = screen(&ended.exits(0).stdout);
    assert!(!screen.iter().any(|line| line.contains("running, ")), "a line is left: {screen:#?}");
    assert!(screen.iter().any(|line| line.contains("ended with 3")), "{screen:#?}");
    assert_eq!(screen.last().unwrap(), "1 done, 1 failed, 0 unreported", "{screen:#?}");
    assert!(ended.stdout.contains("\u{1b}[31m1 failed\u{1b}[m"), "no colour: {}", ended.stdout);
    world.check();
}

#[test]
fn a_person_is_told_that_the_node_is_paused() {
    let world = World::new(Dialect::Rpc);
    let id = world.enqueue("echo done");
    world.node.handler().args(["pause", "--reason", "new disks"]).run().exits(0);
    let ended = on_terminal(world.node.handler()).wait();
    let screen = screen(&ended.exits(0).stdout).join("");
    assert!(screen.contains("paused since ") && screen.contains(": new disks: nothing new is taken"), "{screen}");
    assert!(screen.contains("'opensvc-actions resume'"), "{screen}");
    let quiet = on_terminal(world.node.handler().arg("-q")).wait();
    assert_eq!(quiet.exits(0).stdout, "");
    assert_eq!(world.node.runs_of(id), 0);
}

both!(the_last_line_of_the_output_is_shown_on_request);
fn the_last_line_of_the_output_is_shown_on_request(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let mut after = world.node.gate("after");
    let id = world.enqueue("echo one err half\u{1b}[31m-way wait gate echo nearly wait after");
    let person = on_terminal(world.node.handler().args(["dequeue", "-v"]));
    world.node.wait_for_start(id);
    person.wait_until_prints("\r\n  half-way\r\n");
    gate.open();
    person.wait_until_prints("\r\n  nearly\r\n");
    after.open();
    let ended = person.wait();
    assert!(!screen(&ended.exits(0).stdout).iter().any(|line| line.starts_with("  nearly")));
    assert_eq!(world.result(id).1, "one\nnearly\n");
    world.check();
}

both!(the_handler_that_works_already_is_shown_and_an_interrupt_does_not_touch_it);
fn the_handler_that_works_already_is_shown_and_an_interrupt_does_not_touch_it(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue_for("svc1", "start wait gate echo done");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    let (person, mut keys) = with_keyboard(world.node.handler());
    person.wait_until_prints(&format!("process {}: 1 running, 0 waiting", handler.pid()));
    person.wait_until_prints("svc1 ");
    keys.write_all(CTRL_C).unwrap();
    let ended = person.wait();
    assert!(ended.exits(0).stdout.contains("not waiting any longer; the other handler goes on"), "{}", ended.stdout);
    let left = screen(&ended.stdout);
    assert!(!left.iter().any(|line| line.contains("running, ") || line.contains("^C")), "{left:#?}");
    // Another person stays, and sees the end.
    let person = on_terminal(world.node.handler().arg("dequeue"));
    person.wait_until_prints("1 running");
    gate.open();
    handler.wait().exits(0);
    let ended = person.wait();
    assert_eq!(screen(&ended.exits(0).stdout).last().unwrap(), "1 done, 0 failed, 0 unreported");
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(one_interrupt_finishes_what_runs_and_two_leave_it_and_both_are_said);
fn one_interrupt_finishes_what_runs_and_two_leave_it_and_both_are_said(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let (first, second) = (world.enqueue("wait gate echo done"), world.enqueue("echo second"));
    let (person, mut keys) = with_keyboard(world.node.handler());
    world.node.wait_for_start(first);
    person.wait_until_prints("1 running, 1 waiting");
    keys.write_all(CTRL_C).unwrap();
    person.wait_until_prints("interrupt again");
    person.wait_until_prints("nothing more is started");
    gate.open();
    let ended = person.wait();
    assert_eq!(screen(&ended.exits(0).stdout).last().unwrap(), "1 done, 0 failed, 0 unreported; 1 waiting");
    assert_eq!(world.node.runs_of(second), 0);

    let mut gate = world.node.gate("later");
    let third = world.enqueue("wait later echo third");
    let (person, mut keys) = with_keyboard(world.node.handler());
    world.node.wait_for_start(third);
    keys.write_all(CTRL_C).unwrap();
    person.wait_until_prints("interrupt again");
    keys.write_all(CTRL_C).unwrap();
    let ended = person.wait();
    let screen = screen(&ended.exits(0).stdout);
    assert!(screen.iter().any(|line| line.contains("goes on without its handler")), "{screen:#?}");
    assert_eq!(screen.last().unwrap(), "1 done, 0 failed, 0 unreported; 1 still running");
    gate.open();
    world.run().exits(0);
    assert_eq!(world.result(third).1, "third\n");
    world.check();
}

both!(a_simple_terminal_and_a_file_get_lines_and_quiet_is_silent);
fn a_simple_terminal_and_a_file_get_lines_and_quiet_is_silent(dialect: Dialect) {
    let world = World::new(dialect);
    for term in ["dumb", ""] {
        world.enqueue("exit 3");
        let ended = world.node.handler().env("TERM", term).terminal().run();
        assert!(!ended.exits(0).stdout.contains('\u{1b}'), "{}", ended.stdout);
        assert!(ended.stdout.ends_with("0 done, 1 failed, 0 unreported\r\n"), "{}", ended.stdout);
    }
    world.enqueue("exit 3");
    let ended = world.node.handler().arg("-q").env("TERM", "xterm").terminal().run();
    assert_eq!(ended.exits(0).stdout, "");
    // What nobody sits in front of gets no sum, and what is unreported is said.
    world.enqueue("echo done");
    assert!(!world.node.handler().arg("dequeue").run().exits(0).stderr.contains("unreported"));
    world.collector.fail(Call::Report, When::Always, Fault::Status(503));
    world.enqueue("echo done");
    let ended = on_terminal(world.node.handler().arg("dequeue")).wait();
    assert_eq!(screen(&ended.exits(75).stdout).last().unwrap(), "1 done, 0 failed, 1 unreported");
}

both!(there_is_colour_on_a_terminal_and_where_it_is_asked_for);
fn there_is_colour_on_a_terminal_and_where_it_is_asked_for(dialect: Dialect) {
    let world = World::new(dialect);
    world.enqueue("exit 3");
    world.enqueue("echo done");
    world.run().exits(0);
    let history = |args: &[&str]| world.node.handler().args(args).arg("history");
    let red = "\u{1b}[31m3\u{1b}[m";
    let plain = history(&[]).run().stdout;
    let is_colored = |text: &str| {
        let colored = text.contains('\u{1b}');
        assert!(!colored || (text.contains(red) && text.contains("\u{1b}[32m0\u{1b}[m")), "{text}");
        // Colour takes no room: without it every line is the plain one.
        let bare = text.replace("\u{1b}[31m", "").replace("\u{1b}[32m", "").replace("\u{1b}[m", "").replace('\r', "");
        // How long ago it was has changed meanwhile.
        let without_age = |text: &str| text.lines().map(|line| line.replace("  1 s", "  0 s")).collect::<Vec<_>>();
        assert_eq!(without_age(&bare), without_age(&plain));
        colored
    };
    assert!(!is_colored(&plain));
    assert!(is_colored(&history(&["--color", "always"]).run().stdout));
    assert!(is_colored(&history(&["--color=always"]).env("NO_COLOR", "1").run().stdout));
    assert!(is_colored(&history(&[]).env("TERM", "xterm").terminal().run().stdout));
    assert!(!is_colored(&history(&["--color", "never"]).env("TERM", "xterm").terminal().run().stdout));
    assert!(!is_colored(&history(&[]).env("TERM", "xterm").env("NO_COLOR", "1").terminal().run().stdout));
    assert!(is_colored(&history(&[]).env("TERM", "xterm").env("NO_COLOR", "").terminal().run().stdout));
    let json = history(&["--color", "always", "--json"]).run().stdout;
    assert!(!json.contains('\u{1b}'), "{json}");
    world.node.handler().args(["--color", "maybe", "history"]).run().exits(64);
}

#[test]
fn completions_are_printed_without_a_configuration() {
    let node = crate::support::node::Node::bare();
    for (shell, words) in [("bash", "complete -F"), ("fish", "complete -c opensvc-actions"), ("zsh", "#compdef")] {
        let printed = node.handler().args(["completions", shell]).run();
        assert!(printed.exits(0).stdout.contains(words), "{shell}: {}", printed.stdout);
    }
    node.handler().args(["completions", "tcsh"]).run().exits(64);
}
