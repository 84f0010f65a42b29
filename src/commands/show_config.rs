//! `show-config`: the effective settings and where each comes from. It validates, and talks to nobody.

use std::io::Write as _;

use serde_json::json;

use crate::cli::Global;
use crate::commands::{load, print};
use crate::error::{Error, Exit};

/// Prints the settings.
///
/// # Errors
/// When they are not valid.
pub fn run(global: &Global) -> Result<Exit, Error> {
    let (_, settings) = load(global)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let explained = settings.explain();
    print(|out| {
        if global.json {
            let settings: Vec<_> = explained
                .iter()
                .map(
                    |setting| json!({"key": setting.key, "value": setting.value, "origin": setting.origin.to_string()}),
                )
                .collect();
            return writeln!(out, "{}", json!({ "settings": settings }));
        }
        let width = explained.iter().map(|setting| setting.key.len()).max().unwrap_or_default();
        explained
            .iter()
            .try_for_each(|setting| writeln!(out, "{:width$} = {}  # {}", setting.key, setting.value, setting.origin))
    })
}
