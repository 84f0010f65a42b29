//! The operator's side.

use serde_json::{Value, json};

use crate::exchange::request;
use crate::server::Server;

fn refusal(server: &Server, arguments: &[&str]) -> String {
    let output = server.run(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

fn members(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn without_the_token_nothing_is_told() {
    let server = Server::start();
    server.json(&["node", "add", "n1"]);
    for bearer in ["Bearer wrong", "Bearer ", "Basic bjE6eA=="] {
        let answer = server.send(&request("GET", "/api/operator/nodes", &[("Authorization", bearer)], b""));
        assert_eq!(answer.status, 401);
        assert!(!answer.body.contains("n1"));
    }
    assert_eq!(server.send(&request("GET", "/api/operator/nothing", &[], b"")).status, 401);
    let other = server.file("other-token");
    std::fs::write(&other, "wrong\n").unwrap();
    let said = refusal(&server, &["list", "--token-file", other.to_str().unwrap()]);
    assert!(said.contains("token is missing or wrong"), "{said}");
}

#[test]
fn documents_have_their_members() {
    let server = Server::start();
    let node = server.json(&["node", "add", "n1", "--type", "feed"]);
    assert_eq!(members(&node), ["cluster", "connect_to", "name", "node_id", "port", "type", "uuid"]);
    assert_eq!(server.json(&["node", "list"]), json!({ "nodes": [node] }));
    let action = server.json(&["enqueue", "n1", "--service", "svc1", "start --local"]);
    let mut summary = action.clone();
    summary.as_object_mut().unwrap().remove("stdout");
    summary.as_object_mut().unwrap().remove("stderr");
    let names = [
        "command", "dequeued", "id", "node", "notified", "queued", "received", "reported", "ret", "sent", "service",
        "status", "type",
    ];
    assert_eq!(members(&summary), names);
    assert_eq!(server.show("1"), action);
    assert_eq!(server.json(&["list"]), json!({ "actions": [summary] }));
    assert_eq!([&action["service"], &action["type"], &action["status"]], ["svc1", "feed", "W"]);
}

#[test]
fn a_person_reads_the_number_the_uuid_and_tables() {
    let server = Server::start();
    let said = |arguments: &[&str]| String::from_utf8(server.run(arguments).stdout).unwrap();
    assert_eq!(said(&["node", "add", "n1", "--uuid", "u"]), "u\n");
    assert_eq!(said(&["enqueue", "n1", "--weird \x1b[31m"]), "1\n");
    assert_eq!(said(&["cancel", "1"]), "action 1 is C (cancelled)\n");
    assert!(said(&["list"]).lines().nth(1).unwrap().ends_with("--weird \\u{1b}[31m"));
    assert!(said(&["show", "1"]).contains("status    C (cancelled)\n"));
    assert!(!said(&["node", "list"]).contains("  u"), "the secret is not shown");
}

#[test]
fn adding_a_node_again_changes_only_what_is_given() {
    let server = Server::start();
    let first = server.json(&["node", "add", "n1", "--connect-to", "192.0.2.1", "--port", "5", "--cluster", "c"]);
    assert_eq!(server.json(&["node", "add", "n1"]), first);
    let second = server.json(&["node", "add", "N1", "--type", "feed", "--cluster", ""]);
    let mut expected = first.clone();
    expected["type"] = json!("feed");
    expected["cluster"] = json!("");
    assert_eq!(second, expected);
    assert!(refusal(&server, &["node", "add", "a:b"]).contains("no valid node name"));
    assert!(refusal(&server, &["node", "add", "a", "--port", "0"]).contains("no valid port"));
}

#[test]
fn what_cannot_be_stored_is_refused_and_the_rest_is_kept_to_the_letter() {
    let server = Server::start();
    server.json(&["node", "add", "n1"]);
    assert!(refusal(&server, &["enqueue", "n1", "emoji 😀"]).contains("beyond U+FFFF"));
    assert!(refusal(&server, &["enqueue", "n1", &"é".repeat(32_768)]).contains("longer than 65535 bytes"));
    assert!(refusal(&server, &["enqueue", "nobody", "a"]).contains("no node is named \"nobody\""));
    let token = std::fs::read_to_string(server.file("token")).unwrap();
    let bearer = format!("Bearer {}", token.trim());
    let nul = json!({"node": "n1", "command": "a\0b"}).to_string();
    let answer = server.send(&request("POST", "/api/operator/actions", &[("Authorization", &bearer)], nul.as_bytes()));
    assert_eq!(answer.status, 400);
    let odd = " it's \\ \"quoted\" %s é\n\t";
    let id = server.enqueue("n1", odd);
    assert_eq!((id.as_str(), server.show(&id)["command"].as_str()), ("1", Some(odd)));
}

#[test]
fn a_service_keeps_its_number() {
    let server = Server::start();
    server.json(&["node", "add", "n1", "--type", "feed", "--uuid", "u"]);
    for _ in 0..2 {
        server.json(&["enqueue", "n1", "--service", "svc1", "start"]);
    }
    let answer = server.ask("GET", "/api/node/actionq", "n1:u", b"");
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(answer["actions"][0]["svc_id"], answer["actions"][1]["svc_id"]);
    assert_eq!(answer["actions"][0]["svc_id"].as_str().unwrap().len(), 36);
}

#[test]
fn redo_and_cancel_follow_the_letters() {
    let server = Server::start();
    server.json(&["node", "add", "n1"]);
    let id = server.enqueue("n1", "a");
    let set = |letter: &str| server.sql(&format!("UPDATE action_queue SET status = '{letter}'"));
    for (letter, redo, cancel) in [
        ("W", false, true),
        ("N", true, true),
        ("S", true, true),
        ("R", false, true),
        ("T", true, false),
        ("C", true, true),
    ] {
        for (command, allowed, becomes) in [("redo", redo, "W"), ("cancel", cancel, "C")] {
            set(letter);
            let output = server.run(&[command, &id]);
            assert_eq!(output.status.success(), allowed, "{command} in {letter}");
            assert_eq!(server.status(&id), if allowed { becomes } else { letter });
        }
    }
    assert!(refusal(&server, &["redo", "77"]).contains("there is no action 77"));
}

#[test]
fn a_redo_keeps_the_queue_date_and_the_last_result() {
    let server = Server::start();
    server.json(&["node", "add", "n1", "--type", "feed", "--uuid", "u"]);
    let id = server.enqueue("n1", "a");
    let body = br#"{"id":1,"ret":3,"stdout":"o","dequeued_at":"2026-01-01T00:00:00Z"}"#;
    assert_eq!(server.ask("POST", "/api/node/actionq/done", "n1:u", body).status, 202);
    let done = server.show(&id);
    let redone = server.json(&["redo", &id]);
    assert_eq!([&redone["ret"], &redone["stdout"], &redone["queued"]], [&json!(3), &json!("o"), &done["queued"]]);
    assert_eq!([&redone["dequeued"], &redone["reported"]], [&Value::Null, &Value::Null]);
}

#[test]
fn the_list_is_filtered() {
    let server = Server::start();
    server.json(&["node", "add", "n1"]);
    server.json(&["node", "add", "n2"]);
    server.enqueue("n1", "a");
    let id = server.enqueue("n2", "b");
    server.json(&["cancel", &id]);
    let count = |arguments: &[&str]| server.json(arguments)["actions"].as_array().unwrap().len();
    assert_eq!(count(&["list"]), 2);
    assert_eq!(count(&["list", "--node", "n1"]), 1);
    assert_eq!(count(&["list", "--node", "n1", "--status", "C"]), 0);
    assert_eq!(count(&["list", "--status", "C"]), 1);
    assert!(refusal(&server, &["list", "--node", "nobody"]).contains("no node is named"));
}

#[test]
fn waiting_for_a_result_ends_with_it_or_with_status_1() {
    let server = Server::start();
    server.json(&["node", "add", "n1", "--type", "feed", "--uuid", "u"]);
    let id = server.enqueue("n1", "a");
    let output = server.run(&["show", &id, "--wait", "0", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["status"], "W");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.json(&["show", &id, "--wait", "20"]));
        assert_eq!(server.ask("POST", "/api/node/actionq/done", "n1:u", b"{\"id\":1}").status, 202);
        assert_eq!(waiting.join().unwrap()["status"], "T");
    });
}
