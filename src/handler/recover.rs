//! Recovery: what the last handler, or the last boot, left. It is the same walk through the states, begun in the middle.

use std::path::Path;
use std::time::Duration;

use super::{Handler, timestamp};
use crate::action::ActionKey;
use crate::action::admission::State;
use crate::action::outcome::{Ended, Outcome};
use crate::action::output::Clamp;
use crate::action::state::{Next, Trace};
use crate::crash;
use crate::error::Error;
use crate::executor::launcher::{Launcher, unit};
use crate::executor::record::Record as EndRecord;
use crate::executor::run::{self, Claim, RunDir};
use crate::handler::external::undefined;
use crate::handler::run::{said_finished, without_output};
use crate::ledger::story::{Note, Step};
use crate::ledger::{Change, Ledger, Record};
use crate::telemetry::log;

/// Opens the ledger. One that had to be made anew begins with what the run directories tell.
///
/// # Errors
/// When it cannot be used.
pub fn open_ledger(state: &Path) -> Result<Ledger, Error> {
    let runs = || Ok(run::all(state)?.into_iter().map(|(key, _)| key).collect());
    Ok(Ledger::open(state, timestamp(), runs)?)
}

impl Handler<'_> {
    /// Decides about every action that the ledger says was started: its record is there → finished; somebody still
    /// holds its claim → it stays started, and this handler will attach; the claim proves that it never ran → it waits
    /// again; otherwise nobody knows, and it is never run again by itself.
    pub(super) async fn recover(&mut self) -> Result<(), Error> {
        let mut changes = Vec::new();
        let started = self.ledger.borrow().in_state(State::Started)?;
        for record in started {
            let dir = RunDir::of(self.state, record.key);
            if self.outside(record.key)?.is_some() {
                continue; // it goes on, whatever its start has left
            }
            // The claim first: if it is free and there is no record then, there never will be.
            let claim = dir.claim(&self.boot_id).map_err(Error::run(dir.path()))?;
            // Another boot proves nothing: what was written may never have reached the disk, and what was removed may
            // be back. A record that nothing was started may be an earlier try's.
            let same_boot = record.boot_id.as_ref().is_none_or(|boot_id| *boot_id == self.boot_id)
                && matches!(claim, Claim::Held | Claim::Free { this_boot: true, .. });
            let trace = if same_boot || claim == Claim::Held { claim.trace() } else { Trace::Nothing };
            let end = EndRecord::read(dir.path()).map_err(Error::run(dir.path()))?;
            let booted = record.boot_id.as_ref().is_some_and(|boot_id| *boot_id != self.boot_id);
            let rebooted = booted && self.permit(&record).ends_boot(&record.row);
            if let Some(end) = end.filter(|end| end.ended.is_some() || same_boot) {
                crash::point("record-found");
                if self.goes_outside(&record, &end)?.is_some() {
                    continue;
                }
                if let Some(outcome) = undefined(&record, &end) {
                    changes.push(Change::Finished(record.key, outcome));
                    continue;
                }
                let went_down = rebooted && end.ended.as_ref().is_some_and(Ended::is_told_to_end);
                changes.push(self.recorded(&record, if went_down { with_the_machine(end) } else { end }));
                continue;
            }
            match trace.next() {
                Next::Attach => {}
                Next::StartAgain => {
                    let why = "its supervisor was gone before it began".to_owned();
                    self.note(Note::Failed(record.key, Step::Start, timestamp(), dir.error().unwrap_or(why)));
                    changes.push(Change::NotStarted(record.key));
                }
                next => {
                    if next == Next::KillAndGiveUp {
                        self.kill_what_is_left(record.key).await;
                    }
                    let why = "the supervisor or the machine went down while it ran, and its end was not seen";
                    let outcome = if rebooted {
                        said_finished(&record, 0, Ended::Rebooted.reason().as_deref(), Duration::ZERO);
                        without_output(&Ended::Rebooted)
                    } else {
                        self.interrupted(&record, why)
                    };
                    changes.push(Change::Finished(record.key, outcome));
                }
            }
        }
        self.ledger.borrow_mut().commit(&changes)?;
        self.sweep()
    }

    /// Says that an action's end was not seen, and gives the result that tells it.
    pub(super) fn interrupted(&self, record: &Record, why: &str) -> Outcome {
        let key = record.key;
        // Of an action of a lost ledger no more is known than its name.
        let words = Some(self.in_words(record)).filter(|words| !words.is_empty());
        let words = words.map_or_else(String::new, |words| format!(": {words}"));
        about_action!(warn, record, [message_id = log::INTERRUPTED], "{key} was interrupted: {why}{words}");
        without_output(&Ended::Interrupted(why.to_owned()))
    }

    /// What a record says.
    fn recorded(&self, record: &Record, end: EndRecord) -> Change {
        match self.outcome(record, end) {
            Ok(outcome) => Change::Finished(record.key, outcome),
            Err(why) => {
                self.note(Note::Failed(record.key, Step::Start, timestamp(), why));
                Change::NotStarted(record.key)
            }
        }
    }

    /// Ends what a killed supervisor has left of its command.
    pub(super) async fn kill_what_is_left(&self, key: ActionKey) {
        if let Err(err) = Launcher::kill_unit(&unit(key)).await {
            about_key!(warn, key, [], "{key}: cannot end what is left in its unit: {err}");
        }
        if let Err(err) = RunDir::of(self.state, key).kill_command() {
            about_key!(warn, key, [], "{key}: cannot end what is left of its command: {err}");
        }
    }

    /// Removes run directories that belong to no action any more: a crash came between a result's acceptance and the
    /// removal of its run.
    fn sweep(&self) -> Result<(), Error> {
        for (key, dir) in run::all(self.state).map_err(Error::run(&self.state.join("runs")))? {
            if self.ledger.borrow().is_open(key)? {
                continue;
            }
            match dir.claim(&self.boot_id) {
                Ok(Claim::Held) => {}
                Ok(_) => self.forget_run(key),
                // Nobody's run must not hold up everybody's.
                Err(err) => about_key!(warn, key, [], "cannot look at {}: {err}", dir.path().display()),
            }
        }
        Ok(())
    }
}

/// The record of a command that was to end the boot and that ended with it: a machine that goes down in good order ends
/// it with all the others.
fn with_the_machine(end: EndRecord) -> EndRecord {
    let reason = end.ended.as_ref().and_then(Ended::reason).map(|reason| format!("{reason}\n"));
    let own = reason.and_then(|reason| end.stderr.strip_suffix(&reason)).unwrap_or(&end.stderr);
    let mut stderr = Clamp::new();
    stderr.push(own.as_bytes());
    let stderr = stderr.finish(Ended::Rebooted.reason().as_deref());
    EndRecord { ended: Some(Ended::Rebooted), stderr, ..end }
}
