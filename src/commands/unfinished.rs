//! What is not over yet: what runs, what waits, and what no collector has accepted.

use std::path::Path;

use crate::action::admission::State;
use crate::error::Error;
use crate::executor::boot;
use crate::executor::run::RunDir;
use crate::ledger::LedgerError;
use crate::ledger::story::{Attempt, Step};
use crate::ledger::view::{Entry, View};

/// What is not over yet.
#[derive(Default)]
pub(super) struct Actions {
    /// With each how far it is.
    pub(super) running: Vec<(Entry, Progress)>,
    /// What has not started.
    pub(super) waiting: Vec<Entry>,
    /// With each the last attempt to report it that went wrong.
    pub(super) unreported: Vec<(Entry, Option<Attempt>)>,
}

/// How far an action is that the ledger calls started.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Running,
    /// It was told to end.
    Cancelled,
    /// It has ended, and no handler has taken that over yet.
    Ended,
    /// The machine went down meanwhile.
    WentDown,
}

impl Actions {
    pub(super) fn look(state: &Path) -> Result<Self, Error> {
        let Some(view) = View::open(state)? else { return Ok(Self::default()) };
        let boot_id = boot::id().map_err(Error::Start)?;
        let with_progress = |entry: Entry| {
            let progress = progress(state, &entry, &boot_id);
            (entry, progress)
        };
        let with_attempt = |entry: Entry| {
            let last = view.last_attempt(entry.key, Step::Report)?;
            Ok((entry, last))
        };
        Ok(Self {
            running: view.in_state(State::Started)?.into_iter().map(with_progress).collect(),
            waiting: view.in_state(State::Received)?,
            unreported: view
                .in_state(State::Finished)?
                .into_iter()
                .map(with_attempt)
                .collect::<Result<_, LedgerError>>()?,
        })
    }
}

impl Progress {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Cancelled => "cancelled",
            Self::Ended => "ended",
            Self::WentDown => "went_down",
        }
    }
}

/// Looks at the run directory, and not at the claim in it: a look at that takes its lock for a moment.
fn progress(state: &Path, entry: &Entry, boot_id: &str) -> Progress {
    let run = RunDir::of(state, entry.key);
    if run.has_record() {
        Progress::Ended
    } else if (entry.boot_id.as_deref() != Some(boot_id) && !run.is_outside()) || run.is_abandoned(boot_id) {
        Progress::WentDown
    } else if run.is_cancelled() {
        Progress::Cancelled
    } else {
        Progress::Running
    }
}
