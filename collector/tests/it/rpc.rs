//! The rpc calls, against the recorded answers of the real server.

use serde_json::{Value, json};

use crate::exchange::{request, rpc};
use crate::server::Server;

const UUID: &str = "6f2d0c1e-0000-4000-8000-000000000001";

fn server() -> Server {
    let server = Server::start();
    server.json(&["node", "add", "vm", "--uuid", UUID, "--connect-to", "127.0.0.1"]);
    server.sql("UPDATE nodes SET node_id = '5c977246-0562-11e6-8c70-7e9e6cf13c8a'");
    server
}

fn call(server: &Server, method: &str, first: &str) -> String {
    let body = format!(
        "<?xml version='1.0'?>\n<methodCall><methodName>{method}</methodName><params><param><value>{first}</value></param>\
         <param><value><array><data><value><string>{UUID}</string></value><value><string>vm</string></value></data>\
         </array></value></param></params></methodCall>"
    );
    let answer = server.send(&request("POST", "/feed/default/call/xmlrpc", &[], body.as_bytes()));
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "text/xml"));
    answer.body
}

fn fetched(server: &Server) -> usize {
    call(server, "collector_get_action_queue_v2", "vm").matches("<name>id</name>").count()
}

fn update(server: &Server, id: &str, ret: &str, stdout: &str) -> String {
    let result = format!(
        "<array><data><value><array><data><value><int>{id}</int></value><value>{ret}</value>\
         <value><string>{stdout}</string></value><value><nil/></value></data></array></value></data></array>"
    );
    call(server, "collector_update_action_queue", &result)
}

fn assert_as_recorded(server: &Server, name: &str, exchanges: usize) {
    let pairs = rpc(name);
    assert_eq!(pairs.len(), exchanges, "{name}");
    for (index, pair) in pairs.iter().enumerate() {
        assert_eq!(server.send(&pair.request), pair.answer, "{name}, exchange {index}");
    }
}

#[test]
fn a_recorded_cycle_is_answered_as_recorded() {
    let server = server();
    server.sql("INSERT INTO sqlite_sequence VALUES ('action_queue', 840)");
    server.enqueue("vm", "print prkey --color=no");
    server.json(&["enqueue", "vm", "--service", "svc1", "print config --local"]);
    let last = "create --provision --template=12 --disable-rollback --env=foo=\"b r\" --env=acc=\"é €\"";
    server.json(&["enqueue", "vm", "--service", "gone", last]);
    server.sql(
        "UPDATE services SET svc_id = 'aaaaaaaa-0562-11e6-8c70-7e9e6cf13c8a' WHERE svcname = 'svc1';
         UPDATE action_queue SET svc_id = 'aaaaaaaa-0562-11e6-8c70-7e9e6cf13c8a' WHERE id = 842;
         UPDATE action_queue SET svc_id = 'ffffffff-0562-11e6-8c70-7e9e6cf13c8a', connect_to = NULL WHERE id = 843;
         UPDATE action_queue SET date_queued = 1795248983000;",
    );
    assert_as_recorded(&server, "02-v2-fetch-ack-update-01.txt", 4);
    for id in ["841", "842", "843"] {
        assert_eq!(server.status(id), "T");
    }
}

#[test]
fn recorded_refusals_are_answered_as_recorded() {
    let nobody = Server::start();
    assert_as_recorded(&nobody, "04-unregistered-01.txt", 1);
    let server = server();
    assert_as_recorded(&server, "03-bad-uuid-01.txt", 1);
    // 08 shows a fault of the recording's own, 15 a call we do not have.
    for number in (1..=17).filter(|number| ![8, 15].contains(number)) {
        assert_as_recorded(&server, &format!("05-faults-misc-{number:02}.txt"), 1);
    }
}

