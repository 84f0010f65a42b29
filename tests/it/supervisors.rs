//! Whose supervisor is whose: one sees to command after command of a run, as long as nothing of them is left.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::collector::fault::{Call, Fault, When};
use crate::support::history::Allowed;
use crate::support::node::{Node, is_alive, wait_for_exit};
use crate::support::process::Process;
use crate::support::world::World;
use crate::support::{Dialect, both};
use crate::trees::{cancel, ours, parent_of};

const GONE_WITHIN: Duration = Duration::from_secs(10);

/// In the place of the command itself: says who its parent is.
const WHOSE: &str = "#!/bin/sh\necho $PPID\n";

/// Leaves a daemon that holds nothing of the action.
const ASIDE: &str = r#"#!/bin/sh
D=${0%/bin/*}
setsid sh -c 'printf "daemon %s\n" $$ >>"$1/marks"; read -r _ <"$1/$2"' sh "$D" "$1" >/dev/null 2>&1 &
"#;

/// Takes some memory, and some time of a processor.
const BURN: &str = "#!/bin/sh\nhead -c 80000000 /dev/zero | tail -c 64000000 >/dev/null\n\
    i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done\n";

/// A command whose first word is `short` must be.
const SHORT: &str = "[execution]\nkill_grace = \"100ms\"\n\
    [[policy.rule]]\nverdict = \"allow\"\ncommand = [\"*\", \"short\", \"**\"]\ntimeout = \"300ms\"\n\
    [[policy.rule]]\nverdict = \"allow\"\ncommand = [\"*\", \"keeper\", \"**\"]\nuser = \"daemon\"\n\
    [[policy.rule]]\nverdict = \"allow\"\n";

fn world(dialect: Dialect, toml: &str) -> World {
    let world = World::new(dialect);
    world.node.configure(toml);
    for (name, text) in [("whose", WHOSE), ("aside", ASIDE), ("burn", BURN)] {
        world.node.install_script(name, text);
    }
    world
}

fn whose(world: &World) -> i64 {
    world.enqueue("become whose x")
}

/// The supervisor that a command has told.
#[track_caller]
fn told(world: &World, id: i64) -> i32 {
    let (ret, stdout, stderr) = world.result(id);
    assert_eq!((ret, stderr.as_str()), (0, ""), "{id}");
    stdout.trim().parse().unwrap()
}

/// The supervisors of a node.
fn supervisors(node: &Node) -> Vec<i32> {
    let is_one = |pid: &i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.ends_with(b"\0supervise\0") && is_alive(*pid)
    };
    node.processes().into_iter().filter(is_one).collect()
}

fn shown(world: &World, id: i64) -> Value {
    let ended = world.node.handler().args(["show", "--json", &id.to_string()]).run();
    serde_json::from_str(&ended.exits(0).stdout).unwrap()
}

/// A handler that has seen one command to its end and asks whether there are more: its supervisor is idle.
fn asking(world: &World) -> (Process, i32) {
    world.collector.fail(Call::Fetch, When::Nth(2), Fault::StallBefore);
    let first = whose(world);
    let handler = world.node.handler().start();
    world.collector.wait_for_result(first);
    world.collector.wait_for_count(Call::Fetch, 2);
    let supervisor = told(world, first);
    assert_eq!(supervisors(&world.node), [supervisor], "one, and idle");
    (handler, supervisor)
}

both!(one_supervisor_sees_to_every_command_of_a_run_however_they_end);
fn one_supervisor_sees_to_every_command_of_a_run_however_they_end(dialect: Dialect) {
    let world = world(dialect, "");
    let first = whose(&world);
    let (failed, killed) = (world.enqueue("exit 3"), world.enqueue("kill KILL"));
    let (next, last) = (whose(&world), whose(&world));
    world.run().exits(0);
    assert_eq!((world.result(failed).0, world.result(killed).0), (3, 137));
    let supervisor = told(&world, first);
    assert_eq!((told(&world, next), told(&world, last)), (supervisor, supervisor));
    // The next run has one of its own.
    let another = whose(&world);
    world.run().exits(0);
    assert_ne!(told(&world, another), supervisor);
    world.check();
}

both!(a_supervisor_that_was_idle_takes_what_is_queued_meanwhile);
fn a_supervisor_that_was_idle_takes_what_is_queued_meanwhile(dialect: Dialect) {
    let world = world(dialect, "");
    let (handler, supervisor) = asking(&world);
    let next = whose(&world);
    world.collector.release();
    handler.wait().exits(0);
    assert_eq!(told(&world, next), supervisor);
    world.check();
}

both!(an_idle_supervisor_that_is_killed_costs_no_action_anything);
fn an_idle_supervisor_that_is_killed_costs_no_action_anything(dialect: Dialect) {
    let world = world(dialect, "");
    let (handler, supervisor) = asking(&world);
    kill_process(Pid::from_raw(supervisor).unwrap(), Signal::KILL).unwrap();
    assert!(wait_for_exit(supervisor, GONE_WITHIN));
    let next = [whose(&world), whose(&world)];
    world.collector.release();
    let ended = handler.wait();
    ended.exits(0);
    let another = told(&world, next[0]);
    assert!(another != supervisor && told(&world, next[1]) == another);
    for id in next {
        let attempts = &shown(&world, id)["attempts"];
        assert!(attempts.as_array().unwrap().iter().all(|attempt| attempt["step"] != "start"), "{attempts}");
        assert_eq!(world.node.runs_of(id), 1);
    }
    for words in ["supervisor", "again", "not start"] {
        assert!(!ended.stderr.contains(words), "it troubles a person with it:\n{}", ended.stderr);
    }
    world.check();
}

// It is not about a command that comes later.
both!(an_idle_supervisor_that_is_told_to_end_ends_no_later_command);
fn an_idle_supervisor_that_is_told_to_end_ends_no_later_command(dialect: Dialect) {
    let world = world(dialect, "");
    let (handler, supervisor) = asking(&world);
    kill_process(Pid::from_raw(supervisor).unwrap(), Signal::TERM).unwrap();
    assert!(wait_for_exit(supervisor, GONE_WITHIN), "it waits for an order all the same");
    let next = whose(&world);
    world.collector.release();
    handler.wait().exits(0);
    assert_ne!(told(&world, next), supervisor);
    world.check();
}

both!(an_idle_supervisor_ends_with_its_handler);
fn an_idle_supervisor_ends_with_its_handler(dialect: Dialect) {
    for signal in [Signal::KILL, Signal::TERM] {
        let world = world(dialect, "");
        let (handler, supervisor) = asking(&world);
        handler.signal(signal);
        if signal == Signal::TERM {
            world.collector.release();
        }
        handler.wait();
        assert!(wait_for_exit(supervisor, GONE_WITHIN), "it waits for an order of nobody");
        world.node.wait_until_alone(&[]);
        world.run().exits(0);
        world.check_but(&Allowed { crashes: 1, ..Allowed::default() });
    }
}

both!(a_supervisor_that_was_started_for_nothing_ends_with_the_run);
fn a_supervisor_that_was_started_for_nothing_ends_with_the_run(dialect: Dialect) {
    let world = world(dialect, "");
    world.run().exits(0);
    world.node.wait_until_alone(&[]);
    world.check();
}

both!(a_daemon_keeps_its_supervisor_to_itself_and_outlives_what_ends_badly_later);
fn a_daemon_keeps_its_supervisor_to_itself_and_outlives_what_ends_badly_later(dialect: Dialect) {
    // One that holds the output of its action, and one that holds nothing.
    for daemon in ["daemon gate", "run aside gate"] {
        let world = world(dialect, SHORT);
        let mut gate = world.node.gate("gate");
        let (_closed, _shut) = (world.node.gate("closed"), world.node.gate("shut"));
        let (first, left, next) = (whose(&world), world.enqueue(&format!("echo left {daemon}")), whose(&world));
        let cancelled = world.enqueue("wait shut");
        let timed_out = world.enqueue("short wait closed");
        let last = whose(&world);
        let handler = world.node.handler().start();
        let command = world.node.wait_for_start(cancelled).pid;
        let lives = world.node.wait_for_mark("daemon").pid;
        let supervisor = parent_of(command);
        cancel(&world, cancelled);
        handler.wait().exits(0);
        assert_eq!(world.result(left), (0, "left\n".to_owned(), String::new()));
        assert!(
            told(&world, next) == supervisor && supervisor != told(&world, first),
            "{daemon}: whose is the daemon?"
        );
        world.reason(timed_out, 124);
        assert_ne!(world.result(cancelled).0, 0);
        assert!(is_alive(lives), "{daemon}: it went with a later action");
        let others: BTreeSet<_> = [told(&world, first), supervisor, told(&world, last)].into();
        assert_eq!(others.len(), 3, "{daemon}");
        gate.open();
        assert!(wait_for_exit(lives, GONE_WITHIN));
        world.check_but(&ours());
    }
}

both!(what_was_told_to_end_and_what_ran_as_a_user_are_the_last_of_their_supervisors);
fn what_was_told_to_end_and_what_ran_as_a_user_are_the_last_of_their_supervisors(dialect: Dialect) {
    let world = world(dialect, SHORT);
    fs::set_permissions(world.node.path("marks"), fs::Permissions::from_mode(0o666)).unwrap();
    let (_closed, _shut) = (world.node.gate("closed"), world.node.gate("shut"));
    let before_user = whose(&world);
    let user = world.enqueue("keeper become whose x");
    let before_short = whose(&world);
    let timed_out = world.enqueue("short wait closed");
    let before_cancel = whose(&world);
    let cancelled = world.enqueue("wait shut");
    let last = whose(&world);
    let handler = world.node.handler().start();
    let command = world.node.wait_for_start(cancelled).pid;
    let of_cancelled = parent_of(command);
    cancel(&world, cancelled);
    handler.wait().exits(0);
    world.reason(timed_out, 124);
    assert_eq!(shown(&world, user)["user"], "daemon");
    let one_of_each = [before_user, before_short, before_cancel, last].map(|id| told(&world, id));
    assert_eq!(BTreeSet::from(one_of_each).len(), 4, "{one_of_each:?}");
    assert_eq!((told(&world, user), of_cancelled), (one_of_each[0], one_of_each[2]), "the last, and not the first");
    world.check_but(&ours());
}

both!(what_a_command_has_used_is_its_own_whoever_has_seen_to_it);
fn what_a_command_has_used_is_its_own_whoever_has_seen_to_it(dialect: Dialect) {
    let world = world(dialect, "");
    let (burnt, little, again) = (world.enqueue("run burn x"), whose(&world), world.enqueue("run burn x"));
    let last = whose(&world);
    world.run().exits(0);
    assert_eq!(told(&world, little), told(&world, last), "one supervisor, or this test proves nothing");
    let used = |id: i64| {
        let usage = &shown(&world, id)["usage"];
        let time = usage["user_usec"].as_u64().unwrap() + usage["system_usec"].as_u64().unwrap();
        (time, usage["memory_peak"].as_u64().unwrap_or_else(|| panic!("{usage}")))
    };
    for (much, less) in [(burnt, little), (again, last)] {
        let ((time, memory), (little_time, little_memory)) = (used(much), used(less));
        assert!(memory > 60_000_000 && little_memory < 30_000_000, "{memory} {little_memory}");
        assert!(time > 2 * little_time, "{time} {little_time}");
    }
    world.check();
}

both!(two_lanes_have_a_supervisor_each);
fn two_lanes_have_a_supervisor_each(dialect: Dialect) {
    let world = world(dialect, "[execution]\nmax_parallel = 2\n");
    let mut gate = world.node.gate("gate");
    let side_by_side = ["web", "db"].map(|service| world.enqueue_for(service, "wait gate"));
    let behind = ["web", "db"].map(|service| world.enqueue_for(service, "become whose x"));
    let handler = world.node.handler().start();
    let pids = side_by_side.map(|id| world.node.wait_for_start(id).pid);
    let of_lanes: BTreeSet<_> = pids.map(parent_of).into();
    assert_eq!(of_lanes.len(), 2, "two commands at once have one supervisor");
    gate.open();
    handler.wait().exits(0);
    for id in behind {
        assert!(of_lanes.contains(&told(&world, id)), "a third one, though two had nothing left to do");
    }
    world.check();
}
