//! One round of work: fetch → admit → acknowledge → run → report. It sequences the effects and decides
//! nothing that can be decided in pure code; when there is another round, the wake protocol decides.

/// Says something about an action: a level, its record, more fields of the journal, and the words for people.
macro_rules! about_action {
    ($level:ident, $record:expr, [$($field:ident = $value:expr),*], $($words:tt)+) => {
        tracing::$level!(
            $($field = $value,)*
            action_id = $record.key.id.0,
            action_queue = $record.key.queue.as_str(),
            action_generation = $record.key.generation,
            svcname = $crate::handler::svcname($record),
            $($words)+
        )
    };
}

/// The same where only its key is at hand.
macro_rules! about_key {
    ($level:ident, $key:expr, [$($field:ident = $value:expr),*], $($words:tt)+) => {
        tracing::$level!(
            $($field = $value,)*
            action_id = $key.id.0,
            action_queue = $key.queue.as_str(),
            action_generation = $key.generation,
            $($words)+
        )
    };
}

mod ended;
mod external;
mod fetch;
mod lanes;
mod metrics;
mod outbox;
mod recover;
mod report;
mod run;

pub use recover::open_ledger;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
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
use crate::error::{Error, Exit, in_full};
use crate::executor::agent::NoAgent;
use crate::executor::launcher::{Launcher, NoLauncher};
use crate::handler::outbox::OnTheWay;
use crate::handler::report::Posting;
use crate::ledger::pause::Pause;
use crate::ledger::{Ledger, Record};
use crate::telemetry::metrics::Counters;
use crate::wake::dequeuers::Dequeuer;
use crate::wake::lock::{RunLock, WakeFiles};
use crate::wake::stop::Stop;

/// How often an exchange is repeated within one run before it is left to the next trigger.
pub const TRIES: u32 = 3;
/// The bound of the first delay between two tries.
pub const FIRST_DELAY: Duration = Duration::from_millis(500);
/// The bound of every delay between two tries.
pub const LONGEST_DELAY: Duration = Duration::from_secs(4);

/// The one handler that works on this node.
pub struct Handler<'a> {
    /// What was configured.
    pub settings: &'a Settings,
    /// The queues, ready to be talked to.
    pub collectors: Vec<Collector>,
    /// The program that actions are commands of.
    pub agent: Result<Agent, NoAgent>,
    /// Who starts commands.
    pub launcher: Result<Launcher, NoLauncher>,
    /// The directory of everything that is kept.
    pub state: &'a Path,
    /// Which boot of the machine this is.
    pub boot_id: String,
    /// The environment of every command.
    pub environment: BTreeMap<OsString, OsString>,
    /// The open ledger: borrowed for one statement at a time, never while anything is waited for.
    pub ledger: RefCell<Ledger>,
    /// The files of the wake protocol.
    pub wake: &'a WakeFiles,
    /// Who else takes rows of queues that are not `exclusive`.
    pub others: Vec<Dequeuer>,
    /// Held as long as this lives.
    pub lock: RunLock,
    /// Whether the signal to stop came.
    pub stop: &'a Stop,
}

/// What the run has come to so far.
#[derive(Debug, Default)]
pub struct Progress {
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
    /// Rows that are to be acknowledged, beside the first command.
    unacknowledged: BTreeMap<Queue, Vec<ActionId>>,
    /// It is that of a fetch beside commands.
    is_aside: bool,
    /// Results that are being posted beside a fetch.
    on_the_way: Rc<OnTheWay>,
    /// It was said that the node is paused.
    pause_said: bool,
    /// An action has just ended well that is to end this boot: what waits is not to be torn down with the machine. If it
    /// does not go down after all, the next start finds it.
    boot_ends: bool,
    done: u64,
    /// For metrics: what the ledger does not know.
    counters: Counters,
}

impl Progress {
    /// So many notifications are answered by the next fetch.
    pub fn heard(&mut self, notifications: u64) {
        self.counters.heard(notifications);
    }

    /// Somebody wants a fetch: of every queue, those that failed before included.
    pub fn start_afresh(&mut self) {
        self.fetched = Exit::Ok;
        self.not_fetched.clear();
        self.taken.clear();
        self.posting.unreachable.clear();
    }
}

