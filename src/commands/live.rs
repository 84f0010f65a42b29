//! What a person at a terminal sees while `dequeue` works, or while another handler does. It is read from the ledger and
//! the run directories, so that it is the same for both.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::pending;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

use crate::action::admission::State;
use crate::commands::now;
use crate::commands::text::in_words;
use crate::error::Error;
use crate::executor::last_line;
use crate::ledger::totals::Since;
use crate::ledger::view::View;
use crate::telemetry::progress::{self, Running, Standing};
use crate::telemetry::{color, screen};
use crate::wake::stop::Stop;

/// How often the lines are redrawn. What takes less than this is not worth any.
const REDRAW: Duration = Duration::from_millis(200);

/// How often what runs is said where nothing can be redrawn.
const SAY: Duration = Duration::from_secs(60);

/// How it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Lines that are redrawn in place.
    Redrawn,
    /// A line of the log now and then.
    Said,
    /// Not at all.
    Not,
}

impl How {
    /// For a person who has standard error as it is now.
    pub(super) fn for_person() -> Self {
        let dumb = color::is_dumb(std::env::var_os("TERM").as_deref());
        if io::stderr().is_terminal() && !dumb { Self::Redrawn } else { Self::Said }
    }
}

/// The view of one run.
pub(super) struct Live<'a> {
    how: How,
    state: &'a Path,
    stop: &'a Stop,
    /// Options whose values are hidden.
    secret: &'a [String],
    /// Show the last line of each command's output.
    last_lines: bool,
    view: RefCell<Option<View>>,
    /// From when on; `None`: that could not be found out, and nothing is shown.
    since: Option<Since>,
    /// The handler that is followed.
    other: Cell<Option<u32>>,
    /// There was something to look at.
    began: Cell<bool>,
}

impl<'a> Live<'a> {
    /// Begins to look.
    pub(super) fn new(how: How, state: &'a Path, stop: &'a Stop, secret: &'a [String], last_lines: bool) -> Self {
        let mut live = Self {
            how,
            state,
            stop,
            secret,
            last_lines,
            view: RefCell::default(),
            since: None,
            other: Cell::default(),
            began: Cell::default(),
        };
        if how != How::Not {
            // Where there is no ledger yet, everything is new.
            live.since = match View::open(state) {
                Ok(view) => view.map_or(Some(Since::default()), |view| view.since_now().ok()),
                Err(_) => None,
            };
        }
        live
    }

    /// Another handler works, and this one waits for it.
    pub(super) fn follow(&self, other: Option<u32>) {
        self.began.set(true);
        self.other.set(other);
    }

    /// This handler works.
    pub(super) fn hold(&self) {
        self.began.set(true);
        self.other.set(None);
    }

    /// Shows how far the run is, for ever.
    pub(super) async fn watch(&self) -> Infallible {
        loop {
            match self.how {
                How::Redrawn => {
                    sleep(REDRAW).await;
                    let standing = self.standing().filter(Standing::is_worth_a_look);
                    screen::draw(standing.map(|standing| standing.lines(progress::size())).unwrap_or_default());
                }
                How::Said => {
                    sleep(SAY).await;
                    if let Some(standing) = self.standing().filter(|standing| !standing.running.is_empty()) {
                        tracing::info!("{}", standing.line());
                    }
                }
                How::Not => pending().await,
            }
        }
    }

    /// Leaves the terminal to others, and says what the run has come to.
    pub(super) fn end(&self) {
        if self.how == How::Redrawn {
            screen::end();
        }
        if self.how != How::Not && self.began.get() {
            if let Some(standing) = self.standing() {
                tracing::info!("{}", standing.summary());
            }
        }
    }

    /// How far it is; `None` where that cannot be read just now.
    fn standing(&self) -> Option<Standing> {
        let since = self.since?;
        let (tally, started) = self.with_view(|view| Ok((view.tally(since)?, view.in_state(State::Started)?)))?;
        let now = now();
        let running = started.iter().map(|entry| Running {
            what: format!("{} {}", entry.key, in_words(entry, self.secret)),
            elapsed: now.since(entry.started_at.unwrap_or(now)),
            last_line: Some(entry.key)
                .filter(|_| self.last_lines)
                .and_then(|key| last_line::of(self.state, key).ok().flatten()),
        });
        Some(Standing {
            running: running.collect(),
            waiting: tally.waiting,
            done: tally.done,
            failed: tally.failed,
            unreported: tally.unreported,
            other: self.other.get(),
            stopping: self.stop.is_asked(),
        })
    }

    /// Looks into the ledger, once there is one. It may be replaced meanwhile: what fails is begun anew.
    fn with_view<T>(&self, look: impl FnOnce(&View) -> Result<T, crate::ledger::LedgerError>) -> Option<T> {
        let mut view = self.view.borrow_mut();
        if view.is_none() {
            *view = View::open(self.state).unwrap_or_else(|err| {
                tracing::debug!("nothing is shown: {}", Error::from(err).report());
                None
            });
        }
        let seen = look(view.as_ref()?);
        if seen.is_err() {
            *view = None;
        }
        seen.ok()
    }
}
