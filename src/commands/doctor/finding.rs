//! What was found, and how it is printed.

use std::io::{self, Write};

use rustix::termios::{isatty, tcgetwinsize};
use serde_json::{Value, json};

use crate::commands::text::printable;
use crate::error::Exit;

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// It does not work. The exit status that tells it.
    Fail(Exit),
    /// It could not be checked, or there is nothing to check.
    Skip,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail(_) => "fail",
            Self::Skip => "skip",
        }
    }
}

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    check: String,
    verdict: Verdict,
    text: String,
    /// What to do, of what is not well.
    fix: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: impl Into<String>, text: impl Into<String>) -> Self {
        Self { check: check.into(), verdict: Verdict::Ok, text: text.into(), fix: None }
    }

    pub(super) fn skip(check: impl Into<String>, why: impl Into<String>) -> Self {
        Self { check: check.into(), verdict: Verdict::Skip, text: why.into(), fix: None }
    }

    pub(super) fn warn(check: impl Into<String>, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check: check.into(), verdict: Verdict::Warn, text: text.into(), fix: Some(fix.into()) }
    }

    pub(super) fn fail(check: impl Into<String>, exit: Exit, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check: check.into(), verdict: Verdict::Fail(exit), text: text.into(), fix: Some(fix.into()) }
    }

    /// What it adds to the exit status of them all.
    pub(super) fn exit(&self) -> Exit {
        if let Verdict::Fail(exit) = self.verdict { exit } else { Exit::Ok }
    }

    fn document(&self) -> Value {
        json!({ "check": self.check, "result": self.verdict.as_str(), "text": self.text, "fix": self.fix })
    }
}

/// All of them as one JSON document.
pub(super) fn document(out: &mut impl Write, findings: &[Finding]) -> io::Result<()> {
    writeln!(out, "{}", Value::Array(findings.iter().map(Finding::document).collect()))
}

/// One line for each, with its fix behind it. On a terminal, which would break the lines anywhere, they are folded between
/// words, and a fix begins a line.
pub(super) fn list(out: &mut impl Write, findings: &[Finding]) -> io::Result<()> {
    let column = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or_default();
    let width = terminal_width();
    for Finding { check, verdict, text, fix } in findings {
        let head = format!("{:4}  {check:column$}  ", verdict.as_str());
        let (text, fix) = (printable(text), fix.as_deref().map(printable));
        match (width, fix) {
            (None, None) => writeln!(out, "{head}{text}")?,
            (None, Some(fix)) => writeln!(out, "{head}{text}; fix: {fix}")?,
            (Some(width), fix) => {
                let indent = head.chars().count();
                fold(out, &head, indent, width, &text)?;
                if let Some(fix) = fix {
                    fold(out, &" ".repeat(indent), indent, width, &format!("fix: {fix}"))?;
                }
            }
        }
    }
    // What is not well may have left the screen by now.
    if width.is_some() {
        let count = |kind: &str| findings.iter().filter(|finding| finding.verdict.as_str() == kind).count();
        writeln!(out, "{}", sum(count("fail"), count("warn")))?;
    }
    Ok(())
}

/// What it comes to.
fn sum(failures: usize, warnings: usize) -> String {
    let counted = |number: usize, what: &str| match number {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{number} {what}s")),
    };
    let all: Vec<_> = [counted(failures, "failure"), counted(warnings, "warning")].into_iter().flatten().collect();
    if all.is_empty() { "All is well.".to_owned() } else { format!("{}: see \"fix\" above.", all.join(", ")) }
}

/// The columns of the terminal that standard output is; `None`: it is none.
fn terminal_width() -> Option<usize> {
    let stdout = io::stdout();
    isatty(&stdout).then(|| match tcgetwinsize(&stdout) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => 80,
    })
}

/// Writes words on lines of `width` columns, the first behind `head`, the others behind as many spaces. A word that is
/// longer than a line has one for itself.
fn fold(out: &mut impl Write, head: &str, indent: usize, width: usize, text: &str) -> io::Result<()> {
    let room = width.saturating_sub(indent).max(20);
    let (mut line, mut head) = (String::new(), head.to_owned());
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            writeln!(out, "{head}{line}")?;
            head = " ".repeat(indent);
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(out, "{head}{line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_counts_in_english() {
        let sums = [sum(0, 0), sum(1, 0), sum(2, 1), sum(0, 3)];
        let in_words = ["All is well.", "1 failure: see", "2 failures, 1 warning: see", "3 warnings: see"];
        assert!(sums.iter().zip(in_words).all(|(sum, words)| sum.starts_with(words)), "{sums:?}");
    }

    #[test]
    fn lines_are_folded_between_words() {
        let mut out = Vec::new();
        fold(&mut out, "ok  ", 4, 30, "one two three four five six sevenseveneightnineteneleventwelve x").unwrap();
        let expected = "ok  one two three four five\n    six\n    sevenseveneightnineteneleventwelve\n    x\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
