//! The queue as the operator uses it.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{ACTION, Action, Status, Store, StoreError, TEXT_MAX};
use crate::clock::Timestamp;
use crate::state::random_uuid;

fn check_text(what: &str, text: &str) -> Result<(), StoreError> {
    let problem = if text.contains('\0') {
        "holds a NUL character"
    } else if text.chars().any(|c| c.len_utf8() == 4) {
        "holds a character beyond U+FFFF, which the queue's columns cannot store"
    } else if text.len() > TEXT_MAX {
        "is longer than 65535 bytes"
    } else {
        return Ok(());
    };
    Err(StoreError::Invalid(format!("the {what} {problem}")))
}

fn get(tx: &Transaction<'_>, id: i64) -> Result<Action, StoreError> {
    let action = tx.prepare_cached(&format!("{ACTION} WHERE q.id = ?1"))?.query_row([id], Action::read).optional()?;
    action.ok_or(StoreError::NoAction(id))
}

impl Store {
    /// Queues an action for a node, to be delivered as the node is at this moment.
    ///
    /// # Errors
    /// The node is unknown, a text cannot be stored, or the database failed.
    pub fn enqueue(
        &mut self,
        node: &str,
        service: Option<&str>,
        command: &str,
        now: Timestamp,
    ) -> Result<Action, StoreError> {
        check_text("command", command)?;
        let svc_id = random_uuid()?;
        let tx = self.begin()?;
        let svc_id: String = match service {
            None => String::new(),
            Some(service) => {
                check_text("service name", service)?;
                if service.trim().is_empty() {
                    return Err(StoreError::Invalid("the service name is empty".to_owned()));
                }
                tx.execute(
                    "INSERT INTO services VALUES (?1, ?2) ON CONFLICT (svcname) DO NOTHING",
                    [&*svc_id, service],
                )?;
                tx.query_row("SELECT svc_id FROM services WHERE svcname = ?1", [service], |row| row.get(0))?
            }
        };
        let inserted = tx
            .prepare_cached(
                "INSERT INTO action_queue (node_id, svc_id, action_type, connect_to, command, date_queued)
                 SELECT node_id, ?2, action_type, ifnull(connect_to, nodename), ?3, ?4 FROM nodes WHERE nodename = ?1",
            )?
            .execute(params![node, svc_id, command, now])?;
        if inserted == 0 {
            return Err(StoreError::NoNode(node.to_owned()));
        }
        let action = get(&tx, tx.last_insert_rowid())?;
        tx.commit()?;
        Ok(action)
    }

    /// The rows of the queue, oldest first, of one node or in one status if asked.
    ///
    /// # Errors
    /// The node is unknown, or the database failed.
    pub fn list(&self, node: Option<&str>, status: Option<Status>) -> Result<Vec<Action>, StoreError> {
        if let Some(node) = node {
            if !self.db.prepare_cached("SELECT 1 FROM nodes WHERE nodename = ?1")?.exists([node])? {
                return Err(StoreError::NoNode(node.to_owned()));
            }
        }
        let mut query = self.db.prepare_cached(&format!(
            "{ACTION} WHERE (?1 IS NULL OR n.nodename = ?1) AND (?2 IS NULL OR q.status = ?2) ORDER BY q.id"
        ))?;
        let actions = query.query_map(params![node, status], Action::read)?.collect::<Result<_, _>>()?;
        Ok(actions)
    }

    /// One row.
    ///
    /// # Errors
    /// There is none, or the database failed.
    pub fn action(&mut self, id: i64) -> Result<Action, StoreError> {
        get(&self.begin()?, id)
    }

    /// Queues a row again. The queue date and the last result stay, as on the real servers; our own record of what
    /// happened since it was queued starts anew.
    ///
    /// # Errors
    /// It is waiting or running, there is none, or the database failed.
    pub fn redo(&mut self, id: i64) -> Result<Action, StoreError> {
        let tx = self.begin()?;
        let status = get(&tx, id)?.status;
        if matches!(status, Status::W | Status::R) {
            return Err(StoreError::Refused { id, status: status.word(), wanted: "redone" });
        }
        tx.execute(
            "UPDATE action_queue SET status = 'W', date_dequeued = NULL, notified_at = NULL, sent_at = NULL,
             received_at = NULL, reported_at = NULL WHERE id = ?1",
            [id],
        )?;
        let action = get(&tx, id)?;
        tx.commit()?;
        Ok(action)
    }

    /// Cancels a row. A node that already holds it still runs it, and its report then replaces the `C`.
    ///
    /// # Errors
    /// It is terminated, there is none, or the database failed.
    pub fn cancel(&mut self, id: i64) -> Result<Action, StoreError> {
        let tx = self.begin()?;
        let status = get(&tx, id)?.status;
        if status == Status::T {
            return Err(StoreError::Refused { id, status: status.word(), wanted: "cancelled" });
        }
        tx.execute("UPDATE action_queue SET status = 'C' WHERE id = ?1", [id])?;
        let action = get(&tx, id)?;
        tx.commit()?;
        Ok(action)
    }
}
