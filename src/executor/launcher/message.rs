//! D-Bus messages, as far as starting a unit needs them: method calls out, returns and errors in. Pure.
//!
//! From the D-Bus specification 0.38, "Message Protocol": all numbers here are little-endian, every value is aligned to
//! its size from the beginning of the message, and the body begins at a multiple of eight.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};

/// The longest message that is read: what the manager tells about one unit takes a few KiB.
pub(super) const LONGEST: usize = 1 << 20;

/// The fixed part of a header, with the length of what follows.
pub(super) const FIXED: usize = 16;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

/// A method call without its arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    /// The types of the arguments.
    pub(super) signature: &'a str,
}

impl Call<'_> {
    /// The whole message.
    pub(super) fn encode(&self, serial: u32, arguments: &Writer, descriptors: u32) -> Vec<u8> {
        let body = &arguments.bytes;
        let mut message = Writer::default();
        message.bytes.extend_from_slice(&[b'l', METHOD_CALL, 0, 1]);
        message.u32(length(body.len()));
        message.u32(serial);
        message.array(8, |fields| {
            fields.field(1, "o", |value| value.text(self.path));
            fields.field(2, "s", |value| value.text(self.interface));
            fields.field(3, "s", |value| value.text(self.member));
            fields.field(6, "s", |value| value.text(self.destination));
            if !self.signature.is_empty() {
                fields.field(8, "g", |value| value.signature(self.signature));
            }
            if descriptors > 0 {
                fields.field(9, "u", |value| value.u32(descriptors));
            }
        });
        message.align(8);
        message.bytes.extend_from_slice(body);
        message.bytes
    }
}

/// A value of a property, with its type.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Texts(&'a [String]),
    Flag(bool),
    Int(i32),
    Number(u64),
    /// Which of the descriptors that go with the message.
    Descriptor(u32),
    /// One command: the file, and its argument vector.
    Command(&'a str, &'a [&'a str]),
}

/// Bytes that grow by values.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.align(4);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn text(&mut self, value: &str) {
        self.u32(length(value.len()));
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
    }

    /// The name and the value of each property: `a(sv)`.
    pub(super) fn properties(&mut self, properties: &[(&str, Value<'_>)]) {
        self.array(8, |array| {
            for (name, value) in properties {
                array.align(8);
                array.text(name);
                array.variant(*value);
            }
        });
    }

    /// An array of elements that are aligned to `alignment`.
    pub(super) fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Self)) {
        self.u32(0);
        let at = self.bytes.len() - 4;
        self.align(alignment);
        let begin = self.bytes.len();
        elements(self);
        let bytes = length(self.bytes.len() - begin).to_le_bytes();
        self.bytes[at..at + 4].copy_from_slice(&bytes);
    }

    fn variant(&mut self, value: Value<'_>) {
        match value {
            Value::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Value::Texts(texts) => {
                self.signature("as");
                self.array(4, |array| texts.iter().for_each(|text| array.text(text)));
            }
            Value::Flag(flag) => {
                self.signature("b");
                self.u32(u32::from(flag));
            }
            Value::Int(number) => {
                self.signature("i");
                self.i32(number);
            }
            Value::Number(number) => {
                self.signature("t");
                self.align(8);
                self.bytes.extend_from_slice(&number.to_le_bytes());
            }
            Value::Descriptor(index) => {
                self.signature("h");
                self.u32(index);
            }
            Value::Command(file, argv) => {
                self.signature("a(sasb)");
                self.array(8, |array| {
                    array.align(8);
                    array.text(file);
                    array.array(4, |words| argv.iter().for_each(|word| words.text(word)));
                    array.u32(0); // an end with another status than 0 is a failure
                });
            }
        }
    }

    fn field(&mut self, code: u8, signature: &str, value: impl FnOnce(&mut Self)) {
        self.align(8);
        self.bytes.push(code);
        self.signature(signature);
        value(self);
    }

    fn signature(&mut self, value: &str) {
        self.bytes.push(u8::try_from(value.len()).unwrap_or(u8::MAX)); // ours are a few bytes
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
    }

    fn align(&mut self, alignment: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(alignment), 0);
    }
}

