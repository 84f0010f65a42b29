//! From text to a schedule. The reasons are for people: the original knows none.

use serde_json::Value;

use super::{Days, Entry, Invalid, Schedule, TimeRange};
use crate::action::civil::DAY;

/// So many entries are read of one schedule, and so many members of one field: deciding looks at all of them.
const MAX_LENGTH: usize = 100;
/// No interval is longer, in seconds: 30,000 years.
const MAX_INTERVAL: i64 = 1_000_000_000_000;

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
/// What may stand for the day of a month, from 1 on.
const ORDINALS: [[&str; 2]; 5] =
    [["first", "1st"], ["second", "2nd"], ["third", "3rd"], ["fourth", "4th"], ["fifth", "5th"]];

pub(super) fn value(value: &str) -> (Schedule, Vec<Invalid>) {
    let members = match serde_json::from_str(value) {
        Ok(Value::Null) => Vec::new(),
        Ok(Value::Array(members)) => members,
        Ok(Value::String(text)) => one(text),
        Ok(other) => vec![other],
        Err(_) => one(value.to_owned()),
    };
    let (mut schedule, mut invalid) = (Schedule::default(), Vec::new());
    for (index, member) in members.into_iter().enumerate() {
        let parsed = match &member {
            _ if index >= MAX_LENGTH => Err(format!("it comes after {MAX_LENGTH} others")),
            Value::String(text) => entry(text),
            _ => Err("it is not a text".to_owned()),
        };
        match (parsed, member) {
            (Ok(entry), _) => schedule.entries.push(entry),
            (Err(reason), Value::String(entry)) => invalid.push(Invalid { entry, reason }),
            (Err(reason), other) => invalid.push(Invalid { entry: other.to_string(), reason }),
        }
        if index >= MAX_LENGTH {
            break;
        }
    }
    (schedule, invalid)
}

/// A value that is no list. As a whole, and only so, these two are no entry.
fn one(text: String) -> Vec<Value> {
    if text.is_empty() || text == "@0" { Vec::new() } else { vec![Value::String(text)] }
}

fn entry(text: &str) -> Result<Entry, String> {
    let text = text.trim();
    let (exclude, text) = text.strip_prefix('!').map_or((false, text), |text| (true, text));
    let fields: Vec<_> = text.split_whitespace().collect();
    let (ranges, days, weeks, months) = match fields[..] {
        [] => return Err("it is blank".to_owned()),
        [ranges] => (ranges, "*", "*", None),
        [ranges, days] => (ranges, days, "*", None),
        [ranges, days, weeks] => (ranges, days, weeks, None),
        [ranges, days, weeks, months] => (ranges, days, weeks, Some(months)),
        _ => return Err("it has more than four fields: times, days, weeks, months".to_owned()),
    };
    Ok(Entry {
        exclude,
        ranges: members(ranges)?.map(time_range).collect::<Result<_, _>>()?,
        days: members(days)?.map(day).collect::<Result<_, _>>()?,
        weeks: if weeks == "*" { all(53) } else { union(weeks, |week| calendar_range(week, 53))? },
        months: months.map_or(Ok(all(12)), |months| union(months, month))?,
    })
}

fn members(field: &str) -> Result<impl Iterator<Item = &str>, String> {
    if field.split(',').nth(MAX_LENGTH).is_some() {
        return Err(format!("a field has more than {MAX_LENGTH} members"));
    }
    Ok(field.split(','))
}

fn union(field: &str, member: impl Fn(&str) -> Result<u64, String>) -> Result<u64, String> {
    members(field)?.try_fold(0, |set, text| Ok(set | member(text)?))
}

/// The numbers 1 to `last`.
fn all(last: i64) -> u64 {
    (1..=last).fold(0, |set, n| set | 1 << n)
}

fn time_range(text: &str) -> Result<TimeRange, String> {
    let (random, body) = text.strip_prefix('~').map_or((false, text), |body| (true, body));
    let (span, interval) = match body.split_once('@') {
        Some((_, rest)) if rest.contains('@') => return Err(format!("more than one \"@\" in {text:?}")),
        Some((span, interval)) => (span, Some(duration(interval)?)),
        None => (body, None),
    };
    // A bare "*" ends a minute early, in the original.
    let (begin, end, default) = match (span, interval) {
        ("*", None) => (0, DAY - 60, DAY),
        ("", None) if !random => (0, DAY - 60, DAY),
        ("" | "*", _) => (0, DAY - 1, DAY),
        (span, _) => {
            let (begin, end) = time_span(span)?;
            let length = if begin > end { DAY - begin + end } else { end - begin };
            (begin, end, length + 1)
        }
    };
    let range = TimeRange {
        begin,
        end,
        interval: interval.unwrap_or(default),
        explicit: interval.is_some(),
        random: false,
        hold_off: 0,
    };
    Ok(TimeRange { random: random && range.length() > 2 && range.interval > range.length(), ..range })
}

/// Two times of day; one alone is a moment, which lasts until the next second.
fn time_span(text: &str) -> Result<(i64, i64), String> {
    let (begin, end) = match text.split_once('-') {
        Some((begin, end)) => (time(begin)?, time(end)?),
        None => (time(text)?, time(text)?),
    };
    let end = if begin == end { end + 1 } else { end };
    if begin + 1 == end && end >= DAY {
        return Err(format!("{text:?} would end at 24:00:00"));
    }
    Ok((begin, end))
}

