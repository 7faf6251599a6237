//! `app_temperature_celsius`: how warm the processor is that runs this service.
//!
//! Where the kernel shows a CPU thermal zone, that is read. In most containers
//! and virtual machines it does not; then the temperature follows from the load by
//! the usual lumped model of a chip with its heat sink, one thermal resistance and
//! one thermal capacity:
//!
//! ```text
//! P    = P_idle + u · (P_max − P_idle)      electrical power at load u, watts
//! T_∞  = T_ambient + R · P                  where the temperature settles
//! dT/dt = (T_∞ − T) / τ,   τ = R · C        how fast it gets there
//! ```
//!
//! `u` is this process's share of the processors that it may use. With the values
//! below an idle service settles at 35 °C and one that burns all its processors
//! at 75 °C, with a time constant of 30 s: a restart cools it, a hot loop warms it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const AMBIENT: f64 = 25.0;
const IDLE_WATTS: f64 = 16.25;
const FULL_WATTS: f64 = 81.25;
/// Kelvin per watt: a desktop processor's heat sink.
const RESISTANCE: f64 = 0.615_384_615;
/// Seconds: the resistance times about 49 J/K.
const TIME_CONSTANT: f64 = 30.0;

/// A clock tick of `/proc/<pid>/stat`: USER_HZ, which is 100 on every Linux
/// architecture that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A body that follows its load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Model {
    celsius: f64,
}

impl Default for Model {
    /// A process that has just started is as warm as an idle one.
    fn default() -> Self {
        Self { celsius: settles_at(0.0) }
    }
}

/// Where the temperature settles at load `u` (0 to 1).
fn settles_at(u: f64) -> f64 {
    let power = IDLE_WATTS + u.clamp(0.0, 1.0) * (FULL_WATTS - IDLE_WATTS);
    AMBIENT + RESISTANCE * power
}

impl Model {
    /// The temperature after `elapsed` at load `u`: the exact solution, so that the
    /// length of the step does not matter.
    #[must_use]
    pub fn step(self, u: f64, elapsed: Duration) -> Self {
        let goal = settles_at(u);
        Self { celsius: goal + (self.celsius - goal) * (-elapsed.as_secs_f64() / TIME_CONSTANT).exp() }
    }

    /// Degrees Celsius.
    pub fn celsius(self) -> f64 {
        self.celsius
    }
}

/// The first CPU thermal zone under `zones` (`/sys/class/thermal`).
pub fn find_zone(zones: &Path) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(zones)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            fs::read_to_string(path.join("type")).is_ok_and(|kind| {
                let kind = kind.trim().to_ascii_lowercase();
                kind.contains("pkg") || kind.contains("cpu") || kind.contains("soc")
            })
        })
        .map(|path| path.join("temp"))
        .filter(|path| read_zone(path).is_some())
        .collect();
    found.sort();
    found.into_iter().next()
}

/// Degrees Celsius of a zone's `temp` file, which holds millidegrees.
pub fn read_zone(path: &Path) -> Option<f64> {
    let millis: f64 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    // A sensor that is off reads 0 or far out.
    (1_000.0..150_000.0).contains(&millis).then_some(millis / 1000.0)
}

/// Processor seconds that this process has used.
pub fn cpu_seconds() -> Option<f64> {
    parse_stat(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// proc_pid_stat(5): utime and stime are fields 14 and 15; field 2, the name, may
/// itself hold spaces and parentheses.
fn parse_stat(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn it_settles_where_documented() {
        assert!((Model::default().celsius() - 35.0).abs() < 0.01);
        let hot = Model::default().step(1.0, 60 * MINUTE);
        assert!((hot.celsius() - 75.0).abs() < 0.01, "{hot:?}");
        let after_one_tau = Model::default().step(1.0, Duration::from_secs(30));
        assert!((after_one_tau.celsius() - (75.0 - 40.0 / std::f64::consts::E)).abs() < 0.01);
    }

    proptest! {
        #[test]
        fn it_stays_between_its_limits_and_steps_compose(u in 0.0..2.0f64, a in 0u64..100_000, b in 0u64..100_000) {
            let (a, b) = (Duration::from_millis(a), Duration::from_millis(b));
            let start = Model::default();
            let (twice, once) = (start.step(u, a).step(u, b), start.step(u, a + b));
            prop_assert!((twice.celsius() - once.celsius()).abs() < 1e-9);
            prop_assert!((34.9..=75.1).contains(&once.celsius()));
        }
    }

    #[test]
    fn processor_time_is_read_whatever_the_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 100 1000 10";
        assert_eq!(parse_stat(stat), Some(3.0));
        assert_eq!(parse_stat("nonsense"), None);
        assert!(cpu_seconds().is_some());
    }

    #[test]
    fn a_zone_is_used_if_it_is_a_processor_and_reads_sanely() {
        let dir = tempfile::tempdir().unwrap();
        let zone = |name: &str, kind: &str, temp: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("type"), kind).unwrap();
            fs::write(path.join("temp"), temp).unwrap();
        };
        assert_eq!(find_zone(dir.path()), None);
        zone("thermal_zone0", "acpitz\n", "27800\n");
        zone("thermal_zone1", "x86_pkg_temp\n", "0\n");
        assert_eq!(find_zone(dir.path()), None);
        zone("thermal_zone2", "x86_pkg_temp\n", "54250\n");
        let found = find_zone(dir.path()).unwrap();
        assert_eq!(read_zone(&found), Some(54.25));
        assert_eq!(find_zone(Path::new("/nonexistent")), None);
    }
}
