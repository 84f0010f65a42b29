//! OpenSVC's INI files, in both readings.

#![no_main]

use libfuzzer_sys::fuzz_target;
use opensvc_actions::config::node_conf::{Reading, parse};

fuzz_target!(|text: &str| {
    let lines = text.split(['\n', '\r']).count(); // universal newlines, as python has them
    for reading in [Reading::V2, Reading::V3] {
        match parse(text, reading) {
            Ok(entries) => {
                for entry in entries {
                    assert!((1..=lines).contains(&entry.line), "{entry:?}");
                    assert!(!entry.key.is_empty(), "{entry:?}");
                    assert_eq!(entry.key.trim(), entry.key);
                }
            }
            Err(error) => assert!((1..=lines).contains(&error.line), "{error}"),
        }
    }
});
