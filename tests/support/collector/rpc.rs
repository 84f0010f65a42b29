//! The server's side of the calls of 1.x/2.x collectors, in XML-RPC and in JSON-RPC 2.

use serde_json::Value as Json;

use super::fault::Answer;
use super::state::{Odd, Row};
use super::value::Value;
use super::{json, xml};

pub(super) const XML_PATH: &str = "/feed/default/call/xmlrpc";
pub(super) const JSON_PATH: &str = "/feed/default/call/jsonrpc2";

pub(super) const FETCH: &str = "collector_get_action_queue_v2";
pub(super) const FETCH_V1: &str = "collector_get_action_queue";
pub(super) const RECEIVED: &str = "collector_update_action_queue_received";
pub(super) const UPDATE: &str = "collector_update_action_queue";
pub(super) const REGISTER: &str = "register_node";
/// XML-RPC only.
pub(super) const LIST_METHODS: &str = "system.listMethods";

/// What a collector of before 2021 does not know.
const NEWER: [&str; 2] = [FETCH, RECEIVED];
/// A few of the ninety that mean nothing here.
const OTHERS: [&str; 6] =
    ["begin_action", "collector_checks", "push_status", "system.methodHelp", "system.methodSignature", "update_asset"];

/// The names that `system.listMethods` tells.
pub(super) fn methods(is_old: bool) -> Vec<&'static str> {
    let mut methods = OTHERS.to_vec();
    methods.extend([FETCH_V1, UPDATE, REGISTER, LIST_METHODS]);
    if !is_old {
        methods.extend(NEWER);
    }
    methods.sort_unstable();
    methods
}

/// Whether a collector knows a call.
pub(super) fn knows(is_old: bool, form: Form, method: &str) -> bool {
    let is_listed = [FETCH_V1, UPDATE, REGISTER].contains(&method) || (NEWER.contains(&method) && !is_old);
    is_listed || (method == LIST_METHODS && form == Form::Xml)
}

/// What a call is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Xml,
    Json,
}

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A python exception: its type and its text.
    Exception(&'static str, String),
    NoMethod(String),
    /// It cannot be read.
    Malformed(String),
    /// JSON: names that have to be there.
    Missing(Vec<&'static str>),
    /// JSON: another version of the protocol.
    Version(String),
}

impl Refusal {
    pub(super) fn exception(text: impl Into<String>) -> Self {
        Self::Exception("Exception", text.into())
    }

    /// In a few words.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Exception(_, text) | Self::Malformed(text) => text.clone(),
            Self::NoMethod(name) => format!("method \"{name}\" is not supported"),
            Self::Missing(names) => format!("without {}", names.join(" and ")),
            Self::Version(version) => format!("version {version:?}"),
        }
    }
}

/// To whom an answer goes.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) form: Form,
    /// JSON: by which it knows the answer. None: it wants none.
    pub(super) id: Option<Json>,
}

impl Caller {
    pub(super) fn answer(&self, result: &Result<Value, Refusal>) -> Answer {
        match (self.form, result) {
            (Form::Xml, Ok(value)) => xml::response(value),
            (Form::Xml, Err(Refusal::Exception(kind, text))) => {
                xml::fault(&format!("<type 'exceptions.{kind}'>:{text}"))
            }
            (Form::Xml, Err(Refusal::Malformed(text))) => {
                xml::fault(&format!("<class 'xml.parsers.expat.ExpatError'>:{text}"))
            }
            (Form::Xml, Err(refusal)) => xml::fault(&format!("<type 'exceptions.Exception'>:{}", refusal.told())),
            (Form::Json, result) => match (&self.id, result) {
                (None, Ok(_) | Err(Refusal::Exception(..) | Refusal::NoMethod(_))) => json::nothing(),
                (id, Ok(value)) => json::response(id.as_ref().unwrap_or(&Json::Null), value),
                (id, Err(refusal)) => json::refusal(id.as_ref().unwrap_or(&Json::Null), refusal),
            },
        }
    }
}

/// A call as it was read.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) method: String,
    params: Vec<Value>,
}

impl Called {
    pub(super) fn read(form: Form, body: &[u8]) -> (Caller, Result<Self, Refusal>) {
        match form {
            Form::Xml => {
                let called = xml::read(body).map(|(method, params)| Self { method, params });
                (Caller { form, id: None }, called.map_err(Refusal::Malformed))
            }
            Form::Json => match json::read(body) {
                Ok((id, method, params)) => (Caller { form, id }, Ok(Self { method, params })),
                Err(refusal) => (Caller { form, id: None }, Err(refusal)),
            },
        }
    }

