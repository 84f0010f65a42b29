//! How many actions ended how: since they are counted, for monitoring, and since somebody looks, for a person.
//!
//! What is counted for monitoring must not become less when the history is pruned. So the database counts by itself, in
//! the transaction that writes a result, whoever that is: it costs no sync, and nothing is counted twice or lost. It
//! begins when metrics are first wanted, with what the history knows then. A program that knows nothing of it counts too.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rusqlite::{OptionalExtension as _, Row, TransactionBehavior, params};

use super::view::View;
use super::{Ledger, LedgerError, from_millis, parsed, schema};
use crate::action::Queue;
use crate::action::time::Timestamp;

/// The upper bounds of the classes of durations, in seconds; behind them is one for the rest. They are part of the
/// format: the class is what the database keeps.
pub const BOUNDS: [u32; 10] = [1, 3, 10, 30, 60, 300, 900, 3600, 10_800, 43_200];

/// The class of an action whose command never started.
const NEVER_STARTED: i64 = -1;

/// What has ended in one queue since it is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The number of actions, by result.
    pub by_ret: BTreeMap<i64, u64>,
    /// The number of commands, by the class of their duration.
    pub by_duration: [u64; BOUNDS.len() + 1],
    /// Their durations in all, in milliseconds.
    pub millis: u64,
}

/// The results that no collector has accepted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreported {
    /// How many.
    pub count: u64,
    /// When the oldest was ready.
    pub oldest: Option<Timestamp>,
}

/// The class and the milliseconds of the action that `row` names.
fn measures(row: &str) -> (String, String) {
    let millis = format!("max(0, {row}finished_at - {row}started_at)");
    let mut class = format!("CASE WHEN {row}started_at IS NULL OR {row}finished_at IS NULL THEN {NEVER_STARTED}");
    for (index, bound) in BOUNDS.iter().enumerate() {
        let _ = write!(class, " WHEN {millis} <= {} THEN {index}", u64::from(*bound) * 1000);
    }
    let _ = write!(class, " ELSE {} END", BOUNDS.len());
    (class, format!("coalesce({millis}, 0)"))
}

/// The table and what fills it.
fn create() -> String {
    let (class, millis) = measures("");
    let (new_class, new_millis) = measures("NEW.");
    let count = format!(
        "BEGIN
             INSERT INTO ended VALUES (NEW.queue, NEW.ret, {new_class}, 1, {new_millis})
             ON CONFLICT (queue, ret, class)
             DO UPDATE SET actions = actions + 1, millis = millis + excluded.millis;
         END;"
    );
    format!(
        "DROP TABLE IF EXISTS ended; -- left by nobody, but a table that stands in the way would stop every run
         CREATE TABLE ended (
             queue TEXT NOT NULL, ret INTEGER NOT NULL, class INTEGER NOT NULL,
             actions INTEGER NOT NULL, millis INTEGER NOT NULL,
             PRIMARY KEY (queue, ret, class)
         ) STRICT, WITHOUT ROWID;
         INSERT INTO ended
             SELECT queue, ret, {class}, count(*), sum({millis}) FROM action WHERE ret IS NOT NULL GROUP BY 1, 2, 3;
         CREATE TRIGGER ended_later AFTER UPDATE OF ret ON action
             WHEN OLD.ret IS NULL AND NEW.ret IS NOT NULL {count}
         CREATE TRIGGER ended_at_once AFTER INSERT ON action WHEN NEW.ret IS NOT NULL {count}"
    )
}

impl Ledger {
    /// Has the database count from now on, if it does not yet.
    ///
    /// # Errors
    /// When it cannot be told to.
    pub fn count_ended(&mut self) -> Result<(), LedgerError> {
        self.with_room(|connection| {
            let wanted = connection
                .prepare("SELECT 1 FROM sqlite_schema WHERE name = 'ended_later'")?
                .query_row([], |_| Ok(()))
                .optional()?
                .is_none();
            if !wanted {
                return Ok(());
            }
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(&create())?;
            transaction.commit()
        })
    }

    /// What was counted.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn ended(&self) -> Result<BTreeMap<Queue, Ended>, LedgerError> {
        let read = || {
            let mut all = BTreeMap::<Queue, Ended>::new();
            let mut query = self.connection.prepare("SELECT queue, ret, class, actions, millis FROM ended")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let ended = all.entry(parsed(row, 0, |text| text.parse().ok())?).or_default();
                let actions = number(row, 3)?;
                *ended.by_ret.entry(row.get(1)?).or_default() += actions;
                let class = usize::try_from(row.get::<_, i64>(2)?).ok();
                if let Some(count) = class.and_then(|class| ended.by_duration.get_mut(class)) {
                    *count += actions;
                    ended.millis += number(row, 4)?;
                }
            }
            Ok(all)
        };
        read().map_err(|source| self.failed(source))
    }

    /// The results that wait, by queue.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn unreported(&self) -> Result<BTreeMap<Queue, Unreported>, LedgerError> {
        let read = || {
            let mut query = self.connection.prepare(&format!(
                "SELECT queue, count(*), min(finished_at) FROM action WHERE {} AND state = 'finished' GROUP BY queue",
                schema::OPEN
            ))?;
            let rows = query.query_map([], |row| {
                let oldest = row.get::<_, Option<i64>>(2)?.map(from_millis);
                Ok((parsed(row, 0, |text| text.parse().ok())?, Unreported { count: number(row, 1)?, oldest }))
            })?;
            rows.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|source| self.failed(source))
    }
}

/// A count; SQLite has no unsigned numbers.
fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|number| u64::try_from(number).unwrap_or_default())
}

/// The moment from which on a person looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Since {
    /// Whatever ends from now on is this row or a later one.
    first: i64,
    /// So many of these had ended already, with 0 and otherwise.
    ended: [u64; 2],
}

/// What became of actions meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Ended with 0.
    pub done: u64,
    /// Ended with something else.
    pub failed: u64,
    /// Wait for their turn, now.
    pub waiting: u64,
    /// Have a result that no collector has accepted yet, now.
    pub unreported: u64,
}

impl View {
    /// Begins to look.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn since_now(&self) -> Result<Since, LedgerError> {
        let query = format!(
            "SELECT coalesce((SELECT min(rowid) FROM action WHERE {} AND state <> 'finished'), (SELECT max(rowid) + 1 FROM action), 0)",
            schema::OPEN
        );
        let first = self.connection.query_row(&query, [], |row| row.get(0)).map_err(|source| self.failed(source))?;
        let Tally { done, failed, .. } = self.tally(Since { first, ended: [0, 0] })?;
        Ok(Since { first, ended: [done, failed] })
    }

    /// What became of actions since then. The work grows with what was received since, not with the history.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn tally(&self, since: Since) -> Result<Tally, LedgerError> {
        let query = format!(
            "SELECT count(*) FILTER (WHERE ret = 0), count(*) FILTER (WHERE ret <> 0),
                    (SELECT count(*) FROM action WHERE {open} AND state = 'received'),
                    (SELECT count(*) FROM action WHERE {open} AND state = 'finished')
             FROM action WHERE rowid >= ?1",
            open = schema::OPEN
        );
        self.connection
            .query_row(&query, params![since.first], |row| {
                let ended =
                    |column: usize| Ok::<_, rusqlite::Error>(number(row, column)?.saturating_sub(since.ended[column]));
                Ok(Tally { done: ended(0)?, failed: ended(1)?, waiting: number(row, 2)?, unreported: number(row, 3)? })
            })
            .map_err(|source| self.failed(source))
    }
}
