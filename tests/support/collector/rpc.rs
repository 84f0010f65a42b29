//! The server's side of the XML-RPC dialect of 1.x/2.x collectors.

use std::fmt::Write as _;

use super::super::{NODE, UUID};
use super::fault::Answer;
use super::state::{Odd, Row};

pub(super) const PATH: &str = "/feed/default/call/xmlrpc";

/// A value of XML-RPC, as far as requests have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Nil,
    Int(i64),
    Text(String),
    Array(Vec<Value>),
}

/// A call: the method, and its parameters.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) method: String,
    pub(super) params: Vec<Value>,
}

impl Called {
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
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
        parser.open("params")?;
        let mut params = Vec::new();
        while parser.tokens.next_if_eq(&Token::Open("param".to_owned())).is_some() {
            params.push(parser.value()?);
            parser.close("param")?;
        }
        parser.close("params")?;
        parser.close("methodCall")?;
        Ok(Self { method, params })
    }

    /// The last argument of every call.
    pub(super) fn is_authorized(&self) -> bool {
        let credentials = Value::Array(vec![Value::Text(UUID.to_owned()), Value::Text(NODE.to_owned())]);
        self.params.last() == Some(&credentials)
    }

    /// The rows that are acknowledged.
    pub(super) fn ids(&self) -> Result<Vec<i64>, String> {
        let Some(Value::Array(ids)) = self.params.first() else { return Err("no ids".to_owned()) };
        ids.iter().map(number).collect()
    }

    /// The results: id, ret, stdout, stderr.
    pub(super) fn results(&self) -> Result<Vec<(i64, i64, String, String)>, String> {
        let Some(Value::Array(results)) = self.params.first() else { return Err("no results".to_owned()) };
        let result = |result: &Value| match result {
            Value::Array(members) => match members.as_slice() {
                [id, ret, Value::Text(stdout), Value::Text(stderr)] => {
                    Ok((number(id)?, number(ret)?, stdout.clone(), stderr.clone()))
                }
                _ => Err(format!("a result is {members:?}")),
            },
            _ => Err(format!("a result is {result:?}")),
        };
        results.iter().map(result).collect()
    }
}

fn number(value: &Value) -> Result<i64, String> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::Text(text) => text.parse().map_err(|err| format!("{err}: {text}")),
        _ => Err(format!("not a number: {value:?}")),
    }
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

    fn value(&mut self) -> Result<Value, String> {
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
                            values.push(self.value()?);
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

fn response(value: &str) -> Answer {
    let body = format!(
        "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value>{value}</value></param>\n</params>\n\
         </methodResponse>\n"
    );
    Answer::new(200, "text/xml", body)
}

pub(super) fn nil() -> Answer {
    response("<nil/>")
}

pub(super) fn fault(text: &str) -> Answer {
    let body = format!(
        "<?xml version='1.0'?>\n<methodResponse>\n<fault>\n<value><struct>\n<member>\n<name>faultCode</name>\n\
         <value><int>1</int></value>\n</member>\n<member>\n<name>faultString</name>\n<value><string>{}</string></value>\n\
         </member>\n</struct></value>\n</fault>\n</methodResponse>\n",
        escape(text)
    );
    Answer::new(200, "text/xml", body)
}

pub(super) fn unauthorized() -> Answer {
    fault("<type 'exceptions.Exception'>:agent authentication error")
}

pub(super) fn queue(rows: &[Row]) -> Answer {
    let rows: String = rows.iter().map(row).collect();
    response(&format!("<array><data>\n{rows}</data></array>"))
}

fn row(row: &Row) -> String {
    if row.odd == Odd::NotARow {
        return format!("<value><int>{}</int></value>\n", row.id);
    }
    let string = |text: &str| format!("<string>{}</string>", escape(text));
    let or_nil = |text: &Option<String>| text.as_deref().map_or("<nil/>".to_owned(), string);
    let may_be_null = |value: String| if row.odd == Odd::NullMembers { "<nil/>".to_owned() } else { value };
    let mut members = vec![
        ("status", string(&row.status.to_string())),
        ("svc_id", may_be_null(string(&row.svc_id))),
        ("date_queued", may_be_null(format!("<dateTime.iso8601>{}</dateTime.iso8601>", row.queued_at()))),
        ("action_type", may_be_null(string("pull"))),
        ("stdout", or_nil(&row.stdout)),
        ("connect_to", may_be_null(string("127.0.0.1"))),
        ("ret", row.ret.map_or("<nil/>".to_owned(), |ret| format!("<int>{ret}</int>"))),
        ("date_dequeued", "<nil/>".to_owned()),
        ("node_id", may_be_null(string("5c977246-0562-11e6-8c70-7e9e6cf13c8a"))),
        ("stderr", or_nil(&row.stderr)),
        ("svcname", or_nil(&row.svcname)),
    ];
    match row.odd {
        Odd::NoCommand => {}
        Odd::NullCommand => members.push(("command", "<nil/>".to_owned())),
        _ => members.push(("command", string(&row.command))),
    }
    match row.odd {
        Odd::NoId => {}
        Odd::IdIsWord => members.push(("id", string("first"))),
        Odd::IdInString => members.push(("id", string(&row.id.to_string()))),
        _ => members.push(("id", format!("<int>{}</int>", row.id))),
    }
    if row.odd == Odd::UnknownMembers {
        let value = "<struct><member><name>level</name><value><double>2.5</double></value></member></struct>";
        members.push(("priority", value.to_owned()));
    }
    let mut text = "<value><struct>\n".to_owned();
    for (name, value) in members {
        let _ = writeln!(text, "<member>\n<name>{name}</name>\n<value>{value}</value></member>");
    }
    text + "</struct></value>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
