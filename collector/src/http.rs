//! Requests and answers as plain values: the conversations are functions from one to the other.

use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::body::Bytes;
use tokio::sync::Notify;

use crate::store::Store;

/// A request, read whole.
#[derive(Debug)]
pub struct Request {
    /// `GET`, `POST`…
    pub method: String,
    /// The path and the query, exactly as sent.
    pub uri: String,
    /// The value of `Authorization`, when there is one and it is text.
    pub authorization: Option<String>,
    /// The value of `Content-Type`, when there is one and it is text.
    pub content_type: Option<String>,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// The path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.uri.split_once('?').map_or(self.uri.as_str(), |(path, _)| path)
    }

    /// The query, without its `?`.
    #[must_use]
    pub fn query(&self) -> &str {
        self.uri.split_once('?').map_or("", |(_, query)| query)
    }

    /// The credentials given with this authorization scheme.
    #[must_use]
    pub fn credentials(&self, scheme: &str) -> Option<&str> {
        let (given, credentials) = self.authorization.as_deref()?.split_once(' ')?;
        given.eq_ignore_ascii_case(scheme).then_some(credentials)
    }

    /// The name and the secret of Basic credentials.
    #[must_use]
    pub fn basic(&self) -> Option<(String, String)> {
        let bytes = BASE64_STANDARD.decode(self.credentials("Basic")?).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (name, secret) = text.split_once(':')?;
        Some((name.to_owned(), secret.to_owned()))
    }
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    /// An answer in JSON.
    #[must_use]
    pub fn json(status: u16, body: String) -> Self {
        Self { status, content_type: "application/json", body }
    }
}

/// What all conversations share.
#[derive(Debug)]
pub struct Collector {
    store: Mutex<Store>,
    /// The operator's token.
    pub token: String,
    /// Rung when a row may wait for its notification.
    pub waiting: Notify,
    /// Whether nodes may register themselves without any credentials.
    pub anonymous: bool,
}

impl Collector {
    /// A collector over this store.
    #[must_use]
    pub fn new(store: Store, token: String, anonymous: bool) -> Self {
        Self { store: Mutex::new(store), token, waiting: Notify::new(), anonymous }
    }

    /// The store. Each conversation step takes it once; a transaction cut by a panic was rolled back.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
