//! Real machines: their readings arrive by the API instead of coming from the simulation.
//!
//! A machine is registered once (the set of names stays closed) and then posts. What it posts is
//! checked as a whole before any of it counts; what counts goes the way of simulated readings:
//! metrics, gaps, forecast, anomaly score, lake.

use std::{collections::HashMap, fmt, sync::Arc};

use lake::Reading;

use crate::{
    codes::ErrorCode,
    fleet::{Event, Fleet, Machine, Ticked},
    gaps::Reason,
};

/// A reading may be this far ahead of this machine's clock, µs.
const FUTURE: i64 = 60_000_000;
/// What is older was not sent in time, µs.
const OLDEST: i64 = 86_400_000_000;
/// Silence of so many periods is a gap.
const PATIENCE: i64 = 3;

/// How a real machine is connected.
#[derive(Clone, Debug)]
pub struct Link {
    /// It reports this often, µs.
    period_us: i64,
    /// Since then, µs since 1970.
    since_us: i64,
    /// The latest number that it gave itself.
    own_seq: Option<u64>,
    /// The latest number that we gave.
    seq: u64,
    /// Readings missed since the latest one.
    missed: u64,
}

impl Link {
    /// Reports every `period_us` from `now_us` on.
    pub fn new(period_us: i64, now_us: i64) -> Self {
        Self { period_us: period_us.max(1), since_us: now_us, own_seq: None, seq: 0, missed: 0 }
    }

    /// It reports this often, µs.
    pub fn period_us(&self) -> i64 {
        self.period_us
    }
}

/// A reading as it is posted.
#[derive(Clone, Debug)]
pub struct Posted {
    /// Which machine.
    pub machine_id: String,
    /// When, µs since 1970.
    pub ts_us: i64,
    /// The machine's own number of the reading, if it counts them.
    pub seq: Option<u64>,
    /// °C.
    pub temperature: f64,
    /// Share of the maximum load, 0 to 1.
    pub load: f64,
    /// mm/s RMS.
    pub vibration: f64,
    /// W.
    pub power_watts: f64,
    /// Energy meter, mJ.
    pub energy_millijoules_total: i64,
    /// 0 is none.
    pub error_code: i32,
    /// It works, or could.
    pub up: bool,
    /// It is broken, as opposed to switched off.
    pub failed: bool,
}

/// Why a post was refused, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which reading, from 0.
    pub index: usize,
    /// Which field of it.
    pub field: &'static str,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reading {}: {} {}", self.index, self.field, self.reason)
    }
}

/// What the next reading of a machine is compared with.
#[derive(Clone, Copy, Debug)]
struct Before {
    ts_us: i64,
    energy: i64,
    seq: Option<u64>,
}

fn check(posted: &Posted, before: Before, now_us: i64) -> Result<(), (&'static str, String)> {
    let within = |field: &'static str, value: f64, low: f64, high: f64| match value {
        v if !v.is_finite() => Err((field, "is not a finite number".to_owned())),
        v if v < low || v > high => Err((field, format!("{v} is outside {low} to {high}"))),
        _ => Ok(()),
    };
    within("temperature", posted.temperature, -90.0, 2_000.0)?;
    within("load", posted.load, 0.0, 1.0)?;
    within("vibration", posted.vibration, 0.0, 1_000.0)?;
    within("power_watts", posted.power_watts, 0.0, 1e9)?;
    if posted.ts_us > now_us.saturating_add(FUTURE) {
        return Err(("time", "is in the future".to_owned()));
    }
    if posted.ts_us < now_us.saturating_sub(OLDEST) {
        return Err(("time", "is more than a day ago".to_owned()));
    }
    if let (Some(seq), Some(last)) = (posted.seq, before.seq)
        && seq <= last
    {
        return Err(("seq", format!("{seq} is not after {last}, the latest one")));
    }
    if posted.energy_millijoules_total < 0 {
        return Err(("energy_millijoules_total", "is negative".to_owned()));
    }
    if posted.energy_millijoules_total < before.energy {
        let reason = format!("{} goes backwards: it was {}", posted.energy_millijoules_total, before.energy);
        return Err(("energy_millijoules_total", reason));
    }
    if posted.error_code < 0 {
        return Err(("error_code", "is negative".to_owned()));
    }
    if posted.ts_us <= before.ts_us {
        return Err(("time", "is not after the machine's latest reading".to_owned()));
    }
    Ok(())
}

