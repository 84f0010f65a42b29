//! The calls of the `rpc` dialect of 1.x/2.x collectors, and what their answers mean. They are written as XML-RPC
//! ([`xml`]) or as JSON-RPC 2 ([`json`]); both lead to the same methods of the same collector.
//!
//! * `collector_get_action_queue_v2(node, auth)`: an array of rows, whose status becomes S.
//! * `collector_get_action_queue(node, auth)`: the same, where the status becomes R at once: all that collectors before
//!   2021 have. There is nothing to acknowledge then, and an answer that gets lost takes its rows with it.
//! * `collector_update_action_queue_received([id, …], auth)`: nil; acknowledges.
//! * `collector_update_action_queue([[id, ret, stdout, stderr], …], auth)`: nil; takes results.
//! * `system.listMethods()`: an array of names, in XML-RPC only.
//!
//! `auth` is the pair of the node's uuid and its name. The two updates answer nil whether or not they changed a row;
//! they work row by row, so that of a call that fails in its middle the first rows are done. Doing them again is
//! harmless.

pub mod json;
mod reader;
pub mod registration;
pub mod xml;

#[cfg(test)]
mod tests;

use super::row::{Row, Value, bounded};
use super::{DecodeError, Report};
use crate::action::ActionId;

/// The bytes of a fault's text that are shown.
const FAULT_TEXT: usize = 1024;

/// The results that go in one call: as many as the handler records at once.
pub const REPORTS: usize = 100;

/// The bytes that such a call may have: nginx takes 1 MiB unless it is told otherwise.
pub const REPORTS_BYTES: usize = 1_000_000;

/// The bytes of a call around its results, and of one result around its streams, at most.
const AROUND: usize = 512;

/// A call but for its last argument, which is always the credentials.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// Asks for the queue.
    Fetch,
    /// Asks a collector for the queue that knows no other way.
    FetchV1,
    /// Acknowledges rows.
    Received(&'a [ActionId]),
    /// Posts results. Their dates are not part of it: the collector puts its own.
    Update(&'a [Report]),
    /// Asks for the names of all methods; has no credentials.
    ListMethods,
}

impl Call<'_> {
    /// The name of the method.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Self::Fetch => "collector_get_action_queue_v2",
            Self::FetchV1 => "collector_get_action_queue",
            Self::Received(_) => "collector_update_action_queue_received",
            Self::Update(_) => "collector_update_action_queue",
            Self::ListMethods => "system.listMethods",
        }
    }
}

/// How many bytes a result takes in a call at most, whichever format it is written in.
#[must_use]
pub fn weight(report: &Report) -> usize {
    let stream = |text: &str| -> usize {
        text.bytes()
            .map(|byte| match byte {
                b'&' | b'\r' => 5,
                b'<' | b'>' => 4,
                b'"' | b'\\' | b'\n' | b'\t' => 2,
                0..0x20 => 6,
                _ => 1,
            })
            .sum()
    };
    AROUND + stream(&report.stdout) + stream(&report.stderr)
}

/// Which refusal a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The collector does not know the node's name.
    NotRegistered,
    /// The collector knows the name and refuses the uuid.
    BadUuid,
    /// The collector does not have the method.
    UnknownMethod,
    /// The collector is not well: its database, its event server or what is in front of it is away or overloaded. When it
    /// is the event server, refused credentials look so as well: they cannot be told apart then.
    Trouble,
    /// Anything else: perhaps the call, perhaps the collector.
    Other,
}

/// What exceptions of the collector's python are called when something is not there that it needs.
const TROUBLE_NAMES: [&str; 7] =
    ["IOError", "OSError", "OperationalError", "InterfaceError", "ConnectionError", "socket.", "Timeout"];

/// What they say then. The first three are what the reference agent looks for, and asks again.
const TROUBLE_WORDS: [&str; 6] = ["restart", "Gateway", "retry", "MySQL", "Connection refused", "Deadlock"];

impl FaultKind {
    /// By the name of a python exception and what it says. That a method is unknown has another form in each format.
    fn of(exception: &str, said: &str) -> Self {
        if said.starts_with("agent ") && said.ends_with(" not registered") {
            Self::NotRegistered
        } else if said == "agent authentication error" {
            Self::BadUuid
        } else if TROUBLE_NAMES.iter().any(|name| exception.contains(name))
            || TROUBLE_WORDS.iter().any(|words| said.contains(words))
        {
            Self::Trouble
        } else {
            Self::Other
        }
    }
}

/// An answer that is not the one hoped for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// The collector refused.
    #[error("the collector answered: {text}")]
    Fault {
        /// Which refusal.
        kind: FaultKind,
        /// The collector's words, without the name of its exception; one bounded line.
        text: String,
    },
    /// The answer cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl RpcError {
    fn fault(kind: FaultKind, said: &str) -> Self {
        let text = if said.is_empty() { "a fault without words".to_owned() } else { bounded(said, FAULT_TEXT) };
        Self::Fault { kind, text }
    }
}

/// The place of a member's value. A row has more: what a redone row still carries of its earlier output is passed over.
fn column<'a>(row: &'a mut Row, member: &str) -> Option<&'a mut Value> {
    Some(match member {
        "id" => &mut row.id,
        "status" => &mut row.status,
        "command" => &mut row.command,
        "svc_id" => &mut row.svc_id,
        "svcname" => &mut row.svcname,
        "date_queued" => &mut row.queued_at,
        "ret" => &mut row.ret,
        _ => return None,
    })
}
