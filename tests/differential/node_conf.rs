//! The INI parser against python3's `configparser`, on generated texts.
//!
//! [`Reading::V2`] is compared with the very class and options that the 2.x agent uses. [`Reading::V3`] is compared with a
//! *model* of the 3.x agent's parser, built on the same class: comments cut before, quotes stripped behind. The model says
//! what we believe about go-ini; it is not go-ini. Above the first section it has a `[DEFAULT]`.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use opensvc_actions::config::node_conf::{Reading, parse};
use serde_json::{Value, json};

/// Reads a JSON array of texts, writes for each what both readings make of it: null if it is refused.
const ORACLE: &str = r##"
import configparser, io, itertools, json, re, sys

COMMENT = re.compile(r"\s[#;].*", re.DOTALL)

def without_comment(line):
    if line.strip()[:1] in ("#", ";"):
        return line
    return COMMENT.sub("\n", line, count=1)

def without_quotes(value):
    for quote in "'\"":
        if len(value) >= 2 and value[0] == value[-1] == quote and quote not in value[1:-1]:
            return value[1:-1]
    return value

def read(text, v3):
    parser = configparser.RawConfigParser(strict=False, default_section="no such section")
    parser.optionxform = str
    # as open() would: every line end becomes a newline
    lines = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8")
    if v3:
        lines = itertools.chain(["[DEFAULT]\n"], map(without_comment, lines))
    try:
        parser.read_file(lines)
    except configparser.Error:
        return None
    change = without_quotes if v3 else str
    return {section: {key: change(value) for key, value in parser.items(section)} for section in parser.sections()}

texts = json.load(sys.stdin)
json.dump([{"v2": read(text, False), "v3": read(text, True)} for text in texts], sys.stdout)
"##;

/// What lines are made of. Sections, keys and delimiters come often enough that many texts are valid.
const PIECES: [&str; 44] = [
    "[node]\n",
    "[node]\n",
    "[env]\n",
    "[DEFAULT]\n",
    "[a]b]\n",
    "[x",
    "]",
    "[]",
    "key = ",
    "key = ",
    "key=",
    "Key: ",
    "k@n1 = ",
    "=",
    ":",
    " = ",
    "\n",
    "\n",
    "\n",
    "\n",
    "\r\n",
    "\r",
    "\n  ",
    "\n\t",
    "\n ",
    "\n\n",
    " ",
    "\t",
    "# c",
    " # c",
    " ; c",
    ";",
    "#",
    "\"",
    "'",
    "value",
    "https://c/x",
    "{env.x}",
    "%(y)s",
    "é",
    "\u{a0}",
    "\u{1f}",
    "\u{2028}",
    "\u{b}",
];

const CASES: usize = 20_000;

/// Knuth's linear congruential generator: the same texts on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    fn text(&mut self) -> String {
        let start = if self.below(8) == 0 { "" } else { "[node]\n" };
        let mut text = start.to_owned();
        for _ in 0..self.below(12) {
            match self.below(3) {
                0 => {
                    text.push_str(["key = ", "  key2 = ", "k:", "Key=", "key ="][self.below(5)]);
                    text.push_str(
                        ["a", "a b", "\"a\"", "'a' # c", "a ; b", "a#b", "", "\"a", "a # \"b\""][self.below(9)],
                    );
                    text.push_str(["\n", "\n", "\r\n", "\n\n", "\n   more", "\n \tmore # c\n"][self.below(6)]);
                }
                1 if self.below(2) == 0 => {
                    text.push_str(["[s]\n", "[node]\n", "# c\n", "  ; c\n", "\n"][self.below(5)]);
                }
                1 => {}
                _ => {
                    for _ in 0..self.below(5) {
                        text.push_str(PIECES[self.below(PIECES.len())]);
                    }
                    text.push('\n');
                }
            }
        }
        text
    }
}

fn ask_python(texts: &[String]) -> Vec<Value> {
    let mut python = Command::new("python3")
        .args(["-I", "-c", ORACLE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test compares with python3, which must be installed");
    let mut stdin = python.stdin.take().expect("a pipe");
    stdin.write_all(json!(texts).to_string().as_bytes()).expect("python3 reads");
    drop(stdin);
    let output = python.wait_with_output().expect("python3 ends");
    assert!(output.status.success(), "python3 failed: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("python3 writes JSON")
}

/// Ours in the same shape. Sections without any key are no entries: they are left out on both sides.
fn read(text: &str, reading: Reading) -> Value {
    let Ok(entries) = parse(text, reading) else {
        return Value::Null;
    };
    let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for entry in entries {
        assert!((1..=text.len()).contains(&entry.line), "{text:?}: {entry:?}");
        sections.entry(entry.section).or_default().insert(entry.key, entry.value);
    }
    json!(sections)
}

fn without_empty_sections(mut value: Value) -> Value {
    if let Some(sections) = value.as_object_mut() {
        sections.retain(|_, keys| keys.as_object().is_some_and(|keys| !keys.is_empty()));
    }
    value
}

#[test]
fn every_text_is_read_as_python_reads_it() {
    let mut random = Random(1214);
    let texts: Vec<String> = (0..CASES).map(|_| random.text()).collect();
    let answers = ask_python(&texts);
    assert_eq!(answers.len(), CASES);
    let mut valid = 0;
    for (text, answer) in texts.iter().zip(answers) {
        for (name, reading) in [("v2", Reading::V2), ("v3", Reading::V3)] {
            let expected = without_empty_sections(answer[name].clone());
            assert_eq!(read(text, reading), expected, "{name} of {text:?}");
            valid += usize::from(!expected.is_null());
        }
    }
    // a generator that makes only refused texts, or only valid ones, would prove little
    assert!((CASES / 4..CASES * 7 / 4).contains(&valid), "{valid} of {} readings are valid", 2 * CASES);
}
