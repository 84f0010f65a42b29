//! The recordings, as they lie beside this file.

use std::fs;
use std::path::PathBuf;

/// A recorded file.
pub(crate) fn read(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of the recorded files of a dialect, sorted.
pub(crate) fn names(dialect: &str) -> Vec<String> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(dialect);
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| format!("{dialect}/{}", entry.unwrap().file_name().into_string().unwrap()))
        .collect();
    names.sort();
    names
}

/// One HTTP message.
pub(crate) struct Message {
    /// The request line or the status line.
    pub(crate) start: String,
    pub(crate) body: Vec<u8>,
}

/// The message at the beginning of these bytes, and the bytes behind it. The body is as long as `Content-Length` says.
pub(crate) fn message(bytes: &[u8]) -> (Message, &[u8]) {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a blank line behind the header");
    let header = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = header.lines();
    let start = lines.next().unwrap().to_owned();
    let length: usize =
        lines.find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |length| length.parse().unwrap());
    let rest = &bytes[end + 4..];
    // One recording is cut and says so.
    let (body, rest) = rest.split_at(length.min(rest.len()));
    (Message { start, body: body.to_vec() }, rest)
}
