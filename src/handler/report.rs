//! Reporting: post every result until its collector accepts it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::{Handler, Progress, now, timestamp};
use crate::action::admission::State;
use crate::action::outcome::Outcome;
use crate::action::output::Clamp;
use crate::action::{ActionKey, Queue};
use crate::collector::client::Collector;
use crate::collector::{CollectorError, Report};
use crate::crash;
use crate::error::{Error, Exit};
use crate::executor::kept;
use crate::ledger::retention::Bounds;
use crate::ledger::{Change, LedgerError};
use crate::telemetry::log;

/// How the last line of stderr begins when a result is ours and not the command's.
pub(super) const OURS: &str = "opensvc-actions: ";

/// What posting has come to so far in this run.
#[derive(Debug, Default)]
pub(super) struct Posting {
    /// What the last attempt to post everything came to.
    pub(super) exit: Exit,
    /// Queues that did not answer: nothing is posted to them for now.
    pub(super) unreachable: BTreeSet<Queue>,
    /// How many exchanges with each queue went well.
    pub(super) successes: BTreeMap<Queue, u64>,
    /// Results that were refused, and how many exchanges had gone well by then: the next one that does shows that it is
    /// the result, and not the collector.
    refused: BTreeMap<ActionKey, u64>,
}

impl Handler<'_> {
    /// Posts every result that no collector has accepted yet.
    pub(super) async fn report_finished(&mut self, progress: &mut Progress) -> Result<(), Error> {
        progress.posting.exit = Exit::Ok;
        let finished = self.finished()?;
        let mut recorded = Ok(());
        for some in finished.chunks(100) {
            let posted = self.post(some, progress).await?;
            // A full disk holds no result back: what cannot be recorded is posted once more later.
            recorded = recorded.and(self.commit_changes(&posted).map(drop));
        }
        recorded
    }

    /// Forgets what has been kept long enough. On a full disk that can wait.
    pub(super) fn forget_old(&mut self, clock_is_plausible: bool) -> Result<(), Error> {
        match self.forget(clock_is_plausible) {
            Err(err) if err.is_about_room() => {
                tracing::warn!("old actions stay in the ledger for now: {}", Error::from(err).report());
            }
            forgotten => forgotten?,
        }
        let retention = &self.settings.retention;
        let before = now().checked_sub(retention.history).unwrap_or(SystemTime::UNIX_EPOCH);
        if let Err(err) = kept::prune(self.state, retention.kept_output, before) {
            tracing::warn!("old output stays for now: {err}");
        }
        Ok(())
    }

    fn forget(&mut self, clock_is_plausible: bool) -> Result<(), LedgerError> {
        let retention = &self.settings.retention;
        let expired =
            if clock_is_plausible { self.ledger.borrow_mut().expire(retention, timestamp())? } else { Vec::new() };
        for key in expired {
            about_key!(
                error,
                key,
                [],
                "{key}: its result was not accepted within {:?} and is given up",
                retention.unreported
            );
            self.forget_run(key);
        }
        self.ledger.borrow_mut().prune(retention, Bounds::default(), timestamp())
    }

    /// Every result that no collector has accepted yet, in the order of their actions.
    pub(super) fn finished(&self) -> Result<Vec<ActionKey>, Error> {
        Ok(self.ledger.borrow().in_state(State::Finished)?.into_iter().map(|record| record.key).collect())
    }

    pub(super) async fn post(&self, keys: &[ActionKey], progress: &mut Progress) -> Result<Vec<Change>, Error> {
        self.post_in(keys, &mut progress.posting).await
    }

    /// Posts results one by one. What is not accepted stays in the ledger for the next time; a queue that does not
    /// answer is left alone until then.
    pub(super) async fn post_in(&self, keys: &[ActionKey], posting: &mut Posting) -> Result<Vec<Change>, Error> {
        let exit = &mut posting.exit;
        let mut posted = Vec::new();
        for key in keys {
            let Some((endpoint, outcome)) = self.ledger.borrow().result(*key)? else { continue };
            let Some(collector) = self.collectors.iter().find(|collector| collector.queue() == key.queue) else {
                about_key!(warn, key, [], "{key}: its result waits for queue {} to be configured again", key.queue);
                *exit = exit.and(Exit::TempFail);
                continue;
            };
            // Where the ledger was lost, nobody knows any more which collector it was.
            if !endpoint.is_empty() && collector.endpoint() != endpoint {
                about_key!(warn, key, [], "{key}: its result belongs to {endpoint}, which is not configured any more");
                *exit = exit.and(Exit::TempFail);
                continue;
            }
            let successes = posting.successes.entry(key.queue).or_default();
            let refused_at = posting.refused.get(key);
            // Nothing has become better since.
            if posting.unreachable.contains(&key.queue) || refused_at.is_some_and(|then| then == successes) {
                *exit = exit.and(Exit::TempFail);
                continue;
            }
            match self.post_one(collector, *key, outcome, refused_at.is_some()).await {
                Ok(true) => {
                    *successes += 1;
                    crash::point("posted");
                    about_key!(debug, key, [message_id = log::REPORTED], "{key} reported");
                    posted.push(Change::Reported(*key, timestamp()));
                }
                Ok(false) => *exit = exit.and(Exit::TempFail),
                Err(err) => {
                    if err.may_be_about_content() {
                        posting.refused.insert(*key, *successes);
                    } else {
                        posting.unreachable.insert(key.queue);
                    }
                    let err = Error::from(err);
                    about_key!(error, key, [], "{key}: its result is kept for later: {}", err.report());
                    *exit = exit.and(err.exit());
                }
            }
        }
        Ok(posted)
    }

    /// Posts one result. One that the collector cannot take as it is, is posted without its output, with a note that says
    /// so: when the collector says that it is the output, or when it was `refused` before while other exchanges went
    /// well since. Otherwise the collector may only be in trouble, and the result waits whole for better times.
    async fn post_one(
        &self,
        collector: &Collector,
        key: ActionKey,
        outcome: Outcome,
        refused: bool,
    ) -> Result<bool, CollectorError> {
        let Outcome { ret, stdout, stderr, ended_at } = outcome;
        let report = Report { id: key.id, ret, stdout, stderr, ended_at };
        match self.persist(|| collector.report(&report)).await {
            Err(err) if err.is_about_content() || (refused && err.may_be_about_content()) => {
                about_key!(warn, key, [], "{key}: {err}; reporting it without its output");
                let reduced = reduced(&report, &err);
                Ok(self.persist(|| collector.report(&reduced)).await?.is_some())
            }
            answer => Ok(answer?.is_some()),
        }
    }
}

/// The report without its output, and with a note of what is missing and why. The reason of a result that is ours stays.
fn reduced(report: &Report, err: &CollectorError) -> Report {
    let reason = report.stderr.lines().last().filter(|line| line.starts_with(OURS)).unwrap_or_default();
    let note = format!(
        "{OURS}the collector refused this output ({} + {} bytes): {}",
        report.stdout.len(),
        report.stderr.len(),
        err.answer()
    );
    let mut stderr = Clamp::new();
    stderr.push(reason.as_bytes());
    let Report { id, ret, ended_at, .. } = *report;
    Report { id, ret, stdout: String::new(), stderr: stderr.finish(Some(&note)), ended_at }
}
