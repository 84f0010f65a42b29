//! Recording an answer: every row is looked up, judged by the table in [`crate::action::admission`], and what is new in
//! it becomes durable with what is written next, in any case before the collector hears of it.

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::{Ledger, LedgerError, parsed, schema, to_millis};
use crate::action::admission::{Evidence, Fingerprint, Known, Older, Seen, State, Verdict, admit, is_same_action};
use crate::action::outcome::{Ended, Outcome};
use crate::action::time::Timestamp;
use crate::action::{ActionId, ActionKey, Batch, Queue, QueuedAction, RowStatus};

/// After a ledger was lost, rows that are sent again are not run for so long: a collector whose clock is in the wrong
/// zone sends them again only after up to 26 hours. They are not run in the first answer after that either.
const DOUBT_MILLIS: i64 = 26 * 60 * 60 * 1000;

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Admitted {
    /// Rows to acknowledge, in the order of the answer.
    pub acknowledge: Vec<ActionId>,
    /// Generations that were not known before and are to run, in the order of the answer.
    pub new: Vec<ActionKey>,
    /// Generations whose result has to be posted (again), those of one id in their order.
    pub report: Vec<ActionKey>,
    /// Generations whose result has to be posted once before the acknowledgement: a redo takes their place.
    pub report_first: Vec<ActionKey>,
}

impl Ledger {
    /// Records an answer. What is new in it is durable after the next [`Ledger::sync`], or the commit of the first start,
    /// and is not to be acknowledged before. Rows are looked at one by one, in their order, so a row that stands twice in
    /// one answer is one action.
    ///
    /// # Errors
    /// When it cannot be written; nothing of the answer is recorded then.
    pub fn receive(
        &mut self,
        queue: Queue,
        endpoint: &str,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Admitted, LedgerError> {
        self.ahead_of_sync(|connection| receive(connection, queue, endpoint, batch, now))
    }
}

fn receive(
    connection: &mut Connection,
    queue: Queue,
    endpoint: &str,
    batch: &Batch,
    now: Timestamp,
) -> rusqlite::Result<Admitted> {
    let lost = lost(connection, queue)?;
    if lost.is_none() && batch.actions.is_empty() && batch.malformed.is_empty() {
        return Ok(Admitted::default());
    }
    // Immediate: a cancellation that is committed between its first read and its first write would make it fail.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut answer =
        Answer { transaction: &transaction, queue, endpoint, now, lost: lost.is_some(), admitted: Admitted::default() };
    for row in &batch.actions {
        answer.admit(row, None)?;
    }
    for malformed in &batch.malformed {
        // It has an id and nothing that can be relied on: only its id says what it is.
        let row = QueuedAction {
            id: malformed.id,
            status: RowStatus::Other,
            command: String::new(),
            svc_id: String::new(),
            svcname: String::new(),
            queued_at: None,
            earlier_ret: None,
        };
        answer.admit(&row, Some(&malformed.reason))?;
    }
    let admitted = answer.admitted;
    if lost.is_some_and(|at| to_millis(now) - at > DOUBT_MILLIS) {
        transaction.execute("DELETE FROM lost WHERE queue = ?1", [queue.as_str()])?;
    }
    transaction.commit()?;
    Ok(admitted)
}

fn lost(connection: &Connection, queue: Queue) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT at FROM lost WHERE queue = ?1")?
        .query_row([queue.as_str()], |row| row.get(0))
        .optional()
}

/// An answer that is being recorded.
struct Answer<'a> {
    transaction: &'a Transaction<'a>,
    queue: Queue,
    endpoint: &'a str,
    now: Timestamp,
    /// What this queue's rows were was forgotten with a damaged ledger.
    lost: bool,
    admitted: Admitted,
}

/// The newest generation of a row, as far as it is known.
struct Newest {
    generation: u32,
    known: Known,
    same: bool,
    endpoint: Option<String>,
}

