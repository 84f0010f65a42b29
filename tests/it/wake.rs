//! Ways to be started, and notifications: none is lost, none costs, none is answered.

mod lost;

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::support::collector::fault::{Call, Fault, When};
use crate::support::node::Node;
use crate::support::world::World;
use crate::support::{DEADLINE, Dialect, both};

/// What the real notifier sends.
const NOTIFICATION: &[u8] = b"dequeue_actions";

fn connect(listener: &TcpListener) -> TcpStream {
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Does what the real notifier does, up to its end of the connection.
fn knock(listener: &TcpListener) -> TcpStream {
    let mut stream = connect(listener);
    stream.write_all(NOTIFICATION).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream
}

/// Insists that the peer was told nothing. A reset tells nothing either.
#[track_caller]
fn assert_not_answered(mut stream: TcpStream) {
    let mut answer = Vec::new();
    if let Err(err) = stream.read_to_end(&mut answer) {
        assert_eq!(err.kind(), ErrorKind::ConnectionReset, "{err}");
    }
    assert_eq!(String::from_utf8_lossy(&answer), "");
}

/// A connection as a listener accepts it: ours, and the peer's.
fn connection() -> (TcpStream, TcpStream) {
    let listener = Node::listen();
    let peer = connect(&listener);
    (listener.accept().unwrap().0, peer)
}

/// How many fetches a run makes that is notified so many times while a command runs.
fn fetches_of_burst(dialect: Dialect, notifications: usize) -> usize {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate");
    let listener = Node::listen();
    let first = knock(&listener);
    let handler = world.node.handler().systemd(listener.try_clone().unwrap()).start();
    world.node.wait_for_start(id);
    let peers: Vec<_> = (0..notifications).map(|_| knock(&listener)).collect();
    // Whoever was heard sees the end of the connection, and nothing else.
    peers.into_iter().for_each(assert_not_answered);
    let last = world.enqueue("echo last");
    gate.open();
    handler.wait().exits(0);
    assert_not_answered(first);
    assert_eq!(world.result(last).1, "last\n");
    assert_nobody_waits(&listener);
    world.check();
    world.collector.count(Call::Fetch)
}

#[track_caller]
fn assert_nobody_waits(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "a notification was left unheard");
}

both!(three_hundred_notifications_cost_no_more_fetches_than_three);
fn three_hundred_notifications_cost_no_more_fetches_than_three(dialect: Dialect) {
    let (few, many) = (fetches_of_burst(dialect, 3), fetches_of_burst(dialect, 300));
    assert!(few <= 4 && many <= 4, "{few} fetches for 3 notifications, {many} for 300");
}

both!(a_burst_that_waits_already_costs_no_more_fetches_than_one);
fn a_burst_that_waits_already_costs_no_more_fetches_than_one(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let listener = Node::listen();
    let knocks: Vec<_> = (0..100).map(|_| knock(&listener)).collect();
    world.node.handler().systemd(listener.try_clone().unwrap()).run().exits(0);
    knocks.into_iter().for_each(assert_not_answered);
    assert_eq!(world.result(id).1, "done\n");
    assert!(world.collector.count(Call::Fetch) <= 4);
    assert_nobody_waits(&listener);
    world.check();
}

both!(odd_senders_delay_nothing_and_hear_nothing);
fn odd_senders_delay_nothing_and_hear_nothing(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let listener = Node::listen();
    let silent = connect(&listener);
    let mut slow = connect(&listener);
    slow.write_all(b"d").unwrap();
    let mut junk = connect(&listener);
    junk.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\x00\xff").unwrap();
    let mut large = connect(&listener);
    let flood = thread::spawn(move || {
        // It is cut off somewhere on its way.
        while large.write_all(&[b'x'; 8192]).is_ok() {}
        large
    });
    let gone = connect(&listener);
    drop(gone);
    let handler = world.node.handler().systemd(listener.try_clone().unwrap()).start();
    assert_eq!(world.collector.wait_for_result(id).stdout.as_deref(), Some("done\n"));
    handler.wait().exits(0);
    for peer in [silent, slow, junk, flood.join().unwrap()] {
        assert_not_answered(peer);
    }
    world.check();
}

both!(an_empty_connection_is_a_notification);
fn an_empty_connection_is_a_notification(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let listener = Node::listen();
    connect(&listener).shutdown(Shutdown::Both).unwrap();
    world.node.handler().systemd(listener).run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
}

