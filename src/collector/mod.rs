//! Talking to collectors: one module per dialect. The codecs in them are pure functions between bytes and types.

mod certificate;
pub mod client;
mod dialect;
mod gate;
pub mod http;
mod json;
pub mod oc3;
pub mod probe;
pub mod registration;
mod row;
pub mod rpc;
pub mod system;
mod trace;

use std::time::Duration;

use crate::action::ActionId;
use crate::action::time::Timestamp;
use crate::collector::http::HttpError;
use crate::config::Secret;

/// What a collector is told about an action that has ended. Both streams are clamped text already (see
/// [`crate::action::output`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The row.
    pub id: ActionId,
    /// The result, in the terms of [`crate::action::outcome::Ended::ret`].
    pub ret: i32,
    /// The standard output.
    pub stdout: String,
    /// The standard error; its last line gives the reason of a `ret` that is not the command's own.
    pub stderr: String,
    /// When the command ended.
    pub ended_at: Timestamp,
}

/// A whole answer that cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct DecodeError {
    /// The line, from 1.
    pub line: usize,
    /// How many bytes of that line were read.
    pub column: usize,
    /// What is wrong there.
    pub what: String,
}

/// Why an exchange with a collector did not do what it was for.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// There was no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The collector does not accept the node's name or uuid. It may say so as well when its own database is down.
    #[error("{url}: the collector refused this node's credentials: {text}")]
    Credentials {
        /// What was asked.
        url: String,
        /// The collector's words.
        text: String,
    },
    /// The answer is an HTTP error.
    #[error("{url}: HTTP status {status}{}", text.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    Refused {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The collector's words, if it had any.
        text: Option<String>,
        /// How long the collector wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The answer is a fault of a remote procedure call.
    #[error("{url}: the collector answered with a fault: {text}")]
    Fault {
        /// What was asked.
        url: String,
        /// The collector's words.
        text: String,
        /// They say that something is not there that the collector itself needs: neither the call is at fault nor what is
        /// in it.
        trouble: bool,
    },
    /// The collector does not have the method that was called.
    #[error("{url}: the collector does not know this call: {text}")]
    UnknownMethod {
        /// What was asked.
        url: String,
        /// The collector's words.
        text: String,
    },
    /// The answer cannot be read.
    #[error("{url}: the answer cannot be decoded")]
    Undecodable {
        /// What was asked.
        url: String,
        /// The place.
        source: DecodeError,
    },
}

/// What databases and parsers of collectors say about a value that they cannot take: too long, outside the column's
/// character set, out of the column's range, more than a packet holds, no XML.
const ABOUT_CONTENT: [&str; 6] = [
    "Data too long",
    "Incorrect string value",
    "Out of range value",
    "max_allowed_packet",
    "not well-formed",
    "ExpatError",
];

impl CollectorError {
    /// How long the collector wants to be left alone, if it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The same, where the collector has not echoed `secret` in its words.
    #[must_use]
    pub fn without(mut self, secret: &Secret) -> Self {
        let texts = match &mut self {
            Self::Credentials { text, .. } | Self::Fault { text, .. } | Self::UnknownMethod { text, .. } => Some(text),
            Self::Refused { text, .. } => text.as_mut(),
            Self::Undecodable { source, .. } => Some(&mut source.what),
            Self::Http(_) => None,
        };
        if let Some(text) = texts {
            *text = text.replace(secret.expose(), "<redacted>");
        }
        self
    }

    /// Whether the collector says, in so many words, that it cannot take this very body: it is too large, or holds
    /// something that its database or its parser does not take. Asking again is of no use; a smaller body may be.
    #[must_use]
    pub fn is_about_content(&self) -> bool {
        match self {
            Self::Refused { status: 400 | 413, .. } => true,
            Self::Refused { status: 500, text: Some(text), .. } | Self::Fault { text, .. } => {
                ABOUT_CONTENT.iter().any(|words| text.contains(words))
            }
            _ => false,
        }
    }

    /// Whether the collector was there, and may have refused this very body, or may be in trouble of its own.
    #[must_use]
    pub fn may_be_about_content(&self) -> bool {
        let may_be = matches!(self, Self::Refused { status: 400 | 413 | 500, .. } | Self::Fault { .. });
        may_be && !self.is_trouble()
    }

    /// Whether the collector was there and says that it is in trouble of its own.
    #[must_use]
    pub fn is_trouble(&self) -> bool {
        matches!(self, Self::Fault { trouble: true, .. }) && !self.is_about_content()
    }

    /// What the collector answered, without the URL: for the collector's own operator.
    #[must_use]
    pub fn answer(&self) -> String {
        match self {
            Self::Refused { status, text: Some(text), .. } => format!("HTTP status {status}: {text}"),
            Self::Refused { status, text: None, .. } => format!("HTTP status {status}"),
            Self::Credentials { text, .. } | Self::Fault { text, .. } | Self::UnknownMethod { text, .. } => {
                text.clone()
            }
            Self::Http(_) | Self::Undecodable { .. } => self.to_string(),
        }
    }

    /// Whether asking again, soon and unchanged, can help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Http(err) => err.is_transient(),
            _ if self.is_about_content() => false,
            Self::Refused { status, .. } => *status >= 500 || matches!(status, 408 | 425 | 429),
            // A 401 may only mean that the collector's database is down; a fault, that one of its helpers is.
            Self::Credentials { .. } | Self::Fault { .. } => true,
            Self::Undecodable { .. } | Self::UnknownMethod { .. } => false,
        }
    }
}
