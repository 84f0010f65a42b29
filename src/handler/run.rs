//! One action: from its start to its result, under a supervisor of its own.

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::external::undefined;
use super::outbox::Outbox;
use super::report::OURS;
use super::{Handler, svcname, timestamp};
use crate::action::argv::Argv;
use crate::action::external::Outside;
use crate::action::outcome::{Ended, Outcome};
use crate::action::output::Clamp;
use crate::action::policy::Permit;
use crate::action::state::Next;
use crate::action::{ActionKey, redact, words};
use crate::config::Ack;
use crate::crash;
use crate::error::Error;
use crate::executor::kept;
use crate::executor::launch::{End, Limits, Prepared, Running, Told};
use crate::executor::launcher::NotLaunched;
use crate::executor::run::RunDir;
use crate::ledger::story::{Acknowledged, Note};
use crate::ledger::{Change, Record};
use crate::telemetry::log;

/// What became of a command while this handler watched.
pub(super) enum Ran {
    /// It ended; the supervisor may wait to hear that the ledger knows.
    Ended(Outcome, Option<Told>),
    /// We had to leave it; it goes on.
    Left,
    /// It definitely did not start: why.
    NotStarted(String),
    /// It is an external action, and goes on outside.
    Outside(Box<Outside>),
}

/// An action that starts as soon as the ledger says so.
pub(super) struct Start {
    prepared: Prepared,
    argv: Argv,
    limits: Limits,
}

/// Changes that wait for the next commit, and who waits for them.
pub(super) struct Pending<'o> {
    pub(super) changes: Vec<Change>,
    pub(super) told: Vec<Told>,
    /// Takes results once they are durable.
    pub(super) outbox: &'o Outbox,
}

impl<'o> Pending<'o> {
    pub(super) fn new(outbox: &'o Outbox) -> Self {
        Self { changes: Vec::new(), told: Vec::new(), outbox }
    }
}

impl<'a> Handler<'a> {
    /// Makes what is pending durable, and tells who waits for that. What was posted rides along, and does not cause a
    /// commit of its own. Returns the actions that must not start after all.
    pub(super) fn commit(&self, pending: &mut Pending<'_>) -> Result<Vec<ActionKey>, Error> {
        if pending.changes.is_empty() {
            return Ok(Vec::new());
        }
        pending.changes.extend(pending.outbox.take_posted());
        let not_to_start = self.commit_changes(&pending.changes)?;
        for key in pending.changes.drain(..).filter_map(|change| change.finished()) {
            crash::point("finished");
            pending.outbox.put(key);
        }
        for told in pending.told.drain(..) {
            self.tell(Some(told));
            crash::point("told");
        }
        Ok(not_to_start)
    }

    /// Makes changes durable. What is complete needs its run directory no more. Returns the actions that must not start
    /// after all.
    pub(super) fn commit_changes(&self, changes: &[Change]) -> Result<Vec<ActionKey>, Error> {
        let not_to_start = self.ledger.borrow_mut().commit(changes)?;
        for key in changes.iter().filter_map(Change::completed) {
            crash::point("reported");
            self.forget_run(key);
            crash::point("forgotten");
        }
        Ok(not_to_start)
    }

    /// Tells a supervisor that the ledger holds its record. It may see to another command.
    pub(super) fn tell(&self, told: Option<Told>) {
        if let (Some(supervisor), Ok(launcher)) = (told.and_then(Told::recorded), &self.launcher) {
            launcher.give_back(supervisor);
        }
    }

    /// Attaches to a command that runs already.
    pub(super) fn attach(&self, record: &Record) -> Result<Running, Error> {
        let key = record.key;
        let dir = RunDir::of(self.state, key);
        let running = Running::attach(self.state, key, &self.boot_id).map_err(Error::run(dir.path()))?;
        about_action!(info, record, [], "{key} runs already: {}", self.in_words(record));
        Ok(running)
    }