impl Fleet {
    /// Takes posted readings: all of them, or none.
    ///
    /// # Errors
    /// The first reading that is not acceptable, and why.
    pub fn accept(&mut self, posted: &[Posted], now_us: i64) -> Result<Ticked, Refused> {
        let mut before: HashMap<usize, Before> = HashMap::new();
        let mut targets = Vec::with_capacity(posted.len());
        for (index, p) in posted.iter().enumerate() {
            let refuse = |(field, reason)| Refused { index, field, reason };
            let at = self.index_of(&p.machine_id);
            let at = at.ok_or_else(|| refuse(("machine_id", "is not registered".to_owned())))?;
            let m = &self.machines()[at];
            let link = m.link.as_ref();
            let link = link.ok_or_else(|| refuse(("machine_id", "is a simulated machine".to_owned())))?;
            let last = before.entry(at).or_insert(Before {
                ts_us: m.last_reading_us,
                energy: m.state.energy_mj,
                seq: link.own_seq,
            });
            check(p, *last, now_us).map_err(refuse)?;
            *last = Before { ts_us: p.ts_us, energy: p.energy_millijoules_total, seq: p.seq.or(last.seq) };
            targets.push(at);
        }
        let mut ticked = Ticked::default();
        for (p, at) in posted.iter().zip(targets) {
            let (machine, settings, boot_id, account_us) = self.machine_mut(at);
            let boot_id = boot_id.clone();
            let seconds = (p.ts_us - machine.last_reading_us) as f64 / 1e6;
            let silent = machine.gaps.missed(Reason::SensorSilent);
            if let Some(reading) = machine.post(p, &boot_id, &mut ticked.events) {
                machine.take(Some(&reading), seconds, settings, &mut ticked.events);
                if let Some(every_us) = account_us {
                    let missed = (machine.gaps.missed(Reason::SensorSilent) > silent).then_some(Reason::SensorSilent);
                    machine.enter(&reading, missed, every_us, &boot_id, &mut ticked.records);
                }
                ticked.readings.push(reading);
            }
        }
        Ok(ticked)
    }
}

impl Machine {
    /// Counts what a real machine should have posted by now.
    pub(crate) fn expect_post(&mut self, now_us: i64, events: &mut Vec<Event>) {
        let Some(link) = &mut self.link else { return };
        let silent = now_us.saturating_sub(self.last_reading_us.max(link.since_us));
        if silent < PATIENCE * link.period_us {
            return;
        }
        let missed = u64::try_from(silent / link.period_us).unwrap_or(0);
        let new = missed.saturating_sub(link.missed);
        link.missed = link.missed.max(missed);
        self.measured = None;
        if new > 0
            && let Some(reason) = self.gaps.silent(new)
        {
            events.push(Event::Gap { machine_id: self.identity.machine_id.clone(), reason });
        }
    }

