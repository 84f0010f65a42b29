//! What else there is to tell about an action: who acknowledged it and when, which rule let it run, how it was started,
//! what it has used, and what went wrong on the way. It is for people; nothing is decided by it.
//!
//! It never costs a sync, nor a transaction while there is work: notes wait here until something else is committed, and
//! are written with that. What a crash takes of them is missing in the story and nowhere else.

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::view::View;
use super::{Ledger, LedgerError, from_millis, parsed, to_millis};
use crate::action::time::Timestamp;
use crate::action::usage::Usage;
use crate::action::{ActionId, ActionKey, Queue};

/// Of the attempts at one step, so many of the first and so many of the last are kept, and how many there were.
const FIRST: i64 = 3;
/// See [`FIRST`].
const LAST: i64 = 3;
/// The bytes of an error that are kept.
const LONGEST_ERROR: usize = 500;
/// Notes that wait while nothing can be written: more are dropped.
const MOST_NOTES: usize = 4096;

/// How a collector came to know that we hold a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// By an acknowledgement after the fetch.
    AfterFetch,
    /// By an acknowledgement when it was about to start.
    AtStart,
    /// By the fetch itself: the collector counts what it sends as received.
    ByFetch,
}

impl Acknowledged {
    const ALL: [Self; 3] = [Self::AfterFetch, Self::AtStart, Self::ByFetch];

    /// The spelling in the ledger and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AfterFetch => "after_fetch",
            Self::AtStart => "at_start",
            Self::ByFetch => "by_fetch",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.as_str() == name)
    }
}

/// A step that can fail and be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Telling the collector that we hold the row.
    Acknowledge,
    /// Starting the command.
    Start,
    /// Posting the result.
    Report,
}

impl Step {
    const ALL: [Self; 3] = [Self::Acknowledge, Self::Start, Self::Report];

    /// The spelling in the ledger and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Start => "start",
            Self::Report => "report",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == name)
    }
}

/// Something to be told about actions.
#[derive(Clone, Debug)]
pub enum Note {
    /// A collector knows that we hold the newest generations of these rows.
    Acknowledged(Queue, Vec<ActionId>, Timestamp, Acknowledged),
    /// A collector could not be told so, then and for this reason.
    Unacknowledged(Queue, Vec<ActionId>, Timestamp, String),
    /// A rule of the policy decided about it.
    Decided(ActionKey, String),
    /// It runs as this user.
    RunsAs(ActionKey, String),
    /// How its supervisor is started: the name of a unit, or of the launcher.
    Launched(ActionKey, String),
    /// What its command has used.
    Used(ActionKey, Usage),
    /// An attempt at this step went wrong, then and for this reason.
    Failed(ActionKey, Step, Timestamp, String),
}

/// An attempt that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What was attempted.
    pub step: Step,
    /// Which of those that went wrong it was, from 1. Numbers are missing where attempts were dropped.
    pub number: u32,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub error: String,
}

/// What the notes tell about one action.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// Since when the collector knows that we hold it, and how.
    pub acknowledged: Option<(Timestamp, Acknowledged)>,
    /// The rule that decided about it; `None`: the default did, or nothing has yet.
    pub rule: Option<String>,
    /// The user that it runs as; `None`: root.
    pub user: Option<String>,
    /// How its supervisor was started: the name of a unit, or of the launcher.
    pub launcher: Option<String>,
    /// What its command has used.
    pub usage: Option<Usage>,
    /// What went wrong, in the order of the steps and the times: of each step the first and the last.
    pub attempts: Vec<Attempt>,
}

impl Ledger {
    /// Remembers something that is to be told: it is written with the next commit.
    pub fn note(&mut self, note: Note) {
        if self.notes.len() < MOST_NOTES {
            self.notes.push(note);
        }
    }

