//! The codec of collector 3's REST dialect.

use super::{DecodeError, Report};
use crate::action::{ActionId, Batch};

/// Reads the answer to `GET …/api/node/actionq`.
///
/// # Errors
/// The body is not JSON, or not an object with `actions`.
pub fn decode_actions(_body: &[u8]) -> Result<Batch, DecodeError> {
    todo!()
}

/// The body of `POST …/api/node/actionq/running`.
#[must_use]
pub fn encode_running(_ids: &[ActionId]) -> Vec<u8> {
    todo!()
}

/// The body of `POST …/api/node/actionq/done`.
#[must_use]
pub fn encode_done(_report: &Report) -> Vec<u8> {
    todo!()
}

/// The words of an error answer.
#[must_use]
pub fn error_text(_body: &[u8]) -> Option<String> {
    todo!()
}
