//! JSON-RPC 2 as web2py's `service.jsonrpc2` reads and writes it.

use serde_json::{Map, Value as Json, json};

use super::fault::Answer;
use super::rpc::Refusal;
use super::value::{MAX_DEPTH, Value};

/// A call: its id (none: a notification, which nobody answers), the method, and its parameters.
pub(super) type Call = (Option<Json>, String, Vec<Value>);

/// Reads one call. A batch of calls, which no agent sends, is not read.
pub(super) fn read(body: &[u8]) -> Result<Call, Refusal> {
    let Ok(call) = serde_json::from_slice::<Json>(body) else { return Err(Refusal::Malformed("no JSON".to_owned())) };
    let Json::Object(call) = call else { return Err(Refusal::Malformed("not one call".to_owned())) };
    let missing: Vec<_> = ["jsonrpc", "method"].into_iter().filter(|name| !call.contains_key(*name)).collect();
    if !missing.is_empty() {
        return Err(Refusal::Missing(missing));
    }
    if call["jsonrpc"] != "2.0" {
        return Err(Refusal::Version(call["jsonrpc"].as_str().unwrap_or_default().to_owned()));
    }
    let method = call["method"].as_str().unwrap_or_default().to_owned();
    let params = match call.get("params") {
        None => Vec::new(),
        Some(Json::Array(params)) => params.iter().map(|param| value(param, 0)).collect::<Result<_, _>>()?,
        Some(Json::Object(params)) => by_name(params)?,
        Some(_) => return Err(Refusal::Malformed("params".to_owned())),
    };
    Ok((call.get("id").cloned(), method, params))
}

/// The parameters' names are those of the server's own functions; `auth` is the last.
fn by_name(params: &Map<String, Json>) -> Result<Vec<Value>, Refusal> {
    let order = ["nodename", "node", "data", "auth"];
    let named = order.into_iter().filter_map(|name| params.get(name));
    named.map(|param| value(param, 0)).collect()
}

fn value(value: &Json, depth: usize) -> Result<Value, Refusal> {
    if depth > MAX_DEPTH {
        return Err(Refusal::Malformed("too deep".to_owned()));
    }
    Ok(match value {
        Json::Null => Value::Nil,
        Json::String(text) => Value::text(text),
        Json::Number(number) => {
            number.as_i64().map_or_else(|| Value::Double(number.as_f64().unwrap_or_default()), Value::Int)
        }
        Json::Bool(bool) => Value::Int((*bool).into()),
        Json::Array(items) => {
            Value::Array(items.iter().map(|item| self::value(item, depth + 1)).collect::<Result<_, _>>()?)
        }
        Json::Object(_) => return Err(Refusal::Malformed("an object".to_owned())),
    })
}

/// An answer with this value.
pub(super) fn response(id: &Json, value: &Value) -> Answer {
    answer(&json!({ "jsonrpc": "2.0", "id": id, "result": write(value) }))
}

/// A refusal. What could not be read as a call has no id.
pub(super) fn refusal(id: &Json, refusal: &Refusal) -> Answer {
    let (id, code, message, data) = match refusal {
        // The `False` is what it tells of the traceback to callers on other machines.
        Refusal::Exception(kind, text) => (id, -32099, "Server error".to_owned(), format!("{kind}: {text}\nFalse")),
        Refusal::NoMethod(name) => {
            (id, -32601, "Method not found".to_owned(), format!("Method \"{name}\" does not exist"))
        }
        Refusal::Malformed(_) => (
            &Json::Null,
            -32700,
            "Parse error. Invalid JSON was received by the server.".to_owned(),
            "An error occurred on the server while parsing the JSON text.".to_owned(),
        ),
        Refusal::Missing(names) => (
            &Json::Null,
            -32600,
            format!("Missing arguments [{}].", names.iter().map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", ")),
            "The JSON sent is not a valid Request object.".to_owned(),
        ),
        Refusal::Version(version) => (
            &Json::Null,
            -32603,
            format!("Unsupported jsonrpc version \"{version}\""),
            "Internal JSON-RPC error.".to_owned(),
        ),
    };
    let error = json!({ "message": message, "code": code, "data": data });
    answer(&json!({ "jsonrpc": "2.0", "id": id, "error": error }))
}

/// What answers a notification.
pub(super) fn nothing() -> Answer {
    Answer::new(200, "application/json; charset=utf-8", "")
}

fn answer(body: &Json) -> Answer {
    Answer::new(200, "application/json; charset=utf-8", ascii(&body.to_string()))
}

/// As python's `json.dumps` writes it: what is not ASCII is escaped.
fn ascii(json: &str) -> String {
    let mut text = String::new();
    for c in json.chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            text.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

fn write(value: &Value) -> Json {
    match value {
        Value::Nil => Json::Null,
        Value::Int(number) => json!(number),
        Value::Double(number) => json!(number),
        Value::Text(text) | Value::Date(text) => json!(text),
        Value::Array(items) => items.iter().map(write).collect(),
        Value::Struct(members) => {
            Json::Object(members.iter().map(|(name, value)| ((*name).to_owned(), write(value))).collect())
        }
    }
}
