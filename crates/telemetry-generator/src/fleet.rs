//! The fleet: machines, their sensors, their data.
//!
//! [`Fleet::tick`] takes the time and returns the readings; nothing here knows a clock,
//! a network or a thread. A machine is simulated, or it is a real one whose readings are
//! posted ([`crate::posted`]); from there on both go the same way.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use forecast::{Forecaster, Sample, Settings, anomaly::Monitor};
use lake::Reading;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::{
    account::{Account, Owner, Parts, Record, Standing},
    codes::{CodeCounts, ErrorCode},
    faults::{Active, Faults, SensorFaults},
    gaps::{GapMonitor, Reason},
    machine::{self, Effects, Model, State},
    output::{Output, SCRAP_PER_FAILURE},
    posted::Link,
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// The same, sharing with `other` what is equal: a line's name is held once.
    fn sharing(mut self, other: Option<&Self>) -> Self {
        if let Some(other) = other {
            for (own, others) in [(&mut self.line, &other.line), (&mut self.site, &other.site)] {
                if own == others {
                    *own = others.clone();
                }
            }
        }
        self
    }
}

/// A name that is fit for a label, or what it must be.
///
/// # Errors
/// It is not.
pub fn label(text: &str) -> Result<Arc<str>, String> {
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 64 || !text.chars().all(fit) {
        return Err("must have 1 to 64 letters, digits, '-', '_' or '.'".to_owned());
    }
    Ok(text.into())
}

/// What the sensors said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// °C.
    pub temperature: f64,
    /// Share of the maximum load, 0 to 1.
    pub load: f64,
    /// mm/s RMS.
    pub vibration: f64,
    /// W.
    pub power_watts: f64,
}

/// One machine with all that belongs to it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its number, for ever; positions change when machines go.
    pub number: usize,
    /// Who it is.
    pub identity: Identity,
    /// Where readings come from; `None` is the simulation.
    pub link: Option<Box<Link>>,
    /// What does not change.
    pub model: Model,
    /// What does.
    pub state: State,
    /// The latest reading, if one arrived in the latest tick.
    pub measured: Option<Measured>,
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
    /// What it makes.
    pub output: Output,
    /// What the ledger is told, where there is one.
    account: Option<Box<Account>>,
    /// Will it overheat?
    pub forecaster: Forecaster,
    /// Is anything odd about the other sensors?
    pub monitor: Monitor,
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
    /// Wear, 0 to 1.
    #[serde(default)]
    pub wear: f32,
    /// Good parts, scrap of the process, scrap by failures, failures avoided.
    #[serde(default)]
    pub output: [u32; 4],
    /// A real machine: line, site, and how often it reports, µs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posted: Option<(String, String, i64)>,
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
    /// A machine is going to overheat, or is hot.
    Overheating {
        /// Whose.
        machine_id: Arc<str>,
        /// Why, when, how sure.
        alarm: forecast::Alarm,
    },
}

/// What a tick brought.
#[derive(Debug, Default)]
pub struct Ticked {
    /// New readings, in the order of the machines.
    pub readings: Vec<Reading>,
    /// What happened.
    pub events: Vec<Event>,
    /// For the ledger.
    pub records: Vec<Record>,
}

/// An operator's order to take it easy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadLimit {
    /// Share of the maximum load, 0 to 1.
    pub limit: f64,
    /// It ends then, µs since 1970.
    pub until_us: i64,
}

/// The fleet.
#[derive(Clone, Debug)]
pub struct Fleet {
    machines: Vec<Machine>,
    /// Numbers of the real ones by id.
    linked: HashMap<Arc<str>, usize>,
    next_number: usize,
    faults: Faults,
    limits: BTreeMap<usize, LoadLimit>,
    settings: Settings,
    seed: u64,
    boot_id: Arc<str>,
    period_us: i64,
    seq: u64,
    last_tick_us: Option<i64>,
    /// Length of the ledger's intervals, µs; `None` keeps no accounts.
    account_us: Option<i64>,
    /// The last records of machines that were taken away.
    departed: Vec<Record>,
}

