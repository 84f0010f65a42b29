//! Results on their way, while commands run: what is durable goes in, the one who posts takes it out, and what a
//! collector has accepted waits for the next commit.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use tokio::sync::Notify;

use super::Handler;
use super::report::Posting;
use crate::action::{ActionId, ActionKey, Queue};
use crate::error::Error;
use crate::ledger::Change;

/// So many results are taken out at once: what was accepted of them is recorded together.
const AT_ONCE: usize = 100;

/// Between the one who runs and the one who posts.
#[derive(Default)]
pub(super) struct Outbox {
    content: RefCell<Content>,
    changed: Notify,
}

#[derive(Default)]
struct Content {
    results: VecDeque<ActionKey>,
    posted: Vec<Change>,
    closed: bool,
}

impl Outbox {
    /// Posting begins, or goes on: with these results, and with what is put in later.
    pub(super) fn open(&self, results: Vec<ActionKey>) {
        *self.content.borrow_mut() = Content { results: results.into(), ..Content::default() };
        self.changed.notify_one();
    }

    /// This result is durable and may be posted, after those that are in already.
    pub(super) fn put(&self, key: ActionKey) {
        self.content.borrow_mut().results.push_back(key);
        self.changed.notify_one();
    }

    /// What was accepted since this was asked last.
    pub(super) fn take_posted(&self) -> Vec<Change> {
        std::mem::take(&mut self.content.borrow_mut().posted)
    }

    /// Nothing more is posted from here; what is still in is found in the ledger.
    pub(super) fn close(&self) {
        self.content.borrow_mut().closed = true;
        self.changed.notify_one();
    }

    /// The next results, which may go in one call. `None`: closed.
    async fn next(&self) -> Option<Vec<ActionKey>> {
        loop {
            {
                let mut content = self.content.borrow_mut();
                if content.closed {
                    return None;
                } else if !content.results.is_empty() {
                    let some = content.results.len().min(AT_ONCE);
                    return Some(content.results.drain(..some).collect());
                }
            }
            self.changed.notified().await;
        }
    }
}

impl Handler<'_> {
    /// Acknowledges what was fetched, and then posts what comes in until the outbox is closed, all beside the commands. No
    /// result comes before the acknowledgement of its row: that would undo it.
    pub(super) async fn post_from(
        &self,
        outbox: &Outbox,
        mut unacknowledged: BTreeMap<Queue, Vec<ActionId>>,
        posting: &mut Posting,
    ) -> Result<(), Error> {
        self.acknowledge(&mut unacknowledged).await?;
        while let Some(keys) = outbox.next().await {
            let posted = self.post_in(&keys, posting).await?;
            outbox.content.borrow_mut().posted.extend(posted);
        }
        Ok(())
    }
}
