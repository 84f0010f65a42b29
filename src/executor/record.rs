//! The end record: how a command ended, in a file that outlives everybody who saw it.
//!
//! Its first line holds a length and a checksum of the rest. A record that does not verify is no record: it may be what
//! a power cut left of one.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::action::outcome::Ended;
use crate::action::time::Timestamp;
use crate::action::usage::Usage;

/// The file's name in the run directory.
pub const FILE: &str = "record";

/// The longest file. A record is two clamped streams in JSON, where a character takes up to six bytes, and little else.
pub const LIMIT: u64 = 2 * 6 * 65_536 + 65_536;

const MAGIC: &str = "opensvc-actions-record-1";

/// How a command ended, as its supervisor saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// How it ended; `None`: it could not be started at all, for a reason of this machine's, and may be tried again.
    pub ended: Option<Ended>,
    /// Why it could not be started.
    pub not_started: Option<String>,
    /// Its standard output, cleaned and clamped.
    pub stdout: String,
    /// Its standard error, cleaned and clamped, with the reason of a result that is ours.
    pub stderr: String,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How long it ran, in microseconds.
    pub duration_usec: u64,
    /// What it has used; `None`: nobody has counted, as in the records of earlier programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

impl Record {
    /// The bytes of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Strings, numbers and enums cannot fail to become JSON.
        let body = serde_json::to_vec(self).unwrap_or_default();
        let mut bytes = format!("{MAGIC} {} {:016x}\n", body.len(), checksum(&body)).into_bytes();
        bytes.extend_from_slice(&body);
        bytes
    }

    /// How many bytes the record has that begins with these, as soon as its first line tells.
    #[must_use]
    pub fn length(bytes: &[u8]) -> Option<usize> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let mut words = std::str::from_utf8(&bytes[..end]).ok()?.split(' ');
        let body: usize = words.next().filter(|magic| *magic == MAGIC).and(words.next())?.parse().ok()?;
        Some(end + 1).and_then(|head| head.checked_add(body))
    }

    /// The record in `bytes`, if they are one, whole and unchanged.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let (head, body) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]);
        if head != format!("{MAGIC} {} {:016x}", body.len(), checksum(body)) {
            return None;
        }
        serde_json::from_slice(body).ok()
    }

    /// The record in a run directory, if there is a valid one.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read(run: &Path) -> io::Result<Option<Self>> {
        let path = run.join(FILE);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > LIMIT => Ok(None),
            Ok(_) => Ok(Self::decode(&fs::read(&path)?)),
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }
}

/// FNV-1a, 64 bits: it tells a torn or rotten file from a whole one, and protects from nobody.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            ended: Some(Ended::Exited(3)),
            not_started: None,
            stdout: "é\u{1}\n".repeat(50),
            stderr: "opensvc-actions: why\n".to_owned(),
            ended_at: Timestamp { seconds: 1, nanos: 2 },
            duration_usec: 5,
            usage: Some(Usage { memory_peak: Some(7), ..Usage::default() }),
        }
    }

    #[test]
    fn a_record_of_an_earlier_program_has_no_usage() {
        let body = br#"{"ended":{"Exited":3},"not_started":null,"stdout":"","stderr":"","ended_at":{"seconds":1,"nanos":2},"duration_usec":5}"#;
        let mut bytes = format!("{MAGIC} {} {:016x}\n", body.len(), checksum(body)).into_bytes();
        bytes.extend_from_slice(body);
        let expected = Record { stdout: String::new(), stderr: String::new(), usage: None, ..record() };
        assert_eq!(Record::decode(&bytes), Some(expected.clone()));
        assert_eq!(expected.encode(), bytes, "what an earlier program reads as well");
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(Record::decode(&record().encode()), Some(record()));
    }

    #[test]
    fn a_record_tells_its_length_in_its_first_line() {
        let bytes = record().encode();
        let line = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        assert_eq!(Record::length(&bytes[..line]), Some(bytes.len()));
        assert_eq!(Record::length(&bytes[..line - 1]), None);
        assert_eq!(Record::length(b"opensvc-actions-record-1 18446744073709551615 0\n"), None);
        assert_eq!(Record::length(b"something 5 0\n"), None);
    }

    #[test]
    fn a_cut_record_is_no_record() {
        let bytes = record().encode();
        for length in 0..bytes.len() {
            assert_eq!(Record::decode(&bytes[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_changed_record_is_no_record() {
        let bytes = record().encode();
        for index in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[index] ^= 1 << bit;
                assert_eq!(Record::decode(&changed), None, "byte {index}, bit {bit}");
            }
        }
    }

    #[test]
    fn the_longest_record_is_within_the_limit() {
        let longest = "\u{1}".repeat(crate::action::output::LIMIT);
        let record = Record { stdout: longest.clone(), stderr: longest, ..record() };
        assert!(record.encode().len() as u64 <= LIMIT);
    }
}
