//! Lengths of time as people write them: `"500ms"`, `"30s"`, `"2h"`.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The longest time that any setting takes.
pub const LONGEST: Duration = Duration::from_secs(366 * DAY);

const DAY: u64 = 24 * 60 * 60;

/// Unit and milliseconds, the longest first.
const UNITS: [(&str, u64); 5] = [("d", DAY * 1000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads a number with a unit and checks its range.
///
/// # Errors
/// A reason, in words.
pub fn parse(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let (Some((_, factor)), false) = (unit, number.is_empty()) else {
        return Err(format!(
            "{text:?} is not a duration; write a whole number with ms, s, m, h or d behind it, like \"30s\""
        ));
    };
    let millis = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
    millis.map(Duration::from_millis).filter(|duration| range.contains(duration)).ok_or_else(|| {
        format!("{text:?} is out of range; it must be from {} to {}", show(*range.start()), show(*range.end()))
    })
}

/// The shortest exact way to write a duration of whole milliseconds.
pub(super) fn show(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let (unit, factor) = UNITS.into_iter().find(|(_, factor)| millis % u128::from(*factor) == 0).unwrap_or(("ms", 1));
    format!("{}{unit}", millis / u128::from(factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Duration, String> {
        parse(text, &(Duration::from_millis(1)..=LONGEST))
    }

    #[test]
    fn reads_numbers_with_units_and_shows_them_again() {
        for (text, millis, shown) in [
            ("1ms", 1, "1ms"),
            ("500ms", 500, "500ms"),
            ("30s", 30_000, "30s"),
            ("060s", 60_000, "1m"),
            ("90m", 5_400_000, "90m"),
            ("2h", 7_200_000, "2h"),
            ("366d", 31_622_400_000, "366d"),
        ] {
            assert_eq!(read(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(show(Duration::from_millis(millis)), shown);
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in ["", "s", "30", "1.5s", "-1s", "+1s", "1 s", " 1s", "1S", "1w", "1s1s", "٣s"] {
            assert!(read(text).unwrap_err().contains("is not a duration"), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_out_of_range() {
        for text in ["0s", "367d", "99999999999999999999d", "18446744073709551615d"] {
            assert_eq!(read(text).unwrap_err(), format!("{text:?} is out of range; it must be from 1ms to 366d"));
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".*", number in "[0-9]{1,25}(ms|s|m|h|d)") {
            let _ = read(&text);
            if let Ok(duration) = read(&number) {
                assert_eq!(read(&show(duration)), Ok(duration));
            }
        }
    }
}
