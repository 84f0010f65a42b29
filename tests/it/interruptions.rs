//! Signals, crashes, and what commands leave behind.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::collector::fault::{Call, Fault, When};
use crate::support::history::Allowed;
use crate::support::node::{is_alive, wait_for_exit};
use crate::support::world::World;
use crate::support::{Dialect, both};

/// Five seconds are promised; the rest is for machines that are busy.
const GONE_WITHIN: Duration = Duration::from_secs(5 + 5);

fn interrupted() -> Allowed {
    Allowed { interrupted: true, ..Allowed::default() }
}

/// The handler is told to go while a command runs: it goes, the command stays, and is never run again.
#[track_caller]
fn leaves_the_command(dialect: Dialect, signals: &[Signal]) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("echo begun wait gate echo done");
    let next = world.enqueue("echo next");
    let handler = world.node.handler().start();
    let command = world.node.wait_for_start(id);
    for signal in signals {
        handler.signal(*signal);
    }
    handler.wait_within(GONE_WITHIN).exits(0);
    assert!(is_alive(command.pid), "the command went with its handler");
    assert_eq!(world.node.runs_of(next), 0, "something was started after the signal");
    gate.open();
    world.node.wait_for_mark("end");
    world.run().exits(0);
    assert_eq!(world.result(id), (0, "begun\ndone\n".to_owned(), String::new()));
    assert_eq!(world.node.runs_of(id), 1);
    assert_eq!(world.result(next).1, "next\n");
    world.check();
}

/// The process that supervises the command with this pid.
pub(crate) fn supervisor_of(command: i32) -> Pid {
    let stat = std::fs::read_to_string(format!("/proc/{command}/stat")).unwrap();
    let parent = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap();
    Pid::from_raw(parent).unwrap()
}

both!(sigterm_leaves_the_command_and_the_next_run_reports_its_end);
fn sigterm_leaves_the_command_and_the_next_run_reports_its_end(dialect: Dialect) {
    leaves_the_command(dialect, &[Signal::TERM]);
}

both!(sighup_leaves_the_command_and_the_next_run_reports_its_end);
fn sighup_leaves_the_command_and_the_next_run_reports_its_end(dialect: Dialect) {
    leaves_the_command(dialect, &[Signal::HUP]);
}

both!(sigint_twice_leaves_the_command_and_the_next_run_reports_its_end);
fn sigint_twice_leaves_the_command_and_the_next_run_reports_its_end(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate");
    let handler = world.node.handler().start();
    let command = world.node.wait_for_start(id);
    handler.signal(Signal::INT);
    // Two of the same signal can become one: the second is sent once the first was heard.
    handler.wait_until_says("interrupt again");
    handler.signal(Signal::INT);
    handler.wait_within(GONE_WITHIN).exits(0);
    assert!(is_alive(command.pid));
    gate.open();
    world.run().exits(0);
    assert_eq!(world.result(id).0, 0);
    world.check();
}

both!(sigint_once_finishes_the_current_action_and_takes_no_other);
fn sigint_once_finishes_the_current_action_and_takes_no_other(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let (first, second) = (world.enqueue("wait gate echo done"), world.enqueue("echo second"));
    let handler = world.node.handler().start();
    world.node.wait_for_start(first);
    handler.signal(Signal::INT);
    handler.wait_until_says("interrupt again");
    gate.open();
    handler.wait().exits(0);
    assert_eq!(world.result(first).1, "done\n");
    assert_eq!(world.node.runs_of(second), 0);
    world.run().exits(0);
    assert_eq!(world.result(second).1, "second\n");
    world.check();
}

both!(sigterm_during_an_exchange_loses_nothing);
fn sigterm_during_an_exchange_loses_nothing(dialect: Dialect) {
    for call in [Call::Fetch, Call::Ack, Call::Report] {
        for fault in [Fault::StallBefore, Fault::StallAfter] {
            let world = World::new(dialect);
            let id = world.collector.add(world.row("echo done").old());
            world.collector.fail(call, When::First(1), fault);
            let handler = world.node.handler().start();
            world.collector.wait_for_count(call, 1);
            handler.signal(Signal::TERM);
            world.collector.release(); // it may finish the exchange in hand
            handler.wait_within(GONE_WITHIN).exits(0);
            world.collector.heal();
            world.run().exits(0);
            assert_eq!(world.result(id).1, "done\n", "{call:?}");
            assert_eq!(world.node.runs_of(id), 1, "{call:?}");
            world.check();
        }
    }
}

both!(sigterm_does_not_wait_for_a_collector_that_says_nothing);
fn sigterm_does_not_wait_for_a_collector_that_says_nothing(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.collector.fail(Call::Fetch, When::First(1), Fault::StallBefore);
    let handler = world.node.handler().start();
    world.collector.wait_for_count(Call::Fetch, 1);
    handler.signal(Signal::TERM);
    handler.wait_within(GONE_WITHIN).exits(0);
    assert_eq!(world.node.runs_of(id), 0);
}

both!(killed_in_mid_command_the_next_run_reports_its_end_and_does_not_run_it_again);
fn killed_in_mid_command_the_next_run_reports_its_end_and_does_not_run_it_again(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("echo begun wait gate echo done exit 7");
    let next = world.enqueue("echo next");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    handler.signal(Signal::KILL);
    handler.wait().exits(137);
    gate.open();
    world.run().exits(0);
    assert_eq!(world.result(id), (7, "begun\ndone\n".to_owned(), String::new()));
    assert_eq!((world.node.runs_of(id), world.node.runs_of(next)), (1, 1));
    world.check();
}

