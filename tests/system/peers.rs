//! Everything that may connect to port 1214.

use std::time::{Duration, Instant};

use crate::harness::{Machine, Queue, seen};

#[test]
fn ten_thousand_notifications_leave_the_socket_open_and_cost_a_bounded_number_of_fetches() {
    let machine = Machine::with_product("burst");
    let collector = machine.collector(Queue::Rpc);
    machine.log_everything();
    machine.enable_socket();
    let before = collector.fetches();
    let peer = machine.start_peer(10_000, 2_000, "notify");
    let ids: Vec<_> = (0..10).map(|number| collector.enqueue(&format!("echo {number}"))).collect();
    let seen = seen(&peer.finish().stdout);
    assert_eq!((seen.connected, seen.refused, seen.received_bytes, seen.unanswered), (10_000, 0, 0, 0));
    for id in ids {
        assert_eq!(collector.result(id)["ret"], 0);
    }
    assert_eq!(machine.ran().len(), 10);
    machine.wait_until_idle();
    assert_eq!(machine.property("opensvc-actions.socket", "ActiveState"), "active");
    let fetches = collector.fetches() - before;
    assert!((1..=60).contains(&fetches), "{fetches} fetches for 10,000 notifications");
}

#[test]
fn a_thousand_notifications_with_one_process_each_do_no_harm_either() {
    let machine = Machine::with_product("burst-accept-yes");
    machine.install_accept_yes();
    let collector = machine.collector(Queue::Rpc);
    machine.log_everything();
    machine.enable_socket();
    let before = collector.fetches();
    let peer = machine.start_peer(1_000, 1_000, "notify");
    let ids: Vec<_> = (0..10).map(|number| collector.enqueue(&format!("echo {number}"))).collect();
    let seen = seen(&peer.finish().stdout);
    assert_eq!((seen.connected, seen.refused, seen.received_bytes, seen.unanswered), (1_000, 0, 0, 0));
    for id in ids {
        // While it starts a thousand units the manager starts no command.
        let what = format!("the result of {id}");
        machine.wait_at_most(Duration::from_secs(180), &what, || collector.show(id)["status"] == "T");
        assert_eq!(collector.show(id)["ret"], 0);
    }
    assert_eq!(machine.ran().len(), 10);
    assert_eq!(machine.property("opensvc-actions.socket", "SubState"), "listening");
    let left = || machine.sh("systemctl list-units --all --no-legend --plain 'opensvc-actions@*' | wc -l");
    machine.wait_for("no instance to stay behind", || left() == "0");
    assert_eq!(machine.property("opensvc-actions.socket", "NRefused"), "0");
    let fetches = collector.fetches() - before;
    assert!((1..=60).contains(&fetches), "{fetches} fetches for 1,000 notifications");
}

#[test]
fn with_one_process_for_each_connection_failures_neither_reach_the_peer_nor_stay_behind() {
    let machine = Machine::with_product("failures-accept-yes");
    machine.install_accept_yes();
    machine.write("/etc/opensvc/actions.toml", "nonsense = true\n");
    machine.enable_socket();
    let seen = machine.peer(50, 50, "notify");
    assert_eq!((seen.connected, seen.received_bytes, seen.unanswered), (50, 0, 0));
    let left = || machine.sh("systemctl list-units --all --no-legend --plain 'opensvc-actions@*' | wc -l");
    machine.wait_for("no instance to stay behind", || left() == "0");
    assert_eq!(machine.property("opensvc-actions.socket", "SubState"), "listening");
    let lines = machine.journal(&["_EXE=/usr/bin/opensvc-actions"]);
    assert!(lines.iter().any(|line| line["MESSAGE"].as_str().is_some_and(|it| it.contains("nonsense"))), "{lines:#?}");
}

#[test]
fn with_one_process_for_each_connection_the_timer_still_has_a_service_of_its_own() {
    let machine = Machine::with_product("timer-accept-yes");
    machine.install_accept_yes();
    let collector = machine.collector(Queue::Oc3);
    machine.enable_socket();
    let id = collector.enqueue("echo hello");
    machine.ok(&["systemctl", "start", "opensvc-actions.service"]);
    assert_eq!(collector.result(id)["stdout"], "hello\n");
    assert_eq!(machine.property("opensvc-actions.socket", "SubState"), "listening");
}

#[test]
fn slow_silent_oversized_junk_and_reset_connections_cost_nothing_and_are_never_answered() {
    odd_peers(false);
}

#[test]
fn with_one_process_for_each_connection_odd_peers_cost_nothing_either() {
    odd_peers(true);
}

fn odd_peers(accept_yes: bool) {
    let machine = Machine::with_product(if accept_yes { "odd-peers-accept-yes" } else { "odd-peers" });
    if accept_yes {
        machine.install_accept_yes();
    }
    let collector = machine.collector(Queue::Rpc);
    machine.enable_socket();
    let modes = [("silent", 100), ("slow", 50), ("huge", 5), ("junk", 50), ("empty", 50), ("reset", 50)];
    let started = Instant::now();
    let peers = modes.map(|(mode, count)| (mode, count, machine.start_peer(count, count, mode)));
    let id = collector.enqueue("echo in spite of all");
    assert_eq!(collector.result(id)["stdout"], "in spite of all\n");
    assert!(started.elapsed() < Duration::from_secs(15), "the action waited {:?} for its peers", started.elapsed());
    for (mode, count, peer) in peers {
        let seen = seen(&peer.finish().stdout);
        assert_eq!((seen.connected, seen.refused), (count.into(), 0), "{mode}: {seen:?}");
        assert_eq!((seen.received_bytes, seen.unanswered), (0, 0), "{mode}: {seen:?}");
        if mode == "huge" {
            assert!(seen.sent_bytes < 60 << 20, "{mode}: all of it was read: {seen:?}");
        }
    }
    machine.wait_until_idle();
    assert_eq!(machine.property("opensvc-actions.socket", "ActiveState"), "active");
}

#[test]
fn the_two_unit_files_of_the_opensvc_documentation_work_with_only_the_command_changed() {
    let machine = Machine::with_product("documentation");
    machine.sh("rm -r /usr/lib/systemd/system/opensvc-actions*");
    machine.write(
        "/etc/systemd/system/opensvc-actions@.service",
        "[Unit]\n\
         Description=OpenSVC collector-queued actions handler\n\n\
         [Service]\n\
         ExecStart=/usr/bin/opensvc-actions\n\
         RemainAfterExit=yes\n",
    );
    machine.write(
        "/etc/systemd/system/opensvc-actions.socket",
        "[Unit]\n\
         Description=OpenSVC socket to receive collector notifications that actions are queued for the local agent\n\n\
         [Socket]\n\
         ListenStream=1214\n\
         Accept=yes\n\
         Service=opensvc-actions\n\n\
         [Install]\n\
         WantedBy=sockets.target\n",
    );
    machine.ok(&["systemctl", "daemon-reload"]);
    let collector = machine.collector(Queue::Rpc);
    machine.ok(&["systemctl", "start", "opensvc-actions.socket"]);
    let node = collector.enqueue("echo hello");
    assert_eq!(collector.result(node)["stdout"], "hello\n");
    let service = collector.enqueue_for("svc1", "fail 4 no");
    assert_eq!(collector.result(service)["ret"], 4);
    assert_eq!(machine.ran().len(), 2);
}
