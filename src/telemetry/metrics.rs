//! What is left for monitoring after a run: a file in the text format of Prometheus, for the textfile collector of its
//! node exporter, and the counters that outlive a run and are nowhere else.
//!
//! Nothing of it is synced: after a power cut a counter may begin again at 0, which Prometheus takes for a restart.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::action::Queue;
use crate::action::time::Timestamp;

/// What this node counts beside its ledger, since its state directory was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Notifications of allowed senders that were seen.
    pub notifications: u64,
    /// Those of them that led to no fetch of their own: another one, just before them, was enough.
    pub coalesced: u64,
    /// For each queue, the fetches that were answered, and those that failed.
    pub fetches: BTreeMap<String, [u64; 2]>,
}

/// Its name in the state directory.
const FILE: &str = "metrics";

impl Counters {
    /// The counters in the state directory; all 0 where there are none, or none that can be read.
    #[must_use]
    pub fn read(state: &Path) -> Self {
        fs::read(state.join(FILE)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Leaves them in the state directory. Only the one handler does so.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, state: &Path) -> io::Result<()> {
        replace(&state.join(FILE), &serde_json::to_vec(self)?, 0o600)
    }

    /// Adds what a run has counted.
    pub fn add(&mut self, run: &Self) {
        self.notifications = self.notifications.saturating_add(run.notifications);
        self.coalesced = self.coalesced.saturating_add(run.coalesced);
        for (queue, [answered, failed]) in &run.fetches {
            let fetches = self.fetches.entry(queue.clone()).or_default();
            fetches[0] = fetches[0].saturating_add(*answered);
            fetches[1] = fetches[1].saturating_add(*failed);
        }
    }

    /// One fetch of a queue.
    pub fn fetched(&mut self, queue: Queue, answered: bool) {
        self.fetches.entry(queue.as_str().to_owned()).or_default()[usize::from(!answered)] += 1;
    }

    /// So many notifications were taken at once: one fetch is for all of them.
    pub fn heard(&mut self, notifications: u64) {
        self.notifications += notifications;
        self.coalesced += notifications.saturating_sub(1);
    }
}

/// What is known about one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfQueue {
    /// How many actions have ended with each result.
    pub ended: BTreeMap<i64, u64>,
    /// How long their commands ran: for each upper bound in seconds how many ran no longer and longer than the bound
    /// before; `None` is the rest.
    pub durations: Vec<(Option<u32>, u64)>,
    /// How long they ran in all, in milliseconds.
    pub millis: u64,
    /// How many results are not accepted yet.
    pub unreported: u64,
    /// When the oldest of these was ready.
    pub oldest_unreported: Option<Timestamp>,
    /// The last fetch that was answered.
    pub last_contact: Option<Timestamp>,
}

/// Everything that is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// By queue.
    pub queues: BTreeMap<Queue, OfQueue>,
    /// Counted beside the ledger.
    pub counters: Counters,
    /// The node is paused.
    pub paused: bool,
    /// When the run ended.
    pub ended_at: Timestamp,
    /// With which exit status.
    pub exit_status: u8,
}

/// The text, family by family.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP opensvc_actions_{name} {help}\n# TYPE opensvc_actions_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "opensvc_actions_{name}{labels} {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

