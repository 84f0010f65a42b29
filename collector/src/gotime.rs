//! Dates as the feeder's Go library reads them.

use crate::clock::Timestamp;

/// `0001-01-01T00:00:00Z`, in seconds since 1970.
const GO_ZERO_TIME: i64 = -62_135_596_800;

/// Reads an RFC 3339 date, to the second; none for Go's zero time.
///
/// # Errors
/// It is no such date; the text is Go's.
pub fn parse(text: &str) -> Result<Option<Timestamp>, String> {
    match seconds(text) {
        Ok(GO_ZERO_TIME) => Ok(None),
        Ok(seconds) => Ok(Some(Timestamp::from_seconds(seconds))),
        Err(why) => Err(format!("parsing time \"{text}\"{why}")),
    }
}

/// Seconds since 1970, or the end of Go's message: which part could not be read as what.
fn seconds(text: &str) -> Result<i64, String> {
    const PARTS: [(&str, usize); 11] = [
        ("2006", 4),
        ("-", 0),
        ("01", 2),
        ("-", 0),
        ("02", 2),
        ("T", 0),
        ("15", 2),
        (":", 0),
        ("04", 2),
        (":", 0),
        ("05", 2),
    ];
    let cannot = |rest: &str, part: &str| {
        Err(format!(" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"{rest}\" as \"{part}\""))
    };
    let digits = |text: &str, width: usize| -> Option<i64> {
        text.get(..width).filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
    };
    let mut numbers = Vec::with_capacity(6);
    let mut rest = text;
    for (part, width) in PARTS {
        let taken = if width == 0 {
            rest.starts_with(part).then_some(1)
        } else {
            digits(rest, width).map(|number| {
                numbers.push(number);
                width
            })
        };
        let Some(taken) = taken else { return cannot(rest, part) };
        rest = rest.get(taken..).unwrap_or_default();
    }
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
        if end > 0 {
            rest = fraction.get(end..).unwrap_or_default();
        }
    }
    let offset = match rest.as_bytes() {
        b"Z" => Some(0),
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let hours = digits(rest.get(1..).unwrap_or_default(), 2);
            let minutes = digits(rest.get(4..).unwrap_or_default(), 2);
            let sign = if *sign == b'+' { 1 } else { -1 };
            hours.zip(minutes).map(|(hours, minutes)| sign * (hours * 60 + minutes) * 60)
        }
        _ => None,
    };
    let Some(offset) = offset else { return cannot(rest, "Z07:00") };
    let [year, month, day, hour, minute, second] = numbers[..] else { return cannot(text, "2006") };
    let small = |number: i64| u8::try_from(number).unwrap_or(u8::MAX);
    let month = time::Month::try_from(small(month)).map_err(|_| ": month out of range".to_owned())?;
    let year = i32::try_from(year).unwrap_or_default();
    let date = time::Date::from_calendar_date(year, month, small(day)).map_err(|_| ": day out of range".to_owned())?;
    for (number, limit, name) in [(hour, 24, "hour"), (minute, 60, "minute"), (second, 60, "second")] {
        if number >= limit {
            return Err(format!(": {name} out of range"));
        }
    }
    Ok(date.midnight().assume_utc().unix_timestamp() + hour * 3600 + minute * 60 + second - offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_to_the_second_in_utc() {
        assert_eq!(parse("2026-11-21T09:00:00.123456789+02:00"), Ok(Some(Timestamp(1_795_244_400_000))));
        assert_eq!(parse("2026-11-21T07:00:00Z"), Ok(Some(Timestamp(1_795_244_400_000))));
        assert_eq!(parse("0001-01-01T00:00:00Z"), Ok(None));
    }

    #[test]
    fn a_date_is_refused_in_go_words() {
        let because = |text| parse(text).unwrap_err();
        assert_eq!(
            because("2026-11-21T09:00:00"),
            r#"parsing time "2026-11-21T09:00:00" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00""#
        );
        assert_eq!(
            because("soon"),
            r#"parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006""#
        );
        assert_eq!(because("2026-13-01T00:00:00Z"), r#"parsing time "2026-13-01T00:00:00Z": month out of range"#);
    }
}
