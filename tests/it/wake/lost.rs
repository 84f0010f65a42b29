//! No wake-up is lost: whoever cannot fetch after a trigger leaves its mark.

use rustix::process::{Pid, Signal, kill_process};

use super::{assert_nobody_waits, assert_not_answered, connect, connection, knock};
use crate::support::collector::Collector;
use crate::support::collector::fault::{Call, Fault, When};
use crate::support::node::Node;
use crate::support::process::wait_until_holds;
use crate::support::world::World;
use crate::support::{Dialect, both};

/// Whether a fetch is due, by what the files say.
fn is_due(node: &Node) -> bool {
    ["wake", "wake.owed"].iter().any(|name| node.path("var/actions").join(name).exists())
}

both!(a_handler_that_is_told_to_stop_before_it_fetches_leaves_the_mark);
fn a_handler_that_is_told_to_stop_before_it_fetches_leaves_the_mark(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[wake]\nmin_interval = \"1h\"\n");
    world.run().exits(0);
    assert!(!is_due(&world.node), "all is fetched");
    let id = world.enqueue("echo done");
    let listener = Node::listen();
    let peer = knock(&listener);
    let handler = world.node.handler().systemd(listener).start();
    assert_not_answered(peer); // it was heard
    handler.signal(Signal::TERM);
    handler.wait().exits(0);
    assert!(is_due(&world.node), "the notification is forgotten");
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    assert!(!is_due(&world.node));
}

both!(notifications_that_a_stopped_handler_has_heard_leave_the_mark);
fn notifications_that_a_stopped_handler_has_heard_leave_the_mark(dialect: Dialect) {
    let world = World::new(dialect);
    let _closed = world.node.gate("gate");
    let id = world.enqueue("wait gate");
    let listener = Node::listen();
    let handler = world.node.handler().systemd(listener.try_clone().unwrap()).start();
    world.node.wait_for_start(id);
    assert!(!is_due(&world.node));
    assert_not_answered(knock(&listener)); // it was heard, and is not in the queue of the kernel any more
    handler.signal(Signal::TERM);
    handler.wait().exits(0);
    assert!(is_due(&world.node), "the notification is forgotten");
}

both!(a_handler_that_is_killed_while_it_fetches_leaves_the_mark);
fn a_handler_that_is_killed_while_it_fetches_leaves_the_mark(dialect: Dialect) {
    let world = World::new(dialect);
    world.collector.fail(Call::Fetch, When::First(1), Fault::StallBefore);
    let handler = world.node.handler().start();
    world.collector.wait_for_count(Call::Fetch, 1);
    handler.signal(Signal::KILL);
    handler.wait().exits(137);
    assert!(is_due(&world.node));
    world.run().exits(0);
    assert!(!is_due(&world.node));
}

both!(a_fetch_that_fails_leaves_the_mark);
fn a_fetch_that_fails_leaves_the_mark(dialect: Dialect) {
    let world = World::new(dialect);
    world.collector.fail(Call::Fetch, When::Always, Fault::status(404));
    let (ours, peer) = connection();
    world.node.handler().inetd(ours).run();
    assert_not_answered(peer);
    assert!(is_due(&world.node));
    world.collector.heal();
    world.run().exits(0);
    assert!(!is_due(&world.node));
    world.node.remove("bin/om");
    world.run().exits(69);
    assert!(is_due(&world.node), "without an agent nothing is fetched");
}

both!(notifications_of_a_broken_configuration_leave_the_mark);
fn notifications_of_a_broken_configuration_leave_the_mark(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.node.configure("nonsense\n");
    let listener = Node::listen();
    let peer = knock(&listener);
    world.node.handler().systemd(listener.try_clone().unwrap()).run().exits(78);
    assert_not_answered(peer);
    assert_nobody_waits(&listener);
    assert!(is_due(&world.node));
    world.node.configure("");
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    assert!(!is_due(&world.node));
}