/// Messages are a few KiB.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// A message that answers, or another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// What the method returned: the first argument, where it is text or a variant with text or a number in it.
    Returned { to: u32, text: Option<String> },
    /// The method has failed: the error's name, and words.
    Failed { to: u32, name: String, text: Option<String> },
    /// Neither: a signal.
    Other,
}

/// How long the message is that begins so.
///
/// # Errors
/// When it is none, or too long.
pub(super) fn whole_length(fixed: &[u8; FIXED]) -> Result<usize, Error> {
    if fixed[0] != b'l' || fixed[3] != 1 {
        return Err(malformed()); // both ends are this machine: there is one byte order
    }
    let mut reader = Reader { bytes: fixed, at: 4 };
    let (body, _serial, fields) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let (body, fields) = (usize::try_from(body), usize::try_from(fields));
    let (Ok(body), Ok(fields)) = (body, fields) else { return Err(malformed()) };
    if body > LONGEST || fields > LONGEST {
        return Err(Error::new(ErrorKind::InvalidData, "a message of more than 1 MiB"));
    }
    Ok(FIXED + fields.next_multiple_of(8) + body)
}

impl Incoming {
    /// Reads a whole message.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn decode(message: &[u8]) -> Result<Self, Error> {
        let (Header { kind, to, name, signature }, mut reader) = Header::read(message)?;
        let text = match signature.chars().next() {
            Some('s' | 'o') => Some(reader.text()?),
            Some('v') => match reader.signature()?.as_str() {
                "s" | "o" => Some(reader.text()?),
                "b" | "u" => Some(reader.u32()?.to_string()),
                _ => None,
            },
            _ => None,
        };
        Ok(match (kind, to, name) {
            (METHOD_RETURN, Some(to), _) => Self::Returned { to, text },
            (ERROR, Some(to), Some(name)) => Self::Failed { to, name, text },
            (METHOD_RETURN | ERROR, ..) => return Err(malformed()),
            _ => Self::Other,
        })
    }
}

/// What a header tells.
struct Header {
    kind: u8,
    to: Option<u32>,
    name: Option<String>,
    signature: String,
}

impl Header {
    /// Reads the header of a whole message, and what stands at its body.
    fn read(message: &[u8]) -> Result<(Self, Reader<'_>), Error> {
        let kind = *message.get(1).ok_or_else(malformed)?;
        let mut reader = Reader { bytes: message, at: 12 };
        let fields = usize::try_from(reader.u32()?).map_err(|_| malformed())?;
        let end = FIXED.checked_add(fields).filter(|end| *end <= message.len()).ok_or_else(malformed)?;
        let (mut to, mut name, mut signature) = (None, None, String::new());
        while reader.at < end {
            reader.align(8);
            if reader.at >= end {
                break;
            }
            let code = reader.byte()?;
            match (code, reader.signature()?.as_str()) {
                (5, "u") => to = Some(reader.u32()?),
                (4, "s") => name = Some(reader.text()?),
                (8, "g") => signature = reader.signature()?,
                (_, "s" | "o") => drop(reader.text()?),
                (_, "g") => drop(reader.signature()?),
                (_, "u") => drop(reader.u32()?),
                _ => return Err(malformed()), // the specification knows no field of another type
            }
        }
        reader.at = end.next_multiple_of(8);
        Ok((Self { kind, to, name, signature }, reader))
    }
}

/// A value that came, as far as anybody here wants to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    Text(String),
    /// What is below nothing is 0.
    Number(u64),
    Flag(bool),
    /// The elements of an array, or the members of a structure.
    List(Vec<Data>),
    /// A floating-point number.
    Other,
}

