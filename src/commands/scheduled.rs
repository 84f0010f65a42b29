//! The schedule of timer runs, as it is obeyed and as it is shown.

use std::path::Path;
use std::time::Duration;

use crate::action::civil::Civil;
use crate::action::schedule::{Schedule, Verdict};
use crate::action::time::Timestamp;
use crate::config::{Settings, TimerSchedule};
use crate::error::Error;
use crate::ledger::scheduled;
use crate::wake::lock::{Owed, WakeFiles};
use crate::zone;

/// More than the shipped timer lets pass between two of its runs.
const OVERDUE: Duration = Duration::from_secs(90);

/// Where a node stands in its schedule.
pub(super) struct Standing<'a> {
    /// What is configured; `None`: always.
    pub(super) written: Option<&'a TimerSchedule>,
    /// The same, as this node's timer obeys it.
    obeyed: Option<Schedule>,
    now: Timestamp,
    /// The last run of a timer that went to fetch.
    pub(super) last: Option<Timestamp>,
    /// What the last fetch that was wanted has left.
    owed: Option<Owed>,
}

impl<'a> Standing<'a> {
    /// Looks at the state directory, and makes nothing there.
    pub(super) fn look(settings: &'a Settings, state: &Path, now: Timestamp) -> Result<Self, Error> {
        let written = settings.schedule.as_ref();
        // Never empty. Two names are two nodes only to their collectors.
        let node = settings.queues.first().map(|queue| queue.node.as_str()).unwrap_or_default();
        Ok(Self {
            written,
            obeyed: written.map(|written| written.schedule.for_timer(node)),
            now,
            last: scheduled::last_run(state).map_err(Error::State)?,
            owed: WakeFiles::in_state(state).owed(),
        })
    }

    /// Whether it is the turn of a timer's run.
    pub(super) fn turn(&self) -> Verdict {
        match &self.obeyed {
            None => Verdict::Allowed { delay_below: 0 },
            Some(schedule) => schedule.allows(self.clock(), self.counting()),
        }
    }

    /// Whether a notification, or a person, still waits for a fetch: neither is bound by the schedule.
    pub(super) fn is_awaited(&self) -> bool {
        self.owed == Some(Owed::ToSomebody)
    }

    /// Whether a timer's run should have come and has not: systemd starts nothing that runs already, and senders that do not
    /// count may keep this program running. Not where there was never one.
    pub(super) fn is_overdue(&self) -> bool {
        let is_late = |last: Timestamp| last <= self.now && self.now.since(last) > OVERDUE;
        self.last.is_some_and(is_late) && self.turn().is_allowed()
    }

    /// The earliest moment at which a timer's run may fetch; one that has come is now. `None`: never, or not within two
    /// years.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let Some(schedule) = &self.obeyed else { return Some(self.now) };
        if self.turn().is_allowed() {
            return Some(self.now);
        }
        schedule.next(self.clock(), self.counting()).map(zone::moment)
    }

    fn clock(&self) -> Civil {
        zone::local(self.now).civil
    }

    /// What the intervals count from, by today's clock: what has passed since the last run really has passed, though the
    /// clock may have been set for the summer in between. A run in the future is the trace of a clock that was set back:
    /// it counts for nothing, or else it would silence the node until then. And a fetch that failed is repeated.
    fn counting(&self) -> Option<Civil> {
        let last = self.last.filter(|last| *last <= self.now && self.owed != Some(Owed::BySchedule))?;
        Some(self.clock().minus(self.now.since(last)))
    }
}

/// Remembers a run of a timer that goes to fetch. Nothing but an interval depends on it.
pub(super) fn remember(state: &Path, now: Timestamp) {
    if let Err(err) = scheduled::ran(state, now) {
        tracing::debug!("cannot remember the last scheduled run: {err}");
    }
}
