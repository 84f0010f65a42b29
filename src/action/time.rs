//! Points in time as values: the clock is read at the edge of the program and handed down.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds within the second, below 1,000,000,000.
    pub nanos: u32,
}

impl Timestamp {
    /// The first instant that [`Timestamp::clamped`] gives: 1970-01-02T00:00:00Z.
    pub const FIRST: Self = Self { seconds: 86_400, nanos: 0 };
    /// The last one: 2038-01-18T00:00:00Z.
    pub const LAST: Self = Self { seconds: 2_147_385_600, nanos: 0 };

    /// Converts what a clock gave.
    #[must_use]
    pub fn from_system_time(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => {
                Self { seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nanos: after.subsec_nanos() }
            }
            Err(error) => {
                // Before 1970: the nanoseconds count forward from the second before.
                let before = error.duration();
                let whole = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => Self { seconds: -whole, nanos: 0 },
                    nanos => Self { seconds: -whole - 1, nanos: 1_000_000_000 - nanos },
                }
            }
        }
    }

    /// The nearest instant between [`Timestamp::FIRST`] and [`Timestamp::LAST`]. The column that takes the date is a
    /// database's `TIMESTAMP`, which covers 1970 to 2038-01-19; a date outside it makes collector 3 answer 500 and the
    /// row would stay "running" for ever. A day is kept off each end, since the column converts between zones.
    #[must_use]
    pub fn clamped(self) -> Self {
        self.clamp(Self::FIRST, Self::LAST)
    }

    /// How long after `earlier` it is; nothing when the clock was set back in between.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = |time: Self| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
        let between = u128::try_from(nanos(self) - nanos(earlier)).unwrap_or_default();
        let seconds = u64::try_from(between / 1_000_000_000).unwrap_or(u64::MAX);
        Duration::new(seconds, u32::try_from(between % 1_000_000_000).unwrap_or_default())
    }

    /// The moment this much later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let nanos = self.nanos + duration.subsec_nanos();
        let seconds =
            i64::try_from(duration.as_secs()).unwrap_or(i64::MAX).saturating_add(i64::from(nanos / 1_000_000_000));
        Self { seconds: self.seconds.saturating_add(seconds), nanos: nanos % 1_000_000_000 }
    }

    /// The moment this much earlier.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        match self.nanos.checked_sub(duration.subsec_nanos()) {
            Some(nanos) => Self { seconds: self.seconds.saturating_sub(seconds), nanos },
            None => Self {
                seconds: self.seconds.saturating_sub(seconds).saturating_sub(1),
                nanos: self.nanos + 1_000_000_000 - duration.subsec_nanos(),
            },
        }
    }

    /// `2026-11-21T09:00:00.123Z`: RFC 3339 in UTC, cut to milliseconds.
    #[must_use]
    pub fn rfc3339_millis(self) -> String {
        self.to_string()
    }
}

/// As [`Timestamp::rfc3339_millis`].
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.seconds.div_euclid(86_400));
        let second = self.seconds.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let millis = self.nanos / 1_000_000;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// A text that is no point in time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time; write 2026-11-21, 2026-11-21T09:00 or 2026-11-21T09:00:03+01:00")]
pub struct NoTime(pub(super) String);

/// Reads RFC 3339, of which seconds, time of day and offset (then it is UTC) may be missing and the `T` be a
/// space.
impl FromStr for Timestamp {
    type Err = NoTime;

