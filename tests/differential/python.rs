//! One python3 process for each test, and random inputs for it.

use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};

/// What a python function named `answer` makes of each input.
///
/// # Panics
/// There is no python3, or the function fails.
pub(crate) fn answers(function: &str, inputs: &[String]) -> Vec<Value> {
    let program = format!(
        "import json, sys\n{function}\nfor line in sys.stdin:\n    print(json.dumps(answer(json.loads(line))))\n"
    );
    let mut child = Command::new("python3")
        .args(["-I", "-X", "utf8", "-c", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is missing: the differential tests compare with its libraries; install it");
    let mut stdin = child.stdin.take().unwrap();
    let lines: String = inputs.iter().map(|input| serde_json::to_string(input).unwrap() + "\n").collect();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().expect("python3 reads all of its input");
    assert!(output.status.success(), "python3 failed: {}", output.status);
    let answers: Vec<_> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), inputs.len());
    answers
}

/// Numbers that look random and are the same in every run (`SplitMix64`).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^= number >> 31;
        usize::try_from(number % end as u64).unwrap()
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
