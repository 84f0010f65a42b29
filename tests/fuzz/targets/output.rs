//! What a command prints, in pieces of any size.

#![no_main]

use libfuzzer_sys::fuzz_target;
use opensvc_actions::action::output::{Clamp, LIMIT, clamp};

fuzz_target!(|input: (usize, &[u8], Option<&str>)| {
    let (cut, bytes, last_line) = input;
    let whole = clamp(bytes, last_line);
    assert!(whole.len() <= LIMIT, "{} bytes", whole.len());
    let carried = |c: char| c <= '\u{fffd}' && (c >= ' ' || matches!(c, '\t' | '\n' | '\r'));
    assert!(whole.chars().all(carried), "{whole:?}");
    let (head, tail) = bytes.split_at(if bytes.is_empty() { 0 } else { cut % bytes.len() });
    let mut pieces = Clamp::new();
    pieces.push(head);
    pieces.push(tail);
    assert_eq!(pieces.finish(last_line), whole);
});
