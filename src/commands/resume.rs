//! `resume`: take new actions again.

use std::io::Write as _;

use serde_json::json;

use crate::cli::Global;
use crate::commands::{now, paths, pause, print, require_root};
use crate::error::{Error, Exit};
use crate::ledger::pause::Pause;
use crate::wake::lock::WakeFiles;

/// Ends the pause. A handler that is at work takes new actions at once; else the next start does.
///
/// # Errors
/// When it cannot be ended.
pub fn run(global: &Global) -> Result<Exit, Error> {
    require_root()?;
    let state = paths(global).state;
    let ended = Pause::in_force(&state, now()).map_err(Error::Pause)?;
    Pause::lift(&state).map_err(Error::Pause)?;
    if ended.is_some() {
        WakeFiles::open(&state)?.set_mark()?; // what was queued meanwhile is worth a fetch to a handler that is at work
    }
    print(|out| {
        if global.json {
            return writeln!(out, "{}", json!({ "ended": ended.as_ref().map(pause::document) }));
        }
        match ended {
            Some(_) => writeln!(
                out,
                "Resumed: the next start takes new actions (a notification, the timer, or 'opensvc-actions')."
            ),
            None => writeln!(out, "This node was not paused."),
        }
    })
}
