//! JSON as the feeder's Go library reads and writes it: what it accepts, and how it words its refusals.

use std::fmt;

use serde::Serialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::gotime;

/// A refusal, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GoError(pub String);

/// The members of an object, in their order, values unread.
#[derive(Debug, Default)]
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members::default();
                while let Some(member) = map.next_entry()? {
                    members.0.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// One value, unread, and where it stands.
#[derive(Debug)]
pub struct Field<'a> {
    raw: &'a str,
    place: String,
}

/// Reads an object as a Go structure: `visit` is given the fields of the structure in their order of appearance. Names
/// have no regard to case, unknown ones and nulls are passed over, bytes that are no UTF-8 become U+FFFD.
///
/// # Errors
/// The text is no JSON or no object, or `visit` refused a field.
pub fn read_object(
    body: &[u8],
    structure: &str,
    fields: &[&'static str],
    mut visit: impl FnMut(&'static str, Field<'_>) -> Result<(), GoError>,
) -> Result<(), GoError> {
    let text = replace_invalid(body);
    let raw: &RawValue = serde_json::from_str(&text).map_err(|error| syntax_error(&text, &error))?;
    if !raw.get().starts_with('{') {
        return match kind(raw.get()) {
            "null" => Ok(()),
            kind => Err(GoError(format!("json: cannot unmarshal {kind} into Go value of type feeder.{structure}"))),
        };
    }
    let members: Members = serde_json::from_str(raw.get()).map_err(|error| syntax_error(&text, &error))?;
    for (name, value) in &members.0 {
        let Some(field) = fields.iter().find(|field| field.eq_ignore_ascii_case(name)) else { continue };
        if value.get() != "null" {
            visit(field, Field { raw: value.get(), place: format!("Go struct field {structure}.{field}") })?;
        }
    }
    Ok(())
}

impl Field<'_> {
    fn refuse<T>(&self, value: &str, wanted: &str) -> Result<T, GoError> {
        Err(GoError(format!("json: cannot unmarshal {value} into {} of type {wanted}", self.place)))
    }

    /// A Go `int`.
    ///
    /// # Errors
    /// It is no integer of 64 bits.
    pub fn int(&self) -> Result<i64, GoError> {
        match (kind(self.raw), self.raw.parse()) {
            ("number", Ok(number)) => Ok(number),
            ("number", Err(_)) => self.refuse(&format!("number {}", self.raw), "int"),
            (kind, _) => self.refuse(kind, "int"),
        }
    }

    /// A Go `[]int`; a null in it leaves a zero.
    ///
    /// # Errors
    /// It is no array, or holds something else.
    pub fn ints(&self) -> Result<Vec<i64>, GoError> {
        if kind(self.raw) != "array" {
            return self.refuse(kind(self.raw), "[]int");
        }
        let items: Vec<&RawValue> = serde_json::from_str(self.raw).map_err(|error| syntax_error(self.raw, &error))?;
        let int = |item: &&RawValue| match item.get() {
            "null" => Ok(0),
            raw => Field { raw, place: self.place.clone() }.int(),
        };
        items.iter().map(int).collect()
    }

    /// A Go `string`.
    ///
    /// # Errors
    /// It is something else.
    pub fn string(&self) -> Result<String, GoError> {
        match kind(self.raw) {
            "string" => Ok(unquote(self.raw)),
            kind => self.refuse(kind, "string"),
        }
    }

    /// A Go `time.Time`, to the second; none for Go's zero time.
    ///
    /// # Errors
    /// It is no RFC 3339 date.
    pub fn time(&self) -> Result<Option<Timestamp>, GoError> {
        if kind(self.raw) != "string" {
            return Err(GoError("Time.UnmarshalJSON: input is not a JSON string".to_owned()));
        }
        gotime::parse(&unquote(self.raw)).map_err(GoError)
    }
}

fn kind(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'"') => "string",
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b't' | b'f') => "bool",
        Some(b'n') => "null",
        _ => "number",
    }
}

/// Each byte that belongs to no character becomes U+FFFD, one by one.
fn replace_invalid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