both!(an_idle_listening_socket_is_a_timer);
fn an_idle_listening_socket_is_a_timer(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.node.handler().systemd(Node::listen()).run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(systemd_accept_yes_gives_the_connection);
fn systemd_accept_yes_gives_the_connection(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let (ours, mut peer) = connection();
    peer.write_all(NOTIFICATION).unwrap();
    world.node.handler().systemd(ours).run().exits(0);
    assert_not_answered(peer);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(inetd_nowait_gives_the_connection_and_the_peer_hears_nothing);
fn inetd_nowait_gives_the_connection_and_the_peer_hears_nothing(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let (ours, mut peer) = connection();
    peer.write_all(NOTIFICATION).unwrap();
    world.node.handler().inetd(ours).run().exits(0);
    assert_not_answered(peer);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(inetd_wait_gives_the_listening_socket);
fn inetd_wait_gives_the_listening_socket(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let listener = Node::listen();
    let peers = [knock(&listener), knock(&listener)];
    world.node.handler().inetd(listener.try_clone().unwrap()).run().exits(0);
    peers.into_iter().for_each(assert_not_answered);
    assert_eq!(world.result(id).1, "done\n");
    assert_nobody_waits(&listener);
    world.check();
}

both!(a_peer_hears_nothing_when_things_go_wrong);
fn a_peer_hears_nothing_when_things_go_wrong(dialect: Dialect) {
    let world = World::new(dialect);
    let broken = |args: &[&str], code: i32| {
        let (ours, mut peer) = connection();
        peer.write_all(NOTIFICATION).unwrap();
        world.node.handler().args(args).inetd(ours).run().exits(code);
        assert_not_answered(peer);
        let listener = Node::listen();
        let peer = knock(&listener);
        world.node.handler().args(args).inetd(listener).run().exits(code);
        assert_not_answered(peer);
    };
    broken(&["--nonsense"], 64);
    broken(&["-vv", "--help"], 0);
    world.collector.down();
    broken(&["-vv"], 75);
    world.node.configure("nonsense\n");
    broken(&["-vv"], 78);
}

both!(a_silent_connection_does_not_delay_the_work);
fn a_silent_connection_does_not_delay_the_work(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let (ours, peer) = connection();
    let handler = world.node.handler().inetd(ours).start();
    assert_eq!(world.collector.wait_for_result(id).stdout.as_deref(), Some("done\n"));
    handler.wait().exits(0);
    assert_not_answered(peer);
}

both!(a_second_starter_ends_at_once_and_what_it_came_for_is_done);
fn a_second_starter_ends_at_once_and_what_it_came_for_is_done(dialect: Dialect) {
    let world = World::new(dialect);
    let first = world.enqueue("echo first");
    // The last fetch of the run has found nothing, and does not know it yet.
    world.collector.fail(Call::Fetch, When::Nth(2), Fault::StallAfter);
    let handler = world.node.handler().start();
    world.collector.wait_for_count(Call::Fetch, 2);
    let second = world.enqueue("echo second");
    let listener = Node::listen();
    let peer = knock(&listener);
    let (ours, peer_of_inetd) = connection();
    let starters = [
        world.node.handler(),
        world.node.handler().args(["dequeue", "--no-wait"]),
        world.node.handler().inetd(ours),
        world.node.handler().systemd(listener),
    ];
    for starter in starters {
        assert_eq!(starter.run().exits(0).stderr, "");
    }
    assert_not_answered(peer);
    assert_not_answered(peer_of_inetd);
    assert_eq!(world.collector.count(Call::Fetch), 2, "only one handler works");
    world.collector.release();
    handler.wait().exits(0);
    assert_eq!([first, second].map(|id| world.result(id).1), ["first\n", "second\n"]);
    world.check();
}

both!(a_person_a_timer_and_the_socket_at_once_are_one_handler);
fn a_person_a_timer_and_the_socket_at_once_are_one_handler(dialect: Dialect) {
    let world = World::new(dialect);
    let ids: Vec<_> = (0..10).map(|n| world.enqueue(&format!("echo {n}"))).collect();
    let listener = Node::listen();
    let peers: Vec<_> = (0..5).map(|_| knock(&listener)).collect();
    let (ours, peer) = connection();
    let starters = [
        world.node.handler().args(["dequeue"]),
        world.node.handler(),
        world.node.handler().systemd(listener),
        world.node.handler().inetd(ours),
        world.node.handler(),
    ];
    let running: Vec<_> = starters.into_iter().map(crate::support::process::Launch::start).collect();
    for handler in running {
        handler.wait().exits(0);
    }
    peers.into_iter().chain([peer]).for_each(assert_not_answered);
    let marks = world.node.marks();
    let kinds: Vec<_> = marks.iter().map(|mark| mark.kind.as_str()).collect();
    assert_eq!(kinds, ["start", "end"].repeat(ids.len()), "commands overlap, or run twice");
    assert!(ids.iter().all(|id| world.collector.row(*id).ret == Some(0)));
    world.check();
}

both!(the_crowd_at_the_door_does_not_work_at_once);
fn the_crowd_at_the_door_does_not_work_at_once(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let running: Vec<_> = (0..20).map(|_| world.node.handler().start()).collect();
    for handler in running {
        handler.wait().exits(0);
    }
    assert_eq!(world.node.runs_of(id), 1);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(senders_that_are_not_allowed_start_nothing);
fn senders_that_are_not_allowed_start_nothing(dialect: Dialect) {
    let world = World::new(dialect);
    world.enqueue("echo done");
    world.node.configure("[wake]\nallow = [\"10.0.0.0/8\", \"fd00::/8\"]\n");
    let listener = Node::listen();
    let peer = knock(&listener);
    world.node.handler().systemd(listener.try_clone().unwrap()).run().exits(0);
    assert_not_answered(peer);
    assert_nobody_waits(&listener);
    let (ours, peer) = connection();
    world.node.handler().inetd(ours).run().exits(0);
    assert_not_answered(peer);
    assert_eq!(world.collector.count(Call::Connection), 0);
}

both!(senders_that_are_not_allowed_keep_no_handler_from_ending_and_no_timer_from_its_turn);
fn senders_that_are_not_allowed_keep_no_handler_from_ending_and_no_timer_from_its_turn(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[wake]\nallow = [\"10.0.0.0/8\", \"fd00::/8\"]\n");
    let listener = Node::listen();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                assert_not_answered(connect(&listener)); // one after the other
            }
        });
        let started_by_one = || {
            let patience = Timespec::try_from(DEADLINE).unwrap();
            assert_eq!(poll(&mut [PollFd::new(&listener, PollFlags::IN)], Some(&patience)).unwrap(), 1);
            let deaf = world.node.handler().systemd(listener.try_clone().unwrap());
            deaf.run().exits(0);
            world.collector.count(Call::Fetch)
        };
        assert_eq!(started_by_one(), 0, "there is no timer");
        // A timer came, and would have come again: systemd starts nothing that runs already.
        world.run().exits(0);
        let id = world.enqueue("echo done");
        assert_eq!(started_by_one(), 1, "it is not its turn yet");
        let last = File::options().write(true).open(world.node.path("var/actions/scheduled")).unwrap();
        let overdue = last.metadata().unwrap().modified().unwrap() - Duration::from_secs(100);
        last.set_modified(overdue).unwrap();
        assert!(started_by_one() > 1);
        assert_eq!(world.result(id).1, "done\n");
        let fetches = world.collector.count(Call::Fetch);
        done.store(true, Ordering::SeqCst);
        let _last = connect(&listener);
        assert_eq!(started_by_one(), fetches, "once is enough");
    });
    world.check();
}

