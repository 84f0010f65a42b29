//! Talking to collectors: one module per dialect. The codecs in them are pure functions between bytes and types.

pub mod oc3;
mod row;
pub mod rpc;

use crate::action::ActionId;
use crate::action::time::Timestamp;

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
