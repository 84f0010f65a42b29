//! XML-RPC as python's library reads and writes it, with the parser's refusals in expat's words.

use std::fmt::Write as _;

use roxmltree::{Document, Error, Node, ParsingOptions, TextPos};

use crate::value::{MAX_DEPTH, Value, parse_int};

/// A document of more nodes than this is not read: each costs memory, before anybody has shown credentials.
const NODES_MAX: u32 = 2_000_000;

/// A call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The method's name.
    pub method: String,
    /// Its arguments.
    pub params: Vec<Value>,
}

/// Reads a call.
///
/// # Errors
/// The body is no XML; the text is expat's, as close as its line and column can be had.
pub fn read_call(body: &[u8]) -> Result<Call, String> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let valid = String::from_utf8_lossy(&body[..error.valid_up_to()]).into_owned();
        expat("not well-formed (invalid token)", position(&valid, valid.len()))
    })?;
    let options = ParsingOptions { nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(|error| describe(text, &error))?;
    let child = |node: Node<'_, '_>, name: &str| node.children().find(|child| child.has_tag_name(name)).map(|c| c.id());
    let root = document.root_element();
    let get = |id| document.get_node(id);
    let method = child(root, "methodName").and_then(get).map_or_else(|| "None".to_owned(), content);
    let params = child(root, "params").and_then(get);
    let params = params.into_iter().flat_map(|params| params.children().filter(|param| param.has_tag_name("param")));
    let params = params.filter_map(|param| child(param, "value").and_then(get)).map(|node| value(node, 0)).collect();
    Ok(Call { method, params })
}

fn content(node: Node<'_, '_>) -> String {
    node.children().filter_map(|child| if child.is_text() { child.text() } else { None }).collect()
}

fn value(node: Node<'_, '_>, depth: usize) -> Value {
    let Some(typed) = node.children().find(Node::is_element) else { return Value::Text(content(node)) };
    match typed.tag_name().name() {
        "nil" => Value::Nil,
        "string" => Value::Text(content(typed)),
        "int" | "i4" | "i8" | "i2" | "i1" | "biginteger" | "boolean" => {
            parse_int(&content(typed)).map_or(Value::Other, Value::Int)
        }
        #[expect(clippy::cast_possible_truncation, reason = "python's int() truncates, and the column clamps")]
        "double" | "float" => content(typed).trim().parse().map_or(Value::Other, |n: f64| Value::Int(n as i64)),
        "array" if depth < MAX_DEPTH => {
            let data = typed.children().filter(|child| child.has_tag_name("data")).flat_map(|data| data.children());
            Value::Array(data.filter(|child| child.has_tag_name("value")).map(|item| value(item, depth + 1)).collect())
        }
        _ => Value::Other,
    }
}

/// A place in a text as expat counts: lines from 1, columns from 0.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    (line, before.rsplit('\n').next().unwrap_or_default().chars().count())
}

fn expat(problem: &str, (line, column): (usize, usize)) -> String {
    format!("{problem}: line {line}, column {column}")
}

fn describe(text: &str, error: &Error) -> String {
    let place = error.pos();
    let there = (place.row as usize, (place.col as usize).saturating_sub(1));
    let end = position(text, text.len());
    // A markup that was begun and never ended.
    let unclosed = text.rfind('<').filter(|at| !text[*at..].contains('>'));
    match (error, unclosed) {
        (Error::NodesLimitReached, _) => format!("more than {NODES_MAX} elements and texts"),
        (Error::NonXmlChar(..), _) => expat("not well-formed (invalid token)", there),
        (_, Some(at)) => expat("unclosed token", position(text, at)),
        (Error::NoRootNode | Error::UnclosedRootNode | Error::UnexpectedEndOfStream, _) => {
            expat("no element found", end)
        }
        // expat points behind the `</`.
        (Error::UnexpectedCloseTag(..), _) => expat("mismatched tag", (there.0, there.1 + 2)),
        (Error::UnknownEntityReference(..), _) => expat("undefined entity", there),
        (Error::DuplicatedAttribute(..), _) => expat("duplicate attribute", there),
        (Error::MalformedEntityReference(place), _) if is_number_reference(text, *place) => {
            expat("reference to invalid character number", there)
        }
        _ => expat("not well-formed (invalid token)", there),
    }
}

