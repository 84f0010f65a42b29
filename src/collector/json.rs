//! JSON as both dialects read and write it: rows of any shape, values of any type, words for what cannot be read.

use super::DecodeError;
use super::row::{Row, Rows, Value, bounded};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The bytes of an error text.
const ERROR_TEXT: usize = 1024;

/// The place in a row of the member with this name; none for one that nobody needs.
pub(super) type Column = for<'a> fn(&'a mut Row, &str) -> Option<&'a mut Value>;

/// Writes text and numbers, in the order of their fields.
pub(super) fn encode(value: &impl Serialize) -> Vec<u8> {
    // Writing such structures to memory does not fail.
    serde_json::to_vec(value).unwrap_or_default()
}

/// What is wrong, and where.
pub(super) fn undecodable(error: &serde_json::Error) -> DecodeError {
    let text = error.to_string();
    // The place is said by the fields.
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    DecodeError { line: error.line(), column: error.column(), what: bounded(what, ERROR_TEXT) }
}

/// The list of rows; none when it is null.
pub(super) struct List(pub(super) Column);

impl<'de> DeserializeSeed<'de> for List {
    type Value = Option<Rows>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<Rows>, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List {
    type Value = Option<Rows>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_unit<E>(self) -> Result<Option<Rows>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<Rows>, A::Error> {
        let mut rows = Rows::default();
        while let Some(row) = list.next_element_seed(Element(self.0))? {
            rows.add(row).map_err(A::Error::custom)?;
        }
        Ok(Some(rows))
    }
}

/// An element of the list: a row, or the kind of what it is instead.
struct Element(Column);

impl<'de> DeserializeSeed<'de> for Element {
    type Value = Result<Row, &'static str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(Any(self))
    }
}

impl<'de> AnyVisitor<'de> for Element {
    type Output = Result<Row, &'static str>;

    fn scalar(self, value: Value) -> Self::Output {
        Err(match value {
            Value::Null => "null",
            Value::Text(_) => "text",
            Value::Integer(_) => "a number",
            Value::Other(kind) => kind,
        })
    }

    fn map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Output, A::Error> {
        let mut row = Row::default();
        while let Some(place) = map.next_key_seed(Member(&mut row, self.0))? {
            match place {
                Some(place) => *place = map.next_value()?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Ok(row))
    }
}

/// The name of a member of a row: where its value goes.
struct Member<'a>(&'a mut Row, Column);

impl<'de, 'a> DeserializeSeed<'de> for Member<'a> {
    type Value = Option<&'a mut Value>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Member<'a> {
    type Value = Option<&'a mut Value>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.1(self.0, name))
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
