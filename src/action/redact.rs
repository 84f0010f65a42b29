//! Command lines for logs: one line, shell-quoted, bounded, without secrets.

use super::external;

/// What stands for a hidden value.
const REDACTED: &str = "<redacted>";

/// The bytes of a command line that are shown.
const LIMIT: usize = 4096;

/// What a line that was cut ends in.
const CUT: &str = "…";

/// An option whose name contains one of these has a secret value.
const SECRET: [&str; 5] = ["pass", "secret", "token", "key", "uuid"];

/// The words as one line. Hidden are the values of options whose name contains `pass`, `secret`, `token`, `key` or
/// `uuid`, or matches one of the patterns (`*` stands for any text, `?` for a character; dashes before the name and the
/// case of letters do not matter), written `--option value` or `--option=value`; and, beyond the options' own, what is
/// behind such a name and `=` anywhere in a word, as in `--env=db_password=x`.
///
/// Rather hides a word too many: behind a secret option without `=` the next word is hidden even if it looks like an
/// option.
#[must_use]
pub fn command_line(words: &[String], patterns: &[String]) -> String {
    // The arguments of an external action are JSON, in which nobody looks for secrets.
    if let Some(named) = external::named_by(words).filter(|named| *named < words.len()) {
        return command_line(&words[..named], patterns) + " " + REDACTED;
    }
    let patterns: Vec<_> = patterns.iter().map(|pattern| lower_name(pattern)).collect();
    let mut line = String::new();
    let mut hide = false;
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        if hide {
            line.push_str(REDACTED);
        } else if let Some(equals) = secret_assignment(word, &patterns) {
            line.push_str(&quoted(&word[..=equals]));
            line.push_str(REDACTED);
        } else {
            line.push_str(&quoted(word));
        }
        hide = word.starts_with('-') && !word.contains('=') && is_secret(word, &patterns);
        if line.len() > LIMIT {
            let end = (0..=LIMIT - CUT.len()).rev().find(|&end| line.is_char_boundary(end)).unwrap_or(0);
            line.truncate(end);
            line.push_str(CUT);
            break;
        }
    }
    line
}

/// Text in which command lines stand, the body of an exchange, with the values of secret options hidden as well as that
/// can be told without knowing where a command begins: `--name value`, and `name=value`.
#[must_use]
pub fn in_text(text: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_value = |c: char| !c.is_whitespace() && !"\"'<>&\\,".contains(c);
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_name) {
        let (before, from) = rest.split_at(start);
        let (name, behind) = from.split_at(from.find(|c| !is_name(c)).unwrap_or(from.len()));
        clean.push_str(before);
        clean.push_str(name);
        rest = behind;
        let separator = match rest.chars().next() {
            Some('=') => 1,
            Some(c) if name.starts_with('-') && !is_value(c) => rest.find(is_value).unwrap_or(rest.len()),
            _ => continue,
        };
        if is_secret(name, &[]) {
            let (separator, value) = rest.split_at(separator);
            let (hidden, behind) = value.split_at(value.find(|c| !is_value(c)).unwrap_or(value.len()));
            clean.push_str(separator);
            if !hidden.is_empty() {
                clean.push_str(REDACTED);
            }
            rest = behind;
        }
    }
    clean.push_str(rest);
    clean
}

