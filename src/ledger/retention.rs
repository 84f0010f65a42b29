//! What is forgotten, and when: results that no collector accepted in time are given up; of what is complete, first the
//! output goes, then the action. That there was one stays: its tombstone keeps a row that is sent again from running.

use rusqlite::{Connection, TransactionBehavior, params};

use super::{Ledger, LedgerError, parsed, schema, story, to_millis};
use crate::action::admission::{Evidence, Fingerprint};
use crate::action::time::Timestamp;
use crate::action::{ActionId, ActionKey};
use crate::config::Retention;

/// How much is kept at most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Complete actions.
    pub actions: i64,
    /// Tombstones, of less than 100 bytes each.
    pub tombstones: i64,
    /// Bytes of the database, above which outputs go.
    pub bytes: i64,
    /// Actions or outputs that are forgotten in one go: what is left waits for the next run.
    pub at_once: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { actions: 100_000, tombstones: 100_000, bytes: 256 << 20, at_once: 2000 }
    }
}

/// A complete action that may be forgotten.
struct Complete {
    rowid: i64,
    key: ActionKey,
    at: Option<i64>,
    known: bool,
    evidence: Evidence,
}

impl Ledger {
    /// Gives up the results that were not accepted in time, and returns their actions. They stay readable. Nothing is
    /// synced, see [`Self::prune`].
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn expire(&mut self, retention: &Retention, now: Timestamp) -> Result<Vec<ActionKey>, LedgerError> {
        let before = before(now, retention.unreported);
        self.unsynced(|connection| expire(connection, before, to_millis(now)))
    }

    /// Forgets what is too old or too much, a bounded part of it, the oldest first. Nothing is synced: a power cut
    /// brings back what was forgotten, and it is forgotten again.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn prune(&mut self, retention: &Retention, bounds: Bounds, now: Timestamp) -> Result<(), LedgerError> {
        let before = before(now, retention.history);
        self.unsynced(|connection| {
            forget_actions(connection, before, bounds)?;
            forget_outputs(connection, bounds)
        })
    }
}

fn before(now: Timestamp, age: std::time::Duration) -> i64 {
    to_millis(now).saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

fn expire(connection: &mut Connection, before: i64, now: i64) -> rusqlite::Result<Vec<ActionKey>> {
    let old: Vec<(i64, ActionKey)> = connection
        .prepare_cached(&format!(
            "SELECT rowid, queue, id, generation FROM action
             WHERE {} AND state = 'finished' AND finished_at < ?1 ORDER BY rowid",
            schema::OPEN
        ))?
        .query_map([before], |row| {
            let queue = parsed(row, 1, |text| text.parse().ok())?;
            Ok((row.get(0)?, ActionKey { queue, id: ActionId(row.get(2)?), generation: row.get(3)? }))
        })?
        .collect::<rusqlite::Result<_>>()?;
    if old.is_empty() {
        return Ok(Vec::new());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (rowid, _) in &old {
        transaction
            .prepare_cached("UPDATE action SET state = 'expired', reported_at = ?2 WHERE rowid = ?1")?
            .execute([*rowid, now])?;
    }
    transaction.commit()?;
    Ok(old.into_iter().map(|(_, key)| key).collect())
}

fn forget_actions(connection: &mut Connection, before: i64, bounds: Bounds) -> rusqlite::Result<()> {
    let newest: Option<i64> = connection.query_row("SELECT max(rowid) FROM action", [], |row| row.get(0))?;
    let too_many = newest.unwrap_or_default() - bounds.actions;
    let old = oldest(connection, bounds.at_once, |action| {
        action.rowid <= too_many || action.at.is_none_or(|at| at < before)
    })?;
    if old.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for action in old {
        // Of an action that nobody knows, nothing can be recognised again.
        if action.known {
            let Fingerprint { what, queued_at } = Fingerprint::from(&action.evidence);
            let ActionKey { queue, id, generation } = action.key;
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO tombstone (queue, id, generation, what, queued_at)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![queue.as_str(), id.0, generation, what, queued_at])?;
        }
        story::forget(&transaction, action.key)?;
        transaction.prepare_cached("DELETE FROM action WHERE rowid = ?1")?.execute([action.rowid])?;
    }
    transaction
        .execute("DELETE FROM tombstone WHERE rowid <= (SELECT max(rowid) FROM tombstone) - ?1", [bounds.tombstones])?;
    transaction.commit()
}

/// The complete actions from the oldest on that are to be forgotten. Looks no further than the first that is not.
fn oldest(
    connection: &Connection,
    at_once: usize,
    is_to_go: impl Fn(&Complete) -> bool,
) -> rusqlite::Result<Vec<Complete>> {
    let mut query = connection.prepare_cached(&format!(
        "SELECT rowid, queue, id, generation, reported_at, known, command, svc_id, queued_at FROM action
         WHERE NOT ({}) ORDER BY rowid",
        schema::OPEN
    ))?;
    let rows = query.query_map([], |row| {
        let queue = parsed(row, 1, |text| text.parse().ok())?;
        Ok(Complete {
            rowid: row.get(0)?,
            key: ActionKey { queue, id: ActionId(row.get(2)?), generation: row.get(3)? },
            at: row.get(4)?,
            known: row.get(5)?,
            evidence: Evidence { command: row.get(6)?, svc_id: row.get(7)?, queued_at: row.get(8)? },
        })
    })?;
    rows.take(at_once).take_while(|row| row.as_ref().map_or(true, &is_to_go)).collect()
}

/// Above the bound, outputs go until an eighth of it is free again, so that this is seldom.
fn forget_outputs(connection: &mut Connection, bounds: Bounds) -> rusqlite::Result<()> {
    if used(connection)? <= bounds.bytes {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut after = i64::MIN;
    let mut left = bounds.at_once;
    while left > 0 && used(&transaction)? > bounds.bytes - bounds.bytes / 8 {
        let some = transaction
            .prepare_cached(&format!(
                "SELECT rowid FROM action WHERE rowid > ?1 AND NOT ({}) AND stdout IS NOT NULL ORDER BY rowid LIMIT 8",
                schema::OPEN
            ))?
            .query_map([after], |row| row.get::<_, i64>(0))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let Some(last) = some.last() else { break };
        after = *last;
        left = left.saturating_sub(some.len());
        for rowid in some {
            transaction
                .prepare_cached("UPDATE action SET stdout = NULL, stderr = NULL WHERE rowid = ?1")?
                .execute([rowid])?;
        }
    }
    transaction.commit()
}

/// The bytes in use, as the first page of the file knows them.
fn used(connection: &Connection) -> rusqlite::Result<i64> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    Ok((pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?)
}
