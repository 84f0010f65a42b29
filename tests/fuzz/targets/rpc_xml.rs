//! Answers of a 1.x/2.x collector in XML.

#![no_main]

mod batch;

use libfuzzer_sys::fuzz_target;
use opensvc_actions::collector::rpc::xml as rpc;

fuzz_target!(|body: &[u8]| {
    batch::check(rpc::decode_fetch(body));
    if let Err(error) = rpc::decode_done(body) {
        batch::line(&error.to_string());
    }
});