#[test]
fn json_is_answered_as_recorded() {
    let server = server();
    server.sql("INSERT INTO sqlite_sequence VALUES ('action_queue', 636)");
    server.enqueue("vm", "print prkey --color=no");
    server.json(&["enqueue", "vm", "--service", "svc1", "print config --local"]);
    let last = "create --provision --template=12 --disable-rollback --env=foo=\"b r\" --env=acc=\"é €\"";
    server.json(&["enqueue", "vm", "--service", "gone", last]);
    server.sql(
        "UPDATE services SET svc_id = 'aaaaaaaa-0562-11e6-8c70-7e9e6cf13c8a' WHERE svcname = 'svc1';
         UPDATE action_queue SET svc_id = 'aaaaaaaa-0562-11e6-8c70-7e9e6cf13c8a' WHERE id = 638;
         UPDATE action_queue SET svc_id = 'ffffffff-0562-11e6-8c70-7e9e6cf13c8a', connect_to = NULL WHERE id = 639;
         UPDATE action_queue SET date_queued = 1795247480000;",
    );
    let recorded = rpc("07-jsonrpc2-01.txt").remove(0);
    let (ours, theirs): (Value, Value) = {
        let answer = server.send(&recorded.request);
        assert_eq!(answer.content_type, recorded.answer.content_type);
        (serde_json::from_str(&answer.body).unwrap(), serde_json::from_str(&recorded.answer.body).unwrap())
    };
    assert_eq!(ours, theirs);
    server.sql("UPDATE action_queue SET status = 'S', date_queued = 9e15");
    for number in 2..=13 {
        assert_as_recorded(&server, &format!("07-jsonrpc2-{number:02}.txt"), 1);
    }
    let done = server.show("637");
    assert_eq!([&done["status"], &done["stdout"], &done["ret"]], [&json!("T"), &json!("out é"), &json!(0)]);
    assert_eq!(server.status("638"), "R");
}

#[test]
fn json_carries_what_xml_cannot() {
    let server = server();
    let id = server.enqueue("vm", "a");
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "collector_update_action_queue",
        "params": {"auth": [UUID, "vm"], "data": [[id, "3", "a\r\n\u{0}\u{1b}", null]]}});
    let ask = |body: &Value| {
        let answer = server.send(&request("POST", "/feed/default/call/jsonrpc2", &[], body.to_string().as_bytes()));
        serde_json::from_str::<Value>(&answer.body).unwrap()
    };
    assert_eq!(ask(&body)["result"], Value::Null);
    let done = server.show(&id);
    assert_eq!([&done["ret"], &done["stdout"], &done["stderr"]], [&json!(3), &json!("a\r\n\u{0}\u{1b}"), &Value::Null]);
    let wrong = json!({"jsonrpc": "2.0", "id": 1, "method": "collector_update_action_queue", "params": {"date": 1}});
    let text = "TypeError: collector_update_action_queue() got an unexpected keyword argument 'date'\nFalse";
    assert_eq!(ask(&wrong)["error"]["data"], text);
}

