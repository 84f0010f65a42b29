//! The lines at the bottom of a person's terminal that are redrawn in place, and the log lines above them.
//!
//! Between two writes the terminal is as it was found: no mode is set, the cursor is visible and stands at the beginning
//! of the line below. So there is nothing to restore, whatever ends this process.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

static SCREEN: Mutex<Screen> = Mutex::new(Screen { on: false, lines: Vec::new() });

/// What is drawn.
#[derive(Debug, Default)]
struct Screen {
    /// Lines may be drawn; and whatever the terminal itself has echoed, as ^C, is overwritten.
    on: bool,
    lines: Vec<String>,
}

impl Screen {
    /// What erases the lines.
    fn erase(&self) -> String {
        match (self.on, self.lines.len()) {
            (false, _) => String::new(),
            (true, 0) => "\r\u{1b}[J".to_owned(),
            (true, drawn) => format!("\r\u{1b}[{drawn}A\u{1b}[J"),
        }
    }

    /// What draws the lines. A line that is too long after all is cut by the terminal: wrapped, it would be two.
    fn lines(&self) -> String {
        if self.lines.is_empty() {
            return String::new();
        }
        let lines: String = self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        format!("\u{1b}[?7l{lines}\u{1b}[?7h")
    }

    fn replace(&mut self, lines: Vec<String>) -> String {
        let erased = self.erase();
        self.lines = lines;
        erased + &self.lines()
    }

    fn above(&self, text: &str) -> String {
        format!("{}{text}{}", self.erase(), self.lines())
    }
}

fn with_screen(change: impl FnOnce(&mut Screen) -> String) -> io::Result<()> {
    let mut screen = SCREEN.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = change(&mut screen);
    if bytes.is_empty() { Ok(()) } else { io::stderr().write_all(bytes.as_bytes()) }
}

/// Draws these lines in the place of those that were drawn before. A terminal that is gone is no failure.
pub fn draw(lines: Vec<String>) {
    let _ = with_screen(|screen| {
        screen.on = true;
        screen.replace(lines)
    });
}

/// Erases the lines, and draws no more.
pub fn end() {
    let _ = with_screen(|screen| {
        let erased = screen.replace(Vec::new());
        screen.on = false;
        erased
    });
}

/// Standard error, above the lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Above;

impl MakeWriter<'_> for Above {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

impl Write for Above {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        with_screen(|screen| screen.above(&String::from_utf8_lossy(text)))?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen on an endless terminal that understands what is used here, and nothing else.
    fn seen(written: &str) -> Vec<String> {
        let (mut lines, mut row, mut rest) = (vec![String::new()], 0_usize, written);
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\n' => {
                    row += 1;
                    lines.resize(lines.len().max(row + 1), String::new());
                }
                '\r' => {}
                '\u{1b}' => {
                    let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                    match rest.split_at(end + 1).0 {
                        "[J" => {
                            lines.truncate(row);
                            lines.push(String::new());
                        }
                        "[?7l" | "[?7h" => {}
                        up => {
                            let up = up.strip_prefix('[').and_then(|up| up.strip_suffix('A'));
                            row -= up.unwrap().parse::<usize>().unwrap();
                        }
                    }
                    rest = &rest[end + 1..];
                }
                c => lines[row].push(c),
            }
        }
        lines
    }

    #[test]
    fn lines_are_redrawn_in_place_and_the_log_stays_above_them() {
        let lines = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut screen = Screen { on: true, ..Screen::default() };
        let mut written = screen.replace(lines(&["a", "b"]));
        assert_eq!(seen(&written), ["a", "b", ""]);
        written += &screen.above("one\n");
        assert_eq!(seen(&written), ["one", "a", "b", ""]);
        written += "^C"; // the terminal's own
        written += &screen.replace(lines(&["c"]));
        assert_eq!(seen(&written), ["one", "c", ""]);
        written += &screen.above("two\n");
        written += &screen.replace(Vec::new());
        assert_eq!(seen(&written), ["one", "two", ""]);
        screen.on = false;
        written += &screen.above("three\n");
        assert_eq!(seen(&written), ["one", "two", "three", ""]);
    }
}
