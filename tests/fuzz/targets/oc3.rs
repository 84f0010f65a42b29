//! Answers of collector 3.

#![no_main]

mod batch;

use libfuzzer_sys::fuzz_target;
use opensvc_actions::collector::oc3;

fuzz_target!(|body: &[u8]| {
    batch::check(oc3::decode_actions(body));
    if let Some(text) = oc3::error_text(body) {
        batch::line(&text);
    }
});
