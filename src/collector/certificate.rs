//! Until when a certificate is good: as much of X.509 (RFC 5280, 4.1) as that takes, and no more. Pure. Whether it is good
//! at all is for the TLS library to say.

use crate::action::time::Timestamp;

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version, which version 1 leaves out.
const VERSION: u8 = 0xa0;

/// The end of the validity of a certificate in DER. `None`: it is none, or its date is no date.
#[must_use]
pub(super) fn not_after(der: &[u8]) -> Option<Timestamp> {
    let (mut to_be_signed, _) = element(element(der, SEQUENCE)?.0, SEQUENCE)?;
    if let Some((_, behind)) = element(to_be_signed, VERSION) {
        to_be_signed = behind;
    }
    let (_serial, behind) = element(to_be_signed, INTEGER)?;
    let (_algorithm, behind) = element(behind, SEQUENCE)?;
    let (_issuer, behind) = element(behind, SEQUENCE)?;
    let (validity, _) = element(behind, SEQUENCE)?;
    let (_, behind) = time(validity)?;
    Some(time(behind)?.0)
}

/// The content of the element that these bytes begin with, if it is of this kind, and what is behind it.
fn element(bytes: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        // Four bytes would be 16 MiB and more; no length at all is not DER.
        long @ 0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long - 0x80))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    if *first == kind { rest.split_at_checked(length) } else { None }
}

/// A date, and what is behind it. RFC 5280 allows one form of each: to the second, and in UTC.
fn time(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let ((text, behind), years) = match element(bytes, UTC_TIME) {
        Some(found) => (found, 2),
        None => (element(bytes, GENERALIZED_TIME)?, 4),
    };
    let digits = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if digits.len() != years + 10 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = digits.split_at(years);
    let century = match (years, year) {
        (4, _) => "",
        (_, year) if year < "50" => "20",
        _ => "19",
    };
    let part = |at: usize| &rest[at..at + 2];
    let text = format!("{century}{year}-{}-{}T{}:{}:{}Z", part(0), part(2), part(4), part(6), part(8));
    Some((text.parse().ok()?, behind))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(last_year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["c.example.com".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 2, 3);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_is_read_in_both_forms_of_a_date() {
        for year in [2021, 2049, 2050, 2100] {
            let end = not_after(&certificate(year)).unwrap();
            assert_eq!(end.to_string(), format!("{year}-02-03T00:00:00.000Z"));
        }
    }

    #[test]
    fn what_is_cut_or_changed_does_no_more_than_fail() {
        let whole = certificate(2030);
        let end = not_after(&whole);
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "{length}");
        }
        for index in 0..whole.len() {
            for byte in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = whole.clone();
                changed[index] = byte;
                let _ = not_after(&changed);
            }
        }
        assert!(end.is_some());
        assert_eq!(not_after(b"\x30\x84\xff\xff\xff\xff"), None);
        assert_eq!(time(b"\x17\x0d991231235959Z").unwrap().0.to_string(), "1999-12-31T23:59:59.000Z");
        assert_eq!(time(b"\x17\x0d991331235959Z"), None);
        assert_eq!(time(b"\x17\x0b9912312359Z"), None);
    }
}
