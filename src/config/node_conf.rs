//! OpenSVC's INI files, `node.conf` and `cluster.conf`: text in, entries out.
//!
//! The two agents that own these files read some lines differently, so there are two [`Reading`]s of the same text:
//!
//! | | 2.x (Python's `RawConfigParser`) | 3.x (a fork of go-ini) |
//! | --- | --- | --- |
//! | `k = a # b` | `a # b` | `a` |
//! | `k = "a"` | `"a"` | `a` |
//! | `[DEFAULT]` | a section like any other | lies under every section |
//! | a key above every section | a mistake | stands in `[DEFAULT]` |
//! | a byte order mark | a mistake | is passed over |
//!
//! Common to both: keys and section names are case-sensitive, `=` or `:` delimits, the last of several equal keys wins, a
//! line that is indented deeper than its key continues the value.

use std::fmt;

/// The section that lies under every other in [`Reading::V3`].
pub const DEFAULT: &str = "DEFAULT";

/// Whose reading of a line counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// As the 1.x and 2.x agents read it.
    V2,
    /// As the 3.x agent reads it.
    V3,
}

/// One key of a file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The section that it stands in.
    pub section: String,
    /// The key, with its scope (`key@node`) if it has one.
    pub key: String,
    /// The value, its continuation lines joined by newlines.
    pub value: String,
    /// The line of the key, from 1.
    pub line: usize,
}

/// A text that the agent would not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The text begins with a byte order mark (2.x only).
    ByteOrderMark,
    /// A key before the first section (2.x only).
    NoSection,
    /// A line that is nothing at all.
    NoDelimiter,
    /// A delimiter without a key before it.
    NoKey,
}

/// Reads a text.
///
/// # Errors
///
/// The first line that the agent would stumble over.
pub fn parse(text: &str, reading: Reading) -> Result<Vec<Entry>, SyntaxError> {
    let (text, section) = match (text.strip_prefix('\u{feff}'), reading) {
        (Some(_), Reading::V2) => return Err(SyntaxError { line: 1, reason: Reason::ByteOrderMark }),
        (None, Reading::V2) => (text, None),
        (behind, Reading::V3) => (behind.unwrap_or(text), Some(DEFAULT.to_owned())),
    };
    let mut parser = Parser { reading, entries: Vec::new(), section, open: None, indent: 0 };
    for (index, line) in lines(text).enumerate() {
        parser.line(line).map_err(|reason| SyntaxError { line: index + 1, reason })?;
        parser.number(index + 1);
    }
    parser.close();
    Ok(parser.entries)
}

struct Parser {
    reading: Reading,
    entries: Vec<Entry>,
    section: Option<String>,
    /// The entry that an indented line would continue.
    open: Option<Entry>,
    /// The indentation of the last line that was not a continuation.
    indent: usize,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), Reason> {
        if trim(line).starts_with(['#', ';']) {
            return Ok(()); // not even the end of a value
        }
        let content = match self.reading {
            Reading::V2 => trim(line),
            Reading::V3 => trim(before_comment(line)),
        };
        if content.is_empty() {
            if let Some(open) = &mut self.open {
                open.value.push('\n');
            }
            return Ok(());
        }
        let indent = line.chars().take_while(|c| is_blank(*c)).count();
        if let Some(open) = self.open.as_mut().filter(|_| indent > self.indent) {
            open.value.push('\n');
            open.value.push_str(content);
            return Ok(());
        }
        self.indent = indent;
        self.close();
        if let Some(header) = header(content) {
            self.section = Some(header.to_owned());
            return Ok(());
        }
        let section = self.section.clone().ok_or(Reason::NoSection)?;
        let (key, value) = content.split_once(['=', ':']).ok_or(Reason::NoDelimiter)?;
        let (key, value) = (trim(key).to_owned(), trim(value).to_owned());
        if key.is_empty() {
            return Err(Reason::NoKey);
        }
        self.open = Some(Entry { section, key, value, line: 0 });
        Ok(())
    }

    /// Gives an entry that was just begun its line.
    fn number(&mut self, line: usize) {
        if let Some(open) = self.open.as_mut().filter(|open| open.line == 0) {
            open.line = line;
        }
    }

    /// The value that was being read is complete.
    fn close(&mut self) {
        if let Some(entry) = self.open.take() {
            let value = entry.value.trim_end_matches(is_blank);
            let value = if self.reading == Reading::V3 { unquoted(value) } else { value };
            let value = value.to_owned();
            self.entries.push(Entry { value, ..entry });
        }
    }
}

/// The text up to the first comment sign that stands behind a blank.
fn before_comment(line: &str) -> &str {
    let mut behind_blank = false;
    for (index, c) in line.char_indices() {
        if behind_blank && matches!(c, '#' | ';') {
            return &line[..index];
        }
        behind_blank = is_blank(c);
    }
    line
}

/// The value without the quotes around it. Quotes that do not belong together stay: `"a" or "b"`.
fn unquoted(value: &str) -> &str {
    ['\'', '"']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote).filter(|inner| !inner.contains(quote)))
        .unwrap_or(value)
}

/// The name between the first bracket and the last; what stands behind the latter does not matter.
fn header(content: &str) -> Option<&str> {
    let (name, _) = content.strip_prefix('[')?.rsplit_once(']')?;
    Some(name).filter(|name| !name.is_empty())
}

/// The lines of a text in which `\n`, `\r\n` and `\r` end a line.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (line, behind) = rest.split_at(rest.find(['\n', '\r']).unwrap_or(rest.len()));
        rest = behind.strip_prefix("\r\n").or_else(|| behind.get(1..)).unwrap_or_default();
        Some(line)
    })
}

