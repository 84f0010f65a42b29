//! Command lines for logs: shell-quoted, bounded, without secrets.

/// The words as a command line.
#[must_use]
pub fn command_line(_words: &[String], _patterns: &[String]) -> String {
    todo!()
}

/// A word as a shell would need it.
#[must_use]
pub fn quoted(_word: &str) -> String {
    todo!()
}
