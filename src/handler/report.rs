//! Reporting: post every result until its collector accepts it.

use std::collections::BTreeSet;

use super::{Handler, Progress, timestamp};
use crate::action::admission::State;
use crate::action::outcome::Outcome;
use crate::action::output::Clamp;
use crate::action::{ActionKey, Queue};
use crate::collector::client::Collector;
use crate::collector::{CollectorError, Report};
use crate::crash;
use crate::error::{Error, Exit};
use crate::ledger::Change;
use crate::telemetry::log;

/// How the last line of stderr begins when a result is ours and not the command's.
pub(super) const OURS: &str = "opensvc-actions: ";

impl Handler<'_> {
    /// Posts every result that no collector has accepted yet.
    pub(super) async fn report_finished(&mut self, progress: &mut Progress) -> Result<(), Error> {
        progress.posted = Exit::Ok;
        let finished = self.finished()?;
        for some in finished.chunks(100) {
            let posted = self.post(some, progress).await?;
            self.commit_changes(&posted)?;
        }
        Ok(())
    }

    /// Every result that no collector has accepted yet, in the order of their actions.
    pub(super) fn finished(&self) -> Result<Vec<ActionKey>, Error> {
        Ok(self.ledger.in_state(State::Finished)?.into_iter().map(|record| record.key).collect())
    }

    pub(super) async fn post(&self, keys: &[ActionKey], progress: &mut Progress) -> Result<Vec<Change>, Error> {
        self.post_in(keys, &mut progress.unreachable, &mut progress.posted).await
    }

    /// Posts results one by one. What is not accepted stays in the ledger for the next time; a queue that does not
    /// answer is left alone until then.
    pub(super) async fn post_in(
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
                    crash::point("posted");
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
}
