//! One connection to the collector, kept.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A TLS connection on which requests and answers take turns.
pub(crate) struct Link(StreamOwned<ClientConnection, TcpStream>);

impl Link {
    /// Connects to `ADDRESS:PORT`; the handshake goes with the first request.
    pub(crate) fn connect(address: &str, ca: &str) -> Result<Self, Box<dyn Error>> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_reader_iter(BufReader::new(File::open(ca)?)) {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let tls = ClientConnection::new(Arc::new(config), ServerName::try_from(host)?.to_owned())?;
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self(StreamOwned::new(tls, stream)))
    }

    /// Sends a whole request, in one piece. The first one leaves together with the last word of the handshake.
    pub(crate) fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.0.conn.writer().write_all(request)?;
        self.0.flush()
    }

    /// Reads a whole answer and gives its body.
    pub(crate) fn answer(&mut self) -> io::Result<String> {
        let mut received = Vec::with_capacity(4096);
        let (body, length) = loop {
            self.more(&mut received)?;
            let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
            let status = head.split(' ').nth(1).unwrap_or_default();
            let length: Option<usize> =
                head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
            match length {
                Some(length) if status.starts_with('2') => break (end + 4, length),
                _ => return Err(io::Error::other(format!("the collector answers {head}"))),
            }
        };
        while received.len() < body + length {
            self.more(&mut received)?;
        }
        String::from_utf8(received.split_off(body)).map_err(io::Error::other)
    }

    fn more(&mut self, received: &mut Vec<u8>) -> io::Result<()> {
        let length = received.len();
        received.resize(length + 16 * 1024, 0);
        let read = self.0.read(&mut received[length..])?;
        received.truncate(length + read);
        if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}