both!(senders_that_are_allowed_count_and_so_do_timers);
fn senders_that_are_allowed_count_and_so_do_timers(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[wake]\nallow = [\"10.0.0.0/8\", \"127.0.0.0/8\"]\n");
    let notified = world.enqueue("echo notified");
    let listener = Node::listen();
    let _peer = knock(&listener);
    world.node.handler().systemd(listener).run().exits(0);
    assert_eq!(world.result(notified).1, "notified\n");
    world.node.configure("[wake]\nallow = [\"10.0.0.0/8\"]\n");
    let timed = world.enqueue("echo timed");
    world.run().exits(0);
    assert_eq!(world.result(timed).1, "timed\n");
    world.check();
}

both!(after_an_empty_fetch_a_notification_waits_and_a_timer_does_not);
fn after_an_empty_fetch_a_notification_waits_and_a_timer_does_not(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[wake]\nmin_interval = \"1h\"\n");
    world.run().exits(0);
    world.run().exits(0);
    assert_eq!(world.collector.count(Call::Fetch), 2);
    let listener = Node::listen();
    let peer = knock(&listener);
    let handler = world.node.handler().systemd(listener).start();
    assert_not_answered(peer); // it was heard
    handler.signal(Signal::TERM);
    handler.wait().exits(0);
    assert_eq!(world.collector.count(Call::Fetch), 2);
}

