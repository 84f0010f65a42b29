//! The server: one port for the nodes of both dialects and for the operator.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::clock;
use crate::http::{Answer, Collector, Request};
use crate::state::{StateDir, StateError};
use crate::store::{Store, StoreError};
use crate::tls::{self, TlsError};
use crate::{admin, feeder, notifier, register, rpc};

/// A request's body may be as large as this.
const BODY_MAX: usize = 64 << 20;
/// As many clients are served at once; others wait in the kernel's queue.
const CONNECTIONS: usize = 256;

/// A body that may be larger than this waits for its turn: whoever can connect can make a server hold bodies, before it
/// has shown any credentials (those of the rpc calls stand in the body).
const SMALL_BODY: u64 = 1024 * 1024;

/// The turns of large bodies.
static LARGE_BODIES: Semaphore = Semaphore::const_new(4);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// For a request's head, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// A client that does not read its answer is dropped after this.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How long a stop waits for the exchanges in hand.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How to serve.
#[derive(Debug)]
pub struct Options {
    /// Where everything is kept.
    pub state: StateDir,
    /// Where to listen.
    pub listen: SocketAddr,
    /// A certificate chain and its key, instead of our own.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// More names for our own certificate.
    pub names: Vec<String>,
    /// Whether to notify nodes, and after which delay.
    pub notify: Option<Duration>,
    /// Whether nodes may register themselves without any credentials.
    pub anonymous: bool,
}

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The database.
    #[error("cannot open {}", path.display())]
    Store {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The system.
    #[error("the system refused")]
    System(#[from] std::io::Error),
}

/// A server ready to run. It holds its state directory until it is dropped.
struct Server {
    _lock: File,
    listener: TcpListener,
    tls: TlsAcceptor,
    collector: Arc<Collector>,
}

/// Serves until SIGTERM or SIGINT. When ready, says where on standard output and in the file `address`.
///
/// # Errors
/// The state, the certificate or the port cannot be used.
pub async fn serve(options: Options) -> Result<(), ServeError> {
    let mut stop = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let notify = options.notify;
    let state = options.state.clone();
    let (server, address) = prepare(options).await?;
    state.write("address", &format!("{address}\n"))?;
    let mut stdout = std::io::stdout();
    // Whoever started us may not listen any more.
    let _ = writeln!(stdout, "listening on https://{address}").and_then(|()| stdout.flush());

    let collector = server.collector.clone();
    let notifier = async move {
        match notify {
            Some(delay) => notifier::run(collector, delay).await,
            None => std::future::pending().await,
        }
    };
    let (closing, closed) = watch::channel(());
    let mut connections = JoinSet::new();
    tokio::select! {
        never = accept(&server, &closed, &mut connections) => match never {},
        () = notifier => {}
        () = stopped(&mut stop) => {}
    }
    tracing::info!("stopping");
    state.forget("address");
    drop(server.listener);
    // A failure to send says that nobody is connected.
    let _ = closing.send(());
    let finished = async { while connections.join_next().await.is_some() {} };
    if timeout(STOP_TIMEOUT, finished).await.is_err() {
        tracing::warn!("stopped with {} connections open", connections.len());
    }
    Ok(())
}

async fn prepare(options: Options) -> Result<(Server, SocketAddr), ServeError> {
    let Options { state, listen, pair, names, notify: _, anonymous } = options;
    let lock = state.take()?;
    let path = state.touch("queue.db")?;
    let store = Store::open(&path).map_err(|source| ServeError::Store { path, source })?;
    let token = state.token()?;
    let (certificate, key) = match pair {
        Some(pair) => pair,
        None => tls::own_certificate(&state, &our_names(listen, names), clock::now())?,
    };
    let tls = TlsAcceptor::from(tls::server(&certificate, &key)?);
    let refused = |source| ServeError::Listen { address: listen, source };
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok((Server { _lock: lock, listener, tls, collector: Arc::new(Collector::new(store, token, anonymous)) }, address))
}

fn our_names(listen: SocketAddr, given: Vec<String>) -> Vec<String> {
    let mut names = given;
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    if !listen.ip().is_unspecified() {
        names.push(listen.ip().to_string());
    }
    names.extend(host_name());
    names.sort();
    names.dedup();
    names
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_ascii_lowercase();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}

async fn stopped(signals: &mut [Signal; 2]) {
    let [terminate, interrupt] = signals;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn accept(server: &Server, closed: &watch::Receiver<()>, connections: &mut JoinSet<()>) -> Infallible {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        while connections.try_join_next().is_some() {}
        // The semaphore is never closed.
        let Ok(place) = room.clone().acquire_owned().await else { continue };
        let stream = match server.listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, collector, closed) = (server.tls.clone(), server.collector.clone(), closed.clone());
        connections.spawn(async move {
            let _ = timeout(CONNECTION_TIMEOUT, converse(stream, tls, collector, closed)).await;
            drop(place);
        });
    }
}

/// One connection. What goes wrong on it is the client's business.
async fn converse(stream: TcpStream, tls: TlsAcceptor, collector: Arc<Collector>, mut closed: watch::Receiver<()>) {
    let _ = stream.set_nodelay(true);
    let handshake = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
    let stream = tokio::select! {
        stream = handshake => stream,
        _ = closed.changed() => return,
    };
    let stream = match stream {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!("a TLS handshake failed: {error}"),
        Err(_) => return,
    };
    let service = service_fn(|request| {
        let collector = collector.clone();
        async move { Ok::<_, Infallible>(respond(&collector, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let finished = tokio::select! {
        finished = connection.as_mut() => finished,
        _ = closed.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = finished {
        tracing::debug!("a connection failed: {error}");
    }
}

async fn respond(collector: &Collector, request: hyper::Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let too_large = || Answer::json(413, "{\"text\":\"the request is too large\"}\n".to_owned());
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > BODY_MAX {
        return response(too_large());
    }
    let is_small = body.size_hint().upper().is_some_and(|upper| upper <= SMALL_BODY);
    let read = async {
        // It is never closed; without a turn the body is read all the same.
        let _turn = if is_small { None } else { LARGE_BODIES.acquire().await.ok() };
        Limited::new(body, BODY_MAX).collect().await
    };
    let answer = match timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(body)) => {
            let uri = head.uri.path_and_query().map_or("/", |uri| uri.as_str()).to_owned();
            let header = |name: HeaderName| head.headers.get(name)?.to_str().ok().map(str::to_owned);
            let (authorization, content_type) = (header(AUTHORIZATION), header(CONTENT_TYPE));
            let method = head.method.as_str().to_owned();
            let request = Request { method, uri, authorization, content_type, body: body.to_bytes() };
            let answer = if register::is_for_us(&request) {
                register::answer(collector, &request).await
            } else {
                route(collector, &request)
            };
            tracing::debug!("{} {}: {}", request.method, request.path(), answer.status);
            answer
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => too_large(),
        Ok(Err(_)) => Answer::json(400, "{\"text\":\"the request is incomplete\"}\n".to_owned()),
        Err(_) => Answer::json(408, "{\"text\":\"the request took too long\"}\n".to_owned()),
    };
    response(answer)
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    response
}

fn route(collector: &Collector, request: &Request) -> Answer {
    let now = clock::now();
    if request.uri.starts_with(admin::PREFIX) {
        admin::answer(collector, request, now)
    } else if request.uri.starts_with(rpc::PREFIX) {
        rpc::answer(collector, request, now)
    } else {
        feeder::answer(collector, request, now)
    }
}
