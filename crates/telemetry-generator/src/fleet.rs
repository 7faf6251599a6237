//! The fleet: machines, their sensors, their data.
//!
//! [`Fleet::tick`] takes the time and returns the readings; nothing here knows a clock,
//! a network or a thread.

use std::{collections::HashMap, sync::Arc};

use lake::Reading;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::{
    codes::{CodeCounts, ErrorCode},
    faults::{Active, Faults, SensorFaults},
    gaps::{GapMonitor, Reason},
    machine::{self, Model, State},
};

/// Machines a line.
const LINE_SIZE: usize = 5;
/// Lines a site.
const SITE_LINES: usize = 4;
/// Noise of the temperature sensor, K.
const TEMPERATURE_NOISE: f64 = 0.15;
/// A longer silence is stepped through in pieces of this length, s.
const MAX_STEP: f64 = 5.0;
/// Silence beyond this is not simulated: the machines were doing something, nobody knows what.
const MAX_CATCH_UP: f64 = 3_600.0;

/// Who a machine is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Unique in the fleet.
    pub machine_id: Arc<str>,
    /// Production line.
    pub line: Arc<str>,
    /// Plant.
    pub site: Arc<str>,
}

impl Identity {
    /// The machine with this number.
    pub fn of(index: usize) -> Self {
        let line = index / LINE_SIZE;
        Self {
            machine_id: format!("machine-{:03}", index + 1).into(),
            line: format!("line-{}", line + 1).into(),
            site: format!("site-{}", line / SITE_LINES + 1).into(),
        }
    }
}

/// One machine with all that belongs to it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Who it is.
    pub identity: Identity,
    /// What does not change.
    pub model: Model,
    /// What does.
    pub state: State,
    /// The latest reading, if one arrived in the latest tick.
    pub reading: Option<Reading>,
    /// When the latest reading was taken, µs since 1970; 0 never.
    pub last_reading_us: i64,
    /// Readings taken by this process.
    pub readings: u64,
    /// Missing data.
    pub gaps: GapMonitor,
    /// Error codes so far.
    pub codes: CodeCounts,
    /// The error code at present.
    pub code: ErrorCode,
    physics: Xoshiro256PlusPlus,
    sensors: Xoshiro256PlusPlus,
    stuck_at: Option<f64>,
}

/// What is kept between two runs of the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Which machine.
    pub machine_id: String,
    /// Its energy meter, mJ.
    pub energy_mj: i64,
    /// °C.
    pub temperature: f64,
    /// When the latest reading was taken, µs since 1970.
    pub last_reading_us: i64,
}

/// Something worth a log line.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A gap opened.
    Gap {
        /// Whose.
        machine_id: Arc<str>,
        /// Why.
        reason: Reason,
    },
    /// A machine reports a new error code.
    Code {
        /// Whose.
        machine_id: Arc<str>,
        /// Which.
        code: ErrorCode,
    },
}

/// What a tick brought.
#[derive(Debug, Default)]
pub struct Ticked {
    /// New readings, in the order of the machines.
    pub readings: Vec<Reading>,
    /// What happened.
    pub events: Vec<Event>,
}

/// The fleet.
#[derive(Clone, Debug)]
pub struct Fleet {
    machines: Vec<Machine>,
    faults: Faults,
    boot_id: Arc<str>,
    period_us: i64,
    seq: u64,
    last_tick_us: Option<i64>,
}

impl Fleet {
    /// `count` machines of the seed, at work, with a reading due every `period_us`.
    pub fn new(count: usize, seed: u64, boot_id: &str, period_us: i64, now_us: i64) -> Self {
        let machines = (0..count)
            .map(|index| {
                let model = Model::draw(seed, index as u64);
                let state = State::working(&model, now_us);
                Machine {
                    identity: Identity::of(index),
                    state,
                    model,
                    reading: None,
                    last_reading_us: 0,
                    readings: 0,
                    gaps: GapMonitor::default(),
                    codes: CodeCounts::default(),
                    code: ErrorCode::None,
                    physics: machine::rng_for(seed, index as u64, 1),
                    sensors: machine::rng_for(seed, index as u64, 2),
                    stuck_at: None,
                }
            })
            .collect();
        Self { machines, faults: Faults::default(), boot_id: boot_id.into(), period_us, seq: 0, last_tick_us: None }
    }

