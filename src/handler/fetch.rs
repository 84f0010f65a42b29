//! Fetching: ask a queue, record what is new, tell the collector that we hold it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Handler, Progress, now, timestamp};
use crate::action::{ActionId, ActionKey, Batch, Queue, QueuedAction, RowStatus};
use crate::collector::CollectorError;
use crate::config::Ack;
use crate::crash;
use crate::error::{Error, Exit};
use crate::ledger::Change;
use crate::ledger::contact::Contact;
use crate::ledger::story::{Acknowledged, Note};
use crate::telemetry::{log, service};

impl Handler<'_> {
    /// Fetches every queue once. One that cannot be had does not stop the others. Tells whether anything was new.
    pub(super) async fn fetch_all(&self, progress: &mut Progress) -> Result<bool, Error> {
        if !self.can_run() {
            return Ok(false); // nothing could be run: what is queued stays where it is
        }
        let held = self.ledger.borrow().hold_reserve();
        if let Err(err) = held {
            tracing::error!("{}", Error::from(err).report());
            progress.lasting = progress.lasting.and(Exit::Unavailable);
            return Ok(false);
        }
        let contested = self.contested();
        let mut news = false;
        for index in 0..self.collectors.len() {
            let queue = self.collectors[index].queue();
            if contested.contains(&queue) {
                continue; // what is queued stays where it is
            }
            if self.stop.is_asked() || progress.not_fetched.contains(&queue) || self.is_paused(progress)? {
                continue;
            }
            service::status(&format!("fetching {queue}"));
            match self.fetch(index, progress).await {
                Ok(new) => news |= new,
                Err(Error::Collector(err)) => {
                    progress.counters.fetched(queue, false);
                    progress.not_fetched.insert(queue);
                    if matches!(err, CollectorError::Http(_)) {
                        progress.posting.unreachable.insert(queue);
                    }
                    let err = Error::from(err);
                    tracing::error!("{}", err.report());
                    remembered(Contact::failed(self.state, queue, now(), &err.report()));
                    progress.fetched = progress.fetched.and(err.exit());
                }
                Err(err) => return Err(err),
            }
        }
        Ok(news)
    }

    async fn fetch(&self, index: usize, progress: &mut Progress) -> Result<bool, Error> {
        let collector = &self.collectors[index];
        let (queue, endpoint) = (collector.queue(), collector.endpoint());
        let Some(mut batch) = self.persist(|| collector.fetch()).await? else { return Ok(false) };
        *progress.posting.successes.entry(queue).or_default() += 1;
        progress.counters.fetched(queue, true);
        remembered(Contact::made(self.state, queue, now()));
        tracing::debug!("{queue}: {} rows", batch.actions.len() + batch.malformed.len());
        for unusable in &batch.unusable {
            tracing::error!("{endpoint}: a row cannot be handled: {unusable}");
            progress.lasting = progress.lasting.and(Exit::Data);
        }
        drop_repeated(&mut batch, queue, &progress.taken);
        if batch.actions.iter().any(is_anew) {
            self.expect_work();
        }
        crash::point("fetched");
        let admitted = self.ledger.borrow_mut().receive(queue, endpoint, &batch, timestamp())?;
        crash::point("received");
        progress.taken.extend(admitted.new.iter().map(|key| (queue, key.id)));
        for key in &admitted.new {
            about_key!(debug, key, [message_id = log::RECEIVED], "{key} received");
        }
        if !admitted.report_first.is_empty() {
            // A redo takes their place: the old result is posted now or never. One that is on its way already is not to
            // arrive after the acknowledgement, nor twice.
            let accepted = progress.on_the_way.passed(&admitted.report_first).await;
            let is_accepted = |key: &&ActionKey| accepted.iter().any(|(other, _)| other == *key);
            let rest: Vec<_> = admitted.report_first.iter().filter(|key| !is_accepted(key)).copied().collect();
            let mut changes = self.post(&rest, progress).await?;
            changes.extend(accepted.into_iter().map(|(key, at)| Change::Reported(key, at)));
            // What was accepted is not touched by this.
            changes.extend(admitted.report_first.iter().map(|key| Change::Superseded(*key, timestamp())));
            self.commit_changes(&changes)?;
        }
        if self.settings.queues[index].ack == Ack::Received && !admitted.acknowledge.is_empty() {
            // Beside commands only what none of them can be about: a result that is posted meanwhile would be undone.
            let is_safe = |id: &&ActionId| !progress.is_aside || progress.taken.contains(&(queue, **id));
            let rows = admitted.acknowledge.iter().filter(is_safe);
            progress.unacknowledged.entry(queue).or_default().extend(rows);
            if admitted.new.is_empty() {
                self.acknowledge(&mut progress.unacknowledged).await?;
            }
        }
        for key in &admitted.report {
            progress.posting.accepted.remove(key); // it is asked for again
        }
        let posted = self.post(&admitted.report, progress).await?;
        self.commit_changes(&posted)?;
        Ok(!admitted.new.is_empty())
    }
}

