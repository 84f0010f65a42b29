//! What is tested, put into a machine: the handler, its units, a collector, an `om` that does what its words say.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Machine;

/// Parses what a `--json` command printed.
pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
