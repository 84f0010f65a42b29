//! The queue calls of the 1.x/2.x collectors (`rpc`), for pull rows, over XML-RPC and JSON-RPC 2; and `register_node`.
//!
//! Refusals come in a 200 answer, in the words of the real server's python 2. Its database session is not strict: what a
//! column cannot hold is cut, replaced or clamped, and accepted.

use crate::clock::Timestamp;
use crate::http::{Answer, Collector, Request};
use crate::jsonrpc::{self, Params, Problem};
use crate::register;
use crate::store::{Action, ActionType, Auth, Identity, Report, StoreError, TEXT_MAX};
use crate::value::{Value, parse_int};
use crate::xml;

/// Where the calls go; beside it nothing exists.
pub const PREFIX: &str = "/feed/default/call/";

const FETCH: &str = "collector_get_action_queue_v2";
/// The fetch of before 2021: what is handed out counts as acknowledged.
const FETCH_V1: &str = "collector_get_action_queue";
const UPDATE: &str = "collector_update_action_queue";
const RECEIVED: &str = "collector_update_action_queue_received";
const REGISTER: &str = "register_node";
/// XML-RPC only.
const LIST: &str = "system.listMethods";

/// The calls and the names of their parameters, in the order in which they are listed.
const METHODS: [(&str, &[&str]); 5] = [
    (FETCH_V1, &["nodename", "auth"]),
    (FETCH, &["nodename", "auth"]),
    (UPDATE, &["data", "auth"]),
    (RECEIVED, &["data", "auth"]),
    (REGISTER, &["node"]),
];

/// A refusal.
enum Fault {
    /// A python exception: its type, of the built-in ones, and its text.
    Exception(&'static str, String),
    /// There is no such method.
    NoMethod(String),
}

impl Fault {
    fn exception(text: impl Into<String>) -> Self {
        Self::Exception("Exception", text.into())
    }

    fn xml(self) -> String {
        match self {
            Self::Exception(kind, text) => format!("<type 'exceptions.{kind}'>:{text}"),
            Self::NoMethod(name) => format!("<type 'exceptions.Exception'>:method \"{name}\" is not supported"),
        }
    }

    fn json(self) -> Problem {
        match self {
            Self::Exception(kind, text) => Problem::exception(kind, &text),
            Self::NoMethod(name) => Problem::no_method(&name),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        tracing::error!("{error}");
        Self::Exception("OperationalError", error.to_string())
    }
}

/// Answers a request.
#[must_use]
pub fn answer(collector: &Collector, request: &Request, now: Timestamp) -> Answer {
    let (content_type, body) = match (request.method.as_str(), request.path().strip_prefix(PREFIX)) {
        ("POST", Some("xmlrpc")) => ("text/xml", xml_answer(collector, &request.body, now)),
        ("POST", Some("jsonrpc2")) => {
            let body = jsonrpc::answer(&request.body, |method, params| {
                let result = positional(method, params).and_then(|params| dispatch(collector, method, &params, now));
                result.map_err(Fault::json)
            });
            ("application/json; charset=utf-8", body)
        }
        _ => {
            let body = "Object does not exist".to_owned();
            return Answer { status: 404, content_type: "text/html; charset=UTF-8", body };
        }
    };
    Answer { status: 200, content_type, body }
}

fn xml_answer(collector: &Collector, body: &[u8], now: Timestamp) -> String {
    match xml::read_call(body) {
        Err(text) => xml::fault(&format!("<class 'xml.parsers.expat.ExpatError'>:{text}")),
        Ok(call) if call.method == LIST => {
            let names = METHODS.iter().map(|(name, _)| *name).chain([LIST]);
            xml::response(&Value::Array(names.map(|name| Value::Text(name.to_owned())).collect()))
        }
        Ok(call) => match dispatch(collector, &call.method, &call.params, now) {
            Ok(value) => xml::response(&value),
            Err(fault) => xml::fault(&fault.xml()),
        },
    }
}

fn names_of(method: &str) -> Result<&'static [&'static str], Fault> {
    let known = METHODS.iter().find(|(name, _)| *name == method).map(|(_, names)| *names);
    known.ok_or_else(|| Fault::NoMethod(method.to_owned()))
}

/// Arguments by their places, as python finds them.
fn positional(method: &str, params: Params) -> Result<Vec<Value>, Fault> {
    let names = names_of(method)?;
    match params {
        Params::List(params) => Ok(params),
        Params::Named(mut members) => {
            if let Some((name, _)) = members.iter().find(|(name, _)| !names.contains(&name.as_str())) {
                let text = format!("{method}() got an unexpected keyword argument '{name}'");
                return Err(Fault::Exception("TypeError", text));
            }
            let mut take = |name: &&str| {
                let at = members.iter().rposition(|(known, _)| known == name)?;
                Some(members.swap_remove(at).1)
            };
            Ok(names.iter().filter_map(&mut take).collect())
        }
    }
}

fn dispatch(collector: &Collector, method: &str, params: &[Value], now: Timestamp) -> Result<Value, Fault> {
    let wanted = names_of(method)?.len();
    if params.len() != wanted {
        let plural = if wanted == 1 { "" } else { "s" };
        let text = format!("{method}() takes exactly {wanted} argument{plural} ({} given)", params.len());
        return Err(Fault::Exception("TypeError", text));
    }
    if method == REGISTER {
        return Ok(match register::anonymous(collector, &text(&params[0]).unwrap_or_default()) {
            Ok(uuid) => Value::Text(uuid),
            Err(refusal) => Value::Array(vec![Value::Text(refusal)]),
        });
    }
    let (first, auth) = (&params[0], &params[1]);
    let node = authenticate(collector, auth)?;
    match method {
        FETCH => {
            let actions = collector.store().fetch(&node.node_id, ActionType::Pull, now)?;
            Ok(Value::Array(actions.iter().map(action).collect()))
        }
        FETCH_V1 => {
            let actions = collector.store().fetch_as_running(&node.node_id, now)?;
            Ok(Value::Array(actions.iter().map(action).collect()))
        }
        RECEIVED => {
            let (ids, problem) = take_while_ok(items(first)?.iter().map(int));
            collector.store().received(&node.node_id, &ids, now)?;
            problem.map_or(Ok(Value::Nil), Err)
        }
        _ => {
            let (reports, problem) = take_while_ok(items(first)?.iter().map(|item| report(item, now)));
            collector.store().report(&node.node_id, &reports, now)?;
            problem.map_or(Ok(Value::Nil), Err)
        }
    }
}

/// What came before the first refusal, and the refusal: the real server commits item by item.
fn take_while_ok<T>(items: impl Iterator<Item = Result<T, Fault>>) -> (Vec<T>, Option<Fault>) {
    let mut good = Vec::new();
    for item in items {
        match item {
            Ok(item) => good.push(item),
            Err(fault) => return (good, Some(fault)),
        }
    }
    (good, None)
}

fn authenticate(collector: &Collector, auth: &Value) -> Result<Identity, Fault> {
    let missing = || Fault::exception("no authentication data found in the request");
    let Value::Array(pair) = auth else { return Err(missing()) };
    let [uuid, name] = &pair[..] else { return Err(missing()) };
    let (uuid, name) = (text(uuid).unwrap_or_default(), text(name).unwrap_or_default());
    match collector.store().authenticate(&name, &uuid)? {
        Auth::Node(node) => Ok(node),
        Auth::Unknown => Err(Fault::exception(format!("agent {name} not registered"))),
        Auth::WrongSecret => Err(Fault::exception("agent authentication error")),
    }
}

fn items(value: &Value) -> Result<&[Value], Fault> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(Fault::Exception("TypeError", "the data is not a list".to_owned())),
    }
}

