//! The server's side of collector 3's REST dialect.

use serde_json::{Map, Value, json};

use super::super::NODE;
use super::fault::Answer;
use super::state::{Odd, Row};

pub(super) const FETCH: &str = "/feeder/api/node/actionq";

/// To be posted to.
pub(super) const RUNNING: &str = "/feeder/api/node/actionq/running";

fn answer(status: u16, body: &Value) -> Answer {
    Answer::new(status, "application/json", format!("{body}\n"))
}

pub(super) fn unauthorized() -> Answer {
    answer(401, &json!({"text": "strategies/union: [not public url, invalid credentials]"}))
}

/// Said only to whom it knows.
pub(super) fn wrong_method() -> Answer {
    answer(405, &json!({"message": "Method Not Allowed"}))
}

pub(super) fn problem(status: u16, text: &str) -> Answer {
    answer(status, &json!({ "text": text }))
}

pub(super) fn accepted() -> Answer {
    answer(202, &Value::Null)
}

pub(super) fn queue(rows: &[Row]) -> Answer {
    answer(200, &json!({ "actions": rows.iter().map(row).collect::<Vec<_>>() }))
}

fn row(row: &Row) -> Value {
    if row.odd == Odd::NotARow {
        return json!(row.id);
    }
    let mut members = json!({
        "id": row.id,
        "command": row.command,
        "status": row.status.to_string(),
        "svc_id": row.svc_id,
        "svcname": row.svcname.clone().unwrap_or_default(),
        "nodename": NODE,
        "queued_at": row.queued_at(),
        "dequeued_at": "0001-01-01T00:00:00Z",
    });
    if let Value::Object(members) = &mut members {
        distort(members, row);
    }
    members
}

fn distort(members: &mut Map<String, Value>, row: &Row) {
    match row.odd {
        Odd::No | Odd::NotARow => {}
        Odd::NullMembers => {
            for name in ["svc_id", "svcname", "nodename", "queued_at", "dequeued_at"] {
                members.insert(name.to_owned(), Value::Null);
            }
        }
        Odd::UnknownMembers => {
            members.insert("priority".to_owned(), json!({"level": [1, 2.5, null], "why": "\u{1f600}"}));
        }
        Odd::NoCommand => {
            members.remove("command");
        }
        Odd::NullCommand => {
            members.insert("command".to_owned(), Value::Null);
        }
        Odd::IdInString => {
            members.insert("id".to_owned(), json!(row.id.to_string()));
        }
        Odd::IdIsWord => {
            members.insert("id".to_owned(), json!("first"));
        }
        Odd::NoId => {
            members.remove("id");
        }
    }
}

/// The rows that are acknowledged.
pub(super) fn ids(body: &[u8]) -> Result<Vec<i64>, String> {
    let body: Value = serde_json::from_slice(body).map_err(|err| err.to_string())?;
    let ids = body["ids"].as_array().ok_or("no ids")?;
    ids.iter().map(|id| id.as_i64().ok_or_else(|| format!("id {id}"))).collect()
}

/// A result: id, ret, stdout, stderr.
pub(super) fn result(body: &[u8]) -> Result<(i64, i64, String, String), String> {
    let body: Value = serde_json::from_slice(body).map_err(|err| err.to_string())?;
    let text = |name: &str| body[name].as_str().map(str::to_owned).ok_or_else(|| format!("no {name}"));
    let number = |name: &str| body[name].as_i64().ok_or_else(|| format!("no {name}"));
    let date = text("dequeued_at")?;
    // RFC 3339 with an offset, between 1970 and 2038.
    if date.len() < 20 || !date.starts_with("20") || !(date.ends_with('Z') || date[19..].contains(['+', '-'])) {
        return Err(format!("dequeued_at {date:?}"));
    }
    Ok((number("id")?, number("ret")?, text("stdout")?, text("stderr")?))
}
