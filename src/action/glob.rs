//! Globs on one word, as the policy's rules use them.
//!
//! `*` stands for any text, `?` for one character, `[…]` for one of several, with ranges (`[a-c]`), or with a `!` in front
//! for any other. Inside brackets nothing else is special, and a `]` stands first: `[*]` is an asterisk, `[]]` a bracket.
//! A glob fits the whole word or not at all, letter for letter: case counts, and so does every byte of a character
//! that only looks like another. A backslash is an ordinary character.

use std::fmt;
use std::str::{Chars, FromStr};

/// The longest glob, in bytes. With it, and with one place only to go back to, the time that a word takes is bounded by
/// its length.
const LONGEST: usize = 1024;

/// A glob that is known to be well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text,
    One,
    This(char),
    Of { others: bool, ranges: Vec<(char, char)> },
}

/// Why a text is no glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// A `[` without its `]`.
    #[error("{0:?} has a [ without its ]; a bracket itself is written [[]")]
    Open(String),
    /// A range that ends before it begins.
    #[error("{0:?} has a range that ends before it begins")]
    Range(String),
    /// It is longer than anybody writes by hand.
    #[error("it is longer than {LONGEST} bytes")]
    TooLong,
}

impl Glob {
    /// Whether the whole word fits. Time is bounded by the product of both lengths: of all the `*` only the last one
    /// passed is ever tried again.
    #[must_use]
    pub fn matches(&self, word: &str) -> bool {
        let (mut part, mut rest) = (0, word.chars());
        // Behind the last `*`, and what it has not taken yet.
        let mut again: Option<(usize, Chars)> = None;
        loop {
            let fits = match self.parts.get(part) {
                None => rest.as_str().is_empty(),
                Some(Part::Text) => {
                    again = Some((part + 1, rest.clone()));
                    true
                }
                Some(one) => rest.next().is_some_and(|c| one.takes(c)),
            };
            if fits && part == self.parts.len() {
                return true;
            } else if fits {
                part += 1;
                continue;
            }
            let Some((behind, left)) = &mut again else { return false };
            if left.next().is_none() {
                return false;
            }
            (part, rest) = (*behind, left.clone());
        }
    }
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Text | Self::One => true,
            Self::This(this) => *this == c,
            Self::Of { others, ranges } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *others,
        }
    }
}

impl FromStr for Glob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        if text.len() > LONGEST {
            return Err(GlobError::TooLong);
        }
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Text,
                '?' => Part::One,
                '[' => brackets(&mut chars, text)?,
                c => Part::This(c),
            });
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

/// What is behind a `[`, up to and with its `]`.
fn brackets(chars: &mut Chars, text: &str) -> Result<Part, GlobError> {
    let open = || GlobError::Open(text.to_owned());
    let mut next = chars.next().ok_or_else(open)?;
    let others = next == '!';
    if others {
        next = chars.next().ok_or_else(open)?;
    }
    let mut ranges = Vec::new();
    while next != ']' || ranges.is_empty() {
        let from = next;
        next = chars.next().ok_or_else(open)?;
        let mut to = from;
        let mut ahead = chars.clone();
        if let ('-', Some(end)) = (next, ahead.next().filter(|end| *end != ']')) {
            to = end;
            *chars = ahead;
            next = chars.next().ok_or_else(open)?;
        }
        if to < from {
            return Err(GlobError::Range(text.to_owned()));
        }
        ranges.push((from, to));
    }
    Ok(Part::Of { others, ranges })
}

/// As it was written.
impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fits(glob: &str, word: &str) -> bool {
        glob.parse::<Glob>().unwrap().matches(word)
    }

    #[test]
    fn a_glob_fits_the_whole_word_or_nothing() {
        for (glob, word, expected) in [
            ("", "", true),
            ("", "a", false),
            ("start", "start", true),
            ("start", "starts", false),
            ("start", "restart", false),
            ("start", "Start", false),
            ("start", "st\u{430}rt", false), // a Cyrillic а
            ("start", "start\n", false),
            ("*", "", true),
            ("*", "a\nb\0é", true),
            ("--rid=*", "--rid=fs#1", true),
            ("--rid=*", "--rid", false),
            ("*#*", "fs#1", true),
            ("a*b*c", "abbbc", true),
            ("a*b*c", "acb", false),
            ("*.conf", "a.conf.bak.conf", true),
            ("fs?1", "fs#1", true),
            ("fs?1", "fsé1", true),
            ("fs?1", "fs1", false),
            ("n[0-9]", "n7", true),
            ("n[0-9]", "n\u{664}", false), // an Arabic digit
            ("n[!0-9]", "n7", false),
            ("n[!0-9]", "nx", true),
            ("n[!0-9]", "n", false),
            ("[*]", "*", true),
            ("[*]", "a", false),
            ("[[]", "[", true),
            ("[]]", "]", true),
            ("[!]]", "]", false),
            ("[a-]", "-", true),
            ("[-a]", "-", true),
            ("[+--]", ",", true),
            ("[^a]", "^", true),
            ("\\*", "\\x", true),
            ("\\*", "*", false),
        ] {
            assert_eq!(fits(glob, word), expected, "{glob:?} {word:?}");
        }
    }

    #[test]
    fn what_is_no_glob_says_why() {
        for glob in ["[", "a[", "[]", "[!]", "[a", "[a-", "[a-b", "x[!"] {
            assert_eq!(glob.parse::<Glob>(), Err(GlobError::Open(glob.to_owned())), "{glob}");
        }
        assert_eq!("[b-a]".parse::<Glob>(), Err(GlobError::Range("[b-a]".to_owned())));
        assert_eq!("a".repeat(LONGEST + 1).parse::<Glob>(), Err(GlobError::TooLong));
        assert!("a".repeat(LONGEST).parse::<Glob>().is_ok());
    }

    #[test]
    fn many_stars_take_no_longer_than_one_goes_back() {
        // Tried every way, this would take longer than the universe has had.
        let glob = "*a".repeat(500) + "b";
        assert!(!fits(&glob, &"a".repeat(20_000)));
        assert!(fits(&glob, &("a".repeat(20_000) + "b")));
    }

    /// The definition, taken at its word.
    fn plainly(parts: &[Part], word: &[char]) -> bool {
        match (parts, word) {
            ([], _) => word.is_empty(),
            ([Part::Text, rest @ ..], _) => (0..=word.len()).any(|taken| plainly(rest, &word[taken..])),
            ([one, rest @ ..], [c, behind @ ..]) => one.takes(*c) && plainly(rest, behind),
            (_, []) => false,
        }
    }

    proptest! {
        #[test]
        fn fits_what_the_definition_says(glob in "([ab*?]|\\[a\\]|\\[!a\\]){0,8}", word in "[abc]{0,10}") {
            let glob: Glob = glob.parse().unwrap();
            let chars: Vec<_> = word.chars().collect();
            prop_assert_eq!(glob.matches(&word), plainly(&glob.parts, &chars));
        }

        #[test]
        fn any_text_is_a_glob_or_says_why(glob in "\\PC{0,20}", word in "\\PC{0,20}") {
            if let Ok(glob) = glob.parse::<Glob>() {
                prop_assert_eq!(glob.to_string().parse::<Glob>().unwrap().matches(&word), glob.matches(&word));
            }
        }

        #[test]
        fn without_special_characters_only_the_word_itself_fits(word in "[^*?\\[]{0,12}", other in "[^*?\\[]{0,12}") {
            let glob: Glob = word.parse().unwrap();
            prop_assert!(glob.matches(&word));
            prop_assert_eq!(glob.matches(&other), word == other);
        }
    }
}