impl Handler<'_> {
    /// Tells the collectors that we hold these rows, once that is durable.
    pub(super) async fn acknowledge(&self, rows: &mut BTreeMap<Queue, Vec<ActionId>>) -> Result<(), Error> {
        while let Some((queue, ids)) = rows.pop_first() {
            let Some(collector) = self.collector(queue) else { continue };
            self.ledger.borrow_mut().sync()?;
            crash::point("synced");
            // Not fatal: we hold them, and a row that is sent again is recognised.
            let told = self.persist(|| collector.acknowledge(&ids)).await;
            if let Err(err) = self.note_acknowledged(queue, &ids, Acknowledged::AfterFetch, told) {
                tracing::warn!("the collector may not know that this node has its actions: {err}");
            }
            crash::point("acknowledged");
        }
        Ok(())
    }

    /// Notes for the story of these rows what became of an acknowledgement. The error, if there is one, with all its causes.
    pub(super) fn note_acknowledged(
        &self,
        queue: Queue,
        ids: &[ActionId],
        how: Acknowledged,
        told: Result<Option<bool>, CollectorError>,
    ) -> Result<(), String> {
        let how = match told {
            Ok(None) => return Ok(()), // told to go
            Ok(Some(true)) => how,
            Ok(Some(false)) => Acknowledged::ByFetch,
            Err(err) => {
                let why = Error::from(err).report();
                self.note(Note::Unacknowledged(queue, ids.to_vec(), timestamp(), why.clone()));
                return Err(why);
            }
        };
        self.note(Note::Acknowledged(queue, ids.to_vec(), timestamp(), how));
        Ok(())
    }
}

/// Leaves out what would be a second generation of the same id for one notification. Nobody presses "redo" that fast: it
/// is a collector whose rows do not change their letters (a cache, a replica, a write that gets lost), or an answer that
/// holds an id twice; and running the row again after each fetch would never end. A true redo is seen by the next
/// notification, or the next start.
fn drop_repeated(batch: &mut Batch, queue: Queue, taken: &BTreeSet<(Queue, ActionId)>) {
    let mut seen = BTreeSet::new();
    batch.actions.retain(|row| {
        let repeated = (is_anew(row) && taken.contains(&(queue, row.id))) || !seen.insert(row.id);
        if repeated {
            tracing::warn!("{queue}:{} is in the queue again although it has just been taken: left for later", row.id);
        }
        !repeated
    });
}

/// Whether it was not handed out since it was queued or redone.
fn is_anew(row: &QueuedAction) -> bool {
    matches!(row.status, RowStatus::Waiting | RowStatus::Notified)
}

/// What is remembered about contacts is for people: nothing depends on it.
fn remembered(written: std::io::Result<()>) {
    if let Err(err) = written {
        tracing::debug!("cannot remember the last contact: {err}");
    }
}
