//! Command strings against `shlex.split`.

use crate::python::{Numbers, answers};
use opensvc_actions::action::words::split;
use serde_json::{Value, json};

const PYTHON: &str = "
import shlex
def answer(command):
    try:
        return shlex.split(command)
    except ValueError as error:
        return {'error': str(error)}
";

/// Quotes, escapes and separators more often than the rest.
const ALPHABET: [&str; 40] = [
    " ",
    " ",
    "\t",
    "\r",
    "\n",
    "\\",
    "\\",
    "\\",
    "\"",
    "\"",
    "\"",
    "'",
    "'",
    "'",
    "#",
    "#",
    "$",
    "`",
    "=",
    "-",
    "a",
    "b",
    "--c",
    "\u{b}",
    "\u{c}",
    "\u{0}",
    "\u{1b}",
    "\u{a0}",
    "\u{85}",
    "\u{2028}",
    "\u{3000}",
    "\u{e9}",
    "e\u{301}",
    "\u{1f600}",
    "\u{feff}",
    "|",
    "&;",
    "<>",
    "(*)",
    "~?[",
];

fn ours(command: &str) -> Value {
    match split(command) {
        Ok(words) => json!(words),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// The error texts are ours by their first letter.
fn lower_case(mut answer: Value) -> Value {
    if let Some(Value::String(text)) = answer.get_mut("error") {
        text[..1].make_ascii_lowercase();
    }
    answer
}

#[test]
fn words_are_those_of_shlex() {
    let mut numbers = Numbers(628);
    let mut commands: Vec<String> = (0..20_000)
        .map(|_| {
            let length = numbers.below(14);
            (0..length).map(|_| *numbers.pick(&ALPHABET)).collect()
        })
        .collect();
    // And every short string of what matters most.
    let marks = [" ", "\\", "\"", "'", "a", "\n", "#"];
    let mut short = vec![String::new()];
    for _ in 0..5 {
        short = short.iter().flat_map(|start| marks.map(|mark| format!("{start}{mark}"))).collect();
        commands.extend_from_slice(&short);
    }
    let mut seen = [0; 3];
    for (command, answer) in commands.iter().zip(answers(PYTHON, &commands)) {
        let kind = match answer.get("error").and_then(Value::as_str) {
            None => 0,
            Some("No closing quotation") => 1,
            Some("No escaped character") => 2,
            Some(other) => panic!("{other}"),
        };
        seen[kind] += 1;
        assert_eq!(ours(command), lower_case(answer), "{command:?}");
    }
    assert!(seen.iter().all(|&count| count > 500), "the inputs are one-sided: {seen:?}");
}
