//! Schedules in the syntax of OpenSVC 2.x: when may something run that was not asked for?
//!
//! A schedule is a list of entries, `[!] TIMERANGES [DAYS [WEEKS [MONTHS]]]`. An entry without `!` includes, one with `!`
//! excludes; a time range has an interval, the least time between two runs. It is read as the original reads it, down to
//! the odd corners, which the recorded decisions in `tests/conformance/schedule` pin. Two things are decided otherwise:
//! an exclude holds wherever in the list it stands, and an entry that is blank or cannot be read is left out and told,
//! where the original says nothing or fails.
//!
//! Times are naive: what the clock on the wall shows. Whoever asks converts.

mod next;
mod parse;
mod timer;

use std::fmt;

use super::civil::{Civil, DAY, Date};

/// When something may run. Nothing in it: never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    entries: Vec<Entry>,
}

/// An entry that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The entry as it is written.
    pub entry: String,
    /// Why it cannot be read.
    pub reason: String,
}

/// Whether something may run now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Allowed {
        /// A range with `~` asks for a random delay, in seconds, below this bound; 0: at once.
        delay_below: i64,
    },
    /// It may not: why each entry, in their order, does not allow it.
    Denied(Vec<Denial>),
}

/// Why an entry does not allow a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// There is no entry.
    NoSchedule,
    /// Another month.
    Month,
    /// Another week.
    Week,
    /// Another day.
    Day,
    /// Another time of day.
    TimeRange,
    /// Its interval is 0, which is never.
    ZeroInterval,
    /// The last run is not long enough ago.
    TooSoon,
    /// It excludes this moment.
    Excluded,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    exclude: bool,
    ranges: Vec<TimeRange>,
    /// Any of them.
    days: Vec<Days>,
    /// Bit n is week n, of 1 to 53.
    weeks: u64,
    /// Bit n is month n, of 1 to 12.
    months: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Days {
    /// Bit n is weekday n, of 1 to 7.
    weekdays: u64,
    /// And this day of the month; a negative one counts from its end. 0, and what no month has, is never.
    monthday: Option<i64>,
}

/// Seconds of a day, both ends included; one that begins later than it ends goes over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TimeRange {
    begin: i64,
    end: i64,
    /// The least time between two runs, in seconds; 0: never, for an include.
    interval: i64,
    /// It says its interval itself.
    explicit: bool,
    /// A run in it is to be delayed at random.
    random: bool,
    /// Nothing may run in it before it has lasted so many seconds: see [`Schedule::for_timer`].
    hold_off: i64,
}

impl Schedule {
    /// Reads the value of a `schedule` keyword: one entry, or a JSON array of them. What cannot be read is left out of
    /// the schedule and told. An empty value, `@0` and `null` are never.
    #[must_use]
    pub fn parse(value: &str) -> (Self, Vec<Invalid>) {
        parse::value(value)
    }

    /// Whether something may run at `now` that ran last at `last`, or never.
    #[must_use]
    pub fn allows(&self, now: Civil, last: Option<Civil>) -> Verdict {
        let date = Date::of_day(now.day());
        let mut denials = Vec::new();
        if self.entries.is_empty() {
            denials.push(Denial::NoSchedule);
        }
        let excludes = self.entries.iter().filter(|entry| entry.exclude);
        if excludes.clone().any(|entry| entry.accepts(&date).is_ok() && entry.ranges_at(now).next().is_some()) {
            return Verdict::Denied(vec![Denial::Excluded]);
        }
        for entry in &self.entries {
            if let Err(denial) = entry.accepts(&date) {
                denials.push(denial);
                continue;
            }
            for range in &entry.ranges {
                match range.allows(now, last) {
                    Ok(delay_below) => return Verdict::Allowed { delay_below },
                    Err(denial) => denials.push(denial),
                }
            }
        }
        Verdict::Denied(denials)
    }

    /// Whether it can ever allow anything, as far as intervals and includes go.
    #[must_use]
    pub fn is_never(&self) -> bool {
        !self.entries.iter().any(|entry| !entry.exclude && entry.ranges.iter().any(|range| range.interval != 0))
    }
}

impl Entry {
    /// Whether a day is one of its days.
    fn accepts(&self, date: &Date) -> Result<(), Denial> {
        if !has(self.months, date.month) {
            Err(Denial::Month)
        } else if !has(self.weeks, date.week) {
            Err(Denial::Week)
        } else if !self.days.iter().any(|days| days.accept(date)) {
            Err(Denial::Day)
        } else {
            Ok(())
        }
    }

    fn ranges_at(&self, now: Civil) -> impl Iterator<Item = &TimeRange> {
        self.ranges.iter().filter(move |range| range.holds(now.second()))
    }
}

impl Days {
    fn accept(&self, date: &Date) -> bool {
        let day = |n: i64| if n < 0 { date.days_in_month + 1 + n.max(-99) } else { n };
        has(self.weekdays, date.weekday) && self.monthday.is_none_or(|n| n != 0 && day(n) == date.day)
    }
}

impl TimeRange {
    /// Whether a second of the day is in it.
    fn holds(&self, second: i64) -> bool {
        let within = if self.begin <= self.end {
            (self.begin..=self.end).contains(&second)
        } else {
            second >= self.begin || second <= self.end
        };
        within && (second - self.begin).rem_euclid(DAY) >= self.hold_off
    }

    /// The bound of the delay, or why not. An exclude allows nothing: it is only asked outside of its ranges.
    fn allows(&self, now: Civil, last: Option<Civil>) -> Result<i64, Denial> {
        if !self.holds(now.second()) {
            Err(Denial::TimeRange)
        } else if self.interval == 0 {
            Err(Denial::ZeroInterval)
        } else if last.is_some_and(|last| now.nanos() < self.not_before(last)) {
            Err(Denial::TooSoon)
        } else if self.random {
            Ok(((self.end - now.second()).rem_euclid(DAY) - 1).max(0))
        } else {
            Ok(0)
        }
    }

    /// The nanosecond from which on the interval is over.
    fn not_before(&self, last: Civil) -> i128 {
        last.nanos() + i128::from(self.interval) * 1_000_000_000
    }

    /// Its length in seconds: it has one more of them, since both ends are included.
    fn length(&self) -> i64 {
        if self.begin > self.end { DAY - self.begin + self.end } else { self.end - self.begin }
    }
}

fn has(set: u64, n: i64) -> bool {
    u32::try_from(n).ok().and_then(|n| 1_u64.checked_shl(n)).is_some_and(|bit| set & bit != 0)
}

impl Verdict {
    /// Whether it may run.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSchedule => "there is no schedule",
            Self::Month => "not this month",
            Self::Week => "not this week",
            Self::Day => "not this day",
            Self::TimeRange => "not at this time of day",
            Self::ZeroInterval => "never, by an interval of 0",
            Self::TooSoon => "too soon after the last run",
            Self::Excluded => "excluded",
        })
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.entry, self.reason)
    }
}
