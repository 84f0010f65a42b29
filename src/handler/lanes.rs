//! Running: what waits starts as soon as its lane is free (see [`crate::action::lanes`]), everything that runs is seen to
//! its end, and results go out meanwhile. There is one stream of commits: whoever has to become durable at the same
//! moment becomes so together.

use std::cell::Cell;
use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep;

use super::external::name_of;
use super::outbox::{OnTheWay, Outbox};
use super::run::{Pending, Ran};
use super::{Handler, Progress, now, timestamp};
use crate::action::ActionKey;
use crate::action::admission::State;
use crate::action::external::Outside;
use crate::action::lanes::{Lane, Lanes};
use crate::error::Error;
use crate::executor::launch::Running;
use crate::executor::launcher::NotLaunched;
use crate::ledger::story::{Note, Step};
use crate::ledger::{Change, Record};
use crate::telemetry::service;

/// A command that runs, and the wait for its end.
struct Watch<'a> {
    lane: Lane,
    record: Rc<Record>,
    /// It is not left without need.
    holds: Rc<Cell<bool>>,
    end: Pin<Box<dyn Future<Output = Result<Ran, Error>> + 'a>>,
}

/// A fetch that goes on beside everything else, and what it has come to.
type Fetching<'a> = Pin<Box<dyn Future<Output = (Progress, Result<bool, Error>)> + 'a>>;

/// How often a handler that has room for more looks whether somebody has knocked meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What runs and what waits.
struct Work<'a> {
    lanes: Lanes<Record>,
    watches: Vec<Watch<'a>>,
    /// External actions that go on outside: they take no lane, and nobody waits for them.
    outside: Vec<Watch<'a>>,
    /// What waits until another one of the same external action has ended.
    held: Vec<Record>,
    /// Everything that was ever lined up here.
    known: HashSet<ActionKey>,
    pending: Pending<'a>,
    /// Somebody has knocked, and there is room for more.
    fetching: Option<Fetching<'a>>,
    /// Something local has failed: nothing new is started, and what runs is seen to its end.
    failed: Option<Error>,
}

