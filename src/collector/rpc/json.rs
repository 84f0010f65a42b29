//! The codec of JSON-RPC 2, which collectors have since 2022. What goes wrong is an object `error` beside HTTP status 200.
//!
//! An exception of the collector has the code -32099 and in `data` its name, its words and, on a line of their own, the
//! word `False` (or, for a client on the collector's machine, a traceback). An unknown method is -32601. The answer
//! repeats the number of its call; it is null where the call could not be read.

use super::super::json::{List, undecodable};
use super::{Call, FaultKind, RpcError, column};
use crate::action::Batch;
use crate::collector::DecodeError;
use crate::collector::row::{Rows, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;

/// How deep arrays and objects may nest. A row's value is three deep.
const DEPTH: usize = 32;

/// The code of a method that the collector does not have.
const UNKNOWN_METHOD: i64 = -32601;

/// The code of an exception.
const EXCEPTION: i64 = -32099;

/// Writes call number `id`.
#[must_use]
pub fn encode(id: u64, call: &Call, node: &str, uuid: &str) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Request<'a> {
        jsonrpc: &'static str,
        id: u64,
        method: &'static str,
        params: Params<'a>,
    }
    let request = Request { jsonrpc: "2.0", id, method: call.method(), params: Params { call, node, uuid } };
    let mut json = Vec::with_capacity(call.weight());
    // Writing text and numbers to memory does not fail.
    let _ = serde_json::to_writer(&mut json, &request);
    json
}

/// The positional arguments.
struct Params<'a> {
    call: &'a Call<'a>,
    node: &'a str,
    uuid: &'a str,
}

impl Serialize for Params<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let mut params = json.serialize_seq(None)?;
        match self.call {
            Call::Fetch | Call::FetchV1 => params.serialize_element(self.node)?,
            Call::Received(ids) => params.serialize_element(&ids.iter().map(|id| id.0).collect::<Vec<_>>())?,
            Call::Update(reports) => {
                let rows = reports.iter().map(|report| (report.id.0, report.ret, &report.stdout, &report.stderr));
                params.serialize_element(&rows.collect::<Vec<_>>())?;
            }
            Call::ListMethods => return params.end(),
        }
        params.serialize_element(&[self.uuid, self.node])?;
        params.end()
    }
}

/// Reads the answer to [`Call::Fetch`] and [`Call::FetchV1`], row by row. Dates are kept as they stand.
///
/// # Errors
/// A fault, an answer that is not an array, or one to another call than number `id`.
pub fn decode_fetch(id: u64, body: &[u8]) -> Result<Batch, RpcError> {
    match read(id, body, true)? {
        Found::Rows(rows) => Ok(rows.finish()),
        _ => Err(nowhere("result is null, not an array of rows").into()),
    }
}

/// Reads the answer to [`Call::Received`] and [`Call::Update`], which says nothing but that it is no fault.
///
/// # Errors
/// A fault, or something else than an answer to call number `id`.
pub fn decode_done(id: u64, body: &[u8]) -> Result<(), RpcError> {
    read(id, body, false).map(drop)
}

/// The words of an answer that is an error, whatever call it is for; none if it has another shape, like a proxy's page.
#[must_use]
pub fn error_text(body: &[u8]) -> Option<String> {
    let answer = parse(body, false).ok()?;
    match fault(answer.error?) {
        RpcError::Fault { text, .. } => Some(text),
        RpcError::Decode(_) => None,
    }
}

fn read(id: u64, body: &[u8], rows: bool) -> Result<Found, RpcError> {
    let answer = parse(body, rows)?;
    let is_ours = matches!(&answer.id, Some(Value::Integer(number)) if u64::try_from(*number) == Ok(id));
    match answer.error {
        // The collector does not know the number of a call that it could not read.
        Some(error) if is_ours || matches!(answer.id, None | Some(Value::Null)) => Err(fault(error)),
        _ if !is_ours => Err(nowhere(&format!("it is not the answer to call {id}")).into()),
        _ => match answer.result {
            Found::Nothing => Err(nowhere("neither result nor error").into()),
            found => Ok(found),
        },
    }
}

fn nowhere(what: &str) -> DecodeError {
    DecodeError { line: 1, column: 0, what: what.to_owned() }
}

