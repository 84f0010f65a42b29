//! Another dequeuer on the node: seen, said, and nothing is fetched beside it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;

use crate::support::collector::fault::{Call, Fault, When};
use crate::support::node::Node;
use crate::support::process::Launch;
use crate::support::world::World;
use crate::support::{Dialect, both};

/// Tells the node that the collector notifies it on this port.
fn notify_on(node: &Node, port: u16) {
    let conf = fs::read_to_string(node.path("etc/node.conf")).unwrap();
    let conf = conf.split("[listener]").next().unwrap().to_owned();
    node.write("etc/node.conf", format!("{conf}[listener]\nport = {port}\n"));
}

/// The socket at which a daemon answers.
fn daemon(node: &Node, name: &str) -> UnixListener {
    fs::create_dir_all(node.path("var/lsnr")).unwrap();
    UnixListener::bind(node.path(&format!("var/lsnr/{name}"))).unwrap()
}

const fn socket_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Oc3 => "http.sock",
        Dialect::Rpc => "lsnr.sock",
    }
}

both!(a_daemon_that_answers_is_69_and_nothing_is_fetched);
fn a_daemon_that_answers_is_69_and_nothing_is_fetched(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let daemon = daemon(&world.node, socket_of(dialect));
    let ended = world.run();
    ended.exits(69).says(socket_of(dialect)).says("systemctl disable --now").says("exclusive = true");
    assert_eq!(world.collector.count(Call::Fetch), 0);
    // The file stays when a daemon dies, and is nobody then.
    drop(daemon);
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(the_daemon_of_another_world_is_in_nobodys_way);
fn the_daemon_of_another_world_is_in_nobodys_way(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let other = if dialect == Dialect::Oc3 { Dialect::Rpc } else { Dialect::Oc3 };
    let _daemon = daemon(&world.node, socket_of(other));
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
}

both!(status_shows_it);
fn status_shows_it(dialect: Dialect) {
    let world = World::new(dialect);
    let _daemon = daemon(&world.node, socket_of(dialect));
    let screen = world.node.handler().arg("status").run();
    assert!(screen.exits(0).stdout.contains(socket_of(dialect)), "{screen:?}");
    let json = world.node.handler().args(["status", "--json"]).run();
    let json: serde_json::Value = serde_json::from_str(&json.exits(0).stdout).unwrap();
    let kind = if dialect == Dialect::Oc3 { "daemon_3" } else { "daemon_2" };
    assert_eq!(json["dequeuers"][0]["kind"], kind);
}

both!(a_site_may_say_that_it_has_arranged_it);
fn a_site_may_say_that_it_has_arranged_it(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let _daemon = daemon(&world.node, socket_of(dialect));
    world.node.configure(&format!("[collector.{}]\nexclusive = true\n", dialect.name()));
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
}

#[test]
fn only_the_contested_queue_is_left_alone() {
    let world = World::new(Dialect::Oc3);
    world.node.register(&[(Dialect::Oc3, &world.collector), (Dialect::Rpc, &world.collector)]);
    let contested = world.collector.enqueue(Dialect::Oc3, "echo contested");
    let free = world.collector.enqueue(Dialect::Rpc, "echo free");
    let daemon = daemon(&world.node, "http.sock");
    world.run().exits(69).says("oc3 is not fetched");
    assert_eq!(world.collector.row(free).stdout.as_deref(), Some("free\n"));
    assert_eq!(world.collector.row(contested).status, 'W');
    drop(daemon);
    world.run().exits(0);
    assert_eq!(world.collector.row(contested).stdout.as_deref(), Some("contested\n"));
}

both!(what_is_left_is_reported_all_the_same);
fn what_is_left_is_reported_all_the_same(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.collector.fail(Call::Report, When::Always, Fault::ResetBefore);
    world.run().exits(75);
    world.collector.heal();
    let _daemon = daemon(&world.node, socket_of(dialect));
    world.run().exits(69);
    assert_eq!(world.result(id).1, "done\n");
}

both!(a_stranger_on_the_port_matters_where_notifications_do);
fn a_stranger_on_the_port_matters_where_notifications_do(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let held = TcpListener::bind(address).unwrap(); // by this test, which is no service manager
        notify_on(&world.node, held.local_addr().unwrap().port());
        if dialect == Dialect::Rpc {
            let ended = world.run();
            ended.exits(69).says(&format!("process {}", std::process::id())).says("listener.port");
            assert_eq!(world.collector.count(Call::Fetch), 0);
        } else {
            world.run().exits(0);
        }
    }
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
}

