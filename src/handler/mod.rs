//! The loop: recover, then fetch → admit → acknowledge → run → report, until a fetch brings nothing new, nothing is left
//! to run and nobody has knocked. It sequences the four kinds of effect and decides nothing that can be decided in pure
//! code.

mod fetch;
mod recover;
mod report;
mod run;

pub use recover::open_ledger;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use crate::action::argv::Agent;
use crate::action::retry::Backoff;
use crate::action::time::Timestamp;
use crate::action::{ActionId, Queue};
use crate::collector::CollectorError;
use crate::collector::client::Collector;
use crate::config::Settings;
use crate::crash;
use crate::error::{Error, Exit};
use crate::executor::agent::NoAgent;
use crate::handler::report::Posting;
use crate::ledger::pause::Pause;
use crate::ledger::{Ledger, Record};
use crate::wake::lock::{RunLock, WakeFiles};
use crate::wake::notification::Rings;
use crate::wake::stop::Stop;

/// How often an exchange is repeated within one run before it is left to the next trigger.
const TRIES: u32 = 3;
/// The bound of the first delay between two tries.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// The bound of every delay between two tries.
const LONGEST_DELAY: Duration = Duration::from_secs(4);

/// The one handler that works on this node.
pub struct Handler<'a> {
    /// What was configured.
    pub settings: &'a Settings,
    /// The queues, ready to be talked to.
    pub collectors: Vec<Collector>,
    /// The program that actions are commands of.
    pub agent: Result<Agent, NoAgent>,
    /// The directory of everything that is kept.
    pub state: &'a Path,
    /// Which boot of the machine this is.
    pub boot_id: String,
    /// The environment of every command.
    pub environment: BTreeMap<OsString, OsString>,
    /// The open ledger.
    pub ledger: Ledger,
    /// The files of the wake protocol.
    pub wake: &'a WakeFiles,
    /// Held as long as this lives.
    pub lock: &'a RunLock,
    /// Notifications that arrive meanwhile.
    pub rings: &'a Rings,
    /// Whether more notifications can arrive: then it lingers until nobody knocks.
    pub listening: bool,
    /// Whether the signal to stop came.
    pub stop: &'a Stop,
}

/// What the run has come to so far.
#[derive(Debug, Default)]
struct Progress {
    /// What the last fetch of each queue came to.
    fetched: Exit,
    /// What posting has come to.
    posting: Posting,
    /// What cannot become better within this run.
    lasting: Exit,
    /// Queues whose fetch failed: not fetched again before the next notification.
    not_fetched: BTreeSet<Queue>,
    /// Actions that became a new generation since the last notification: see [`fetch`].
    taken: BTreeSet<(Queue, ActionId)>,
    /// It was said that the node is paused.
    pause_said: bool,
    done: u64,
}