both!(a_run_that_fails_at_once_does_not_try_again_for_ever);
fn a_run_that_fails_at_once_does_not_try_again_for_ever(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let runs = world.node.path("var/actions/runs");
    std::fs::create_dir_all(runs.parent().unwrap()).unwrap();
    std::fs::set_permissions(runs.parent().unwrap(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    world.node.write("var/actions/runs", "not a directory");
    let listener = Node::listen();
    let peer = knock(&listener);
    let ends = [world.run(), world.node.handler().systemd(listener.try_clone().unwrap()).run()];
    for end in ends {
        assert_eq!(end.exits(69).stderr.lines().count(), 1, "{}", end.stderr);
    }
    assert_not_answered(peer);
    assert_nobody_waits(&listener);
    assert!(is_due(&world.node));
    world.node.remove("var/actions/runs");
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
}

both!(fifty_starters_of_every_kind_are_one_handler_and_lose_nothing);
fn fifty_starters_of_every_kind_are_one_handler_and_lose_nothing(dialect: Dialect) {
    let world = World::new(dialect);
    let listener = Node::listen();
    let mut ids = Vec::new();
    let (mut handlers, mut peers) = (Vec::new(), Vec::new());
    for index in 0..50 {
        // What is queued before a start is handled when all are gone.
        ids.extend((index % 10 == 0).then(|| world.enqueue(&format!("echo {index}"))));
        let handler = world.node.handler();
        handlers.push(match index % 5 {
            1 | 2 => {
                let (ours, peer) = connection();
                peers.push(peer);
                handler.inetd(ours).start()
            }
            3 if index == 23 => {
                peers.push(knock(&listener));
                handler.systemd(listener.try_clone().unwrap()).start()
            }
            _ => handler.start(),
        });
    }
    let last = world.enqueue("echo last");
    world.run().exits(0);
    for handler in handlers {
        handler.wait().exits(0);
    }
    peers.into_iter().for_each(assert_not_answered);
    ids.push(last);
    assert!(ids.iter().all(|id| world.collector.row(*id).ret == Some(0) && world.node.runs_of(*id) == 1));
    let kinds: Vec<_> = world.node.marks().into_iter().map(|mark| mark.kind).collect();
    assert_eq!(kinds, ["start", "end"].repeat(ids.len()), "commands overlap");
    let fetches = world.collector.count(Call::Fetch);
    assert!(fetches <= 2 * 51, "{fetches} fetches");
    assert_nobody_waits(&listener);
    assert!(!is_due(&world.node));
    world.check();
}

both!(a_starter_that_comes_as_the_handler_ends_is_not_lost);
fn a_starter_that_comes_as_the_handler_ends_is_not_lost(dialect: Dialect) {
    let world = World::new(dialect);
    for turn in 0..20 {
        // The handler's last fetch has found nothing, and does not know it yet.
        let before = world.collector.count(Call::Fetch);
        world.collector.fail(Call::Fetch, When::Nth(before + 1), Fault::StallAfter);
        let handler = world.node.handler().start();
        world.collector.wait_for_count(Call::Fetch, before + 1);
        let id = world.enqueue("echo late");
        // The starter is stopped somewhere on its way, and goes on while the handler ends.
        let starter = world.node.handler().args(["dequeue", "--no-wait"]).start();
        let pid = Pid::from_raw(starter.pid()).unwrap();
        (0..turn * 20).for_each(|_| std::thread::yield_now());
        let _ = kill_process(pid, Signal::STOP); // it may be gone already
        world.collector.release();
        (0..turn * 5).for_each(|_| std::thread::yield_now());
        let _ = kill_process(pid, Signal::CONT);
        starter.wait().exits(0);
        handler.wait().exits(0);
        assert_eq!(world.result(id).1, "late\n", "turn {turn}");
        assert!(!is_due(&world.node), "turn {turn}");
    }
    world.check();
}

both!(a_starter_between_its_mark_and_the_lock_is_not_lost_to_report);
fn a_starter_between_its_mark_and_the_lock_is_not_lost_to_report(dialect: Dialect) {
    let world = World::new(dialect);
    let left = world.enqueue("echo left");
    world.collector.fail(Call::Report, When::Always, Fault::ResetBefore);
    world.run().exits(75);
    world.collector.heal();
    let posted = world.collector.count(Call::Report);
    world.collector.fail(Call::Report, When::First(1), Fault::StallBefore);
    let late = world.enqueue("echo late");
    let (mark, trace) = (world.node.path("var/actions/wake"), world.node.write("trace", ""));
    let mark = mark.display().to_string();
    let words = ["-f", "-qq", "-e", "trace=write", "-P", &mark, "-e", "inject=write:signal=STOP:when=1", "-o"];
    let starter = world.node.handler().args(["dequeue", "--no-wait"]).under("strace", &words, &trace).start();
    wait_until_holds(&trace, "stopped by SIGSTOP");
    let report = world.node.handler().arg("report").start();
    world.collector.wait_for_count(Call::Report, posted + 1);
    let text = std::fs::read_to_string(&trace).unwrap();
    let pid = text.split_whitespace().next().and_then(|pid| Pid::from_raw(pid.parse().unwrap())).unwrap();
    kill_process(pid, Signal::CONT).unwrap();
    starter.wait().exits(0);
    world.collector.release();
    report.wait().exits(0);
    assert_eq!((world.result(left).1, world.result(late).1), ("left\n".into(), "late\n".into()));
    world.check();
}

both!(senders_that_do_not_count_do_not_start_one_handler_each);
fn senders_that_do_not_count_do_not_start_one_handler_each(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[wake]\nallow = [\"10.0.0.0/8\"]\n");
    let listener = Node::listen();
    let mut started = 0;
    let mut knocks = 0;
    while started < 2 {
        // Nobody knocks before the last one was heard: a handler that ended at once would be started for each.
        let mut peer = connect(&listener);
        let mut handler = world.node.handler().systemd(listener.try_clone().unwrap()).start();
        started += 1;
        while handler.is_running() && knocks < 20 {
            assert_not_answered(peer);
            knocks += 1;
            peer = connect(&listener);
        }
        handler.wait().exits(0);
    }
    assert!(knocks >= 20, "two handlers heard {knocks} knocks");
    assert_eq!(world.collector.count(Call::Connection), 0);
}

/// A queue that could not be fetched is fetched again for a trigger that comes while another one's action runs.
#[test]
fn a_trigger_is_one_for_every_queue() {
    let (failing, other) = (Collector::start(), Collector::start());
    let node = Node::bare();
    node.register(&[(Dialect::Oc3, &failing), (Dialect::Rpc, &other)]);
    std::fs::copy(node.path("etc/oc3.pem"), node.path("etc/first.pem")).unwrap();
    failing.fail(Call::Fetch, When::First(1), Fault::status(404));
    let mut gate = node.gate("gate");
    let running = other.enqueue(Dialect::Rpc, "wait gate");
    let handler = node.handler().start();
    node.wait_for_start(running);
    let late = failing.enqueue(Dialect::Oc3, "echo late");
    node.run().exits(0);
    gate.open();
    handler.wait();
    assert_eq!(failing.row(late).stdout.as_deref(), Some("late\n"));
}
