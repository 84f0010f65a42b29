//! The tests' own collector, spoken to by hand: what is proved with it is worth as much as its likeness to real ones.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::collector::Collector;
use crate::support::collector::fault::{Call, Fault, When};
use crate::support::collector::register::{APPS, LONER, USER};
use crate::support::collector::state::{Event, Row};
use crate::support::{Dialect, NODE, UUID, base64};

const XML: &str = "/feed/default/call/xmlrpc";
const JSON: &str = "/feed/default/call/jsonrpc2";
const REST: &str = "/init/rest/api/register";
const OC3: &str = "/server/api/auth/node";
const SYSTEM: &str = "/feeder/api/node/system";

/// Sends these bytes, and gives the status and the body of the answer.
fn send(collector: &Collector, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", collector.port())).unwrap();
    stream.write_all(request).unwrap();
    let mut stream = BufReader::new(stream);
    let (mut status, mut length, mut line) = (0, 0, String::new());
    while stream.read_line(&mut line).unwrap() > 2 {
        match line.trim().split_once(' ').unwrap() {
            ("HTTP/1.1", rest) => status = rest[..3].parse().unwrap(),
            ("Content-Length:", value) => length = value.parse().unwrap(),
            _ => {}
        }
        line.clear();
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (status, String::from_utf8(body).unwrap())
}

fn post(collector: &Collector, path: &str, headers: &str, body: &str) -> (u16, String) {
    let length = body.len();
    send(collector, format!("POST {path} HTTP/1.1\r\nContent-Length: {length}\r\n{headers}\r\n{body}").as_bytes())
}

fn basic((name, secret): (&str, &str)) -> String {
    format!("Authorization: Basic {}\r\n", base64(format!("{name}:{secret}").as_bytes()))
}

/// A recorded request and the body of its answer.
fn recorded(name: &str) -> (Vec<u8>, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/conformance/rpc/{name}.txt"));
    let text = std::fs::read_to_string(path).unwrap();
    let mut messages = text.split("\n=== ").skip(1).map(|part| part.split_once(" ===\n").unwrap().1);
    let (request, answer) = (messages.next().unwrap(), messages.next().unwrap());
    (request.as_bytes().to_vec(), answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn xml_call(method: &str, params: &str) -> String {
    format!("<?xml version='1.0'?><methodCall><methodName>{method}</methodName><params>{params}</params></methodCall>")
}

fn xml_auth() -> String {
    format!(
        "<param><value><array><data><value><string>{UUID}</string></value><value><string>{NODE}</string></value></data></array></value></param>"
    )
}

#[test]
fn json_is_answered_as_recorded() {
    let collector = Collector::plain();
    collector.register("vm", "6f2d0c1e-0000-4000-8000-000000000001");
    for (id, command) in [(637, "print prkey --color=no"), (638, "print config --local")] {
        let mut row = Row::new(Dialect::Rpc, command).untagged().status('W');
        row.id = id;
        collector.add(row);
    }
    for number in 1..=12 {
        let (request, expected) = recorded(&format!("07-jsonrpc2-{number:02}"));
        let (status, answer) = send(&collector, &request);
        assert_eq!(status, 200);
        if expected.is_empty() {
            assert_eq!(answer, "", "{number}");
            continue;
        }
        let (expected, answer): (Value, Value) =
            (serde_json::from_str(&expected).unwrap(), serde_json::from_str(&answer).unwrap());
        if number == 1 {
            for (ours, theirs) in
                answer["result"].as_array().unwrap().iter().zip(expected["result"].as_array().unwrap())
            {
                let names = |row: &Value| row.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
                assert_eq!(names(ours), names(theirs));
                for name in ["id", "status", "command", "ret", "date_dequeued", "svcname", "action_type"] {
                    let is_named = theirs["svcname"].is_null() || name != "svcname";
                    assert!(ours[name] == theirs[name] || !is_named, "{name}: {ours} {theirs}");
                }
                let shape = |date: &Value| date.as_str().unwrap().replace(|c: char| c.is_ascii_digit(), "0");
                assert_eq!(shape(&ours["date_queued"]), shape(&theirs["date_queued"]));
            }
        } else {
            assert_eq!(answer, expected, "{number}");
        }
    }
    let results = collector.events().into_iter().filter(|event| matches!(event, Event::Reported(_)));
    assert_eq!(results.count(), 1);
    assert_eq!([collector.row(637).status, collector.row(638).status], ['T', 'R']);
}

#[test]
fn xml_registration_is_answered_as_recorded() {
    let collector = Collector::plain();
    collector.register("vm", "6f2d0c1e-0000-4000-8000-000000000001");
    let refused = send(&collector, &recorded("06-register-01").0).1;
    assert!(refused.contains("<value><array><data>\n<value><string>This collector refuses anonymous"), "{refused}");
    collector.allow_anonymous(true);
    for number in 1..=6 {
        let (request, expected) = recorded(&format!("06-register-{number:02}"));
        if number == 6 {
            collector.unregister("vm");
        }
        let (_, answer) = send(&collector, &request);
        match number {
            1 => {
                let uuid = &collector.registered("newnode")[0].uuid;
                assert_eq!(answer, expected.replace("9e1d0202-0b38-440a-845e-e1deb340d38b", uuid));
            }
            _ => assert_eq!(answer, expected, "{number}"),
        }
    }
    // By JSON the same.
    let ask = |name: &str| {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "register_node", "params": [name]});
        serde_json::from_str::<Value>(&post(&collector, JSON, "", &call.to_string()).1).unwrap()["result"].clone()
    };
    assert!(ask("other").is_string());
    assert_eq!(ask("OTHER"), json!(["already registered"]));
}

#[test]
fn an_old_collector_knows_no_acknowledgement_and_hands_rows_out_as_running() {
    let collector = Collector::plain();
    let listed = || post(&collector, XML, "", &xml_call("system.listMethods", "")).1;
    assert!(listed().contains("<string>collector_get_action_queue_v2</string>"));
    collector.become_old();
    let (id, sent) = (collector.enqueue(Dialect::Rpc, "a"), collector.enqueue(Dialect::Rpc, "b"));
    collector.set_status(sent, 'S');
    assert!(!listed().contains("_v2") && !listed().contains("_received"));
    let fetch = format!("<param><value><string>{NODE}</string></value></param>{}", xml_auth());
    let unknown = |method: &str| {
        let answer = post(&collector, XML, "", &xml_call(method, &fetch)).1;
        assert!(answer.contains(&format!(":method \"{method}\" is not supported")), "{answer}");
    };
    unknown("collector_get_action_queue_v2");
    unknown("collector_update_action_queue_received");
    assert_eq!(post(&collector, JSON, "", "{}").0, 500);
    let rows = post(&collector, XML, "", &xml_call("collector_get_action_queue", &fetch)).1;
    assert!(rows.contains(&format!("<int>{id}</int>")) && !rows.contains(&format!("<int>{sent}</int>")), "{rows}");
    assert_eq!(collector.row(id).status, 'R');
    assert!(!post(&collector, XML, "", &xml_call("collector_get_action_queue", &fetch)).1.contains("<int>"));
    // A new one is never asked that way.
    let new = Collector::plain();
    post(&new, XML, "", &xml_call("collector_get_action_queue", &fetch));
    assert!(matches!(&new.events()[..], [.., Event::Strange(_)]));
}

#[test]
fn of_a_batch_what_comes_before_the_refused_row_is_stored() {
    for path in [XML, JSON] {
        for when in ["row", "larger"] {
            let collector = Collector::plain();
            let ids: Vec<_> = (0..3).map(|_| collector.enqueue(Dialect::Rpc, "x")).collect();
            let when = if when == "row" { When::Row(ids[1]) } else { When::Larger(1000) };
            collector.fail(Call::Report, when, Fault::Refusal("no room".to_owned()));
            let outputs = ["a".to_owned(), "b".repeat(2000), "c".to_owned()];
            let body = if path == JSON {
                let results: Vec<_> = ids.iter().zip(&outputs).map(|(id, out)| json!([id, 0, out, ""])).collect();
                let params = json!([results, [UUID, NODE]]);
                json!({"jsonrpc": "2.0", "id": 1, "method": "collector_update_action_queue", "params": params})
                    .to_string()
            } else {
                let result = |(id, out): (&i64, &String)| {
                    format!(
                        "<value><array><data><value><int>{id}</int></value><value><int>0</int></value><value><string>{out}</string></value><value><string></string></value></data></array></value>"
                    )
                };
                let results: String = ids.iter().zip(&outputs).map(result).collect();
                let first = format!("<param><value><array><data>{results}</data></array></value></param>");
                xml_call("collector_update_action_queue", &(first + &xml_auth()))
            };
            let answer = post(&collector, path, "", &body).1;
            assert!(answer.contains("no room"), "{answer}");
            let letters: String = ids.iter().map(|id| collector.row(*id).status).collect();
            assert_eq!(letters, "TNN", "{path}");
            collector.heal();
            assert!(!post(&collector, path, "", &body).1.contains("no room"));
            let told: Vec<_> = collector
                .events()
                .into_iter()
                .filter_map(|event| {
                    if let Event::Reported(reported) = event { Some((reported.id, reported.answered)) } else { None }
                })
                .collect();
            assert_eq!(told, [(ids[0], false), (ids[0], true), (ids[1], true), (ids[2], true)]);
        }
    }
}

#[test]
fn a_user_registers_nodes_over_rest() {
    let collector = Collector::plain();
    let ask = |credentials: &str, body: &str| {
        let headers = format!("{credentials}Content-Type: application/x-www-form-urlencoded\r\n");
        let (status, text) = post(&collector, REST, &headers, body);
        (status, serde_json::from_str::<Value>(&text).unwrap())
    };
    let user = basic(USER);
    let (status, first) = ask(&user, "nodename=new%2Dnode&app=None");
    assert_eq!((status, first["info"].as_str()), (200, None));
    let uuid = collector.registered("new-node")[0].uuid.clone();
    assert_eq!(first, json!({"data": {"uuid": uuid}}));
    assert_eq!(collector.registered("new-node")[0].app.as_deref(), Some(APPS[0]));
    let again = json!({"data": {"uuid": uuid}, "info": "already registered, resend uuid."});
    assert_eq!(ask(&user, &format!("nodename=new-node&app={}", APPS[0])), (200, again));
    assert_eq!(ask(&user, "app=x").0, 400);
    let (status, refusal) = ask(&user, "nodename=n&app=theirs");
    assert_eq!((status, &refusal), (403, &json!({"error": "You are not responsible for the 'theirs' app"})));
    assert_eq!(ask("", "nodename=n").0, 401);
    assert_eq!(ask(&basic(("operator@example.com", "wrong")), "nodename=n").0, 401);
    assert_eq!(post(&collector, REST, &user, "nodename=n").0, 400, "no form by its type");
}

#[test]
fn oc3_registers_nodes_by_its_table() {
    let collector = Collector::plain();
    let ask = |credentials: &str, body: &Value| {
        let headers = format!("{credentials}Content-Type: application/json\r\n");
        let (status, text) = post(&collector, OC3, &headers, &body.to_string());
        (status, serde_json::from_str::<Value>(&text).unwrap())
    };
    let (user, node, plain) = (basic(USER), basic((NODE, UUID)), json!({"nodename": "new"}));
    let problem = |(status, document): (u16, Value)| (status, document["text"].as_str().unwrap().to_owned());
    let (status, document) = ask(&user, &plain);
    assert_eq!((status, &document["info"]), (200, &json!("node is registered")));
    let known = json!({"info": "node is already registered", "uuid": document["uuid"]});
    assert_eq!(ask(&user, &plain), (200, known));
    let other = ask(&user, &json!({"nodename": "new", "app": APPS[1]}));
    assert_eq!((other.0, &other.1["info"]), (200, &json!("node is registered")));
    assert_ne!(other.1["uuid"], document["uuid"]);
    let refused = problem(ask(&user, &json!({"nodename": "new", "app": "theirs"})));
    assert_eq!(refused, (403, "you are not responsible for the 'theirs' app".to_owned()));
    assert_eq!(problem(ask(&basic(LONER), &plain)), (500, "cannot verify app".to_owned()));
    assert_eq!(problem(ask("", &plain)).0, 401);
    assert_eq!(problem(ask(&node, &plain)), (403, "anonymous node registration is disabled".to_owned()));
    let wrong = problem(ask(&basic((USER.0, "wrong")), &plain));
    assert_eq!((wrong.0, wrong.1.ends_with("invalid credentials, invalid credentials]")), (401, true));
    assert_eq!(post(&collector, OC3, &user, &plain.to_string()).0, 400, "no JSON by its type");
    collector.allow_anonymous(true);
    for nobody in ["", node.as_str()] {
        assert_eq!(problem(ask(nobody, &plain)), (400, "missing app".to_owned()));
        let got = ask(nobody, &json!({"nodename": "new", "app": APPS[0]}));
        assert_eq!(got.1["uuid"], document["uuid"], "anybody can read a secret then");
    }
    assert_eq!(ask(&user, &json!({})).0, 200, "without a name it makes a node without a name");
}

#[test]
fn a_whole_system_document_makes_a_pull_node_a_feed_node() {
    let collector = Collector::plain();
    let row = |id| collector.row(id).dialect;
    assert_eq!(row(collector.enqueue_for_node(NODE, "a")), Dialect::Rpc);
    let names = "bios_version cluster_id cpu_cores cpu_dies cpu_freq cpu_model cpu_threads enclosure fqdn last_boot \
        listener_port manufacturer mem_banks mem_bytes mem_slots model node_env nodename os_arch os_kernel os_name \
        os_vendor serial sp_version tz version";
    let whole: serde_json::Map<_, _> = names
        .split_whitespace()
        .map(|name| (name.to_owned(), json!({"value": if name == "version" { json!("1") } else { Value::Null }})))
        .collect();
    let node = basic((NODE, UUID));
    for left_out in ["", "tz", "version"] {
        let mut properties = whole.clone();
        properties.remove(left_out);
        let body = json!({"properties": properties}).to_string();
        // The same is answered, whatever becomes of it.
        assert_eq!(post(&collector, SYSTEM, &node, &body), (202, "null\n".to_owned()));
        let missing: Vec<_> = left_out.split_whitespace().map(str::to_owned).collect();
        assert_eq!(collector.events().last(), Some(&Event::System { name: NODE.to_owned(), missing }));
    }
    assert_eq!(row(collector.enqueue_for_node(NODE, "b")), Dialect::Oc3);
    assert_eq!(post(&collector, SYSTEM, &basic(USER), "{}").0, 401);
}