impl Handler<'_> {
    /// Works until there is nothing to do. `notified` says that a notification, not a person or a timer, is the reason.
    pub async fn run(mut self, notified: bool) -> Exit {
        let mut progress = Progress::default();
        if let Err(err) = &self.agent {
            tracing::error!("{err}");
            progress.lasting = Exit::Unavailable;
        }
        if let Err(err) = self.work(&mut progress, notified).await {
            tracing::error!("{}", err.report());
            progress.lasting = progress.lasting.and(err.exit());
            if self.listening {
                self.rings.hush().await;
            }
            if let Error::Ledger(err) = &err {
                if let Err(err) = self.ledger.retire_if_damaged(err, timestamp()) {
                    tracing::error!("{}", Error::from(err).report());
                }
            }
        }
        if self.stop.is_asked() {
            tracing::info!("told to stop; what is left waits for the next start");
            return Exit::Ok;
        }
        progress.lasting.and(progress.fetched).and(progress.posting.exit)
    }

    /// Posts what is not accepted yet; fetches nothing and runs nothing.
    pub async fn report(mut self) -> Exit {
        let mut progress = Progress::default();
        let reported = match self.recover() {
            Ok(()) => self.report_finished(&mut progress).await,
            Err(err) => Err(err),
        };
        if let Err(err) = reported {
            tracing::error!("{}", err.report());
            progress.lasting = err.exit();
        }
        if self.stop.is_asked() { Exit::Ok } else { progress.lasting.and(progress.posting.exit) }
    }

    /// Whether this node is paused: then nothing is fetched and nothing started. Asked before each of both.
    fn is_paused(&self, progress: &mut Progress) -> Result<bool, Error> {
        let Some(pause) = Pause::in_force(self.state, timestamp()).map_err(Error::Pause)? else { return Ok(false) };
        if !progress.pause_said {
            progress.pause_said = true;
            let until = pause.until.map_or_else(String::new, |until| format!(" until {until}"));
            let reason = pause.reason.map_or_else(String::new, |reason| format!(": {reason}"));
            tracing::debug!("paused{until}, nothing is fetched and nothing started{reason}");
        }
        Ok(true)
    }

    async fn work(&mut self, progress: &mut Progress, mut notified: bool) -> Result<(), Error> {
        crash::point("ledger-opened");
        // Before anything can fail: a mark that is found later asks for another run.
        self.wake.take_mark()?;
        self.recover()?;
        crash::point("recovered");
        loop {
            if notified {
                self.pace().await;
            }
            self.wake.take_mark()?;
            self.rings.take();
            let news = self.fetch_all(progress).await?;
            let ran = self.run_waiting(progress).await;
            // Whatever went wrong, what is finished is reported as far as possible.
            self.report_finished(progress).await.and(ran)?;
            if self.stop.is_asked() {
                return Ok(());
            }
            if news {
                notified = false;
                continue;
            }
            if progress.not_fetched.is_empty() && !progress.pause_said {
                self.lock.note_empty_fetch(now());
            }
            let rung = self.listening && self.rings.wait_or_quiet().await;
            if !rung && !self.wake.is_marked() {
                break;
            }
            notified = true;
            progress.fetched = Exit::Ok;
            progress.not_fetched.clear();
            progress.taken.clear();
            progress.posting.unreachable.clear();
        }
        self.forget_old()?;
        tracing::debug!("done: {} actions, {} notifications", progress.done, self.rings.count());
        Ok(())
    }

    /// After an empty fetch, the next notified one starts no sooner than `wake.min_interval` later.
    async fn pace(&self) {
        let Some(last) = self.lock.last_empty_fetch() else { return };
        // A clock that was set back says nothing.
        let Ok(since) = now().duration_since(last) else { return };
        if let Some(rest) = self.settings.wake.min_interval.checked_sub(since) {
            tokio::select! { () = sleep(rest) => {}, () = self.stop.asked() => {} }
        }
    }

    /// Repeats an exchange a few times while that can help. `None`: told to go before it began.
    async fn persist<T, F>(&self, mut exchange: impl FnMut() -> F) -> Result<Option<T>, CollectorError>
    where
        F: Future<Output = Result<T, CollectorError>>,
    {
        let mut delays = Backoff::new(TRIES, FIRST_DELAY, LONGEST_DELAY, seed());
        loop {
            if self.stop.is_now() {
                return Ok(None);
            }
            let err = match exchange().await {
                Ok(answer) => return Ok(Some(answer)),
                Err(err) => err,
            };
            let Some(delay) = delays.next().filter(|_| err.is_transient() && !self.stop.is_asked()) else {
                return Err(err);
            };
            let delay = delay.max(err.retry_after().unwrap_or_default());
            tracing::debug!("trying again in {delay:?}: {err}");
            tokio::select! { () = sleep(delay) => {}, () = self.stop.asked() => return Err(err) }
        }
    }
}

/// The service's name for people and for the journal, of a length that both can bear.
fn svcname(record: &Record) -> Option<&str> {
    let name = record.row.svcname.as_str();
    let end = (0..=name.len().min(255)).rev().find(|end| name.is_char_boundary(*end)).unwrap_or_default();
    Some(&name[..end]).filter(|name| !name.is_empty())
}

#[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn timestamp() -> Timestamp {
    Timestamp::from_system_time(now())
}

/// Differs from node to node and from run to run: it keeps retries apart, nothing else.
fn seed() -> u64 {
    let now = timestamp();
    now.seconds.unsigned_abs() << 32 ^ u64::from(now.nanos) ^ u64::from(std::process::id()) << 20
}