    /// Writes what was noted since the last commit, where no other follows soon. Nothing is synced.
    ///
    /// # Errors
    /// When it cannot be written. Nobody needs it.
    pub fn write_notes(&mut self) -> Result<(), LedgerError> {
        if self.notes.is_empty() {
            return Ok(());
        }
        let notes = std::mem::take(&mut self.notes);
        self.unsynced(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            write(&transaction, &notes)?;
            transaction.commit()
        })
    }
}

/// Writes notes, as a part of a commit.
pub(super) fn write(transaction: &Transaction<'_>, notes: &[Note]) -> rusqlite::Result<()> {
    let set = |key: &ActionKey, column: &str, value: &str| {
        transaction
            .prepare_cached(&format!(
                "UPDATE action SET {column} = ?4 WHERE queue = ?1 AND id = ?2 AND generation = ?3"
            ))?
            .execute(params![key.queue.as_str(), key.id.0, key.generation, value])
    };
    for note in notes {
        match note {
            Note::Acknowledged(queue, ids, at, how) => {
                let mut update = transaction.prepare_cached(
                    "UPDATE action SET acknowledged_at = ?3, acknowledged_by = ?4
                     WHERE queue = ?1 AND id = ?2 AND acknowledged_at IS NULL AND generation =
                         (SELECT max(generation) FROM action WHERE queue = ?1 AND id = ?2)",
                )?;
                for id in ids {
                    update.execute(params![queue.as_str(), id.0, to_millis(*at), how.as_str()])?;
                }
                continue;
            }
            Note::Unacknowledged(queue, ids, at, error) => {
                for id in ids {
                    if let Some(generation) = newest(transaction, *queue, *id)? {
                        let key = ActionKey { queue: *queue, id: *id, generation };
                        failed(transaction, key, Step::Acknowledge, *at, error)?;
                    }
                }
                continue;
            }
            Note::Decided(key, rule) => set(key, "rule", rule)?,
            Note::RunsAs(key, user) => set(key, "runs_as", user)?,
            Note::Launched(key, launcher) => set(key, "launcher", launcher)?,
            Note::Used(key, usage) => used(transaction, *key, usage)?,
            Note::Failed(key, step, at, error) => failed(transaction, *key, *step, *at, error)?,
        };
    }
    Ok(())
}

fn newest(transaction: &Transaction<'_>, queue: Queue, id: ActionId) -> rusqlite::Result<Option<u32>> {
    transaction
        .prepare_cached("SELECT max(generation) FROM action WHERE queue = ?1 AND id = ?2")?
        .query_row(params![queue.as_str(), id.0], |row| row.get(0))
}

fn used(transaction: &Transaction<'_>, key: ActionKey, usage: &Usage) -> rusqlite::Result<usize> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    transaction
        .prepare_cached(
            "UPDATE action SET of_group = ?4, user_usec = ?5, system_usec = ?6, memory_peak = ?7, read_bytes = ?8,
                               written_bytes = ?9, oom_kills = ?10
             WHERE queue = ?1 AND id = ?2 AND generation = ?3",
        )?
        .execute(params![
            key.queue.as_str(),
            key.id.0,
            key.generation,
            usage.of_group,
            number(usage.user_usec),
            number(usage.system_usec),
            usage.memory_peak.map(number),
            usage.read_bytes.map(number),
            usage.written_bytes.map(number),
            usage.oom_kills.map(number),
        ])
}

