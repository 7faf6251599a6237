//! Months and instants.

use std::{fmt, str::FromStr};

use time::{Date, OffsetDateTime, Time, format_description::well_known::Rfc3339};

/// A calendar month in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Month {
    year: i32,
    month: time::Month,
    start_us: i64,
    end_us: i64,
}

impl Month {
    /// First instant, and the first instant after it, µs since 1970.
    pub fn span(&self) -> (i64, i64) {
        (self.start_us, self.end_us)
    }

    /// How many days it has.
    pub fn days(&self) -> u8 {
        self.month.length(self.year)
    }

    /// Whether an instant lies in it.
    pub fn contains(&self, us: i64) -> bool {
        (self.start_us..self.end_us).contains(&us)
    }
}

impl FromStr for Month {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}' is not a month such as 2026-10");
        let (year, month) = text.split_once('-').filter(|(y, m)| y.len() == 4 && m.len() == 2).ok_or_else(bad)?;
        let year: i32 = year.parse().map_err(|_| bad())?;
        let month = month.parse::<u8>().ok().and_then(|m| time::Month::try_from(m).ok()).ok_or_else(bad)?;
        let next = if month == time::Month::December { year + 1 } else { year };
        let us = |year, month| {
            let date = Date::from_calendar_date(year, month, 1).ok()?;
            Some(OffsetDateTime::new_utc(date, Time::MIDNIGHT).unix_timestamp() * 1_000_000)
        };
        let start_us = us(year, month).ok_or_else(bad)?;
        let end_us = us(next, month.next()).ok_or_else(bad)?;
        Ok(Self { year, month, start_us, end_us })
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, u8::from(self.month))
    }
}

/// An instant (µs since 1970) as RFC 3339 in UTC.
pub fn rfc3339(us: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000)
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{us} µs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_end_where_the_next_begins() {
        let december: Month = "2026-12".parse().unwrap();
        assert_eq!(rfc3339(december.span().0), "2026-12-01T00:00:00Z");
        assert_eq!(rfc3339(december.span().1), "2027-01-01T00:00:00Z");
        assert_eq!(december.to_string(), "2026-12");
        let days = ["2026-12", "2026-11", "2024-02"].map(|month| month.parse::<Month>().unwrap().days());
        assert_eq!(days, [31, 30, 29]);
        for bad in ["2026-13", "2026-1", "26-01", "x", "2026-00"] {
            assert_eq!(bad.parse::<Month>().unwrap_err(), format!("'{bad}' is not a month such as 2026-10"));
        }
    }
}
