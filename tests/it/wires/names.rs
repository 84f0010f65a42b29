//! Collectors whose names do not resolve: a name server of our own, which the handler sees in a mount namespace of its own.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support::collector::Collector;
use crate::support::node::Node;
use crate::support::process::Ended;
use crate::support::{Dialect, UUID, Wire};

const NAME: &str = "collector.test";

/// What it says to a question.
#[derive(Clone, Copy)]
enum Says {
    Nothing,
    /// That there is no such name, so many times; then that it is this machine.
    NoSuchName(usize),
}

struct NameServer {
    address: Ipv4Addr,
    /// How often it was asked for the address.
    asked: Arc<AtomicUsize>,
}

impl NameServer {
    fn start(says: Says) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        // An address that nobody else on this machine has: the port cannot be chosen.
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let number = u8::try_from(NEXT.fetch_add(1, Ordering::SeqCst)).unwrap();
        let address = Ipv4Addr::new(127, 100 + number, high, low.clamp(1, 254));
        let socket = UdpSocket::bind((address, 53)).expect("port 53 of an own loopback address (needs root)");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut question) {
                let question = &question[..length];
                if is_for_ipv4(question) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                if let Says::NoSuchName(times) = says {
                    let _ = socket.send_to(&answer(question, count.load(Ordering::SeqCst) > times), peer);
                }
            }
        });
        Self { address, asked }
    }
}

/// The end of the name in a question.
fn name_end(question: &[u8]) -> usize {
    let mut at = 12;
    while question.get(at).is_some_and(|length| *length > 0) {
        at += usize::from(question[at]) + 1;
    }
    at + 1
}

fn is_for_ipv4(question: &[u8]) -> bool {
    question[name_end(question)..].starts_with(&[0, 1])
}

/// No such name; or that it is 127.0.0.1, and has no other kind of address.
fn answer(question: &[u8], known: bool) -> Vec<u8> {
    let end = (name_end(question) + 4).min(question.len());
    let is_ipv4 = known && is_for_ipv4(question);
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, if known { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(is_ipv4), 0, 0, 0, 0]);
    answer.extend(&question[12..end]);
    if is_ipv4 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
    }
    answer
}

/// Runs the handler where this is the only name server.
fn run(node: &Node, server: &NameServer) -> Ended {
    let root = node.root().display();
    node.write("resolv.conf", format!("nameserver {}\noptions attempts:1 timeout:1\nsearch .\n", server.address));
    node.write("nsswitch.conf", "hosts: dns\n");
    node.install_script(
        "where-names-are-ours",
        &format!(
            "#!/bin/sh -e\nmount --bind {root}/resolv.conf /etc/resolv.conf\n\
             mount --bind {root}/nsswitch.conf /etc/nsswitch.conf\nexec \"$@\"\n"
        ),
    );
    let words = ["/usr/bin/unshare", "-m", "--"].map(std::path::PathBuf::from);
    node.handler().within(words.into_iter().chain([node.path("bin/where-names-are-ours")])).run()
}

fn node(collector: &Collector) -> Node {
    let node = Node::over(collector, &[Wire::RpcXml]);
    let port = collector.port();
    node.write(
        "etc/node.conf",
        format!("[node]\ndbopensvc = http://{NAME}:{port}\ndbinsecure = true\nuuid = {UUID}\n"),
    );
    node
}

#[test]
fn a_name_is_resolved_anew_at_each_try() {
    let collector = Collector::plain();
    let node = node(&collector);
    let id = collector.enqueue(Dialect::Rpc, "echo done");
    let server = NameServer::start(Says::NoSuchName(2));
    run(&node, &server).exits(0);
    assert_eq!(collector.row(id).stdout.as_deref(), Some("done\n"));
    assert!(server.asked.load(Ordering::SeqCst) >= 3);
}

#[test]
fn a_name_that_nobody_knows_is_75_and_costs_no_request() {
    let collector = Collector::plain();
    let node = node(&collector);
    collector.enqueue(Dialect::Rpc, "echo done");
    let server = NameServer::start(Says::NoSuchName(usize::MAX));
    run(&node, &server).exits(75).says(NAME);
    // A try and its three repetitions.
    assert!(server.asked.load(Ordering::SeqCst) >= 4);
    assert_eq!(node.starts(), []);
}

#[test]
fn a_name_server_that_says_nothing_is_not_waited_for_longer_than_for_a_connection() {
    let collector = Collector::plain();
    let node = node(&collector);
    node.configure("[collector]\nconnect_timeout = \"100ms\"\n");
    let server = NameServer::start(Says::Nothing);
    run(&node, &server).exits(75).says(NAME);
    assert!(server.asked.load(Ordering::SeqCst) >= 1);
}
