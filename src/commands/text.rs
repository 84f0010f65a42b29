//! How things are written for people and in JSON, the same in every command.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::action::time::Timestamp;
use crate::action::{redact, words};
use crate::ledger::view::Entry;
use crate::telemetry::color;
use crate::zone;

/// A moment for people, in local time: `2026-11-21 10:00:03+01:00`.
pub(super) fn when(time: Timestamp) -> String {
    zone::local(time).to_string()
}

/// A moment and how long ago it was.
pub(super) fn when_and_ago(time: Timestamp, now: Timestamp) -> String {
    format!("{} ({} ago)", when(time), length(now.since(time)))
}

/// A length of time in its two largest units: `1.234 s`, `3 min 20 s`, `2 h 5 min`, `4 d`.
pub(super) fn length(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let pair = |large: u64, one: &str, small: u64, other: &str| match seconds % large / small {
        0 => format!("{} {one}", seconds / large),
        rest => format!("{} {one} {rest} {other}", seconds / large),
    };
    match seconds {
        0..10 => format!("{:.3} s", duration.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => pair(60, "min", 1, "s"),
        3600..86_400 => pair(3600, "h", 60, "min"),
        _ => pair(86_400, "d", 3600, "h"),
    }
}

/// Text from elsewhere: nothing in it moves the cursor.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// An action on one line, what is secret in it hidden.
pub(super) fn in_words(entry: &Entry, secret: &[String]) -> String {
    let command = command(entry, secret);
    if entry.svcname.is_empty() { command } else { printable(&format!("{} {command}", entry.svcname)) }
}

fn command(entry: &Entry, secret: &[String]) -> String {
    match words::split(&entry.command) {
        Ok(words) => redact::command_line(&words, secret),
        Err(err) => format!("({err})"),
    }
}

/// Why the result is what it is, where it is ours: the line that ends the standard error that is reported.
pub(super) fn reason(stderr: &str) -> Option<&str> {
    stderr.lines().next_back()?.strip_prefix("opensvc-actions: ")
}

/// The members that every JSON document about an action has; the command's secrets are hidden.
pub(super) fn as_json(entry: &Entry, secret: &[String]) -> Value {
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    json!({
        "action": entry.key.to_string(),
        "queue": entry.key.queue.as_str(),
        "id": entry.key.id.0,
        "generation": entry.key.generation,
        "state": entry.state.as_str(),
        "service": none_if_empty(&entry.svcname),
        "command": command(entry, secret),
        "received_at": time(Some(entry.received_at)),
        "started_at": time(entry.started_at),
        "ended_at": time(entry.finished_at),
        "reported_at": time(entry.reported_at),
        "ret": entry.ret,
    })
}

pub(super) fn none_if_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Rows in columns: the last one is as long as it is.
pub(super) fn table<const N: usize>(out: &mut impl Write, indent: &str, rows: &[[String; N]]) -> io::Result<()> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = color::width(cell).max(*width);
        }
    }
    for row in rows {
        let mut line = indent.to_owned();
        for (cell, width) in row.iter().zip(widths) {
            let room = width - color::width(cell) + 2;
            let _ = write!(line, "{cell}{:room$}", ""); // a string takes everything
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_two_units() {
        for (millis, expected) in [
            (0, "0.000 s"),
            (1234, "1.234 s"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (200_000, "3 min 20 s"),
            (7_500_000, "2 h 5 min"),
            (345_600_000, "4 d"),
            (349_200_000, "4 d 1 h"),
        ] {
            assert_eq!(length(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(printable("é\u{1b}[2J\n€"), "é\\u{1b}[2J\\n€");
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_end() {
        let mut out = Vec::new();
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        table(&mut out, "  ", &[row(["é", "bb", "c"]), row(["aaa", "b", ""])]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "  é    bb  c\n  aaa  b\n");
    }
}
