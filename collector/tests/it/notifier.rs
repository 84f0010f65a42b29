//! Notifications over TCP.

use std::io::Read as _;
use std::net::TcpListener;

use crate::server::{Server, until};

fn server(port: u16) -> Server {
    let server = Server::start_with(&["--notify-delay", "0"]);
    server.json(&["node", "add", "vm", "--connect-to", "127.0.0.1", "--port", &port.to_string()]);
    server
}

fn poke(listener: &TcpListener) -> Vec<u8> {
    let mut bytes = Vec::new();
    listener.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn each_pull_row_is_notified_once_with_15_bytes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = server(listener.local_addr().unwrap().port());
    let ids = [server.enqueue("vm", "a"), server.enqueue("vm", "b")];
    for id in &ids {
        assert_eq!(poke(&listener), b"dequeue_actions");
        until("the row is notified", || server.status(id) == "N");
    }
    assert!(server.show(&ids[0])["notified"].is_string());
    // Only a redo brings another.
    server.json(&["redo", &ids[0]]);
    assert_eq!(poke(&listener), b"dequeue_actions");
    until("the row is notified again", || server.status(&ids[0]) == "N");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
}

#[test]
fn a_node_that_does_not_answer_ends_the_row_as_unreachable() {
    // Nobody listens there, nor comes to meanwhile: it is not a port that is given to whoever asks for any.
    let server = server(1);
    let id = server.enqueue("vm", "a");
    let ended = server.json(&["show", &id, "--wait", "20"]);
    assert_eq!(ended["status"], "T");
    assert_eq!((ended["ret"].as_i64(), ended["stderr"].as_str()), (Some(1), Some("unreachable")));
    assert!(ended["reported"].is_null());
}

#[test]
fn a_node_that_starts_to_listen_within_five_seconds_is_notified() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = server(port);
    server.enqueue("vm", "a");
    // The first attempt is refused, unless it comes later than this; both are fine.
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    assert_eq!(poke(&listener), b"dequeue_actions");
}

#[test]
fn a_command_for_nobody_ends_as_invalid() {
    let server = server(1);
    for command in ["  ", "ssh opensvc@localhost x"] {
        let id = server.enqueue("vm", command);
        assert_eq!(server.json(&["show", &id, "--wait", "20"])["stderr"], "invalid");
    }
}

#[test]
fn a_row_waiting_when_the_server_dies_is_notified_by_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut server = Server::start();
    let port = listener.local_addr().unwrap().port().to_string();
    server.json(&["node", "add", "vm", "--connect-to", "127.0.0.1", "--port", &port]);
    let id = server.enqueue("vm", "a");
    server.kill();
    server.restart(&["--notify-delay", "0"]);
    assert_eq!(poke(&listener), b"dequeue_actions");
    until("the row is notified", || server.status(&id) == "N");
}

#[test]
fn feed_rows_are_notified_to_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = server(listener.local_addr().unwrap().port());
    server.json(&["node", "add", "n1", "--type", "feed", "--connect-to", "127.0.0.1"]);
    let feed = server.enqueue("n1", "a");
    let pull = server.enqueue("vm", "b");
    assert_eq!(poke(&listener), b"dequeue_actions");
    until("the pull row is notified", || server.status(&pull) == "N");
    assert_eq!(server.status(&feed), "W");
}
