//! One reading of one machine.

use std::sync::Arc;

/// What a machine measured at one instant.
///
/// Names are shared pointers: a buffer of many readings holds each name once.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The machine, unique in the fleet.
    pub machine_id: Arc<str>,
    /// Production line.
    pub line: Arc<str>,
    /// Plant.
    pub site: Arc<str>,
    /// Run of the process that took the reading; `seq` counts within it.
    pub boot_id: Arc<str>,
    /// Rises by one with each reading that was due; a hole is a missing reading.
    pub seq: u64,
    /// Instant, µs since 1970 UTC.
    pub ts_us: i64,
    /// °C.
    pub temperature: f64,
    /// Share of the machine's maximum load, 0 to 1.
    pub load: f64,
    /// Velocity, mm/s RMS.
    pub vibration: f64,
    /// Electrical power, W.
    pub power_watts: f64,
    /// Energy meter, mJ since the machine was commissioned.
    pub energy_millijoules_total: i64,
    /// 0 is none.
    pub error_code: i32,
    /// 1 up, 0 down.
    pub status: i32,
    /// The machine had failed at this instant (tripped or broken, not merely switched off).
    pub failed: bool,
}

/// 2000-01-01T00:00:00Z in µs: no machine of ours is older.
const OLDEST_US: i64 = 946_684_800_000_000;
/// Clocks of writer and reader may differ by this much before a reading counts as from the future.
pub const CLOCK_TOLERANCE_US: i64 = 300_000_000;

impl Reading {
    /// Is this physically possible and from the past of `not_after_us`?
    ///
    /// # Errors
    /// The reason, naming the column; closed set of texts, fit for a quarantine record.
    pub fn check(&self, not_after_us: i64) -> Result<(), String> {
        fn within(column: &str, value: f64, low: f64, high: f64) -> Result<(), String> {
            if !value.is_finite() {
                return Err(format!("{column} is not a finite number"));
            }
            if value < low || value > high {
                return Err(format!("{column} {value} is outside {low} to {high}"));
            }
            Ok(())
        }
        for (column, name) in [("machine_id", &self.machine_id), ("boot_id", &self.boot_id)] {
            if name.is_empty() || name.len() > 128 {
                return Err(format!("{column} must have 1 to 128 bytes"));
            }
        }
        if self.ts_us < OLDEST_US {
            return Err("ts is before the year 2000".to_owned());
        }
        if self.ts_us > not_after_us.saturating_add(CLOCK_TOLERANCE_US) {
            return Err("ts is in the future".to_owned());
        }
        within("temperature", self.temperature, -90.0, 2_000.0)?;
        within("load", self.load, 0.0, 1.0)?;
        within("vibration", self.vibration, 0.0, 1_000.0)?;
        within("power_watts", self.power_watts, 0.0, 1e9)?;
        if self.energy_millijoules_total < 0 {
            return Err("energy_millijoules_total is negative".to_owned());
        }
        if !matches!(self.status, 0 | 1) {
            return Err(format!("status {} is neither 0 nor 1", self.status));
        }
        if self.error_code < 0 {
            return Err("error_code is negative".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// 2026-01-31T13:00:00Z.
    pub(crate) const NOON_US: i64 = 1_769_864_400_000_000;

    /// A plausible reading of machine `m` with sequence number `seq`, a second apart.
    pub(crate) fn reading(m: &str, seq: u64) -> Reading {
        Reading {
            machine_id: m.into(),
            line: "line-1".into(),
            site: "site-a".into(),
            boot_id: "boot-1".into(),
            seq,
            ts_us: NOON_US + seq as i64 * 1_000_000,
            temperature: 50.0 + seq as f64 * 0.125,
            load: 0.5,
            vibration: 1.5,
            power_watts: 4_000.0,
            energy_millijoules_total: 4_000_000 * seq as i64,
            error_code: 0,
            status: 1,
            failed: false,
        }
    }

    fn check(spoil: impl FnOnce(&mut Reading)) -> String {
        let mut r = reading("m", 1);
        spoil(&mut r);
        r.check(NOON_US + 1_000_000).err().unwrap_or_default()
    }

    #[test]
    fn what_cannot_be_true_is_refused_with_the_column() {
        assert_eq!(check(|_| ()), "");
        assert_eq!(check(|r| r.temperature = f64::NAN), "temperature is not a finite number");
        assert_eq!(
            check(|r| r.temperature = 1e308),
            "temperature 1e308 is outside -90 to 2000".replace("1e308", &1e308.to_string())
        );
        assert_eq!(check(|r| r.load = 1.5), "load 1.5 is outside 0 to 1");
        assert_eq!(check(|r| r.vibration = -0.1), "vibration -0.1 is outside 0 to 1000");
        assert_eq!(check(|r| r.power_watts = f64::INFINITY), "power_watts is not a finite number");
        assert_eq!(check(|r| r.energy_millijoules_total = -1), "energy_millijoules_total is negative");
        assert_eq!(check(|r| r.status = 7), "status 7 is neither 0 nor 1");
        assert_eq!(check(|r| r.error_code = -1), "error_code is negative");
        assert_eq!(check(|r| r.machine_id = "".into()), "machine_id must have 1 to 128 bytes");
        assert_eq!(check(|r| r.ts_us = 0), "ts is before the year 2000");
        assert_eq!(check(|r| r.ts_us += 400_000_000), "ts is in the future");
    }
}
