//! Points in time as values: the clock is read at the edge of the program and handed down.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

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

/// The Gregorian date of a day counted from 1970-01-01, after Howard Hinnant's `civil_from_days`: years start in
/// March, so that the leap day is a year's last; 400 years (an era) have 146,097 days.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
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
    fn the_range_of_the_column_is_kept() {
        assert_eq!(at(-5, 7).clamped().rfc3339_millis(), "1970-01-02T00:00:00.000Z");
        assert_eq!(at(i64::MAX, 7).clamped().rfc3339_millis(), "2038-01-18T00:00:00.000Z");
        assert_eq!(at(1_795_251_603, 7).clamped(), at(1_795_251_603, 7));
    }
}
