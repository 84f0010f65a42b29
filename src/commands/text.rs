//! How things are written for people and in JSON, the same in every command.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
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
    format!("{} ({} ago)", when(time), age(now.since(time)))
}

/// How long something has gone on or is past, like [`length`], but in whole seconds: it is another one when it is read.
pub(super) fn age(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..10 => format!("{seconds} s"),
        _ => length(duration),
    }
}

/// The same on a terminal, where room is dear: without the offset.
pub(super) fn when_on_screen(time: Timestamp) -> String {
    if width().is_some() { zone::local(time).civil.to_string() } else { when(time) }
}

/// How long ago a moment was, in its largest unit: `12 s`, `3 min`, `5 h`, `4 d`.
pub(super) fn ago(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(time).as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A number of bytes for people: `0 bytes`, `12.3 MiB`.
#[expect(clippy::cast_precision_loss, reason = "three digits of it are shown")]
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.into_iter().find(|(_, unit)| number >= *unit) {
        None => format!("{number} bytes"),
        Some((name, unit)) => format!("{:.1} {name}", number as f64 / unit as f64),
    }
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
    if entry.command.is_empty() && entry.svcname.is_empty() {
        // Of an action of a lost ledger no more is left than its name.
        return "(not known)".to_owned();
    }
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

/// The columns of the terminal that standard output is; `None`: it is none, and nothing is cut.
pub(super) fn width() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let told = || rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
    // A serial line knows no size.
    asked.or_else(told).filter(|columns| *columns > 0).map(|columns| columns.max(NARROWEST))
}

/// On anything narrower nothing can be read anyway.
const NARROWEST: usize = 40;

/// A line that fits: what is too much is cut, and it says so. Colour takes no room, and what ends it stays.
fn cut(line: &str, width: Option<usize>) -> String {
    let Some(width) = width.filter(|width| color::width(line) > *width) else { return line.to_owned() };
    let (mut kept, mut seen, mut in_colour) = (String::new(), 0, false);
    for c in line.chars() {
        if in_colour || c == '\u{1b}' {
            in_colour = c != 'm';
            kept.push(c);
            continue;
        }
        seen += 1;
        if seen <= width {
            kept.push(if seen < width { c } else { '…' });
        }
    }
    kept
}

/// Rows in columns. The last column is as long as it is, but on a terminal, where it is cut at the edge.
pub(super) fn table<const N: usize>(out: &mut impl Write, indent: &str, rows: &[[String; N]]) -> io::Result<()> {
    columns(out, indent, rows, width())
}

fn columns<const N: usize>(
    out: &mut impl Write,
    indent: &str,
    rows: &[[String; N]],
    screen: Option<usize>,
) -> io::Result<()> {
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
        writeln!(out, "{}", cut(line.trim_end(), screen))?;
    }
    Ok(())
}

/// What went wrong with a collector that was named already: without its URL at the beginning.
pub(super) fn without_url<'a>(error: &'a str, collector: &str) -> &'a str {
    error.strip_prefix(collector).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(error)
}

/// Names and what they stand for. On a terminal, what is longer than a line goes on below itself.
pub(super) fn pairs(out: &mut impl Write, rows: &[[String; 2]]) -> io::Result<()> {
    wrapped(out, rows, width())
}

fn wrapped(out: &mut impl Write, rows: &[[String; 2]], screen: Option<usize>) -> io::Result<()> {
    let names = rows.iter().map(|[name, _]| name.chars().count()).max().unwrap_or_default();
    let room = screen.map_or(usize::MAX, |screen| screen.saturating_sub(names + 2).max(NARROWEST / 2));
    for [name, text] in rows {
        let mut name = name.as_str();
        for line in lines(text, room) {
            writeln!(out, "{}", format_args!("{name:names$}  {line}").to_string().trim_end())?;
            name = "";
        }
    }
    Ok(())
}

/// Text in lines of so many characters at most, broken at blanks where there are some. At least one line.
fn lines(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0; // characters of the last line
    for word in text.split_inclusive(' ') {
        let length = word.trim_end().chars().count();
        if used > 0 && used + length > room {
            lines.push(String::new());
            used = 0;
        }
        for c in word.chars() {
            if used == room && c != ' ' {
                lines.push(String::new());
                used = 0;
            }
            if used < room {
                lines.last_mut().unwrap_or(&mut String::new()).push(c);
                used += 1;
            }
        }
    }
    lines
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
    fn one_unit_is_enough_for_how_long_ago() {
        let at = |seconds| Timestamp { seconds, nanos: 0 };
        for (seconds, expected) in [(0, "0 s"), (59, "59 s"), (61, "1 min"), (7200, "2 h"), (190_000, "2 d")] {
            assert_eq!(ago(at(0), at(seconds)), expected);
        }
        assert_eq!(ago(at(5), at(0)), "0 s", "a clock that was set back");
    }

    #[test]
    fn bytes_have_a_unit_that_leaves_little_to_read() {
        let shown = [0, 1023, 1024, 12_900_000, 3 << 30, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 bytes", "1023 bytes", "1.0 KiB", "12.3 MiB", "3.0 GiB", "16777216.0 TiB"]);
    }

    #[test]
    fn only_on_a_terminal_the_last_column_is_cut() {
        let rows = [["a", "ééééé"], ["bb", "c"]].map(|row| row.map(str::to_owned));
        let shown = |screen| {
            let mut out = Vec::new();
            columns(&mut out, "", &rows, screen).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(None), "a   ééééé\nbb  c\n");
        assert_eq!(shown(Some(9)), shown(None));
        assert_eq!(shown(Some(7)), "a   éé…\nbb  c\n");
    }

    #[test]
    fn what_is_cut_is_what_is_seen_and_not_its_colour() {
        let coloured = "\u{1b}[31m1\u{1b}[m abc";
        assert_eq!(cut(coloured, Some(5)), coloured, "it fits");
        assert_eq!(cut(coloured, Some(4)), "\u{1b}[31m1\u{1b}[m a…");
        assert_eq!(cut("ab\u{1b}[31mcd\u{1b}[m", Some(3)), "ab\u{1b}[31m…\u{1b}[m", "nothing behind it is red");
    }

    #[test]
    fn nobody_reads_how_many_milliseconds_ago_it_was() {
        let shown = [999, 2961, 59_000, 7_500_000].map(|millis| age(Duration::from_millis(millis)));
        assert_eq!(shown, ["0 s", "2 s", "59 s", "2 h 5 min"]);
    }

    #[test]
    fn only_on_a_terminal_long_values_go_on_below() {
        let rows = [["name", "one two three"], ["x", ""]].map(|row| row.map(str::to_owned));
        let shown = |screen| {
            let mut out = Vec::new();
            wrapped(&mut out, &rows, screen).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(None), "name  one two three\nx\n");
        assert_eq!(lines("one two three", 8), ["one two ", "three"]);
        assert_eq!(lines("onetwothree four", 4), ["onet", "woth", "ree ", "four"]);
        let long = "word ".repeat(30);
        let rows = [["name".to_owned(), long.trim_end().to_owned()]];
        let mut out = Vec::new();
        wrapped(&mut out, &rows, Some(40)).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.lines().all(|line| line.chars().count() <= 40) && out.lines().count() > 4, "{out}");
        assert_eq!(out.split_whitespace().filter(|word| *word == "word").count(), 30);
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
