//! The codec of the XML-RPC dialect of 1.x/2.x collectors.

pub mod xml;

use super::{DecodeError, Report};
use crate::action::{ActionId, Batch};

/// Which refusal a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The collector does not know the node's name.
    NotRegistered,
    /// The collector knows the name and refuses the uuid.
    BadUuid,
    /// The collector does not have the method.
    UnknownMethod,
    /// Anything else.
    Other,
}

/// An answer that is not the one hoped for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// The collector refused.
    #[error("the collector answered: {text}")]
    Fault {
        /// Which refusal.
        kind: FaultKind,
        /// The collector's words, without the name of its exception; bounded, one line.
        text: String,
    },
    /// The answer cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// The request that fetches the queue.
#[must_use]
pub fn encode_fetch(_node: &str, _uuid: &str) -> Vec<u8> {
    todo!()
}

/// The request that acknowledges rows.
#[must_use]
pub fn encode_received(_ids: &[ActionId], _node: &str, _uuid: &str) -> Vec<u8> {
    todo!()
}

/// The request that posts results.
#[must_use]
pub fn encode_update(_reports: &[Report], _node: &str, _uuid: &str) -> Vec<u8> {
    todo!()
}

/// Reads the answer to [`encode_fetch`].
///
/// # Errors
/// A fault, or an answer that is not an array of rows.
pub fn decode_fetch(_body: &[u8]) -> Result<Batch, RpcError> {
    todo!()
}

/// Reads the answer to [`encode_received`] and [`encode_update`].
///
/// # Errors
/// A fault, or an answer that is not a method response.
pub fn decode_done(_body: &[u8]) -> Result<(), RpcError> {
    todo!()
}