/// The names and values that a method has returned: `a{sv}`.
///
/// # Errors
/// When it has returned something else.
pub(super) fn properties(message: &[u8]) -> Result<BTreeMap<String, Data>, Error> {
    let (header, mut reader) = Header::read(message)?;
    if header.signature != "a{sv}" {
        return Err(malformed());
    }
    let Data::List(pairs) = reader.value("a{sv}", 0)? else { return Err(malformed()) };
    let pair = |pair| match pair {
        Data::List(pair) => match <[Data; 2]>::try_from(pair) {
            Ok([Data::Text(name), value]) => Ok((name, value)),
            _ => Err(malformed()),
        },
        _ => Err(malformed()),
    };
    pairs.into_iter().map(pair).collect()
}

/// How deep values may be nested; the specification allows twice as much.
const DEEPEST: usize = 32;

/// Where the first complete type in a signature ends.
fn first_type(signature: &str) -> Result<usize, Error> {
    let mut depth = 0_usize;
    for (at, c) in signature.bytes().enumerate() {
        match c {
            b'a' => continue,
            b'(' | b'{' => depth += 1,
            b')' | b'}' => depth = depth.checked_sub(1).ok_or_else(malformed)?,
            _ => {}
        }
        if depth == 0 {
            return Ok(at + 1);
        }
    }
    Err(malformed())
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.align(4);
        let bytes = self.take(4)?.try_into().map_err(|_| malformed())?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// A value of the first type in `signature`.
    fn value(&mut self, signature: &str, depth: usize) -> Result<Data, Error> {
        if depth > DEEPEST || !signature.is_ascii() {
            return Err(malformed());
        }
        Ok(match signature.as_bytes().first() {
            Some(b'y') => Data::Number(self.byte()?.into()),
            Some(b'b') => Data::Flag(self.u32()? != 0),
            Some(b'n') => Data::Number(u64::try_from(i16::from_le_bytes(self.fixed()?)).unwrap_or_default()),
            Some(b'q') => Data::Number(u16::from_le_bytes(self.fixed()?).into()),
            Some(b'i') => Data::Number(u64::try_from(i32::from_le_bytes(self.fixed()?)).unwrap_or_default()),
            Some(b'u' | b'h') => Data::Number(self.u32()?.into()),
            Some(b'x') => Data::Number(u64::try_from(i64::from_le_bytes(self.fixed()?)).unwrap_or_default()),
            Some(b't') => Data::Number(u64::from_le_bytes(self.fixed()?)),
            Some(b'd') => {
                self.fixed::<8>()?;
                Data::Other
            }
            Some(b's' | b'o') => Data::Text(self.text()?),
            Some(b'g') => Data::Text(self.signature()?),
            Some(b'v') => {
                let signature = self.signature()?;
                self.value(&signature, depth + 1)?
            }
            Some(b'a') => {
                let element = &signature[1..=first_type(&signature[1..])?];
                let length = usize::try_from(self.u32()?).map_err(|_| malformed())?;
                self.align(match element.as_bytes().first() {
                    Some(b'(' | b'{' | b'x' | b't' | b'd') => 8,
                    Some(b'y' | b'g' | b'v') => 1,
                    Some(b'n' | b'q') => 2,
                    _ => 4,
                });
                let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or_else(malformed)?;
                let mut elements = Vec::new();
                while self.at < end {
                    let before = self.at;
                    elements.push(self.value(element, depth + 1)?);
                    if self.at == before {
                        return Err(malformed()); // a structure of nothing, of which there would be no end
                    }
                }
                Data::List(elements)
            }
            Some(b'(' | b'{') => {
                self.align(8);
                let mut members = Vec::new();
                let mut rest = &signature[1..first_type(signature)? - 1];
                while !rest.is_empty() {
                    let end = first_type(rest)?;
                    members.push(self.value(&rest[..end], depth + 1)?);
                    rest = &rest[end..];
                }
                Data::List(members)
            }
            _ => return Err(malformed()),
        })
    }

    /// A number of N bytes.
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.align(N);
        self.take(N)?.try_into().map_err(|_| malformed())
    }

    fn text(&mut self) -> Result<String, Error> {
        let length = usize::try_from(self.u32()?).map_err(|_| malformed())?;
        self.string(length)
    }

    fn signature(&mut self) -> Result<String, Error> {
        let length = self.byte()?;
        self.string(length.into())
    }

    fn string(&mut self, length: usize) -> Result<String, Error> {
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(text)
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Error> {
        let end = self.at.checked_add(count).ok_or_else(malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn align(&mut self, alignment: usize) {
        self.at = self.at.next_multiple_of(alignment);
    }
}

fn malformed() -> Error {
    Error::new(ErrorKind::InvalidData, "not a D-Bus message")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A return or an error as systemd 252 sends it: header fields in the order of sd-bus, then the body.
    fn answer(kind: u8, name: Option<&str>, signature: &str, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut arguments = Writer::default();
        body(&mut arguments);
        let mut message = Writer::default();
        message.bytes.extend_from_slice(&[b'l', kind, 1, 1]);
        message.u32(length(arguments.bytes.len()));
        message.u32(77);
        message.array(8, |fields| {
            fields.field(5, "u", |value| value.u32(3));
            if let Some(name) = name {
                fields.field(4, "s", |value| value.text(name));
            }
            fields.field(7, "s", |value| value.text("org.freedesktop.systemd1"));
            if !signature.is_empty() {
                fields.field(8, "g", |value| value.signature(signature));
            }
        });
        message.align(8);
        message.bytes.extend_from_slice(&arguments.bytes);
        message.bytes
    }

    #[test]
    fn a_call_has_the_bytes_of_the_specification() {
        let call = Call { destination: "d.d", path: "/p", interface: "i.i", member: "M", signature: "su" };
        let mut arguments = Writer::default();
        arguments.text("ab");
        arguments.u32(7);
        let expected: &[u8] = b"l\x01\0\x01\x0c\0\0\0\x05\0\0\0\x58\0\0\0\
            \x01\x01o\0\x02\0\0\0/p\0\0\0\0\0\0\
            \x02\x01s\0\x03\0\0\0i.i\0\0\0\0\0\
            \x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0\
            \x06\x01s\0\x03\0\0\0d.d\0\0\0\0\0\
            \x08\x01g\0\x02su\0\
            \x09\x01u\0\x01\0\0\0\
            \x02\0\0\0ab\0\0\x07\0\0\0";
        let bytes = call.encode(5, &arguments, 1);
        let mut fields = expected.to_vec();
        fields[12] = u8::try_from(expected.len() - 12 - 16).unwrap();
        assert_eq!(bytes, fields);
        assert_eq!(whole_length(bytes[..FIXED].try_into().unwrap()).unwrap(), bytes.len());
    }

    #[test]
    fn answers_are_read_and_signals_are_not_taken_for_one() {
        let returned = answer(METHOD_RETURN, None, "o", |body| body.text("/org/freedesktop/systemd1/job/9"));
        let text = Some("/org/freedesktop/systemd1/job/9".to_owned());
        assert_eq!(Incoming::decode(&returned).unwrap(), Incoming::Returned { to: 3, text });
        let version = answer(METHOD_RETURN, None, "v", |body| body.variant(Value::Text("252.39-1~deb12u2")));
        let text = Some("252.39-1~deb12u2".to_owned());
        assert_eq!(Incoming::decode(&version).unwrap(), Incoming::Returned { to: 3, text });
        let nothing = answer(METHOD_RETURN, None, "", |_| {});
        assert_eq!(Incoming::decode(&nothing).unwrap(), Incoming::Returned { to: 3, text: None });
        let name = "org.freedesktop.systemd1.UnitExists";
        let failed = answer(ERROR, Some(name), "s", |body| body.text("Unit x.service was already loaded."));
        let text = Some("Unit x.service was already loaded.".to_owned());
        assert_eq!(Incoming::decode(&failed).unwrap(), Incoming::Failed { to: 3, name: name.to_owned(), text });
        assert_eq!(Incoming::decode(&answer(4, None, "s", |body| body.text("x"))).unwrap(), Incoming::Other);
    }

    #[test]
    fn no_cut_or_changed_message_does_more_than_fail() {
        let name = "org.freedesktop.DBus.Error.AccessDenied";
        let whole = answer(ERROR, Some(name), "s", |body| body.text("no"));
        for length in 0..whole.len() {
            assert!(Incoming::decode(&whole[..length]).is_err(), "{length}");
        }
        for index in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[index] = byte;
                let _ = Incoming::decode(&changed);
                let _ = whole_length(changed[..FIXED].try_into().unwrap());
            }
        }
    }

    #[test]
    fn properties_of_every_type_are_read_or_passed_over() {
        let message = answer(METHOD_RETURN, None, "a{sv}", |body| {
            body.array(8, |array| {
                let mut entry = |name: &str, signature: &str, value: &dyn Fn(&mut Writer)| {
                    array.align(8);
                    array.text(name);
                    array.signature(signature);
                    value(array);
                };
                entry("Id", "s", &|value| value.text("a@b.service"));
                entry("InvocationID", "ay", &|value| value.array(1, |bytes| bytes.bytes.extend_from_slice(&[1, 255])));
                entry("Job", "(uo)", &|value| {
                    value.align(8);
                    value.u32(9);
                    value.text("/job/9");
                });
                entry("SuccessExitStatus", "(aiai)", &|value| {
                    value.align(8);
                    value.array(4, |list| list.i32(3));
                    value.array(4, |_| {});
                });
                entry("Exec", "a(sasb)", &|value| {
                    value.array(8, |list| {
                        list.align(8);
                        list.text("/bin/x");
                        list.array(4, |words| words.text("x"));
                        list.u32(1);
                    });
                });
                entry("Weight", "d", &|value| {
                    value.align(8);
                    value.bytes.extend_from_slice(&[0; 8]);
                });
                entry("Below", "i", &|value| value.i32(-1));
                entry("At", "t", &|value| {
                    value.align(8);
                    value.bytes.extend_from_slice(&7_u64.to_le_bytes());
                });
            });
        });
        let found = properties(&message).unwrap();
        let text = |text: &str| Data::Text(text.to_owned());
        assert_eq!(found["Id"], text("a@b.service"));
        assert_eq!(found["InvocationID"], Data::List(vec![Data::Number(1), Data::Number(255)]));
        assert_eq!(found["Job"], Data::List(vec![Data::Number(9), text("/job/9")]));
        let statuses = Data::List(vec![Data::List(vec![Data::Number(3)]), Data::List(vec![])]);
        assert_eq!(found["SuccessExitStatus"], statuses);
        let exec = vec![text("/bin/x"), Data::List(vec![text("x")]), Data::Flag(true)];
        assert_eq!(found["Exec"], Data::List(vec![Data::List(exec)]));
        assert_eq!(
            [&found["Weight"], &found["Below"], &found["At"]],
            [&Data::Other, &Data::Number(0), &Data::Number(7)]
        );
        for length in 0..message.len() {
            assert!(properties(&message[..length]).is_err(), "{length}");
        }
        for index in 0..message.len() {
            for byte in [0, 1, b'a', b'(', b')', b'v', 0xff] {
                let mut changed = message.clone();
                changed[index] = byte;
                let _ = properties(&changed);
            }
        }
    }

    #[test]
    fn a_message_that_claims_to_be_endless_is_refused() {
        for field in [4, 12] {
            let mut fixed = [0; FIXED];
            (fixed[0], fixed[3]) = (b'l', 1);
            fixed[field..field + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            assert!(whole_length(&fixed).is_err());
        }
    }
}