    /// A checked reading becomes the machine's state and a row for the lake.
    fn post(&mut self, p: &Posted, boot_id: &Arc<str>, events: &mut Vec<Event>) -> Option<Reading> {
        let link = self.link.as_mut()?;
        // A hole in its own numbers that silence has not told already.
        let skipped = match (p.seq, link.own_seq) {
            (Some(seq), Some(last)) => (seq - last - 1).saturating_sub(link.missed),
            _ => 0,
        };
        link.own_seq = p.seq.or(link.own_seq);
        link.seq += 1 + std::mem::take(&mut link.missed) + skipped;
        let seq = link.seq;
        if skipped > 0
            && let Some(reason) = self.gaps.note(Reason::SensorSilent, skipped)
        {
            events.push(Event::Gap { machine_id: self.identity.machine_id.clone(), reason });
        }
        self.gaps.received();
        self.readings += 1;
        self.last_reading_us = p.ts_us;
        let state = &mut self.state;
        (state.temperature, state.load, state.vibration, state.power) =
            (p.temperature, p.load, p.vibration, p.power_watts);
        (state.energy_mj, state.powered, state.tripped) = (p.energy_millijoules_total, p.up || p.failed, p.failed);
        self.report_code(ErrorCode::from_number(p.error_code), events);
        Some(Reading {
            machine_id: self.identity.machine_id.clone(),
            line: self.identity.line.clone(),
            site: self.identity.site.clone(),
            boot_id: boot_id.clone(),
            seq,
            ts_us: p.ts_us,
            temperature: p.temperature,
            load: p.load,
            vibration: p.vibration,
            power_watts: p.power_watts,
            energy_millijoules_total: p.energy_millijoules_total,
            error_code: p.error_code,
            status: i32::from(p.up && !p.failed),
            failed: p.failed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Identity;

    const NOW: i64 = 1_769_864_400_000_000;
    const SECOND: i64 = 1_000_000;

    fn fleet() -> Fleet {
        let mut fleet = Fleet::new(1, 42, "boot", SECOND, NOW);
        let [machine_id, line, site] = ["press-7", "presses", "hall-2"].map(Arc::from);
        assert!(fleet.link(Identity { machine_id, line, site }, 10 * SECOND, NOW).is_some());
        fleet
    }

    fn posted(seconds: i64) -> Posted {
        Posted {
            machine_id: "press-7".to_owned(),
            ts_us: NOW + seconds * SECOND,
            seq: Some(seconds as u64 / 10),
            temperature: 55.0,
            load: 0.5,
            vibration: 1.0,
            power_watts: 7_000.0,
            energy_millijoules_total: 7_000_000 * seconds,
            error_code: 0,
            up: true,
            failed: false,
        }
    }

    #[test]
    fn a_posted_reading_goes_the_way_of_all_readings() {
        let mut f = fleet();
        let ticked = f.accept(&[posted(10), posted(20)], NOW + 20 * SECOND).unwrap();
        assert_eq!(ticked.readings.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 2]);
        assert!(ticked.readings.iter().all(|r| r.check(NOW + 20 * SECOND).is_ok() && *r.site == *"hall-2"));
        let m = &f.machines()[f.index_of("press-7").unwrap()];
        assert_eq!((m.readings, m.status(), m.state.energy_mj), (2, 1, 140_000_000));
        assert_eq!(m.measured.map(|m| m.temperature), Some(55.0));
        let broken = Posted { error_code: 202, up: false, failed: true, ..posted(30) };
        let ticked = f.accept(&[broken], NOW + 30 * SECOND).unwrap();
        assert!(matches!(ticked.events[..], [Event::Code { code: ErrorCode::BearingSeized, .. }]));
        assert_eq!(f.machines()[1].status(), 0);
    }

    #[test]
    fn what_cannot_be_is_refused_whole_with_reading_and_field() {
        let mut f = fleet();
        f.accept(&[posted(100)], NOW + 100 * SECOND).unwrap();
        let good = posted(110);
        let cases: [(Posted, &str, &str); 13] = [
            (Posted { machine_id: "press-8".to_owned(), ..good.clone() }, "machine_id", "is not registered"),
            (Posted { machine_id: "machine-001".to_owned(), ..good.clone() }, "machine_id", "is a simulated machine"),
            (Posted { temperature: f64::NAN, ..good.clone() }, "temperature", "is not a finite number"),
            (Posted { load: 1.5, ..good.clone() }, "load", "1.5 is outside 0 to 1"),
            (Posted { vibration: -1.0, ..good.clone() }, "vibration", "-1 is outside 0 to 1000"),
            (Posted { power_watts: f64::INFINITY, ..good.clone() }, "power_watts", "is not a finite number"),
            (Posted { ts_us: NOW + 3_600 * SECOND, ..good.clone() }, "time", "is in the future"),
            (Posted { ts_us: NOW - 90_000 * SECOND, ..good.clone() }, "time", "is more than a day ago"),
            (Posted { ts_us: NOW + 100 * SECOND, ..good.clone() }, "time", "is not after the machine's latest reading"),
            (Posted { seq: Some(10), ..good.clone() }, "seq", "10 is not after 10, the latest one"),
            (Posted { energy_millijoules_total: -1, ..good.clone() }, "energy_millijoules_total", "is negative"),
            (
                Posted { energy_millijoules_total: 5, ..good.clone() },
                "energy_millijoules_total",
                "5 goes backwards: it was 700000000",
            ),
            (Posted { error_code: -1, ..good.clone() }, "error_code", "is negative"),
        ];
        for (bad, field, reason) in cases {
            let refused = f.accept(&[good.clone(), Posted { ..bad.clone() }], NOW + 110 * SECOND);
            let alone = f.accept(&[bad], NOW + 110 * SECOND).unwrap_err();
            assert_eq!((alone.index, alone.field, alone.reason.as_str()), (0, field, reason));
            assert!(refused.is_err_and(|r| r.index == 1));
        }
        assert_eq!(f.machines()[1].readings, 1, "none of it counted");
        assert!(f.accept(&[good.clone(), good], NOW + 110 * SECOND).is_err_and(|r| r.field == "seq"));
    }

    #[test]
    fn silence_and_holes_are_gaps_and_counted_once() {
        let mut f = fleet();
        f.accept(&[posted(10)], NOW + 10 * SECOND).unwrap();
        for s in 11..=70 {
            f.tick(NOW + s * SECOND);
        }
        let m = &f.machines()[1];
        assert_eq!((m.gaps.failures(), m.gaps.missed(Reason::SensorSilent), m.measured), (1, 6, None));
        f.accept(&[posted(80)], NOW + 80 * SECOND).unwrap();
        let m = &f.machines()[1];
        assert_eq!((m.gaps.open(), m.gaps.failures(), m.gaps.missed(Reason::SensorSilent)), (None, 1, 6));
        f.accept(&[posted(110)], NOW + 110 * SECOND).unwrap();
        let m = &f.machines()[1];
        assert_eq!((m.gaps.failures(), m.gaps.missed(Reason::SensorSilent)), (2, 8), "two numbers were skipped");
    }

    #[test]
    fn a_real_machine_outlives_a_restart_and_no_name_is_taken_twice() {
        let mut f = fleet();
        f.accept(&[posted(10)], NOW + 10 * SECOND).unwrap();
        let mut next = Fleet::new(1, 42, "boot-2", SECOND, NOW + 60 * SECOND);
        next.restore(&f.keep(), NOW + 60 * SECOND);
        assert_eq!(next.machines().len(), 2);
        assert!(next.accept(&[posted(10)], NOW + 60 * SECOND).is_err(), "the same reading again");
        assert!(next.accept(&[posted(60)], NOW + 60 * SECOND).is_ok());
        for id in ["press-7", "machine-001"] {
            let [machine_id, line, site] = [id, "l", "s"].map(Arc::from);
            assert!(next.link(Identity { machine_id, line, site }, SECOND, NOW).is_none(), "{id}");
        }
        let [machine_id, line, site] = ["machine-003", "l", "s"].map(Arc::from);
        assert!(next.link(Identity { machine_id, line, site }, SECOND, NOW).is_some());
        assert_eq!(next.add(1, NOW)[0], "machine-004".into(), "its name is taken");
    }
}
