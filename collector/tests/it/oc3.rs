//! The feeder, against the recorded answers of the real one.

use serde_json::{Value, json};

use crate::exchange::{Answer, oc3};
use crate::server::Server;

const N1: &str = "n1:a1111111-0000-4000-8000-000000000001";

fn server() -> Server {
    let server = Server::start();
    server.json(&["node", "add", "n1", "--type", "feed", "--uuid", "a1111111-0000-4000-8000-000000000001"]);
    server
}

fn fetch(server: &Server, credentials: &str) -> Vec<Value> {
    let answer = server.ask("GET", "/feeder/api/node/actionq", credentials, b"");
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    answer["actions"].as_array().unwrap().clone()
}

fn post(server: &Server, what: &str, credentials: &str, body: &Value) -> Answer {
    server.ask("POST", &format!("/api/node/actionq/{what}"), credentials, body.to_string().as_bytes())
}

fn assert_as_recorded(server: &Server, name: &str) {
    let pair = oc3(name);
    let answer = server.send(&pair.request);
    assert_eq!((answer.status, answer.body), (pair.answer.status, pair.answer.body), "{name}");
    assert_eq!(answer.content_type, "application/json", "{name}");
}

/// Queues the recorded rows with their service numbers and their date.
fn arrange_rows(server: &Server) {
    server.enqueue("n1", "pushasset");
    server.json(&["enqueue", "n1", "--service", "svc1", "start --local"]);
    server.json(&["enqueue", "n1", "--service", "gone", "stop --local"]);
    server.enqueue("n1", "compliance check --module \"a b\" --env=k=\"v\" <&>é");
    server.sql(
        "UPDATE action_queue SET date_queued = 1795251003000;
         UPDATE services SET svc_id = '99999999-9999-9999-9999-999999999991' WHERE svcname = 'svc1';
         UPDATE action_queue SET svc_id = '99999999-9999-9999-9999-999999999991' WHERE id = 2;
         UPDATE action_queue SET svc_id = '99999999-9999-9999-9999-99999999999f' WHERE id = 3;",
    );
}

#[test]
fn every_recorded_request_is_answered_as_recorded() {
    let server = server();
    assert_as_recorded(&server, "01-get-empty");
    arrange_rows(&server);
    for name in ["02-get-rows", "03-running", "04-get-after-running", "05-done", "06-done-unknown-id"] {
        assert_as_recorded(&server, name);
    }
    let done = server.show("1");
    assert_eq!([&done["status"], &done["stdout"], &done["ret"]], [&json!("T"), &json!("hello\n"), &json!(0)]);
    assert_eq!(done["dequeued"], "2026-11-21T07:00:00.000Z");
    for name in ["08-done-astral", "09-done-bad-date", "10-done-bad-json", "11-running-empty-body"] {
        assert_as_recorded(&server, name);
    }
    assert_eq!(server.status("2"), "R");
    server.json(&["redo", "1"]);
    assert_as_recorded(&server, "12-get-redo");
    for name in ["14-no-credentials", "15-bad-uuid", "16-not-found", "17-method-not-allowed", "18-version"] {
        assert_as_recorded(&server, name);
    }
    server.enqueue("n1", "poison");
    server.sql("UPDATE action_queue SET svc_id = NULL WHERE command = 'poison'");
    assert_as_recorded(&server, "19-poison-row");
    server.sql("ALTER TABLE nodes RENAME TO elsewhere");
    assert_as_recorded(&server, "20-database-down");
}

#[test]
fn an_output_too_long_is_refused_as_recorded_and_the_longest_one_is_kept() {
    let server = server();
    let id: i64 = server.enqueue("n1", "a").parse().unwrap();
    let done = |length| json!({"id": id, "stdout": "x".repeat(length)});
    let recorded = oc3("07-done-too-long").answer;
    let refused = post(&server, "done", N1, &done(65_536));
    assert_eq!((refused.status, refused.body), (recorded.status, recorded.body));
    assert_eq!(server.status("1"), "W");
    assert_eq!(post(&server, "done", N1, &done(65_535)).status, 202);
    assert_eq!(server.show("1")["stdout"].as_str().unwrap().len(), 65_535);
}

#[test]
fn a_sent_row_is_sent_again_once_it_was_queued_20_seconds_ago() {
    let server = server();
    let id = server.enqueue("n1", "a");
    assert_eq!(fetch(&server, N1)[0]["status"], "W");
    assert!(fetch(&server, N1).is_empty());
    server.age(&id, 15);
    assert!(fetch(&server, N1).is_empty());
    server.age(&id, 6);
    for _ in 0..2 {
        assert_eq!(fetch(&server, N1)[0]["status"], "S", "and at every fetch from then on");
    }
    assert_eq!(post(&server, "running", N1, &json!({"ids": [1]})).status, 202);
    assert!(fetch(&server, N1).is_empty());
}

