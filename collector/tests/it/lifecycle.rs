//! Starting, stopping, dying, and what stays.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::exchange::{connect, read_answer, request};
use crate::server::{Server, command, until};

fn serve(server: &Server, arguments: &[&str]) -> Output {
    command()
        .args(["serve", "--listen", "127.0.0.1:0", "--state"])
        .arg(server.state())
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn every_acknowledged_row_survives_kill_9() {
    let mut server = Server::start();
    server.json(&["node", "add", "n1"]);
    let bearer = format!("Bearer {}", std::fs::read_to_string(server.file("token")).unwrap().trim());
    let post =
        request("POST", "/api/operator/actions", &[("Authorization", &bearer)], br#"{"node":"n1","command":"a"}"#);
    let (address, ca) = (server.address, server.file("ca.pem"));
    let dying = AtomicBool::new(false);
    let acknowledged = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut ids = Vec::new();
                    while !dying.load(Ordering::SeqCst) {
                        let mut stream = connect(address, &ca);
                        let mut bytes = Vec::new();
                        // Once the server is killed any of these may fail; a half answer is no acknowledgement.
                        if stream.write_all(&post).is_err() || stream.read_to_end(&mut bytes).is_err() {
                            break;
                        }
                        let text = String::from_utf8(bytes).unwrap();
                        let Some((_, body)) = text.split_once("\r\n\r\n") else { break };
                        let Ok(action) = serde_json::from_str::<serde_json::Value>(body) else { break };
                        ids.push(action["id"].as_i64().unwrap());
                        if ids.len() == 25 {
                            dying.store(true, Ordering::SeqCst);
                        }
                    }
                    ids
                })
            })
            .collect();
        until("some rows are acknowledged", || dying.load(Ordering::SeqCst));
        server.kill();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    server.restart(&["--no-notify"]);
    let list = server.json(&["list"]);
    let kept: Vec<i64> = list["actions"].as_array().unwrap().iter().map(|a| a["id"].as_i64().unwrap()).collect();
    assert!(acknowledged.len() >= 25);
    for id in acknowledged {
        assert!(kept.contains(&id), "action {id} is lost");
    }
}

#[test]
fn a_second_server_on_the_same_state_is_refused() {
    let server = Server::start();
    let output = serve(&server, &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("another `serve` runs on this state"), "{said}");
    server.json(&["list"]);
}

#[test]
fn a_restart_keeps_the_authority_the_certificate_and_the_token() {
    let mut server = Server::start();
    let files = ["ca.pem", "ca.key", "server.pem", "server.key", "token"];
    let read = |server: &Server, name: &str| std::fs::read(server.file(name)).unwrap();
    let before = files.map(|name| read(&server, name));
    server.kill();
    server.restart(&["--no-notify"]);
    assert_eq!(files.map(|name| read(&server, name)), before);
    server.kill();
    server.restart(&["--no-notify", "--name", "collector.example.com"]);
    assert_eq!(read(&server, "ca.pem"), before[0]);
    assert_ne!(read(&server, "server.pem"), before[2], "it has one more name");
    server.json(&["list"]);
}

#[test]
fn a_certificate_about_to_expire_is_renewed() {
    let mut server = Server::start();
    let path = server.file("server.pem");
    let before = std::fs::read_to_string(&path).unwrap();
    let (_, rest) = before.split_once('\n').unwrap();
    std::fs::write(&path, format!("expires 1795251003000\n{rest}")).unwrap();
    server.kill();
    server.restart(&["--no-notify"]);
    assert_ne!(std::fs::read_to_string(&path).unwrap().split_once("-----").unwrap().1, rest);
    server.json(&["list"]);
}