    /// Takes up where an earlier process stopped: meters go on, machines are as warm as work
    /// has made them meanwhile, and the time between is a gap.
    pub fn restore(&mut self, kept: &[Kept], now_us: i64) -> Vec<Event> {
        let mut events = Vec::new();
        for k in kept {
            let Some(m) = self.machines.iter_mut().find(|m| *m.identity.machine_id == *k.machine_id) else { continue };
            m.state.energy_mj = k.energy_mj.max(0);
            let away = now_us.saturating_sub(k.last_reading_us).max(0);
            if k.temperature.is_finite() {
                // The machine did not stop because nobody was looking.
                let (air, heat) = (m.model.ambient.at(now_us), m.model.heat(m.model.mean_load));
                m.state.temperature = m.model.body.step(k.temperature, air, heat, away as f64 / 1e6);
            }
            let missed = (away / self.period_us) as u64;
            if k.last_reading_us > 0 && missed > 2 {
                m.gaps.note(Reason::Restart, missed);
                events.push(Event::Gap { machine_id: m.identity.machine_id.clone(), reason: Reason::Restart });
            }
        }
        events
    }

    /// What [`Fleet::restore`] needs.
    pub fn keep(&self) -> Vec<Kept> {
        self.machines
            .iter()
            .map(|m| Kept {
                machine_id: m.identity.machine_id.to_string(),
                energy_mj: m.state.energy_mj,
                temperature: m.state.temperature,
                last_reading_us: m.last_reading_us,
            })
            .collect()
    }

    /// Advances all machines to `now_us` and takes the reading that is due.
    ///
    /// Called later than due, it takes one reading with the number that is due now: the
    /// numbers in between stay holes, and holes are gaps. The physics goes on meanwhile.
    pub fn tick(&mut self, now_us: i64) -> Ticked {
        let elapsed_us = self.last_tick_us.map_or(self.period_us, |last| now_us.saturating_sub(last));
        // A clock that was set back must not stop the fleet.
        let elapsed_us = if elapsed_us > 0 { elapsed_us } else { self.period_us };
        let due = ((elapsed_us + self.period_us / 2) / self.period_us).max(1);
        self.seq += due as u64;
        self.last_tick_us = Some(now_us);
        self.faults.expire(now_us);

        let seconds = (elapsed_us as f64 / 1e6).min(MAX_CATCH_UP);
        let steps = (seconds / MAX_STEP).ceil().max(1.0);
        let mut ticked = Ticked { readings: Vec::with_capacity(self.machines.len()), events: Vec::new() };
        for (index, m) in self.machines.iter_mut().enumerate() {
            let effects = self.faults.effects(index);
            for _ in 0..steps as usize {
                m.state = machine::tick(&m.model, &m.state, &effects, now_us, seconds / steps, &mut m.physics);
            }
            m.update_code(&mut ticked.events);
            let reading = m.measure(&self.faults.sensor(index), &self.boot_id, self.seq, now_us);
            if let Some(reason) = m.gaps.due(self.seq, reading.as_ref().map(|r| r.temperature)) {
                ticked.events.push(Event::Gap { machine_id: m.identity.machine_id.clone(), reason });
            }
            m.reading.clone_from(&reading);
            ticked.readings.extend(reading);
        }
        ticked
    }

    /// Readings fell out of the buffer: they will never reach the lake.
    pub fn lost(&mut self, readings: &[Reading]) -> Vec<Event> {
        let mut events = Vec::new();
        let mut counts: HashMap<&str, u64> = HashMap::new();
        for r in readings {
            *counts.entry(&r.machine_id).or_default() += 1;
        }
        for m in &mut self.machines {
            let missed = counts.get(&*m.identity.machine_id).copied().unwrap_or(0);
            if missed > 0
                && let Some(reason) = m.gaps.overflow(missed)
            {
                events.push(Event::Gap { machine_id: m.identity.machine_id.clone(), reason });
            }
        }
        events
    }

    /// The lake takes readings.
    pub fn delivered(&mut self) {
        self.machines.iter_mut().for_each(|m| m.gaps.delivered());
    }

    /// The machines, in order.
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// The number of the machine with this id.
    pub fn index_of(&self, machine_id: &str) -> Option<usize> {
        self.machines.iter().position(|m| *m.identity.machine_id == *machine_id)
    }

    /// The active faults.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Adds a fault.
    pub fn inject(&mut self, fault: Active) {
        self.faults.put(fault);
    }

    /// Ends faults: of one machine, or those on the whole fleet.
    pub fn clear(&mut self, machine: Option<usize>) -> usize {
        self.faults.clear(machine)
    }

