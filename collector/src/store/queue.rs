//! The queue as nodes and the notifier use it.

use rusqlite::params;

use super::{ACTION, Action, ActionType, Store, StoreError};
use crate::clock::Timestamp;

/// A row handed out stays away for this long after it was *queued*, not sent: the real servers' rule.
const RESEND_AFTER_SECONDS: i64 = 20;

/// A node's result, within the limits of its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which action.
    pub id: i64,
    /// Its exit status.
    pub ret: Option<i32>,
    /// Its output.
    pub stdout: Option<String>,
    /// Its errors.
    pub stderr: Option<String>,
    /// The date the node gave, or now; none for the zero date.
    pub dequeued: Option<Timestamp>,
}

/// A pull row to be notified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which action.
    pub id: i64,
    /// What it asks.
    pub command: String,
    /// Where to connect.
    pub connect_to: Option<String>,
    /// On which port.
    pub port: u16,
}

impl Store {
    /// Hands out a node's rows of one type and marks them sent, without regard to who else holds them.
    ///
    /// # Errors
    /// The database failed, or a feed row has a null column; nothing was handed out.
    pub fn fetch(&mut self, node_id: &str, kind: ActionType, now: Timestamp) -> Result<Vec<Action>, StoreError> {
        let tx = self.begin()?;
        let actions: Vec<Action> = tx
            .prepare_cached(&format!(
                "{ACTION} WHERE q.node_id = ?1 AND q.status IN ('W', 'N', 'S') AND q.action_type = ?2
                 AND (q.status <> 'S' OR q.date_queued < ?3) ORDER BY q.id"
            ))?
            .query_map(params![node_id, kind, now.minus_seconds(RESEND_AFTER_SECONDS)], Action::read)?
            .collect::<Result<_, _>>()?;
        if kind == ActionType::Feed {
            if let Some(poison) = actions.iter().find(|action| action.svc_id.is_none()) {
                return Err(StoreError::NullColumn(poison.id));
            }
        }
        for action in &actions {
            tx.prepare_cached("UPDATE action_queue SET status = 'S', sent_at = ?2 WHERE id = ?1")?
                .execute(params![action.id, now])?;
        }
        tx.commit()?;
        Ok(actions)
    }

    /// Hands out a node's pull rows and marks them running at once, as collectors of before 2021 do: an answer that is
    /// lost takes its rows with it. What another call has sent is not handed out.
    ///
    /// # Errors
    /// The database failed; nothing was handed out.
    pub fn fetch_as_running(&mut self, node_id: &str, now: Timestamp) -> Result<Vec<Action>, StoreError> {
        let tx = self.begin()?;
        let actions: Vec<Action> = tx
            .prepare_cached(&format!(
                "{ACTION} WHERE q.node_id = ?1 AND q.status IN ('W', 'N') AND q.action_type = 'pull' ORDER BY q.id"
            ))?
            .query_map([node_id], Action::read)?
            .collect::<Result<_, _>>()?;
        for action in &actions {
            tx.prepare_cached("UPDATE action_queue SET status = 'R', sent_at = ?2, received_at = ?2 WHERE id = ?1")?
                .execute(params![action.id, now])?;
        }
        tx.commit()?;
        Ok(actions)
    }

    /// Marks rows of a cluster running, whatever they were; the dequeue date stays. Others are ignored.
    ///
    /// # Errors
    /// The database failed.
    pub fn running_in_cluster(&mut self, cluster: &str, ids: &[i64], now: Timestamp) -> Result<(), StoreError> {
        let tx = self.begin()?;
        for id in ids {
            tx.prepare_cached(
                "UPDATE action_queue SET status = 'R', received_at = ?3
                 WHERE id = ?1 AND node_id IN (SELECT node_id FROM nodes WHERE cluster = ?2)",
            )?
            .execute(params![id, cluster, now])?;
        }
        tx.commit()?;
        Ok(())
    }

    /// Marks a node's own rows running, dequeued now, whatever they were. Others are ignored.
    ///
    /// # Errors
    /// The database failed.
    pub fn received(&mut self, node_id: &str, ids: &[i64], now: Timestamp) -> Result<(), StoreError> {
        let tx = self.begin()?;
        for id in ids {
            tx.prepare_cached(
                "UPDATE action_queue SET status = 'R', received_at = ?3, date_dequeued = ?3
                 WHERE id = ?1 AND node_id = ?2",
            )?
            .execute(params![id, node_id, now])?;
        }
        tx.commit()?;
        Ok(())
    }

    /// Tells whether a row is this node's.
    ///
    /// # Errors
    /// The database failed.
    pub fn owns(&self, node_id: &str, id: i64) -> Result<bool, StoreError> {
        let mut query = self.db.prepare_cached("SELECT 1 FROM action_queue WHERE id = ?1 AND node_id = ?2")?;
        Ok(query.exists(params![id, node_id])?)
    }

    /// Stores results of a node's own rows, whatever they were; the last one wins. Others are ignored.
    ///
    /// # Errors
    /// The database failed.
    pub fn report(&mut self, node_id: &str, reports: &[Report], now: Timestamp) -> Result<(), StoreError> {
        let tx = self.begin()?;
        for report in reports {
            tx.prepare_cached(
                "UPDATE action_queue SET status = 'T', ret = ?3, stdout = ?4, stderr = ?5, date_dequeued = ?6,
                 reported_at = ?7 WHERE id = ?1 AND node_id = ?2",
            )?
            .execute(params![
                report.id,
                node_id,
                report.ret,
                report.stdout,
                report.stderr,
                report.dequeued,
                now
            ])?;
        }
        tx.commit()?;
        Ok(())
    }

    /// The pull rows that wait for a notification, the oldest first, so many at most.
    ///
    /// # Errors
    /// The database failed.
    pub fn waiting(&self, limit: u8) -> Result<Vec<Waiting>, StoreError> {
        let mut query = self.db.prepare_cached(
            "SELECT q.id, q.command, q.connect_to, n.port FROM action_queue q JOIN nodes n ON n.node_id = q.node_id
             WHERE q.status = 'W' AND q.action_type = 'pull' ORDER BY q.id LIMIT ?1",
        )?;
        let rows = query.query_map([limit], |row| {
            Ok(Waiting { id: row.get(0)?, command: row.get(1)?, connect_to: row.get(2)?, port: row.get(3)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Records that the node was notified, unless it was faster.
    ///
    /// # Errors
    /// The database failed.
    pub fn notified(&mut self, id: i64, now: Timestamp) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE action_queue SET notified_at = ?2, status = CASE status WHEN 'W' THEN 'N' ELSE status END
                 WHERE id = ?1",
            )?
            .execute(params![id, now])?;
        Ok(())
    }

    /// Ends a row that cannot be notified: `T`, ret 1, and the reason as its errors. As on the real servers whatever the
    /// row became meanwhile is overwritten.
    ///
    /// # Errors
    /// The database failed.
    pub fn give_up(&mut self, id: i64, reason: &str, now: Timestamp) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE action_queue SET status = 'T', ret = 1, stdout = '', stderr = ?2, date_dequeued = ?3
                 WHERE id = ?1",
            )?
            .execute(params![id, reason, now])?;
        Ok(())
    }
}