fn fault(error: Problem) -> RpcError {
    let text = |value| match value {
        Value::Text(text) => text,
        _ => String::new(),
    };
    let (message, data) = (text(error.message), text(error.data));
    match error.code {
        Value::Integer(UNKNOWN_METHOD) => {
            RpcError::fault(FaultKind::UnknownMethod, if data.is_empty() { &message } else { &data })
        }
        Value::Integer(EXCEPTION) if !data.is_empty() => {
            // `Exception: agent authentication error\nFalse`
            let said = data.rsplit_once('\n').filter(|(_, last)| *last == "False" || last.starts_with('['));
            let said = said.map_or(data.as_str(), |(said, _)| said);
            let named = said.split_once(": ").filter(|(name, _)| !name.contains(char::is_whitespace));
            let (exception, said) = named.map_or(("", said), |(exception, said)| (exception, said.trim()));
            RpcError::fault(FaultKind::of(exception, said), said)
        }
        code => {
            let mut said = message;
            if let Value::Integer(code) = code {
                let _ = write!(said, " ({code})");
            }
            if !data.is_empty() {
                let _ = write!(said, ": {data}");
            }
            RpcError::fault(FaultKind::of("", &said), &said)
        }
    }
}

/// The members of an answer that count.
#[derive(Default)]
struct Answer {
    id: Option<Value>,
    result: Found,
    error: Option<Problem>,
}

/// What the result is.
#[derive(Default)]
enum Found {
    /// There is none.
    #[default]
    Nothing,
    /// The rows that were wanted.
    Rows(Rows),
    /// It is null, or nobody wanted to know.
    Something,
}

/// The members of an error.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Problem {
    code: Value,
    message: Value,
    data: Value,
}

fn parse(body: &[u8], rows: bool) -> Result<Answer, DecodeError> {
    let body = readable(body)?;
    let mut json = serde_json::Deserializer::from_slice(&body);
    let answer = json.deserialize_map(AnswerVisitor { rows }).and_then(|answer| json.end().map(|()| answer));
    answer.map_err(|error| undecodable(&error))
}

struct AnswerVisitor {
    rows: bool,
}

impl<'de> Visitor<'de> for AnswerVisitor {
    type Value = Answer;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object with \"result\" or \"error\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Answer, A::Error> {
        #[derive(serde::Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Key {
            Id,
            Result,
            Error,
            #[serde(other)]
            Other,
        }
        let mut answer = Answer::default();
        while let Some(key) = map.next_key()? {
            match key {
                Key::Id => answer.id = Some(map.next_value()?),
                Key::Result if self.rows => {
                    answer.result = map.next_value_seed(List(column))?.map_or(Found::Something, Found::Rows);
                }
                Key::Result => {
                    map.next_value::<IgnoredAny>()?;
                    answer.result = Found::Something;
                }
                Key::Error => answer.error = map.next_value_seed(ErrorSeed)?,
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(answer)
    }
}

/// An error, or null for none.
struct ErrorSeed;

impl<'de> DeserializeSeed<'de> for ErrorSeed {
    type Value = Option<Problem>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<Problem>, D::Error> {
        json.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for ErrorSeed {
    type Value = Option<Problem>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an error object")
    }

    fn visit_unit<E: Error>(self) -> Result<Option<Problem>, E> {
        Ok(None)
    }

    fn visit_none<E: Error>(self) -> Result<Option<Problem>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<Option<Problem>, D::Error> {
        serde::Deserialize::deserialize(json).map(Some)
    }
}

/// The body in a form that every reader takes, if it does not nest too deep: one stored oddity must not silence a node's
/// whole queue. What is not UTF-8 is replaced, and so are the halves of surrogate pairs that python writes when it has
/// them.
fn readable(body: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    let mut body = match String::from_utf8_lossy(body) {
        Cow::Borrowed(_) => Cow::Borrowed(body),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    let (mut depth, mut in_text, mut line, mut line_start, mut at) = (0_usize, false, 1, 0, 0);
    let mut halves = Vec::new();
    while let Some(&byte) = body.get(at) {
        match byte {
            b'\n' => (line, line_start) = (line + 1, at + 1),
            b'"' => in_text = !in_text,
            b'\\' if in_text => {
                match (unit(&body, at), unit(&body, at + 6)) {
                    (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => at += 10,
                    (Some(0xd800..0xe000), _) => halves.push(at),
                    _ => {}
                }
                at += 1;
            }
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > DEPTH {
                    let what = format!("arrays and objects nest more than {DEPTH} deep");
                    return Err(DecodeError { line, column: at - line_start + 1, what });
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    for half in halves {
        body.to_mut()[half..half + 6].copy_from_slice(br"\ufffd");
    }
    Ok(body)
}

/// The code unit that is written here as `\uXXXX`.
fn unit(body: &[u8], at: usize) -> Option<u16> {
    let digits = body.get(at..at + 6)?.strip_prefix(br"\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
