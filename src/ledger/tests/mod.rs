mod damage;
mod log;
mod model;
mod rows;
mod story;

use std::path::Path;

use crate::action::outcome::Outcome;
use crate::action::time::Timestamp;
use crate::action::{ActionId, ActionKey, Batch, Queue, QueuedAction, RowStatus};
use crate::ledger::{Change, Ledger};

const HERE: &str = "https://c/feeder";

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

fn open(state: &Path) -> Ledger {
    Ledger::open(state, at(0), || Ok(Vec::new())).unwrap()
}

fn key(id: i64, generation: u32) -> ActionKey {
    ActionKey { queue: Queue::Rpc, id: ActionId(id), generation }
}

fn row(id: i64, status: RowStatus) -> QueuedAction {
    QueuedAction {
        id: ActionId(id),
        status,
        command: format!("do {id}"),
        svc_id: String::new(),
        svcname: String::new(),
        queued_at: Some("2026-11-21T08:50:03".to_owned()),
        earlier_ret: None,
    }
}

fn answer(rows: impl IntoIterator<Item = QueuedAction>) -> Batch {
    Batch { actions: rows.into_iter().collect(), ..Batch::default() }
}

fn outcome(ret: i32) -> Outcome {
    Outcome { ret, stdout: format!("{ret}\n"), stderr: String::new(), ended_at: at(20) }
}

/// Takes an action as far as its result.
fn finish(ledger: &mut Ledger, key: ActionKey, ret: i32) {
    assert_eq!(ledger.commit(&[Change::Started(key, at(10), "boot".to_owned())]).unwrap(), []);
    ledger.commit(&[Change::Finished(key, outcome(ret))]).unwrap();
}
