//! Hours in which nothing is acted on, because people work on the system.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::is_service_name;
use crate::timestamp::Timestamp;

const DAY_MINUTES: u32 = 24 * 60;
const MINUTE: i64 = 60_000;
const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// A window that comes again every week, in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// On which days it begins, Monday = 0.
    days: Vec<u32>,
    /// First minute of the day.
    from: u32,
    /// First minute after it; not after `from`: it ends on the next day.
    to: u32,
    /// For these services only; empty: for all.
    services: Vec<String>,
}

/// As people write it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WindowDoc {
    days: Vec<String>,
    from: String,
    to: String,
    #[serde(default)]
    services: Vec<String>,
}

impl WindowDoc {
    pub(super) fn read(&self) -> Result<Window, String> {
        let days = self.days.iter().map(|day| {
            let found = DAYS.iter().position(|known| known.eq_ignore_ascii_case(day));
            found.and_then(|at| u32::try_from(at).ok()).ok_or_else(|| format!("'{day}' is not a day of the week"))
        });
        let days: Vec<u32> = days.collect::<Result<_, _>>()?;
        if days.is_empty() {
            return Err("a maintenance window needs at least one day".to_owned());
        }
        if let Some(wrong) = self.services.iter().find(|s| !is_service_name(s)) {
            return Err(format!("'{wrong}' is not a service name"));
        }
        let (from, to) = (minute(&self.from)?, minute(&self.to)?);
        if from == to {
            return Err("a maintenance window must not end when it begins".to_owned());
        }
        Ok(Window { days, from, to, services: self.services.clone() })
    }
}

/// `03:00` → 180.
fn minute(text: &str) -> Result<u32, String> {
    let parsed = text.split_once(':').and_then(|(hours, minutes)| {
        let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
        (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
    });
    parsed.ok_or_else(|| format!("'{text}' is not a time of day such as 03:00"))
}

impl Window {
    /// Whether it is open.
    pub fn open(&self, now: Timestamp) -> bool {
        let minutes = now.millis().div_euclid(MINUTE);
        let day = minutes.div_euclid(i64::from(DAY_MINUTES));
        let minute = u32::try_from(minutes.rem_euclid(i64::from(DAY_MINUTES))).unwrap_or(0);
        // The first of January 1970 was a Thursday.
        let weekday = |day: i64| u32::try_from((day + 3).rem_euclid(7)).unwrap_or(0);
        let (today, yesterday) = (weekday(day), weekday(day - 1));
        if self.from < self.to {
            return self.days.contains(&today) && (self.from..self.to).contains(&minute);
        }
        (self.days.contains(&today) && minute >= self.from) || (self.days.contains(&yesterday) && minute < self.to)
    }

    /// Whether it is meant for this service.
    pub fn covers(&self, service: Option<&str>) -> bool {
        self.services.is_empty() || service.is_some_and(|s| self.services.iter().any(|known| known == s))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<_> = self.days.iter().filter_map(|d| DAYS.get(usize::try_from(*d).ok()?)).copied().collect();
        let (from, to) = (self.from, self.to);
        write!(f, "{} {:02}:{:02} to {:02}:{:02} UTC", days.join(", "), from / 60, from % 60, to / 60, to % 60)?;
        if self.services.is_empty() { Ok(()) } else { write!(f, " for {}", self.services.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[&str], from: &str, to: &str) -> Window {
        let days = days.iter().map(|d| (*d).to_owned()).collect();
        WindowDoc { days, from: from.into(), to: to.into(), services: Vec::new() }.read().unwrap()
    }

    fn open(window: &Window, at: &str) -> bool {
        window.open(Timestamp::parse(at).unwrap())
    }

    #[test]
    fn opens_on_its_days_only() {
        // The 22nd of November 2026 is a Sunday.
        let w = window(&["Sunday"], "03:00", "04:00");
        assert!(!open(&w, "2026-11-22T02:59:59Z"));
        assert!(open(&w, "2026-11-22T03:00:00Z"));
        assert!(open(&w, "2026-11-22T03:59:59Z"));
        assert!(!open(&w, "2026-11-22T04:00:00Z"));
        assert!(!open(&w, "2026-11-23T03:30:00Z"));
    }

    #[test]
    fn reaches_over_midnight() {
        let w = window(&["saturday"], "23:30", "01:00");
        assert!(open(&w, "2026-11-21T23:30:00Z"));
        assert!(open(&w, "2026-11-22T00:59:00Z"));
        assert!(!open(&w, "2026-11-22T01:00:00Z"));
        assert!(!open(&w, "2026-11-22T23:45:00Z"));
        assert!(!open(&w, "2026-11-21T00:30:00Z"));
    }

    #[test]
    fn names_what_is_wrong() {
        let doc = |days: &[&str], from: &str, to: &str| WindowDoc {
            days: days.iter().map(|d| (*d).to_owned()).collect(),
            from: from.into(),
            to: to.into(),
            services: Vec::new(),
        };
        assert_eq!(doc(&["sonntag"], "03:00", "04:00").read().unwrap_err(), "'sonntag' is not a day of the week");
        assert_eq!(doc(&["sunday"], "3", "04:00").read().unwrap_err(), "'3' is not a time of day such as 03:00");
        assert_eq!(
            doc(&["sunday"], "24:00", "04:00").read().unwrap_err(),
            "'24:00' is not a time of day such as 03:00"
        );
        assert!(doc(&[], "03:00", "04:00").read().is_err());
        assert!(doc(&["sunday"], "04:00", "04:00").read().is_err());
    }
}
