//! Fetching: ask a queue, record what is new, tell the collector that we hold it.

use super::{Handler, Progress, timestamp};
use crate::collector::CollectorError;
use crate::config::Ack;
use crate::crash;
use crate::error::{Error, Exit};
use crate::ledger::Change;
use crate::telemetry::{log, service};

impl Handler<'_> {
    /// Fetches every queue once. One that cannot be had does not stop the others. Tells whether anything was new.
    pub(super) async fn fetch_all(&mut self, progress: &mut Progress) -> Result<bool, Error> {
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
        crash::point("fetched");
        let admitted = self.ledger.receive(queue, endpoint, batch, timestamp())?;
        crash::point("received");
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
            self.commit_changes(&given_up)?;
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
        crash::point("acknowledged");
        let posted = self.post(&admitted.report, progress).await?;
        self.commit_changes(&posted)?;
        Ok(!admitted.new.is_empty())
    }
}
