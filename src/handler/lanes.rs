//! Running: what waits starts as soon as its lane is free (see [`crate::action::lanes`]), everything that runs is seen to
//! its end, and results go out meanwhile. There is one stream of commits: whoever has to become durable at the same
//! moment becomes so together.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use super::outbox::Outbox;
use super::run::{Pending, Ran};
use super::{Handler, Progress};
use crate::action::admission::State;
use crate::action::lanes::{Lane, Lanes};
use crate::error::Error;
use crate::executor::launch::Running;
use crate::ledger::{Change, Record};
use crate::telemetry::service;

/// A command that runs, and the wait for its end.
struct Watch<'a> {
    lane: Lane,
    record: Rc<Record>,
    end: Pin<Box<dyn Future<Output = Result<Ran, Error>> + 'a>>,
}

/// What runs and what waits.
struct Work<'a> {
    lanes: Lanes<Record>,
    watches: Vec<Watch<'a>>,
    pending: Pending<'a>,
    /// Something local has failed: nothing new is started, and what runs is seen to its end.
    failed: Option<Error>,
}

impl Handler<'_> {
    /// Runs everything that waits, and sees to its end what runs already.
    pub(super) async fn run_waiting(&self, progress: &mut Progress) -> Result<(), Error> {
        let outbox = Outbox::default();
        // What an earlier run left goes out beside the first command.
        self.finished()?.into_iter().for_each(|key| outbox.put(key));
        let mut posting = std::mem::take(&mut progress.posting);
        let run = async {
            let ran = self.run_lanes(progress, &outbox).await;
            outbox.close();
            ran
        };
        let (ran, posted) = tokio::join!(run, self.post_from(&outbox, &mut posting));
        progress.posting = posting;
        service::status("");
        if progress.done > 0 {
            progress.posting.unreachable.clear(); // it may be back: time has passed
        }
        let recorded = self.commit_changes(&outbox.take_posted());
        ran.and(posted).and(recorded.map(drop))
    }

    async fn run_lanes(&self, progress: &mut Progress, outbox: &Outbox) -> Result<(), Error> {
        let limit = usize::try_from(self.settings.execution.max_parallel).unwrap_or(usize::MAX);
        let pending = Pending::new(outbox);
        let mut work = Work { lanes: Lanes::new(limit), watches: Vec::new(), pending, failed: None };
        let started = self.ledger.borrow().in_state(State::Started)?;
        for record in started.into_iter().take_while(|_| !self.stop.is_asked()) {
            let lane = self.permit(&record).lane(&record.row);
            work.lanes.occupy(lane.clone());
            let running = self.attach(&record)?;
            work.watches.push(self.watch(lane, record, running));
        }
        if self.agent.is_ok() {
            let received = self.ledger.borrow().in_state(State::Received)?;
            received.into_iter().for_each(|record| work.lanes.push(self.permit(&record).lane(&record.row), record));
        }
        loop {
            while self.start_some(progress, &mut work).await? {}
            self.commit(&mut work.pending)?;
            if work.watches.is_empty() {
                return work.failed.map_or(Ok(()), Err);
            }
            self.say_what_runs(&work);
            for (watch, ran) in first_to_end(&mut work.watches).await {
                work.lanes.ended(&watch.lane);
                progress.done += 1;
                self.note_end(&watch.record, ran, progress, &mut work);
            }
        }
    }

    /// Starts what may start now, with one commit for all of it. Tells whether there was anything.
    async fn start_some<'a>(&'a self, progress: &mut Progress, work: &mut Work<'a>) -> Result<bool, Error> {
        let mut ready = Vec::new();
        while work.failed.is_none()
            && work.lanes.has_room()
            && !self.stop.is_asked()
            && !progress.boot_ends
            && !self.is_paused(progress)?
        {
            let Some((lane, record)) = work.lanes.start_next() else { break };
            match self.make_ready(&record, &mut work.pending).await? {
                Some(start) => ready.push((lane, record, start)),
                None => work.lanes.ended(&lane),
            }
        }
        if ready.is_empty() {
            return Ok(false);
        }
        let not_to_start = self.commit(&mut work.pending)?;
        for (lane, record, start) in ready {
            if not_to_start.contains(&record.key) {
                self.cancelled_meanwhile(&record, start, &work.pending);
                work.lanes.ended(&lane);
                continue;
            }
            match self.launch(&record, start) {
                Ok(running) => work.watches.push(self.watch(lane, record, running)),
                Err(err) => {
                    work.lanes.ended(&lane);
                    self.not_started(&record, err.to_string(), work);
                }
            }
        }
        Ok(true)
    }

    fn watch(&self, lane: Lane, record: Record, running: Running) -> Watch<'_> {
        let record = Rc::new(record);
        Watch { lane, record: Rc::clone(&record), end: Box::pin(self.see_to_its_end(record, running)) }
    }

    fn note_end(&self, record: &Record, ran: Result<Ran, Error>, progress: &mut Progress, work: &mut Work<'_>) {
        match ran {
            Ok(Ran::Ended(outcome, told)) => {
                progress.boot_ends |= outcome.ret == 0 && self.permit(record).ends_boot(&record.row);
                work.pending.changes.push(Change::Finished(record.key, outcome));
                work.pending.told.extend(told);
            }
            Ok(Ran::Left) => {}
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