fn is_number_reference(text: &str, place: TextPos) -> bool {
    let line = text.split('\n').nth((place.row as usize).saturating_sub(1)).unwrap_or_default();
    line.chars().skip((place.col as usize).saturating_sub(1)).take(2).eq("&#".chars())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Writes a value as python 2 does: a nil has no end of line.
fn write(value: &Value, out: &mut String) {
    // Writing to a string does not fail.
    match value {
        Value::Nil | Value::Other => out.push_str("<value><nil/></value>"),
        Value::Int(number) => drop(writeln!(out, "<value><int>{number}</int></value>")),
        Value::Double(number) => drop(writeln!(out, "<value><double>{number:?}</double></value>")),
        Value::Text(text) => drop(writeln!(out, "<value><string>{}</string></value>", escape(text))),
        Value::Date(date) => {
            let _ = writeln!(out, "<value><dateTime.iso8601>{}</dateTime.iso8601></value>", date.xmlrpc());
        }
        Value::Array(items) => {
            out.push_str("<value><array><data>\n");
            for item in items {
                write(item, out);
            }
            out.push_str("</data></array></value>\n");
        }
        Value::Struct(members) => {
            out.push_str("<value><struct>\n");
            for (name, value) in members {
                let _ = writeln!(out, "<member>\n<name>{}</name>", escape(name));
                write(value, out);
                out.push_str("</member>\n");
            }
            out.push_str("</struct></value>\n");
        }
    }
}

/// A whole answer with this value.
#[must_use]
pub fn response(value: &Value) -> String {
    let mut text = "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n".to_owned();
    write(value, &mut text);
    text.push_str("</param>\n</params>\n</methodResponse>\n");
    text
}

/// A whole refusal. The code is always 1.
#[must_use]
pub fn fault(text: &str) -> String {
    let members =
        vec![("faultCode".to_owned(), Value::Int(1)), ("faultString".to_owned(), Value::Text(text.to_owned()))];
    let mut fault = "<?xml version='1.0'?>\n<methodResponse>\n<fault>\n".to_owned();
    write(&Value::Struct(members), &mut fault);
    fault.push_str("</fault>\n</methodResponse>\n");
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_worded_and_placed_as_by_expat() {
        let because = |body: &[u8]| read_call(body).unwrap_err();
        assert_eq!(because(b""), "no element found: line 1, column 0");
        assert_eq!(because(b"<?xml version=\"1.0\"?><methodCall><bad"), "unclosed token: line 1, column 33");
        assert_eq!(because(b"<a>\n<b>x\x07</b></a>"), "not well-formed (invalid token): line 2, column 4");
        assert_eq!(because(b"<a>\n\xff</a>"), "not well-formed (invalid token): line 2, column 0");
        assert_eq!(because(b"<a><b></b>"), "no element found: line 1, column 10");
        assert_eq!(because(b"<a>&#7;</a>"), "reference to invalid character number: line 1, column 3");
        assert_eq!(because(b"<a>&x;</a>"), "undefined entity: line 1, column 3");
        assert_eq!(because(b"<a><b></c></a>"), "mismatched tag: line 1, column 8");
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let call = read_call(
            b"<methodCall><methodName>m</methodName><params>
            <param><value>bare</value></param><param><value><int> -3 </int></value></param>
            <param><value><array><data><value><nil/></value><value><string>a&lt;<![CDATA[b]]></string></value></data></array>
            </value></param></params></methodCall>",
        )
        .unwrap();
        let items = vec![Value::Nil, Value::Text("a<b".into())];
        assert_eq!(call.method, "m");
        assert_eq!(call.params, [Value::Text("bare".into()), Value::Int(-3), Value::Array(items)]);
    }
}