    /// Makes everything ready for an action's command but the ledger. `None`: it is not to run, and has its result.
    pub(super) async fn make_ready(&self, record: &Record, pending: &mut Pending<'_>) -> Result<Option<Start>, Error> {
        let key = record.key;
        self.acknowledge_at_start(record).await;
        let permit = self.permit(record);
        self.note_permit(key, &permit);
        // The run directory may be that of an earlier try, which was cancelled when its command had not begun yet.
        let argv = if RunDir::of(self.state, key).is_cancelled() {
            Err(Ended::Cancelled(None))
        } else {
            self.argv(record, &permit).map_err(Ended::Refused)
        };
        let argv = match argv {
            Ok(argv) => argv,
            Err(ended) => {
                said_finished(record, ended.ret(), ended.reason().as_deref(), Duration::ZERO);
                pending.changes.push(Change::Finished(key, without_output(&ended)));
                return Ok(None);
            }
        };
        let prepared = self.prepare(key)?;
        crash::point("claimed");
        // From here on a crash can no longer prove that the command did not run, but by the claim.
        pending.changes.push(Change::Started(key, timestamp(), self.boot_id.clone()));
        if let Ok(launcher) = &self.launcher {
            self.note(Note::Launched(key, launcher.supervisor_of(key)));
        }
        let execution = &self.settings.execution;
        let limits = Limits {
            timeout: self
                .limit_of_start(record, permit.rule.and_then(|rule| rule.timeout).unwrap_or(execution.timeout)),
            kill_grace: execution.kill_grace,
            kept_output: execution.kept_output,
            group: permit.rule.map(|rule| rule.group).unwrap_or_default(),
            user: self.user(record, &permit),
        };
        Ok(Some(Start { prepared, argv, limits }))
    }

    /// Starts an action's command. Only after the ledger says "started".
    pub(super) async fn launch(&self, record: &Record, start: Start) -> Result<Running, NotLaunched> {
        crash::point("started");
        let key = record.key;
        about_action!(info, record, [message_id = log::STARTED], "{key} started: {}", self.in_words(record));
        let launcher = self.launcher.as_ref().map_err(|err| std::io::Error::other(err.to_string()))?;
        let Start { prepared, argv, limits } = start;
        let running = prepared.launch(launcher, &argv, &self.environment, limits, &self.boot_id).await?;
        crash::point("launched");
        if let Some(other) = running.launched_otherwise(key, launcher) {
            self.note(Note::Launched(key, other));
        }
        Ok(running)
    }

    /// It does not wait any more: a person cancelled it while it was made ready, and the ledger has the result; or a
    /// newer generation has taken its place.
    pub(super) fn not_to_start(&self, record: &Record, start: Start, pending: &Pending<'_>) -> Result<(), Error> {
        drop(start);
        self.forget_run(record.key);
        if self.ledger.borrow().result(record.key)?.is_some() {
            let ended = Ended::Cancelled(None);
            said_finished(record, ended.ret(), ended.reason().as_deref(), Duration::ZERO);
            pending.outbox.put(record.key);
        }
        Ok(())
    }

    /// Makes the run directory; if the disk is full, with the room of the reserve: this action may be the one that frees
    /// the disk.
    fn prepare(&self, key: ActionKey) -> Result<Prepared, Error> {
        match Prepared::new(self.state, key, &self.boot_id) {
            Err(err) if err.kind() == ErrorKind::StorageFull && self.ledger.borrow().give_up_reserve() => {
                Prepared::new(self.state, key, &self.boot_id)
            }
            prepared => prepared,
        }
        .map_err(Error::run(RunDir::of(self.state, key).path()))
    }

