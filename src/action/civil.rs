//! Civil time: what a clock on the wall shows, without a zone.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::time::{NoTime, Timestamp, civil_from_days, days_from_civil};

/// The seconds of a day. Clocks that people read know no leap seconds.
pub const DAY: i64 = 86_400;

/// A date and a time of day. Inside it is the [`Timestamp`] at which a clock in UTC shows the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Civil(Timestamp);

impl Civil {
    /// What a clock shows that is so many seconds ahead of UTC.
    #[must_use]
    pub fn at_offset(time: Timestamp, offset: i32) -> Self {
        Self(Timestamp { seconds: time.seconds.saturating_add(offset.into()), ..time })
    }

    /// The reverse of [`Civil::at_offset`].
    #[must_use]
    pub fn with_offset(self, offset: i32) -> Timestamp {
        Timestamp { seconds: self.0.seconds.saturating_sub(offset.into()), ..self.0 }
    }

    /// A whole second of a day that is counted from 1970-01-01.
    #[must_use]
    pub fn of_day(day: i64, second: i64) -> Self {
        Self(Timestamp { seconds: day.saturating_mul(DAY).saturating_add(second), nanos: 0 })
    }

    /// The day, counted from 1970-01-01.
    #[must_use]
    pub fn day(self) -> i64 {
        self.0.seconds.div_euclid(DAY)
    }

    /// The whole seconds since midnight, below [`DAY`].
    #[must_use]
    pub fn second(self) -> i64 {
        self.0.seconds.rem_euclid(DAY)
    }

    /// Nanoseconds since 1970-01-01T00:00:00, for comparisons.
    #[must_use]
    pub fn nanos(self) -> i128 {
        i128::from(self.0.seconds) * 1_000_000_000 + i128::from(self.0.nanos)
    }

    /// What the clock showed so much earlier, had nobody touched it in between.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.minus(duration))
    }
}

/// What the calendar says about a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// How many days its month has.
    pub days_in_month: i64,
    /// 1, Monday, to 7, Sunday.
    pub weekday: i64,
    /// The week of ISO 8601, 1 to 53: week 1 is the one with the year's first Thursday.
    pub week: i64,
}

impl Date {
    /// The date of a day that is counted from 1970-01-01.
    #[must_use]
    pub fn of_day(count: i64) -> Self {
        let (year, month, day) = civil_from_days(count);
        let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        // 1970-01-01 was a Thursday.
        let weekday = (count + 3).rem_euclid(7) + 1;
        let thursday = count - weekday + 4;
        let (year_of_week, _, _) = civil_from_days(thursday);
        Self {
            month,
            day,
            days_in_month: days_from_civil(next_year, next_month, 1) - days_from_civil(year, month, 1),
            weekday,
            week: (thursday - days_from_civil(year_of_week, 1, 1)) / 7 + 1,
        }
    }
}

/// `2026-11-21 09:00:03`, cut to seconds.
impl fmt::Display for Civil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let seconds = text.split_once('.').map_or(text.as_str(), |(seconds, _)| seconds);
        f.write_str(&seconds.replacen('T', " ", 1))
    }
}

/// Reads a date, or a date and a time of day, as [`Timestamp`] does, but without an offset.
impl FromStr for Civil {
    type Err = NoTime;

    fn from_str(text: &str) -> Result<Self, NoTime> {
        let time: Timestamp = text.parse()?;
        // What has no offset yet can get one.
        let is_civil = |rest| format!("{text}{rest}").parse::<Timestamp>().is_ok();
        if is_civil("Z") || is_civil("T00:00Z") { Ok(Self(time)) } else { Err(NoTime(text.to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> Date {
        Date::of_day(text.parse::<Civil>().unwrap().day())
    }

    #[test]
    fn the_calendar_knows_months_weekdays_and_weeks() {
        for (text, weekday, week, days_in_month) in [
            ("1970-01-01", 4, 1, 31),
            ("2024-02-29", 4, 9, 29),
            ("2025-12-28", 7, 52, 31),
            ("2025-12-29", 1, 1, 31),
            ("2026-11-21", 6, 47, 30),
            ("2027-01-03", 7, 53, 31),
            ("2027-01-04", 1, 1, 31),
            ("1969-12-31", 3, 1, 31),
            ("2100-02-01", 1, 5, 28),
        ] {
            let date = date(text);
            assert_eq!((date.weekday, date.week, date.days_in_month), (weekday, week, days_in_month), "{text}");
        }
    }

    #[test]
    fn what_has_an_offset_is_no_civil_time() {
        for text in ["2026-11-21", "2026-11-21T09:00", "2026-11-21 09:00:03", "2026-11-21T09:00:03.25"] {
            text.parse::<Civil>().unwrap();
        }
        for text in ["2026-11-21T09:00Z", "2026-11-21T09:00+01:00", "2026-11-21T09:00:03.25-01:00", "2026-02-30", "x"] {
            assert!(text.parse::<Civil>().is_err(), "{text}");
        }
    }

    #[test]
    fn offsets_are_added_and_taken_away() {
        let time = Timestamp { seconds: 1_795_251_603, nanos: 999_000_000 };
        let civil = Civil::at_offset(time, 5400);
        assert_eq!(civil.to_string(), "2026-11-21 10:30:03");
        assert_eq!(civil.with_offset(5400), time);
        assert_eq!((civil.day(), civil.second()), (20_778, 10 * 3600 + 30 * 60 + 3));
        assert_eq!(civil.minus(Duration::from_secs(DAY.unsigned_abs())).to_string(), "2026-11-20 10:30:03");
    }
}
