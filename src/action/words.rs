//! A command string → words, by the quoting rules of the reference agents.
//!
//! Agent 2.x splits with python's `shlex.split` (POSIX mode, comments off), and so does this module, for every queue.
//! Where crates and shells differ, python's reading counts: `#` is an ordinary character even at the start of a word
//! (resource names look like `fs#1`), a carriage return separates words, inside double quotes a backslash escapes only
//! `"` and itself, a backslash before a line feed keeps the line feed, and an empty quoted word is a word. Nothing is
//! expanded.

/// A command string that cannot be split; the words are python's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// A quotation mark without its partner. Stored commands can hold one: a 1.x/2.x collector turns every apostrophe
    /// of a command into a double quote.
    #[error("no closing quotation")]
    NoClosingQuotation,
    /// A backslash with nothing behind it.
    #[error("no escaped character")]
    NoEscapedCharacter,
}

/// Splits a command string into words.
///
/// # Errors
/// A quotation or an escape is left open.
pub fn split(command: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    // None between words; an empty word is Some.
    let mut word: Option<String> = None;
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(chars.next().ok_or(WordsError::NoEscapedCharacter)?),
            '\'' => single_quoted(&mut chars, word.get_or_insert_default())?,
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Everything up to the next `'`, as it stands.
fn single_quoted(chars: &mut impl Iterator<Item = char>, word: &mut String) -> Result<(), WordsError> {
    loop {
        match chars.next().ok_or(WordsError::NoClosingQuotation)? {
            '\'' => return Ok(()),
            c => word.push(c),
        }
    }
}

/// Everything up to the next `"` that no backslash precedes; any other backslash stays, but one of a pair.
fn double_quoted(chars: &mut impl Iterator<Item = char>, word: &mut String) -> Result<(), WordsError> {
    loop {
        match chars.next().ok_or(WordsError::NoClosingQuotation)? {
            '"' => return Ok(()),
            '\\' => match chars.next().ok_or(WordsError::NoEscapedCharacter)? {
                c @ ('"' | '\\') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_split_as_python_splits_them() {
        for (command, expected) in [
            ("", &[][..]),
            (" \t\r\n ", &[]),
            ("start --local", &["start", "--local"]),
            ("start --rid fs#1,disk#2", &["start", "--rid", "fs#1,disk#2"]),
            ("echo #comment", &["echo", "#comment"]),
            ("a\rb", &["a", "b"]),
            ("a\u{a0}b\u{b}c", &["a\u{a0}b\u{b}c"]),
            (r#"--env=k="v w" x"#, &["--env=k=v w", "x"]),
            (r#"a "" '' b"#, &["a", "", "", "b"]),
            (r#""b\$c\"\\""#, &[r#"b\$c"\"#]),
            (r"'a\b'\'", &[r"a\b'"]),
            ("a\\\nb", &["a\nb"]),
            ("\"a\\\nb\"", &["a\\\nb"]),
            (r"\ ", &[" "]),
        ] {
            assert_eq!(split(command).unwrap(), expected, "{command:?}");
        }
    }

    #[test]
    fn what_is_left_open_is_an_error() {
        for command in ["it's", "\"", "'\\'x'", "\"a\\\""] {
            assert_eq!(split(command), Err(WordsError::NoClosingQuotation), "{command:?}");
        }
        for command in ["\\", "a \\", "\"a\\"] {
            assert_eq!(split(command), Err(WordsError::NoEscapedCharacter), "{command:?}");
        }
    }

    proptest! {
        #[test]
        fn words_survive_quoting(words in prop::collection::vec("[ \t\r\na'\"\\\\#$é]{0,6}", 0..6)) {
            let single: Vec<_> = words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
            prop_assert_eq!(&split(&single.join(" ")).unwrap(), &words);
            let double: Vec<_> =
                words.iter().map(|word| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))).collect();
            prop_assert_eq!(&split(&double.join("\t")).unwrap(), &words);
        }
    }
}