#[test]
fn a_return_code_or_date_out_of_range_is_refused() {
    let server = server();
    server.enqueue("n1", "a");
    let text = |body: Value| {
        let answer = post(&server, "done", N1, &body);
        (answer.status, answer.body)
    };
    let out_of_range = "{\"text\":\"Error 1264: Out of range value for column 'ret' at row 1\"}\n".to_owned();
    assert_eq!(text(json!({"id": 1, "ret": 2_147_483_648_i64})), (500, out_of_range));
    assert_eq!(text(json!({"id": 1, "ret": 1e30})).0, 400);
    assert_eq!(text(json!({"id": 1, "dequeued_at": "2026-11-21T09:00:00"})).0, 400);
    assert_eq!(text(json!({"id": 1, "dequeued_at": "1969-12-31T23:59:59Z"})).0, 500);
    assert_eq!(server.status("1"), "W");
    assert_eq!(text(json!({"ID": 1, "ret": -2_147_483_648_i64, "dequeued_at": null})).0, 202);
    let done = server.show("1");
    assert_eq!([&done["ret"], &done["stdout"], &done["dequeued"]], [&json!(i32::MIN), &json!(""), &Value::Null]);
}

#[test]
fn text_that_is_no_unicode_is_replaced() {
    let server = server();
    server.enqueue("n1", "a");
    let body = b"{\"id\":1,\"stdout\":\"a\\ud83d \xff\\u0000\"}";
    assert_eq!(server.ask("POST", "/api/node/actionq/done", N1, body).status, 202);
    assert_eq!(server.show("1")["stdout"], "a\u{fffd} \u{fffd}\0");
}

#[test]
fn nothing_guards_the_order_of_the_letters() {
    let server = server();
    let id = server.enqueue("n1", "a");
    for (what, body, letter) in [
        ("done", json!({"id": 1, "ret": 1}), "T"),
        ("running", json!({"ids": [1]}), "R"),
        ("done", json!({"id": 1, "ret": 2}), "T"),
        ("done", json!({"id": 1, "ret": 3}), "T"),
    ] {
        let answer = post(&server, what, N1, &body);
        assert_eq!((answer.status, answer.body.as_str()), (202, "null\n"));
        assert_eq!(server.status(&id), letter);
    }
    assert_eq!(server.show(&id)["ret"], 3);
}

#[test]
fn a_node_may_acknowledge_for_its_cluster_but_report_only_for_itself() {
    let server = server();
    for (name, cluster) in [("n1", "c1"), ("n2", "c1"), ("n3", "c2")] {
        server.json(&["node", "add", name, "--type", "feed", "--cluster", cluster, "--uuid", "u"]);
    }
    let (own, other) = (server.enqueue("n2", "a"), server.enqueue("n3", "a"));
    assert_eq!(post(&server, "done", "n1:u", &json!({"id": 1})).status, 202);
    assert_eq!(server.status(&own), "W");
    assert_eq!(post(&server, "running", "n1:u", &json!({"ids": [1, 2, 77]})).status, 202);
    assert_eq!((server.status(&own).as_str(), server.status(&other).as_str()), ("R", "W"));
}

#[test]
fn credentials_come_before_everything_but_the_version() {
    let server = server();
    let status = |method: &str, uri: &str, credentials: &str| server.ask(method, uri, credentials, b"").status;
    assert_eq!(status("GET", "/feeder/api/nothing", "n1:wrong"), 401);
    assert_eq!(status("GET", "/feeder/api/nothing", N1), 404);
    assert_eq!(status("GET", "/feeder/api/version", "nobody:"), 200);
    assert_eq!(status("GET", "/feeder/api/version?x=1", "nobody:"), 401);
    assert_eq!(status("GET", "/api/node/actionq", &N1.to_uppercase()), 200);
    assert_eq!(status("PUT", "/api/node/actionq/done", N1), 405);
}

#[test]
fn a_row_stays_on_the_side_its_node_was_on() {
    let server = server();
    let feed = server.enqueue("n1", "a");
    server.json(&["node", "add", "n1", "--type", "pull"]);
    server.enqueue("n1", "b");
    let fetched = fetch(&server, N1);
    assert_eq!(fetched.len(), 1);
    assert_eq!(fetched[0]["id"].to_string(), feed);
}

#[test]
fn a_connection_serves_several_requests() {
    use std::io::Write as _;
    let server = server();
    let mut stream = server.connect();
    for _ in 0..3 {
        stream.write_all(b"GET /api/version HTTP/1.1\r\nHost: c\r\n\r\n").unwrap();
        assert_eq!(crate::exchange::read_answer(&mut stream).status, 200);
    }
}