fn trim(text: &str) -> &str {
    text.trim_matches(is_blank)
}

/// What Python takes for white space: four separators more than Unicode does.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ByteOrderMark => "the file begins with a byte order mark; save it as plain UTF-8",
            Self::NoSection => "there is no section header like \"[node]\" above this line",
            Self::NoDelimiter => "expected a section header, or a key and a value with \"=\" between them",
            Self::NoKey => "there is no key before the delimiter",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, reading: Reading) -> Vec<(String, String, String, usize)> {
        let entries = parse(text, reading).unwrap();
        entries.into_iter().map(|entry| (entry.section, entry.key, entry.value, entry.line)).collect()
    }

    /// The values of `[s] k`, as 2.x and as 3.x read the line.
    fn both(line: &str) -> (String, String) {
        let text = format!("[s]\n{line}\n");
        let value = |reading| parse(&text, reading).unwrap().remove(0).value;
        (value(Reading::V2), value(Reading::V3))
    }

    #[test]
    fn values_as_both_agents_read_them() {
        for (line, v2, v3) in [
            ("k = a", "a", "a"),
            ("k: a", "a", "a"),
            ("k=a:b=c", "a:b=c", "a:b=c"),
            ("k =", "", ""),
            ("k = a ; b", "a ; b", "a"),
            ("k = a # b", "a # b", "a"),
            ("k = a\t# b", "a\t# b", "a"),
            ("k = a#b;c", "a#b;c", "a#b;c"),
            ("k = # b", "# b", ""),
            ("k = \"a b\"", "\"a b\"", "a b"),
            ("k = 'a'", "'a'", "a"),
            ("k = \"a\" # b", "\"a\" # b", "a"),
            ("k = \"a\" or \"b\"", "\"a\" or \"b\"", "\"a\" or \"b\""),
            ("k = \"", "\"", "\""),
            ("k = \"\"", "\"\"", ""),
            ("k = %(x)s $x", "%(x)s $x", "%(x)s $x"),
        ] {
            assert_eq!(both(line), (v2.to_owned(), v3.to_owned()), "{line}");
        }
    }

    #[test]
    fn structure() {
        let text = "# c\n[a]\nK = 1\n  ; c\nk = 2\n[b] trailing\n  k = 3\n[a]\nk = 4\n[DEFAULT]\nk = 5\n[x]]\nk=6";
        let expected =
            [("a", "K", "1", 3), ("a", "k", "2", 5), ("b", "k", "3", 7), ("a", "k", "4", 9), ("DEFAULT", "k", "5", 11)];
        let expected = expected.into_iter().chain([("x]", "k", "6", 13)]);
        let expected: Vec<_> = expected.map(|(s, k, v, n)| (s.to_owned(), k.to_owned(), v.to_owned(), n)).collect();
        assert_eq!(read(text, Reading::V2), expected);
    }

    #[test]
    fn indented_lines_continue_a_value_and_comments_do_not_end_it() {
        let text = "[s]\nk = a\n  b = c\n# no\n\n   d\nl = 1\n\n\n";
        let values: Vec<_> = read(text, Reading::V2).into_iter().map(|(_, _, value, line)| (value, line)).collect();
        assert_eq!(values, [("a\nb = c\n\nd".to_owned(), 2), ("1".to_owned(), 7)]);
    }

    #[test]
    fn every_line_end_is_understood() {
        for text in ["[s]\nk=1\n\nl=2\n", "[s]\r\nk=1\r\n\r\nl=2\r\n", "[s]\rk=1\r\rl=2"] {
            let lines: Vec<_> =
                read(text, Reading::V3).into_iter().map(|(_, key, value, line)| (key, value, line)).collect();
            assert_eq!(lines, [("k".to_owned(), "1".to_owned(), 2), ("l".to_owned(), "2".to_owned(), 4)]);
        }
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, line, reason) in [
            ("[s]\n\nkey\n", 3, Reason::NoDelimiter),
            ("[s]\n[t\n", 2, Reason::NoDelimiter),
            ("[s]\n = 1\n", 2, Reason::NoKey),
        ] {
            for reading in [Reading::V2, Reading::V3] {
                assert_eq!(parse(text, reading), Err(SyntaxError { line, reason }), "{text:?}");
            }
        }
    }

    #[test]
    fn what_is_a_mistake_for_2x_alone() {
        for (text, line, reason, v3) in [
            ("\u{feff}[s]\nk=1", 1, Reason::ByteOrderMark, ("s", 2)),
            ("# c\nk = 1\n[s]", 2, Reason::NoSection, (DEFAULT, 2)),
            ("\u{feff}k = 1\n", 1, Reason::ByteOrderMark, (DEFAULT, 1)),
        ] {
            assert_eq!(parse(text, Reading::V2), Err(SyntaxError { line, reason }), "{text:?}");
            assert_eq!(read(text, Reading::V3), [(v3.0.to_owned(), "k".to_owned(), "1".to_owned(), v3.1)], "{text:?}");
        }
        assert_eq!(parse("[]\n", Reading::V2), Err(SyntaxError { line: 1, reason: Reason::NoSection }));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "(?s).*", likely in "[\\[\\]ab=:#;\"' \t\r\n]*") {
            for text in [text, likely] {
                let _ = parse(&text, Reading::V2);
                let _ = parse(&text, Reading::V3);
            }
        }
    }
}
