//! What a row of an answer means, given what the ledger holds about its id: a table, and nothing but a table.
//!
//! The collectors send rows again that they have sent before (`S`, from 20 seconds after queueing on, in every answer,
//! until they are acknowledged), and an operator may *redo* a row: same id, `W` or `N` again. So an id alone says
//! nothing; the row's status before the fetch and our own record together do.

use crate::action::{QueuedAction, RowStatus};

/// Where the newest generation of an action stands, as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Recorded here; its command has not started.
    Received,
    /// Its command was about to start, or has.
    Started,
    /// It has a result; the collector has not accepted it yet.
    Finished,
    /// The collector accepted its result, or a newer generation took its place.
    Reported,
}

impl State {
    /// The spelling in the ledger.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Started => "started",
            Self::Finished => "finished",
            Self::Reported => "reported",
        }
    }

    /// The reverse of [`Self::as_str`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Received, Self::Started, Self::Finished, Self::Reported].into_iter().find(|state| state.as_str() == name)
    }
}

/// What to do with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Record it as generation 1, acknowledge it, run it.
    Take,
    /// We hold it: acknowledge it again, and go on.
    Acknowledge,
    /// Its result is here: post it again. Do not run it.
    Report,
    /// Record it as the next generation, acknowledge it, run it.
    NewGeneration(Older),
}

/// What becomes of the generation before a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Older {
    /// It is complete; nothing.
    Complete,
    /// Its result is posted once, before the new generation is acknowledged.
    ReportedFirst,
    /// It goes on and is reported as its own generation.
    GoesOn,
    /// The id was given to another action: it is dropped, and its result must not be posted onto the new row.
    Superseded,
}

/// The table.
///
/// `same` says whether the row is the recorded action (see [`is_same_action`]); it is not looked at where nothing is
/// recorded.
#[must_use]
pub const fn admit(status: RowStatus, same: bool, recorded: Option<State>) -> Verdict {
    let queued_anew = matches!(status, RowStatus::Waiting | RowStatus::Notified);
    match (recorded, same, queued_anew) {
        (None, _, _) => Verdict::Take,
        (Some(State::Reported), false, _) | (Some(State::Reported), true, true) => {
            Verdict::NewGeneration(Older::Complete)
        }
        (Some(_), false, _) => Verdict::NewGeneration(Older::Superseded),
        (Some(State::Received), true, _) | (Some(State::Started), true, false) => Verdict::Acknowledge,
        (Some(State::Started), true, true) => Verdict::NewGeneration(Older::GoesOn),
        (Some(State::Finished), true, true) => Verdict::NewGeneration(Older::ReportedFirst),
        (Some(State::Finished | State::Reported), true, false) => Verdict::Report,
    }
}

/// What identifies an action beside its id, as the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The command text.
    pub command: String,
    /// The service's id.
    pub svc_id: String,
    /// The queue date, opaque.
    pub queued_at: Option<String>,
}

impl From<&QueuedAction> for Evidence {
    fn from(row: &QueuedAction) -> Self {
        Self { command: row.command.clone(), svc_id: row.svc_id.clone(), queued_at: row.queued_at.clone() }
    }
}

/// Whether a row is the action that was recorded: command and service are equal, and the queue dates can be the same
/// moment. A collector that changes its time zone shifts its dates by whole quarters of an hour, up to 26 hours; a
/// missing date matches any.
#[must_use]
pub fn is_same_action(row: &Evidence, recorded: &Evidence) -> bool {
    const QUARTER: i64 = 15 * 60;
    const FURTHEST: i64 = 26 * 60 * 60;
    if row.command != recorded.command || row.svc_id != recorded.svc_id {
        return false;
    }
    let (Some(row), Some(recorded)) = (&row.queued_at, &recorded.queued_at) else { return true };
    if row == recorded {
        return true;
    }
    match (wall_clock(row), wall_clock(recorded)) {
        (Some(a), Some(b)) => (a - b) % QUARTER == 0 && (a - b).abs() <= FURTHEST,
        _ => false,
    }
}