#[test]
fn who_listens_for_others_is_no_stranger() {
    let world = World::new(Dialect::Rpc);
    for (name, exit) in
        [("inetd", 0), ("xinetd", 0), ("inetutils-inetd", 0), ("rlinetd", 0), ("systemd", 0), ("nc", 69)]
    {
        let socket = Node::listen();
        notify_on(&world.node, socket.local_addr().unwrap().port());
        // A process of that name, which does nothing but hold the socket.
        let program = world.node.path(&format!("bin/{name}"));
        symlink("/bin/sleep", &program).unwrap();
        let mut holder =
            Command::new(&program).arg("infinity").stdin(std::os::fd::OwnedFd::from(socket)).spawn().unwrap();
        let ended = world.run();
        holder.kill().unwrap();
        holder.wait().unwrap();
        ended.exits(exit);
    }
}

#[test]
fn a_connection_to_somewhere_else_from_that_port_is_no_listener() {
    let world = World::new(Dialect::Rpc);
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = TcpStream::connect(elsewhere.local_addr().unwrap()).unwrap();
    notify_on(&world.node, connection.local_addr().unwrap().port());
    world.run().exits(0);
}

#[test]
fn the_port_is_ours_when_its_socket_was_handed_to_us() {
    // Whoever hands it over holds it as well: here this test, elsewhere the service manager or inetd.
    let world = World::new(Dialect::Rpc);
    for way in [Launch::systemd as fn(Launch, TcpListener) -> Launch, Launch::inetd] {
        let id = world.enqueue("echo done");
        let socket = Node::listen();
        notify_on(&world.node, socket.local_addr().unwrap().port());
        way(world.node.handler(), socket.try_clone().unwrap()).run().exits(0);
        assert_eq!(world.result(id).1, "done\n");
    }
    for way in [Launch::systemd as fn(Launch, TcpStream) -> Launch, Launch::inetd] {
        let id = world.enqueue("echo done");
        let socket = Node::listen();
        let address = socket.local_addr().unwrap();
        notify_on(&world.node, address.port());
        let _peer = TcpStream::connect(address).unwrap();
        way(world.node.handler(), socket.accept().unwrap().0).run().exits(0);
        assert_eq!(world.result(id).1, "done\n");
    }
}

#[test]
fn the_socket_is_drained_before_anything_is_refused() {
    let world = World::new(Dialect::Rpc);
    let _daemon = daemon(&world.node, "lsnr.sock");
    let socket = Node::listen();
    let peers: Vec<_> = (0..3).map(|_| TcpStream::connect(socket.local_addr().unwrap()).unwrap()).collect();
    world.node.handler().systemd(socket.try_clone().unwrap()).run().exits(69);
    socket.set_nonblocking(true).unwrap();
    assert!(socket.accept().is_err(), "somebody still waits");
    drop(peers);
}

/// A handler that holds the port, as one under inetd or `systemd-socket-activate` does, while an action runs.
#[test]
fn a_second_copy_with_other_state_is_refused_and_the_same_one_is_not() {
    let world = World::new(Dialect::Rpc);
    let socket = Node::listen();
    let port = socket.local_addr().unwrap().port();
    notify_on(&world.node, port);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate echo done");
    let handler = world.node.handler().systemd(socket).start(); // the only one who has the socket from now on
    world.node.wait_for_start(id);
    world.node.handler().arg("dequeue").run().exits(0); // it was told

    let other = World::new(Dialect::Oc3);
    notify_on(&other.node, port);
    other.enqueue("echo twice");
    let ended = other.run();
    ended
        .exits(69)
        .says(&format!("process {}", handler.pid()))
        .says(&world.node.path("var/actions").display().to_string());
    assert_eq!(other.collector.count(Call::Fetch), 0);
    gate.open();
    handler.wait().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    other.run().exits(0);
}

#[test]
fn the_same_state_by_another_name_is_no_second_copy() {
    let world = World::new(Dialect::Rpc);
    let socket = Node::listen();
    notify_on(&world.node, socket.local_addr().unwrap().port());
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("wait gate");
    let handler = world.node.handler().systemd(socket).start();
    world.node.wait_for_start(id);
    let other_name = world.node.path("link");
    symlink(world.node.root(), &other_name).unwrap();
    let status = world.node.handler_without_root().arg("--root").arg(&other_name).args(["status", "--json"]).run();
    let status: serde_json::Value = serde_json::from_str(&status.exits(0).stdout).unwrap();
    assert_eq!(status["dequeuers"], serde_json::json!([]));
    gate.open();
    handler.wait().exits(0);
    world.check();
}

#[test]
fn whom_proc_does_not_show_is_not_accused() {
    let world = World::new(Dialect::Rpc);
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    notify_on(&world.node, held.local_addr().unwrap().port());
    // In a pid name space of its own, whose /proc does not show this test.
    let shell = ["unshare", "--pid", "--fork", "--mount-proc"].map(Into::into);
    world.node.handler().within(shell).run().exits(0);
}
