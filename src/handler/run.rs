//! Running: one command after the other, each under its supervisor, each result reported while the next command runs.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::Duration;

use tokio::time::sleep;

use super::{Handler, Progress, svcname, timestamp};
use crate::action::admission::State;
use crate::action::argv::{Argv, argv};
use crate::action::limits::GroupLimits;
use crate::action::outcome::{Ended, Outcome};
use crate::action::output::Clamp;
use crate::action::state::Next;
use crate::action::{ActionKey, redact, words};
use crate::config::Ack;
use crate::crash;
use crate::error::Error;
use crate::executor::kept;
use crate::executor::launch::{End, Limits, Prepared, Running, Told};
use crate::executor::launcher::NotLaunched;
use crate::executor::record::Record as EndRecord;
use crate::executor::run::RunDir;
use crate::ledger::{Change, Record};
use crate::telemetry::{log, service};

/// How often an action whose command cannot be started is tried before that is its result.
const START_TRIES: u32 = 3;

/// What became of a command while this handler watched.
enum Ran {
    /// It ended; the supervisor may wait to hear that the ledger knows.
    Ended(Outcome, Option<Told>),
    /// We had to leave it; it goes on.
    Left,
    /// It definitely did not start: why.
    NotStarted(String),
}

/// Changes that wait for the next commit, and who waits for them.
#[derive(Default)]
struct Pending {
    changes: Vec<Change>,
    told: Vec<Told>,
    /// Results that may be posted, as they are durable.
    to_post: Vec<ActionKey>,
}

