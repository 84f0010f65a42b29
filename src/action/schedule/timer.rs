//! How a timer obeys a schedule. The original is a daemon that wakes up at the very second it has computed, and that
//! can sleep on for a random while. A timer comes about once a minute and starts a process that must not wait.

use super::{Schedule, TimeRange};
use crate::action::civil::DAY;

/// What two starts of a minutely timer may be closer together than their minute: the shipped timer draws a delay of up to
/// 20 s, on systemd before 247 a new one each time.
const SLACK: i64 = 30;
/// How long a moment lasts, in seconds, so that a minutely timer does not miss it.
const MOMENT: i64 = 120;

impl Schedule {
    /// The schedule as the timer of a node obeys it:
    ///
    /// * an interval that is given (`@1`) is over up to 30 s early, or at half of it if that is less: or else `@1` would
    ///   swallow every other start of a minutely timer. "Once in this range" stays once;
    /// * a range that is shorter than two minutes, as `09:00` is, lasts two minutes, once;
    /// * in a range with `~`, each node has a moment of its own, which follows from its name and is the same on every
    ///   day: before it nothing runs. So nodes are spread as the original's dice spread them. The last tenth of the range,
    ///   two minutes at least, is nobody's moment, so that a start that comes late is still in it.
    ///
    /// Excludes are left as they are.
    #[must_use]
    pub fn for_timer(&self, node: &str) -> Self {
        let mut schedule = self.clone();
        for entry in schedule.entries.iter_mut().filter(|entry| !entry.exclude) {
            for range in entry.ranges.iter_mut().filter(|range| range.interval != 0) {
                *range = range.for_timer(share(node));
            }
        }
        schedule
    }
}

impl TimeRange {
    fn for_timer(mut self, share: u32) -> Self {
        if self.explicit && self.interval > 0 {
            self.interval -= SLACK.min(self.interval / 2);
        }
        let length = self.length();
        if length < MOMENT && self.begin <= self.end {
            self.end = self.end.max((self.begin + MOMENT).min(DAY - 1));
            self.interval = self.interval.max(self.length() + 1);
        } else if self.random {
            let spread = (length - MOMENT.max(length / 10)).max(0);
            self.hold_off = (spread * i64::from(share)) >> 32;
        }
        self
    }
}

/// A node's place among all nodes, of 2^32: the upper half of the 64-bit FNV-1a hash of its name, mixed once more because
/// names differ at their ends.
fn share(node: &str) -> u32 {
    let hash = node
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    u32::try_from((mixed ^ mixed >> 33) >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::civil::Civil;

    fn schedule(text: &str) -> Schedule {
        let (schedule, invalid) = Schedule::parse(text);
        assert_eq!(invalid, []);
        schedule
    }

    fn at(text: &str) -> Civil {
        format!("2026-01-15T{text}").parse().unwrap()
    }

    #[track_caller]
    fn check(text: &str, last: &str, now: &str, expected: bool) {
        let verdict = schedule(text).for_timer("n1").allows(at(now), Some(at(last)));
        assert_eq!(verdict.is_allowed(), expected, "{text} at {now} after {last}: {verdict:?}");
    }

    #[test]
    fn a_minutely_timer_that_jitters_misses_no_turn() {
        check("@1", "10:00:20", "10:01:00", true);
        check("@1", "10:00:00", "10:00:29", false);
        check("@10", "10:00:20", "10:09:49", false);
        check("@10", "10:00:20", "10:09:50", true);
        check("@10s", "10:00:00", "10:00:04", false);
        check("@10s", "10:00:00", "10:00:05", true);
        check("09:00-10:00@1", "09:00:20", "09:01:00", true);
    }

    #[test]
    fn once_in_a_range_stays_once() {
        check("09:00-09:20", "09:00:00", "09:20:00", false);
        check("09:00-09:20", "08:39:59", "09:00:00", true);
        check("*", "00:00:10", "23:59:00", false);
    }

    #[test]
    fn a_moment_lasts_until_a_timer_has_come_and_allows_one_run() {
        check("09:00", "00:00:00", "09:01:59", true);
        check("09:00", "09:00:00", "09:01:59", false);
        check("09:00@1", "09:00:00", "09:01:59", false);
        check("09:00", "00:00:00", "09:02:01", false);
        check("09:00", "00:00:00", "08:59:59", false);
        check("23:59:30", "00:00:00", "23:59:59", true);
        check("23:59:30", "00:00:00", "00:00:00", false);
        check("[\"! 09:00\", \"@1\"]", "00:00:00", "09:01:00", true);
    }

    #[test]
    fn zero_and_negative_intervals_stay_what_they_are() {
        check("*@0", "00:00:00", "10:00:00", false);
        check("@-1", "10:00:59", "10:00:00", true);
    }

    #[test]
    fn nodes_spread_over_a_random_range_and_keep_their_place() {
        let names: Vec<_> = (0..1000).map(|n| format!("node{n:03}.example.com")).collect();
        let mut tenths = [0; 10];
        for name in &names {
            let schedule = schedule("~00:00-06:00").for_timer(name);
            let first = schedule.next(at("00:00:00"), None).unwrap();
            assert_eq!(schedule.next(Civil::of_day(first.day(), 0), None), Some(first));
            assert!(first <= at("05:24:00"), "{first}");
            assert!(schedule.allows(at("06:00:00"), None).is_allowed());
            tenths[usize::try_from(first.second() * 10 / (324 * 60 + 1)).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (50..150).contains(count)), "{tenths:?}");
        // Over midnight, too: as late as it may be, it is not before the range begins.
        for name in &names {
            let schedule = schedule("~22:00-02:00").for_timer(name);
            let first = schedule.next(at("02:00:01"), None).unwrap();
            assert!(first >= at("22:00:00") && schedule.allows(first, None).is_allowed(), "{first}");
            assert!(schedule.allows(at("02:00:00"), None).is_allowed());
        }
    }
}