both!(a_handler_attaches_to_a_command_that_another_one_left_and_waits_for_it);
fn a_handler_attaches_to_a_command_that_another_one_left_and_waits_for_it(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("echo begun wait gate echo done exit 7");
    let next = world.enqueue("echo next");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    handler.signal(Signal::KILL);
    handler.wait().exits(137);
    let attached = world.node.handler().start();
    attached.wait_until_says("runs already");
    assert_eq!(world.node.runs_of(next), 0, "two commands at once");
    gate.open();
    attached.wait().exits(0);
    assert_eq!(world.result(id), (7, "begun\ndone\n".to_owned(), String::new()));
    assert_eq!((world.node.runs_of(id), world.node.runs_of(next)), (1, 1));
    world.check();
}

both!(a_killed_supervisor_is_said_and_takes_its_command_with_it);
fn a_killed_supervisor_is_said_and_takes_its_command_with_it(dialect: Dialect) {
    for attached in [false, true] {
        let world = World::new(dialect);
        let _closed = world.node.gate("gate");
        let id = world.enqueue("wait gate");
        let next = world.enqueue("echo next");
        let mut handler = world.node.handler().start();
        let command = world.node.wait_for_start(id).pid;
        if attached {
            handler.signal(Signal::KILL);
            handler.wait().exits(137);
            handler = world.node.handler().start();
            handler.wait_until_says("runs already");
        }
        kill_process(supervisor_of(command), Signal::KILL).unwrap();
        handler.wait().exits(0);
        world.reason(id, 254);
        assert_eq!((world.node.runs_of(id), world.node.runs_of(next)), (1, 1));
        assert!(wait_for_exit(command, GONE_WITHIN), "what is left of it was not ended");
        world.check_but(&interrupted());
    }
}

both!(a_supervisor_that_dies_with_its_handler_is_said_by_the_next_one);
fn a_supervisor_that_dies_with_its_handler_is_said_by_the_next_one(dialect: Dialect) {
    let world = World::new(dialect);
    let _closed = world.node.gate("gate");
    let id = world.enqueue("wait gate");
    let handler = world.node.handler().start();
    let command = world.node.wait_for_start(id).pid;
    handler.signal(Signal::KILL);
    kill_process(supervisor_of(command), Signal::KILL).unwrap();
    handler.wait().exits(137);
    world.run().exits(0);
    world.reason(id, 254);
    assert_eq!(world.node.runs_of(id), 1);
    assert!(wait_for_exit(command, GONE_WITHIN), "what is left of it was not ended");
    world.check_but(&interrupted());
}

both!(killed_between_any_two_steps_everything_runs_once_and_is_reported);
fn killed_between_any_two_steps_everything_runs_once_and_is_reported(dialect: Dialect) {
    for call in [Call::Fetch, Call::Ack, Call::Report] {
        for fault in [Fault::StallBefore, Fault::StallAfter] {
            let world = World::new(dialect);
            let id = world.collector.add(world.row("echo done").old());
            world.collector.fail(call, When::First(1), fault);
            let handler = world.node.handler().start();
            world.collector.wait_for_count(call, 1);
            handler.signal(Signal::KILL);
            handler.wait().exits(137);
            world.collector.heal();
            world.run().exits(0);
            assert_eq!(world.result(id).1, "done\n", "{call:?}");
            assert_eq!(world.node.runs_of(id), 1, "{call:?}");
        }
    }
}

both!(a_daemon_left_behind_delays_no_report_and_lives);
fn a_daemon_left_behind_delays_no_report_and_lives(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("echo started daemon gate");
    let next = world.enqueue("echo next");
    world.run().exits(0);
    assert_eq!(world.result(id).1, "started\n");
    assert_eq!(world.result(next).1, "next\n");
    let daemon = world.node.wait_for_mark("daemon");
    assert!(is_alive(daemon.pid), "the daemon died with its action");
    gate.open();
    let end = world.node.wait_for_mark("daemon-end");
    assert_eq!(end.words, ["0"], "the daemon could not write its output any more");
    world.check();
}

both!(no_zombie_is_left_while_the_handler_works);
fn no_zombie_is_left_while_the_handler_works(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let (first, second) = (world.enqueue("echo first"), world.enqueue("wait gate"));
    let handler = world.node.handler().start();
    let ended = world.node.wait_for_start(first).pid;
    world.node.wait_for_start(second);
    let is_there = std::path::Path::new(&format!("/proc/{ended}/stat")).exists();
    assert!(!is_there, "{ended} was not waited for");
    gate.open();
    handler.wait().exits(0);
    world.check();
}

both!(a_timed_out_action_loses_its_whole_tree);
fn a_timed_out_action_loses_its_whole_tree(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[execution]\ntimeout = \"500ms\"\nkill_grace = \"100ms\"\n");
    let _closed = world.node.gate("closed");
    let id = world.enqueue("ignore-term escapee closed wait closed");
    world.run().exits(0);
    world.reason(id, 124);
    let child = world.node.wait_for_mark("child");
    assert!(!is_alive(child.pid), "a process of a timed-out action survives");
    world.check();
}
