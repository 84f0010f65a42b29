//! The local time zone: what `TZ` or `/etc/localtime` says, for people and for schedules. Nothing that is kept or sent
//! depends on it.
//!
//! A clock that is set forward for the summer skips an hour, and in the autumn it shows an hour twice. Every moment has
//! one local time; a local time that occurs twice is read as the earlier moment, one that does not occur as what the
//! clock would show had nobody set it.

use std::fmt;

use chrono::{DateTime, Local, Offset as _, TimeZone as _};

use crate::action::civil::{Civil, DAY};
use crate::action::time::Timestamp;

/// The years 1 to 9999, in seconds since 1970. What lies outside has the offset of the nearest of them.
const KNOWN: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// What a local clock shows at a moment. Written `2026-11-21 10:00:03+01:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// What it shows.
    pub civil: Civil,
    /// How many seconds it is ahead of UTC.
    pub offset: i32,
}

/// What a local clock shows at a moment.
#[must_use]
pub fn local(time: Timestamp) -> LocalTime {
    let offset = offset_at(time);
    LocalTime { civil: Civil::at_offset(time, offset), offset }
}

/// The moment at which a local clock shows this.
#[must_use]
pub fn moment(civil: Civil) -> Timestamp {
    // The offsets that hold a day before and a day after: nowhere are there two changes in so short a time.
    let as_utc = civil.with_offset(0);
    let around = [-DAY, DAY].map(|day| offset_at(Timestamp { seconds: as_utc.seconds.saturating_add(day), ..as_utc }));
    let candidates = around.map(|offset| civil.with_offset(offset));
    let shown = candidates.into_iter().filter(|time| local(*time).civil == civil).min();
    shown.unwrap_or(candidates[0])
}

fn offset_at(time: Timestamp) -> i32 {
    let seconds = time.seconds.clamp(*KNOWN.start(), *KNOWN.end());
    let utc = DateTime::from_timestamp(seconds, 0).unwrap_or_default().naive_utc();
    Local.offset_from_utc_datetime(&utc).fix().local_minus_utc()
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.offset.abs() / 60;
        let sign = if self.offset < 0 { '-' } else { '+' };
        write!(f, "{}{sign}{:02}:{:02}", self.civil, minutes / 60, minutes % 60)
    }
}
