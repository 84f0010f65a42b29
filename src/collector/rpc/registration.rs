//! `register_node(node)`: how a 1.x/2.x collector takes a node that nobody vouches for. It needs no `auth`. The answer is
//! the new uuid in a string, or an array of strings that say why not.

use std::fmt::Write as _;

use super::xml::result;
use super::{RpcError, reader};
use crate::collector::row::Value;

/// What the collector answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The node's uuid.
    Uuid(String),
    /// Its words, joined.
    Refusal(String),
}

/// The request.
#[must_use]
pub fn encode(node: &str) -> Vec<u8> {
    let mut call =
        String::from("<?xml version='1.0'?>\n<methodCall>\n<methodName>register_node</methodName>\n<params>\n");
    let mut name = String::new();
    reader::escape(node, &mut name);
    // Writing to memory does not fail.
    let _ = write!(call, "<param>\n<value><string>{name}</string></value>\n</param>\n</params>\n</methodCall>\n");
    call.into_bytes()
}

/// Reads the answer.
///
/// # Errors
/// A fault, or something else than a string or an array of them.
pub fn decode(body: &[u8]) -> Result<Answered, RpcError> {
    let mut reader = result(body)?;
    reader.enter("param")?;
    reader.enter("value")?;
    let mut words = Vec::new();
    match reader.open()?.as_deref() {
        Some("string") => {
            let uuid = reader.text()?;
            reader.end()?;
            return Ok(Answered::Uuid(uuid.trim().to_owned()));
        }
        Some("array") => {
            reader.enter("data")?;
            while reader.open()?.is_some() {
                if let Value::Text(text) = reader.value()? {
                    words.push(text);
                }
            }
        }
        _ => return Err(reader.error("expected a string or an array").into()),
    }
    reader.end()?;
    Ok(Answered::Refusal(words.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(value: &str) -> Vec<u8> {
        format!("<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n{value}\n</param>\n</params>\n</methodResponse>\n")
            .into_bytes()
    }

    #[test]
    fn a_string_is_the_uuid_and_an_array_is_why_not() {
        let uuid = answer("<value><string>9e1d0202-0b38-440a-845e-e1deb340d38b</string></value>");
        assert_eq!(decode(&uuid), Ok(Answered::Uuid("9e1d0202-0b38-440a-845e-e1deb340d38b".to_owned())));
        let refusal =
            answer("<value><array><data>\n<value><string>already registered</string></value>\n</data></array></value>");
        assert_eq!(decode(&refusal), Ok(Answered::Refusal("already registered".to_owned())));
        assert!(matches!(decode(&answer("<value><int>1</int></value>")), Err(RpcError::Decode(_))));
        assert!(matches!(decode(b"<html>"), Err(RpcError::Decode(_))));
    }

    #[test]
    fn a_request_is_the_recorded_one() {
        let recorded = "<?xml version='1.0'?>\n<methodCall>\n<methodName>register_node</methodName>\n<params>\n<param>\n\
                        <value><string>newnode</string></value>\n</param>\n</params>\n</methodCall>\n";
        assert_eq!(String::from_utf8(encode("newnode")).unwrap(), recorded);
    }
}
