//! What the rpc calls carry, whichever way it is written.

use crate::clock::Timestamp;

/// Arrays deeper than this are not read: the calls have three levels.
pub const MAX_DEPTH: usize = 16;

/// A value of a call or of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nil, null.
    Nil,
    /// A whole number, clamped to 64 bits. Booleans are 0 and 1.
    Int(i64),
    /// A number with a fraction.
    Double(f64),
    /// A text.
    Text(String),
    /// A date, in answers only.
    Date(Timestamp),
    /// An array.
    Array(Vec<Value>),
    /// Members in their order.
    Struct(Vec<(String, Value)>),
    /// What no queue call uses, or what lies too deep.
    Other,
}

impl Value {
    /// A text, or nil.
    #[must_use]
    pub fn or_nil(text: Option<&str>) -> Self {
        text.map_or(Self::Nil, |text| Self::Text(text.to_owned()))
    }
}

/// An integer, clamped to 64 bits.
#[must_use]
pub fn parse_int(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(if text.starts_with('-') { i64::MIN } else { i64::MAX }))
}