impl Metrics {
    /// The text format of Prometheus, version 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = Text(String::new());
        text.family("ended_total", "counter", "Actions that have ended, by queue and result.");
        for (queue, of) in &self.queues {
            for (ret, count) in &of.ended {
                text.sample("ended_total", &[("queue", queue), ("ret", ret)], count);
            }
        }
        text.family("duration_seconds", "histogram", "How long the commands of actions ran.");
        for (queue, of) in &self.queues {
            of.histogram(*queue, &mut text);
        }
        text.family("unreported", "gauge", "Results that no collector has accepted yet.");
        for (queue, of) in &self.queues {
            text.sample("unreported", &[("queue", queue)], of.unreported);
        }
        self.times(&mut text, "unreported_oldest_timestamp_seconds", "When the oldest of these was ready.", |of| {
            of.oldest_unreported
        });
        self.times(&mut text, "last_contact_timestamp_seconds", "When the queue was last fetched.", |of| {
            of.last_contact
        });
        text.family("fetches_total", "counter", "Fetches, by queue and how they went.");
        for (queue, [answered, failed]) in &self.counters.fetches {
            text.sample("fetches_total", &[("queue", queue), ("outcome", &"answered")], answered);
            text.sample("fetches_total", &[("queue", queue), ("outcome", &"failed")], failed);
        }
        let counters = &self.counters;
        text.single("notifications_total", "counter", "Notifications that were seen.", counters.notifications);
        let help = "Notifications that needed no fetch of their own.";
        text.single("notifications_coalesced_total", "counter", help, counters.coalesced);
        text.single("paused", "gauge", "Whether the node takes no new actions.", u8::from(self.paused));
        let help = "When the last run ended.";
        text.single("last_run_timestamp_seconds", "gauge", help, seconds(self.ended_at));
        let help = "The exit status of the last run.";
        text.single("last_run_exit_status", "gauge", help, self.exit_status);
        text.0
    }

    /// A family of times; a queue that has none is left out, and so is the family when none has one.
    fn times(&self, text: &mut Text, name: &str, help: &str, time: impl Fn(&OfQueue) -> Option<Timestamp>) {
        let known: Vec<_> = self.queues.iter().filter_map(|(queue, of)| Some((queue, time(of)?))).collect();
        if !known.is_empty() {
            text.family(name, "gauge", help);
        }
        for (queue, time) in known {
            text.sample(name, &[("queue", queue)], seconds(time));
        }
    }
}

impl OfQueue {
    fn histogram(&self, queue: Queue, text: &mut Text) {
        let mut so_far = 0_u64;
        for (bound, count) in &self.durations {
            so_far = so_far.saturating_add(*count);
            let bound = bound.map_or("+Inf".to_owned(), |bound| bound.to_string());
            text.sample("duration_seconds_bucket", &[("queue", &queue), ("le", &bound)], so_far);
        }
        let sum = format!("{}.{:03}", self.millis / 1000, self.millis % 1000);
        text.sample("duration_seconds_sum", &[("queue", &queue)], sum);
        text.sample("duration_seconds_count", &[("queue", &queue)], so_far);
    }
}

fn seconds(time: Timestamp) -> String {
    format!("{}.{:03}", time.seconds, time.nanos / 1_000_000)
}

/// Writes the text where everybody may read it, whole or not at all.
///
/// # Errors
/// When it cannot be written there.
pub fn publish(path: &Path, text: &str) -> io::Result<()> {
    replace(path, text.as_bytes(), 0o644)
}

/// The directory may belong to somebody else, who can put anything there: what is written to is always a new file.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_owned();
    name.push(".new"); // no name that the node exporter reads
    let draft = path.with_file_name(name);
    match fs::remove_file(&draft) {
        Err(err) if err.kind() != ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
        .and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up_over_runs_and_begin_at_zero_where_they_cannot_be_read() {
        let state = tempfile::tempdir().unwrap();
        for round in 1..=3 {
            let mut run = Counters::default();
            run.heard(5);
            run.fetched(Queue::Rpc, true);
            run.fetched(Queue::Rpc, false);
            let mut all = Counters::read(state.path());
            all.add(&run);
            all.write(state.path()).unwrap();
            let fetches = BTreeMap::from([("rpc".to_owned(), [round, round])]);
            assert_eq!(all, Counters { notifications: 5 * round, coalesced: 4 * round, fetches });
            assert_eq!(Counters::read(state.path()), all);
        }
        fs::write(state.path().join(FILE), "").unwrap();
        assert_eq!(Counters::read(state.path()), Counters::default());
    }

    #[test]
    fn what_lies_in_the_way_is_replaced_and_never_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (target, victim) = (dir.path().join("a.prom"), dir.path().join("victim"));
        fs::write(&victim, "mine").unwrap();
        for name in ["a.prom", "a.prom.new"] {
            std::os::unix::fs::symlink(&victim, dir.path().join(name)).unwrap();
        }
        publish(&target, "text").unwrap();
        assert_eq!(
            (fs::read_to_string(&victim).unwrap(), fs::read_to_string(&target).unwrap()),
            ("mine".into(), "text".into())
        );
        assert_eq!(fs::symlink_metadata(&target).unwrap().permissions().mode(), 0o100_644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        fs::remove_file(&target).unwrap();
        fs::create_dir(&target).unwrap();
        assert!(publish(&target, "text").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "a draft is left");
    }
}
