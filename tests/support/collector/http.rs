//! As much of HTTP/1.1 as a server needs.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};

use super::fault::Answer;

/// Nothing that a node sends has a larger body, or more headers.
const BODY_MAX: usize = 64 << 20;
const HEADERS_MAX: usize = 64;

/// One request, whole.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// `None`: the peer has ended the connection between two requests.
    pub(super) fn read(stream: &mut BufReader<impl Read>) -> io::Result<Option<Self>> {
        let Some(line) = read_line(stream)? else { return Ok(None) };
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            return Err(io::Error::other(format!("no request line: {line:?}")));
        };
        let mut headers = Vec::new();
        loop {
            let line = read_line(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            if headers.len() > HEADERS_MAX {
                return Err(io::Error::other("too many headers"));
            }
        }
        let mut request = Self { method, path, headers, body: Vec::new() };
        let length = request.header("content-length").map_or(Ok(0), str::parse).map_err(io::Error::other)?;
        if length > BODY_MAX {
            return Err(io::Error::other(format!("a body of {length} bytes")));
        }
        request.body.resize(length, 0);
        stream.read_exact(&mut request.body)?;
        Ok(Some(request))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A line that is whole. `None`: there is none any more. One that breaks off is no request, as little as a head without its
/// empty line is.
fn read_line(stream: &mut BufReader<impl Read>) -> io::Result<Option<String>> {
    let mut line = String::new();
    match stream.read_line(&mut line)? {
        0 => Ok(None),
        _ if line.ends_with('\n') => Ok(Some(line)),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Status line and headers for a body of so many bytes.
pub(super) fn head(answer: &Answer, length: usize) -> Vec<u8> {
    let Answer { status, content_type, headers, .. } = answer;
    let mut head = format!("HTTP/1.1 {status} -\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n");
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// The body in pieces, none of which its length is known of beforehand.
pub(super) fn write_chunked(stream: &mut impl Write, answer: &Answer) -> io::Result<()> {
    let Answer { status, content_type, body, .. } = answer;
    write!(stream, "HTTP/1.1 {status} -\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    for piece in body.chunks(7) {
        write!(stream, "{:x}\r\n", piece.len())?;
        stream.write_all(piece)?;
        stream.write_all(b"\r\n")?;
    }
    stream.write_all(b"0\r\n\r\n")?;
    stream.flush()
}

pub(super) fn write(stream: &mut impl Write, answer: &Answer) -> io::Result<()> {
    let mut bytes = head(answer, answer.body.len());
    bytes.extend_from_slice(&answer.body);
    stream.write_all(&bytes)?;
    stream.flush()
}
