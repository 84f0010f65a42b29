//! The queue calls of the 1.x/2.x collectors over XML-RPC (`rpc`), for pull rows.
//!
//! Refusals are faults in a 200 answer, in the words of the real server's python 2. Its database session is not strict:
//! what a column cannot hold is cut, replaced or clamped, and accepted.

use crate::clock::Timestamp;
use crate::http::{Answer, Collector, Request};
use crate::store::{Action, ActionType, Auth, Identity, Report, StoreError, TEXT_MAX};
use crate::xml::{self, Call, Value};

/// Where the calls go; beside it nothing exists.
pub const PREFIX: &str = "/feed/default/call/";

const METHODS: [&str; 4] =
    [FETCH, "collector_update_action_queue", "collector_update_action_queue_received", "system.listMethods"];
const FETCH: &str = "collector_get_action_queue_v2";

/// A refusal: the type and the text of a python exception.
struct Fault(&'static str, String);

impl Fault {
    fn exception(text: impl Into<String>) -> Self {
        Self("<type 'exceptions.Exception'>", text.into())
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        tracing::error!("{error}");
        Self("<type 'exceptions.OperationalError'>", error.to_string())
    }
}

/// Answers a request.
#[must_use]
pub fn answer(collector: &Collector, request: &Request, now: Timestamp) -> Answer {
    if request.path() != "/feed/default/call/xmlrpc" || request.method != "POST" {
        let body = "Object does not exist".to_owned();
        return Answer { status: 404, content_type: "text/html; charset=UTF-8", body };
    }
    let result = xml::read_call(&request.body)
        .map_err(|text| Fault("<class 'xml.parsers.expat.ExpatError'>", text))
        .and_then(|call| dispatch(collector, &call, now));
    let body = match result {
        Ok(value) => xml::response(&value),
        Err(Fault(kind, text)) => xml::fault(&format!("{kind}:{text}")),
    };
    Answer { status: 200, content_type: "text/xml", body }
}

fn dispatch(collector: &Collector, call: &Call, now: Timestamp) -> Result<String, Fault> {
    let method = call.method.as_str();
    if method == "system.listMethods" {
        return Ok(xml::array(METHODS.map(|method| xml::scalar("string", method))));
    }
    if !METHODS.contains(&method) {
        return Err(Fault::exception(format!("method \"{method}\" is not supported")));
    }
    let [first, auth] = &call.params[..] else {
        let text = format!("{method}() takes exactly 2 arguments ({} given)", call.params.len());
        return Err(Fault("<type 'exceptions.TypeError'>", text));
    };
    let node = authenticate(collector, auth)?;
    match method {
        FETCH => {
            let actions = collector.store().fetch(&node.node_id, ActionType::Pull, now)?;
            Ok(xml::array(actions.iter().map(action)))
        }
        "collector_update_action_queue_received" => {
            let (ids, problem) = take_while_ok(items(first)?.iter().map(int));
            collector.store().received(&node.node_id, &ids, now)?;
            problem.map_or(Ok(xml::NIL.to_owned()), Err)
        }
        _ => {
            let (reports, problem) = take_while_ok(items(first)?.iter().map(|item| report(item, now)));
            collector.store().report(&node.node_id, &reports, now)?;
            problem.map_or(Ok(xml::NIL.to_owned()), Err)
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
        _ => Err(Fault("<type 'exceptions.TypeError'>", "the data is not a list".to_owned())),
    }
}

fn int(value: &Value) -> Result<i64, Fault> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::Text(text) => xml::parse_int(text).ok_or_else(|| {
            Fault("<type 'exceptions.ValueError'>", format!("invalid literal for int() with base 10: '{text}'"))
        }),
        _ => Err(Fault("<type 'exceptions.TypeError'>", "an integer is required".to_owned())),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Nil | Value::Array(_) | Value::Other => None,
    }
}

fn report(item: &Value, now: Timestamp) -> Result<Report, Fault> {
    let wrong = |text: String| Fault("<type 'exceptions.ValueError'>", text);
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
fn action(action: &Action) -> String {
    let string = |text: &str| xml::scalar("string", text);
    let date = |date: Timestamp| xml::scalar("dateTime.iso8601", &date.xmlrpc());
    let nil = |text: Option<String>| text.unwrap_or_else(|| xml::NIL.to_owned());
    let string_or_nil = |text: &Option<String>| nil(text.as_deref().map(string));
    xml::structure(&[
        ("status", string(action.status.as_str())),
        ("svc_id", string_or_nil(&action.svc_id)),
        ("date_queued", date(action.queued)),
        ("action_type", string(action.action_type.as_str())),
        ("stdout", string_or_nil(&action.stdout)),
        ("connect_to", string_or_nil(&action.connect_to)),
        ("ret", nil(action.ret.map(|ret| xml::scalar("int", &ret.to_string())))),
        ("date_dequeued", nil(action.dequeued.map(date))),
        ("node_id", string(&action.node_id)),
        ("command", string(&action.command)),
        ("stderr", string_or_nil(&action.stderr)),
        ("svcname", string_or_nil(&action.svcname)),
        ("id", xml::scalar("int", &action.id.to_string())),
    ])
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
