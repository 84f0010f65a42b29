//! The codec of the XML-RPC dialect of 1.x/2.x collectors: three of its methods.
//!
//! * `collector_get_action_queue_v2(node, auth)`: an array of rows, whose status becomes S.
//! * `collector_update_action_queue_received([id, …], auth)`: nil; acknowledges.
//! * `collector_update_action_queue([[id, ret, stdout, stderr], …], auth)`: nil; takes results.
//!
//! `auth` is the pair of the node's uuid and its name. The last two answer nil whether or not they changed a row. What
//! goes wrong is a fault, always with code 1, in a string that begins with the name of a python exception.

pub mod registration;
mod xml;

#[cfg(test)]
mod tests;

use super::row::{Row, Rows, Value, bounded};
use super::{DecodeError, Report};
use crate::action::{ActionId, Batch};
use std::fmt::Write;
use xml::Reader;

/// The bytes of a fault's text that are shown.
const FAULT_TEXT: usize = 1024;

/// Which refusal a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The collector does not know the node's name.
    NotRegistered,
    /// The collector knows the name and refuses the uuid.
    BadUuid,
    /// The collector does not have the method.
    UnknownMethod,
    /// Anything else. When the collector's event server is down, every fault is of this kind, refused credentials
    /// included: they cannot be told apart then.
    Other,
}

/// An answer that is not the one hoped for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// The collector refused.
    #[error("the collector answered: {text}")]
    Fault {
        /// Which refusal.
        kind: FaultKind,
        /// The collector's words, without the name of its exception; one bounded line.
        text: String,
    },
    /// The answer cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// The request that fetches the queue.
#[must_use]
pub fn encode_fetch(node: &str, uuid: &str) -> Vec<u8> {
    call("collector_get_action_queue_v2", |xml| string(xml, node), node, uuid)
}

/// The request that acknowledges rows.
#[must_use]
pub fn encode_received(ids: &[ActionId], node: &str, uuid: &str) -> Vec<u8> {
    let ids = |xml: &mut String| array(xml, ids, |xml, id| integer(xml, id.0));
    call("collector_update_action_queue_received", ids, node, uuid)
}

/// The request that posts results. Their dates are not part of it: the collector puts its own.
#[must_use]
pub fn encode_update(reports: &[Report], node: &str, uuid: &str) -> Vec<u8> {
    let result = |xml: &mut String, report: &Report| {
        array(xml, 0..4, |xml, column| match column {
            0 => integer(xml, report.id.0),
            1 => integer(xml, report.ret.into()),
            2 => string(xml, &report.stdout),
            _ => string(xml, &report.stderr),
        });
    };
    call("collector_update_action_queue", |xml| array(xml, reports, result), node, uuid)
}

/// Reads the answer to [`encode_fetch`], row by row. Dates are kept as they stand: local time of the database, without a
/// zone.
///
/// # Errors
/// A fault, or an answer that is not an array.
pub fn decode_fetch(body: &[u8]) -> Result<Batch, RpcError> {
    let mut reader = result(body)?;
    reader.enter("param")?;
    reader.enter("value")?;
    reader.enter("array")?;
    reader.enter("data")?;
    let mut rows = Rows::default();
    while let Some(element) = reader.open()? {
        if element != "value" {
            return Err(reader.error(&format!("expected <value>, found <{element}>")).into());
        }
        let row = row(&mut reader)?;
        rows.add(row).map_err(|what| reader.error(&what))?;
    }
    reader.end()?;
    Ok(rows.finish())
}

/// Reads the answer to [`encode_received`] and [`encode_update`], which says nothing but that it is no fault.
///
/// # Errors
/// A fault, or something else than an answer.
pub fn decode_done(body: &[u8]) -> Result<(), RpcError> {
    Ok(result(body)?.end()?)
}

/// Goes to the values of an answer; a fault is an error.
fn result(body: &[u8]) -> Result<Reader<'_>, RpcError> {
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
    let said = text.split_once(':').map_or(text.as_str(), |(_, said)| said).trim();
    let kind = if said.starts_with("agent ") && said.ends_with(" not registered") {
        FaultKind::NotRegistered
    } else if said == "agent authentication error" {
        FaultKind::BadUuid
    } else if said.starts_with("method ") && said.ends_with(" is not supported") {
        FaultKind::UnknownMethod
    } else {
        FaultKind::Other
    };
    let text = if said.is_empty() { "a fault without words".to_owned() } else { bounded(said, FAULT_TEXT) };
    Ok(RpcError::Fault { kind, text })
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

/// The place of a member's value. A row has more: what a redone row still carries of its earlier output is passed over.
fn column<'a>(row: &'a mut Row, member: &str) -> Option<&'a mut Value> {
    Some(match member {
        "id" => &mut row.id,
        "status" => &mut row.status,
        "command" => &mut row.command,
        "svc_id" => &mut row.svc_id,
        "svcname" => &mut row.svcname,
        "date_queued" => &mut row.queued_at,
        "ret" => &mut row.ret,
        _ => return None,
    })
}

/// A call as python's `xmlrpc.client` writes it, to the byte: a first argument, then `auth`.
fn call(method: &str, first: impl FnOnce(&mut String), node: &str, uuid: &str) -> Vec<u8> {
    let mut xml =
        format!("<?xml version='1.0'?>\n<methodCall>\n<methodName>{method}</methodName>\n<params>\n<param>\n");
    first(&mut xml);
    xml.push_str("</param>\n<param>\n");
    array(&mut xml, [uuid, node], string);
    xml.push_str("</param>\n</params>\n</methodCall>\n");
    xml.into_bytes()
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
    xml::escape(text, xml);
    xml.push_str("</string></value>\n");
}
