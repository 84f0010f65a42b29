//! XML-RPC as far as an answer needs it: a pull reader that goes through the body once and builds no tree.
//!
//! Answers come as python 2's `xmlrpclib` writes them: UTF-8 without saying so, `<nil/>` (an extension of XML-RPC) bare,
//! members in any order. Document types and entities of their own are refused, elements nest at most [`DEPTH`] deep, and
//! text that python's parser would refuse (control characters, invalid UTF-8) is read: one stored oddity must not
//! silence a node's whole queue.

use super::super::DecodeError;
use super::super::row::{Value, bounded};
use quick_xml::events::Event;
use std::borrow::Cow;

/// How deep elements may nest. A row's value is eleven deep.
const DEPTH: usize = 32;

/// The bytes of an error text.
const ERROR_TEXT: usize = 200;

/// Reads elements one after the other.
pub(super) struct Reader<'a> {
    body: &'a [u8],
    xml: quick_xml::Reader<&'a [u8]>,
    depth: usize,
}

/// A piece of the document that counts.
enum Token<'a> {
    /// An element begins: its name.
    Open(Cow<'static, str>),
    /// The innermost element ends.
    Close,
    /// Text in it, perhaps not all of it.
    Text(Cow<'a, str>),
    /// The document ends.
    End,
}

impl<'a> Reader<'a> {
    /// Starts before the root element.
    pub(super) fn new(body: &'a [u8]) -> Self {
        let mut xml = quick_xml::Reader::from_reader(body);
        xml.config_mut().expand_empty_elements = true;
        Self { body, xml, depth: 0 }
    }

    /// The name of the next element within the present one, which is entered; none at the end of the present one, which
    /// is left. Text between elements is passed over, as python's parser does.
    pub(super) fn open(&mut self) -> Result<Option<Cow<'static, str>>, DecodeError> {
        loop {
            match self.next()? {
                Token::Open(name) => return Ok(Some(name)),
                Token::Close => return Ok(None),
                Token::Text(_) => {}
                Token::End => return Err(self.error("the answer ends early")),
            }
        }
    }

    /// Enters the next element, which has to have this name.
    pub(super) fn enter(&mut self, name: &str) -> Result<(), DecodeError> {
        match self.open()? {
            Some(found) if found == name => Ok(()),
            Some(found) => Err(self.error(&format!("expected <{name}>, found <{found}>"))),
            None => Err(self.error(&format!("expected <{name}>, found the end of its parent"))),
        }
    }

    /// Leaves the present element, whatever is left in it.
    pub(super) fn leave(&mut self) -> Result<(), DecodeError> {
        let outside = self.depth.saturating_sub(1);
        while self.depth > outside {
            if let Token::End = self.next()? {
                return Err(self.error("the answer ends early"));
            }
        }
        Ok(())
    }

    /// Leaves the present element, which holds text; elements in it are passed over.
    pub(super) fn text(&mut self) -> Result<String, DecodeError> {
        let mut text = String::new();
        loop {
            match self.next()? {
                Token::Text(piece) => text.push_str(&piece),
                Token::Open(_) => self.leave()?,
                Token::Close => return Ok(text),
                Token::End => return Err(self.error("the answer ends early")),
            }
        }
    }

    /// Leaves the present element, which is a `<value>`; without an element in it, it is a string.
    pub(super) fn value(&mut self) -> Result<Value, DecodeError> {
        let mut text = String::new();
        let kind = loop {
            match self.next()? {
                Token::Text(piece) => text.push_str(&piece),
                Token::Open(kind) => break kind,
                Token::Close => return Ok(Value::Text(text)),
                Token::End => return Err(self.error("the answer ends early")),
            }
        };
        let value = match &*kind {
            "string" | "dateTime.iso8601" => Value::Text(self.text()?),
            "int" | "i4" | "i8" => match self.text()?.trim().parse() {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Other("an unreadable integer"),
            },
            other => {
                let value = match other {
                    "nil" | "ex:nil" => Value::Null,
                    "boolean" => Value::Other("true or false"),
                    "double" => Value::Other("a number with a fraction"),
                    "base64" => Value::Other("binary data"),
                    "array" => Value::Other("an array"),
                    "struct" => Value::Other("a struct"),
                    _ => Value::Other("of an unknown type"),
                };
                self.leave()?;
                value
            }
        };
        self.leave()?;
        Ok(value)
    }

    /// Leaves the present element, which is a `<struct>`: its members' names and values go to `member`, but the values
    /// of those that are not `wanted` (unless a value comes before its name).
    pub(super) fn members(
        &mut self,
        wanted: impl Fn(&str) -> bool,
        mut member: impl FnMut(&str, Value),
    ) -> Result<(), DecodeError> {
        while let Some(element) = self.open()? {
            if element != "member" {
                self.leave()?;
                continue;
            }
            let (mut name, mut value) = (None, None);
            while let Some(part) = self.open()? {
                match &*part {
                    "name" => name = Some(self.text()?),
                    "value" if name.as_deref().is_none_or(&wanted) => value = Some(self.value()?),
                    _ => self.leave()?,
                }
            }
            if let (Some(name), Some(value)) = (name, value) {
                member(name.trim(), value);
            }
        }
        Ok(())
    }

    /// Makes sure that nothing but white space and comments is left.
    pub(super) fn end(&mut self) -> Result<(), DecodeError> {
        while self.depth > 0 {
            self.leave()?;
        }
        loop {
            match self.next()? {
                Token::End => return Ok(()),
                Token::Text(text) if text.trim().is_empty() => {}
                _ => return Err(self.error("there is more behind the answer")),
            }
        }
    }

    /// An error at the present place.
    pub(super) fn error(&self, what: &str) -> DecodeError {
        self.error_at(self.xml.buffer_position(), what)
    }

    fn error_at(&self, position: u64, what: &str) -> DecodeError {
        let position = usize::try_from(position).unwrap_or(usize::MAX).min(self.body.len());
        let before = &self.body[..position];
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let line = before.split(|&byte| byte == b'\n').count();
        DecodeError { line, column: position - line_start, what: bounded(what, ERROR_TEXT) }
    }

    fn next(&mut self) -> Result<Token<'a>, DecodeError> {
        loop {
            let event = match self.xml.read_event() {
                Ok(event) => event,
                Err(error) => return Err(self.error_at(self.xml.error_position(), &error.to_string())),
            };
            match event {
                Event::Start(tag) => {
                    self.depth += 1;
                    if self.depth > DEPTH {
                        return Err(self.error(&format!("elements nest more than {DEPTH} deep")));
                    }
                    return Ok(Token::Open(known(tag.name().as_ref())));
                }
                Event::End(_) => {
                    self.depth = self.depth.saturating_sub(1);
                    return Ok(Token::Close);
                }
                Event::Text(text) => return Ok(Token::Text(content(text.into_inner()))),
                Event::CData(text) => return Ok(Token::Text(content(text.into_inner()))),
                Event::GeneralRef(reference) => {
                    let name: &[u8] = &reference;
                    let character = match name {
                        b"amp" => Some('&'),
                        b"lt" => Some('<'),
                        b"gt" => Some('>'),
                        b"quot" => Some('"'),
                        b"apos" => Some('\''),
                        _ => reference.resolve_char_ref().ok().flatten(),
                    };
                    let Some(character) = character else {
                        let name = String::from_utf8_lossy(name);
                        return Err(self.error(&format!("the reference &{name}; is unknown here")));
                    };
                    return Ok(Token::Text(Cow::Owned(character.into())));
                }
                Event::Decl(declaration) => {
                    let encoding = declaration.encoding().and_then(Result::ok);
                    let is_read = |name: &[u8]| {
                        ["utf-8", "us-ascii"].iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
                    };
                    if !encoding.as_deref().is_none_or(is_read) {
                        return Err(self.error("the encoding is not UTF-8"));
                    }
                }
                Event::DocType(_) => return Err(self.error("a document type is refused")),
                Event::Eof if self.depth == 0 => return Ok(Token::End),
                Event::Eof => return Err(self.error("the answer ends early")),
                Event::Comment(_) | Event::PI(_) | Event::Empty(_) => {}
            }
        }
    }
}

