//! Reporting: post every result until its collector accepts it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::SystemTime;

use super::{Handler, Progress, now, timestamp};
use crate::action::admission::State;
use crate::action::outcome::Outcome;
use crate::action::output::Clamp;
use crate::action::{ActionKey, Queue};
use crate::collector::client::Collector;
use crate::collector::{CollectorError, Report};
use crate::crash;
use crate::error::{Error, Exit, in_full};
use crate::executor::kept;
use crate::ledger::retention::Bounds;
use crate::ledger::story::{Note, Step};
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
    /// Results that were accepted since their collector last asked for them.
    pub(super) accepted: BTreeSet<ActionKey>,
    /// Results that were refused, and how many exchanges had gone well by then: the next one that does shows that it is
    /// the result, and not the collector.
    refused: BTreeMap<ActionKey, u64>,
    /// The results at which each queue has just said that it is in trouble. Once may be one result's doing; when it says
    /// so at others as well, it is.
    troubles: BTreeMap<Queue, Vec<ActionKey>>,
}

impl Posting {
    /// Takes up what posting beside this has come to.
    pub(super) fn join(&mut self, beside: Self) {
        self.exit = self.exit.and(beside.exit);
        self.unreachable.extend(beside.unreachable);
        for (queue, successes) in beside.successes {
            *self.successes.entry(queue).or_default() += successes;
        }
        self.accepted.extend(beside.accepted);
        self.refused.extend(beside.refused);
        for (queue, keys) in beside.troubles {
            self.troubles.entry(queue).or_default().extend(keys);
        }
    }
}

/// Results for one call.
#[derive(Default)]
struct Call {
    keys: Vec<ActionKey>,
    reports: Vec<Report>,
    bytes: usize,
}

impl Call {
    fn push(&mut self, key: ActionKey, report: Report, bytes: usize) {
        self.keys.push(key);
        self.reports.push(report);
        self.bytes += bytes;
    }

    /// Whether one more result goes with these. Two of one id do not: the newer one is to come last, whatever becomes of
    /// the older one.
    fn has_room(&self, collector: &Collector, key: ActionKey, bytes: usize) -> bool {
        self.keys.iter().all(|other| other.queue == key.queue && other.id != key.id)
            && collector.takes(self.keys.len() + 1, self.bytes + bytes)
    }

    /// Two halves.
    fn split(mut self) -> [Self; 2] {
        let half = self.keys.len() / 2;
        let (keys, reports) = (self.keys.split_off(half), self.reports.split_off(half));
        [self, Self { keys, reports, bytes: 0 }]
    }

    /// Without those that are not to be posted.
    fn retain(&mut self, wanted: impl Fn(&ActionKey) -> bool) {
        let keep: Vec<_> = self.keys.iter().map(wanted).collect();
        let (mut for_keys, mut for_reports) = (keep.iter(), keep.iter());
        self.keys.retain(|_| *for_keys.next().unwrap_or(&true));
        self.reports.retain(|_| *for_reports.next().unwrap_or(&true));
    }
}

