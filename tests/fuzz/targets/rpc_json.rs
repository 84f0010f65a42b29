//! Answers of a 1.x/2.x collector in JSON.

#![no_main]

mod batch;

use libfuzzer_sys::fuzz_target;
use opensvc_actions::collector::rpc::json;

fuzz_target!(|body: &[u8]| {
    batch::check(json::decode_fetch(1, body));
    if let Err(error) = json::decode_done(1, body) {
        batch::line(&error.to_string());
    }
    if let Some(text) = json::error_text(body) {
        batch::line(&text);
    }
});