#[test]
fn everything_in_the_state_is_for_its_owner_only() {
    let server = Server::start();
    server.json(&["node", "add", "n1"]);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&server.state()), 0o700);
    for entry in std::fs::read_dir(server.state()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_stop_finishes_the_exchange_in_hand() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start();
        server.json(&["node", "add", "n1", "--type", "feed", "--uuid", "u"]);
        server.enqueue("n1", "a");
        let bytes = request("POST", "/api/node/actionq/done", &[("Authorization", "Basic bjE6dQ==")], b"{\"id\":1}");
        let (first, last) = bytes.split_at(bytes.len() - 4);
        let mut stream = server.connect();
        // An earlier answer on the same connection: the server has taken it.
        stream.write_all(b"GET /api/version HTTP/1.1\r\nHost: c\r\n\r\n").unwrap();
        read_answer(&mut stream);
        stream.write_all(first).unwrap();
        let address = server.file("address");
        server.signal(signal);
        until("the server stops", || !address.exists());
        stream.write_all(last).unwrap();
        assert_eq!(read_answer(&mut stream).status, 202);
        assert_eq!(server.exit_code(), Some(0));
    }
}

#[test]
fn a_given_certificate_is_served() {
    let mut server = Server::start();
    let (certificate, key, ca) = (server.file("c.pem"), server.file("k.pem"), server.file("other-ca.pem"));
    for (from, to) in [("server.pem", &certificate), ("server.key", &key), ("ca.pem", &ca)] {
        std::fs::copy(server.file(from), to).unwrap();
    }
    server.kill();
    for own in ["server.pem", "server.key", "ca.pem", "ca.key"] {
        std::fs::remove_file(server.file(own)).unwrap();
    }
    let (certificate, key, ca) = (certificate.to_str().unwrap(), key.to_str().unwrap(), ca.to_str().unwrap());
    server.restart(&["--no-notify", "--cert", certificate, "--key", key]);
    assert!(!server.file("ca.pem").exists());
    server.json(&["list", "--ca-file", ca]);
    let untrusted = server.run(&["list"]);
    assert_eq!(untrusted.status.code(), Some(1));
    server.kill();
    let output = serve(&server, &["--cert", certificate, "--key", certificate]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("holds no private key in PEM"), "{said}");
}

#[test]
fn what_prevents_a_start_is_said() {
    let server = Server::start();
    let other = server.file("elsewhere");
    let taken = server.address.to_string();
    let output = command().args(["serve", "--listen", &taken, "--state"]).arg(&other).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("cannot listen on {taken}: Address already in use")), "{said}");
    std::fs::write(other.join("queue.db"), "this is no database, however long it may be".repeat(100)).unwrap();
    let output = command().args(["serve", "--listen", "127.0.0.1:0", "--state"]).arg(&other).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("queue.db: the database failed: file is not a database"), "{said}");
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let mut server = Server::start();
    server.kill();
    server.sql("PRAGMA user_version = 3");
    let output = serve(&server, &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("it was used by a later version"), "{said}");
}

#[test]
fn a_database_of_the_first_version_is_used_on() {
    let mut server = Server::start();
    server.json(&["node", "add", "n1"]);
    server.enqueue("n1", "a");
    server.kill();
    server.sql("DROP TABLE users; PRAGMA user_version = 1");
    server.restart(&["--no-notify"]);
    assert_eq!(server.status("1"), "W");
    assert_eq!(server.json(&["user", "list"])["users"].as_array().unwrap().len(), 0);
}

#[test]
fn a_request_too_large_is_refused_before_it_is_read() {
    let server = Server::start();
    let mut stream = server.connect();
    stream
        .write_all(b"POST /feed/default/call/xmlrpc HTTP/1.1\r\nHost: c\r\nContent-Length: 67108865\r\n\r\n")
        .unwrap();
    assert_eq!(read_answer(&mut stream).status, 413);
}

#[test]
fn silent_and_foolish_clients_disturb_nobody() {
    let server = Server::start();
    let silent: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(server.address).unwrap()).collect();
    let mut foolish = std::net::TcpStream::connect(server.address).unwrap();
    foolish.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    server.json(&["list"]);
    assert_eq!(silent.len(), 20);
}

#[test]
fn a_client_without_a_server_says_so() {
    let mut server = Server::start();
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(0));
    let output = server.run(&["list"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is `serve` running on this state?"), "{said}");
    let url = format!("https://{}", server.address);
    let said = String::from_utf8(server.run(&["list", "--url", &url]).stderr).unwrap();
    assert!(said.contains("no answer from https://127.0.0.1"), "{said}");
}
