//! `pause`: take no new actions, until told to resume or for a time. It survives a reboot.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::cli::{self, Global};
use crate::commands::text::when;
use crate::commands::{now, paths, print, require_root};
use crate::error::{Error, Exit};
use crate::ledger::pause::Pause;
use crate::wake::holder;
use crate::wake::lock::WakeFiles;

/// Pauses the node: a handler looks before each fetch and each start. A running command goes on, and results go out.
///
/// # Errors
/// When that cannot be written down.
pub fn run(global: &Global, options: &cli::Pause) -> Result<Exit, Error> {
    require_root()?;
    let state = paths(global).state;
    WakeFiles::open(&state)?; // the directory, when no handler has been here yet
    let now = now();
    let until = options.duration.map(|duration| now.plus(duration));
    let pause = Pause { since: Some(now), until, reason: options.reason.clone() };
    pause.impose(&state).map_err(Error::Pause)?;
    let handler = holder::running(&state);
    print(|out| {
        if global.json {
            return writeln!(out, "{}", json!({ "pause": document(&pause), "handler": handler }));
        }
        match until {
            Some(until) => writeln!(out, "Paused until {}: no new action is taken.", when(until))?,
            None => writeln!(out, "Paused: no new action is taken until 'opensvc-actions resume'.")?,
        }
        match handler {
            Some(pid) => writeln!(out, "A handler is at work (process {pid}); a command that runs already goes on."),
            None => Ok(()),
        }
    })
}

/// A pause for people: since when, until when and why.
pub(super) fn in_words(pause: &Pause) -> String {
    let mut text = pause.since.map_or("yes".to_owned(), |since| format!("since {}", when(since)));
    if let Some(until) = pause.until {
        text = format!("{text} until {}", when(until));
    }
    if let Some(reason) = &pause.reason {
        text = format!("{text}: {reason}");
    }
    text
}

/// A pause in JSON.
pub(super) fn document(pause: &Pause) -> Value {
    let time = |time: Option<_>| time.map(|time: crate::action::time::Timestamp| time.to_string());
    json!({ "since": time(pause.since), "until": time(pause.until), "reason": pause.reason })
}
