//! What the text of a cell may mean.

/// Words for no value; those that pandas takes for one.
const MISSING: [&str; 18] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "null",
];

/// Does the text say that there is no value?
pub fn is_missing(text: &str) -> bool {
    let text = text.trim();
    text.len() <= 8 && (MISSING.contains(&text) || text.eq_ignore_ascii_case("nan") || text == "NaT")
}

/// What a text can be read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// An instant.
    Instant,
    /// Nothing else.
    Text,
}

/// The narrowest class of a text.
pub fn classify(text: &str) -> Class {
    if parse_number(text).is_some() {
        Class::Number
    } else if parse_boolean(text).is_some() {
        Class::Boolean
    } else if parse_instant(text).is_some() {
        Class::Instant
    } else {
        Class::Text
    }
}

/// A decimal number; `inf` and what is too large for a double are infinite.
pub fn parse_number(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

/// `true` or `false`, in any case.
pub fn parse_boolean(text: &str) -> Option<bool> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// An instant in the style of ISO 8601, s since 1970: `2026-01-31`, `2026-01-31 10:00`,
/// `2026-01-31T10:00:00.25Z`, `2026-01-31T10:00:00+02:00`. Without an offset it is taken as UTC.
pub fn parse_instant(text: &str) -> Option<f64> {
    let bytes = text.trim().as_bytes();
    let number = |part: &[u8]| -> Option<i64> {
        if part.is_empty() || !part.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(part).ok()?.parse().ok()
    };
    if bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let (year, month, day) = (number(&bytes[..4])?, number(&bytes[5..7])?, number(&bytes[8..10])?);
    let month_name = time::Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = time::Date::from_calendar_date(i32::try_from(year).ok()?, month_name, u8::try_from(day).ok()?).ok()?;
    let mut seconds = (date.to_julian_day() - 2_440_588) as f64 * 86_400.0;
    let rest = &bytes[10..];
    if rest.is_empty() {
        return Some(seconds);
    }
    if !matches!(rest[0], b'T' | b't' | b' ') {
        return None;
    }
    let rest = &rest[1..];
    let split = rest.iter().position(|b| matches!(b, b'Z' | b'z' | b'+' | b'-')).unwrap_or(rest.len());
    let (clock, offset) = rest.split_at(split);
    let mut parts = clock.splitn(3, |b| *b == b':');
    let (hour, minute) = (number(parts.next()?)?, number(parts.next()?)?);
    let second: f64 = match parts.next() {
        Some(part) if part.first().is_some_and(u8::is_ascii_digit) => std::str::from_utf8(part).ok()?.parse().ok()?,
        Some(_) => return None,
        None => 0.0,
    };
    if hour > 24 || minute > 59 || !(0.0..61.0).contains(&second) {
        return None;
    }
    seconds += (hour * 3_600 + minute * 60) as f64 + second;
    match offset {
        [] | [b'Z' | b'z'] => Some(seconds),
        [sign @ (b'+' | b'-'), digits @ ..] => {
            let digits: Vec<u8> = digits.iter().copied().filter(|b| *b != b':').collect();
            let (hours, minutes) = match digits.len() {
                2 => (number(&digits)?, 0),
                4 => (number(&digits[..2])?, number(&digits[2..])?),
                _ => return None,
            };
            let ahead = (hours * 3_600 + minutes * 60) as f64;
            Some(if *sign == b'+' { seconds - ahead } else { seconds + ahead })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn instants_in_the_usual_styles() {
        let at = 1_769_853_600.0;
        for text in [
            "2026-01-31 10:00",
            "2026-01-31T10:00:00",
            "2026-01-31T10:00:00Z",
            "2026-01-31T12:00:00+02:00",
            "2026-01-31T08:30:00-0130",
        ] {
            assert_eq!(parse_instant(text), Some(at), "{text}");
        }
        assert_eq!(parse_instant("1970-01-02"), Some(86_400.0));
        assert_eq!(parse_instant("2026-01-31T10:00:00.25Z"), Some(at + 0.25));
        for text in ["2026-02-30", "2026-13-01", "20260131", "2026-01-31x", "2026-01-31T25:00", "2026-01-31T10", "a"] {
            assert_eq!(parse_instant(text), None, "{text}");
        }
    }

    #[test]
    fn classes() {
        for (text, class) in [
            ("1", Class::Number),
            (" -2.5e3 ", Class::Number),
            ("inf", Class::Number),
            ("1e999", Class::Number),
            ("TRUE", Class::Boolean),
            ("2026-01-31", Class::Instant),
            ("1,5", Class::Text),
            ("12 kg", Class::Text),
        ] {
            assert_eq!(classify(text), class, "{text}");
        }
        assert!(["", " ", "NaN", "nan", "NULL", "N/A", "NaT"].iter().all(|t| is_missing(t)));
        assert!(!["0", "no", "-", "nano"].iter().any(|t| is_missing(t)));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}", digits in "[0-9T:+ .Z-]{8,30}") {
            let _ = (classify(&text), is_missing(&text), classify(&digits));
        }
    }
}
