//! What befalls the handler, its units or its executable while a command runs, and what the next handler makes of it.

use std::fs;
use std::process::Command;

use rusqlite::Connection;

use crate::harness::{Collector, Machine, Queue};

const SERVICE: &str = "opensvc-actions.service";
const SOCKET: &str = "opensvc-actions.socket";

/// Queues a command that waits for its test, and waits until it runs. Its result tells whether it was really this one.
fn in_flight(machine: &Machine, collector: &Collector<'_>) -> u64 {
    machine.enable_socket();
    let id = collector.enqueue("await /run/go-on 3 'all of it'");
    machine.wait_for("the command", || !machine.begun().is_empty());
    id
}

/// Lets the command end, and expects the one result that it has.
fn ends_well(machine: &Machine, collector: &Collector<'_>, id: u64) {
    machine.sh("touch /run/go-on");
    let result = collector.result(id);
    assert_eq!((&result["ret"], &result["stderr"]), (&3.into(), &"all of it\n".into()), "{result}");
    machine.wait_until_idle();
    assert_eq!(machine.ran().len(), 1);
    assert_eq!(machine.counts(), [0, 0, 0]);
}

#[test]
fn the_next_handler_attaches_to_the_command_of_one_that_was_killed_with_sigkill() {
    let machine = Machine::with_product("attach");
    let collector = machine.collector(Queue::Rpc);
    let id = in_flight(&machine, &collector);
    machine.ok(&["systemctl", "kill", "--kill-who=main", "--signal=KILL", SERVICE]);
    machine.wait_until_inactive();
    assert_eq!(machine.property(SERVICE, "Result"), "signal");
    assert_eq!(machine.property(SOCKET, "SubState"), "listening");
    assert_eq!(machine.counts(), [1, 0, 0]);

    // The next notification starts it: attached before the end of the command.
    machine.peer(1, 1, "notify");
    machine.wait_for("a status that names it", || {
        machine.property(SERVICE, "StatusText").contains(&format!("running rpc:{id}"))
    });
    ends_well(&machine, &collector, id);
}

#[test]
fn an_end_that_no_handler_saw_is_reported_by_the_next_one() {
    let machine = Machine::with_product("unseen");
    let collector = machine.collector(Queue::Rpc);
    let id = in_flight(&machine, &collector);
    machine.ok(&["systemctl", "kill", "--kill-who=main", "--signal=KILL", SERVICE]);
    machine.wait_until_inactive();
    machine.sh("touch /run/go-on");
    machine.wait_for("the command's own end", || machine.ended() == 1);
    machine.ok(&["systemctl", "start", SERVICE]);
    ends_well(&machine, &collector, id);
}

#[test]
fn service_and_socket_stopped_and_started_again_attach_to_the_command() {
    let machine = Machine::with_product("stopped");
    let collector = machine.collector(Queue::Rpc);
    let id = in_flight(&machine, &collector);
    machine.ok(&["systemctl", "stop", SERVICE, SOCKET]);
    assert_eq!(machine.property(SERVICE, "Result"), "success");
    assert_eq!(machine.property(SOCKET, "ActiveState"), "inactive");
    assert_eq!(machine.counts(), [1, 0, 0]);
    machine.ok(&["systemctl", "start", SOCKET, SERVICE]);
    machine.wait_for("a status that names it", || {
        machine.property(SERVICE, "StatusText").contains(&format!("running rpc:{id}"))
    });
    ends_well(&machine, &collector, id);
}

#[test]
fn a_manager_that_reloads_or_executes_itself_anew_disturbs_neither_handler_nor_command() {
    let machine = Machine::with_product("reload");
    let collector = machine.collector(Queue::Rpc);
    let id = in_flight(&machine, &collector);
    let handler = machine.property(SERVICE, "MainPID");
    for command in ["daemon-reload", "daemon-reexec"] {
        machine.ok(&["systemctl", command]);
        assert_eq!(machine.property(SERVICE, "MainPID"), handler, "{command}");
        assert_eq!(machine.property(SERVICE, "ActiveState"), "active", "{command}");
    }
    ends_well(&machine, &collector, id);
    // The socket still starts it.
    let next = collector.enqueue("echo next");
    assert_eq!(collector.result(next)["stdout"], "next\n");
}

