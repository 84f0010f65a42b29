//! What a person sees of a run while it goes on: some lines of text, and how they fit the terminal. What is in them is
//! for others to find out.

use std::time::Duration;

use super::color::{self, Hue};

/// A terminal that does not tell its size.
const USUAL: (usize, usize) = (80, 24);

/// So many running actions have a line each.
const LISTED: usize = 8;

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What runs.
    pub running: Vec<Running>,
    /// How many actions are here and wait for their turn.
    pub waiting: u64,
    /// How many have ended since one looks, with 0.
    pub done: u64,
    /// How many have ended with something else.
    pub failed: u64,
    /// How many results no collector has accepted yet.
    pub unreported: u64,
    /// Who is looked at, if it is another process.
    pub other: Option<u32>,
    /// Nothing more is started.
    pub stopping: bool,
}

/// An action that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its name and its command.
    pub what: String,
    /// For how long.
    pub elapsed: Duration,
    /// The last line that it has printed.
    pub last_line: Option<String>,
}

/// The columns and rows of the terminal on standard error.
#[must_use]
pub fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    let known = size.ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    known.map_or(USUAL, |size| (usize::from(size.ws_col), usize::from(size.ws_row)))
}

impl Standing {
    /// Whether there is anything to tell.
    #[must_use]
    pub fn is_worth_a_look(&self) -> bool {
        !self.running.is_empty() || self.waiting > 0 || self.unreported > 0
    }

    /// The lines for a terminal of so many columns and rows; never more than fit.
    #[must_use]
    pub fn lines(&self, (columns, rows): (usize, usize)) -> Vec<String> {
        let mut lines = Vec::new();
        // The cursor stands below the last line, and the last line says the rest.
        let mut room = rows.saturating_sub(2);
        let listed = self.running.iter().take(LISTED);
        for (index, running) in listed.enumerate() {
            let height = 1 + usize::from(running.last_line.is_some());
            if height > room {
                break;
            }
            room -= height;
            lines.push(running.line(columns));
            lines.extend(running.last_line.as_deref().map(|text| cut(&format!("  {text}"), columns)));
            if index + 1 == LISTED.min(self.running.len()) && self.running.len() > LISTED && room > 0 {
                lines.push(cut(&format!("and {} more", self.running.len() - LISTED), columns));
            }
        }
        let who = self.other.map_or_else(String::new, |pid| format!("process {pid}: "));
        let stopping = if self.stopping { "; nothing more is started" } else { "" };
        let running = self.running.len();
        let text = format!("{who}{running} running, {} waiting, {}{stopping}", self.waiting, self.counts());
        lines.push(cut(&text, columns));
        lines
    }

    /// One line that says all, where nothing can be redrawn.
    #[must_use]
    pub fn line(&self) -> String {
        let running = self.running.iter().map(|running| format!("{} for {}", running.what, clock(running.elapsed)));
        let running: Vec<_> = running.collect();
        format!("running {}; {} waiting, {}", running.join(", "), self.waiting, self.counts())
    }

    /// The last line of a run.
    #[must_use]
    pub fn summary(&self) -> String {
        let hue = |hue, count: u64, text: String| if count > 0 { color::err(hue, &text) } else { text };
        let running = u64::try_from(self.running.len()).unwrap_or(u64::MAX);
        let left = [(running, "still running"), (self.waiting, "waiting")].into_iter().filter(|(count, _)| *count > 0);
        let left: Vec<_> = left.map(|(count, what)| format!("{count} {what}")).collect();
        let left = if left.is_empty() { String::new() } else { format!("; {}", left.join(" and ")) };
        format!(
            "{}, {}, {}{left}",
            hue(Hue::Green, self.done, format!("{} done", self.done)),
            hue(Hue::Red, self.failed, format!("{} failed", self.failed)),
            hue(Hue::Yellow, self.unreported, format!("{} unreported", self.unreported)),
        )
    }

    fn counts(&self) -> String {
        let unreported = if self.unreported > 0 { format!(", {} unreported", self.unreported) } else { String::new() };
        format!("{} done, {} failed{unreported}", self.done, self.failed)
    }
}

impl Running {
    fn line(&self, columns: usize) -> String {
        let elapsed = clock(self.elapsed);
        let what = cut(&self.what, columns.saturating_sub(elapsed.len() + 1));
        let gap = columns.saturating_sub(1 + what.chars().count() + elapsed.len());
        format!("{}{:gap$}{elapsed}", color::err(Hue::Yellow, &what), "")
    }
}

/// As on a clock: `0:07`, `12:34`, `1:02:03`.
fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// At most so many characters less one; what is cut ends with dots.
fn cut(text: &str, columns: usize) -> String {
    let room = columns.saturating_sub(1);
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut text: String = text.chars().take(room.saturating_sub(3)).collect();
    text.push_str("...");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(what: &str, seconds: u64, last_line: Option<&str>) -> Running {
        let last_line = last_line.map(str::to_owned);
        Running { what: what.to_owned(), elapsed: Duration::from_secs(seconds), last_line }
    }

    #[test]
    fn a_run_fits_the_terminal_that_it_is_shown_on() {
        let standing = Standing {
            running: vec![running("rpc:1.1 web1 start", 7, Some("half")), running(&"long ".repeat(40), 3723, None)],
            waiting: 3,
            done: 5,
            failed: 1,
            ..Standing::default()
        };
        let lines = standing.lines((80, 24));
        assert_eq!(lines[0], format!("{:75}0:07", "rpc:1.1 web1 start"));
        assert_eq!(lines[1], "  half");
        assert!(lines[2].starts_with("long long ") && lines[2].ends_with("... 1:02:03"), "{}", lines[2]);
        assert_eq!(lines[3], "2 running, 3 waiting, 5 done, 1 failed");
        assert!(lines.iter().all(|line| line.chars().count() < 80), "{lines:?}");
        for columns in 0..100 {
            for rows in 0..10 {
                let lines = standing.lines((columns, rows));
                assert!(lines.len() <= rows.saturating_sub(1).max(1), "{columns}x{rows}: {lines:?}");
                let fits = |line: &String| line.chars().count() < columns.max(16);
                assert!(lines.iter().all(fits), "{columns}x{rows}: {lines:?}");
            }
        }
    }

    #[test]
    fn of_many_the_first_are_listed_and_the_others_counted() {
        let standing = Standing { running: vec![running("x", 0, None); 12], ..Standing::default() };
        let lines = standing.lines((80, 24));
        assert_eq!(
            (lines.len(), &*lines[8], &*lines[9]),
            (10, "and 4 more", "12 running, 0 waiting, 0 done, 0 failed")
        );
    }

    #[test]
    fn what_is_said_at_the_end_and_to_a_simple_terminal_is_one_line() {
        let mut standing = Standing { done: 3, failed: 2, unreported: 1, ..Standing::default() };
        assert_eq!(standing.summary(), "3 done, 2 failed, 1 unreported");
        standing.waiting = 4;
        assert_eq!(standing.summary(), "3 done, 2 failed, 1 unreported; 4 waiting");
        standing.running = vec![running("rpc:1.1 a", 61, None), running("rpc:2.1 b", 0, None)];
        assert_eq!(standing.summary(), "3 done, 2 failed, 1 unreported; 2 still running and 4 waiting");
        standing.waiting = 0;
        let expected = "running rpc:1.1 a for 1:01, rpc:2.1 b for 0:00; 0 waiting, 3 done, 2 failed, 1 unreported";
        assert_eq!(standing.line(), expected);
    }
}
