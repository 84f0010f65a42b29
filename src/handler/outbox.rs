//! Results on their way, while commands run: what is durable goes in, the one who posts takes it out, and what a
//! collector has accepted waits for the next commit.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use tokio::sync::Notify;

use super::Handler;
use super::report::Posting;
use crate::action::time::Timestamp;
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
    on_the_way: Rc<OnTheWay>,
}

/// Results that are being posted at this moment, for a fetch that goes on beside.
#[derive(Debug, Default)]
pub(super) struct OnTheWay {
    keys: RefCell<Vec<ActionKey>>,
    /// Those that were accepted since that fetch began, and when.
    accepted: RefCell<Vec<(ActionKey, Timestamp)>>,
    changed: Notify,
}

impl OnTheWay {
    fn set(&self, keys: Vec<ActionKey>) {
        *self.keys.borrow_mut() = keys;
        self.changed.notify_waiters();
    }

    fn holds(&self, key: &ActionKey) -> bool {
        self.keys.borrow().contains(key)
    }

    /// Waits until none of these is, and gives those that were accepted.
    pub(super) async fn passed(&self, keys: &[ActionKey]) -> Vec<(ActionKey, Timestamp)> {
        while keys.iter().any(|key| self.holds(key)) {
            self.changed.notified().await;
        }
        self.accepted.borrow().iter().copied().filter(|(key, _)| keys.contains(key)).collect()
    }
}

#[derive(Default)]
struct Content {
    results: VecDeque<ActionKey>,
    posted: Vec<Change>,
    /// Queues that did not answer may be back.
    afresh: bool,
    closed: bool,
}

impl Outbox {
    /// Posting begins: with these results, and with what is put in later.
    pub(super) fn open(&self, results: Vec<ActionKey>) {
        *self.content.borrow_mut() = Content { results: results.into(), ..Content::default() };
        self.changed.notify_one();
    }

    /// Somebody has knocked: all of these results are tried again, but for those that are being posted.
    pub(super) fn renew(&self, mut results: Vec<ActionKey>) {
        let mut content = self.content.borrow_mut();
        results.retain(|key| !self.on_the_way.holds(key));
        (content.results, content.afresh) = (results.into(), true);
        self.changed.notify_one();
    }

    /// This result is durable and may be posted, after those that are in already.
    pub(super) fn put(&self, key: ActionKey) {
        self.content.borrow_mut().results.push_back(key);
        self.changed.notify_one();
    }

    /// What is being posted, for a fetch that must not overtake it.
    pub(super) fn on_the_way(&self) -> Rc<OnTheWay> {
        self.on_the_way.accepted.borrow_mut().clear();
        Rc::clone(&self.on_the_way)
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
                    let some: Vec<_> = content.results.drain(..some).collect();
                    self.on_the_way.set(some.clone());
                    return Some(some);
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
            if std::mem::take(&mut outbox.content.borrow_mut().afresh) {
                posting.unreachable.clear();
            }
            let posted = self.post_in(&keys, posting).await?;
            if Rc::strong_count(&outbox.on_the_way) > 1 {
                let accepted = posted.iter().filter_map(Change::reported);
                outbox.on_the_way.accepted.borrow_mut().extend(accepted);
            }
            outbox.content.borrow_mut().posted.extend(posted);
            outbox.on_the_way.set(Vec::new());
        }
        Ok(())
    }
}
