//! Where inetd listens: Debian's openbsd-inetd, with the lines of `units/inetd.conf`.

use std::fs;
use std::path::Path;

use crate::harness::{Machine, Queue, seen};

/// The line of `units/inetd.conf` for this way of waiting, in force.
fn line(wait: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("units/inetd.conf")).unwrap();
    let mut lines = text.lines().map(|line| line.trim_start_matches('#'));
    let line = lines.find(|line| line.starts_with("1214 ") && line.contains(&format!(" {wait}.")));
    format!("{}\n", line.unwrap_or_else(|| panic!("no line with {wait}")))
}

fn inetd(wait: &str) {
    let machine = Machine::with_inetd(&format!("inetd-{wait}"));
    let collector = machine.collector(Queue::Rpc);
    machine.write("/etc/inetd.conf", line(wait));
    machine.ok(&["systemctl", "restart", "inetd.service"]);
    machine.wait_for("inetd to listen", || machine.sh("ss -Hltn sport = :1214").contains("1214"));

    let node = collector.enqueue("echo hello");
    assert_eq!(collector.result(node)["stdout"], "hello\n");
    let service = collector.enqueue_for("svc1", "fail 3 no");
    assert_eq!(collector.result(service)["ret"], 3);

    // A burst, with a row in it.
    let peer = machine.start_peer(300, 100, "notify");
    let last = collector.enqueue("echo last");
    let seen = seen(&peer.finish().stdout);
    assert_eq!((seen.connected, seen.refused, seen.received_bytes, seen.unanswered), (300, 0, 0, 0), "{seen:?}");
    assert_eq!(collector.result(last)["stdout"], "last\n");
    assert_eq!(machine.ran(), ["node echo hello", "svc -s svc1 fail 3 no", "node echo last"]);

    // A row that is announced while a command runs.
    let first = collector.enqueue("await /run/go-on");
    machine.wait_for("the command", || machine.is_running("node await /run/go-on"));
    let second = collector.enqueue("echo second");
    machine.peer(3, 1, "notify");
    machine.sh("touch /run/go-on");
    assert_eq!(collector.result(first)["ret"], 0);
    assert_eq!(collector.result(second)["stdout"], "second\n");
    assert_eq!(machine.ran().len(), 5);

    // Not even what goes wrong is said to a peer: standard error is its socket.
    machine.write("/etc/opensvc/actions.toml", "nonsense = true\n");
    let seen = machine.peer(3, 1, "notify");
    assert_eq!((seen.connected, seen.received_bytes, seen.unanswered), (3, 0, 0), "{seen:?}");
    assert!(machine.sh("ss -Hltn sport = :1214").contains("1214"), "inetd closed the port");
}

#[test]
fn openbsd_inetd_with_wait() {
    inetd("wait");
}

#[test]
fn openbsd_inetd_with_nowait() {
    inetd("nowait");
}