impl Answer<'_> {
    fn admit(&mut self, row: &QueuedAction, refused: Option<&str>) -> rusqlite::Result<()> {
        let evidence = Evidence::from(row);
        let newest = match self.newest(row.id, &evidence)? {
            Some(newest) => newest,
            None => self.tombstone(row.id, &evidence)?.unwrap_or(Newest {
                generation: 0,
                known: if self.lost { Known::Forgotten } else { Known::Nothing },
                same: true,
                endpoint: None,
            }),
        };
        let recorded = ActionKey { queue: self.queue, id: row.id, generation: newest.generation };
        let verdict = admit(Seen::new(self.queue, row, newest.same), newest.known);
        if newest.same && newest.endpoint.as_ref().is_some_and(|endpoint| endpoint != self.endpoint) {
            // Whoever hands the action out is its collector, at whatever address.
            self.moved(recorded)?;
        }
        match verdict {
            Verdict::Acknowledge => self.admitted.acknowledge.push(row.id),
            Verdict::Report => {
                let older = self.unreported(recorded)?;
                self.admitted.report.extend(older.into_iter().filter(|key| *key != recorded));
                self.admitted.report.push(recorded);
            }
            Verdict::Take(older) => {
                let key = ActionKey { generation: newest.generation + 1, ..recorded };
                match older {
                    Older::Superseded => self.supersede(row.id)?,
                    Older::ReportedFirst => self.admitted.report_first.extend(self.unreported(recorded)?),
                    Older::Complete | Older::GoesOn => {}
                }
                self.insert(key, row, refused, None)?;
                self.admitted.acknowledge.push(row.id);
                self.admitted.new.push(key);
            }
            Verdict::AnswerExpired => self.answer(recorded, row, "its result expired here")?,
            Verdict::AnswerForgotten => {
                let why = "the ledger of this node was lost, and whether it ran is not known";
                self.answer(ActionKey { generation: 1, ..recorded }, row, why)?;
            }
        }
        Ok(())
    }

    fn newest(&self, id: ActionId, row: &Evidence) -> rusqlite::Result<Option<Newest>> {
        self.transaction
            .prepare_cached(
                "SELECT generation, state, command, svc_id, queued_at, known, endpoint FROM action
                 WHERE queue = ?1 AND id = ?2 ORDER BY generation DESC LIMIT 1",
            )?
            .query_row(params![self.queue.as_str(), id.0], |found| {
                let evidence = Evidence { command: found.get(2)?, svc_id: found.get(3)?, queued_at: found.get(4)? };
                Ok(Newest {
                    generation: found.get(0)?,
                    known: Known::Generation(parsed(found, 1, State::from_name)?),
                    same: !found.get::<_, bool>(5)? || is_same_action(row, &evidence),
                    endpoint: Some(found.get(6)?),
                })
            })
            .optional()
    }

    fn tombstone(&self, id: ActionId, row: &Evidence) -> rusqlite::Result<Option<Newest>> {
        self.transaction
            .prepare_cached("SELECT generation, what, queued_at FROM tombstone WHERE queue = ?1 AND id = ?2")?
            .query_row(params![self.queue.as_str(), id.0], |found| {
                let fingerprint = Fingerprint { what: found.get(1)?, queued_at: found.get(2)? };
                Ok(Newest {
                    generation: found.get(0)?,
                    known: Known::Tombstone,
                    same: fingerprint.is_of(row),
                    endpoint: None,
                })
            })
            .optional()
    }

    fn moved(&self, key: ActionKey) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("UPDATE action SET endpoint = ?4 WHERE queue = ?1 AND id = ?2 AND generation = ?3")?
            .execute(params![key.queue.as_str(), key.id.0, key.generation, self.endpoint])
            .map(drop)
    }

    /// The generations up to this one whose results were not accepted yet, in their order.
    fn unreported(&self, newest: ActionKey) -> rusqlite::Result<Vec<ActionKey>> {
        let mut query = self.transaction.prepare_cached(
            "SELECT generation FROM action WHERE queue = ?1 AND id = ?2 AND state = 'finished' ORDER BY generation",
        )?;
        let generations = query.query_map(params![newest.queue.as_str(), newest.id.0], |row| row.get(0))?;
        generations.map(|generation| Ok(ActionKey { generation: generation?, ..newest })).collect()
    }

    /// No generation so far will run, and none of their results will be posted: the id means something else now. A
    /// command that runs already goes on.
    fn supersede(&self, id: ActionId) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(&format!(
                "UPDATE action SET superseded_at = ?3,
                     state = CASE state WHEN 'started' THEN state ELSE 'superseded' END,
                     reported_at = CASE state WHEN 'started' THEN NULL ELSE ?3 END
                 WHERE queue = ?1 AND id = ?2 AND {}",
                schema::OPEN
            ))?
            .execute(params![self.queue.as_str(), id.0, to_millis(self.now)])
            .map(drop)
    }

    /// Records an action that does not run, with the result that says why.
    fn answer(&mut self, key: ActionKey, row: &QueuedAction, why: &str) -> rusqlite::Result<()> {
        let ended = Ended::Interrupted(why.to_owned());
        let outcome = Outcome {
            ret: ended.ret(),
            stdout: String::new(),
            stderr: ended.reason().unwrap_or_default(),
            ended_at: self.now,
        };
        self.insert(key, row, None, Some(&outcome))?;
        self.admitted.report.push(key);
        Ok(())
    }

    fn insert(
        &self,
        key: ActionKey,
        row: &QueuedAction,
        refused: Option<&str>,
        outcome: Option<&Outcome>,
    ) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT INTO action (queue, id, generation, endpoint, state, command, svc_id, svcname, queued_at,
                                     reason, received_at, finished_at, ret, stdout, stderr)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            )?
            .execute(params![
                key.queue.as_str(),
                key.id.0,
                key.generation,
                self.endpoint,
                outcome.map_or(State::Received, |_| State::Finished).as_str(),
                row.command,
                row.svc_id,
                row.svcname,
                row.queued_at,
                refused,
                to_millis(self.now),
                outcome.map(|outcome| to_millis(outcome.ended_at)),
                outcome.map(|outcome| outcome.ret),
                outcome.map(|outcome| outcome.stdout.as_str()),
                outcome.map(|outcome| outcome.stderr.as_str()),
            ])
            .map(drop)
    }
}
