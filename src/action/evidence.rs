//! Whether a row is the action that is recorded under its id: collectors give an id to another action when their
//! database was restored or made anew.

use super::QueuedAction;

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
    if row.command != recorded.command || row.svc_id != recorded.svc_id {
        return false;
    }
    let (Some(row), Some(recorded)) = (&row.queued_at, &recorded.queued_at) else { return true };
    if row == recorded {
        return true;
    }
    match (wall_clock(row), wall_clock(recorded)) {
        (Some(a), Some(b)) => is_same_moment(a, b),
        _ => false,
    }
}

/// What remains of an [`Evidence`] when the action itself is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// A hash of command and service.
    pub what: i64,
    /// What the wall clock showed when it was queued, in seconds; `None` where the date was missing or unreadable.
    pub queued_at: Option<i64>,
}

impl From<&Evidence> for Fingerprint {
    fn from(evidence: &Evidence) -> Self {
        // FNV-1a, 64 bits: it is kept in the ledger, so it must never change.
        let bytes = evidence.command.bytes().chain([0]).chain(evidence.svc_id.bytes());
        let what =
            bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self {
            what: i64::from_ne_bytes(what.to_ne_bytes()),
            queued_at: evidence.queued_at.as_deref().and_then(wall_clock),
        }
    }
}

impl Fingerprint {
    /// [`is_same_action`], as far as a fingerprint can tell: a date that cannot be read matches any.
    #[must_use]
    pub fn is_of(self, row: &Evidence) -> bool {
        let row = Self::from(row);
        let dates = self.queued_at.zip(row.queued_at);
        self.what == row.what && dates.is_none_or(|(a, b)| is_same_moment(a, b))
    }
}

/// Whether two wall clocks can show the same moment in different zones.
const fn is_same_moment(a: i64, b: i64) -> bool {
    const QUARTER: i64 = 15 * 60;
    const FURTHEST: i64 = 26 * 60 * 60;
    (a - b) % QUARTER == 0 && (a - b).abs() <= FURTHEST
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

    #[test]
    fn a_fingerprint_tells_what_the_whole_evidence_tells() {
        let recorded = evidence(Some("2026-11-21T08:50:03Z"));
        let print = Fingerprint::from(&recorded);
        assert_eq!(print.what, -938_309_830_893_811_517, "the hash is part of the ledger's format");
        assert!(print.is_of(&recorded));
        assert!(print.is_of(&evidence(None)));
        assert!(print.is_of(&evidence(Some("20261121T09:35:03"))));
        assert!(!print.is_of(&evidence(Some("2026-11-21T08:50:04Z"))));
        assert!(!print.is_of(&Evidence { command: "stop".into(), ..recorded.clone() }));
        assert!(!print.is_of(&Evidence { svc_id: String::new(), ..recorded }));
    }
}
