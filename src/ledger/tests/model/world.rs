//! The handler around the real ledger, and the collector that it talks to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rusqlite::{Connection, params};

use super::super::{HERE, at, open};
use super::{End, Post, Step};
use crate::action::admission::State;
use crate::action::outcome::Outcome;
use crate::action::time::Timestamp;
use crate::action::{ActionId, ActionKey, Batch, Queue, QueuedAction, RowStatus};
use crate::config::Retention;
use crate::ledger::retention::Bounds;
use crate::ledger::{Change, Ledger};

#[derive(Clone, Debug)]
struct Row {
    status: char,
    command: String,
    queued_at: String,
    ret: Option<i64>,
}

pub(super) struct World {
    dir: tempfile::TempDir,
    ledger: Option<Ledger>,
    queue: Queue,
    now: i64,
    serial: i64,
    rows: BTreeMap<i64, Row>,
    backup: BTreeMap<i64, Row>,
    /// How often a person has asked for a run of a row, or a restored backup has.
    orders: BTreeMap<i64, usize>,
    recorded: BTreeSet<ActionKey>,
    starts: BTreeMap<ActionKey, usize>,
    /// For each generation: what was accepted, and how often the handler knew of it.
    accepted: BTreeMap<ActionKey, (Outcome, usize)>,
    /// How often a collector asked again for a result.
    asked_again: BTreeMap<ActionKey, usize>,
    restored: bool,
    expired: BTreeSet<i64>,
}

