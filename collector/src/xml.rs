//! XML-RPC as python's library reads and writes it, with the parser's refusals in expat's words.

use std::fmt::Write as _;

use roxmltree::{Document, Error, Node, TextPos};

/// Arrays deeper than this are refused: the calls have two levels.
const MAX_DEPTH: usize = 16;

/// A value of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `<nil/>`.
    Nil,
    /// A number; doubles without their fraction, booleans as 0 and 1.
    Int(i64),
    /// A text.
    Text(String),
    /// An array.
    Array(Vec<Value>),
    /// What no queue call uses.
    Other,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    let document = Document::parse(text).map_err(|error| describe(text, &error))?;
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

/// Escapes a text as python does.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// `<value><TAG>TEXT</TAG></value>`, the text escaped.
#[must_use]
pub fn scalar(tag: &str, text: &str) -> String {
    format!("<value><{tag}>{}</{tag}></value>\n", escape(text))
}

/// A nil, which python 2 writes without its end of line.
pub const NIL: &str = "<value><nil/></value>";

/// An array of values already written.
#[must_use]
pub fn array(items: impl IntoIterator<Item = String>) -> String {
    let mut text = "<value><array><data>\n".to_owned();
    text.extend(items);
    text.push_str("</data></array></value>\n");
    text
}

/// A structure of values already written.
#[must_use]
pub fn structure(members: &[(&str, String)]) -> String {
    let mut text = "<value><struct>\n".to_owned();
    for (name, value) in members {
        // Writing to a string does not fail.
        let _ = write!(text, "<member>\n<name>{name}</name>\n{value}</member>\n");
    }
    text.push_str("</struct></value>\n");
    text
}

/// A whole answer around a value already written.
#[must_use]
pub fn response(value: &str) -> String {
    format!(
        "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n{value}</param>\n</params>\n</methodResponse>\n"
    )
}

/// A whole refusal. The code is always 1.
#[must_use]
pub fn fault(text: &str) -> String {
    let value = structure(&[("faultCode", scalar("int", "1")), ("faultString", scalar("string", text))]);
    format!("<?xml version='1.0'?>\n<methodResponse>\n<fault>\n{value}</fault>\n</methodResponse>\n")
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
