//! The codec of XML-RPC, as the agents 1.x and 2.x speak it. What goes wrong is a fault, always with code 1, in a string
//! that begins with the name of a python exception.

use super::reader::{self, Reader};
use super::{Call, FaultKind, RpcError, column};
use crate::action::Batch;
use crate::collector::DecodeError;
use crate::collector::row::{Row, Rows, Value, bounded};
use std::fmt::Write;

/// The names of methods that are read. (A real collector has a hundred.)
const METHODS: usize = 10_000;

/// The bytes of a method's name.
const METHOD_NAME: usize = 200;

/// Writes a call as python's `xmlrpc.client` does, to the byte.
#[must_use]
pub fn encode(call: &Call, node: &str, uuid: &str) -> Vec<u8> {
    let method = call.method();
    let mut xml = format!("<?xml version='1.0'?>\n<methodCall>\n<methodName>{method}</methodName>\n<params>\n");
    let first: Option<&dyn Fn(&mut String)> = match call {
        Call::Fetch | Call::FetchV1 => Some(&|xml| string(xml, node)),
        Call::Received(ids) => Some(&|xml| array(xml, *ids, |xml, id| integer(xml, id.0))),
        Call::Update(reports) => Some(&|xml| {
            array(xml, *reports, |xml, report| {
                array(xml, 0..4, |xml, column| match column {
                    0 => integer(xml, report.id.0),
                    1 => integer(xml, report.ret.into()),
                    2 => string(xml, &report.stdout),
                    _ => string(xml, &report.stderr),
                });
            });
        }),
        Call::ListMethods => None,
    };
    if let Some(first) = first {
        xml.push_str("<param>\n");
        first(&mut xml);
        xml.push_str("</param>\n<param>\n");
        array(&mut xml, [uuid, node], string);
        xml.push_str("</param>\n");
    }
    xml.push_str("</params>\n</methodCall>\n");
    xml.into_bytes()
}

/// Reads the answer to [`Call::Fetch`] and [`Call::FetchV1`], row by row. Dates are kept as they stand: local time of the database, without a
/// zone.
///
/// # Errors
/// A fault, or an answer that is not an array.
pub fn decode_fetch(body: &[u8]) -> Result<Batch, RpcError> {
    let mut reader = list(body)?;
    let mut rows = Rows::default();
    while next_value(&mut reader)? {
        let row = row(&mut reader)?;
        rows.add(row).map_err(|what| reader.error(&what))?;
    }
    reader.end()?;
    Ok(rows.finish())
}

/// Reads the answer to [`Call::Received`] and [`Call::Update`], which says nothing but that it is no fault.
///
/// # Errors
/// A fault, or something else than an answer.
pub fn decode_done(body: &[u8]) -> Result<(), RpcError> {
    Ok(result(body)?.end()?)
}

/// Reads the answer to [`Call::ListMethods`].
///
/// # Errors
/// A fault, or an answer that is not an array; more names than any collector has.
pub fn decode_methods(body: &[u8]) -> Result<Vec<String>, RpcError> {
    let mut reader = list(body)?;
    let mut names = Vec::new();
    while next_value(&mut reader)? {
        if names.len() == METHODS {
            return Err(reader.error(&format!("more than {METHODS} methods")).into());
        }
        if let Value::Text(name) = reader.value()? {
            names.push(bounded(&name, METHOD_NAME));
        }
    }
    reader.end()?;
    Ok(names)
}

/// Goes to the elements of an answer that is an array.
fn list(body: &[u8]) -> Result<Reader<'_>, RpcError> {
    let mut reader = result(body)?;
    for element in ["param", "value", "array", "data"] {
        reader.enter(element)?;
    }
    Ok(reader)
}

/// Enters the next element of an array, if there is one.
fn next_value(reader: &mut Reader) -> Result<bool, DecodeError> {
    match reader.open()? {
        Some(element) if element == "value" => Ok(true),
        Some(element) => Err(reader.error(&format!("expected <value>, found <{element}>"))),
        None => Ok(false),
    }
}

/// Goes to the values of an answer; a fault is an error.
pub(super) fn result(body: &[u8]) -> Result<Reader<'_>, RpcError> {
    let mut reader = Reader::new(body);
    reader.enter("methodResponse")?;
    match reader.open()?.as_deref() {
        Some("params") => Ok(reader),
        Some("fault") => Err(fault(&mut reader)?),
        Some(other) => Err(reader.error(&format!("expected <params>, found <{other}>")).into()),
        None => Err(reader.error("the answer is empty").into()),
    }
}

fn fault(reader: &mut Reader) -> Result<RpcError, DecodeError> {
    let mut text = String::new();
    reader.enter("value")?;
    reader.enter("struct")?;
    reader.members(
        |name| name == "faultString",
        |name, value| {
            if let ("faultString", Value::Text(said)) = (name, value) {
                text = said;
            }
        },
    )?;
    reader.end()?;
    // `<type 'exceptions.Exception'>:agent authentication error`
    let (exception, said) =
        text.split_once(':').map_or(("", text.as_str()), |(exception, said)| (exception, said.trim()));
    let is_unknown = said.starts_with("method ") && said.ends_with(" is not supported");
    let kind = if is_unknown { FaultKind::UnknownMethod } else { FaultKind::of(exception, said) };
    Ok(RpcError::fault(kind, said))
}

/// An element of the array: a row, or the kind of what it is instead. Leaves its `<value>`.
fn row(reader: &mut Reader) -> Result<Result<Row, &'static str>, DecodeError> {
    let kind = match reader.open()?.as_deref() {
        Some("struct") => {
            let mut row = Row::default();
            let is_wanted = |name: &str| column(&mut Row::default(), name.trim()).is_some();
            reader.members(is_wanted, |name, value| {
                if let Some(column) = column(&mut row, name) {
                    *column = value;
                }
            })?;
            reader.leave()?;
            return Ok(Ok(row));
        }
        Some("nil" | "ex:nil") => "nil",
        Some("array") => "an array",
        Some(_) => "a scalar",
        None => return Ok(Err("text")),
    };
    reader.leave()?;
    reader.leave()?;
    Ok(Err(kind))
}

fn array<T>(xml: &mut String, elements: impl IntoIterator<Item = T>, write: impl Fn(&mut String, T)) {
    xml.push_str("<value><array><data>\n");
    elements.into_iter().for_each(|element| write(xml, element));
    xml.push_str("</data></array></value>\n");
}

fn integer(xml: &mut String, number: i64) {
    // Writing to memory does not fail.
    let _ = writeln!(xml, "<value><int>{number}</int></value>");
}

fn string(xml: &mut String, text: &str) {
    xml.push_str("<value><string>");
    reader::escape(text, xml);
    xml.push_str("</string></value>\n");
}