/// The seconds that a date's wall clock shows, its offset and fraction dropped: `2026-11-21T08:50:03Z`,
/// `20261121T08:16:23`, `2026-11-21 07:51:20`. Only differences mean anything.
fn wall_clock(date: &str) -> Option<i64> {
    // Fourteen digits before anything that looks like a fraction or an offset, whatever stands between them.
    let digits: Vec<i64> = date.chars().filter_map(|c| c.to_digit(10)).take(14).map(i64::from).collect();
    if digits.len() < 14 {
        return None;
    }
    let number = |range: std::ops::Range<usize>| digits[range].iter().fold(0, |sum, digit| sum * 10 + digit);
    let (year, month, day) = (number(0..4), number(4..6), number(6..8));
    let (hour, minute, second) = (number(8..10), number(10..12), number(12..14));
    Some(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days since an arbitrary day of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // March is the first month, so that the leap day is the last of its year.
    let year = if month > 2 { year } else { year - 1 };
    let month = (month + 9) % 12;
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day
}

#[cfg(test)]
mod tests {
    use super::*;
    use RowStatus::{Notified, Other, Sent, Waiting};
    use State::{Finished, Received, Reported, Started};
    use Verdict::{Acknowledge, NewGeneration, Report, Take};

    #[test]
    fn an_unknown_id_is_taken_whatever_its_letter() {
        for status in [Waiting, Notified, Sent, Other] {
            assert_eq!(admit(status, true, None), Take);
            assert_eq!(admit(status, false, None), Take);
        }
    }

    #[test]
    fn a_row_that_is_sent_again_is_never_run_again() {
        for status in [Sent, Other] {
            assert_eq!(admit(status, true, Some(Received)), Acknowledge);
            assert_eq!(admit(status, true, Some(Started)), Acknowledge);
            assert_eq!(admit(status, true, Some(Finished)), Report);
            assert_eq!(admit(status, true, Some(Reported)), Report);
        }
    }

    #[test]
    fn a_redo_is_a_new_generation_and_loses_no_result() {
        for status in [Waiting, Notified] {
            assert_eq!(admit(status, true, Some(Received)), Acknowledge);
            assert_eq!(admit(status, true, Some(Started)), NewGeneration(Older::GoesOn));
            assert_eq!(admit(status, true, Some(Finished)), NewGeneration(Older::ReportedFirst));
            assert_eq!(admit(status, true, Some(Reported)), NewGeneration(Older::Complete));
        }
    }

    #[test]
    fn a_reused_id_supersedes_what_is_not_complete() {
        for status in [Waiting, Notified, Sent, Other] {
            for state in [Received, Started, Finished] {
                assert_eq!(admit(status, false, Some(state)), NewGeneration(Older::Superseded));
            }
            assert_eq!(admit(status, false, Some(Reported)), NewGeneration(Older::Complete));
        }
    }

    fn evidence(date: Option<&str>) -> Evidence {
        Evidence { command: "start --local".into(), svc_id: "s".into(), queued_at: date.map(str::to_owned) }
    }

    #[test]
    fn a_shifted_zone_is_the_same_action_and_another_date_is_not() {
        let recorded = evidence(Some("2026-11-21T08:50:03Z"));
        for same in [
            Some("2026-11-21T08:50:03Z"),
            Some("2026-11-21T08:50:03.25+02:00"),
            Some("2026-11-21T03:50:03-05:00"),
            Some("20261121T09:35:03"),
            Some("2026-11-22 10:50:03"),
            None,
        ] {
            assert!(is_same_action(&evidence(same), &recorded), "{same:?}");
        }
        for other in
            ["2026-11-21T08:50:04Z", "2026-11-21T08:51:03Z", "2026-11-22T10:50:18Z", "2026-11-23T08:50:03Z", "x"]
        {
            assert!(!is_same_action(&evidence(Some(other)), &recorded), "{other}");
        }
    }

    #[test]
    fn another_command_or_service_is_another_action() {
        let recorded = evidence(None);
        assert!(!is_same_action(&Evidence { command: "stop".into(), ..recorded.clone() }, &recorded));
        assert!(!is_same_action(&Evidence { svc_id: String::new(), ..recorded.clone() }, &recorded));
    }
}