/// A name; the usual ones without copying them.
fn known(name: &[u8]) -> Cow<'static, str> {
    const NAMES: [&str; 15] = [
        "value",
        "member",
        "name",
        "string",
        "nil",
        "int",
        "struct",
        "dateTime.iso8601",
        "array",
        "data",
        "param",
        "params",
        "methodResponse",
        "fault",
        "i4",
    ];
    match NAMES.into_iter().find(|known| known.as_bytes() == name) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(String::from_utf8_lossy(name).into_owned()),
    }
}

/// Text as XML reads it: any line break is a line feed. What is not UTF-8 is replaced.
fn content(bytes: Cow<'_, [u8]>) -> Cow<'_, str> {
    let text = match bytes {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    };
    if text.contains('\r') { Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")) } else { text }
}

/// Text for an element, as python's `xmlrpc.client` escapes it; besides, a carriage return is written so that the reader
/// does not take it for a line feed, and characters that no XML document can hold become U+FFFD: a single one would make
/// the collector refuse the whole call.
pub(super) fn escape(text: &str, xml: &mut String) {
    let mut rest = text;
    // In one piece up to the next character that cannot stand: most of what commands print is letters.
    while let Some((at, c, written)) = rest.char_indices().find_map(|(at, c)| Some((at, c, escaped(c)?))) {
        xml.push_str(&rest[..at]);
        xml.push_str(written);
        rest = &rest[at + c.len_utf8()..];
    }
    xml.push_str(rest);
}

/// What stands for a character; none for itself.
fn escaped(c: char) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '\r' => Some("&#13;"),
        '\t' | '\n' | ' '..='\u{fffd}' | '\u{10000}'.. => None,
        _ => Some("\u{fffd}"),
    }
}