impl Fleet {
    /// `count` machines of the seed, at work, with a reading due every `period_us`.
    pub fn new(count: usize, seed: u64, boot_id: &str, period_us: i64, now_us: i64) -> Self {
        let mut fleet = Self {
            machines: Vec::with_capacity(count),
            linked: HashMap::new(),
            next_number: 0,
            faults: Faults::default(),
            limits: BTreeMap::new(),
            settings: Settings::default(),
            seed,
            boot_id: boot_id.into(),
            period_us,
            seq: 0,
            last_tick_us: None,
            account_us: None,
            departed: Vec::new(),
        };
        fleet.add(count, now_us);
        fleet
    }

    /// Adds simulated machines: those with the next numbers of the seed. The others do not notice.
    pub fn add(&mut self, count: usize, now_us: i64) -> Vec<Arc<str>> {
        let mut added = Vec::with_capacity(count);
        while added.len() < count {
            let number = self.next_number;
            let identity = Identity::of(number);
            if self.linked.contains_key(&identity.machine_id) {
                // A real machine has this name.
                self.next_number += 1;
                continue;
            }
            let model = Model::draw(self.seed, number as u64);
            let state = State::working(&model, now_us);
            added.push(identity.machine_id.clone());
            self.push(identity, None, model, state);
        }
        added
    }

    /// Adds a real machine; `None` if there is one with this id.
    pub fn link(&mut self, identity: Identity, period_us: i64, now_us: i64) -> Option<&Machine> {
        if self.index_of(&identity.machine_id).is_some() {
            return None;
        }
        self.linked.insert(identity.machine_id.clone(), self.next_number);
        // A stand-in: nothing of it is simulated, or shown.
        let model = Model::draw(0, 0);
        let state = State::cold(&model, now_us);
        self.push(identity, Some(Box::new(Link::new(period_us, now_us))), model, state);
        self.machines.last()
    }

    fn push(&mut self, identity: Identity, link: Option<Box<Link>>, model: Model, state: State) {
        let number = self.next_number;
        self.next_number += 1;
        self.machines.push(Machine {
            number,
            identity: identity.sharing(self.machines.last().map(|m| &m.identity)),
            link,
            model,
            state,
            measured: None,
            last_reading_us: 0,
            readings: 0,
            gaps: GapMonitor::default(),
            codes: CodeCounts::default(),
            code: ErrorCode::None,
            output: Output::default(),
            account: None,
            forecaster: Forecaster::staggered(number),
            monitor: Monitor::default(),
            physics: machine::rng_for(self.seed, number as u64, 1),
            sensors: machine::rng_for(self.seed, number as u64, 2),
            stuck_at: None,
        });
    }

    /// Takes a machine away, with its faults, its orders and its metrics.
    pub fn remove(&mut self, machine_id: &str) -> bool {
        let Some(index) = self.index_of(machine_id) else { return false };
        let mut gone = self.machines.remove(index);
        gone.settle(&self.boot_id, &mut self.departed);
        self.linked.remove(&gone.identity.machine_id);
        self.faults.clear(Some(gone.number));
        self.limits.remove(&gone.number);
        true
    }

