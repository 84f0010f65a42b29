//! The operator's API, client side.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Certificate, Client, Method, Url};
use serde::Serialize;
use serde_json::Value;

use crate::admin::PREFIX;
use crate::state::{StateDir, StateError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file of the state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A given file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the state is not there.
    #[error("{} is missing: {hint}", path.display())]
    Missing {
        /// Which one.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// The address is no address.
    #[error("{0:?} is no address of a collector")]
    BadAddress(String),
    /// No connection can be prepared.
    #[error("cannot prepare a connection")]
    Setup(#[source] reqwest::Error),
    /// Nothing answers, or not as it should.
    #[error("no answer from {url}")]
    NoAnswer {
        /// From where.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The collector refused.
    #[error("{text}")]
    Refused {
        /// The status of the answer.
        status: u16,
        /// The collector's words.
        text: String,
    },
}

/// Where a collector is, and how to be let in. What is absent is taken from the state directory.
#[derive(Clone, Debug)]
pub struct Access {
    /// The state directory of the server.
    pub state: StateDir,
    /// Its address.
    pub url: Option<String>,
    /// The authority to trust.
    pub ca_file: Option<PathBuf>,
    /// The file of the operator's token.
    pub token_file: Option<PathBuf>,
}

/// A connection to a collector.
#[derive(Debug)]
pub struct Api {
    http: Client,
    base: Url,
    token: String,
}

fn read(path: &PathBuf) -> Result<String, ClientError> {
    std::fs::read_to_string(path).map_err(|source| ClientError::Read { path: path.clone(), source })
}

impl Access {
    fn base(&self) -> Result<Url, ClientError> {
        let text = if let Some(url) = &self.url {
            url.clone()
        } else {
            let hint = "is `serve` running on this state? (or give --url)";
            let missing = || ClientError::Missing { path: self.state.path("address"), hint };
            let address = self.state.read("address")?.ok_or_else(missing)?;
            let parsed: SocketAddr = address.trim().parse().map_err(|_| ClientError::BadAddress(address.clone()))?;
            format!("https://{}", reachable(parsed))
        };
        let url = Url::parse(&text).ok().filter(|url| url.scheme() == "https" && url.has_host());
        let mut url = url.ok_or(ClientError::BadAddress(text))?;
        url.set_path(PREFIX);
        url.set_query(None);
        Ok(url)
    }

    fn token(&self) -> Result<String, ClientError> {
        let token = match &self.token_file {
            Some(path) => read(path)?,
            None => self.state.read("token")?.ok_or_else(|| ClientError::Missing {
                path: self.state.path("token"),
                hint: "start `serve` on this state, or give --token-file",
            })?,
        };
        Ok(token.trim().to_owned())
    }

    fn authority(&self) -> Result<Option<Vec<Certificate>>, ClientError> {
        let pem = match &self.ca_file {
            Some(path) => Some(read(path)?),
            None => self.state.read("ca.pem")?,
        };
        pem.map(|pem| Certificate::from_pem_bundle(pem.as_bytes())).transpose().map_err(ClientError::Setup)
    }

    /// Prepares the connection.
    ///
    /// # Errors
    /// A file is missing or is not what it should be.
    pub fn open(&self) -> Result<Api, ClientError> {
        // Fails when one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT);
        if let Some(authority) = self.authority()? {
            builder = builder.tls_certs_only(authority);
        }
        Ok(Api { http: builder.build().map_err(ClientError::Setup)?, base: self.base()?, token: self.token()? })
    }
}

/// A server that listens everywhere is reached on this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

impl Api {
    /// Asks, and gives the answer's document.
    ///
    /// # Errors
    /// Nothing answers, or the collector refuses.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Value, ClientError> {
        let mut url = self.base.clone();
        url.set_path(&format!("{PREFIX}{path}"));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let lost = |source: reqwest::Error| {
            let url = source.url().map_or_else(|| self.base.to_string(), ToString::to_string);
            ClientError::NoAnswer { url, source: source.without_url() }
        };
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(lost)?;
        let status = answer.status();
        let text = answer.text().await.map_err(lost)?;
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(value);
        }
        let text = value["error"].as_str().map_or_else(|| format!("the collector answered {status}"), str::to_owned);
        Err(ClientError::Refused { status: status.as_u16(), text })
    }
}
