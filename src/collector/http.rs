//! One exchange over HTTPS. The only file that names `reqwest` and `rustls`.
//!
//! Nothing here decides to repeat anything: no redirects (a 302 would turn a POST into a GET), no retries. The crypto
//! provider is ring: aws-lc-rs costs every new process 40 ms of processor time at its first handshake.

use std::cell::RefCell;
use std::error::Error as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::header::{CACHE_CONTROL, CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Method, RequestBuilder, Response, redirect, retry, tls};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{AlertDescription, CertificateError};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::collector::gate::Gate;
use crate::collector::trace::Trace;
use crate::config::{Proxy, QueueSettings, Secret};

/// The largest answer that is read.
pub const ANSWER_LIMIT: usize = 64 * 1024 * 1024;

/// The largest file of certificates or keys: all authorities of a system are a fortieth of this.
const PEM_LIMIT: u64 = 8 * 1024 * 1024;

/// The longest time that a collector may ask to be left alone; a longer one is cut to this.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(30);

/// How many times [`QueueSettings::request_timeout`], which is without progress, an exchange may take in all: a peer that
/// sends a byte now and then must not hold a node up for ever.
const WHOLE_EXCHANGE: u32 = 10;

/// The longest time that a new connection may wait for its request.
const LONGEST_FRESH: Duration = Duration::from_millis(250);

/// What is sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where to.
    pub url: String,
    /// What the body is.
    pub content_type: &'static str,
    /// HTTP Basic user and password.
    pub credentials: Option<(String, Secret)>,
    /// POST with this body, GET without.
    pub body: Option<Vec<u8>>,
    /// The number of the call, for dialects whose answers repeat it.
    pub id: u64,
}

impl Request {
    fn method(&self) -> Method {
        if self.body.is_some() { Method::POST } else { Method::GET }
    }
}

/// What came back, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// What was asked.
    pub url: String,
    /// The HTTP status.
    pub status: u16,
    /// How long the collector wants to be left alone, at most 30 seconds.
    pub retry_after: Option<Duration>,
    /// The whole body, at most [`ANSWER_LIMIT`].
    pub body: Vec<u8>,
    /// The number of the call that this is the answer to.
    pub id: u64,
}

/// What an exchange shows beside its answer.
#[derive(Debug, Default)]
pub struct Seen {
    /// The header `Date`.
    pub date: Option<String>,
    /// The certificate of whoever answered, in DER; only of a client that [observes](Http::observing).
    pub certificate: Option<Vec<u8>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A certificate or key file cannot be used.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The client cannot be made.
    #[error("cannot set up HTTPS: {0} (are ca-certificates installed? collector.ca_file names authorities to trust)")]
    Setup(String),
    /// The collector's certificate is not good.
    #[error("{url}: {problem}")]
    Certificate {
        /// What was asked.
        url: String,
        /// What is wrong with the certificate, and what can be done.
        problem: String,
    },
    /// The collector asks for a certificate of this node and does not take what it gets.
    #[error("{url}: {problem}")]
    Identity {
        /// What was asked.
        url: String,
        /// What the collector has against it, and what can be done.
        problem: String,
    },
    /// Nobody answers, or not in time.
    #[error("{url}: {what}: {why}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What was tried.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// There was progress all the time, and no end.
    #[error("{url}: no end of the answer within {limit:?}")]
    Endless {
        /// What was asked.
        url: String,
        /// How long an exchange may take in all.
        limit: Duration,
    },
    /// The answer is larger than [`ANSWER_LIMIT`].
    #[error("{url}: the answer is larger than {} MiB", ANSWER_LIMIT / 1024 / 1024)]
    TooLarge {
        /// What was asked.
        url: String,
    },
}

impl HttpError {
    /// Whether asking again, soon and unchanged, can help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// A client for one queue; it keeps its connection for all exchanges of a run.
#[derive(Debug)]
pub struct Http {
    client: Client,
    secret: Secret,
    /// How long an exchange may take in all.
    limit: Duration,
    /// Whether this node has a certificate to show.
    has_identity: bool,
    gate: Gate,
    /// A connection that has waited for longer is not used: it may be about to be given up, by either side.
    fresh_for: Duration,
    /// What was begun and is not sent yet.
    begun: RefCell<Option<Begun>>,
}

/// An exchange whose request waits for its connection, and the connection for the gate. It is given up when it is dropped.
#[derive(Debug)]
struct Begun {
    request: Request,
    response: JoinHandle<reqwest::Result<Response>>,
    since: Instant,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.response.abort();
    }
}

