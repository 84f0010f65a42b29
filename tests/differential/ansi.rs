//! Cleaned output against the regular expression of the reference agent, which strips the colours, erasures and cursor
//! columns that it knows of.

use crate::python::{Numbers, answers};
use opensvc_actions::action::output::clamp;

/// `ESC [ n(;n)*` with numbers of up to three digits, and one of five final letters.
const PYTHON: &str = r"
import re
known = re.compile('\x1b\\[[0-9]{1,3}(;[0-9]{1,3})*[mHJKG]')
def answer(text):
    return known.sub('', text)
";

/// Pieces of text that no sequence can end in, and that need no other cleaning.
const TEXT: [&str; 16] =
    ["plain", "m", "H", "[31m", "[", ";", "0", "\n", "\r\n", "\t", " ", "\u{e9}", "\u{20ac}", "\u{9b}", "\\", "]0;x"];

fn sequence(numbers: &mut Numbers) -> String {
    let parameters: Vec<_> = (0..=numbers.below(4)).map(|_| numbers.below(1000).to_string()).collect();
    format!("\x1b[{}{}", parameters.join(";"), numbers.pick(&['m', 'H', 'J', 'K', 'G']))
}

#[test]
fn the_sequences_that_the_reference_strips_are_stripped_alike() {
    let mut numbers = Numbers(841);
    let texts: Vec<String> = (0..5_000)
        .map(|_| {
            let pieces = numbers.below(20);
            (0..pieces)
                .map(|_| if numbers.below(2) == 0 { sequence(&mut numbers) } else { (*numbers.pick(&TEXT)).to_owned() })
                .collect()
        })
        .collect();
    for (text, answer) in texts.iter().zip(answers(PYTHON, &texts)) {
        assert_eq!(clamp(text.as_bytes(), None), answer.as_str().unwrap(), "{text:?}");
    }
}