impl Handler<'_> {
    /// Posts every result that no collector has accepted yet.
    pub(super) async fn report_finished(&mut self, progress: &mut Progress) -> Result<(), Error> {
        progress.posting.exit = Exit::Ok;
        let (accepted, finished): (Vec<_>, Vec<_>) =
            self.finished()?.into_iter().partition(|key| progress.posting.accepted.contains(key));
        // The record of that has failed, and may fail again.
        let accepted: Vec<_> = accepted.into_iter().map(|key| Change::Reported(key, timestamp())).collect();
        let mut recorded = self.commit_changes(&accepted).map(drop);
        for some in finished.chunks(100) {
            let posted = self.post(some, progress).await?;
            // A full disk holds no result back: what cannot be recorded is posted once more by the next handler.
            recorded = recorded.and(self.commit_changes(&posted).map(drop));
        }
        if recorded.is_ok() {
            progress.posting.accepted.clear();
        }
        self.write_notes();
        recorded
    }

    /// Writes what people may want to know, where nothing else is written soon.
    fn write_notes(&self) {
        if let Err(err) = self.ledger.borrow_mut().write_notes() {
            tracing::debug!("some of the story is lost: {err}");
        }
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
        self.ledger.borrow_mut().prune(retention, Bounds::default(), timestamp())?;
        self.ledger.borrow_mut().shorten_log()
    }

    /// Every result that no collector has accepted yet, in the order of their actions.
    pub(super) fn finished(&self) -> Result<Vec<ActionKey>, Error> {
        Ok(self.ledger.borrow().in_state(State::Finished)?.into_iter().map(|record| record.key).collect())
    }

    pub(super) async fn post(&self, keys: &[ActionKey], progress: &mut Progress) -> Result<Vec<Change>, Error> {
        self.post_in(keys, &mut progress.posting).await
    }

    /// Posts results, as many in one call as the queue takes. What is not accepted stays in the ledger for the next time; a
    /// queue that does not answer is left alone until then.
    pub(super) async fn post_in(&self, keys: &[ActionKey], posting: &mut Posting) -> Result<Vec<Change>, Error> {
        let (mut posted, mut call) = (Vec::new(), Call::default());
        for key in keys {
            let Some((endpoint, Outcome { ret, stdout, stderr, ended_at })) = self.ledger.borrow().result(*key)? else {
                continue;
            };
            let Some(collector) = self.collector(key.queue) else {
                let why = format!("its result waits for queue {} to be configured again", key.queue);
                about_key!(warn, key, [], "{key}: {why}");
                self.note(Note::Failed(*key, Step::Report, timestamp(), why));
                posting.exit = posting.exit.and(Exit::TempFail);
                continue;
            };
            // Where the ledger was lost, nobody knows any more which collector it was.
            if !endpoint.is_empty() && collector.endpoint() != endpoint {
                let why = format!("its result belongs to {endpoint}, which is not configured any more");
                about_key!(warn, key, [], "{key}: {why}");
                self.note(Note::Failed(*key, Step::Report, timestamp(), why));
                posting.exit = posting.exit.and(Exit::TempFail);
                continue;
            }
            let report = Report { id: key.id, ret, stdout, stderr, ended_at };
            let bytes = collector.weight(&report);
            // One that was refused before goes by itself.
            let alone = call.keys.iter().chain([key]).any(|key| posting.refused.contains_key(key));
            if !call.keys.is_empty() && (alone || !call.has_room(collector, *key, bytes)) {
                self.post_call(std::mem::take(&mut call), posting, &mut posted).await;
            }
            call.push(*key, report, bytes);
        }
        self.post_call(call, posting, &mut posted).await;
        Ok(posted)
    }

    pub(super) fn collector(&self, queue: Queue) -> Option<&Collector> {
        self.collectors.iter().find(|collector| collector.queue() == queue)
    }

    /// Posts the results of one call. If the collector refuses it, its halves are tried, and theirs, until the result is
    /// found that it cannot take; all of them before their own halves: when both are refused because the collector is in
    /// trouble, it is left alone.
    async fn post_call(&self, mut call: Call, posting: &mut Posting, posted: &mut Vec<Change>) {
        let Some(queue) = call.keys.first().map(|key| key.queue) else { return };
        let Some(collector) = self.collector(queue) else { return };
        let successes = posting.successes.get(&queue).copied().unwrap_or_default();
        let all = call.keys.len();
        // Nothing has become better since those were refused.
        call.retain(|key| posting.refused.get(key) != Some(&successes));
        if call.keys.len() < all {
            posting.exit = posting.exit.and(Exit::TempFail);
        }
        let mut calls = VecDeque::from([call]);
        let mut whole = true;
        while let Some(call) = calls.pop_front() {
            let Some(&first) = call.keys.first() else { continue };
            if posting.unreachable.contains(&queue) {
                posting.exit = posting.exit.and(Exit::TempFail);
                continue;
            }
            let is_part = !std::mem::take(&mut whole);
            match self.post_once(collector, &call, is_part, posting.refused.contains_key(&first)).await {
                Ok(true) => {
                    *posting.successes.entry(queue).or_default() += 1;
                    posting.troubles.remove(&queue);
                    crash::point("posted");
                    for key in &call.keys {
                        about_key!(debug, key, [message_id = log::REPORTED], "{key} reported");
                        posted.push(Change::Reported(*key, timestamp()));
                        posting.accepted.insert(*key);
                    }
                }
                Ok(false) => posting.exit = posting.exit.and(Exit::TempFail),
                Err(err) => {
                    let several = call.keys.len() > 1;
                    let in_trouble = err.is_trouble() && {
                        let before = posting.troubles.insert(queue, call.keys.clone()).unwrap_or_default();
                        !before.is_empty() && !before.iter().any(|key| call.keys.contains(key))
                    };
                    let answered = err.may_be_about_content() || (err.is_trouble() && !in_trouble);
                    if several && answered {
                        tracing::debug!("{} results are posted in two calls: {err}", call.keys.len());
                        calls.extend(call.split());
                        continue;
                    }
                    if err.may_be_about_content() {
                        let successes = posting.successes.get(&queue).copied().unwrap_or_default();
                        posting.refused.insert(first, successes);
                    } else if !answered {
                        posting.troubles.remove(&queue);
                        posting.unreachable.insert(queue);
                    }
                    let err = Error::from(err);
                    if several {
                        let count = call.keys.len();
                        tracing::error!("{queue}: {count} results are kept for later: {}", err.report());
                    } else {
                        about_key!(error, first, [], "{first}: its result is kept for later: {}", err.report());
                    }
                    posting.exit = posting.exit.and(err.exit());
                }
            }
        }
    }

    /// Makes one call, several times while that can help; but a part of what was refused only once. A single result that the
    /// collector cannot take as it is, is posted without its output, with a note that says so: when the collector says
    /// that it is the output, or when it was `refused` before while other exchanges went well since. Otherwise the
    /// collector may only be in trouble, and the result waits whole for better times.
    async fn post_once(
        &self,
        collector: &Collector,
        call: &Call,
        is_part: bool,
        refused: bool,
    ) -> Result<bool, CollectorError> {
        let reports = &call.reports;
        let failed = |err: &CollectorError| self.note_failed_reports(&call.keys, err);
        let answer = if is_part && !self.stop.is_now() {
            match collector.report(reports).await {
                Err(err) if !err.may_be_about_content() && !err.is_trouble() => {
                    failed(&err);
                    self.persist_and_tell(|| collector.report(reports), failed).await
                }
                answer => answer.inspect_err(failed).map(Some),
            }
        } else {
            self.persist_and_tell(|| collector.report(reports), failed).await
        };
        match (answer, &reports[..], &call.keys[..]) {
            (Err(err), [report], [key]) if err.is_about_content() || (refused && err.may_be_about_content()) => {
                about_key!(warn, key, [], "{key}: {err}; reporting it without its output");
                let reduced = [reduced(report, &err)];
                Ok(self.persist_and_tell(|| collector.report(&reduced), failed).await?.is_some())
            }
            (answer, ..) => Ok(answer?.is_some()),
        }
    }

    /// For the story of each of them.
    fn note_failed_reports(&self, keys: &[ActionKey], err: &CollectorError) {
        let (at, why) = (timestamp(), in_full(err));
        for key in keys {
            self.note(Note::Failed(*key, Step::Report, at, why.clone()));
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
