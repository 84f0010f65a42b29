//! What the calls of 1.x/2.x collectors carry, whatever it is written in.

/// Deeper values are refused: the calls have three levels.
pub(super) const MAX_DEPTH: usize = 16;

/// A value of a call or an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Nil,
    Int(i64),
    Double(f64),
    Text(String),
    /// `2026-11-21 08:50:03`: no zone, nobody knows whose time it is.
    Date(String),
    Array(Vec<Value>),
    Struct(Vec<(&'static str, Value)>),
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// A text, or nil.
    pub(super) fn or_nil(text: Option<&String>) -> Self {
        text.map_or(Self::Nil, |text| Self::text(text))
    }

    /// An integer, which may be written as a text.
    pub(super) fn number(&self) -> Result<i64, String> {
        match self {
            Self::Int(number) => Ok(*number),
            Self::Text(text) => text.parse().map_err(|err| format!("{err}: {text}")),
            _ => Err(format!("not a number: {self:?}")),
        }
    }
}
