//! JSON-RPC 2 as web2py reads and writes it.

use std::cell::Cell;
use std::fmt::Write as _;

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::value::{MAX_DEPTH, Value};

/// A body of more values than this is not read: each costs memory, before anybody has shown credentials.
const VALUES_MAX: usize = 1_000_000;
/// So many calls in one body at most.
const BATCH_MAX: usize = 100;

/// A call.
struct Call {
    /// By which the caller knows the answer. Without one nobody waits for it.
    id: Option<Value>,
    method: String,
    params: Params,
}

/// The arguments of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Params {
    /// By their places.
    List(Vec<Value>),
    /// By their names.
    Named(Vec<(String, Value)>),
}

/// An error of the protocol or of a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its number.
    pub code: i32,
    /// What it is.
    pub message: String,
    /// What is known of it.
    pub data: String,
}

impl Problem {
    fn invalid(message: String) -> Self {
        Self { code: -32600, message, data: "The JSON sent is not a valid Request object.".to_owned() }
    }

    fn unreadable() -> Self {
        Self {
            code: -32700,
            message: "Parse error. Invalid JSON was received by the server.".to_owned(),
            data: "An error occurred on the server while parsing the JSON text.".to_owned(),
        }
    }

    /// The method is not there.
    #[must_use]
    pub fn no_method(method: &str) -> Self {
        let data = format!("Method \"{method}\" does not exist");
        Self { code: -32601, message: "Method not found".to_owned(), data }
    }

    /// The method raised an exception. The `False` stands where callers on the server's own machine find a traceback.
    #[must_use]
    pub fn exception(kind: &str, text: &str) -> Self {
        Self { code: -32099, message: "Server error".to_owned(), data: format!("{kind}: {text}\nFalse") }
    }
}

/// Answers a body: one call, or an array of calls.
pub fn answer(body: &[u8], mut respond: impl FnMut(&str, Params) -> Result<Value, Problem>) -> String {
    let Ok(value) = read(body) else { return error(&Value::Nil, &Problem::unreadable()) };
    let mut one = |value: Value| match call(value) {
        // What is no call has no id either, whatever it says.
        Err(problem) => Some(error(&Value::Nil, &problem)),
        Ok(call) => {
            let result = respond(&call.method, call.params);
            call.id.map(|id| match result {
                Ok(value) => format!("{{\"jsonrpc\": \"2.0\", \"id\": {}, \"result\": {}}}", text(&id), text(&value)),
                Err(problem) => error(&id, &problem),
            })
        }
    };
    match value {
        Value::Array(calls) if calls.is_empty() || calls.len() > BATCH_MAX => {
            let message = format!("A batch has 1 to {BATCH_MAX} calls, not {}.", calls.len());
            error(&Value::Nil, &Problem::invalid(message))
        }
        Value::Array(calls) => {
            let answers: Vec<_> = calls.into_iter().filter_map(one).collect();
            if answers.is_empty() { String::new() } else { format!("[{}]", answers.join(",")) }
        }
        value => one(value).unwrap_or_default(),
    }
}

fn error(id: &Value, problem: &Problem) -> String {
    let (message, data) = (string(&problem.message), string(&problem.data));
    let (id, code) = (text(id), problem.code);
    format!(
        "{{\"jsonrpc\": \"2.0\", \"id\": {id}, \"error\": {{\"message\": {message}, \"code\": {code}, \"data\": {data}}}}}"
    )
}

fn call(value: Value) -> Result<Call, Problem> {
    let mut members = if let Value::Struct(members) = value { members } else { Vec::new() };
    // Of several of one name the last counts.
    let mut take = |name: &str| {
        let at = members.iter().rposition(|(known, _)| known == name)?;
        Some(members.remove(at).1)
    };
    let (version, method) = (take("jsonrpc"), take("method"));
    let missing: Vec<_> =
        [("jsonrpc", &version), ("method", &method)].into_iter().filter(|(_, value)| value.is_none()).collect();
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|(name, _)| format!("'{name}'")).collect();
        return Err(Problem::invalid(format!("Missing arguments [{}].", names.join(", "))));
    }
    match version {
        Some(Value::Text(version)) if version == "2.0" => {}
        version => {
            let version = match version {
                Some(Value::Text(version)) => version,
                other => text(&other.unwrap_or(Value::Nil)),
            };
            let message = format!("Unsupported jsonrpc version \"{version}\"");
            return Err(Problem { code: -32603, message, data: "Internal JSON-RPC error.".to_owned() });
        }
    }
    let params = match take("params") {
        None => Params::List(Vec::new()),
        Some(Value::Array(params)) => Params::List(params),
        Some(Value::Struct(params)) => Params::Named(params),
        Some(_) => return Err(Problem::invalid("The params are neither an array nor an object.".to_owned())),
    };
    let Some(Value::Text(method)) = method else {
        return Err(Problem::invalid("The method is not a string.".to_owned()));
    };
    Ok(Call { id: take("id"), method, params })
}