/// A word as a shell takes it: as it stands if it is harmless, else in single quotes, or in `$'…'` if it holds control
/// characters (which stay out of logs and terminals).
#[must_use]
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else if word.chars().any(char::is_control) {
        let escaped: String = word.chars().map(escaped).collect();
        format!("$'{escaped}'")
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// A character between `$'` and `'`.
fn escaped(c: char) -> String {
    match c {
        '\n' => "\\n".to_owned(),
        '\t' => "\\t".to_owned(),
        '\r' => "\\r".to_owned(),
        '\'' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    }
}

/// Where the `=` is behind which a value is secret.
fn secret_assignment(word: &str, patterns: &[String]) -> Option<usize> {
    let mut start = 0;
    for (equals, _) in word.match_indices('=') {
        if is_secret(&word[start..equals], patterns) {
            return Some(equals);
        }
        start = equals + 1;
    }
    None
}

fn is_secret(name: &str, patterns: &[String]) -> bool {
    let name = lower_name(name);
    SECRET.iter().any(|part| name.contains(part)) || patterns.iter().any(|pattern| matches(pattern, &name))
}

fn lower_name(option: &str) -> String {
    option.trim_start_matches('-').to_lowercase()
}

/// Does a pattern with `*` and `?` match the whole text? A mismatch goes back to the last `*` only, so that no pattern
/// costs more than the product of both lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut star = None;
    loop {
        let before = (pattern.clone(), text.clone());
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                star = Some((pattern.clone(), before.1.clone()));
                text = before.1;
            }
            (Some(p), Some(t)) if p == '?' || p == t => {}
            _ => {
                let Some((behind, from)) = star.as_mut() else { return false };
                if from.next().is_none() {
                    return false;
                }
                (pattern, text) = (behind.clone(), from.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(words: &[&str], patterns: &[&str]) -> String {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        command_line(&owned(words), &owned(patterns))
    }

    #[test]
    fn secrets_are_hidden_in_text_and_the_rest_is_as_it_was() {
        for (text, clean) in [
            (
                r#"{"command":"set --password hunter2 --user x","uuid":"u"}"#,
                r#"{"command":"set --password <redacted> --user x","uuid":"u"}"#,
            ),
            (
                "<string>a --token=t&amp; --api-key k</string>",
                "<string>a --token=<redacted>&amp; --api-key <redacted></string>",
            ),
            (r#"--env=k=\"v\" db_pass=x"#, r#"--env=k=\"v\" db_pass=<redacted>"#),
            ("--password", "--password"),
            ("é --secret ü", "é --secret <redacted>"),
            ("", ""),
        ] {
            assert_eq!(in_text(text), clean);
        }
    }

    #[test]
    fn secrets_are_hidden_in_both_spellings() {
        for (words, expected) in [
            (&["om", "node", "pushasset"][..], "om node pushasset"),
            (&["a", "--password", "x", "b"], "a --password <redacted> b"),
            (&["a", "--Root-PassWd=x=y", "b"], "a --Root-PassWd=<redacted> b"),
            (&["--api-token=x"], "--api-token=<redacted>"),
            (&["-uuid", "x"], "-uuid <redacted>"),
            (&["--key"], "--key"),
            (&["--key="], "--key=<redacted>"),
            (&["--token", "--password", "x"], "--token <redacted> <redacted>"),
            (&["--env=db_password=x"], "--env=db_password=<redacted>"),
            (&["--env", "secret=x y"], "--env secret=<redacted>"),
            (&["--env=a=passage"], "--env=a=passage"),
            (&["rotate", "root", "password", "x"], "rotate root password x"),
            (&["--e v=x", "--a key=x"], "'--e v=x' '--a key='<redacted>"),
        ] {
            assert_eq!(line(words, &[]), expected);
        }
    }

    #[test]
    fn patterns_hide_more_options() {
        assert_eq!(
            line(&["--luks-phrase", "x", "--pin=1"], &["*PHRASE*", "--p?n"]),
            "--luks-phrase <redacted> --pin=<redacted>"
        );
        assert_eq!(line(&["--phrase", "x"], &["phrases", "*phras", ""]), "--phrase x");
        assert_eq!(line(&["--phrase", "x"], &["*h*r*s*"]), "--phrase <redacted>");
        let slow = "*a".repeat(2000);
        assert!(!line(&["--aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "x"], &[&slow]).contains(REDACTED));
    }

    #[test]
    fn a_command_line_is_one_line_of_bounded_length() {
        assert_eq!(line(&["a\nb'\\", "it's", "", "\x1b[0m"], &[]), "$'a\\nb\\'\\\\' 'it'\\''s' '' $'\\u001b[0m'");
        let long = line(&["é"; 900], &[]);
        assert!(long.len() <= LIMIT && long.ends_with(CUT));
        assert!(line(&[&"x".repeat(LIMIT)], &[]).len() == LIMIT);
    }

    proptest! {
        #[test]
        fn no_secret_is_shown(
            before in prop::collection::vec("-{0,2}[a-z= ']{0,9}", 0..4),
            name in "--?[a-z]{0,4}(pass|SECRET|Token|key|uuid)[a-z]{0,4}",
            joined: bool,
        ) {
            let mut words = before;
            // Whatever is before it: at worst the option itself is hidden as a value.
            words.extend(if joined { vec![format!("{name}=HIDDEN")] } else { vec![name, "HIDDEN".to_owned()] });
            prop_assert!(!command_line(&words, &[]).contains("HIDDEN"));
        }
    }
}
