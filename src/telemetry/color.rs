//! Colour, for a person who looks: decided once, at the start, and asked for by whoever prints. What goes anywhere but
//! to a terminal has none, unless the command line says so.

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicBool, Ordering};

static ON_STDOUT: AtomicBool = AtomicBool::new(false);
static ON_STDERR: AtomicBool = AtomicBool::new(false);

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hue {
    /// It is well.
    Green,
    /// It goes on.
    Yellow,
    /// It has failed.
    Red,
}

impl Hue {
    /// The hue of an action's result.
    #[must_use]
    pub const fn of_result(ret: i32) -> Self {
        if ret == 0 { Self::Green } else { Self::Red }
    }

    fn paint(self, text: &str) -> String {
        let code = match self {
            Self::Green => 32,
            Self::Yellow => 33,
            Self::Red => 31,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[m")
    }
}

/// Decides, for the rest of the process's life. `wanted` is what the command line says, `None` for "auto": then each of
/// the two outputs is coloured that is a terminal, unless `NO_COLOR` is set and not empty (see no-color.org) or `TERM`
/// is "dumb".
pub fn decide(wanted: Option<bool>, no_color: Option<&OsStr>, term: Option<&OsStr>) {
    let plain = no_color.is_some_and(|value| !value.is_empty()) || is_dumb(term);
    ON_STDOUT.store(wanted.unwrap_or_else(|| !plain && io::stdout().is_terminal()), Ordering::Relaxed);
    ON_STDERR.store(wanted.unwrap_or_else(|| !plain && io::stderr().is_terminal()), Ordering::Relaxed);
}

/// Whether the terminal can neither colour nor move its cursor.
#[must_use]
pub fn is_dumb(term: Option<&OsStr>) -> bool {
    term.is_none_or(|term| term.is_empty() || term == "dumb")
}

/// Text for standard output.
#[must_use]
pub fn out(hue: Hue, text: &str) -> String {
    painted(&ON_STDOUT, hue, text)
}

/// Text for standard error.
#[must_use]
pub fn err(hue: Hue, text: &str) -> String {
    painted(&ON_STDERR, hue, text)
}

fn painted(on: &AtomicBool, hue: Hue, text: &str) -> String {
    if on.load(Ordering::Relaxed) && !text.is_empty() { hue.paint(text) } else { text.to_owned() }
}

/// How many characters of a text are seen: colour takes no room.
#[must_use]
pub fn width(text: &str) -> usize {
    let mut seen = 0;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            let _ = chars.by_ref().find(|c| *c == 'm');
        } else {
            seen += 1;
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_takes_no_room() {
        assert_eq!(Hue::of_result(1).paint("é1"), "\u{1b}[31mé1\u{1b}[m");
        assert_eq!(width(&format!("a{}b", Hue::Green.paint("éx"))), 4);
        assert_eq!(width(""), 0);
    }

    #[test]
    fn a_terminal_without_a_name_is_dumb() {
        for (term, dumb) in [(None, true), (Some(""), true), (Some("dumb"), true), (Some("xterm"), false)] {
            assert_eq!(is_dumb(term.map(OsStr::new)), dumb, "{term:?}");
        }
    }
}