impl World {
    pub(super) fn new(queue: Queue) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Some(open(dir.path()));
        let (rows, backup, orders) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (recorded, starts, accepted) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        let (asked_again, expired) = (BTreeMap::new(), BTreeSet::new());
        Self {
            dir,
            ledger,
            queue,
            now: 1_000_000,
            serial: 0,
            rows,
            backup,
            orders,
            recorded,
            starts,
            accepted,
            asked_again,
            restored: false,
            expired,
        }
    }

    fn ledger(&mut self) -> &mut Ledger {
        self.ledger.as_mut().unwrap()
    }

    fn time(&self) -> Timestamp {
        at(self.now)
    }

    fn crash(&mut self) {
        self.ledger = None;
        self.ledger = Some(open(self.dir.path()));
    }

    pub(super) fn step(&mut self, step: Step) {
        self.now += 1;
        match step {
            Step::Enqueue(id) => {
                self.serial += 1;
                let queued_at = format!("2026-11-21T08:{:02}:{:02}", self.serial / 60, self.serial % 60);
                let command = format!("do {}", self.serial);
                self.rows.insert(id, Row { status: 'W', command, queued_at, ret: None });
                *self.orders.entry(id).or_default() += 1;
            }
            Step::Redo(id) => {
                if let Some(row) = self.rows.get_mut(&id).filter(|row| !matches!(row.status, 'R' | 'W')) {
                    row.status = 'W';
                    *self.orders.entry(id).or_default() += 1;
                }
            }
            Step::CancelThere(id) => {
                if let Some(row) = self.rows.get_mut(&id).filter(|row| row.status != 'T') {
                    row.status = 'C';
                }
            }
            Step::CancelHere(id) => self.cancel_here(id),
            Step::Backup => self.backup = self.rows.clone(),
            Step::Restore => {
                let before = std::mem::replace(&mut self.rows, self.backup.clone());
                for (id, row) in &self.rows {
                    // What was sent before the backup is recognised, unless its id means something else by now.
                    let is_known = before.get(id).is_some_and(|before| before.command == row.command);
                    if row.status == 'W' || !is_known {
                        *self.orders.entry(*id).or_default() += 1;
                    }
                }
                self.restored = true;
            }
            Step::Fetch { answered, acknowledged, posted } => {
                self.fetch(answered, acknowledged, posted);
            }
            Step::Run(end) => {
                self.run(end);
            }
            Step::Post(how) => self.post_finished(how),
            Step::Crash => self.crash(),
            Step::Later(hours) => self.later(i64::from(hours)),
        }
    }

    /// As the command does it, beside the handler.
    fn cancel_here(&mut self, id: i64) {
        let beside = Connection::open(self.dir.path().join("ledger.sqlite")).unwrap();
        beside
            .execute(
                "UPDATE action SET state = 'finished', finished_at = ?2, ret = 130, stdout = '', stderr = 'cancelled'
                 WHERE id = ?1 AND state = 'received'",
                params![id, self.now * 1000],
            )
            .unwrap();
    }

    /// Tells whether anything was new.
    fn fetch(&mut self, answered: bool, acknowledged: bool, posted: Post) -> bool {
        let mut batch = Batch::default();
        for (id, row) in self.rows.iter_mut().filter(|(_, row)| matches!(row.status, 'W' | 'S')) {
            batch.actions.push(QueuedAction {
                id: ActionId(*id),
                status: RowStatus::from_letter(&row.status.to_string()),
                command: row.command.clone(),
                svc_id: String::new(),
                svcname: String::new(),
                queued_at: Some(row.queued_at.clone()),
                earlier_ret: row.ret,
            });
            row.status = 'S';
        }
        if !answered {
            return false;
        }
        let (queue, now) = (self.queue, self.time());
        let admitted = self.ledger().receive(queue, HERE, &batch, now).unwrap();
        self.recorded.extend(admitted.new.iter().chain(&admitted.report));
        for key in admitted.report.iter().filter(|key| !admitted.report_first.contains(key)) {
            *self.asked_again.entry(*key).or_default() += 1;
        }
        let mut changes = self.post(&admitted.report_first, posted);
        changes.extend(admitted.report_first.iter().map(|key| Change::Superseded(*key, now)));
        self.ledger().commit(&changes).unwrap();
        if acknowledged {
            for id in &admitted.acknowledge {
                // I3
                self.assert_durable(*id);
                self.rows.get_mut(&id.0).unwrap().status = 'R';
            }
        }
        let changes = self.post(&admitted.report, posted);
        self.ledger().commit(&changes).unwrap();
        !admitted.new.is_empty()
    }

    fn assert_durable(&self, id: ActionId) {
        let beside = Connection::open(self.dir.path().join("ledger.sqlite")).unwrap();
        let known: i64 =
            beside.query_row("SELECT count(*) FROM action WHERE id = ?1", [id.0], |row| row.get(0)).unwrap();
        assert!(known > 0, "{id} is acknowledged and not recorded");
    }

    /// Sees to the end of what runs, or else starts what waits first. Tells whether there was anything.
    fn run(&mut self, end: End) -> bool {
        let running = self.ledger().in_state(State::Started).unwrap();
        let waiting = self.ledger().in_state(State::Received).unwrap();
        let Some(record) = running.first().or(waiting.first()) else { return false };
        let (key, now) = (record.key, self.time());
        if record.state == State::Received {
            self.ledger().commit(&[Change::Started(key, now, "boot".to_owned())]).unwrap();
            *self.starts.entry(key).or_default() += 1;
        }
        self.serial += 1;
        let ret = i32::try_from(self.serial).unwrap();
        let outcome = |ret| Outcome { ret, stdout: String::new(), stderr: String::new(), ended_at: now };
        let change = match end {
            End::Later => return true,
            End::Seen => Change::Finished(key, outcome(ret)),
            End::Recorded => {
                self.crash();
                Change::Finished(key, outcome(ret))
            }
            End::Unknown => {
                self.crash();
                Change::Finished(key, outcome(254))
            }
            End::NeverBegan => {
                self.crash();
                *self.starts.entry(key).or_default() -= 1;
                Change::NotStarted(key)
            }
        };
        self.ledger().commit(&[change]).unwrap();
        true
    }

    fn post_finished(&mut self, how: Post) {
        let finished = self.ledger().in_state(State::Finished).unwrap();
        let keys: Vec<_> = finished.iter().map(|record| record.key).collect();
        let changes = self.post(&keys, how);
        self.ledger().commit(&changes).unwrap();
        if how == Post::Killed {
            self.crash();
        }
    }

    fn post(&mut self, keys: &[ActionKey], how: Post) -> Vec<Change> {
        let mut changes = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let Some((_, outcome)) = self.ledger().result(*key).unwrap() else { continue };
            if how == Post::FirstRefused && index == 0 {
                continue;
            }
            if let Some(row) = self.rows.get_mut(&key.id.0) {
                row.status = 'T';
                row.ret = Some(outcome.ret.into());
            }
            let (first, known) = self.accepted.entry(*key).or_insert((outcome.clone(), 0));
            // What is forgotten is answered otherwise: that it expired.
            assert!(first.ret == outcome.ret || outcome.ret == 254, "{key}: {first:?}, then {outcome:?}");
            if matches!(how, Post::Accepted | Post::FirstRefused) {
                *known += 1;
                changes.push(Change::Reported(*key, self.time()));
            }
        }
        changes
    }

    fn later(&mut self, hours: i64) {
        self.now += hours * 3600;
        let now = self.time();
        let (unreported, history) = (Duration::from_secs(40 * 3600), Duration::from_secs(30 * 3600));
        let retention = Retention { unreported, history, kept_output: 0 };
        let expired = self.ledger().expire(&retention, now).unwrap();
        self.expired.extend(expired.iter().map(|key| key.id.0));
        let bounds = Bounds { actions: 6, tombstones: 100, bytes: 1 << 20, at_once: 3 };
        self.ledger().prune(&retention, bounds, now).unwrap();
    }

    /// From now on nothing fails any more.
    pub(super) fn settle(&mut self) {
        for _ in 0..20 {
            let new = self.fetch(true, true, Post::Accepted);
            while self.run(End::Seen) {}
            self.post_finished(Post::Accepted);
            if !new && !self.rows.values().any(|row| matches!(row.status, 'W' | 'S')) {
                return;
            }
        }
        panic!("it never comes to rest: {:?}", self.rows);
    }

    pub(super) fn check(&mut self) {
        for (key, starts) in &self.starts {
            assert!(*starts <= 1, "I1: {key} was started {starts} times");
        }
        let mut runs: BTreeMap<i64, usize> = BTreeMap::new();
        self.starts.iter().for_each(|(key, starts)| *runs.entry(key.id.0).or_default() += starts);
        for (id, runs) in &runs {
            assert!(*runs <= self.orders[id], "I1: {id} was ordered {} times and ran {runs} times", self.orders[id]);
        }
        for state in [State::Received, State::Started, State::Finished] {
            assert!(self.ledger().in_state(state).unwrap().is_empty(), "I2: something is left {state:?}");
        }
        for key in self.recorded.clone() {
            let beside = &self.ledger.as_ref().unwrap().connection;
            let state: Option<String> = beside
                .query_row(
                    "SELECT state FROM action WHERE id = ?1 AND generation = ?2",
                    params![key.id.0, key.generation],
                    |row| row.get(0),
                )
                .ok();
            let known = self.accepted.get(&key).map_or(0, |(_, known)| *known);
            let again = self.asked_again.get(&key).copied().unwrap_or_default();
            assert!(known <= 1 + again, "I2: {key} was accepted {known} times, and asked for {again} times again");
            match state.as_deref() {
                Some("reported") => assert!(known > 0, "I2: {key} is reported and was not accepted"),
                Some("superseded" | "expired") | None => {}
                Some(other) => panic!("I2: {key} is {other}"),
            }
        }
        for (id, row) in self.rows.iter().filter(|(id, _)| !self.restored && !self.expired.contains(id)) {
            assert!(matches!(row.status, 'T' | 'C'), "I2: {id} has no result: {row:?}");
            let newest = self.accepted.iter().rfind(|(key, _)| key.id.0 == *id);
            let expected = newest.map(|(_, (outcome, _))| i64::from(outcome.ret)).filter(|_| row.status == 'T');
            assert!(row.ret == expected || row.ret == Some(254) || row.status == 'C', "{id}: an older result: {row:?}");
        }
    }
}