impl Handler<'_> {
    /// Runs everything that waits, and sees to its end what runs already. Where there is room for more, what is queued
    /// meanwhile is fetched and lined up too.
    pub(super) async fn run_waiting(&self, progress: &mut Progress) -> Result<(), Error> {
        let outbox = Outbox::default();
        let limit = usize::try_from(self.settings.execution.max_parallel).unwrap_or(usize::MAX);
        let (lanes, pending) = (Lanes::new(limit), Pending::new(&outbox));
        let (watches, outside, held) = (Vec::new(), Vec::new(), Vec::new());
        let (known, fetching) = (HashSet::new(), None);
        let mut work = Work { lanes, watches, outside, held, known, pending, fetching, failed: None };
        self.attach_all(&mut work)?;
        self.line_up(&mut work)?;
        // What an earlier run left goes out beside the first command.
        outbox.open(self.finished()?);
        let mut posting = std::mem::take(&mut progress.posting);
        let unacknowledged = std::mem::take(&mut progress.unacknowledged);
        let run = async {
            let ran = self.run_lanes(progress, &mut work).await;
            outbox.close();
            ran
        };
        let (ran, posted) = tokio::join!(run, self.post_from(&outbox, unacknowledged, &mut posting));
        let beside = std::mem::replace(&mut progress.posting, posting);
        progress.posting.join(beside);
        let recorded = self.commit_changes(&outbox.take_posted());
        service::status("");
        if progress.done > 0 {
            progress.posting.unreachable.clear(); // it may be back: time has passed
        }
        ran.and(posted).and(recorded.map(drop)).and(work.failed.map_or(Ok(()), Err))
    }

    /// Attaches to everything that runs already, whatever the limit is.
    fn attach_all<'a>(&'a self, work: &mut Work<'a>) -> Result<(), Error> {
        let started = self.ledger.borrow().in_state(State::Started)?;
        for record in started.into_iter().take_while(|_| !self.stop.is_asked()) {
            if let Some(outside) = self.outside(record.key)? {
                if self.launcher.is_ok() {
                    work.outside.push(self.watch_outside(Rc::new(record), outside));
                }
                continue;
            }
            let lane = self.permit(&record).lane_of_running(&record.row);
            work.lanes.occupy(lane.clone());
            let running = self.attach(&record)?;
            work.watches.push(self.watch(lane, record, running));
        }
        Ok(())
    }

    /// Lines up everything that waits and is not lined up yet.
    fn line_up(&self, work: &mut Work<'_>) -> Result<(), Error> {
        if self.can_run() {
            self.ledger.borrow().each_in_state(State::Received, |record| {
                if work.known.insert(record.key) {
                    work.lanes.push(self.permit(&record).lane(&record.row), record);
                }
            })?;
        }
        Ok(())
    }

    async fn run_lanes<'a>(&'a self, progress: &mut Progress, work: &mut Work<'a>) -> Result<(), Error> {
        let mut mark = None;
        loop {
            while self.start_some(progress, work).await? {}
            self.commit(&mut work.pending)?;
            let holds = work.outside.iter().any(|watch| watch.holds.get());
            if work.watches.is_empty() && work.fetching.is_none() && !holds {
                return Ok(());
            }
            self.say_what_runs(work);
            let may_take_more = self.settings.execution.max_parallel > 1
                && work.fetching.is_none()
                && work.lanes.takes_more()
                && self.may_start(progress, work)?;
            tokio::select! {
                biased;
                ended = first_to_end(&mut work.watches) => {
                    for (watch, ran) in ended {
                        work.lanes.ended(&watch.lane);
                        progress.done += 1;
                        self.note_end(&watch.record, ran, progress, work);
                    }
                }
                asked = first_to_end(&mut work.outside) => {
                    for (watch, ran) in asked {
                        progress.done += u64::from(matches!(ran, Ok(Ran::Ended(..))));
                        self.note_end(&watch.record, ran, progress, work);
                    }
                    for record in std::mem::take(&mut work.held) {
                        work.lanes.push(self.permit(&record).lane(&record.row), record);
                    }
                }
                (aside, fetched) = end_of(&mut work.fetching) => {
                    progress.join(aside);
                    match fetched {
                        Ok(true) => {}
                        Ok(false) => self.lock.note_empty_fetch(now()),
                        Err(err) => drop(work.failed.get_or_insert(err)),
                    }
                    self.line_up(work)?;
                }
                () = self.knocked(&mut mark), if may_take_more => {
                    // What was accepted meanwhile is not to be posted again.
                    self.commit_changes(&work.pending.outbox.take_posted())?;
                    work.pending.outbox.renew(self.finished()?);
                    let aside = progress.aside(work.pending.outbox.on_the_way());
                    // The mark stays for the wake protocol, which knows nothing of this fetch.
                    work.fetching = Some(Box::pin(self.fetch_aside(aside)));
                }
            }
        }
    }

    /// Fetches while everything else goes on: neither a collector that is slow to take a result nor one that is slow to
    /// give holds up what may run.
    async fn fetch_aside(&self, mut aside: Progress) -> (Progress, Result<bool, Error>) {
        let mut fetched = self.fetch_all(&mut aside).await;
        // Results go out by themselves here: no row may be lined up that is not acknowledged.
        if let Err(err) = self.acknowledge(&mut aside.unacknowledged).await {
            fetched = Err(err);
        }
        (aside, fetched)
    }

    /// Waits until somebody has knocked since this was asked last, and a fetch is not too soon.
    async fn knocked(&self, last: &mut Option<(u64, u64)>) {
        loop {
            let mark = self.wake.mark();
            if mark.is_some() && mark != *last && self.too_soon().is_none() {
                *last = mark;
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Whether new actions may start at all.
    fn may_start(&self, progress: &mut Progress, work: &Work<'_>) -> Result<bool, Error> {
        Ok(work.failed.is_none() && !self.stop.is_asked() && !progress.boot_ends && !self.is_paused(progress)?)
    }

    /// Starts what may start now, with one commit for all of it. Tells whether there was anything.
    async fn start_some<'a>(&'a self, progress: &mut Progress, work: &mut Work<'a>) -> Result<bool, Error> {
        let mut ready = Vec::new();
        while work.lanes.has_room() && self.may_start(progress, work)? {
            let Some((lane, record)) = work.lanes.start_next() else { break };
            if work.has_another(&record) && self.argv(&record, &self.permit(&record)).is_ok() {
                work.lanes.ended(&lane);
                work.held.push(record);
                continue;
            }
            match self.make_ready(&record, &mut work.pending).await? {
                Some(start) => ready.push((lane, record, start)),
                None => work.lanes.ended(&lane),
            }
        }
        if ready.is_empty() {
            return Ok(false);
        }
        if work.pending.told.is_empty() {
            self.expect_work();
        }
        let not_to_start = self.commit(&mut work.pending)?;
        for (lane, record, start) in ready {
            if not_to_start.contains(&record.key) {
                self.not_to_start(&record, start, &work.pending)?;
                work.lanes.ended(&lane);
                continue;
            }
            match self.launch(&record, start).await {
                Ok(running) => work.watches.push(self.watch(lane, record, running)),
                Err(NotLaunched::GoingDown(why)) => {
                    tracing::info!("the machine goes down, and nothing more is started: {why}");
                    self.note(Note::Failed(record.key, Step::Start, timestamp(), why));
                    work.lanes.ended(&lane);
                    work.pending.changes.push(Change::NotStarted(record.key));
                    progress.boot_ends = true;
                }
                Err(err) => {
                    work.lanes.ended(&lane);
                    self.not_started(&record, err.to_string(), work);
                }
            }
        }
        Ok(true)
    }

    /// More will be started soon.
    pub(super) fn expect_work(&self) {
        if let Ok(launcher) = &self.launcher {
            launcher.expect_work();
        }
    }

    fn watch(&self, lane: Lane, record: Record, running: Running) -> Watch<'_> {
        let record = Rc::new(record);
        let end = Box::pin(self.see_to_its_end(Rc::clone(&record), running));
        Watch { lane, record, holds: Rc::new(Cell::new(true)), end }
    }

    fn watch_outside(&self, record: Rc<Record>, outside: Outside) -> Watch<'_> {
        let holds = Rc::new(Cell::new(self.is_worth_staying(record.key, &outside)));
        let end = Box::pin(self.ask(Rc::clone(&record), outside, Rc::clone(&holds)));
        Watch { lane: Lane::External(String::new()), record, holds, end }
    }

    fn note_end<'a>(
        &'a self,
        record: &Rc<Record>,
        ran: Result<Ran, Error>,
        progress: &mut Progress,
        work: &mut Work<'a>,
    ) {
        match ran {
            Ok(Ran::Ended(outcome, told)) => {
                progress.boot_ends |= outcome.ret == 0 && self.permit(record).ends_boot(&record.row);
                work.pending.changes.push(Change::Finished(record.key, outcome));
                work.pending.told.extend(told);
            }
            Ok(Ran::Left) => {}
            Ok(Ran::Outside(outside)) => work.outside.push(self.watch_outside(Rc::clone(record), *outside)),
            Ok(Ran::NotStarted(reason)) => self.not_started(record, reason, work),
            Err(err) => drop(work.failed.get_or_insert(err)),
        }
    }

    /// An action whose command could not be started waits for a better moment; after some tries that is its result.
    fn not_started(&self, record: &Record, reason: String, work: &mut Work<'_>) {
        if let Some(reason) = self.note_not_started(record, reason, &mut work.pending) {
            work.failed.get_or_insert(Error::Spawn(std::io::Error::other(reason)));
        }
    }

    fn say_what_runs(&self, work: &Work<'_>) {
        let what = match &work.watches[..] {
            [] => format!("{} external actions", work.outside.len()),
            [only] => format!("{} {}", only.record.key, self.in_words(&only.record)),
            several => {
                let keys: Vec<_> = several.iter().map(|watch| watch.record.key.to_string()).collect();
                format!("{} actions: {}", keys.len(), keys.join(", "))
            }
        };
        service::status(&match work.lanes.waiting() {
            0 => format!("running {what}"),
            waiting => format!("running {what} ({waiting} waiting)"),
        });
    }
}