    fn from_str(text: &str) -> Result<Self, NoTime> {
        parse(text).ok_or_else(|| NoTime(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let mut fields = date.split('-');
    let (year, month, day) = (number(fields.next()?, 4)?, number(fields.next()?, 2)?, number(fields.next()?, 2)?);
    let days = days_from_civil(year, month, day);
    // What is no date, like February 30th, comes back as another one.
    if fields.next().is_some() || civil_from_days(days) != (year, month, day) {
        return None;
    }
    let (seconds, nanos) = time.map_or(Some((0, 0)), time_of_day)?;
    Some(Timestamp { seconds: days * 86_400 + seconds, nanos })
}

/// Seconds since midnight UTC, and nanoseconds.
fn time_of_day(text: &str) -> Option<(i64, u32)> {
    let (time, offset) = match text.find(['Z', 'z', '+', '-']) {
        Some(at) => (&text[..at], offset(&text[at..])?),
        None => (text, 0),
    };
    let (time, fraction) = time.split_once('.').map_or((time, None), |(time, fraction)| (time, Some(fraction)));
    let mut fields = time.split(':');
    let (hour, minute) = (number(fields.next()?, 2)?, number(fields.next()?, 2)?);
    let second = fields.next().map(|second| number(second, 2)).or(fraction.is_none().then_some(Some(0)))??;
    if fields.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let nanos = match fraction {
        Some(digits) if (1..=9).contains(&digits.len()) => number(&format!("{digits:0<9}"), 9)?,
        Some(_) => return None,
        None => 0,
    };
    Some((hour * 3600 + minute * 60 + second - offset, u32::try_from(nanos).ok()?))
}

/// The seconds that a zone is ahead of UTC.
fn offset(text: &str) -> Option<i64> {
    let sign = match text.chars().next()? {
        'Z' | 'z' => return (text.len() == 1).then_some(0),
        '-' => -1,
        _ => 1,
    };
    let (hours, minutes) = text[1..].split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Exactly so many digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// The reverse of [`civil_from_days`].
pub(super) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let march_month = (month + 9) % 12;
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The Gregorian date of a day counted from 1970-01-01, after Howard Hinnant's `civil_from_days`: years start in
/// March, so that the leap day is a year's last; 400 years (an era) have 146,097 days.
pub(super) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153; // 0 is March
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: i64, nanos: u32) -> Timestamp {
        Timestamp { seconds, nanos }
    }

    #[test]
    fn known_dates_are_written_as_date_u_writes_them() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_795_251_603, "2026-11-21T09:00:03.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (-62_135_596_800, "0001-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(at(seconds, 0).rfc3339_millis(), expected);
        }
        assert_eq!(at(0, 123_999_999).rfc3339_millis(), "1970-01-01T00:00:00.123Z");
    }

    #[test]
    fn days_follow_each_other_through_four_hundred_years() {
        let length = |year: i64, month| match month {
            2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..150_000 {
            assert_eq!(civil_from_days(days), (year, month, day));
            assert_eq!(days_from_civil(year, month, day), days);
            day += 1;
            if day > length(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }

    #[test]
    fn clocks_before_1970_keep_their_fraction_positive() {
        assert_eq!(Timestamp::from_system_time(UNIX_EPOCH - Duration::from_millis(1)), at(-1, 999_000_000));
        assert_eq!(Timestamp::from_system_time(UNIX_EPOCH - Duration::from_secs(2)), at(-2, 0));
        assert_eq!(Timestamp::from_system_time(UNIX_EPOCH + Duration::new(3, 4)), at(3, 4));
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2026-11-21T09:00:03.000Z", 1_795_251_603, 0),
            ("2026-11-21 09:00:03", 1_795_251_603, 0),
            ("2026-11-21T10:00:03.25+01:00", 1_795_251_603, 250_000_000),
            ("2026-11-21t08:30:03.123456789-00:30", 1_795_251_603, 123_456_789),
            ("2026-11-21T09:00", 1_795_251_600, 0),
            ("2026-11-21", 1_795_219_200, 0),
            ("1969-12-31T23:59:59Z", -1, 0),
        ] {
            assert_eq!(text.parse(), Ok(at(seconds, nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "x",
            "2026",
            "2026-11",
            "2026-13-01",
            "2026-02-29",
            "2026-00-10",
            "2026-1-1",
            "2026-11-21T",
            "2026-11-21T9:00",
            "2026-11-21T24:00",
            "2026-11-21T09:60",
            "2026-11-21T09:00:61",
            "2026-11-21T09:00.5",
            "2026-11-21T09:00:00.",
            "2026-11-21T09:00:00.1234567890",
            "2026-11-21T09:00Zx",
            "2026-11-21T09:00+1",
            "2026-11-21T09:00+24:00",
            "2026-11-21T09:00:00:00",
            "2026-11-21-01",
            "+026-11-21",
            "é026-11-21T09é00",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(NoTime(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn times_are_added_and_subtracted() {
        let (early, late) = (at(-2, 900_000_000), at(3, 100_000_000));
        let between = Duration::from_millis(4200);
        assert_eq!(late.since(early), between);
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early.plus(between), late);
        assert_eq!(late.minus(between), early);
        assert_eq!(late.minus(Duration::from_millis(50)), at(3, 50_000_000));
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(millis in -62_135_596_800_000_i64..253_402_300_800_000, text in ".*") {
            let nanos = u32::try_from(millis.rem_euclid(1000)).unwrap() * 1_000_000;
            let time = at(millis.div_euclid(1000), nanos);
            assert_eq!(time.to_string().parse(), Ok(time));
            let _ = text.parse::<Timestamp>();
        }
    }

    #[test]
    fn the_range_of_the_column_is_kept() {
        assert_eq!(at(-5, 7).clamped().rfc3339_millis(), "1970-01-02T00:00:00.000Z");
        assert_eq!(at(i64::MAX, 7).clamped().rfc3339_millis(), "2038-01-18T00:00:00.000Z");
        assert_eq!(at(1_795_251_603, 7).clamped(), at(1_795_251_603, 7));
    }
}
