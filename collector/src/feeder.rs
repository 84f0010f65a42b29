//! The feeder of collector 3 (`oc3`), for feed rows.
//!
//! Served under `/api` and under `/feeder/api`, as behind the reverse proxy of a site. What the real database refuses
//! with an SQL error is refused with the same text, and the row stays as it was.

use serde::Serialize;
use serde_json::json;

use crate::clock::Timestamp;
use crate::gojson::{self, GoError};
use crate::http::{Answer, Collector, Request};
use crate::store::{Action, ActionType, Auth, Identity, Report, StoreError, System, TEXT_MAX};

/// The version the feeder says it is.
const VERSION: &str = "3.0.4";
/// The range of a timestamp column, in seconds.
const DATES: std::ops::RangeInclusive<i64> = 1..=2_147_483_647;

/// What the `properties` of a system document must have, each as an object with a `value`.
const SYSTEM: [&str; 26] = [
    "bios_version",
    "cluster_id",
    "cpu_cores",
    "cpu_dies",
    "cpu_freq",
    "cpu_model",
    "cpu_threads",
    "enclosure",
    "fqdn",
    "last_boot",
    "listener_port",
    "manufacturer",
    "mem_banks",
    "mem_bytes",
    "mem_slots",
    "model",
    "node_env",
    "nodename",
    "os_arch",
    "os_kernel",
    "os_name",
    "os_vendor",
    "serial",
    "sp_version",
    "tz",
    "version",
];

const NO_CREDENTIALS: &str = "strategies/union: [not public url, strategies/basic: Request missing BasicAuth]";
const BAD_CREDENTIALS: &str = "strategies/union: [not public url, invalid credentials]";
const SOMETHING_WRONG: &str = "Something went wrong. Please try again later";

/// An action, its members in the order Go writes a map.
#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "named as on the wire")]
struct Queued<'a> {
    command: &'a str,
    dequeued_at: String,
    id: i64,
    nodename: &'a str,
    queued_at: String,
    status: &'static str,
    svc_id: &'a str,
    svcname: &'a str,
}

/// Answers a request. Credentials come before anything else: without them even an unknown path is a 401.
#[must_use]
pub fn answer(collector: &Collector, request: &Request, now: Timestamp) -> Answer {
    let uri = request.uri.strip_prefix("/feeder").filter(|uri| uri.starts_with('/')).unwrap_or(&request.uri);
    if uri == "/api/version" && request.method == "GET" {
        return Answer::json(200, gojson::write(&json!({ "version": VERSION })));
    }
    let node = match authenticate(collector, request) {
        Ok(node) => node,
        Err(refusal) => return problem(401, refusal),
    };
    let path = uri.split_once('?').map_or(uri, |(path, _)| path);
    let answer = match (request.method.as_str(), path) {
        ("GET", "/api/node/actionq") => fetch(collector, &node, now),
        ("POST", "/api/node/actionq/running") => running(collector, &node, &request.body, now),
        ("POST", "/api/node/actionq/done") => done(collector, &node, &request.body, now),
        ("POST", "/api/node/system") => Ok(system(collector, &node, &request.body)),
        ("GET", "/api/version") => Ok(Answer::json(200, gojson::write(&json!({ "version": VERSION })))),
        (
            _,
            "/api/node/actionq"
            | "/api/node/actionq/running"
            | "/api/node/actionq/done"
            | "/api/node/system"
            | "/api/version",
        ) => Ok(message(405, "Method Not Allowed")),
        _ => Ok(message(404, "Not Found")),
    };
    answer.unwrap_or_else(|refusal| refusal)
}

fn problem(status: u16, text: &str) -> Answer {
    Answer::json(status, gojson::write(&json!({ "text": text })))
}

fn message(status: u16, text: &str) -> Answer {
    Answer::json(status, gojson::write(&json!({ "message": text })))
}

fn accepted() -> Answer {
    Answer::json(202, gojson::write(&()))
}

fn bad_request(error: &GoError) -> Answer {
    problem(400, &error.0)
}

fn server_error(error: &StoreError) -> Answer {
    tracing::error!("{error}");
    problem(500, &error.to_string())
}

fn authenticate(collector: &Collector, request: &Request) -> Result<Identity, &'static str> {
    let (name, uuid) = request.basic().ok_or(NO_CREDENTIALS)?;
    match collector.store().authenticate(&name, &uuid) {
        Ok(Auth::Node(node)) => Ok(node),
        Ok(Auth::Unknown | Auth::WrongSecret) => Err(BAD_CREDENTIALS),
        Err(error) => {
            // The real one does not tell a failing database from bad credentials either.
            tracing::error!("cannot authenticate a node: {error}");
            Err(BAD_CREDENTIALS)
        }
    }
}

fn fetch(collector: &Collector, node: &Identity, now: Timestamp) -> Result<Answer, Answer> {
    let actions = collector.store().fetch(&node.node_id, ActionType::Feed, now).map_err(|error| {
        tracing::error!("cannot hand out actions: {error}");
        problem(500, SOMETHING_WRONG)
    })?;
    let queued = |action: &Action| -> serde_json::Value {
        json!(Queued {
            command: &action.command,
            dequeued_at: action.dequeued.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), Timestamp::rfc3339),
            id: action.id,
            nodename: &action.nodename,
            queued_at: action.queued.rfc3339(),
            status: action.status.as_str(),
            svc_id: action.svc_id.as_deref().unwrap_or_default(),
            svcname: action.svcname.as_deref().unwrap_or_default(),
        })
    };
    let actions: Vec<_> = actions.iter().map(queued).collect();
    Ok(Answer::json(200, gojson::write(&json!({ "actions": actions }))))
}

