//! Time: one place reads the clock, everything else is told what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// A date in UTC, in milliseconds since the epoch: how dates are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

/// Now, by the wall clock. A clock set before 1970 counts as 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place of this program that reads the wall clock")]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl Timestamp {
    /// A date from whole seconds since the epoch.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// The date `seconds` earlier.
    #[must_use]
    pub fn minus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_sub(seconds.saturating_mul(1000)))
    }

    /// The calendar date; the ends of the calendar for what lies beyond.
    #[must_use]
    pub fn calendar(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.0.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// `2026-11-21T08:50:03Z`, as the feeder writes dates.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let (date, time) = self.parts();
        format!("{}T{time}Z", date.join("-"))
    }

    /// `2026-11-21T08:50:03.123Z`, as the operator reads dates.
    #[must_use]
    pub fn rfc3339_millis(self) -> String {
        let (date, time) = self.parts();
        format!("{}T{time}.{:03}Z", date.join("-"), self.0.rem_euclid(1000))
    }

    /// `20261121T08:50:03`, as XML-RPC writes dates.
    #[must_use]
    pub fn xmlrpc(self) -> String {
        let (date, time) = self.parts();
        format!("{}T{time}", date.concat())
    }

    /// `2026-11-21 08:50:03`, as SQL error texts write dates.
    #[must_use]
    pub fn sql(self) -> String {
        let (date, time) = self.parts();
        format!("{} {time}", date.join("-"))
    }

    fn parts(self) -> ([String; 3], String) {
        let at = self.calendar();
        let date = [format!("{:04}", at.year()), format!("{:02}", u8::from(at.month())), format!("{:02}", at.day())];
        (date, format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_in_each_dialect() {
        let at = Timestamp(1_795_251_003_007);
        assert_eq!(at.rfc3339(), "2026-11-21T08:50:03Z");
        assert_eq!(at.rfc3339_millis(), "2026-11-21T08:50:03.007Z");
        assert_eq!(at.xmlrpc(), "20261121T08:50:03");
        assert_eq!(at.sql(), "2026-11-21 08:50:03");
    }
}
