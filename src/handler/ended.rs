//! What becomes of an action whose command has ended, or could not be started.

use std::time::Duration;

use super::report::OURS;
use super::run::{Pending, Ran, said_finished, without_output};
use super::{Handler, timestamp};
use crate::action::outcome::{Ended, Outcome};
use crate::action::usage::Usage;
use crate::executor::launch::Told;
use crate::executor::record::Record as EndRecord;
use crate::ledger::story::{Note, Step};
use crate::ledger::{Change, Record};

/// How often an action whose command cannot be started is tried before that is its result.
const START_TRIES: u32 = 3;

impl Handler<'_> {
    /// What a record says.
    pub(super) fn ended(&self, record: &Record, end: EndRecord, told: Option<Told>) -> Ran {
        match self.outcome(record, end) {
            Ok(outcome) => Ran::Ended(outcome, told),
            Err(not_started) => {
                self.tell(told);
                Ran::NotStarted(not_started)
            }
        }
    }

    /// The result that a record tells, which is said; or why the command could not be started.
    pub(super) fn outcome(&self, record: &Record, end: EndRecord) -> Result<Outcome, String> {
        let EndRecord { ended, not_started, stdout, stderr, ended_at, duration_usec, usage } = end;
        let Some(ended) = ended else { return Err(not_started.unwrap_or_default()) };
        let mut reason = ended.reason();
        if let Some(remark) = usage.as_ref().and_then(Usage::lack_of_memory) {
            reason = Some(reason.map_or_else(|| format!("{OURS}{remark}"), |reason| format!("{reason}; {remark}")));
        }
        said_finished(record, ended.ret(), reason.as_deref(), Duration::from_micros(duration_usec));
        if let Some(usage) = usage {
            self.note(Note::Used(record.key, usage));
        }
        Ok(Outcome { ret: ended.ret(), stdout, stderr, ended_at })
    }

    /// Notes that a command could not be started. `Some`, with the reason: the action waits for a better moment.
    pub(super) fn note_not_started(
        &self,
        record: &Record,
        reason: String,
        pending: &mut Pending<'_>,
    ) -> Option<String> {
        let key = record.key;
        self.note(Note::Failed(key, Step::Start, timestamp(), reason.clone()));
        if record.tries + 1 < START_TRIES {
            pending.changes.push(Change::NotStarted(key));
            return Some(reason);
        }
        let ended = Ended::NotExecutable(reason);
        said_finished(record, ended.ret(), ended.reason().as_deref(), Duration::ZERO);
        pending.changes.push(Change::Finished(key, without_output(&ended)));
        None
    }
}
