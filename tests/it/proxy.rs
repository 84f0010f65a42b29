//! Proxies between the node and its collectors: which is used when, and who learns its password.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;

use crate::support::collector::Collector;
use crate::support::collector::fault::Call;
use crate::support::node::Node;
use crate::support::world::World;
use crate::support::{DEADLINE, Dialect, base64, both};

/// A proxy that refuses everybody, and tells what it was asked.
fn proxy() -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, asked) = channel();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut line = String::new();
            let mut reader = BufReader::new(stream);
            let _ = reader.read_line(&mut line);
            if sender.send(line).is_err() {
                return;
            }
            let mut rest = String::new();
            while reader.read_line(&mut rest).is_ok_and(|length| length > 2) {
                rest.clear();
            }
            let _ =
                reader.get_mut().write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (url, asked)
}

both!(a_proxy_of_the_environment_is_used_and_proxy_none_is_obeyed);
fn a_proxy_of_the_environment_is_used_and_proxy_none_is_obeyed(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let (url, asked) = proxy();
    world.node.handler().env("HTTPS_PROXY", &url).run().exits(75);
    let connect = format!("CONNECT 127.0.0.1:{} ", world.collector.port());
    assert!(asked.recv_timeout(DEADLINE).unwrap().starts_with(&connect));
    assert_eq!(world.collector.count(Call::Connection), 0);
    world.node.configure("[collector]\nproxy = \"none\"\n");
    world.node.handler().env("HTTPS_PROXY", &url).run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(no_proxy_of_the_environment_is_obeyed);
fn no_proxy_of_the_environment_is_obeyed(dialect: Dialect) {
    let world = World::new(dialect);
    let (url, _asked) = proxy();
    world.node.handler().env("HTTPS_PROXY", &url).env("NO_PROXY", "127.0.0.1").run().exits(0);
    assert_eq!(world.collector.count(Call::Fetch), 1);
}

both!(a_proxy_of_the_settings_is_used_and_its_password_is_not_said);
fn a_proxy_of_the_settings_is_used_and_its_password_is_not_said(dialect: Dialect) {
    let world = World::new(dialect);
    let (url, asked) = proxy();
    let with_password = url.replace("://", "://user:hunter2@");
    world.node.configure(&format!("[collector]\nproxy = {with_password:?}\n"));
    let ended = world.node.handler().args(["-vv"]).run();
    assert!(!ended.exits(75).stderr.contains("hunter2"), "{}", ended.stderr);
    assert!(asked.recv_timeout(DEADLINE).unwrap().starts_with("CONNECT "));
}

/// Waits until the proxy has heard a whole request, and tells its head.
fn proxy_that_shows_heads() -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, asked) = channel();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let (mut head, mut reader) = (String::new(), BufReader::new(stream));
            while reader.read_line(&mut head).is_ok_and(|length| length > 2) {}
            let _ = reader.get_mut().write_all(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n");
            if sender.send(head).is_err() {
                return;
            }
        }
    });
    (address, asked)
}

both!(a_proxy_gets_its_password_decoded_and_nobody_else_does);
fn a_proxy_gets_its_password_decoded_and_nobody_else_does(dialect: Dialect) {
    let (address, asked) = proxy_that_shows_heads();
    let url = format!("http://user:hunter%402@{address}");
    let expected = format!("proxy-authorization: basic {}", base64(b"user:hunter@2")).to_lowercase();
    let world = World::new(dialect);
    let run = |from_environment: bool| {
        let handler = world.node.handler().arg("-vv");
        if from_environment { handler.env("HTTPS_PROXY", &url).run() } else { handler.run() }
    };
    for from_environment in [true, false] {
        let settings = if from_environment { String::new() } else { format!("[collector]\nproxy = {url:?}\n") };
        world.node.configure(&settings);
        let ended = run(from_environment);
        ended.exits(75);
        for secret in ["hunter", &base64(b"user:hunter@2")] {
            assert!(!ended.stderr.contains(secret), "{}", ended.stderr);
        }
        let head = asked.recv_timeout(DEADLINE).unwrap();
        assert!(head.starts_with("CONNECT ") && head.to_lowercase().contains(&expected), "{head}");
        assert!(!head.to_lowercase().contains("\r\nauthorization:"), "the collector's secret: {head}");
    }
    let shown = world.node.handler().args(["show-config"]).run();
    assert!(shown.exits(0).stdout.contains(&format!("http://<redacted>@{address}")), "{}", shown.stdout);
    assert!(!shown.stdout.contains("hunter"));
    assert_eq!(world.collector.count(Call::Connection), 0);
}

#[test]
fn a_proxy_can_be_for_one_queue_alone() {
    let (oc3, rpc) = (Collector::start(), Collector::start());
    let node = Node::bare();
    node.register(&[(Dialect::Oc3, &oc3), (Dialect::Rpc, &rpc)]);
    let (url, asked) = proxy();
    node.configure(&format!("[collector]\nproxy = {url:?}\n[collector.rpc]\nproxy = \"none\"\n"));
    node.run().exits(75);
    assert!(asked.recv_timeout(DEADLINE).unwrap().starts_with(&format!("CONNECT 127.0.0.1:{} ", oc3.port())));
    assert_eq!((oc3.count(Call::Connection), rpc.count(Call::Fetch)), (0, 1));
}

both!(what_is_said_to_this_machine_in_plain_http_goes_through_no_proxy);
fn what_is_said_to_this_machine_in_plain_http_goes_through_no_proxy(dialect: Dialect) {
    let world = World::at(Collector::plain(), dialect);
    let (url, asked) = proxy();
    for settings in [String::new(), format!("[collector]\nproxy = {url:?}\n")] {
        world.node.configure(&settings);
        let id = world.enqueue("echo done");
        let handler = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"]
            .into_iter()
            .fold(world.node.handler(), |handler, name| handler.env(name, &url));
        handler.run().exits(0);
        assert_eq!(world.result(id).1, "done\n");
    }
    assert_eq!(asked.try_recv().ok(), None, "the node's secret left the machine");
    world.check();
}

both!(the_password_of_a_proxy_that_is_down_is_not_said);
fn the_password_of_a_proxy_that_is_down_is_not_said(dialect: Dialect) {
    let closed = Collector::plain();
    closed.down();
    let url = closed.url().replace("://", "://user:hunter2@");
    let world = World::new(dialect);
    for from_environment in [true, false] {
        let settings = if from_environment { String::new() } else { format!("[collector]\nproxy = {url:?}\n") };
        world.node.configure(&settings);
        let handler = world.node.handler().arg("-vv");
        let handler = if from_environment { handler.env("HTTPS_PROXY", &url) } else { handler };
        let ended = handler.run();
        assert!(!ended.exits(75).stderr.contains("hunter2"), "{}", ended.stderr);
        let status = world.node.handler().args(["status", "--json"]).run();
        assert!(!status.stdout.contains("hunter2"), "{}", status.stdout);
    }
    assert_eq!(world.collector.count(Call::Connection), 0);
}
