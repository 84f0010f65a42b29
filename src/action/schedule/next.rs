//! The earliest moment that a schedule allows.

use super::{Entry, Schedule, TimeRange};
use crate::action::civil::{Civil, DAY, Date};

/// The search ends so many days from now: two years, and the day that it begins in.
const HORIZON: i64 = 732;

impl Schedule {
    /// The earliest moment from `now` on at which it allows a run after one at `last`: `now` itself, or a whole second.
    /// `None`: none within two years.
    #[must_use]
    pub fn next(&self, now: Civil, last: Option<Civil>) -> Option<Civil> {
        if self.allows(now, last).is_allowed() {
            return Some(now);
        }
        if self.is_never() {
            return None;
        }
        (now.day()..=now.day().saturating_add(HORIZON)).find_map(|day| self.first_of(day, now, last))
    }

    /// The earliest moment of a day.
    fn first_of(&self, day: i64, now: Civil, last: Option<Civil>) -> Option<Civil> {
        let date = Date::of_day(day);
        let (against, includes): (Vec<&Entry>, Vec<&Entry>) =
            self.entries.iter().filter(|entry| entry.accepts(&date).is_ok()).partition(|entry| entry.exclude);
        let excluded = merged(against.into_iter().flat_map(|entry| &entry.ranges));
        let midnight = Civil::of_day(day, 0).nanos();
        let mut first: Option<i64> = None;
        for range in includes.into_iter().flat_map(|entry| &entry.ranges).filter(|range| range.interval != 0) {
            let earliest = last.map_or(now.nanos(), |last| range.not_before(last).max(now.nanos()));
            // The first whole second of the day that is not before it.
            let earliest = (earliest - midnight + 999_999_999).div_euclid(1_000_000_000).max(0);
            let Ok(earliest) = i64::try_from(earliest) else { continue };
            for (begin, end) in range.pieces() {
                let second = after_all(&excluded, earliest.max(begin), end);
                first = [first, second].into_iter().flatten().min();
            }
        }
        first.map(|second| Civil::of_day(day, second))
    }
}

/// The seconds of a day that any of these ranges holds: disjoint pieces with gaps between them, in their order.
fn merged<'a>(ranges: impl Iterator<Item = &'a TimeRange>) -> Vec<(i64, i64)> {
    let mut pieces: Vec<_> = ranges.flat_map(TimeRange::pieces).collect();
    pieces.sort_unstable();
    let mut merged: Vec<(i64, i64)> = Vec::with_capacity(pieces.len());
    for (begin, end) in pieces {
        match merged.last_mut() {
            Some(last) if begin <= last.1 + 1 => last.1 = last.1.max(end),
            _ => merged.push((begin, end)),
        }
    }
    merged
}

/// The first second from `second` to `end` that lies in no piece.
fn after_all(pieces: &[(i64, i64)], second: i64, end: i64) -> Option<i64> {
    let next = pieces.partition_point(|piece| piece.1 < second);
    let free = pieces.get(next).filter(|piece| piece.0 <= second).map_or(second, |piece| piece.1 + 1);
    Some(free).filter(|free| *free <= end)
}

impl TimeRange {
    /// Its seconds within one day, in one piece or two, each from its first to its last second.
    fn pieces(&self) -> impl Iterator<Item = (i64, i64)> + use<> {
        let begin = self.begin + self.hold_off;
        let (one, two) = if self.begin <= self.end {
            ((begin, self.end.min(DAY - 1)), None)
        } else {
            (((begin - DAY).max(0), self.end.min(DAY - 1)), Some((begin, DAY - 1)))
        };
        [Some(one), two].into_iter().flatten().filter(|(begin, end)| begin <= end)
    }
}