    /// Identifies this run of the process.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// The latest sequence number.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// When the latest tick was, µs since 1970.
    pub fn last_tick_us(&self) -> Option<i64> {
        self.last_tick_us
    }
}

impl Machine {
    /// 1 up, 0 down: without supply, stopped by its protection or broken.
    pub fn status(&self) -> i32 {
        i32::from(self.state.powered && !self.state.failed())
    }

    fn update_code(&mut self, events: &mut Vec<Event>) {
        let code = ErrorCode::of(&self.state, self.code, self.gaps.open());
        if code != self.code {
            self.code = code;
            if code != ErrorCode::None {
                self.codes.count(code);
                events.push(Event::Code { machine_id: self.identity.machine_id.clone(), code });
            }
        }
    }

    /// What the sensors say. Chance is drawn whether or not it is used: a silent sensor
    /// must not change what it says afterwards.
    fn measure(&mut self, faults: &SensorFaults, boot_id: &Arc<str>, seq: u64, now_us: i64) -> Option<Reading> {
        let noise: f64 = StandardNormal.sample(&mut self.sensors);
        let measured = self.state.temperature + TEMPERATURE_NOISE * noise + faults.temperature;
        let temperature = if faults.stuck { *self.stuck_at.get_or_insert(measured) } else { measured };
        if !faults.stuck {
            self.stuck_at = None;
        }
        if faults.silent {
            return None;
        }
        self.readings += 1;
        self.last_reading_us = now_us;
        Some(Reading {
            machine_id: self.identity.machine_id.clone(),
            line: self.identity.line.clone(),
            site: self.identity.site.clone(),
            boot_id: boot_id.clone(),
            seq,
            ts_us: now_us,
            temperature,
            load: self.state.load,
            vibration: (self.state.vibration + faults.vibration).max(0.0),
            power_watts: (self.state.power + faults.power).max(0.0),
            energy_millijoules_total: self.state.energy_mj,
            error_code: self.code.number(),
            status: self.status(),
            failed: self.state.failed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{Fault, Feature, Kind};

    const START: i64 = 1_769_864_400_000_000;
    const SECOND: i64 = 1_000_000;

    fn fleet() -> Fleet {
        Fleet::new(3, 42, "boot", SECOND, START)
    }

    fn fault(kind: Kind, machine: Option<usize>, until_us: i64) -> Active {
        let drift = (kind == Kind::SensorDrift).then_some((Feature::Temperature, 25.0));
        Active { fault: Fault { kind, severity: 1.0, drift }, machine, until_us }
    }

    fn run(fleet: &mut Fleet, from: i64, to: i64) -> Vec<Reading> {
        (from..to).flat_map(|s| fleet.tick(START + s * SECOND).readings).collect()
    }

    #[test]
    fn every_machine_gives_one_reading_a_period_with_rising_numbers() {
        let mut f = fleet();
        let readings = run(&mut f, 0, 100);
        assert_eq!(readings.len(), 300);
        for (i, r) in readings.iter().enumerate() {
            assert_eq!(r.seq, i as u64 / 3 + 1);
            r.check(r.ts_us).unwrap();
        }
        assert!(f.machines().iter().all(|m| m.gaps.failures() == 0 && m.status() == 1));
    }

    #[test]
    fn the_same_seed_gives_the_same_readings_and_another_seed_others() {
        assert_eq!(run(&mut fleet(), 0, 500), run(&mut fleet(), 0, 500));
        let mut other = Fleet::new(3, 43, "boot", SECOND, START);
        assert_ne!(run(&mut fleet(), 0, 5), run(&mut other, 0, 5));
    }

    #[test]
    fn a_fault_on_one_machine_leaves_the_others_as_they_were() {
        let mut faulty = fleet();
        faulty.inject(fault(Kind::SensorGap, Some(1), START + 50 * SECOND));
        let with = run(&mut faulty, 0, 100);
        let without = run(&mut fleet(), 0, 100);
        let of = |readings: &[Reading], i: usize| {
            let id = Identity::of(i).machine_id;
            readings.iter().filter(|r| r.machine_id == id).cloned().collect::<Vec<_>>()
        };
        assert_eq!(of(&with, 0), of(&without, 0));
        assert_eq!(of(&with, 2), of(&without, 2));
        assert_eq!(of(&with, 1), of(&without, 1)[50..], "after the gap it reads as if nothing had been");
        let gaps = &faulty.machines()[1].gaps;
        assert_eq!((gaps.failures(), gaps.missed(Reason::SensorSilent)), (1, 50));
    }

    #[test]
    fn a_paused_process_leaves_a_hole_of_the_right_size_for_each_machine() {
        let mut f = fleet();
        run(&mut f, 0, 10);
        let before = f.machines()[0].state.energy_mj;
        let readings = run(&mut f, 40, 41);
        assert_eq!(readings[0].seq, 41);
        for m in f.machines() {
            assert_eq!((m.gaps.failures(), m.gaps.missed(Reason::Paused)), (1, 30));
        }
        assert!(f.machines()[0].state.energy_mj > before, "the meter ran on meanwhile");
        run(&mut f, 41, 60);
        assert!(f.machines().iter().all(|m| m.gaps.failures() == 1));
    }

    #[test]
    fn late_ticks_within_half_a_period_are_no_gap() {
        let mut f = fleet();
        for i in 0..100 {
            f.tick(START + i * SECOND + (i % 3) * 200_000);
        }
        assert!(f.machines().iter().all(|m| m.gaps.failures() == 0));
        assert_eq!(f.seq(), 100);
    }

    #[test]
    fn a_stuck_sensor_is_found_while_the_machine_goes_on() {
        let mut f = fleet();
        run(&mut f, 0, 10);
        f.inject(fault(Kind::SensorStuck, Some(0), START + 40 * SECOND));
        run(&mut f, 10, 60);
        let gaps = &f.machines()[0].gaps;
        assert_eq!((gaps.opened(Reason::SensorStuck), gaps.missed(Reason::SensorStuck)), (1, 29));
        assert_eq!(gaps.open(), None, "it is over");
        assert_eq!(f.machines()[0].codes.get(ErrorCode::SensorFault), 1);
    }

    #[test]
    fn drift_moves_what_is_read_and_not_what_is() {
        let mut drifting = fleet();
        drifting.inject(fault(Kind::SensorDrift, None, i64::MAX));
        let (a, b) = (run(&mut drifting, 0, 50), run(&mut fleet(), 0, 50));
        assert!(a.iter().zip(&b).all(|(a, b)| (a.temperature - b.temperature - 25.0).abs() < 1e-9));
        assert!(a.iter().zip(&b).all(|(a, b)| a.energy_millijoules_total == b.energy_millijoules_total));
    }

    #[test]
    fn a_machine_without_supply_is_down_and_says_why() {
        let mut f = fleet();
        f.inject(fault(Kind::PowerLoss, Some(2), START + 10 * SECOND));
        let down = run(&mut f, 0, 5).into_iter().filter(|r| *r.machine_id == *"machine-003").collect::<Vec<_>>();
        assert!(down.iter().all(|r| r.status == 0 && r.error_code == ErrorCode::PowerLoss.number() && !r.failed));
        assert_eq!(f.machines()[2].codes.get(ErrorCode::PowerLoss), 1);
        run(&mut f, 5, 15);
        assert_eq!(f.machines()[2].status(), 1);
    }

    #[test]
    fn a_restart_goes_on_with_the_meter_and_counts_the_gap() {
        let mut first = fleet();
        run(&mut first, 0, 600);
        let kept = first.keep();
        let now = START + 660 * SECOND;
        let mut second = Fleet::new(3, 42, "boot-2", SECOND, now);
        assert_eq!(second.restore(&kept, now).len(), 3);
        for (a, b) in first.machines().iter().zip(second.machines()) {
            assert_eq!(a.state.energy_mj, b.state.energy_mj);
            let usual = State::working(&b.model, now).temperature;
            let (before, after) = (a.state.temperature - usual, b.state.temperature - usual);
            assert!(after.abs() < before.abs(), "a minute nearer to what it usually is");
            assert_eq!((b.gaps.failures(), b.gaps.missed(Reason::Restart)), (1, 61));
        }
        let mut at_once = Fleet::new(3, 42, "boot-3", SECOND, START + 600 * SECOND);
        assert!(at_once.restore(&kept, START + 600 * SECOND).is_empty(), "no reading was missed");
    }

    #[test]
    fn lost_readings_are_counted_at_their_machine() {
        let mut f = fleet();
        let readings = run(&mut f, 0, 4);
        assert_eq!(f.lost(&readings[..5]).len(), 3);
        let missed: Vec<_> = f.machines().iter().map(|m| m.gaps.missed(Reason::BufferOverflow)).collect();
        assert_eq!(missed, [2, 2, 1]);
    }
}