#[test]
fn an_action_replaces_the_executable_and_has_its_units_restarted_and_is_seen_to_its_end() {
    let machine = Machine::with_product("replaced");
    let collector = machine.collector(Queue::Rpc);
    let ids = ["upgrade", "upgrade restart", "echo next"].map(|command| collector.enqueue(command));
    machine.enable_socket();
    // One batch: the second begins under a handler whose executable is not on the disk any more, the third is left to
    // the handler after it.
    machine.peer(1, 1, "notify");
    for (id, expected) in ids.into_iter().zip(["upgraded\n", "upgraded\n", "next\n"]) {
        let result = collector.result(id);
        assert_eq!((&result["ret"], &result["stdout"]), (&0.into(), &expected.into()), "{result}");
    }
    machine.wait_until_idle();
    assert_eq!(machine.ran(), ["node upgrade", "node upgrade restart", "node echo next"]);
    assert_eq!(machine.property(SERVICE, "Result"), "success");
}

/// Moves every time that the node has kept, as if it were its clock that had moved the other way.
fn move_times(machine: &Machine, years: i64) {
    const LEDGER: &str = "/var/lib/opensvc-actions/ledger.sqlite";
    let copy = machine.directory().join("ledger.sqlite");
    let beside = |suffix: &str| (format!("{LEDGER}{suffix}"), format!("{}{suffix}", copy.display()));
    for (there, here) in ["", "-wal"].map(beside) {
        if machine.path(&there).exists() {
            fs::copy(machine.path(&there), here).unwrap();
        }
    }
    let ledger = Connection::open(&copy).unwrap();
    let moved = ["received_at", "started_at", "finished_at", "superseded_at", "reported_at"]
        .map(|column| format!("{column} = {column} + {years} * 31557600000"))
        .join(", ");
    let changed = ledger.execute(&format!("UPDATE action SET {moved}"), []).unwrap();
    assert!(changed > 0);
    ledger.pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap();
    ledger.pragma_update(None, "journal_mode", "DELETE").unwrap();
    drop(ledger);
    machine.sh(&format!("rm -f {LEDGER}-wal {LEDGER}-shm"));
    fs::copy(&copy, machine.path(LEDGER)).unwrap();
    let files = machine.path("/var/lib/opensvc-actions");
    let date = format!("{years:+} years");
    let touched = Command::new("find").arg(files).args(["-exec", "touch", "-h", "-d", &date, "{}", "+"]).status();
    assert!(touched.unwrap().success());
}

/// A command in flight, two that wait, and in the end three results that wait, each across a jump of the clock. The
/// clock itself is the machine's that runs the test: what moves are the times that were written down.
fn across_jumps_of_the_clock(name: &str, years: i64) {
    let machine = Machine::with_product(name);
    let collector = machine.collector(Queue::Rpc);
    let ids = ["await /run/go-on", "echo second", "fail 3 third"].map(|command| collector.enqueue(command));
    machine.enable_socket();
    machine.peer(1, 1, "notify");
    machine.wait_for("the first command", || machine.begun().len() == 1);
    machine.ok(&["systemctl", "stop", SERVICE, SOCKET]);
    assert_eq!(machine.counts(), [1, 2, 0]);

    move_times(&machine, years);
    machine.sh("touch /run/go-on");
    collector.stop();
    machine.ok(&["systemctl", "start", SERVICE]);
    machine.wait_until_inactive();
    assert_eq!(machine.property(SERVICE, "ExecMainStatus"), "75");
    assert_eq!(machine.counts(), [0, 0, 3]);

    move_times(&machine, years);
    collector.start();
    machine.ok(&["systemctl", "start", SERVICE]);
    for (id, ret) in ids.into_iter().zip([0, 0, 3]) {
        assert_eq!(collector.result(id)["ret"], ret);
    }
    machine.wait_until_inactive();
    assert_eq!(machine.ran(), ["node await /run/go-on", "node echo second", "node fail 3 third"]);
    assert_eq!(machine.property(SERVICE, "ExecMainStatus"), "0");
    assert_eq!(machine.counts(), [0, 0, 0]);

    // What is complete is complete, and the next action is one like any other.
    move_times(&machine, years);
    machine.enable_socket();
    let next = collector.enqueue("echo next");
    assert_eq!(collector.result(next)["stdout"], "next\n");
    machine.wait_until_idle();
    assert_eq!(machine.ran().len(), 4);
}

#[test]
fn a_clock_that_says_1970_at_the_start_loses_nothing_and_runs_nothing_twice() {
    across_jumps_of_the_clock("clock-1970", 56);
}

#[test]
fn a_clock_that_is_10_years_ahead_at_the_start_loses_nothing_and_runs_nothing_twice() {
    across_jumps_of_the_clock("clock-ahead", -10);
}