impl Http {
    /// Makes a client.
    ///
    /// # Errors
    /// When a certificate or key file cannot be used.
    pub fn new(settings: &QueueSettings) -> Result<Self, HttpError> {
        Self::with(settings, Client::builder())
    }

    /// Makes a client that keeps what it sees of the other side.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn observing(settings: &QueueSettings) -> Result<Self, HttpError> {
        Self::with(settings, Client::builder().tls_info(true))
    }

    fn with(settings: &QueueSettings, builder: ClientBuilder) -> Result<Self, HttpError> {
        // The second queue finds it installed, which is no failure.
        let _ = ring::default_provider().install_default();
        let mut builder = builder
            .user_agent(concat!("opensvc-actions/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .tls_version_min(tls::Version::TLS_1_2)
            .connect_timeout(settings.connect_timeout)
            .read_timeout(settings.request_timeout)
            .pool_max_idle_per_host(1);
        let gate = Gate::new();
        builder = builder.connector_layer(gate.clone());
        builder = with_trust(builder, settings)?;
        builder = with_proxy(builder, &settings.proxy)?;
        let identity = settings.tls.client_identity.as_ref();
        let client = builder.build().map_err(|err| match (tls_error_in(&err), identity) {
            (Some(rustls::Error::InconsistentKeys(_)), Some((path, key))) => HttpError::File {
                path: path.clone(),
                source: format!("it is not the certificate of the key in {}", key.display()).into(),
            },
            _ => HttpError::Setup(why(&err)),
        })?;
        let limit = settings.request_timeout.saturating_mul(WHOLE_EXCHANGE);
        let (secret, has_identity) = (settings.uuid.clone(), identity.is_some());
        let fresh_for = LONGEST_FRESH.min(settings.connect_timeout / 4).min(settings.request_timeout / 4);
        Ok(Self { client, secret, limit, has_identity, gate, fresh_for, begun: RefCell::default() })
    }

    /// Begins to connect for a request, which is sent by [`Self::exchange_begun`] and not before.
    pub fn begin(&self, request: Request) {
        self.gate.close();
        let response = tokio::spawn(self.prepare(&mut request.clone()).send());
        self.begun.replace(Some(Begun { request, response, since: Instant::now() }));
    }

    /// Sends the request that was begun, and reads the whole answer. `None`: none was begun.
    pub async fn exchange_begun(&self) -> Option<Result<Answer, HttpError>> {
        let mut begun = self.begun.take()?;
        // Behind the gate nothing comes to an end but what goes wrong.
        if begun.response.is_finished() || begun.since.elapsed() > self.fresh_for {
            let request = begun.request.clone();
            drop(begun);
            return Some(self.exchange(request).await); // nothing was sent yet
        }
        self.gate.open();
        let request = begun.request.clone();
        let trace = self.trace(&request);
        let response = async {
            match (&mut begun.response).await {
                Ok(response) => response,
                Err(err) => std::panic::resume_unwind(err.into_panic()), // nobody else could have aborted it
            }
        };
        Some(self.answer_to(request, trace, response).await.map(|(answer, _)| answer))
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When there is no answer, or it is too large, or does not end.
    pub async fn exchange(&self, request: Request) -> Result<Answer, HttpError> {
        self.observe(request).await.map(|(answer, _)| answer)
    }

    /// The same, and tells what was seen.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    pub async fn observe(&self, mut request: Request) -> Result<(Answer, Seen), HttpError> {
        self.begun.take(); // which the open gate would let pass
        self.gate.open();
        let trace = self.trace(&request);
        let response = self.prepare(&mut request).send();
        self.answer_to(request, trace, response).await
    }

    fn trace(&self, request: &Request) -> Trace<'_> {
        let Request { url, content_type, credentials, body, .. } = request;
        let method = request.method();
        Trace::request(&self.secret, (method.as_str(), url), content_type, credentials.is_some(), body.as_deref())
    }

    /// Takes the body out of the request: it may be large.
    fn prepare(&self, request: &mut Request) -> RequestBuilder {
        let mut builder =
            self.client.request(request.method(), &request.url).header(CONTENT_TYPE, request.content_type);
        // An old answer from a cache would look like a redo of everything in it.
        builder = builder.header(CACHE_CONTROL, "no-cache");
        if let Some((user, password)) = &request.credentials {
            builder = builder.basic_auth(user, Some(password.expose()));
        }
        if let Some(body) = request.body.take() {
            builder = builder.body(body);
        }
        builder
    }

    /// Waits for the whole answer, so long as one may take.
    async fn answer_to(
        &self,
        request: Request,
        trace: Trace<'_>,
        response: impl Future<Output = reqwest::Result<Response>>,
    ) -> Result<(Answer, Seen), HttpError> {
        let url = request.url.clone();
        let endless = |_| HttpError::Endless { url, limit: self.limit };
        timeout(self.limit, self.whole_answer(request, trace, response)).await.map_err(endless)?
    }

    async fn whole_answer(
        &self,
        Request { url, id, .. }: Request,
        trace: Trace<'_>,
        response: impl Future<Output = reqwest::Result<Response>>,
    ) -> Result<(Answer, Seen), HttpError> {
        let mut response = response.await.map_err(|err| self.failed(&url, err))?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(seconds);
        let headers = response.headers().clone();
        let certificate = response.extensions().get::<tls::TlsInfo>().and_then(tls::TlsInfo::peer_certificate);
        let seen = Seen {
            date: headers.get(DATE).and_then(|date| date.to_str().ok()).map(str::to_owned),
            certificate: certificate.map(<[u8]>::to_vec),
        };
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|err| self.failed(&url, err))? {
            if body.len() + chunk.len() > ANSWER_LIMIT {
                return Err(HttpError::TooLarge { url });
            }
            body.extend_from_slice(&chunk);
        }
        trace.answer(status, headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())), &body);
        if let Some(problem) = against_us_in_a_page(status, &body) {
            return Err(HttpError::Identity { url, problem });
        }
        Ok((Answer { url, status, retry_after, body, id }, seen))
    }

    fn failed(&self, url: &str, err: reqwest::Error) -> HttpError {
        let url = url.to_owned();
        let err = err.without_url(); // it is in our own text
        match tls_error_in(&err) {
            Some(rustls::Error::InvalidCertificate(problem)) => {
                return HttpError::Certificate { url, problem: in_words(problem) };
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                if let Some(problem) = against_us(*alert, self.has_identity) {
                    return HttpError::Identity { url, problem };
                }
            }
            _ => {}
        }
        let what = if err.is_connect() {
            "cannot connect"
        } else if err.is_timeout() {
            "no answer in time"
        } else {
            "the exchange broke off"
        };
        HttpError::Unreachable { url, what, why: why(&err) }
    }
}

