//! A collector whose answers were made beforehand, for both dialects, over TLS: so that what is measured is not the
//! collector. It counts, and says when what arrived.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::contender::Dialect;
use crate::now;

/// The longest request head, and body, that is read.
const LIMIT: usize = 64 << 20;

/// What came in since the last [`Server::expect`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connections: u64,
    pub(crate) fetches: u64,
    pub(crate) acknowledgements: u64,
    pub(crate) reports: u64,
    /// How many results were in those reports.
    pub(crate) results: usize,
    /// When the first fetch was here, by the monotonic clock in nanoseconds.
    pub(crate) first_fetch: Option<i64>,
    /// When the answer to the last report was sent.
    pub(crate) last_report: Option<i64>,
    /// Bytes from and to the contender, TLS included.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// Milliseconds of processor time that the contender had used when its first byte was here, if somebody watches it.
    pub(crate) cpu_before: Option<f64>,
    /// What was not understood.
    pub(crate) problem: Option<String>,
}

#[derive(Default)]
struct State {
    /// The answer to the next fetch of each dialect; after it there is nothing to fetch.
    rows: Vec<u8>,
    seen: Seen,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    received: AtomicU64,
    sent: AtomicU64,
    /// The process whose child is the contender to watch; 0: none.
    watched: AtomicU32,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A collector on a port of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The certificate of the authority that signed its own.
    pub(crate) ca: String,
    shared: Arc<Shared>,
}

impl Server {
    /// Starts to answer. It never stops.
    pub(crate) fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let (ca, tls) = certificates()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = Self { address: listener.local_addr()?, ca, shared: Arc::default() };
        let shared = Arc::clone(&server.shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, shared) = (Arc::clone(&tls), Arc::clone(&shared));
                thread::spawn(move || {
                    // A contender that goes away without a word is no problem of ours.
                    let _ = serve(stream, tls, &shared);
                });
            }
        });
        Ok(server)
    }

    /// Forgets what it has seen, and has these rows for the next fetch: id and command.
    pub(crate) fn expect(&self, dialect: Dialect, rows: &[(u64, String)]) {
        let answer = match dialect {
            Dialect::Oc3 => oc3_rows(rows),
            Dialect::Rpc => rpc_rows(rows),
        };
        *self.shared.lock() = State { rows: answer, seen: Seen::default() };
        self.shared.received.store(0, Ordering::Relaxed);
        self.shared.sent.store(0, Ordering::Relaxed);
        self.shared.watched.store(0, Ordering::Relaxed);
    }

    /// Sees to it that [`Seen::cpu_before`] is looked at: the contender is the child of this process.
    pub(crate) fn watch(&self, parent: u32) {
        self.shared.watched.store(parent, Ordering::Relaxed);
    }

    /// What came in.
    pub(crate) fn seen(&self) -> Seen {
        let mut seen = self.shared.lock().seen.clone();
        seen.received = self.shared.received.load(Ordering::Relaxed);
        seen.sent = self.shared.sent.load(Ordering::Relaxed);
        seen
    }
}

struct Counted<'a>(TcpStream, &'a Shared);

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.received.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.0.write(data)?;
        self.1.sent.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn serve(stream: TcpStream, tls: Arc<ServerConfig>, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    shared.lock().seen.connections += 1;
    if stream.peek(&mut [0])? > 0 {
        let parent = shared.watched.swap(0, Ordering::Relaxed);
        let cpu = (parent > 0).then(|| cpu_of_child(parent)).flatten();
        shared.lock().seen.cpu_before = cpu;
    }
    let tls = ServerConnection::new(tls).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(tls, Counted(stream, shared));
    let (mut received, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let Some((head, body)) = request(&received) else {
            if received.len() > LIMIT {
                return Err(io::Error::other("a request without an end"));
            }
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                read => received.extend_from_slice(&buffer[..read]),
            }
            continue;
        };
        let answer = answer(&received[..head], &received[head..head + body], shared);
        received.drain(..head + body);
        stream.write_all(&answer)?;
        let mut state = shared.lock();
        if state.seen.reports > 0 {
            state.seen.last_report = Some(now());
        }
    }
}

/// Milliseconds of processor time that the only child of this process has used so far.
fn cpu_of_child(parent: u32) -> Option<f64> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let child = children.split_whitespace().next()?;
    let nanoseconds: f64 =
        fs::read_to_string(format!("/proc/{child}/schedstat")).ok()?.split(' ').next()?.parse().ok()?;
    Some(nanoseconds / 1e6)
}