impl Progress {
    /// For a fetch that somebody wants now, of every queue, while this goes on.
    fn aside(&mut self, on_the_way: Rc<OnTheWay>) -> Self {
        self.start_afresh();
        Self { on_the_way, pause_said: self.pause_said, is_aside: true, ..Self::default() }
    }

    /// Takes up what that has come to.
    fn join(&mut self, aside: Self) {
        self.fetched = aside.fetched;
        self.lasting = self.lasting.and(aside.lasting);
        self.not_fetched = aside.not_fetched;
        self.taken = aside.taken;
        self.pause_said |= aside.pause_said;
        self.posting.join(aside.posting);
        self.counters.add(&aside.counters);
    }
}

impl Work<'_> {
    /// Whether an external action of the same name is under way: of each there is one at a time.
    fn has_another(&self, record: &Record) -> bool {
        let Some(name) = name_of(record) else { return false };
        self.watches.iter().chain(&self.outside).any(|watch| name_of(&watch.record).as_ref() == Some(&name))
    }
}

/// Waits until it has ended; for ever, where there is none.
async fn end_of(fetching: &mut Option<Fetching<'_>>) -> (Progress, Result<bool, Error>) {
    let Some(running) = fetching else { return std::future::pending().await };
    let ended = running.await;
    *fetching = None;
    ended
}

/// Waits until at least one of them has ended, and takes all that have.
async fn first_to_end<'a>(watches: &mut Vec<Watch<'a>>) -> Vec<(Watch<'a>, Result<Ran, Error>)> {
    poll_fn(|context| {
        let (mut ended, mut index) = (Vec::new(), 0);
        while let Some(watch) = watches.get_mut(index) {
            match watch.end.as_mut().poll(context) {
                Poll::Ready(ran) => ended.push((watches.remove(index), ran)),
                Poll::Pending => index += 1,
            }
        }
        if ended.is_empty() { Poll::Pending } else { Poll::Ready(ended) }
    })
    .await
}