/// The certificates in a file, in DER.
///
/// # Errors
/// When it cannot be read, or holds something else.
pub fn certificates_in(path: &Path) -> Result<Vec<Vec<u8>>, HttpError> {
    let pem = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem).map(|der| der.map(|der| der.to_vec()));
    certificates
        .collect::<Result<_, _>>()
        .map_err(|err| HttpError::File { path: path.to_owned(), source: err.to_string().into() })
}

fn with_trust(builder: ClientBuilder, settings: &QueueSettings) -> Result<ClientBuilder, HttpError> {
    let mut builder = builder;
    let tls = &settings.tls;
    if settings.base_url.starts_with("http://") {
        // Nothing to verify: a machine without any certificate authority must not fail over that.
        builder = builder.tls_certs_only([]);
    } else if !tls.verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    } else if let Some(path) = &tls.ca_file {
        let unusable = |source| HttpError::File { path: path.clone(), source };
        let certificates = Certificate::from_pem_bundle(&read(path)?).map_err(|err| unusable(err.into()))?;
        if certificates.is_empty() {
            return Err(unusable("it holds no certificate in PEM form".into()));
        }
        builder = builder.tls_certs_only(certificates);
    }
    if let Some((certificate, key)) = &tls.client_identity {
        let mut pem = read(certificate)?;
        pem.push(b'\n');
        pem.extend(read(key)?);
        let identity = Identity::from_pem(&pem).map_err(|_| HttpError::File {
            path: certificate.clone(),
            source: format!("with {} it is no certificate and unencrypted key in PEM form", key.display()).into(),
        })?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

fn with_proxy(builder: ClientBuilder, proxy: &Proxy) -> Result<ClientBuilder, HttpError> {
    Ok(match proxy {
        Proxy::Environment => builder,
        Proxy::Never => builder.no_proxy(),
        Proxy::Url(url) => {
            builder.proxy(reqwest::Proxy::all(url).map_err(|err| HttpError::Setup(why(&err.without_url())))?)
        }
    })
}

fn read(path: &Path) -> Result<Vec<u8>, HttpError> {
    let unusable = |source| HttpError::File { path: path.to_owned(), source };
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(PEM_LIMIT + 1).read_to_end(&mut text));
    match read.map_err(|err| unusable(err.into()))? {
        length if length as u64 > PEM_LIMIT => Err(unusable(format!("larger than {} MiB", PEM_LIMIT >> 20).into())),
        _ => Ok(text),
    }
}