/// python's own library as the node: what it makes of our answers, and we of its calls.
#[test]
fn pythons_client_fetches_acknowledges_and_updates() {
    const PROGRAM: &str = r#"
import json, ssl, sys, urllib.request, xmlrpc.client
url, ca, uuid = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
proxy = xmlrpc.client.ServerProxy(url + "/feed/default/call/xmlrpc", allow_none=True, context=context)
auth = (uuid, "vm")
assert "collector_get_action_queue_v2" in proxy.system.listMethods()
rows = proxy.collector_get_action_queue_v2("vm", auth)
assert [(row["command"], row["status"], row["svcname"], row["ret"]) for row in rows] == [("a <&> é", "W", None, None)] * 2, rows
assert rows[0]["date_queued"].value[8] == "T"
ids = [row["id"] for row in rows]
assert proxy.collector_update_action_queue_received(ids, auth) is None
assert proxy.collector_update_action_queue([[ids[0], -9, "é\n]]>", None], [ids[1], 0, "", ""]], auth) is None
assert proxy.collector_get_action_queue("vm", auth) == []
try:
    proxy.collector_get_action_queue_v2("vm", ("wrong", "vm"))
except xmlrpc.client.Fault as fault:
    assert fault.faultString == "<type 'exceptions.Exception'>:agent authentication error", fault
else:
    raise AssertionError("a wrong uuid was taken")
body = {"jsonrpc": "2.0", "id": 1, "method": "collector_get_action_queue_v2", "params": ["vm", auth]}
request = urllib.request.Request(url + "/feed/default/call/jsonrpc2", json.dumps(body).encode())
assert json.load(urllib.request.urlopen(request, context=context)) == {"jsonrpc": "2.0", "id": 1, "result": []}
"#;
    let server = server();
    let ids = [server.enqueue("vm", "a <&> é"), server.enqueue("vm", "a <&> é")];
    let output = std::process::Command::new("python3")
        .args(["-I", "-X", "utf8", "-c", PROGRAM, &format!("https://{}", server.address)])
        .args([server.file("ca.pem").to_str().unwrap(), UUID])
        .output()
        .expect("python3 is missing: this test compares with its libraries; install it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let done = server.show(&ids[0]);
    assert_eq!([&done["status"], &done["ret"], &done["stdout"]], [&json!("T"), &json!(-9), &json!("é\n]]>")]);
    assert_eq!(server.status(&ids[1]), "T");
}

#[test]
fn a_control_character_refuses_the_whole_call_as_recorded() {
    let server = server();
    server.sql("INSERT INTO sqlite_sequence VALUES ('action_queue', 806)");
    server.enqueue("vm", "printf \"bell\\007\"");
    server.enqueue("vm", "echo two");
    server.sql("UPDATE action_queue SET date_queued = 1795248690000");
    assert_as_recorded(&server, "09-control-char-fault-01.txt", 3);
    assert_eq!((server.status("807").as_str(), server.status("808").as_str()), ("R", "R"));
}

#[test]
fn what_the_columns_cannot_hold_is_cut_and_accepted() {
    let server = server();
    let id = server.enqueue("vm", "a");
    let nil = "<param>\n<value><nil/></value></param>";
    assert!(update(&server, &id, "<int>99999999999</int>", &format!("😀\r\n{}", "é".repeat(40_000))).contains(nil));
    let done = server.show(&id);
    let stdout = done["stdout"].as_str().unwrap();
    assert!(stdout.starts_with("????\né"));
    assert_eq!(stdout.len(), 65_535);
    assert_eq!([&done["ret"], &done["stderr"]], [&json!(i32::MAX), &Value::Null]);
    assert!(update(&server, &id, "<string>-15</string>", "").contains(nil));
    assert_eq!(server.show(&id)["ret"], -15);
}

#[test]
fn results_before_a_malformed_one_are_kept() {
    let server = server();
    let id = server.enqueue("vm", "a");
    let results = format!(
        "<array><data><value><array><data><value><int>{id}</int></value><value><int>0</int></value><value>o</value>\
         <value>e</value></data></array></value><value><array><data></data></array></value></data></array>"
    );
    let answer = call(&server, "collector_update_action_queue", &results);
    assert!(answer.contains("need more than 0 values to unpack"), "{answer}");
    assert_eq!(server.status(&id), "T");
}

#[test]
fn a_sent_row_is_sent_again_once_it_was_queued_20_seconds_ago() {
    let server = server();
    let id = server.enqueue("vm", "a");
    assert_eq!([fetched(&server), fetched(&server)], [1, 0]);
    server.age(&id, 21);
    assert_eq!([fetched(&server), fetched(&server)], [1, 1]);
    call(&server, "collector_update_action_queue_received", "<array><data><value><int>1</int></value></data></array>");
    assert_eq!(fetched(&server), 0);
    assert!(server.show(&id)["received"].is_string());
}

#[test]
fn feed_rows_and_rows_of_others_are_not_given() {
    let server = server();
    server.json(&["node", "add", "other"]);
    server.enqueue("other", "a");
    server.json(&["node", "add", "vm", "--type", "feed"]);
    let feed = server.enqueue("vm", "b");
    assert_eq!(fetched(&server), 0);
    assert!(update(&server, "1", "<int>0</int>", "").contains("<nil/>"));
    assert_eq!((server.status("1").as_str(), server.status(&feed).as_str()), ("W", "W"));
}

#[test]
fn the_first_version_of_the_fetch_hands_rows_out_as_running() {
    let server = server();
    let (first, sent) = (server.enqueue("vm", "a"), server.enqueue("vm", "b"));
    server.sql(&format!("UPDATE action_queue SET status = 'S', date_queued = 0 WHERE id = {sent}"));
    let fetch = || call(&server, "collector_get_action_queue", "vm");
    let rows = fetch();
    assert!(rows.contains(&format!("<name>id</name>\n<value><int>{first}</int></value>")), "{rows}");
    assert_eq!(rows.matches("<name>id</name>").count(), 1, "what the other fetch has sent stays its own");
    assert!(rows.contains("<value><string>W</string></value>"), "the status before the call: {rows}");
    assert_eq!(server.status(&first), "R");
    assert!(server.show(&first)["received"].is_string());
    assert!(!fetch().contains("<name>id</name>"));
}

#[test]
fn the_calls_are_listed() {
    let server = server();
    let pair = &rpc("01-first-run-v1-01.txt")[0];
    let answer = server.send(&pair.request);
    for line in answer.body.lines() {
        assert!(pair.answer.body.contains(line), "{line}");
    }
    assert_eq!(answer.body.matches("<string>").count(), 6);
}
