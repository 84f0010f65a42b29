//! `show-config`: the effective settings and where each comes from. It validates, and talks to nobody.

use std::io::{self, Write};

use serde_json::json;

use crate::cli::Global;
use crate::commands::load;
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
    let mut out = io::stdout().lock();
    let written = if global.json {
        let settings: Vec<_> = explained
            .iter()
            .map(|setting| json!({"key": setting.key, "value": setting.value, "origin": setting.origin.to_string()}))
            .collect();
        writeln!(out, "{}", json!({ "settings": settings }))
    } else {
        let width = explained.iter().map(|setting| setting.key.len()).max().unwrap_or_default();
        explained
            .iter()
            .try_for_each(|setting| writeln!(out, "{:width$} = {}  # {}", setting.key, setting.value, setting.origin))
    };
    // A reader that has seen enough (`| head`) is no failure.
    match written {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => Err(Error::Print(err)),
        _ => Ok(Exit::Ok),
    }
}