impl Handler<'_> {
    /// Finds out what an earlier handler has left. To be called once, before anything else.
    ///
    /// # Errors
    /// When the ledger or a run directory cannot be used.
    pub async fn begin(&mut self) -> Result<Progress, Error> {
        let mut progress = Progress::default();
        if let (Err(err), true) = (&self.agent, self.settings.external_actions.is_empty()) {
            tracing::error!("{err}");
            progress.lasting = Exit::Unavailable;
        }
        if let Err(err) = &self.launcher {
            tracing::error!("{}", in_full(err));
            progress.lasting = Exit::Unavailable;
        }
        for other in &self.others {
            let queues: Vec<_> =
                self.contested().into_iter().filter(|queue| other.takes(*queue)).map(Queue::as_str).collect();
            let queues = queues.join(" and ");
            tracing::error!(
                "{other}: it dequeues for this node as well, and actions would run twice; {queues} is not fetched. To arrange \
                 it: {}; or assert with exclusive = true in [collector.{}] that it does not",
                other.recipe(),
                queues.split(' ').next().unwrap_or_default(),
            );
            progress.lasting = progress.lasting.and(Exit::Unavailable);
        }
        crash::point("ledger-opened");
        self.count_for_metrics();
        self.recover().await?;
        crash::point("recovered");
        Ok(progress)
    }

    /// The queues that are left alone because somebody else takes their rows.
    fn contested(&self) -> BTreeSet<Queue> {
        let queues = self.settings.queues.iter().filter(|settings| !settings.exclusive).map(|settings| settings.queue);
        queues.filter(|queue| self.others.iter().any(|other| other.takes(*queue))).collect()
    }

    /// Fetches once, runs everything that waits, and reports. Tells whether anything was new.
    ///
    /// # Errors
    /// When something local fails. A collector that cannot be reached is no error: it is told by [`Self::end`].
    pub async fn round(&mut self, progress: &mut Progress) -> Result<bool, Error> {
        let news = self.fetch_all(progress).await?;
        if !news && !progress.pause_said {
            self.lock.note_empty_fetch(now());
        }
        if self.can_run()
            && self.others.is_empty()
            && progress.not_fetched.is_empty()
            && !self.stop.is_asked()
            && !progress.pause_said
        {
            self.wake.settle()?;
        }
        let ran = self.run_waiting(progress).await;
        // Whatever went wrong, what is finished is reported as far as possible.
        self.report_finished(progress).await.and(ran)?;
        if !news {
            // A clock that is years ahead must not give results up: where certificates are verified, an exchange that
            // went well shows that it is not.
            let plausible = !progress.posting.successes.is_empty();
            self.forget_old(plausible)?;
        }
        Ok(news)
    }

    /// Lets go of the lock after something local has failed. A ledger that has turned out to be damaged is set aside, for
    /// the next start to make a new one.
    pub fn give_up(self, err: &Error, progress: &Progress) {
        self.write_metrics(progress, err.exit());
        if let Error::Ledger(err) = err {
            if let Err(err) = self.ledger.into_inner().retire_if_damaged(err, timestamp()) {
                tracing::error!("{}", Error::from(err).report());
            }
        }
    }

    /// Lets go of the lock, and tells what everything has come to.
    #[must_use]
    pub fn end(self, progress: &Progress) -> Exit {
        let exit = if self.stop.is_asked() {
            tracing::info!("told to stop; what is left waits for the next start");
            Exit::Ok
        } else {
            tracing::debug!("done: {} actions", progress.done);
            progress.lasting.and(progress.fetched).and(progress.posting.exit)
        };
        self.write_metrics(progress, exit);
        exit
    }

    /// Posts what is not accepted yet; fetches nothing and runs nothing.
    pub async fn report(mut self) -> Exit {
        let mut progress = Progress::default();
        self.count_for_metrics();
        let reported = match self.recover().await {
            Ok(()) => {
                // What goes on outside may have come to its end.
                let asked = self.ask_after_all().await;
                self.report_finished(&mut progress).await.and(asked)
            }
            Err(err) => Err(err),
        };
        if let Err(err) = reported {
            tracing::error!("{}", err.report());
            progress.lasting = err.exit();
        }
        let exit = if self.stop.is_asked() { Exit::Ok } else { progress.lasting.and(progress.posting.exit) };
        self.write_metrics(&progress, exit);
        exit
    }

    /// Whether commands can be run at all: else nothing is fetched.
    fn can_run(&self) -> bool {
        let something = self.agent.is_ok() || !self.settings.external_actions.is_empty();
        something && self.launcher.is_ok()
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

    /// After a fetch that brought nothing, the next notified one starts no sooner than `wake.min_interval` later.
    pub async fn pace(&self) {
        if let Some(rest) = self.too_soon() {
            tokio::select! { () = sleep(rest) => {}, () = self.stop.asked() => {} }
        }
    }

    /// How long a notified fetch has to wait still.
    fn too_soon(&self) -> Option<Duration> {
        self.lock.rest(self.settings.wake.min_interval, now())
    }

    /// Repeats an exchange a few times while that can help. `None`: told to go before it began.
    async fn persist<T, F>(&self, exchange: impl FnMut() -> F) -> Result<Option<T>, CollectorError>
    where
        F: Future<Output = Result<T, CollectorError>>,
    {
        self.persist_and_tell(exchange, |_| {}).await
    }

    /// The same; each attempt that goes wrong is told.
    async fn persist_and_tell<T, F>(
        &self,
        mut exchange: impl FnMut() -> F,
        failed: impl Fn(&CollectorError),
    ) -> Result<Option<T>, CollectorError>
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
            failed(&err);
            let Some(delay) = delays.next().filter(|_| err.is_transient() && !self.stop.is_asked()) else {
                return Err(err);
            };
            let delay = delay.max(err.retry_after().unwrap_or_default());
            tracing::debug!("trying again in {:.1} s: {err}", delay.as_secs_f64());
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