/// Seconds since midnight. A second can be a leap second.
fn time(text: &str) -> Result<i64, String> {
    let fields: Vec<_> = text.split(':').collect();
    let number = |text: &str, most: i64| {
        let is_one = matches!(text.len(), 1 | 2) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i64>().ok().filter(|number| is_one && *number <= most)
    };
    let seconds = match fields[..] {
        [hour, minute] => Some((hour, minute, "0")),
        [hour, minute, second] => Some((hour, minute, second)),
        _ => None,
    };
    let seconds = seconds.and_then(|(hour, minute, second)| {
        Some(number(hour, 23)? * 3600 + number(minute, 59)? * 60 + number(second, 61)?)
    });
    seconds.ok_or_else(|| format!("{text:?} is no time of day: it is written 09:00 or 09:00:30"))
}

/// Seconds. A number alone is minutes; what follows the last unit does not count, so that an unknown unit is 0.
fn duration(text: &str) -> Result<i64, String> {
    let bounded = |seconds: i64| seconds.clamp(-MAX_INTERVAL, MAX_INTERVAL);
    if let Some(minutes) = integer(text) {
        return Ok(bounded(minutes.saturating_mul(60)));
    }
    let (mut sum, mut rest) = (0_i64, text);
    while let Some(at) = rest.find(['w', 'd', 'h', 'm', 's', 'W', 'D', 'H', 'M', 'S']) {
        let count =
            integer(&rest[..at]).ok_or_else(|| format!("{text:?} is no interval: it is written 10, 90s or 1d12h"))?;
        let unit = match rest.as_bytes()[at].to_ascii_lowercase() {
            b'w' => 7 * DAY,
            b'd' => DAY,
            b'h' => 3600,
            b'm' => 60,
            _ => 1,
        };
        sum = sum.saturating_add(count.saturating_mul(unit));
        rest = &rest[at + 1..];
    }
    Ok(bounded(sum))
}

/// A number as the original's language reads one, of any size: what is too large is cut.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    if digits.split('_').any(|group| group.is_empty() || !group.bytes().all(|byte| byte.is_ascii_digit())) {
        return None;
    }
    let sum = digits
        .bytes()
        .filter(u8::is_ascii_digit)
        .fold(0_i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')).min(MAX_INTERVAL));
    Some(if negative { -sum } else { sum })
}

fn day(text: &str) -> Result<Days, String> {
    let (weekdays, monthday) = match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => return Err(format!("more than one \":\" in {text:?}")),
        Some((weekdays, monthday)) => (weekdays, Some(month_day(monthday)?)),
        None => (text, None),
    };
    let weekdays = if matches!(weekdays, "" | "*") { all(7) } else { calendar_range(weekdays, 7)? };
    Ok(Days { weekdays, monthday })
}

fn month_day(text: &str) -> Result<i64, String> {
    if text == "last" {
        return Ok(-1);
    }
    let ordinal = ORDINALS.iter().zip(1..).find(|(words, _)| words.contains(&text)).map(|(_, n)| n);
    let day = ordinal.or_else(|| integer(text));
    day.ok_or_else(|| format!("{text:?} is no day of a month: it is written 1, first or -1, last"))
}

fn month(text: &str) -> Result<u64, String> {
    let (months, modulo) = match text.split_once('%') {
        Some((_, rest)) if rest.contains('%') => return Err(format!("more than one \"%\" in {text:?}")),
        Some((months, modulo)) => (months, Some(modulo)),
        None => (text, None),
    };
    let months = match (months, modulo) {
        // The original may not mean to refuse this, but it does.
        ("" | "*", None) => return Err("leave the months out to say all of them".to_owned()),
        ("" | "*", Some(_)) => all(12),
        (months, _) => calendar_range(months, 12)?,
    };
    let Some(modulo) = modulo else { return Ok(months) };
    let (n, shift) = modulo.split_once('+').unwrap_or((modulo, "0"));
    let wrong = || format!("{modulo:?} is no modulo: it is written %2 or %2+1");
    let n = integer(n).filter(|n| *n != 0).ok_or_else(wrong)?;
    let shift = integer(shift).ok_or_else(wrong)?;
    Ok((1..=12).filter(|month| (month + shift) % n == 0).fold(0, |set, month| set | 1 << month) & months)
}

/// One number or name, or two with a `-` between them, which may go round the end. What is not between 1 and `last`
/// falls out.
fn calendar_range(text: &str, last: i64) -> Result<u64, String> {
    // A leading "-" is a sign.
    let dash = text.char_indices().skip(1).find(|(_, c)| *c == '-').map(|(at, _)| at);
    let within = |from: i64, to: i64| (from.max(1)..=to.min(last)).fold(0, |set: u64, n| set | 1 << n);
    let Some(dash) = dash else {
        let n = calendar_number(text)?;
        return Ok(within(n, n));
    };
    if text.starts_with('-') || text[dash + 1..].contains('-') {
        return Err(format!("more than one \"-\" in {text:?}"));
    }
    let (begin, end) = (calendar_number(&text[..dash])?, calendar_number(&text[dash + 1..])?);
    Ok(if begin <= end { within(begin, end) } else { within(begin, last) | within(1, end) })
}

/// One table of names serves weekdays, weeks and months alike.
fn calendar_number(text: &str) -> Result<i64, String> {
    if let Some(n) = integer(text) {
        return Ok(n);
    }
    let name = text.to_lowercase();
    let named =
        |names: &[&str]| names.iter().zip(1..).find(|(full, _)| name == **full || name == full[..3]).map(|(_, n)| n);
    named(&MONTHS).or_else(|| named(&WEEKDAYS)).ok_or_else(|| format!("{text:?} is no day, week or month"))
}
