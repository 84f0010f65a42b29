//! HTTP by hand, so that bytes can be compared; and the recorded exchanges.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: String,
}

/// A recorded request and its answer.
pub(crate) struct Pair {
    pub(crate) request: Vec<u8>,
    pub(crate) answer: Answer,
}

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Connects, trusting only this authority.
pub(crate) fn connect(address: SocketAddr, ca: &Path) -> Tls {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let name = address.ip().into();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
}

/// Reads one answer.
pub(crate) fn read_answer(stream: &mut impl Read) -> Answer {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 65_536];
    loop {
        if let Some((head, body)) = split(&bytes) {
            let length: usize = header(head, "content-length").unwrap().parse().unwrap();
            if body.len() >= length {
                return answer(head, &body[..length]);
            }
        }
        match stream.read(&mut chunk).unwrap() {
            0 => panic!("the connection ended early: {:?}", String::from_utf8_lossy(&bytes)),
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

/// A request with `Connection: close` and its length.
pub(crate) fn request(method: &str, uri: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write!(bytes, "{method} {uri} HTTP/1.1\r\nHost: collector\r\nConnection: close\r\n").unwrap();
    for (name, value) in headers {
        write!(bytes, "{name}: {value}\r\n").unwrap();
    }
    write!(bytes, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
    bytes.extend_from_slice(body);
    bytes
}

fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let at = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((std::str::from_utf8(&bytes[..at]).unwrap(), &bytes[at + 4..]))
}

fn header(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
}

fn answer(head: &str, body: &[u8]) -> Answer {
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        content_type: header(head, "content-type").unwrap(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

fn recorded(dialect: &str, name: &str) -> Vec<u8> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance").join(dialect);
    std::fs::read(root.join(name)).unwrap()
}

/// A recorded pair of the feeder.
pub(crate) fn oc3(name: &str) -> Pair {
    let answered = recorded("oc3", &format!("{name}.response"));
    let (head, body) = split(&answered).unwrap();
    Pair { request: recorded("oc3", &format!("{name}.request")), answer: answer(head, body) }
}

/// The recorded pairs of a file of the XML-RPC server.
pub(crate) fn rpc(name: &str) -> Vec<Pair> {
    let bytes = recorded("rpc", name);
    let mut messages = Vec::new();
    let mut at = 0;
    while let Some(start) = find(&bytes[at..], b" ===\n") {
        let message = &bytes[at + start + 5..];
        at += start + 5;
        let Some((head, body)) = split(message) else { break };
        let Some(length) = header(head, "content-length") else { continue };
        let length: usize = length.parse().unwrap();
        let end = message.len() - body.len() + length;
        messages.push((message[..end].to_vec(), head.to_owned(), body[..length].to_vec()));
        at += end;
    }
    let pairs = messages
        .chunks_exact(2)
        .map(|pair| Pair { request: pair[0].0.clone(), answer: answer(&pair[1].1, &pair[1].2) });
    pairs.collect()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
