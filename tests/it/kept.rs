//! Output that is too long for a report stays on the node, as far as the settings say.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::interruptions::supervisor_of;
use crate::support::collector::fault::{Call, Fault, When};
use crate::support::world::World;
use crate::support::{Dialect, both};

const MIB: usize = 1 << 20;
const HEADER: u64 = 32;

/// Many bytes, each kilobyte of which says which one it is.
fn long(mebibytes: usize) -> String {
    let mut text = String::with_capacity(mebibytes * MIB);
    let filler = "x".repeat(1023 - 8);
    for number in 0..mebibytes * 1024 {
        let _ = writeln!(text, "{number:08}{filler}");
    }
    text
}

/// What is kept of a text, with the line that says how much is missing.
fn ends(whole: &str, kept: usize) -> String {
    let marker = format!("\n[opensvc-actions: {} bytes left out]\n", whole.len() - kept);
    format!("{}{marker}{}", &whole[..kept / 2], &whole[whole.len() - kept / 2..])
}

fn run_file(world: &World, id: i64, name: &str) -> PathBuf {
    world.node.path(&format!("var/actions/runs/{}-{id}-1/{name}", world.dialect.name()))
}

fn kept_file(world: &World, id: i64, name: &str) -> PathBuf {
    world.node.path(&format!("var/actions/output/{}-{id}-1/{name}", world.dialect.name()))
}

#[track_caller]
fn shows(world: &World, id: i64, stream: &str, expected: &str) {
    let ended = world.node.handler().args(["show", stream, &id.to_string()]).run();
    let shown = &ended.exits(0).stdout;
    assert!(shown == expected, "{} bytes instead of {}", shown.len(), expected.len());
}

/// The most memory that a process ever had, in KiB.
pub(crate) fn peak(pid: i32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

both!(of_a_hundred_mebibytes_both_ends_stay_here_in_constant_memory);
fn of_a_hundred_mebibytes_both_ends_stay_here_in_constant_memory(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let whole = long(100);
    world.node.write("whole", &whole);
    let id = world.enqueue("cat whole child gate wait gate");
    let handler = world.node.handler().start();
    let command = world.node.wait_for_start(id).pid;
    world.node.wait_for_mark("child"); // and all is printed
    let supervisor = supervisor_of(command).as_raw_nonzero().get();
    let peaks = (peak(supervisor), peak(handler.pid()));
    println!("KiB of memory at most, supervisor and handler: {peaks:?}");
    assert!(peaks.0 < 16 * 1024 && peaks.1 < 32 * 1024, "memory grows with output");
    assert_eq!(fs::metadata(run_file(&world, id, "stdout")).unwrap().len(), HEADER + 16 * MIB as u64);
    let shown = world.node.handler().args(["show", "--stdout", &id.to_string()]).run();
    assert!(shown.exits(0).stdout.starts_with(&whole[..8 * MIB]), "not shown while it runs");
    gate.open();
    handler.wait().exits(0);
    let reported = world.result(id).1;
    assert!(reported.len() <= 65_535 && whole.starts_with(&reported[..16_000]), "not clamped as ever");
    assert!(whole.ends_with(&reported[reported.len() - 48_000..]), "not clamped as ever");
    assert!(!run_file(&world, id, "stdout").exists());
    assert_eq!(fs::metadata(kept_file(&world, id, "stdout")).unwrap().len(), HEADER + 16 * MIB as u64);
    assert!(!kept_file(&world, id, "stderr").exists());
    shows(&world, id, "--stdout", &ends(&whole, 16 * MIB));
    shows(&world, id, "--stderr", "");
    world.check();
}

both!(what_a_report_holds_is_in_the_ledger_alone);
fn what_a_report_holds_is_in_the_ledger_alone(dialect: Dialect) {
    let world = World::new(dialect);
    let whole = long(1);
    world.node.write("most", &whole[..60_000]);
    world.node.write("more", &whole[..70_000]);
    let (most, more) = (world.enqueue("cat most"), world.enqueue("cat-err more cat more exit 3"));
    world.run().exits(0);
    assert!(!kept_file(&world, most, "stdout").parent().unwrap().exists());
    shows(&world, most, "--stdout", &whole[..60_000]);
    for (name, option) in [("stdout", "--stdout"), ("stderr", "--stderr")] {
        assert!(kept_file(&world, more, name).exists());
        shows(&world, more, option, &whole[..70_000]);
    }
    world.check();
}

both!(a_terminal_gets_no_control_characters_of_what_is_kept);
fn a_terminal_gets_no_control_characters_of_what_is_kept(dialect: Dialect) {
    let world = World::new(dialect);
    let whole = "\x1b]0;title\x07red\x1b[31m\n".repeat(10_000);
    world.node.write("whole", &whole);
    let id = world.enqueue("cat whole");
    world.run().exits(0);
    shows(&world, id, "--stdout", &whole);
    let shown = world.node.handler().args(["show", "--stdout", &id.to_string()]).terminal().run();
    assert!(shown.exits(0).stdout == "red\r\n".repeat(10_000), "{:.100}", shown.stdout);
    world.check();
}

both!(what_is_kept_of_an_action_whose_supervisor_was_killed_is_shown);
fn what_is_kept_of_an_action_whose_supervisor_was_killed_is_shown(dialect: Dialect) {
    let world = World::new(dialect);
    let _closed = world.node.gate("gate");
    let whole = long(1);
    world.node.write("whole", &whole);
    let id = world.enqueue("cat whole child gate wait gate");
    let handler = world.node.handler().start();
    let command = world.node.wait_for_start(id).pid;
    world.node.wait_for_mark("child");
    rustix::process::kill_process(supervisor_of(command), Signal::KILL).unwrap();
    handler.wait().exits(0);
    world.reason(id, 254);
    let shown = world.node.handler().args(["show", "--stdout", &id.to_string()]).run();
    // All but what was still in the pipe, and the piece that the supervisor had just taken out of it.
    let shown = &shown.exits(0).stdout;
    let lost = 65_536 + 65_536;
    assert!(whole.starts_with(shown.as_str()) && shown.len() >= whole.len() - lost, "{} bytes", shown.len());
}

both!(the_oldest_output_goes_first_and_what_waits_to_be_reported_counts);
fn the_oldest_output_goes_first_and_what_waits_to_be_reported_counts(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[execution]\nkept_output = \"256KiB\"\n[retention]\nkept_output = \"800KiB\"\n");
    let whole = long(1);
    world.node.write("whole", &whole);
    let ids: Vec<_> = (0..3).map(|_| world.enqueue("cat whole")).collect();
    world.run().exits(0);
    for id in &ids {
        shows(&world, *id, "--stdout", &ends(&whole, 256 * 1024));
    }
    world.collector.fail(Call::Report, When::Always, Fault::status(503));
    let waits = world.enqueue("cat whole");
    world.run().exits(75);
    assert!(run_file(&world, waits, "stdout").exists());
    shows(&world, waits, "--stdout", &ends(&whole, 256 * 1024));
    assert!(!kept_file(&world, ids[0], "stdout").parent().unwrap().exists(), "the oldest is still there");
    for id in &ids[1..] {
        assert!(kept_file(&world, *id, "stdout").exists(), "more was removed than necessary");
    }
    // Of the one that went, what was reported stays.
    let reported = world.result(ids[0]).1;
    shows(&world, ids[0], "--stdout", &reported);
    world.collector.heal();
    world.run().exits(0);
    assert!(kept_file(&world, waits, "stdout").exists());
    world.check();
}