impl Handler<'_> {
    /// Runs everything that waits, and sees to its end what runs already.
    pub(super) async fn run_waiting(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let mut waiting = VecDeque::from(self.ledger.in_state(State::Started)?);
        if self.can_run() {
            waiting.extend(self.ledger.in_state(State::Received)?);
        }
        // What an earlier run left goes out beside the first command.
        let mut pending = Pending { to_post: self.finished()?, ..Pending::default() };
        while let Some(record) = waiting.pop_front() {
            let new = record.state == State::Received;
            if self.stop.is_asked() || (new && (progress.boot_ends || self.is_paused(progress)?)) {
                break;
            }
            let running = match self.start(&record, &mut pending).await? {
                Begun::Running(running) => running,
                Begun::Over => continue,
                Begun::GoingDown => {
                    pending.changes.push(Change::NotStarted(record.key));
                    progress.boot_ends = true;
                    continue;
                }
                Begun::Failed(reason) => {
                    self.not_started(&record, reason, &mut pending)?;
                    continue;
                }
            };
            let to_post = std::mem::take(&mut pending.to_post);
            let (ran, posted) = tokio::join!(
                self.see_to_its_end(&record, *running, waiting.len()),
                self.post_in(&to_post, &mut progress.posting)
            );
            progress.done += 1;
            pending.changes.extend(posted?);
            match ran? {
                Ran::Ended(outcome, told) => {
                    progress.boot_ends |= outcome.ret == 0 && record.row.ends_boot();
                    pending.changes.push(Change::Finished(record.key, outcome));
                    pending.told.extend(told);
                }
                Ran::Left => break,
                Ran::NotStarted(reason) => self.not_started(&record, reason, &mut pending)?,
            }
        }
        service::status("");
        if progress.done > 0 {
            progress.posting.unreachable.clear(); // it may be back: time has passed
        }
        self.commit(&mut pending).map(drop)
    }

    /// Makes what is pending durable, and tells who waits for that. Returns the actions that must not start after all.
    fn commit(&mut self, pending: &mut Pending) -> Result<Vec<ActionKey>, Error> {
        let not_to_start = self.commit_changes(&pending.changes)?;
        for key in pending.changes.drain(..).filter_map(|change| change.finished()) {
            crash::point("finished");
            pending.to_post.push(key);
        }
        for told in pending.told.drain(..) {
            told.recorded();
            crash::point("told");
        }
        Ok(not_to_start)
    }

    /// Makes changes durable. What is complete needs its run directory no more. Returns the actions that must not start
    /// after all.
    pub(super) fn commit_changes(&mut self, changes: &[Change]) -> Result<Vec<ActionKey>, Error> {
        let not_to_start = self.ledger.commit(changes)?;
        for key in changes.iter().filter_map(Change::completed) {
            crash::point("reported");
            self.forget_run(key);
            crash::point("forgotten");
        }
        Ok(not_to_start)
    }

    /// Starts an action's command, or attaches to it if it runs already.
    async fn start(&mut self, record: &Record, pending: &mut Pending) -> Result<Begun, Error> {
        let key = record.key;
        if record.state == State::Started {
            let running = Running::attach(self.state, key, &self.boot_id).map_err(Error::Run)?;
            about_action!(info, record, [], "{key} runs already: {}", self.in_words(record));
            return Ok(Begun::Running(Box::new(running)));
        }
        self.acknowledge_at_start(record).await;
        // The run directory may be that of an earlier try, which was cancelled when its command had not begun yet.
        let argv = if RunDir::of(self.state, key).is_cancelled() {
            Err(Ended::Cancelled(None))
        } else {
            self.argv(record).map_err(Ended::Refused)
        };
        let argv = match argv {
            Ok(argv) => argv,
            Err(ended) => {
                said_finished(record, ended.ret(), ended.reason().as_deref(), Duration::ZERO);
                pending.changes.push(Change::Finished(key, without_output(&ended)));
                return Ok(Begun::Over);
            }
        };
        let prepared = self.prepare(key)?;
        crash::point("claimed");
        // From here on a crash can no longer prove that the command did not run, but by the claim.
        pending.changes.push(Change::Started(key, timestamp(), self.boot_id.clone()));
        if self.commit(pending)?.contains(&key) {
            drop(prepared);
            self.forget_run(key);
            let ended = Ended::Cancelled(None); // meanwhile, by a person: the ledger has the result
            said_finished(record, ended.ret(), ended.reason().as_deref(), Duration::ZERO);
            pending.to_post.push(key);
            return Ok(Begun::Over);
        }
        crash::point("started");
        let execution = &self.settings.execution;
        let limits = Limits {
            timeout: execution.timeout,
            kill_grace: execution.kill_grace,
            kept_output: execution.kept_output,
            group: GroupLimits::default(),
        };
        about_action!(info, record, [message_id = log::STARTED], "{key} started: {}", self.in_words(record));
        let launcher = match &self.launcher {
            Ok(launcher) => launcher,
            Err(err) => return Ok(Begun::Failed(err.to_string())),
        };
        Ok(match prepared.launch(launcher, &argv, &self.environment, limits, &self.boot_id).await {
            Ok(running) => {
                crash::point("launched");
                Begun::Running(Box::new(running))
            }
            Err(NotLaunched::GoingDown(why)) => {
                tracing::info!("the machine goes down, and nothing more is started: {why}");
                Begun::GoingDown
            }
            Err(err) => Begun::Failed(err.to_string()),
        })
    }

    /// Makes the run directory; if the disk is full, with the room of the reserve: this action may be the one that frees
    /// the disk.
    fn prepare(&self, key: ActionKey) -> Result<Prepared, Error> {
        match Prepared::new(self.state, key, &self.boot_id) {
            Err(err) if err.kind() == ErrorKind::StorageFull && self.ledger.give_up_reserve() => {
                Prepared::new(self.state, key, &self.boot_id)
            }
            prepared => prepared,
        }
        .map_err(Error::Run)
    }

    fn argv(&self, record: &Record) -> Result<Argv, String> {
        let agent = self.agent.as_ref().map_err(ToString::to_string)?;
        match &record.refused {
            Some(reason) => Err(reason.clone()),
            None => argv(&record.row, agent).map_err(|refusal| refusal.to_string()),
        }
    }

    /// An action whose command could not be started waits for a better moment; after some tries that is its result.
    fn not_started(&mut self, record: &Record, reason: String, pending: &mut Pending) -> Result<(), Error> {
        let key = record.key;
        if record.tries + 1 < START_TRIES {
            pending.changes.push(Change::NotStarted(key));
            self.commit(pending)?;
            return Err(Error::Spawn(std::io::Error::other(reason)));
        }
        let ended = Ended::NotExecutable(reason);
        said_finished(record, ended.ret(), ended.reason().as_deref(), Duration::ZERO);
        pending.changes.push(Change::Finished(key, without_output(&ended)));
        Ok(())
    }

    /// Waits for the end of a command, unless we have to leave it.
    async fn see_to_its_end(&self, record: &Record, mut running: Running, waiting: usize) -> Result<Ran, Error> {
        let key = record.key;
        let what = self.in_words(record);
        service::status(&match waiting {
            0 => format!("running {key} {what}"),
            _ => format!("running {key} {what} ({waiting} waiting)"),
        });
        let warn_after = self.settings.execution.warn_after;
        let long_run = async {
            sleep(warn_after).await;
            about_action!(warn, record, [], "{key} runs longer than {warn_after:?}: {what}");
            std::future::pending().await
        };
        let end = tokio::select! {
            end = running.end() => end.map_err(Error::Run)?,
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
                ended(record, *record_of_end, told)
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
                if let Err(err) = self.persist(|| collector.acknowledge(&ids)).await {
                    let err = Error::from(err).report();
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

/// What became of the attempt to start an action.
enum Begun {
    Running(Box<Running>),
    /// It is not to run, and has its result.
    Over,
    /// The machine goes down before it could start.
    GoingDown,
    Failed(String),
}

/// What a record says.
fn ended(record: &Record, end: EndRecord, told: Option<Told>) -> Ran {
    match outcome(record, end) {
        Ok(outcome) => Ran::Ended(outcome, told),
        Err(not_started) => {
            if let Some(told) = told {
                told.recorded();
            }
            Ran::NotStarted(not_started)
        }
    }
}

/// The result that a record tells, which is said; or why the command could not be started.
pub(super) fn outcome(record: &Record, end: EndRecord) -> Result<Outcome, String> {
    let EndRecord { ended, not_started, stdout, stderr, ended_at, duration_usec, .. } = end;
    let Some(ended) = ended else { return Err(not_started.unwrap_or_default()) };
    said_finished(record, ended.ret(), ended.reason().as_deref(), Duration::from_micros(duration_usec));
    Ok(Outcome { ret: ended.ret(), stdout, stderr, ended_at })
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
    let how = reason.map(|reason| reason.replacen(super::report::OURS, ": ", 1)).unwrap_or_default();
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
