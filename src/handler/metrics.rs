//! After a run: what monitoring is told. Nothing of it costs a result; what goes wrong is a warning.

use super::{Handler, Progress, timestamp};
use crate::error::{Error, Exit, in_full};
use crate::ledger::contact::Contact;
use crate::ledger::pause::Pause;
use crate::ledger::totals::BOUNDS;
use crate::telemetry::metrics::{Counters, Metrics, OfQueue, publish};

impl Handler<'_> {
    /// Has the ledger count what ends, if that is wanted.
    pub(super) fn count_for_metrics(&self) {
        if self.settings.metrics.textfile.is_some() {
            let counted = self.ledger.borrow_mut().count_ended();
            if let Err(err) = counted {
                tracing::warn!("actions are not counted for metrics: {}", Error::from(err).report());
            }
        }
    }

    /// Writes the metrics, if they are wanted.
    pub(super) fn write_metrics(&self, progress: &Progress, exit: Exit) {
        let Some(path) = &self.settings.metrics.textfile else { return };
        let mut counters = Counters::read(self.state);
        counters.add(&progress.counters);
        if let Err(err) = counters.write(self.state) {
            tracing::warn!("the counters for metrics stay behind: {}", in_full(&err));
        }
        let written = self.metrics(counters, exit).map(|metrics| publish(path, &metrics.text()));
        match written {
            Ok(Ok(())) => {}
            Ok(Err(err)) => tracing::warn!("cannot write the metrics {}: {err}", path.display()),
            Err(err) => tracing::warn!("cannot write the metrics {}: {}", path.display(), err.report()),
        }
    }

    fn metrics(&self, counters: Counters, exit: Exit) -> Result<Metrics, Error> {
        let ledger = self.ledger.borrow();
        let (ended, unreported) = (ledger.ended()?, ledger.unreported()?);
        let now = timestamp();
        let mut metrics = Metrics {
            queues: self.settings.queues.iter().map(|settings| (settings.queue, OfQueue::default())).collect(),
            counters,
            paused: Pause::in_force(self.state, now).map_err(Error::Pause)?.is_some(),
            ended_at: now,
            exit_status: exit as u8,
        };
        for (queue, ended) in ended {
            let of = metrics.queues.entry(queue).or_default();
            of.ended = ended.by_ret;
            of.millis = ended.millis;
            of.durations = bounds().zip(ended.by_duration).collect();
        }
        for (queue, unreported) in unreported {
            let of = metrics.queues.entry(queue).or_default();
            (of.unreported, of.oldest_unreported) = (unreported.count, unreported.oldest);
        }
        for (queue, of) in &mut metrics.queues {
            of.last_contact = Contact::read(self.state, *queue).map_err(Error::State)?.and_then(|contact| contact.last);
            if of.durations.is_empty() {
                of.durations = bounds().map(|bound| (bound, 0)).collect();
            }
        }
        Ok(metrics)
    }
}

fn bounds() -> impl Iterator<Item = Option<u32>> {
    BOUNDS.into_iter().map(Some).chain([None])
}