/// The lengths of head and body of a request that is here as a whole.
fn request(received: &[u8]) -> Option<(usize, usize)> {
    let head = received.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&received[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    (received.len() >= head + length).then_some((head, length))
}

fn answer(head: &[u8], body: &[u8], shared: &Shared) -> Vec<u8> {
    let head = String::from_utf8_lossy(head);
    let line = head.lines().next().unwrap_or_default();
    let text = String::from_utf8_lossy(body);
    let method = text.split("<methodName>").nth(1).and_then(|rest| rest.split('<').next());
    let mut state = shared.lock();
    let State { rows, seen } = &mut *state;
    match method {
        Some("collector_get_action_queue_v2") => {
            seen.fetches += 1;
            seen.first_fetch.get_or_insert_with(now);
            return if rows.is_empty() { rpc_rows(&[]) } else { std::mem::take(rows) };
        }
        Some("collector_update_action_queue_received") => seen.acknowledgements += 1,
        Some("collector_update_action_queue") => {
            seen.reports += 1;
            // One array of all results, one for each, one for the credentials.
            seen.results += text.matches("<array>").count().saturating_sub(2);
        }
        Some(other) => seen.problem = Some(format!("method {other}")),
        None if line.starts_with("GET ") && line.contains("/actionq ") => {
            seen.fetches += 1;
            seen.first_fetch.get_or_insert_with(now);
            return if rows.is_empty() { oc3_rows(&[]) } else { std::mem::take(rows) };
        }
        None if line.starts_with("POST ") && line.contains("/actionq/running ") => seen.acknowledgements += 1,
        None if line.starts_with("POST ") && line.contains("/actionq/done ") => {
            seen.reports += 1;
            seen.results += 1;
        }
        None => seen.problem = Some(line.to_owned()),
    }
    if seen.problem.is_some() {
        return http("404 Not Found", "text/plain", "not here\n");
    }
    if method.is_some() {
        return xml("<value><nil/></value>");
    }
    http("202 Accepted", "application/json; charset=UTF-8", "null\n")
}

fn http(status: &str, content_type: &str, body: &str) -> Vec<u8> {
    let date = "Sat, 21 Nov 2026 08:50:03 GMT";
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nDate: {date}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn xml(value: &str) -> Vec<u8> {
    let body = format!(
        "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n{value}\n</param>\n</params>\n</methodResponse>\n"
    );
    http("200 OK", "text/xml", &body)
}

/// As collector 3 writes them.
fn oc3_rows(rows: &[(u64, String)]) -> Vec<u8> {
    let rows: Vec<String> = rows
        .iter()
        .map(|(id, command)| {
            format!(
                "{{\"command\":\"{command}\",\"dequeued_at\":\"0001-01-01T00:00:00Z\",\"id\":{id},\"nodename\":\"n1\",\
                 \"queued_at\":\"2026-11-21T08:50:03Z\",\"status\":\"W\",\"svc_id\":\"\",\"svcname\":\"\"}}"
            )
        })
        .collect();
    http("200 OK", "application/json; charset=UTF-8", &format!("{{\"actions\":[{}]}}\n", rows.join(",")))
}

/// As the 2.x collector writes them.
fn rpc_rows(rows: &[(u64, String)]) -> Vec<u8> {
    let mut value = "<value><array><data>\n".to_owned();
    for (id, command) in rows {
        value.push_str("<value><struct>\n");
        let nil = "<nil/>".to_owned();
        for (name, is) in [
            ("status", "<string>W</string>".to_owned()),
            ("svc_id", "<string></string>".to_owned()),
            ("date_queued", "<dateTime.iso8601>20261121T08:16:23</dateTime.iso8601>".to_owned()),
            ("action_type", "<string>pull</string>".to_owned()),
            ("stdout", nil.clone()),
            ("connect_to", "<string>127.0.0.1</string>".to_owned()),
            ("ret", nil.clone()),
            ("date_dequeued", nil.clone()),
            ("node_id", "<string>5c977246-0562-11e6-8c70-7e9e6cf13c8a</string>".to_owned()),
            ("command", format!("<string>{command}</string>")),
            ("stderr", nil.clone()),
            ("svcname", nil),
            ("id", format!("<int>{id}</int>")),
        ] {
            let _ = write!(value, "<member>\n<name>{name}</name>\n<value>{is}</value>\n</member>\n");
        }
        value.push_str("</struct></value>\n");
    }
    value.push_str("</data></array></value>");
    xml(&value)
}

/// An authority, and the server side of TLS with a certificate of it for 127.0.0.1.
fn certificates() -> Result<(String, Arc<ServerConfig>), Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Bench authority");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2100, 1, 1));
    let key = KeyPair::generate()?;
    let ca = params.self_signed(&key)?.pem();
    let authority = Issuer::new(params, key);
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2100, 1, 1));
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)?;
    Ok((ca, Arc::new(server)))
}
