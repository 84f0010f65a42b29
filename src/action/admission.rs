//! What a row of an answer means, given what the ledger holds about its id: a table, and nothing but a table.
//!
//! The collectors send rows again that they have sent before (`S`, from 20 seconds after queueing on, in every answer,
//! until they are acknowledged), and an operator may *redo* a row: same id, `W` or `N` again. So an id alone says
//! nothing; the row's status before the fetch and our own record together do.

use super::{Queue, QueuedAction, RowStatus};

pub use super::evidence::{Evidence, Fingerprint, is_same_action};
pub use super::state::State;

/// A row, as far as the table looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// It waits: it was queued or redone, and not handed out since.
    pub anew: bool,
    /// It cannot be a redo: it carries no result, and a redo leaves the result of the earlier run where it is. Only the
    /// `rpc` dialect can tell.
    pub blank: bool,
    /// It is the action that is recorded under its id (see [`is_same_action`]); not looked at where nothing is.
    pub same: bool,
}

impl Seen {
    /// What the table looks at in a row.
    #[must_use]
    pub const fn new(queue: Queue, row: &QueuedAction, same: bool) -> Self {
        let anew = matches!(row.status, RowStatus::Waiting | RowStatus::Notified);
        Self { anew, blank: matches!(queue, Queue::Rpc) && row.earlier_ret.is_none(), same }
    }
}

/// What is known here about a row's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    Nothing,
    /// Nothing, but much was forgotten not long ago: the ledger was lost.
    Forgotten,
    /// Its newest generation stands here.
    Generation(State),
    /// That there was one, and no more: its result is no longer kept.
    Tombstone,
}

/// What to do with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Record it as the first or the next generation, acknowledge it, run it.
    Take(Older),
    /// We hold it: acknowledge it again, and go on.
    Acknowledge,
    /// Its result is here: post it again. Do not run it.
    Report,
    /// Do not run it: the answer is that its result is no longer kept here.
    AnswerExpired,
    /// Do not run it: the answer is that nobody knows here whether it ran.
    AnswerForgotten,
}

/// What becomes of the generation before a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Older {
    /// There is none, or it is complete: nothing.
    Complete,
    /// Its result is posted once, before the new generation is acknowledged.
    ReportedFirst,
    /// It goes on and is reported as its own generation.
    GoesOn,
    /// The id was given to another action: it does not run if it has not started, and its result must not be posted
    /// onto the new row.
    Superseded,
}

/// The table.
#[must_use]
pub const fn admit(row: Seen, known: Known) -> Verdict {
    use State::{Expired, Finished, Received, Reported, Started, Superseded};
    let state = match known {
        Known::Forgotten if !row.anew => return Verdict::AnswerForgotten,
        Known::Tombstone if row.same && !row.anew => return Verdict::AnswerExpired,
        Known::Nothing | Known::Forgotten | Known::Tombstone => return Verdict::Take(Older::Complete),
        Known::Generation(state) => state,
    };
    match (state, row.same, row.anew) {
        // The collector's database was restored from a time before our result.
        (Reported, true, true) if row.blank => Verdict::Report,
        (Reported | Superseded | Expired, true, true) | (Reported | Superseded | Expired, false, _) => {
            Verdict::Take(Older::Complete)
        }
        (Received | Started | Finished, false, _) => Verdict::Take(Older::Superseded),
        (Received, true, _) | (Started, true, false) => Verdict::Acknowledge,
        (Started, true, true) => Verdict::Take(Older::GoesOn),
        (Finished, true, true) => Verdict::Take(Older::ReportedFirst),
        (Finished | Reported | Superseded | Expired, true, false) => Verdict::Report,
    }
}

#[cfg(test)]
mod tests {
    use super::Known::{Forgotten, Generation, Nothing, Tombstone};
    use super::Older::{Complete, GoesOn, ReportedFirst};
    use super::State::{Expired, Finished, Received, Reported, Started, Superseded};
    use super::Verdict::{Acknowledge, AnswerExpired, AnswerForgotten, Report, Take};
    use super::*;

