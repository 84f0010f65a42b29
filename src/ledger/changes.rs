//! The steps of an action's life after it was received.

use rusqlite::{CachedStatement, Connection, Transaction, TransactionBehavior, params};

use super::story::{self, Note};
use super::{Ledger, LedgerError, to_millis};
use crate::action::ActionKey;
use crate::action::outcome::Outcome;
use crate::action::time::Timestamp;

/// A change of one action, in the words of its life.
#[derive(Debug)]
pub enum Change {
    /// Its command did not start after all.
    NotStarted(ActionKey),
    /// Its command is about to start, in this boot of the machine.
    Started(ActionKey, Timestamp, String),
    /// It has a result.
    Finished(ActionKey, Outcome),
    /// The collector accepted the result.
    Reported(ActionKey, Timestamp),
    /// A newer generation has taken its place: its result is not posted any more.
    Superseded(ActionKey, Timestamp),
}

impl Change {
    /// The action, if the change is that its result needs to be posted no more.
    #[must_use]
    pub fn completed(&self) -> Option<ActionKey> {
        match self {
            Self::Reported(key, _) | Self::Superseded(key, _) => Some(*key),
            _ => None,
        }
    }

    /// The action and the time, if the change is that the collector accepted its result.
    #[must_use]
    pub fn reported(&self) -> Option<(ActionKey, Timestamp)> {
        match self {
            Self::Reported(key, at) => Some((*key, *at)),
            _ => None,
        }
    }

    /// The action, if the change is its result.
    #[must_use]
    pub fn finished(&self) -> Option<ActionKey> {
        match self {
            Self::Finished(key, _) => Some(*key),
            _ => None,
        }
    }
}

impl Ledger {
    /// Makes all `changes` durable, with one sync for all of them. Returns the actions among those to be started that
    /// must not start: they do not wait any more, somebody has cancelled them meanwhile, see
    /// [`orders`](super::orders).
    ///
    /// Where nothing was changed but that results are complete, there is no sync at all: if a power cut takes that
    /// back, they are posted once more.
    ///
    /// What was [noted](Self::note) is written with them.
    ///
    /// # Errors
    /// When they cannot be written; none of them is recorded then.
    pub fn commit(&mut self, changes: &[Change]) -> Result<Vec<ActionKey>, LedgerError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let notes = std::mem::take(&mut self.notes);
        if changes.iter().all(|change| change.completed().is_some()) {
            return self.unsynced(|connection| commit(connection, changes, &notes));
        }
        self.with_room(|connection| commit(connection, changes, &notes))
    }
}

fn commit(connection: &mut Connection, changes: &[Change], notes: &[Note]) -> rusqlite::Result<Vec<ActionKey>> {
    let mut not_to_start = Vec::new();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for change in changes {
        if apply(&transaction, change)? == 0 {
            if let Change::Started(key, ..) = change {
                not_to_start.push(*key);
            }
        }
    }
    story::write(&transaction, notes)?;
    transaction.commit()?;
    Ok(not_to_start)
}

/// Applies one change, and tells whether there was anything to change.
fn apply(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<usize> {
    let prepare = |statement: &str| -> rusqlite::Result<CachedStatement<'_>> { transaction.prepare_cached(statement) };
    match change {
        // One whose id was given away meanwhile does not wait again.
        Change::NotStarted(ActionKey { queue, id, generation }) => prepare(
            "UPDATE action SET state = iif(superseded_at IS NULL, 'received', 'superseded'),
                 reported_at = superseded_at, started_at = NULL, tries = tries + 1
             WHERE queue = ?1 AND id = ?2 AND generation = ?3 AND state = 'started'",
        )?
        .execute(params![queue.as_str(), id.0, generation]),
        Change::Started(ActionKey { queue, id, generation }, at, boot_id) => prepare(
            "UPDATE action SET state = 'started', started_at = ?4, boot_id = ?5
             WHERE queue = ?1 AND id = ?2 AND generation = ?3 AND state = 'received'",
        )?
        .execute(params![queue.as_str(), id.0, generation, to_millis(*at), boot_id]),
        Change::Finished(ActionKey { queue, id, generation }, Outcome { ret, stdout, stderr, ended_at }) => prepare(
            "UPDATE action SET state = iif(superseded_at IS NULL, 'finished', 'superseded'),
                 reported_at = superseded_at, finished_at = ?4, ret = ?5, stdout = ?6, stderr = ?7
             WHERE queue = ?1 AND id = ?2 AND generation = ?3 AND state IN ('received', 'started')",
        )?
        .execute(params![queue.as_str(), id.0, generation, to_millis(*ended_at), ret, stdout, stderr]),
        Change::Reported(key @ ActionKey { queue, id, generation }, at) => {
            if *generation > 1 {
                supersede_older(transaction, *key, *at)?;
            }
            prepare(
                "UPDATE action SET state = 'reported', reported_at = ?4
                 WHERE queue = ?1 AND id = ?2 AND generation = ?3 AND state IN ('finished', 'expired')",
            )?
            .execute(params![queue.as_str(), id.0, generation, to_millis(*at)])
        }
        Change::Superseded(ActionKey { queue, id, generation }, at) => prepare(
            "UPDATE action SET state = 'superseded', superseded_at = ?4, reported_at = ?4
             WHERE queue = ?1 AND id = ?2 AND generation = ?3 AND state = 'finished'",
        )?
        .execute(params![queue.as_str(), id.0, generation, to_millis(*at)]),
    }
}

/// Results of one row are posted in the order of its generations; one that the collector did not want must not replace
/// a newer one later.
fn supersede_older(transaction: &Transaction<'_>, newest: ActionKey, at: Timestamp) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE action SET state = 'superseded', superseded_at = ?4, reported_at = ?4
             WHERE queue = ?1 AND id = ?2 AND generation < ?3 AND state = 'finished'",
        )?
        .execute(params![newest.queue.as_str(), newest.id.0, newest.generation, to_millis(at)])
        .map(drop)
}
