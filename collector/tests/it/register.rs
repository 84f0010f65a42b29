//! Nodes that ask for their secret, and users whose passwords they show.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::exchange::{Answer, request, rpc};
use crate::server::Server;

const USER: &str = "ops@example.com";
const PASSWORD: &str = "c0rrect:horse é&=+%";
const REST: &str = "/init/rest/api/register";
const OC3: &str = "/server/api/auth/node";

fn server(arguments: &[&str]) -> Server {
    let server = Server::start_with(&[&["--no-notify"], arguments].concat());
    let output = server.run_with_input(&["user", "add", USER], &format!("{PASSWORD}\n"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server
}

fn post(server: &Server, uri: &str, kind: &str, credentials: Option<(&str, &str)>, body: &str) -> (u16, Value) {
    let basic =
        credentials.map(|(name, secret)| format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{secret}"))));
    let mut headers = vec![("Content-Type", kind)];
    headers.extend(basic.as_deref().map(|basic| ("Authorization", basic)));
    let answer: Answer = server.send(&request("POST", uri, &headers, body.as_bytes()));
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

fn rest(server: &Server, credentials: Option<(&str, &str)>, body: &str) -> (u16, Value) {
    post(server, REST, "application/x-www-form-urlencoded", credentials, body)
}

fn oc3(server: &Server, credentials: Option<(&str, &str)>, body: &Value) -> (u16, Value) {
    post(server, OC3, "application/json", credentials, &body.to_string())
}

fn anonymous(server: &Server, name: &str) -> Value {
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "register_node", "params": [name]});
    let bytes = request("POST", "/feed/default/call/jsonrpc2", &[], call.to_string().as_bytes());
    serde_json::from_str::<Value>(&server.send(&bytes).body).unwrap()["result"].clone()
}

fn uuid(server: &Server, name: &str) -> String {
    let list = server.json(&["node", "list"]);
    let node = list["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name).unwrap().clone();
    node["uuid"].as_str().unwrap().to_owned()
}

#[test]
fn a_password_registers_nodes_and_is_told_their_secrets_again() {
    let server = server(&[]);
    let user = Some((USER, PASSWORD));
    let (status, first) = rest(&server, user, "nodename=n%2D1&app=None");
    assert_eq!((status, &first), (200, &json!({"data": {"uuid": uuid(&server, "n-1")}})));
    let again = json!({"data": first["data"], "info": "already registered, resend uuid."});
    assert_eq!(rest(&server, user, "app=any&nodename=N-1"), (200, again));
    let known = json!({"info": "node is already registered", "uuid": first["data"]["uuid"]});
    assert_eq!(oc3(&server, user, &json!({"nodename": "n-1", "app": "any"})), (200, known));
    let (status, new) = oc3(&server, Some(("OPS@example.com", PASSWORD)), &json!({"nodename": "n2"}));
    assert_eq!((status, &new), (200, &json!({"info": "node is registered", "uuid": uuid(&server, "n2")})));
    // It can be used at once, and its rows are pull rows until it has told what it is.
    let secret = first["data"]["uuid"].as_str().unwrap();
    assert_eq!(server.ask("GET", "/feeder/api/node/actionq", &format!("n-1:{secret}"), b"").status, 200);
    assert_eq!(server.json(&["enqueue", "n-1", "a"])["type"], "pull");
}

#[test]
fn without_the_password_nobody_is_registered() {
    let server = server(&[]);
    server.json(&["node", "add", "n1", "--uuid", "secret"]);
    for credentials in [None, Some((USER, "wrong password")), Some(("nobody", PASSWORD)), Some((USER, ""))] {
        assert_eq!(rest(&server, credentials, "nodename=n2").0, 401, "{credentials:?}");
        assert_eq!(oc3(&server, credentials, &json!({"nodename": "n2"})).0, 401, "{credentials:?}");
    }
    assert_eq!(rest(&server, Some(("n1", "secret")), "nodename=n2").0, 401);
    let refused = json!({"text": "anonymous node registration is disabled"});
    assert_eq!(oc3(&server, Some(("n1", "secret")), &json!({"nodename": "n2"})), (403, refused));
    let refused = json!(["This collector refuses anonymous register. Please use 'nodemgr register --user <user>'."]);
    assert_eq!(anonymous(&server, "n2"), refused);
    assert_eq!(server.json(&["node", "list"])["nodes"].as_array().unwrap().len(), 1);
}

#[test]
fn a_server_that_allows_it_registers_anybody_and_tells_nobody_the_secrets_of_others() {
    let server = server(&["--allow-anonymous-registration"]);
    server.json(&["node", "add", "vm"]);
    for (number, pair) in
        (1..).zip(["01", "02", "03", "04", "05"].map(|n| rpc(&format!("06-register-{n}.txt")).remove(0)))
    {
        let answer = server.send(&pair.request);
        if number == 1 {
            let new = uuid(&server, "newnode");
            assert_eq!(answer.body, pair.answer.body.replace("9e1d0202-0b38-440a-845e-e1deb340d38b", &new));
        } else {
            assert_eq!(answer, pair.answer, "{number}");
        }
    }
    assert_eq!(anonymous(&server, "other"), json!(uuid(&server, "other")));
    assert_eq!(oc3(&server, None, &json!({"nodename": "third"})).1["uuid"], uuid(&server, "third"));
    let (status, refusal) = oc3(&server, None, &json!({"nodename": "vm"}));
    assert_eq!((status, refusal.get("uuid")), (403, None));
}

#[test]
fn what_cannot_be_a_registration_is_refused_in_words() {
    let server = server(&["--allow-anonymous-registration"]);
    let user = Some((USER, PASSWORD));
    assert_eq!(rest(&server, user, "app=x"), (400, json!({"error": "The 'nodename' key is mandatory"})));
    assert_eq!(rest(&server, user, "nodename=").0, 400);
    assert_eq!(rest(&server, user, "nodename=a%3Ab").0, 400);
    assert_eq!(rest(&server, user, &format!("nodename={}", "n".repeat(129))).0, 400);
    assert_eq!(rest(&server, user, &format!("nodename={}", "n".repeat(20_000))).0, 413);
    assert_eq!(oc3(&server, user, &json!({"nodename": "a b"})).0, 400);
    assert_eq!(oc3(&server, user, &json!([])).1, json!({"text": "invalid request body"}));
    assert_eq!(post(&server, OC3, "text/plain", user, "{\"nodename\":\"n\"}").0, 400);
    assert_eq!(server.send(&request("GET", OC3, &[], b"")).status, 405);
    assert_eq!(anonymous(&server, "a\nb"), json!(["\"a\\nb\" is no valid node name"]));
    assert_eq!(server.json(&["node", "list"])["nodes"], json!([]));
}

#[test]
fn a_system_document_makes_a_feed_node() {
    let server = server(&[]);
    server.json(&["node", "add", "n1", "--uuid", "u", "--connect-to", "10.0.0.5"]);
    let names = "bios_version cpu_cores cpu_dies cpu_freq cpu_model cpu_threads enclosure fqdn last_boot listener_port \
        manufacturer mem_banks mem_bytes mem_slots model node_env nodename os_arch os_kernel os_name os_vendor serial \
        sp_version tz version";
    let mut properties: serde_json::Map<_, _> =
        names.split_whitespace().map(|name| (name.to_owned(), json!({"value": null}))).collect();
    let send = |properties: &serde_json::Map<String, Value>| {
        let body = json!({"properties": properties}).to_string();
        let answer = server.ask("POST", "/feeder/api/node/system", "n1:u", body.as_bytes());
        assert_eq!((answer.status, answer.body.as_str()), (202, "null\n"));
        server.json(&["node", "list"])["nodes"][0].clone()
    };
    assert_eq!(send(&properties)["type"], "pull", "it lacks the cluster");
    properties.insert("cluster_id".to_owned(), json!({"value": "c1"}));
    let node = send(&properties);
    assert_eq!([&node["type"], &node["cluster"], &node["connect_to"]], ["feed", "c1", "10.0.0.5"]);
    assert_eq!(node["port"], 1214);
    properties.insert("listener_port".to_owned(), json!({"value": 1215}));
    properties.insert("connect_to".to_owned(), json!({"value": "n1.example.com"}));
    let node = send(&properties);
    assert_eq!((&node["port"], &node["connect_to"]), (&json!(1215), &json!("n1.example.com")));
    properties.insert("cluster_id".to_owned(), json!({"value": "x".repeat(200)}));
    assert_eq!(send(&properties)["cluster"], "c1", "what no column holds changes nothing");
    assert_eq!(server.ask("POST", "/feeder/api/node/system", "n1:wrong", b"{}").status, 401);
}

#[test]
fn users_are_added_listed_changed_and_removed() {
    let server = server(&[]);
    let file = server.file("password");
    std::fs::write(&file, "another password\nnothing\n").unwrap();
    let add = ["user", "add", "second", "--password-file", file.to_str().unwrap()];
    assert_eq!(server.json(&add), json!({"name": "second"}));
    assert_eq!(server.json(&["user", "list"]), json!({"users": [{"name": USER}, {"name": "second"}]}));
    assert_eq!(rest(&server, Some(("second", "another password")), "nodename=n1").0, 200);
    assert!(server.run_with_input(&["user", "add", "second"], "yet another one").status.success());
    assert_eq!(rest(&server, Some(("second", "another password")), "nodename=n1").0, 401);
    assert_eq!(rest(&server, Some(("second", "yet another one")), "nodename=n1").0, 200);
    assert!(server.run(&["user", "remove", "second"]).status.success());
    assert_eq!(rest(&server, Some(("second", "yet another one")), "nodename=n1").0, 401);
    let refused = |arguments: &[&str], input: &str| {
        let output = server.run_with_input(arguments, input);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&["user", "remove", "second"], "").contains("there is no user \"second\""));
    assert!(refused(&["user", "add", "third"], "short\n").contains("a password has 8 to 1024 bytes"));
    assert!(refused(&["user", "add", "a:b"], "long enough\n").contains("\"a:b\" is no valid user name"));
    let missing = refused(&["user", "add", "third", "--password-file", "/nonexistent"], "");
    assert!(missing.contains("cannot read /nonexistent"), "{missing}");
}

#[test]
fn no_password_is_kept_or_said() {
    let server = server(&[]);
    rest(&server, Some((USER, PASSWORD)), "nodename=n1");
    for entry in std::fs::read_dir(server.state()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let is_there = bytes.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes());
        assert!(!is_there, "{} holds it", path.display());
    }
    assert!(!server.json(&["user", "list"]).to_string().contains(PASSWORD));
}
