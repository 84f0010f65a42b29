//! What is true of every answer that a decoder gives, whatever the bytes were.

use opensvc_actions::action::Batch;
use opensvc_actions::action::argv::Command;

/// The longest text of an error: it goes into a log line.
const LONGEST: usize = 2000;

/// Rows become argument vectors or a refusal; the words of an error are one bounded line.
pub fn check<E: std::fmt::Display>(answer: Result<Batch, E>) {
    match answer {
        Ok(batch) => {
            for action in &batch.actions {
                if let Err(refusal) = Command::read(action) {
                    line(&refusal.to_string());
                }
            }
        }
        Err(error) => line(&error.to_string()),
    }
}

/// One bounded line.
pub fn line(words: &str) {
    assert!(words.len() < LONGEST, "{} bytes", words.len());
    assert!(!words.contains(['\n', '\r', '\0']), "{words:?}");
}
