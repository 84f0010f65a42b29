//! Which keys `actions.toml` can have.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::fragments::Fragments;
use super::toml_table::{Asked, Table};

/// Every key of `actions.toml` with its table, `execution.timeout`; of a table whose keys are free, the table.
///
/// Nobody keeps this list: the reader itself is listened to.
#[must_use]
pub fn known_keys() -> BTreeSet<String> {
    let (path, asked) = (Arc::from(Path::new("")), Asked::default());
    // nothing is set in an empty file, so nothing can be wrong with it
    let read = Fragments::default().read_table(&path, Table::listening(&path, &asked));
    debug_assert!(read.is_ok(), "{read:?}");
    let asked = asked.into_inner();
    let is_table =
        |key: &String| asked.iter().any(|other| other.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')));
    asked.iter().filter(|key| !is_table(key)).cloned().collect()
}