    /// W or N, equal, with a result of an earlier run or in a dialect that cannot tell.
    const AGAIN: Seen = Seen { anew: true, blank: false, same: true };
    /// W or N, equal, without any result.
    const BLANK: Seen = Seen { blank: true, ..AGAIN };
    /// S or any other letter, equal.
    const SENT: Seen = Seen { anew: false, ..AGAIN };
    const SENT_BLANK: Seen = Seen { blank: true, ..SENT };

    fn different() -> [Seen; 4] {
        [AGAIN, BLANK, SENT, SENT_BLANK].map(|row| Seen { same: false, ..row })
    }

    /// One test for each cell of the table.
    macro_rules! cells {
        ($($name:ident: $rows:expr, $known:expr => $verdict:expr;)+) => {$(
            #[test]
            fn $name() {
                for row in $rows {
                    assert_eq!(admit(row, $known), $verdict, "{row:?}");
                }
            }
        )+};
    }

    cells! {
        anew_unknown: [AGAIN, BLANK], Nothing => Take(Complete);
        anew_forgotten: [AGAIN, BLANK], Forgotten => Take(Complete);
        anew_received: [AGAIN, BLANK], Generation(Received) => Acknowledge;
        anew_started: [AGAIN, BLANK], Generation(Started) => Take(GoesOn);
        anew_finished: [AGAIN, BLANK], Generation(Finished) => Take(ReportedFirst);
        anew_reported_is_a_redo: [AGAIN], Generation(Reported) => Take(Complete);
        anew_reported_and_blank_is_a_restored_database: [BLANK], Generation(Reported) => Report;
        anew_superseded: [AGAIN, BLANK], Generation(Superseded) => Take(Complete);
        anew_expired: [AGAIN, BLANK], Generation(Expired) => Take(Complete);
        anew_tombstone: [AGAIN, BLANK], Tombstone => Take(Complete);

        sent_unknown: [SENT, SENT_BLANK], Nothing => Take(Complete);
        sent_forgotten: [SENT, SENT_BLANK], Forgotten => AnswerForgotten;
        sent_received: [SENT, SENT_BLANK], Generation(Received) => Acknowledge;
        sent_started: [SENT, SENT_BLANK], Generation(Started) => Acknowledge;
        sent_finished: [SENT, SENT_BLANK], Generation(Finished) => Report;
        sent_reported: [SENT, SENT_BLANK], Generation(Reported) => Report;
        sent_superseded: [SENT, SENT_BLANK], Generation(Superseded) => Report;
        sent_expired: [SENT, SENT_BLANK], Generation(Expired) => Report;
        sent_tombstone: [SENT, SENT_BLANK], Tombstone => AnswerExpired;

        different_received: different(), Generation(Received) => Take(Older::Superseded);
        different_started: different(), Generation(Started) => Take(Older::Superseded);
        different_finished: different(), Generation(Finished) => Take(Older::Superseded);
        different_reported: different(), Generation(Reported) => Take(Complete);
        different_superseded: different(), Generation(Superseded) => Take(Complete);
        different_expired: different(), Generation(Expired) => Take(Complete);
        different_tombstone: different(), Tombstone => Take(Complete);
    }

    #[test]
    fn only_w_and_n_are_anew_and_only_rpc_is_blank() {
        let row = |status, earlier_ret| QueuedAction {
            id: crate::action::ActionId(1),
            status,
            command: String::new(),
            svc_id: String::new(),
            svcname: String::new(),
            queued_at: None,
            earlier_ret,
        };
        for status in [RowStatus::Waiting, RowStatus::Notified] {
            assert_eq!(Seen::new(Queue::Rpc, &row(status, None), true), BLANK);
            assert_eq!(Seen::new(Queue::Rpc, &row(status, Some(0)), true), AGAIN);
            assert_eq!(Seen::new(Queue::Oc3, &row(status, None), true), AGAIN);
        }
        for status in [RowStatus::Sent, RowStatus::Other] {
            assert_eq!(Seen::new(Queue::Rpc, &row(status, None), true), SENT_BLANK);
            assert_eq!(Seen::new(Queue::Oc3, &row(status, None), true), SENT);
        }
    }
}
