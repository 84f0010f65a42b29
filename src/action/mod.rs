//! The domain: what an action is and what is decided about it. Pure: no clock, no file, no socket.

pub mod admission;
pub mod argv;
pub mod civil;
pub mod evidence;
pub mod external;
pub mod glob;
pub mod lanes;
pub mod limits;
pub mod name;
pub mod outcome;
pub mod output;
pub mod policy;
pub mod redact;
pub mod retry;
pub mod schedule;
pub mod state;
pub mod time;
pub mod unit;
pub mod usage;
pub mod words;

use std::fmt;
use std::str::FromStr;

/// A queue at a collector, named after the dialect that is spoken to it. It is the first part of an [`ActionKey`], so
/// its spelling is part of the ledger's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// Feed rows of collector 3, over REST.
    Oc3,
    /// Pull rows of a 1.x/2.x collector, over XML-RPC or JSON-RPC 2.
    Rpc,
}

impl Queue {
    /// Every queue, in the order in which they are fetched.
    pub const ALL: [Self; 2] = [Self::Oc3, Self::Rpc];

    /// The name used in settings, in the ledger and by people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Oc3 => "oc3",
            Self::Rpc => "rpc",
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Queue {
    type Err = UnknownQueue;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|queue| queue.as_str() == s).ok_or_else(|| UnknownQueue(s.to_owned()))
    }
}

/// A queue name that is none of [`Queue::ALL`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown queue {0:?}, expected \"oc3\" or \"rpc\"")]
pub struct UnknownQueue(String);

/// The collector's row id. Opaque: compared and printed, never computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionId(pub i64);

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one run of one row: a redo of the same id is a new generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionKey {
    /// The queue that the row came from.
    pub queue: Queue,
    /// Its id there.
    pub id: ActionId,
    /// 1 for the first run of the row.
    pub generation: u32,
}

impl fmt::Display for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}.{}", self.queue, self.id, self.generation)
    }
}

/// The status of a row at the collector *before* the fetch that brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowStatus {
    /// `W`: never handed out since it was queued or redone.
    Waiting,
    /// `N`: as waiting, and the node was notified.
    Notified,
    /// `S`: handed out before and not yet acknowledged.
    Sent,
    /// Any other letter, a missing or an odd one: treated like [`RowStatus::Sent`].
    Other,
}

impl RowStatus {
    /// Reads the collector's letter.
    #[must_use]
    pub fn from_letter(letter: &str) -> Self {
        match letter {
            "W" => Self::Waiting,
            "N" => Self::Notified,
            "S" => Self::Sent,
            _ => Self::Other,
        }
    }
}

/// One row of an answer, as a dialect decoded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedAction {
    /// Its id at the collector.
    pub id: ActionId,
    /// Its status before this fetch.
    pub status: RowStatus,
    /// The words after `om node` or `om svc -s NAME`, not yet split; may be empty.
    pub command: String,
    /// The service's id at the collector; empty for a node action.
    pub svc_id: String,
    /// The service's name; empty for a node action, and when the collector does not know the service any more.
    pub svcname: String,
    /// When it was queued: the collector's text, opaque, in its own zone; absent when null or zero.
    pub queued_at: Option<String>,
    /// The result that the row still carries from an earlier run (`rpc` only).
    pub earlier_ret: Option<i64>,
}

impl QueuedAction {
    /// Whether the end of this boot is what the action is for: a node's `reboot` or `shutdown`. Nobody sees such a
    /// command end; that the machine has booted since is its success.
    #[must_use]
    pub fn ends_boot(&self) -> bool {
        let is_about_the_node = self.svc_id.is_empty() && self.svcname.is_empty();
        is_about_the_node
            && words::split(&self.command)
                .is_ok_and(|words| words.first().is_some_and(|word| matches!(word.as_str(), "reboot" | "shutdown")))
    }
}

/// A row that has a usable id and nothing else that can be executed: it is reported as refused and blocks nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedRow {
    /// Its id at the collector.
    pub id: ActionId,
    /// What is wrong with it, in words.
    pub reason: String,
}

/// One answer to a fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The rows that can be worked on, in the order of the answer.
    pub actions: Vec<QueuedAction>,
    /// The rows that only a refusal can answer.
    pub malformed: Vec<MalformedRow>,
    /// Rows without a usable id, in words: nothing can be reported about them.
    pub unusable: Vec<String>,
}