fn running(collector: &Collector, node: &Identity, body: &[u8], now: Timestamp) -> Result<Answer, Answer> {
    let mut ids = Vec::new();
    gojson::read_object(body, "QueuedActionRunning", &["ids"], |_, field| {
        ids = field.ints()?;
        Ok(())
    })
    .map_err(|error| bad_request(&error))?;
    collector.store().running_in_cluster(&node.cluster, &ids, now).map_err(|error| server_error(&error))?;
    Ok(accepted())
}

fn done(collector: &Collector, node: &Identity, body: &[u8], now: Timestamp) -> Result<Answer, Answer> {
    const FIELDS: [&str; 5] = ["id", "ret", "stdout", "stderr", "dequeued_at"];
    let (mut id, mut ret, mut stdout, mut stderr, mut dequeued) = (0, 0, String::new(), String::new(), None);
    gojson::read_object(body, "QueuedActionDone", &FIELDS, |name, field| {
        match name {
            "id" => id = field.int()?,
            "ret" => ret = field.int()?,
            "stdout" => stdout = field.string()?,
            "stderr" => stderr = field.string()?,
            _ => dequeued = field.time()?,
        }
        Ok(())
    })
    .map_err(|error| bad_request(&error))?;
    let mut store = collector.store();
    // The database looks at the values only when there is a row to put them in.
    if store.owns(&node.node_id, id).map_err(|error| server_error(&error))? {
        let refuse = |text: String| problem(500, &text);
        check_text("stdout", &stdout).map_err(refuse)?;
        check_text("stderr", &stderr).map_err(refuse)?;
        let ret = i32::try_from(ret)
            .map_err(|_| refuse("Error 1264: Out of range value for column 'ret' at row 1".into()))?;
        check_date(dequeued).map_err(refuse)?;
        let report = Report { id, ret: Some(ret), stdout: Some(stdout), stderr: Some(stderr), dequeued };
        store.report(&node.node_id, &[report], now).map_err(|error| server_error(&error))?;
    }
    Ok(accepted())
}

/// The system document of a node ("asset"). The real one answers before it has read it, so that the node hears the same
/// whatever it says; a document that lacks something changes nothing.
fn system(collector: &Collector, node: &Identity, body: &[u8]) -> Answer {
    let taken = read_system(body)
        .and_then(|system| collector.store().put_system(&node.node_id, &system).map_err(|error| error.to_string()));
    if let Err(why) = taken {
        tracing::warn!("the system document of node {} is not taken: {why}", node.node_id);
    }
    accepted()
}

fn read_system(body: &[u8]) -> Result<System, String> {
    let document: serde_json::Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let properties = document["properties"].as_object().ok_or("there are no properties")?;
    let value = |name: &str| properties.get(name).and_then(|property| property.get("value"));
    let missing: Vec<_> = SYSTEM.into_iter().filter(|name| value(name).is_none()).collect();
    if !missing.is_empty() {
        return Err(format!("there is no value of {}", missing.join(", ")));
    }
    let text = |name: &str| value(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    let port = value("listener_port").and_then(serde_json::Value::as_u64).and_then(|port| u16::try_from(port).ok());
    Ok(System {
        cluster: text("cluster_id").unwrap_or_default(),
        connect_to: text("connect_to").filter(|text| !text.is_empty()),
        port: port.filter(|port| *port > 0),
    })
}

fn check_date(date: Option<Timestamp>) -> Result<(), String> {
    match date {
        Some(date) if !DATES.contains(&date.0.div_euclid(1000)) => Err(format!(
            "Error 1292: Incorrect datetime value: '{}' for column `opensvc`.`action_queue`.`date_dequeued` at row 1",
            date.sql()
        )),
        _ => Ok(()),
    }
}

/// What a strict `utf8mb3` text column refuses, in its words. A bad character beyond the end is never looked at.
fn check_text(column: &str, text: &str) -> Result<(), String> {
    let astral = text.char_indices().find(|(_, c)| c.len_utf8() == 4).map(|(at, _)| at);
    match astral {
        Some(at) if at < TEXT_MAX => Err(format!(
            "Error 1366: Incorrect string value: '{}' for column `opensvc`.`action_queue`.`{column}` at row 1",
            printable(&text.as_bytes()[at..])
        )),
        _ if text.len() > TEXT_MAX => Err(format!("Error 1406: Data too long for column '{column}' at row 1")),
        _ => Ok(()),
    }
}

/// The first six bytes, as the database shows bytes.
fn printable(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for &byte in bytes.iter().take(6) {
        match byte {
            b' '..=b'~' => text.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(text, "\\x{byte:02X}")),
        }
    }
    if bytes.len() > 6 {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_column_refuses_what_it_cannot_hold() {
        assert_eq!(check_text("stdout", &"é".repeat(32_767)), Ok(()));
        assert_eq!(
            check_text("stderr", &"é".repeat(32_768)).unwrap_err(),
            "Error 1406: Data too long for column 'stderr' at row 1"
        );
        assert_eq!(
            check_text("stdout", "ok 😀 then").unwrap_err(),
            "Error 1366: Incorrect string value: '\\xF0\\x9F\\x98\\x80 t...' \
             for column `opensvc`.`action_queue`.`stdout` at row 1"
        );
    }

    #[test]
    fn a_timestamp_column_has_its_range() {
        assert_eq!(check_date(Some(Timestamp::from_seconds(2_147_483_647))), Ok(()));
        assert!(check_date(Some(Timestamp::from_seconds(2_147_483_648))).is_err());
        assert!(check_date(Some(Timestamp::from_seconds(0))).unwrap_err().contains("'1970-01-01 00:00:00'"));
        assert_eq!(check_date(None), Ok(()));
    }
}
