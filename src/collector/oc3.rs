//! The codec of collector 3's REST dialect: three calls below the feeder's URL.
//!
//! * `GET api/node/actionq` → 200, `{"actions": […]}`: the node's rows, whose status becomes S. Not atomic, not ordered,
//!   not limited.
//! * `POST api/node/actionq/running`, `{"ids": […]}` → 202, `null`: acknowledges.
//! * `POST api/node/actionq/done`, one result → 202, `null`; 500 when a stream is longer than 65,535 bytes or holds a
//!   character above U+FFFF, or the date is outside of what the column covers.
//!
//! Both POSTs answer 202 whether or not they changed a row. Errors are `{"text": …}` from a handler and `{"message": …}`
//! from the router.

use super::json::{List, encode as json, undecodable};
use super::row::{Row, Rows, Value, bounded};
use super::{DecodeError, Report};
use crate::action::{ActionId, Batch};
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;

/// The bytes of an error text that are shown.
const ERROR_TEXT: usize = 1024;

/// The longest body that is looked at for an error text. A proxy's page can be of any length.
const ERROR_BODY: usize = 64 * 1024;

/// Reads the answer to `GET api/node/actionq`, row by row. Dates are kept as they stand: they carry the zone of the
/// collector's process, which need not be that of its database.
///
/// # Errors
/// The body as a whole is not JSON, or not an object with `actions`.
pub fn decode_actions(body: &[u8]) -> Result<Batch, DecodeError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let rows = json.deserialize_map(AnswerVisitor).and_then(|rows| json.end().map(|()| rows));
    rows.map(Rows::finish).map_err(|error| undecodable(&error))
}

/// The body of `POST api/node/actionq/running`.
#[must_use]
pub fn encode_running(ids: &[ActionId]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Running {
        ids: Vec<i64>,
    }
    json(&Running { ids: ids.iter().map(|id| id.0).collect() })
}

/// The body of `POST api/node/actionq/done`. The streams have to be clamped (see [`crate::action::output`]); the date is
/// brought into the range of the collector's column here.
#[must_use]
pub fn encode_done(report: &Report) -> Vec<u8> {
    #[derive(Serialize)]
    struct Done<'a> {
        id: i64,
        ret: i32,
        stdout: &'a str,
        stderr: &'a str,
        /// When the action was *completed*, in spite of the name.
        dequeued_at: String,
    }
    json(&Done {
        id: report.id.0,
        ret: report.ret,
        stdout: &report.stdout,
        stderr: &report.stderr,
        dequeued_at: report.ended_at.clamped().rfc3339_millis(),
    })
}

/// The words of an error answer, as one bounded line; none if it has another shape, like a proxy's page.
#[must_use]
pub fn error_text(body: &[u8]) -> Option<String> {
    if body.len() > ERROR_BODY {
        return None;
    }
    let mut problem: HashMap<String, Value> = serde_json::from_slice(body).ok()?;
    ["text", "message"].iter().find_map(|&name| match problem.remove(name)? {
        Value::Text(text) if !text.trim().is_empty() => Some(bounded(&text, ERROR_TEXT)),
        _ => None,
    })
}

struct AnswerVisitor;

impl<'de> Visitor<'de> for AnswerVisitor {
    type Value = Rows;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object with \"actions\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rows, A::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Key {
            Actions,
            #[serde(other)]
            Other,
        }
        let mut rows = None;
        while let Some(key) = map.next_key()? {
            match key {
                // Null is an empty list.
                Key::Actions => rows = Some(map.next_value_seed(List(column))?.unwrap_or_default()),
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        rows.ok_or_else(|| Error::missing_field("actions"))
    }
}

/// The place of a member's value.
fn column<'a>(row: &'a mut Row, member: &str) -> Option<&'a mut Value> {
    Some(match member {
        "id" => &mut row.id,
        "status" => &mut row.status,
        "command" => &mut row.command,
        "svc_id" => &mut row.svc_id,
        "svcname" => &mut row.svcname,
        "queued_at" => &mut row.queued_at,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