fn failed(
    transaction: &Transaction<'_>,
    key: ActionKey,
    step: Step,
    at: Timestamp,
    error: &str,
) -> rusqlite::Result<usize> {
    let end = (0..=error.len().min(LONGEST_ERROR)).rev().find(|end| error.is_char_boundary(*end)).unwrap_or_default();
    let (queue, step) = (key.queue.as_str(), step.as_str());
    transaction
        .prepare_cached(
            "INSERT INTO attempt (queue, id, generation, step, number, at, error)
             SELECT ?1, ?2, ?3, ?4, 1 + coalesce((SELECT max(number) FROM attempt WHERE
                 queue = ?1 AND id = ?2 AND generation = ?3 AND step = ?4), 0), ?5, ?6
             FROM action WHERE queue = ?1 AND id = ?2 AND generation = ?3",
        )?
        .execute(params![queue, key.id.0, key.generation, step, to_millis(at), &error[..end]])?;
    transaction
        .prepare_cached(
            "DELETE FROM attempt WHERE queue = ?1 AND id = ?2 AND generation = ?3 AND step = ?4
                 AND number > ?5 AND number <= (SELECT max(number) FROM attempt WHERE
                 queue = ?1 AND id = ?2 AND generation = ?3 AND step = ?4) - ?6",
        )?
        .execute(params![queue, key.id.0, key.generation, step, FIRST, LAST])
}

/// Forgets the attempts of an action that is forgotten.
pub(super) fn forget(transaction: &Transaction<'_>, key: ActionKey) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM attempt WHERE queue = ?1 AND id = ?2 AND generation = ?3")?
        .execute(params![key.queue.as_str(), key.id.0, key.generation])
        .map(drop)
}

impl View {
    /// What the notes tell about an action.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn story(&self, key: ActionKey) -> Result<Story, LedgerError> {
        story(&self.connection, key).map_err(|error| self.failed(error))
    }

    /// The last attempt at a step that went wrong; its number says how many there were.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn last_attempt(&self, key: ActionKey, step: Step) -> Result<Option<Attempt>, LedgerError> {
        let read = || Ok(attempts(&self.connection, key)?.into_iter().rfind(|attempt| attempt.step == step));
        read().map_err(|error| self.failed(error))
    }
}

fn story(connection: &Connection, key: ActionKey) -> rusqlite::Result<Story> {
    let story = connection
        .query_row(
            "SELECT acknowledged_at, acknowledged_by, rule, runs_as, launcher, of_group, user_usec, system_usec,
                    memory_peak, read_bytes, written_bytes, oom_kills
             FROM action WHERE queue = ?1 AND id = ?2 AND generation = ?3",
            params![key.queue.as_str(), key.id.0, key.generation],
            |row| {
                let acknowledged = match row.get::<_, Option<i64>>(0)? {
                    Some(at) => Some((from_millis(at), parsed(row, 1, Acknowledged::from_name)?)),
                    None => None,
                };
                let number = |column: usize| {
                    row.get::<_, Option<i64>>(column).map(|number| number.and_then(|number| u64::try_from(number).ok()))
                };
                let usage = match row.get::<_, Option<bool>>(5)? {
                    Some(of_group) => Some(Usage {
                        of_group,
                        user_usec: number(6)?.unwrap_or_default(),
                        system_usec: number(7)?.unwrap_or_default(),
                        memory_peak: number(8)?,
                        read_bytes: number(9)?,
                        written_bytes: number(10)?,
                        oom_kills: number(11)?,
                    }),
                    None => None,
                };
                let (rule, user, launcher) = (row.get(2)?, row.get(3)?, row.get(4)?);
                Ok(Story { acknowledged, rule, user, launcher, usage, attempts: Vec::new() })
            },
        )
        .optional()?;
    Ok(Story { attempts: attempts(connection, key)?, ..story.unwrap_or_default() })
}

/// In the order of the steps of its life.
fn attempts(connection: &Connection, key: ActionKey) -> rusqlite::Result<Vec<Attempt>> {
    let mut query = connection.prepare_cached(
        "SELECT step, number, at, error FROM attempt WHERE queue = ?1 AND id = ?2 AND generation = ?3
         ORDER BY step = 'report', step = 'start', number",
    )?;
    let rows = query.query_map(params![key.queue.as_str(), key.id.0, key.generation], |row| {
        Ok(Attempt {
            step: parsed(row, 0, Step::from_name)?,
            number: row.get(1)?,
            at: from_millis(row.get(2)?),
            error: row.get(3)?,
        })
    })?;
    rows.collect()
}
