//! A command string to words, as python's `shlex.split` does it.

/// A command string that cannot be split. The texts are python's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// A quotation mark without its partner.
    #[error("No closing quotation")]
    NoClosingQuotation,
    /// A backslash at the end.
    #[error("No escaped character")]
    NoEscapedCharacter,
}

/// Splits.
///
/// # Errors
/// The quoting is not closed.
pub fn split(_command: &str) -> Result<Vec<String>, WordsError> {
    todo!()
}
