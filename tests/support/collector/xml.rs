//! XML-RPC as python's library reads and writes it.

use std::fmt::Write as _;

use super::fault::Answer;
use super::value::{MAX_DEPTH, Value};

/// A call: the method, and its parameters.
pub(super) fn read(body: &[u8]) -> Result<(String, Vec<Value>), String> {
    let text = std::str::from_utf8(body).map_err(|err| format!("not UTF-8: {err}"))?;
    // What expat refuses, and a whole call with it.
    let forbidden = |c: char| matches!(c, '\u{fffe}' | '\u{ffff}') || (c < ' ' && !matches!(c, '\t' | '\n' | '\r'));
    if let Some(at) = text.find(forbidden) {
        return Err(format!("not well-formed (invalid token): byte {at}"));
    }
    let mut parser = Parser { tokens: tokens(text)?.into_iter().peekable() };
    parser.open("methodCall")?;
    parser.open("methodName")?;
    let method = parser.text();
    parser.close("methodName")?;
    let mut params = Vec::new();
    // Without parameters python writes an empty element, and others none.
    if parser.tokens.next_if_eq(&Token::Open("params".to_owned())).is_some() {
        while parser.tokens.next_if_eq(&Token::Open("param".to_owned())).is_some() {
            params.push(parser.value(0)?);
            parser.close("param")?;
        }
        parser.close("params")?;
    }
    parser.close("methodCall")?;
    Ok((method, params))
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Open(String),
    Close(String),
    Text(String),
}

fn tokens(mut text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    while let Some(start) = text.find('<') {
        tokens.push(Token::Text(unescape(&text[..start])?));
        let end = start + text[start..].find('>').ok_or("a tag without an end")?;
        let tag = &text[start + 1..end];
        match (tag.strip_prefix('/'), tag.strip_suffix('/')) {
            _ if tag.starts_with('?') => {}
            (Some(name), _) => tokens.push(Token::Close(name.to_owned())),
            (_, Some(name)) => {
                tokens.push(Token::Open(name.trim_end().to_owned()));
                tokens.push(Token::Close(name.trim_end().to_owned()));
            }
            _ => tokens.push(Token::Open(tag.to_owned())),
        }
        text = &text[end + 1..];
    }
    // White space between tags means nothing; within a string it does.
    let is_string = |token: Option<&Token>| matches!(token, Some(Token::Open(name)) if name == "string");
    let mut kept: Vec<Token> = Vec::new();
    for token in tokens {
        match &token {
            Token::Text(text) if text.is_empty() => {}
            Token::Text(text) if text.trim().is_empty() && !is_string(kept.last()) => {}
            _ => kept.push(token),
        }
    }
    Ok(kept)
}

fn unescape(mut text: &str) -> Result<String, String> {
    let mut plain = String::new();
    while let Some(start) = text.find('&') {
        plain.push_str(&text[..start].replace("\r\n", "\n").replace('\r', "\n"));
        let end = start + text[start..].find(';').ok_or("an entity without an end")?;
        let name = &text[start + 1..end];
        let number = name.strip_prefix("#x").map(|hex| u32::from_str_radix(hex, 16));
        let number = number.or_else(|| name.strip_prefix('#').map(str::parse));
        match (name, number) {
            ("lt", _) => plain.push('<'),
            ("gt", _) => plain.push('>'),
            ("amp", _) => plain.push('&'),
            ("quot", _) => plain.push('"'),
            ("apos", _) => plain.push('\''),
            (_, Some(Ok(number))) => {
                let c = char::from_u32(number).filter(|c| *c >= ' ' || matches!(c, '\t' | '\n' | '\r'));
                plain.push(c.ok_or_else(|| format!("reference to invalid character number: {name}"))?);
            }
            _ => return Err(format!("undefined entity {name}")),
        }
        text = &text[end + 1..];
    }
    plain.push_str(&text.replace("\r\n", "\n").replace('\r', "\n"));
    Ok(plain)
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
}

impl Parser {
    fn open(&mut self, name: &str) -> Result<(), String> {
        self.expect(&Token::Open(name.to_owned()))
    }

    fn close(&mut self, name: &str) -> Result<(), String> {
        self.expect(&Token::Close(name.to_owned()))
    }

    fn expect(&mut self, wanted: &Token) -> Result<(), String> {
        match self.tokens.next() {
            Some(token) if token == *wanted => Ok(()),
            token => Err(format!("{token:?} where {wanted:?} was expected")),
        }
    }

    fn text(&mut self) -> String {
        match self.tokens.next_if(|token| matches!(token, Token::Text(_))) {
            Some(Token::Text(text)) => text,
            _ => String::new(),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err("too deep".to_owned());
        }
        self.open("value")?;
        let value = match self.tokens.next_if(|token| matches!(token, Token::Open(_))) {
            Some(Token::Open(name)) => {
                let value = match name.as_str() {
                    "nil" => Value::Nil,
                    "int" | "i4" | "i8" => Value::Int(self.text().parse().map_err(|err| format!("{err}"))?),
                    "string" => Value::Text(self.text()),
                    "array" => {
                        self.open("data")?;
                        let mut values = Vec::new();
                        while self.tokens.peek() == Some(&Token::Open("value".to_owned())) {
                            values.push(self.value(depth + 1)?);
                        }
                        self.close("data")?;
                        Value::Array(values)
                    }
                    _ => return Err(format!("a value of type {name}")),
                };
                self.close(&name)?;
                value
            }
            _ => Value::Text(self.text()),
        };
        self.close("value")?;
        Ok(value)
    }
}

/// An answer with this value.
pub(super) fn response(value: &Value) -> Answer {
    let body = format!(
        "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n{}</param>\n</params>\n</methodResponse>\n",
        write(value)
    );
    Answer::new(200, "text/xml", body)
}

/// A refusal. The code is always 1.
pub(super) fn fault(text: &str) -> Answer {
    let members = vec![("faultCode", Value::Int(1)), ("faultString", Value::text(text))];
    let value = write(&Value::Struct(members));
    let body = format!("<?xml version='1.0'?>\n<methodResponse>\n<fault>\n{value}</fault>\n</methodResponse>\n");
    Answer::new(200, "text/xml", body)
}

/// A value, as python 2 writes it: no end of line behind a nil.
fn write(value: &Value) -> String {
    match value {
        Value::Nil => "<value><nil/></value>".to_owned(),
        Value::Int(number) => format!("<value><int>{number}</int></value>\n"),
        Value::Double(number) => format!("<value><double>{number}</double></value>\n"),
        Value::Text(text) => format!("<value><string>{}</string></value>\n", escape(text)),
        Value::Date(date) => {
            let date = date.replace('-', "").replace(' ', "T");
            format!("<value><dateTime.iso8601>{date}</dateTime.iso8601></value>\n")
        }
        Value::Array(items) => {
            let items: String = items.iter().map(write).collect();
            format!("<value><array><data>\n{items}</data></array></value>\n")
        }
        Value::Struct(members) => {
            let mut text = "<value><struct>\n".to_owned();
            for (name, value) in members {
                let _ = write!(text, "<member>\n<name>{name}</name>\n{}</member>\n", write(value));
            }
            text + "</struct></value>\n"
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