both!(a_notification_that_has_to_wait_is_not_lost);
fn a_notification_that_has_to_wait_is_not_lost(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.configure("[wake]\nmin_interval = \"300ms\"\n");
    world.run().exits(0);
    let id = world.enqueue("echo done");
    let listener = Node::listen();
    let _peer = knock(&listener);
    world.node.handler().systemd(listener).run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(a_run_that_fails_leaves_nobody_at_the_door);
fn a_run_that_fails_leaves_nobody_at_the_door(dialect: Dialect) {
    let world = World::new(dialect);
    let listener = Node::listen();
    let burst = |code: i32| {
        let peers: Vec<_> = (0..30).map(|_| knock(&listener)).collect();
        world.node.handler().systemd(listener.try_clone().unwrap()).run().exits(code);
        peers.into_iter().for_each(assert_not_answered);
        assert_nobody_waits(&listener);
        listener.set_nonblocking(false).unwrap();
    };
    world.node.remove("bin/om");
    burst(69);
    world.node.configure("nonsense\n");
    burst(78);
}

both!(whoever_sits_at_a_terminal_sees_the_running_handler_through);
fn whoever_sits_at_a_terminal_sees_the_running_handler_through(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate echo done");
    let handler = world.node.handler().start();
    world.node.wait_for_start(id);
    let person = world.node.handler().arg("dequeue").terminal().start();
    person.wait_until_prints("waiting");
    world.node.handler().args(["dequeue", "--no-wait"]).terminal().run().exits(0);
    gate.open();
    handler.wait().exits(0);
    person.wait().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(whoever_sits_at_a_terminal_sees_the_live_progress);
fn whoever_sits_at_a_terminal_sees_the_live_progress(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue_for("svc1", "start wait gate exit 3");
    let person = world.node.handler().terminal().start();
    world.node.wait_for_start(id);
    person.wait_until_prints("svc1");
    gate.open();
    let ended = person.wait();
    assert!(ended.exits(0).stdout.contains("ended with 3"), "{}", ended.stdout);
    world.check();
}

both!(every_start_is_followed_by_a_fetch_however_they_race);
fn every_start_is_followed_by_a_fetch_however_they_race(dialect: Dialect) {
    let world = World::new(dialect);
    let started: Vec<_> = (0..30)
        .map(|number| {
            let id = world.enqueue("echo done");
            let handler = world.node.handler().start();
            if number % 3 == 0 {
                world.collector.wait_for_result(id); // the handler is about to end when the next one comes
            }
            (id, handler)
        })
        .collect();
    for (_, handler) in started {
        handler.wait().exits(0);
    }
    assert_eq!(world.collector.rows().iter().filter(|row| row.status != 'T').count(), 0);
    world.check();
}

/// Ends whoever watches the socket, also when the test fails.
struct Over<'a>(&'a AtomicBool, &'a TcpListener);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
        drop(knock(self.1));
    }
}

both!(no_notification_of_a_socket_that_is_watched_is_lost);
fn no_notification_of_a_socket_that_is_watched_is_lost(dialect: Dialect) {
    let world = World::new(dialect);
    let listener = Node::listen();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // What systemd does: start the service when somebody waits, and again if somebody waits when it has ended.
        let starts = scope.spawn(|| {
            let mut starts = 0;
            while !done.load(Ordering::SeqCst) {
                poll(&mut [PollFd::new(&listener, PollFlags::IN)], None).unwrap();
                starts += 1;
                world.node.handler().systemd(listener.try_clone().unwrap()).run().exits(0);
            }
            starts
        });
        let over = Over(&done, &listener);
        let mut silent = Vec::new();
        for number in 0..25 {
            let id = world.enqueue("echo done");
            let peer = knock(&listener);
            match number % 3 {
                0 => drop(world.collector.wait_for_result(id)),
                1 => silent.push(peer),
                _ => assert_not_answered(peer),
            }
        }
        for row in world.collector.rows() {
            world.collector.wait_for_result(row.id);
        }
        silent.into_iter().for_each(assert_not_answered);
        drop(over);
        let starts = starts.join().unwrap();
        assert!(starts <= 27, "{starts} starts for 25 notifications");
    });
    world.check();
}