fn syntax_error(text: &str, error: &serde_json::Error) -> GoError {
    if error.is_eof() {
        return GoError("unexpected end of JSON input".to_owned());
    }
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let at = error.column().saturating_sub(1).min(line.len());
    let found = line.get(at..).and_then(|rest| rest.chars().next()).unwrap_or('\n');
    let what = if error.to_string().starts_with("trailing") {
        "after top-level value"
    } else {
        "looking for beginning of value"
    };
    GoError(format!("invalid character {} {what}", go_quote(found)))
}

fn go_quote(c: char) -> String {
    match c {
        '"' => "'\"'".to_owned(),
        '\'' => r"'\''".to_owned(),
        c if u32::from(c) < 0x20 => format!("'\\x{:02x}'", u32::from(c)),
        c => format!("'{c}'"),
    }
}

/// The text of a JSON string known to be well formed. An escaped surrogate without its other half becomes U+FFFD.
fn unquote(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or_default();
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let letter = escape.chars().next().unwrap_or('\\');
        rest = escape.get(letter.len_utf8()..).unwrap_or_default();
        text.push(match letter {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (character, used) = unescape(rest);
                rest = rest.get(used..).unwrap_or_default();
                character
            }
            other => other,
        });
    }
    text.push_str(rest);
    text
}

/// The character of `XXXX` or of `XXXX\uXXXX`, and how much of the text it took.
fn unescape(text: &str) -> (char, usize) {
    let unit = |at: usize| text.get(at..at + 4).and_then(|hex| u16::from_str_radix(hex, 16).ok());
    let Some(first) = unit(0) else { return (char::REPLACEMENT_CHARACTER, text.len().min(4)) };
    if let Some(character) = char::from_u32(u32::from(first)) {
        return (character, 4);
    }
    let second = if text.get(4..6) == Some("\\u") { unit(6) } else { None };
    let pair = second.and_then(|second| char::decode_utf16([first, second]).next()?.ok());
    pair.map_or((char::REPLACEMENT_CHARACTER, 4), |character| (character, 10))
}

/// Writes a value as the feeder answers it: one line, `<`, `>`, `&` and the line separators escaped.
#[must_use]
pub fn write(value: &impl Serialize) -> String {
    let plain = serde_json::to_string(value).unwrap_or_default();
    let mut text = String::with_capacity(plain.len() + 1);
    for c in plain.chars() {
        match c {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            c => text.push(c),
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_keep_pairs_and_replace_lone_surrogates() {
        assert_eq!(unquote(r#""a\n\"\\\/\u00e9\ud83d\ude00""#), "a\n\"\\/é😀");
        assert_eq!(unquote(r#""\ud83dx\ude00""#), "\u{fffd}x\u{fffd}");
    }

    #[test]
    fn syntax_is_refused_in_go_words() {
        let because = |body: &[u8]| read_object(body, "X", &["id"], |_, _| Ok(())).unwrap_err().0;
        assert_eq!(because(b""), "unexpected end of JSON input");
        assert_eq!(because(b"{} x"), "invalid character 'x' after top-level value");
        assert_eq!(because(b"\x1f\x8b"), "invalid character '\\x1f' looking for beginning of value");
        assert_eq!(because(b"[]"), "json: cannot unmarshal array into Go value of type feeder.X");
    }

    #[test]
    fn numbers_are_refused_in_go_words() {
        let because = |body: &str| {
            let read = |_: &str, field: Field<'_>| field.ints().map(|_| ());
            read_object(body.as_bytes(), "X", &["ids"], read).unwrap_err().0
        };
        assert_eq!(because(r#"{"ids":["1"]}"#), "json: cannot unmarshal string into Go struct field X.ids of type int");
        assert_eq!(
            because(r#"{"ids":[628.0]}"#),
            "json: cannot unmarshal number 628.0 into Go struct field X.ids of type int"
        );
        assert_eq!(because(r#"{"IDS":7}"#), "json: cannot unmarshal number into Go struct field X.ids of type []int");
    }
}
