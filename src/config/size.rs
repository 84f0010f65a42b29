//! Numbers of bytes as people write them: `"64KiB"`, `"16MiB"`, `"1GiB"`.

use std::ops::RangeInclusive;

/// Unit and bytes, the largest first.
const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Reads a number with a unit and checks its range.
pub(super) fn parse(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let (Some((_, factor)), false) = (unit, number.is_empty()) else {
        return Err(format!(
            "{text:?} is not a size; write a whole number with KiB, MiB or GiB behind it, like \"16MiB\""
        ));
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
    bytes.filter(|bytes| range.contains(bytes)).ok_or_else(|| {
        format!("{text:?} is out of range; it must be from {} to {}", show(*range.start()), show(*range.end()))
    })
}

/// The shortest exact way to write whole kibibytes.
pub(super) fn show(bytes: u64) -> String {
    let (unit, factor) = UNITS.into_iter().find(|(_, factor)| bytes % factor == 0).unwrap_or(("KiB", 1 << 10));
    format!("{}{unit}", bytes / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_with_units_and_shows_them_again() {
        for (text, bytes, shown) in
            [("64KiB", 65_536, "64KiB"), ("016MiB", 16 << 20, "16MiB"), ("1024MiB", 1 << 30, "1GiB")]
        {
            assert_eq!(parse(text, &(65_536..=1 << 30)), Ok(bytes), "{text}");
            assert_eq!(show(bytes), shown);
        }
    }

    #[test]
    fn refuses_what_is_no_size_or_out_of_range() {
        for text in ["", "MiB", "16", "16MB", "16M", "1.5MiB", "-1MiB", "16 MiB", "16mib", "\u{663}MiB"] {
            assert!(parse(text, &(0..=u64::MAX)).unwrap_err().contains("is not a size"), "{text}");
        }
        for text in ["63KiB", "0KiB", "1025MiB", "99999999999999999999GiB", "18446744073709551615GiB"] {
            let reason = format!("{text:?} is out of range; it must be from 64KiB to 1GiB");
            assert_eq!(parse(text, &(65_536..=1 << 30)), Err(reason));
        }
    }
}
