//! End records: of any bytes it is one or none; one stays the same when it is written again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use opensvc_actions::executor::record::Record;

fuzz_target!(|bytes: &[u8]| {
    // With its own head, as no fuzzer finds a checksum.
    let body = bytes;
    for bytes in [bytes.to_vec(), sealed(body)] {
        if let Some(record) = Record::decode(&bytes) {
            assert_eq!(Record::decode(&record.encode()).as_ref(), Some(&record));
        }
    }
});

/// The bytes of a record file around `body`.
fn sealed(body: &[u8]) -> Vec<u8> {
    // FNV-1a, as the program has it.
    let checksum = body
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut bytes = format!("opensvc-actions-record-1 {} {checksum:016x}\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}