fn int(value: &Value) -> Result<i64, Fault> {
    match value {
        Value::Int(number) => Ok(*number),
        #[expect(clippy::cast_possible_truncation, reason = "python's int() truncates, and the column clamps")]
        Value::Double(number) => Ok(*number as i64),
        Value::Text(text) => parse_int(text)
            .ok_or_else(|| Fault::Exception("ValueError", format!("invalid literal for int() with base 10: '{text}'"))),
        _ => Err(Fault::Exception("TypeError", "an integer is required".to_owned())),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Double(number) => Some(number.to_string()),
        Value::Nil | Value::Date(_) | Value::Array(_) | Value::Struct(_) | Value::Other => None,
    }
}

fn report(item: &Value, now: Timestamp) -> Result<Report, Fault> {
    let wrong = |text: String| Fault::Exception("ValueError", text);
    let tuple = items(item)?;
    let [id, ret, stdout, stderr] = tuple else {
        return Err(wrong(match tuple.len() {
            1 => "need more than 1 value to unpack".to_owned(),
            few @ 0..=3 => format!("need more than {few} values to unpack"),
            _ => "too many values to unpack".to_owned(),
        }));
    };
    let ret = match ret {
        Value::Nil => None,
        #[expect(clippy::cast_possible_truncation, reason = "clamped to the range of the type")]
        ret => Some(int(ret)?.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32),
    };
    let column = |value: &Value| text(value).map(|text| cut(&text));
    Ok(Report { id: int(id)?, ret, stdout: column(stdout), stderr: column(stderr), dequeued: Some(now) })
}

/// What a `utf8mb3` text column keeps when it is not strict.
fn cut(text: &str) -> String {
    let mut kept = String::with_capacity(text.len().min(TEXT_MAX));
    for c in text.chars() {
        let mut bytes = [0; 4];
        let stored = if c.len_utf8() == 4 { "????" } else { c.encode_utf8(&mut bytes) };
        if kept.len() + stored.len() > TEXT_MAX {
            // Question marks are characters of their own: those that fit are kept.
            if stored == "????" {
                kept.push_str(&stored[..TEXT_MAX - kept.len()]);
            }
            break;
        }
        kept.push_str(stored);
    }
    kept
}

/// An action, its members in the order of the recorded answers.
fn action(action: &Action) -> Value {
    let string = |text: &str| Value::Text(text.to_owned());
    let members = [
        ("status", string(action.status.as_str())),
        ("svc_id", Value::or_nil(action.svc_id.as_deref())),
        ("date_queued", Value::Date(action.queued)),
        ("action_type", string(action.action_type.as_str())),
        ("stdout", Value::or_nil(action.stdout.as_deref())),
        ("connect_to", Value::or_nil(action.connect_to.as_deref())),
        ("ret", action.ret.map_or(Value::Nil, Value::Int)),
        ("date_dequeued", action.dequeued.map_or(Value::Nil, Value::Date)),
        ("node_id", string(&action.node_id)),
        ("command", string(&action.command)),
        ("stderr", Value::or_nil(action.stderr.as_deref())),
        ("svcname", Value::or_nil(action.svcname.as_deref())),
        ("id", Value::Int(action.id)),
    ];
    Value::Struct(members.map(|(name, value)| (name.to_owned(), value)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_column_keeps_what_fits() {
        assert_eq!(cut("a😀b"), "a????b");
        assert_eq!(cut(&"é".repeat(40_000)).len(), 65_534);
        assert_eq!(cut(&format!("{}€", "x".repeat(65_533))).len(), 65_533);
        assert_eq!(cut(&format!("{}😀", "x".repeat(65_533))).len(), 65_535);
    }
}