    /// The last argument of every call but that for the methods and the registration: uuid and name.
    pub(super) fn credentials(&self) -> Option<(String, String)> {
        match self.params.last() {
            Some(Value::Array(pair)) => match pair.as_slice() {
                [Value::Text(uuid), Value::Text(name)] => Some((uuid.clone(), name.clone())),
                _ => None,
            },
            _ => None,
        }
    }

    /// The name that a node wants to be registered under.
    pub(super) fn name(&self) -> Result<String, Refusal> {
        match self.params.as_slice() {
            [Value::Text(name)] => Ok(name.clone()),
            [Value::Nil] => Ok(String::new()),
            params => Err(self.arguments(1, params.len())),
        }
    }

    /// Whether a fetch has its two arguments.
    pub(super) fn is_fetch(&self) -> Result<(), Refusal> {
        if self.params.len() == 2 { Ok(()) } else { Err(self.arguments(2, self.params.len())) }
    }

    fn arguments(&self, wanted: usize, given: usize) -> Refusal {
        Refusal::Exception("TypeError", format!("{}() takes exactly {wanted} arguments ({given} given)", self.method))
    }

    /// The rows that are acknowledged.
    pub(super) fn ids(&self) -> Result<Vec<i64>, Refusal> {
        let Some(Value::Array(ids)) = self.params.first() else { return Err(Refusal::exception("no ids")) };
        ids.iter().map(Value::number).collect::<Result<_, _>>().map_err(Refusal::exception)
    }

    /// The results: id, ret, stdout, stderr.
    pub(super) fn results(&self) -> Result<Vec<(i64, i64, String, String)>, Refusal> {
        let Some(Value::Array(results)) = self.params.first() else { return Err(Refusal::exception("no results")) };
        let result = |result: &Value| match result {
            Value::Array(members) => match members.as_slice() {
                [id, ret, Value::Text(stdout), Value::Text(stderr)] => {
                    Ok((id.number()?, ret.number()?, stdout.clone(), stderr.clone()))
                }
                _ => Err(format!("a result is {members:?}")),
            },
            _ => Err(format!("a result is {result:?}")),
        };
        results.iter().map(result).collect::<Result<_, _>>().map_err(Refusal::exception)
    }
}

/// What a fetch is answered.
pub(super) fn queue(rows: &[Row]) -> Value {
    Value::Array(rows.iter().map(row).collect())
}

fn row(row: &Row) -> Value {
    if row.odd == Odd::NotARow {
        return Value::Int(row.id);
    }
    let may_be_null = |value: Value| if row.odd == Odd::NullMembers { Value::Nil } else { value };
    let mut members = vec![
        ("status", Value::text(&row.status.to_string())),
        ("svc_id", may_be_null(Value::text(&row.svc_id))),
        ("date_queued", may_be_null(Value::Date(row.queued_at()))),
        ("action_type", may_be_null(Value::text("pull"))),
        ("stdout", Value::or_nil(row.stdout.as_ref())),
        ("connect_to", may_be_null(Value::text("127.0.0.1"))),
        ("ret", row.ret.map_or(Value::Nil, Value::Int)),
        ("date_dequeued", Value::Nil),
        ("node_id", may_be_null(Value::text("5c977246-0562-11e6-8c70-7e9e6cf13c8a"))),
        ("stderr", Value::or_nil(row.stderr.as_ref())),
        ("svcname", Value::or_nil(row.svcname.as_ref())),
    ];
    match row.odd {
        Odd::NoCommand => {}
        Odd::NullCommand => members.push(("command", Value::Nil)),
        _ => members.push(("command", Value::text(&row.command))),
    }
    match row.odd {
        Odd::NoId => {}
        Odd::IdIsWord => members.push(("id", Value::text("first"))),
        Odd::IdInString => members.push(("id", Value::text(&row.id.to_string()))),
        _ => members.push(("id", Value::Int(row.id))),
    }
    if row.odd == Odd::UnknownMembers {
        members.push(("priority", Value::Struct(vec![("level", Value::Double(2.5))])));
    }
    Value::Struct(members)
}