    /// What the policy says about an action.
    pub(super) fn permit(&self, record: &Record) -> Permit<'a> {
        self.settings.policy.judge(&record.row)
    }

    /// For the story of the action.
    pub(super) fn note(&self, note: Note) {
        self.ledger.borrow_mut().note(note);
    }

    fn note_permit(&self, key: ActionKey, permit: &Permit<'_>) {
        if let Some(rule) = permit.rule {
            self.note(Note::Decided(key, format!("{}: {rule}", rule.name())));
            if let Some(user) = rule.user.clone().filter(|_| permit.command.is_ok()) {
                self.note(Note::RunsAs(key, user));
            }
        }
    }

    /// What is executed, or why nothing is.
    pub(super) fn argv(&self, record: &Record, permit: &Permit<'_>) -> Result<Argv, String> {
        match (&record.refused, &permit.command) {
            (Some(reason), _) => Err(reason.clone()),
            (None, Err(refusal)) => Err(refusal.to_string()),
            (None, Ok(command)) => match command.external() {
                Some(order) => self.start_of(record, order),
                None => Ok(command.argv(self.agent.as_ref().map_err(ToString::to_string)?)),
            },
        }
    }

    /// Waits for the end of a command, unless we have to leave it.
    pub(super) async fn see_to_its_end(&self, record: Rc<Record>, mut running: Running) -> Result<Ran, Error> {
        let (key, record) = (record.key, &*record);
        let what = self.in_words(record);
        let warn_after = self.settings.execution.warn_after;
        let long_run = async {
            sleep(warn_after).await;
            about_action!(warn, record, [], "{key} runs longer than {warn_after:?}: {what}");
            std::future::pending().await
        };
        let end = tokio::select! {
            end = running.end() => end.map_err(Error::run(RunDir::of(self.state, key).path()))?,
            () = self.stop.now() => {
                about_action!(warn, record, [], "{key} goes on without its handler: {what}");
                return Ok(Ran::Left);
            }
            never = long_run => never,
        };
        Ok(match end {
            End::Recorded(record_of_end, told) => {
                crash::point("record-read");
                let is_told_to_end = record_of_end.ended.as_ref().is_some_and(Ended::is_told_to_end);
                if is_told_to_end && record.row.ends_boot() {
                    // Most likely with the machine, as this handler will be. Its supervisor keeps the record for the next
                    // one, which sees whether the machine has booted.
                    about_action!(info, record, [], "{key} was ended, as it seems with the machine");
                    return Ok(Ran::Left);
                }
                if let Some(outside) = self.goes_outside(record, &record_of_end)? {
                    self.tell(told);
                    return Ok(Ran::Outside(Box::new(outside)));
                }
                match undefined(record, &record_of_end) {
                    Some(outcome) => Ran::Ended(outcome, told),
                    None => self.ended(record, *record_of_end, told),
                }
            }
            End::Vanished(claim) if claim.trace().next() == Next::StartAgain => {
                let why = running.error().unwrap_or_else(|| "it was killed".to_owned());
                Ran::NotStarted(format!("its supervisor could not start it: {why}"))
            }
            End::Vanished(_) => {
                self.kill_what_is_left(key).await;
                Ran::Ended(self.interrupted(record, "its supervisor was killed, and its end was not seen"), None)
            }
        })
    }

    /// Under `ack = "started"`, tells the collector only now.
    async fn acknowledge_at_start(&self, record: &Record) {
        let with_settings = self.collectors.iter().zip(&self.settings.queues);
        for (collector, settings) in with_settings {
            if settings.queue == record.key.queue && settings.ack == Ack::Started {
                let ids = [record.key.id];
                let told = self.persist(|| collector.acknowledge(&ids)).await;
                if let Err(err) = self.note_acknowledged(record.key.queue, &ids, Acknowledged::AtStart, told) {
                    about_action!(warn, record, [], "{}: the collector may not know that it starts: {err}", record.key);
                }
            }
        }
    }

    /// What remains of a run on the disk is of no use once its result is accepted, but for what it printed.
    pub(super) fn forget_run(&self, key: ActionKey) {
        if let Err(err) = kept::keep(self.state, key) {
            tracing::warn!("{key}: its output is not kept: {err}");
        }
        let dir = RunDir::of(self.state, key);
        if let Err(err) = dir.remove() {
            tracing::warn!("cannot remove {}: {err}", dir.path().display());
        }
    }

    /// The action for people: its service and its command, what is secret in it hidden.
    pub(super) fn in_words(&self, record: &Record) -> String {
        let words = words::split(&record.row.command);
        let command = match &words {
            Ok(words) => redact::command_line(words, &self.settings.log.redact),
            Err(err) => format!("({err})"),
        };
        match svcname(record) {
            Some(svcname) => format!("{} {command}", redact::quoted(svcname)),
            None => command,
        }
    }
}

pub(super) fn without_output(ended: &Ended) -> Outcome {
    Outcome {
        ret: ended.ret(),
        stdout: String::new(),
        stderr: Clamp::new().finish(ended.reason().as_deref()),
        ended_at: timestamp(),
    }
}

pub(super) fn said_finished(record: &Record, ret: i32, reason: Option<&str>, duration: Duration) {
    let key = record.key;
    let how = reason.map(|reason| reason.replacen(OURS, ": ", 1)).unwrap_or_default();
    about_action!(
        info,
        record,
        [
            message_id = log::FINISHED,
            action_ret = ret,
            action_duration_usec = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
        ],
        "{key} ended with {ret} after {:.3} s{how}",
        duration.as_secs_f64()
    );
}