/// `Retry-After` in seconds. Its other form, a date, is not honoured: it would have to be compared with our clock.
fn seconds(header: &HeaderValue) -> Option<Duration> {
    let seconds = header.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_LIMIT))
}

/// The causes below the libraries' own two layers ("error sending request", "client error"), which say nothing.
fn why(err: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut source = err.source();
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    causes.retain(|cause| !cause.starts_with("client error ("));
    if causes.is_empty() { err.to_string() } else { causes.join(": ") }
}

/// Finds what TLS has to say.
fn tls_error_in(err: &reqwest::Error) -> Option<&rustls::Error> {
    let mut source = err.source();
    while let Some(cause) = source {
        if let Some(tls) = tls_error(cause) {
            return Some(tls);
        }
        source = cause.source();
    }
    None
}

/// What TLS says is wrapped in I/O errors, one in the other, which leave each other out of their chains of sources.
fn tls_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    cause.downcast_ref().or_else(|| tls_error(cause.downcast_ref::<io::Error>()?.get_ref()?))
}

const ASKED_FOR: &str =
    "the collector asks for a certificate of this node (collector.client_cert and collector.client_key)";

/// What a collector's alert says about this node's certificate, or the lack of one. Who gets none says so in several ways.
fn against_us(alert: AlertDescription, has_identity: bool) -> Option<String> {
    use AlertDescription as Alert;
    Some(match alert {
        Alert::CertificateRequired | Alert::BadCertificate if !has_identity => ASKED_FOR.to_owned(),
        Alert::CertificateExpired => refused("it has expired"),
        Alert::CertificateRevoked => refused("it was revoked"),
        Alert::UnknownCA => refused("the collector does not trust the authority that signed it"),
        Alert::BadCertificate
        | Alert::CertificateRequired
        | Alert::CertificateUnknown
        | Alert::UnsupportedCertificate
        | Alert::AccessDenied => refused("no reason is given"),
        _ => return None,
    })
}

/// The same from nginx, which makes no alert of it: whatever the certificate, the handshake ends well, and each request
/// is answered with 400 and a page of these words.
fn against_us_in_a_page(status: u16, body: &[u8]) -> Option<String> {
    if status != 400 {
        return None;
    }
    let page = String::from_utf8_lossy(&body[..body.len().min(1024)]);
    if page.contains("No required SSL certificate was sent") {
        Some(ASKED_FOR.to_owned())
    } else if page.contains("The SSL certificate error") {
        Some(refused("no reason is given"))
    } else {
        None
    }
}

fn refused(why: &str) -> String {
    format!("the collector refused this node's certificate (collector.client_cert): {why}")
}

fn in_words(problem: &CertificateError) -> String {
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the collector's certificate has expired (or this machine's clock is wrong)".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the collector's certificate is not valid yet (or this machine's clock is wrong)".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the collector's certificate is for another name ({problem})")
        }
        CertificateError::UnknownIssuer => "the collector's certificate is signed by nobody that this machine trusts \
             (collector.ca_file names a certificate authority to trust)"
            .to_owned(),
        // An authority that was made anew under its old name: this machine has the old one.
        CertificateError::BadSignature => {
            "the collector's certificate is not signed by the authority that this machine \
             trusts under that name (was it made anew? collector.ca_file names a certificate authority to trust)"
                .to_owned()
        }
        CertificateError::Revoked => "the collector's certificate was revoked".to_owned(),
        other => format!("the collector's certificate is not good: {other}"),
    }
}