fn read(body: &[u8]) -> serde_json::Result<Value> {
    let left = Cell::new(VALUES_MAX);
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = Read { depth: 0, left: &left }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Reads a value, as long as there are not too many.
#[derive(Clone, Copy)]
struct Read<'a> {
    depth: usize,
    left: &'a Cell<usize>,
}

impl Read<'_> {
    fn deeper(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }
}

impl<'de> DeserializeSeed<'de> for Read<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.left.get().checked_sub(1) {
            None => return Err(D::Error::custom("too many values")),
            Some(left) => self.left.set(left),
        }
        if self.depth > MAX_DEPTH {
            return IgnoredAny::deserialize(deserializer).map(|_| Value::Other);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Read<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_bool<E>(self, bool: bool) -> Result<Value, E> {
        Ok(Value::Int(bool.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Int(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Double(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(self.deeper())? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key()? {
            members.push((name, map.next_value_seed(self.deeper())?));
        }
        Ok(Value::Struct(members))
    }
}

/// A value as python's `json.dumps` writes it.
fn text(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    // Writing to a string does not fail.
    match value {
        Value::Nil | Value::Other => out.push_str("null"),
        Value::Int(number) => drop(write!(out, "{number}")),
        Value::Double(number) => drop(write!(out, "{number:?}")),
        Value::Text(text) => out.push_str(&string(text)),
        Value::Date(date) => drop(write!(out, "\"{}\"", date.sql())),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write(item, out);
            }
            out.push(']');
        }
        Value::Struct(members) => {
            out.push('{');
            for (index, (name, value)) in members.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                out.push_str(&string(name));
                out.push_str(": ");
                write(value, out);
            }
            out.push('}');
        }
    }
}

fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(body: &str) -> String {
        answer(body.as_bytes(), |_, params| match params {
            Params::List(items) => Ok(Value::Array(items)),
            Params::Named(members) => Ok(Value::Struct(members)),
        })
    }

    fn of(params: &str) -> String {
        let said = echo(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}"#));
        said.strip_prefix(r#"{"jsonrpc": "2.0", "id": 1, "result": "#).unwrap_or(&said).to_owned()
    }

    #[test]
    fn values_come_back_as_python_writes_them() {
        assert_eq!(
            of(r#"[1,-2,1.5,true,null,"é😀\u0000\n\"\\"]"#),
            "[1, -2, 1.5, 1, null, \"\\u00e9\\ud83d\\ude00\\u0000\\n\\\"\\\\\"]}"
        );
        assert_eq!(of(r#"{"a":[],"b":{"c":99999999999999999999}}"#), r#"{"a": [], "b": {"c": 1e20}}}"#);
    }

    #[test]
    fn too_much_and_too_deep_is_not_kept() {
        let deep = format!("[{}1{}]", "[".repeat(30), "]".repeat(30));
        assert!(of(&deep).contains("null"));
        let many = format!("[{}1]", "1,".repeat(VALUES_MAX));
        assert!(of(&many).contains("-32700"));
        let calls = vec![r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#; BATCH_MAX + 1];
        assert!(echo(&format!("[{}]", calls.join(","))).contains("1 to 100 calls, not 101"));
        assert!(echo("[]").contains("-32600"));
        assert_eq!(echo(&format!("[{}]", calls[..2].join(","))).matches("result").count(), 2);
    }

    #[test]
    fn what_is_no_call_is_said_and_a_notification_is_not_answered() {
        for (body, code) in [
            ("", -32700),
            ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"} x", -32700),
            ("7", -32600),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":7}"#, -32600),
            (r#"{"jsonrpc":2,"id":1,"method":"m"}"#, -32603),
        ] {
            assert!(echo(body).starts_with(r#"{"jsonrpc": "2.0", "id": null, "error": {"message""#), "{body}");
            assert!(echo(body).contains(&format!("\"code\": {code}")), "{body}: {}", echo(body));
        }
        assert_eq!(echo(r#"{"jsonrpc":"2.0","method":"m"}"#), "");
    }
}
