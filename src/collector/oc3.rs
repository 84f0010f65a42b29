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

use super::row::{Row, Rows, Value, bounded};
use super::{DecodeError, Report};
use crate::action::{ActionId, Batch};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
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
    rows.map(Rows::finish).map_err(|error| {
        let text = error.to_string();
        // The place is said by the fields.
        let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
        DecodeError { line: error.line(), column: error.column(), what: bounded(what, ERROR_TEXT) }
    })
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

fn json(value: &impl Serialize) -> Vec<u8> {
    // Writing structures of text and numbers to memory does not fail.
    serde_json::to_vec(value).unwrap_or_default()
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
                Key::Actions => rows = Some(map.next_value_seed(Actions)?),
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        rows.ok_or_else(|| Error::missing_field("actions"))
    }
}

/// The list of rows; null is an empty one.
struct Actions;

impl<'de> DeserializeSeed<'de> for Actions {
    type Value = Rows;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Rows, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Actions {
    type Value = Rows;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_unit<E>(self) -> Result<Rows, E> {
        Ok(Rows::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Rows, A::Error> {
        let mut rows = Rows::default();
        while let Some(Element(row)) = list.next_element()? {
            rows.add(row).map_err(A::Error::custom)?;
        }
        Ok(rows)
    }
}

/// An element of the list: a row, or the kind of what it is instead.
struct Element(Result<Row, &'static str>);

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Key {
            Id,
            Status,
            Command,
            SvcId,
            Svcname,
            QueuedAt,
            #[serde(other)]
            Other,
        }

        struct RowVisitor;

        impl<'de> AnyVisitor<'de> for RowVisitor {
            type Output = Element;

            fn scalar(self, value: Value) -> Element {
                Element(Err(match value {
                    Value::Null => "null",
                    Value::Text(_) => "text",
                    Value::Integer(_) => "a number",
                    Value::Other(kind) => kind,
                }))
            }

            fn map<A: MapAccess<'de>>(self, mut map: A) -> Result<Element, A::Error> {
                let mut row = Row::default();
                while let Some(key) = map.next_key()? {
                    let value = match key {
                        Key::Id => &mut row.id,
                        Key::Status => &mut row.status,
                        Key::Command => &mut row.command,
                        Key::SvcId => &mut row.svc_id,
                        Key::Svcname => &mut row.svcname,
                        Key::QueuedAt => &mut row.queued_at,
                        Key::Other => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *value = map.next_value()?;
                }
                Ok(Element(Ok(row)))
            }
        }

        json.deserialize_any(Any(RowVisitor))
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct ValueVisitor;

        impl<'de> AnyVisitor<'de> for ValueVisitor {
            type Output = Value;

            fn scalar(self, value: Value) -> Value {
                value
            }

            fn map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Other("an object"))
            }
        }

        json.deserialize_any(Any(ValueVisitor))
    }
}

/// What is made of JSON of any kind: the [`Visitor`] without its dozen methods for scalars.
trait AnyVisitor<'de> {
    type Output;

    fn scalar(self, value: Value) -> Self::Output;

    fn map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Output, A::Error>;
}

struct Any<V>(V);

impl<'de, V: AnyVisitor<'de>> Visitor<'de> for Any<V> {
    type Value = V::Output;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<V::Output, E> {
        Ok(self.0.scalar(Value::Null))
    }

    fn visit_bool<E>(self, _: bool) -> Result<V::Output, E> {
        Ok(self.0.scalar(Value::Other("true or false")))
    }

    fn visit_i64<E>(self, number: i64) -> Result<V::Output, E> {
        Ok(self.0.scalar(Value::Integer(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<V::Output, E> {
        let too_large = Value::Other("a number above 63 bits");
        Ok(self.0.scalar(i64::try_from(number).map_or(too_large, Value::Integer)))
    }

    fn visit_f64<E>(self, _: f64) -> Result<V::Output, E> {
        Ok(self.0.scalar(Value::Other("a number with a fraction")))
    }

    fn visit_str<E>(self, text: &str) -> Result<V::Output, E> {
        Ok(self.0.scalar(Value::Text(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<V::Output, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.0.scalar(Value::Other("an array")))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Output, A::Error> {
        self.0.map(map)
    }
}

#[cfg(test)]
mod tests;