    /// Takes up where an earlier process stopped: meters go on, machines are as warm as work
    /// has made them meanwhile, and the time between is a gap. Real machines come back.
    pub fn restore(&mut self, kept: &[Kept], now_us: i64) -> Vec<Event> {
        let mut events = Vec::new();
        for k in kept {
            if let Some((line, site, period_us)) = &k.posted {
                let [machine_id, line, site] = [&k.machine_id, line, site].map(|text| Arc::from(text.as_str()));
                self.link(Identity { machine_id, line, site }, *period_us, now_us);
            }
            let Some(index) = self.index_of(&k.machine_id) else { continue };
            let m = &mut self.machines[index];
            m.state.energy_mj = k.energy_mj.max(0);
            m.state.wear = if k.wear.is_finite() { f64::from(k.wear).clamp(0.0, 1.0) } else { 0.0 };
            [m.output.good, m.output.process_scrap, m.output.failure_scrap, m.output.avoided_failures] = k.output;
            let away = now_us.saturating_sub(k.last_reading_us).max(0);
            if m.link.is_some() {
                // Whether it reported meanwhile, nobody here can know: what it posts next will tell.
                m.last_reading_us = k.last_reading_us;
                continue;
            }
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

    /// Keeps accounts for the ledger from now on, by intervals of `every_us`.
    pub fn keep_accounts(&mut self, every_us: i64) {
        self.account_us = Some(every_us);
    }

    /// Ends the intervals that are under way: the process is about to end.
    pub fn settle_accounts(&mut self) -> Vec<Record> {
        let mut records = std::mem::take(&mut self.departed);
        self.machines.iter_mut().for_each(|m| m.settle(&self.boot_id, &mut records));
        records
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
                wear: m.state.wear as f32,
                output: [m.output.good, m.output.process_scrap, m.output.failure_scrap, m.output.avoided_failures],
                posted: m
                    .link
                    .as_ref()
                    .map(|link| (m.identity.line.to_string(), m.identity.site.to_string(), link.period_us())),
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
        self.limits.retain(|_, order| order.until_us > now_us);

        let seconds = (elapsed_us as f64 / 1e6).min(MAX_CATCH_UP);
        let steps = (seconds / MAX_STEP).ceil().max(1.0);
        let undisturbed = self.faults.is_empty() && self.limits.is_empty();
        let mut ticked = Ticked {
            readings: Vec::with_capacity(self.machines.len()),
            events: Vec::new(),
            records: std::mem::take(&mut self.departed),
        };
        for m in &mut self.machines {
            if m.link.is_some() {
                m.expect_post(now_us, &mut ticked.events);
                if self.account_us.is_some() && m.gaps.open().is_some() {
                    m.silent(&self.boot_id, &mut ticked.records);
                }
                continue;
            }
            let (effects, sensor) = if undisturbed {
                (Effects::default(), SensorFaults::default())
            } else {
                let load_limit = self.limits.get(&m.number).map(|order| order.limit);
                (Effects { load_limit, ..self.faults.effects(m.number, now_us) }, self.faults.sensor(m.number))
            };
            for _ in 0..steps as usize {
                m.state = machine::tick(&m.model, &m.state, &effects, now_us, seconds / steps, &mut m.physics);
                m.output.advance(&m.model, &m.state, seconds / steps);
            }
            m.update_code(&mut ticked.events);
            let reading = m.measure(&sensor, &self.boot_id, self.seq, now_us);
            let paused = m.gaps.missed(Reason::Paused);
            if let Some(reason) = m.gaps.due(self.seq, reading.as_ref().map(|r| r.temperature)) {
                ticked.events.push(Event::Gap { machine_id: m.identity.machine_id.clone(), reason });
            }
            if let Some(limit) = effects.load_limit {
                m.forecaster.limit_load(limit);
            }
            m.take(reading.as_ref(), seconds, &self.settings, &mut ticked.events);
            m.output.watch(m.forecaster.alarmed(), effects.load_limit.is_some());
            if let Some(every_us) = self.account_us {
                let missed = (m.gaps.missed(Reason::Paused) > paused).then_some(Reason::Paused);
                match &reading {
                    Some(reading) => m.enter(reading, missed, every_us, &self.boot_id, &mut ticked.records),
                    None => m.silent(&self.boot_id, &mut ticked.records),
                }
            }
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

    /// The machines, in order of their numbers.
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    pub(crate) fn machine_mut(&mut self, index: usize) -> (&mut Machine, &Settings, &Arc<str>, Option<i64>) {
        (&mut self.machines[index], &self.settings, &self.boot_id, self.account_us)
    }

    /// Where the machine with this id is in [`Fleet::machines`].
    pub fn index_of(&self, machine_id: &str) -> Option<usize> {
        let simulated = || machine_id.strip_prefix("machine-")?.parse::<usize>().ok()?.checked_sub(1);
        let named = |number: &usize| {
            let index = self.index_of_number(*number)?;
            (*self.machines[index].identity.machine_id == *machine_id).then_some(index)
        };
        simulated().as_ref().and_then(named).or_else(|| self.linked.get(machine_id).and_then(named))
    }

    /// Where the machine with this number is in [`Fleet::machines`].
    pub fn index_of_number(&self, number: usize) -> Option<usize> {
        self.machines.binary_search_by_key(&number, |m| m.number).ok()
    }

    /// The active faults.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Adds a fault.
    pub fn inject(&mut self, fault: Active) {
        self.faults.put(fault);
    }

    /// Ends faults: of the machine with this number, or those on the whole fleet.
    pub fn clear(&mut self, machine: Option<usize>) -> usize {
        self.faults.clear(machine)
    }

    /// The order that holds for the machine with this number.
    pub fn load_limit(&self, number: usize) -> Option<LoadLimit> {
        self.limits.get(&number).copied()
    }

    /// Orders the machine with this number to work with less load, or with `None` as it likes.
    pub fn order(&mut self, number: usize, limit: Option<LoadLimit>) {
        match limit {
            Some(limit) => self.limits.insert(number, limit),
            None => self.limits.remove(&number),
        };
    }

    /// Gives the order to every machine that is forecast to overheat; one that must take it
    /// easier already goes on doing so. Returns who got it.
    pub fn relieve(&mut self, order: LoadLimit) -> Vec<Arc<str>> {
        let mut relieved = Vec::new();
        for m in self.machines.iter().filter(|m| m.forecaster.alarmed()) {
            let held = self.limits.get(&m.number);
            let limit = held.map_or(order.limit, |held| held.limit.min(order.limit));
            self.limits.insert(m.number, LoadLimit { limit, ..order });
            relieved.push(m.identity.machine_id.clone());
        }
        relieved
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

    /// How odd it is: the largest deviation of temperature, vibration and power from what is
    /// usual at this load, in usual deviations.
    pub fn anomaly_score(&self) -> f64 {
        let scores = [self.forecaster.outlook().residual_score, self.monitor.vibration(), self.monitor.power()];
        f64::from(scores.into_iter().map(f32::abs).fold(0.0, f32::max))
    }

    /// Takes what the sensors said, or that they said nothing, `seconds` after the last time.
    pub(crate) fn take(
        &mut self,
        reading: Option<&Reading>,
        seconds: f64,
        settings: &Settings,
        events: &mut Vec<Event>,
    ) {
        self.measured = reading.map(|r| Measured {
            temperature: r.temperature,
            load: r.load,
            vibration: r.vibration,
            power_watts: r.power_watts,
        });
        let Some(r) = reading else { return };
        let sample = Sample { time: r.ts_us as f64 / 1e6, temperature: r.temperature, load: Some(r.load) };
        if let Some(alarm) = self.forecaster.observe(sample, settings) {
            events.push(Event::Overheating { machine_id: self.identity.machine_id.clone(), alarm });
        }
        self.monitor.observe(r.load, r.vibration, r.power_watts, seconds);
    }

    /// Enters a reading into the ledger's account; `missed` says why those before it are missing.
    pub(crate) fn enter(
        &mut self,
        reading: &Reading,
        missed: Option<Reason>,
        every_us: i64,
        boot_id: &Arc<str>,
        records: &mut Vec<Record>,
    ) {
        let output = &self.output;
        let now = Standing {
            at_us: reading.ts_us,
            meter_mj: reading.energy_millijoules_total,
            up: reading.status == 1,
            error_code: reading.error_code,
            parts: self.link.is_none().then(|| Parts {
                made: u32::try_from(output.produced()).unwrap_or(u32::MAX),
                scrapped: output.failure_scrap,
                avoided: output.avoided_failures.saturating_mul(SCRAP_PER_FAILURE),
            }),
        };
        let account = self.account.get_or_insert_default();
        account.reading(Owner { identity: &self.identity, boot_id }, now, missed, every_us, records);
    }

    /// Enters that no reading came.
    fn silent(&mut self, boot_id: &Arc<str>, records: &mut Vec<Record>) {
        if let Some(account) = &mut self.account {
            account.silent(Owner { identity: &self.identity, boot_id }, Reason::SensorSilent, records);
        }
    }

    /// Ends the interval under way in the ledger's account.
    fn settle(&mut self, boot_id: &Arc<str>, records: &mut Vec<Record>) {
        if let Some(account) = &mut self.account {
            account.settle(Owner { identity: &self.identity, boot_id }, records);
        }
    }

    fn update_code(&mut self, events: &mut Vec<Event>) {
        let code = ErrorCode::of(&self.state, self.code, self.gaps.open());
        self.report_code(code, events);
    }

    pub(crate) fn report_code(&mut self, code: ErrorCode, events: &mut Vec<Event>) {
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
        Active { fault: Fault { kind, severity: 1.0, drift }, machine, until_us, grows: None }
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

    #[test]
    fn machines_come_and_go_and_the_others_do_not_notice() {
        let mut f = fleet();
        let untouched = run(&mut fleet(), 0, 100);
        let mut readings = run(&mut f, 0, 40);
        assert_eq!(f.add(2, START).iter().map(|id| &**id).collect::<Vec<_>>(), ["machine-004", "machine-005"]);
        readings.extend(run(&mut f, 40, 70));
        f.inject(fault(Kind::PowerLoss, Some(1), i64::MAX));
        assert!(f.remove("machine-002") && !f.remove("machine-002") && !f.remove("machine-2"));
        readings.extend(run(&mut f, 70, 100));
        for (id, count) in [("machine-001", 100), ("machine-003", 100)] {
            let of = |all: &[Reading]| all.iter().filter(|r| *r.machine_id == *id).cloned().collect::<Vec<_>>();
            assert_eq!(of(&readings).len(), count);
            assert_eq!(of(&readings), of(&untouched));
        }
        assert_eq!(f.faults().iter().count(), 0, "its fault went with it");
        assert_eq!(f.index_of("machine-005"), Some(3));
        assert_eq!(f.add(1, START)[0], "machine-006".into(), "numbers are not used again");
    }

    #[test]
    fn a_machine_whose_cooling_fails_slowly_is_warned_of_and_saved_by_less_load() {
        let run_with = |reduce: bool| {
            let mut f = Fleet::new(1, 42, "boot", SECOND, START);
            let (mut forecast, mut hottest, mut alarmed_at) = (None, 0.0f64, None);
            for s in 0..3 * 3_600i64 {
                let now = START + s * SECOND;
                if s == 3_600 {
                    let grows = Some((now, now + 3_600 * SECOND));
                    f.inject(Active { grows, ..fault(Kind::Cooling, Some(0), now + 2 * 3_600 * SECOND) });
                }
                for event in f.tick(now).events {
                    if let Event::Overheating { alarm, .. } = event {
                        forecast = forecast.or(Some(alarm));
                        alarmed_at = alarmed_at.or(Some(s));
                        if reduce {
                            let relieved = f.relieve(LoadLimit { limit: 0.25, until_us: i64::MAX });
                            assert_eq!(relieved.len(), 1);
                        }
                    }
                }
                hottest = hottest.max(f.machines()[0].state.temperature);
            }
            (forecast, hottest, alarmed_at, f.machines()[0].output.avoided_failures)
        };
        let (forecast, hottest, _, avoided) = run_with(false);
        assert!(forecast.is_some() && hottest >= 95.0 && avoided == 0, "{forecast:?} {hottest}");
        let (forecast, hottest, at, avoided) = run_with(true);
        assert!(hottest < 95.0, "{forecast:?} at {at:?}: {hottest}");
        assert_eq!(avoided, 1);
    }

    #[test]
    fn the_ledger_is_told_of_energy_and_gaps() {
        let mut f = fleet();
        f.keep_accounts(10 * SECOND);
        let mut records = Vec::new();
        let mut step = |f: &mut Fleet, s: i64| records.extend(f.tick(START + s * SECOND).records);
        (0..=20).for_each(|s| step(&mut f, s));
        f.inject(fault(Kind::SensorGap, Some(0), START + 30 * SECOND));
        (21..=40).for_each(|s| step(&mut f, s));
        // Nobody looked for six seconds.
        step(&mut f, 46);
        f.remove("machine-003");
        step(&mut f, 47);
        records.extend(f.settle_accounts());
        let of = |id: &str| {
            let told = records.iter().filter_map(|r| match r {
                Record::Interval(i) if *i.identity.machine_id == *id => {
                    assert!(i.energy_mj > 0 && i.parts.is_some());
                    Some(format!("{}-{}", (i.start_us - START) / SECOND, (i.end_us - START) / SECOND))
                }
                Record::GapOpen { machine_id, reason, .. } if **machine_id == *id => Some(reason.as_str().to_owned()),
                _ => None,
            });
            told.collect::<Vec<_>>()
        };
        assert_eq!(of("machine-001"), ["0-10", "10-20", "sensor_silent", "30-40", "paused", "46-47"]);
        assert_eq!(of("machine-002"), ["0-10", "10-20", "20-30", "30-40", "paused", "46-47"]);
        assert_eq!(of("machine-003"), ["0-10", "10-20", "20-30", "30-40", "paused"]);
    }

    #[test]
    fn a_machine_with_its_forecast_fits_in_a_kibibyte() {
        let names = 16 + 16;
        assert!(size_of::<Machine>() + names <= 1_024, "{}", size_of::<Machine>());
        assert!(size_of::<Account>() <= 112, "and its account for the ledger: {}", size_of::<Account>());
    }
}
