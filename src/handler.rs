//! The loop: fetch → admit → acknowledge → run → report, until a fetch brings nothing new, nothing is left to run and
//! nobody has knocked. It sequences the four kinds of effect and decides nothing that can be decided in pure code.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::future::Future;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use crate::action::admission::State;
use crate::action::argv::{Agent, Argv, argv};
use crate::action::outcome::{Ended, Outcome};
use crate::action::output::Clamp;
use crate::action::retry::Backoff;
use crate::action::time::Timestamp;
use crate::action::{ActionKey, Queue, redact, words};
use crate::collector::client::Collector;
use crate::collector::{CollectorError, Report};
use crate::config::{Ack, Settings};
use crate::error::{Error, Exit};
use crate::executor::agent::NoAgent;
use crate::executor::command::{self, Limits};
use crate::ledger::{Change, Ledger, Record};
use crate::telemetry::{log, service};
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
    /// What the last attempt to post everything came to.
    posted: Exit,
    /// What cannot become better within this run.
    lasting: Exit,
    /// Queues whose fetch failed: not fetched again before the next notification.
    not_fetched: BTreeSet<Queue>,
    /// Queues that did not answer: nothing is posted to them for now.
    unreachable: BTreeSet<Queue>,
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
        }
        if self.stop.is_asked() {
            tracing::info!("told to stop; what is left waits for the next start");
            return Exit::Ok;
        }
        progress.lasting.and(progress.fetched).and(progress.posted)
    }

    async fn work(&mut self, progress: &mut Progress, mut notified: bool) -> Result<(), Error> {
        self.recover()?;
        loop {
            if notified {
                self.pace().await;
            }
            self.wake.take_mark()?;
            self.rings.take();
            let news = self.fetch_all(progress).await?;
            self.run_waiting(progress).await?;
            self.report_finished(progress).await?;
            if self.stop.is_asked() {
                return Ok(());
            }
            if news {
                notified = false;
                continue;
            }
            if progress.not_fetched.is_empty() {
                self.lock.note_empty_fetch(now());
            }
            let rung = self.listening && self.rings.wait_or_quiet().await;
            if !rung && !self.wake.is_marked() {
                break;
            }
            notified = true;
            progress.fetched = Exit::Ok;
            progress.not_fetched.clear();
            progress.unreachable.clear();
        }
        self.ledger.prune()?;
        tracing::debug!("done: {} actions, {} notifications", progress.done, self.rings.count());
        Ok(())
    }

    /// Whatever was running when the last handler went away is over, as far as anybody can tell: it is reported as
    /// interrupted and never run again.
    fn recover(&mut self) -> Result<(), Error> {
        let interrupted = self.ledger.in_state(State::Started)?;
        let changes: Vec<Change> = interrupted
            .into_iter()
            .map(|record| {
                let key = record.key;
                tracing::warn!(
                    message_id = log::INTERRUPTED,
                    action_id = key.id.0,
                    action_queue = key.queue.as_str(),
                    action_generation = key.generation,
                    svcname = svcname(&record),
                    "{key} was running when its handler or this machine went down; its end was not seen"
                );
                let reason = "the handler or the machine went down while it ran, and its end was not seen";
                Change::Finished(key, without_output(&Ended::Interrupted(reason.to_owned())))
            })
            .collect();
        Ok(self.ledger.commit(&changes)?)
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

    /// Fetches every queue once. One that cannot be had does not stop the others. Tells whether anything was new.
    async fn fetch_all(&mut self, progress: &mut Progress) -> Result<bool, Error> {
        if self.agent.is_err() {
            return Ok(false); // nothing could be run: what is queued stays where it is
        }
        let mut news = false;
        for index in 0..self.collectors.len() {
            let queue = self.collectors[index].queue();
            if self.stop.is_asked() || progress.not_fetched.contains(&queue) {
                continue;
            }
            service::status(&format!("fetching {queue}"));
            match self.fetch(index, progress).await {
                Ok(new) => news |= new,
                Err(Error::Collector(err)) => {
                    progress.not_fetched.insert(queue);
                    if matches!(err, CollectorError::Http(_)) {
                        progress.unreachable.insert(queue);
                    }
                    let err = Error::from(err);
                    tracing::error!("{}", err.report());
                    progress.fetched = progress.fetched.and(err.exit());
                }
                Err(err) => return Err(err),
            }
        }
        Ok(news)
    }

    async fn fetch(&mut self, index: usize, progress: &mut Progress) -> Result<bool, Error> {
        let collector = &self.collectors[index];
        let (queue, endpoint) = (collector.queue(), collector.endpoint());
        let Some(batch) = self.persist(|| collector.fetch()).await? else { return Ok(false) };
        tracing::debug!("{queue}: {} rows", batch.actions.len() + batch.malformed.len());
        for unusable in &batch.unusable {
            tracing::error!("{endpoint}: a row cannot be handled: {unusable}");
            progress.lasting = progress.lasting.and(Exit::Data);
        }
        let admitted = self.ledger.receive(queue, endpoint, batch, timestamp())?;
        for key in &admitted.new {
            tracing::debug!(
                message_id = log::RECEIVED,
                action_id = key.id.0,
                action_queue = key.queue.as_str(),
                action_generation = key.generation,
                "{key} received"
            );
        }
        if !admitted.report_first.is_empty() {
            // A redo takes their place: the old result is posted now or never.
            self.post(&admitted.report_first, progress).await?;
            let given_up: Vec<_> =
                admitted.report_first.iter().map(|key| Change::Reported(*key, timestamp())).collect();
            self.ledger.commit(&given_up)?;
        }
        let collector = &self.collectors[index];
        if self.settings.queues[index].ack == Ack::Received && !admitted.acknowledge.is_empty() {
            // Not fatal: we hold them, and a row that is sent again is recognised.
            if let Err(err) = self.persist(|| collector.acknowledge(&admitted.acknowledge)).await {
                tracing::warn!(
                    "the collector may not know that this node has its actions: {}",
                    Error::from(err).report()
                );
            }
        }
        let posted = self.post(&admitted.report, progress).await?;
        self.ledger.commit(&posted)?;
        Ok(!admitted.new.is_empty())
    }

    /// Runs everything that waits, one after the other, and reports each result while the next command runs.
    async fn run_waiting(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let Ok(agent) = &self.agent else { return Ok(()) };
        let agent = agent.clone();
        let mut waiting = VecDeque::from(self.ledger.in_state(State::Received)?);
        let mut changes = Vec::new();
        // What an earlier run left goes out beside the first command.
        let mut to_post: Vec<_> = self.ledger.in_state(State::Finished)?.iter().map(|record| record.key).collect();
        while let Some(record) = waiting.pop_front() {
            if self.stop.is_asked() {
                break;
            }
            let key = record.key;
            self.acknowledge_at_start(&record).await;
            let argv = match &record.refused {
                Some(reason) => Err(reason.clone()),
                None => argv(&record.row, &agent).map_err(|refusal| refusal.to_string()),
            };
            let argv = match argv {
                Ok(argv) => argv,
                Err(reason) => {
                    let ended = Ended::Refused(reason);
                    said_finished(&record, &ended, Duration::ZERO);
                    changes.push(Change::Finished(key, without_output(&ended)));
                    continue;
                }
            };
            to_post.extend(changes.iter().filter_map(Change::finished));
            changes.push(Change::Started(key, timestamp()));
            self.ledger.commit(&changes)?;
            changes.clear();
            let (outcome, posted) = tokio::join!(
                self.execute(&record, &argv, waiting.len()),
                self.post_in(&to_post, &mut progress.unreachable, &mut progress.posted)
            );
            progress.done += 1;
            to_post.clear();
            changes.extend(posted?);
            match outcome {
                Ok(Some(outcome)) => changes.push(Change::Finished(key, outcome)),
                Ok(None) => break, // it goes on without us
                Err(err) => {
                    // It did not start: it is neither lost nor run twice if it waits for a better moment.
                    changes.push(Change::Received(key));
                    self.ledger.commit(&changes)?;
                    return Err(err);
                }
            }
        }
        service::status("");
        if progress.done > 0 {
            progress.unreachable.clear(); // it may be back: time has passed
        }
        Ok(self.ledger.commit(&changes)?)
    }

    /// Posts every result that no collector has accepted yet.
    async fn report_finished(&mut self, progress: &mut Progress) -> Result<(), Error> {
        progress.posted = Exit::Ok;
        let finished: Vec<_> = self.ledger.in_state(State::Finished)?.into_iter().map(|record| record.key).collect();
        for some in finished.chunks(100) {
            let posted = self.post(some, progress).await?;
            self.ledger.commit(&posted)?;
        }
        Ok(())
    }

    async fn post(&self, keys: &[ActionKey], progress: &mut Progress) -> Result<Vec<Change>, Error> {
        self.post_in(keys, &mut progress.unreachable, &mut progress.posted).await
    }

    /// Posts results one by one. What is not accepted stays in the ledger for the next time; a queue that does not
    /// answer is left alone until then.
    async fn post_in(
        &self,
        keys: &[ActionKey],
        unreachable: &mut BTreeSet<Queue>,
        exit: &mut Exit,
    ) -> Result<Vec<Change>, Error> {
        let mut posted = Vec::new();
        for key in keys {
            let Some((endpoint, outcome)) = self.ledger.result(*key)? else { continue };
            let Some(collector) = self.collectors.iter().find(|collector| collector.queue() == key.queue) else {
                tracing::warn!("{key}: its result waits for queue {} to be configured again", key.queue);
                *exit = exit.and(Exit::TempFail);
                continue;
            };
            if collector.endpoint() != endpoint {
                tracing::warn!("{key}: its result belongs to {endpoint}, which is not configured any more");
                *exit = exit.and(Exit::TempFail);
                continue;
            }
            if unreachable.contains(&key.queue) {
                *exit = exit.and(Exit::TempFail);
                continue;
            }
            match self.post_one(collector, *key, outcome).await {
                Ok(true) => {
                    tracing::debug!(
                        message_id = log::REPORTED,
                        action_id = key.id.0,
                        action_queue = key.queue.as_str(),
                        action_generation = key.generation,
                        "{key} reported"
                    );
                    posted.push(Change::Reported(*key, timestamp()));
                }
                Ok(false) => *exit = exit.and(Exit::TempFail),
                Err(err) => {
                    if !err.is_about_content() {
                        unreachable.insert(key.queue);
                    }
                    let err = Error::from(err);
                    tracing::error!("{key}: its result is kept for later: {}", err.report());
                    *exit = exit.and(err.exit());
                }
            }
        }
        Ok(posted)
    }

    /// Posts one result; one that the collector does not take as it is, is posted once more without its output.
    async fn post_one(&self, collector: &Collector, key: ActionKey, outcome: Outcome) -> Result<bool, CollectorError> {
        let Outcome { ret, stdout, stderr, ended_at } = outcome;
        let report = Report { id: key.id, ret, stdout, stderr, ended_at };
        match self.persist(|| collector.report(&report)).await {
            Err(err) if err.is_about_content() => {
                let mut note = Clamp::new();
                note.push(report.stderr.lines().last().filter(|line| line.starts_with(OURS)).unwrap_or("").as_bytes());
                let reason = format!(
                    "{OURS}the collector refused this output ({} + {} bytes): {}",
                    report.stdout.len(),
                    report.stderr.len(),
                    err.answer()
                );
                let reduced = Report { stdout: String::new(), stderr: note.finish(Some(&reason)), ..report };
                tracing::warn!("{key}: {err}; reporting it without its output");
                Ok(self.persist(|| collector.report(&reduced)).await?.is_some())
            }
            answer => Ok(answer?.is_some()),
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

    /// Under `ack = "started"`, tells the collector only now.
    async fn acknowledge_at_start(&self, record: &Record) {
        let with_settings = self.collectors.iter().zip(&self.settings.queues);
        for (collector, settings) in with_settings {
            if settings.queue == record.key.queue && settings.ack == Ack::Started {
                let ids = [record.key.id];
                if let Err(err) = self.persist(|| collector.acknowledge(&ids)).await {
                    let err = Error::from(err).report();
                    tracing::warn!("{}: the collector may not know that it starts: {err}", record.key);
                }
            }
        }
    }

    /// Runs one command. `None`: we had to leave it.
    async fn execute(&self, record: &Record, argv: &Argv, waiting: usize) -> Result<Option<Outcome>, Error> {
        let key = record.key;
        let what = self.in_words(record);
        service::status(&match waiting {
            0 => format!("running {key} {what}"),
            _ => format!("running {key} {what} ({waiting} waiting)"),
        });
        tracing::info!(
            message_id = log::STARTED,
            action_id = key.id.0,
            action_queue = key.queue.as_str(),
            action_generation = key.generation,
            svcname = svcname(record),
            "{key} started: {what}"
        );
        let execution = &self.settings.execution;
        let limits = Limits { timeout: execution.timeout, kill_grace: execution.kill_grace };
        let started = tokio::time::Instant::now();
        let mut command = std::pin::pin!(command::run(argv, &self.environment, limits, self.stop.now()));
        let finished = tokio::select! {
            finished = &mut command => finished,
            () = sleep(execution.warn_after) => {
                tracing::warn!(
                    action_id = key.id.0,
                    action_queue = key.queue.as_str(),
                    action_generation = key.generation,
                    svcname = svcname(record),
                    "{key} runs longer than {:?}: {what}", execution.warn_after
                );
                command.await
            }
        };
        let Some(finished) = finished.map_err(Error::Spawn)? else {
            tracing::warn!("{key} goes on without its handler: {what}");
            return Ok(None);
        };
        said_finished(record, &finished.ended, started.elapsed());
        Ok(Some(Outcome {
            ret: finished.ended.ret(),
            stdout: finished.stdout.finish(None),
            stderr: finished.stderr.finish(finished.ended.reason().as_deref()),
            ended_at: timestamp(),
        }))
    }

    /// The action for people: its service and its command, what is secret in it hidden.
    fn in_words(&self, record: &Record) -> String {
        let words = words::split(&record.row.command);
        let command = match &words {
            Ok(words) => redact::command_line(words, &self.settings.log.redact),
            Err(err) => format!("({err})"),
        };
        match svcname(record) {
            Some(svcname) => format!("{svcname} {command}"),
            None => command,
        }
    }
}

/// How the last line of stderr begins when a result is ours and not the command's.
const OURS: &str = "opensvc-actions: ";

fn svcname(record: &Record) -> Option<&str> {
    Some(record.row.svcname.as_str()).filter(|name| !name.is_empty())
}

fn without_output(ended: &Ended) -> Outcome {
    Outcome {
        ret: ended.ret(),
        stdout: String::new(),
        stderr: Clamp::new().finish(ended.reason().as_deref()),
        ended_at: timestamp(),
    }
}

fn said_finished(record: &Record, ended: &Ended, duration: Duration) {
    let key = record.key;
    let how = ended.reason().map(|reason| reason.replacen(OURS, ": ", 1)).unwrap_or_default();
    tracing::info!(
        message_id = log::FINISHED,
        action_id = key.id.0,
        action_queue = key.queue.as_str(),
        action_generation = key.generation,
        svcname = svcname(record),
        action_ret = ended.ret(),
        action_duration_usec = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        "{key} ended with {} after {:.3} s{how}",
        ended.ret(),
        duration.as_secs_f64()
    );
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
