//! Settings that change how the collector is talked to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;

use crate::support::collector::Collector;
use crate::support::collector::fault::Call;
use crate::support::node::Node;
use crate::support::pki::Flaw;
use crate::support::world::World;
use crate::support::{DEADLINE, Dialect, NODE, UUID, both};

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

fn keyword(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Oc3 => "collector",
        Dialect::Rpc => "dbopensvc",
    }
}

both!(dbinsecure_accepts_any_certificate_and_warns);
fn dbinsecure_accepts_any_certificate_and_warns(dialect: Dialect) {
    for flaw in [Flaw::Expired, Flaw::OtherName, Flaw::OtherAuthority] {
        let world = World::with_flaw(dialect, flaw);
        let id = world.enqueue("echo done");
        let url = world.collector.url();
        let conf = format!("[node]\n{} = {url}\nuuid = {UUID}\ndbinsecure = true\n", keyword(dialect));
        world.node.write("etc/node.conf", conf);
        world.run().exits(0).says("dbinsecure");
        assert_eq!(world.result(id).1, "done\n", "{flaw:?}");
    }
}

both!(http_to_loopback_is_accepted);
fn http_to_loopback_is_accepted(dialect: Dialect) {
    let world = World::at(Collector::plain(), dialect);
    let id = world.enqueue("echo done");
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(http_to_anywhere_else_is_78_with_both_ways_out);
fn http_to_anywhere_else_is_78_with_both_ways_out(dialect: Dialect) {
    let node = Node::bare();
    node.write("etc/node.conf", format!("[node]\n{} = http://192.0.2.1\nuuid = {UUID}\n", keyword(dialect)));
    node.run().exits(78).says("https").says("dbinsecure").says("etc/node.conf:2");
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

both!(cluster_conf_lies_under_node_conf);
fn cluster_conf_lies_under_node_conf(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let url = format!("[node]\n{} = {}\n", keyword(dialect), world.collector.url());
    world.node.write("etc/cluster.conf", &url);
    world.node.write("etc/node.conf", format!("[node]\nuuid = {UUID}\n"));
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(the_root_can_come_from_the_environment);
fn the_root_can_come_from_the_environment(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    world.node.handler_without_root().env("OSVC_ROOT_PATH", world.node.root()).run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(config_replaces_actions_toml_and_its_drop_ins);
fn config_replaces_actions_toml_and_its_drop_ins(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done");
    let good = std::fs::read_to_string(world.node.path("etc/actions.toml")).unwrap();
    let file = world.node.write("etc/other.toml", good);
    world.node.write("etc/actions.toml", "nonsense");
    world.node.configure("nonsense");
    world.run().exits(78);
    world.node.handler().arg("--config").arg(file).run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(show_config_talks_to_nobody_and_shows_no_secret);
fn show_config_talks_to_nobody_and_shows_no_secret(dialect: Dialect) {
    let world = World::new(dialect);
    for args in [&["show-config"][..], &["show-config", "--json"]] {
        let ended = world.node.handler().args(args).run();
        let shown = &ended.exits(0).stdout;
        assert!(shown.contains("<redacted>") && shown.contains(NODE) && shown.contains(&world.collector.url()));
    }
    let shown = world.node.handler().args(["show-config", "--json"]).run().stdout;
    serde_json::from_str::<serde_json::Value>(&shown).unwrap();
    world.node.configure("[execution]\ntimeout = \"soon\"\n");
    world.node.handler().args(["show-config"]).run().exits(78).says("actions.d/50-test.toml:2");
    assert_eq!(world.collector.count(Call::Connection), 0);
}

both!(without_a_uuid_it_is_78_and_says_how_to_register);
fn without_a_uuid_it_is_78_and_says_how_to_register(dialect: Dialect) {
    let world = World::new(dialect);
    world.node.write("etc/node.conf", format!("[node]\n{} = {}\n", keyword(dialect), world.collector.url()));
    world.run().exits(78).says("register");
    assert_eq!(world.collector.count(Call::Connection), 0);
}

#[test]
fn without_any_collector_it_is_78_and_says_what_to_set() {
    let node = Node::bare();
    node.write("etc/node.conf", format!("[node]\nuuid = {UUID}\n"));
    node.run().exits(78).says("dbopensvc").says("collector_feeder");
    let node = Node::bare();
    node.run().exits(78).says("etc/node.conf");
}

#[test]
fn collector_feeder_is_the_base_itself() {
    let world = World::new(Dialect::Oc3);
    let id = world.enqueue("echo done");
    let url = world.collector.url();
    let conf = format!("[node]\ncollector = https://192.0.2.1\ncollector_feeder = {url}/feeder/\nuuid = {UUID}\n");
    world.node.write("etc/node.conf", conf);
    world.run().exits(0);
    assert_eq!(world.result(id).1, "done\n");
}
