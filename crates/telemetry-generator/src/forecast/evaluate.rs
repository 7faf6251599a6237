//! How good is the forecast? Measured on machines and shapes of warming that it was not tuned
//! on, beside a straight line through the last ten minutes.

use std::{fmt, ops::Range};

use forecast::{Forecaster, Settings, anomaly::Monitor, baseline::PredictLinear};
use rand::RngExt;
use serde::Serialize;

use super::plant::{Observed, Plant, Ramp, STEP, Shape};
use crate::machine::rng_for;

/// Seeds of machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds(Range<u64>);

impl std::str::FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bounds = text.split_once("..").map(|(a, b)| (a.trim().parse(), b.trim().parse()));
        match bounds {
            Some((Ok(from), Ok(to))) if from < to && to - from <= 10_000 => Ok(Self(from..to)),
            Some((Ok(_), Ok(_))) => Err("A..B must hold 1 to 10000 seeds".to_owned()),
            _ => Err("must be A..B, for example 1000..1040".to_owned()),
        }
    }
}

/// A warning is in time if it comes this long before the limit, s.
const IN_TIME: f64 = 600.0;
/// An ETA is right within this share of what is left (α), …
const ALPHA: f64 = 0.3;
/// … asked halfway between the alarm and the failure (λ).
const LAMBDA: f64 = 0.5;
/// The prognostic horizon counts from where the ETA stays right within this, s.
const HORIZON_TOLERANCE: f64 = 300.0;
/// Of the standard normal distribution: half a 90 % interval.
const Z90: f64 = 1.644_85;
/// The straight line looks back this long, s …
const LINE_WINDOW: f64 = 600.0;
/// … and must say so for this long, s.
const LINE_PERSIST: f64 = 60.0;
/// Odd from this score.
pub const ODD: f32 = 5.0;
/// What fails beyond this time after its onset, s, is left out.
const LONGEST: f64 = 4.0 * 3_600.0;

/// How long a failure takes from its onset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Class {
    Fast,
    Medium,
    Slow,
}

impl Class {
    const ALL: [Self; 3] = [Self::Fast, Self::Medium, Self::Slow];

    fn of(minutes: f64) -> Self {
        match minutes {
            m if m < 25.0 => Self::Fast,
            m if m < 45.0 => Self::Medium,
            _ => Self::Slow,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Fast => "less than 25 min",
            Self::Medium => "25 to 45 min",
            Self::Slow => "45 min and more",
        }
    }

    /// Lengths of the ramps that are drawn for it, minutes.
    fn lengths(self) -> Range<f64> {
        match self {
            Self::Fast => 10.0..25.0,
            Self::Medium => 27.0..45.0,
            Self::Slow => 45.0..120.0,
        }
    }
}

/// Raises alarms from a condition: after it has persisted, and again only after calm.
#[derive(Clone, Copy, Debug, Default)]
struct Latch {
    yes: f64,
    no: f64,
    on: bool,
}

impl Latch {
    fn raised(&mut self, condition: bool, persist: f64) -> bool {
        (self.yes, self.no) = if condition { (self.yes + STEP, 0.0) } else { (0.0, self.no + STEP) };
        if self.on {
            self.on = self.no < IN_TIME;
            return false;
        }
        self.on = condition && self.yes >= persist;
        self.on
    }
}

/// The straight line with a latch.
#[derive(Debug)]
struct Line(PredictLinear, Latch);

impl Line {
    fn new() -> Self {
        Self(PredictLinear::new(LINE_WINDOW), Latch::default())
    }

    fn raised(&mut self, seen: &Observed, settings: &Settings) -> bool {
        let ahead = self.0.observe(seen.sample.time, seen.sample.temperature, settings.horizon);
        self.1.raised(ahead.is_some_and(|t| t >= settings.limit), LINE_PERSIST)
    }
}

/// One failure.
#[derive(Debug)]
struct Failure {
    shape: Shape,
    class: Class,
    /// Seconds of warning; `None` is none.
    lead: Option<f64>,
    line_lead: Option<f64>,
    /// Seconds before the failure from which the ETA stayed right.
    horizon: f64,
    /// The ETA was right at λ; `None` without a warning.
    alpha_lambda: Option<bool>,
}

/// Warnings in time, of how many.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Share {
    count: usize,
    of: usize,
}

impl Share {
    fn of(all: impl Iterator<Item = bool>) -> Self {
        all.fold(Self::default(), |s, yes| Self { count: s.count + usize::from(yes), of: s.of + 1 })
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.of == 0 {
            return f.write_str("–");
        }
        write!(f, "{:.0} % of {}", 100.0 * self.count as f64 / self.of as f64, self.of)
    }
}

/// The failures of one class, or of one shape.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    failures: usize,
    warned_in_time: Share,
    missed: usize,
    median_lead_seconds: f64,
    prognostic_horizon_seconds: f64,
    alpha_lambda: Share,
    line_warned_in_time: Share,
    line_missed: usize,
}

impl Row {
    fn of(name: &'static str, failures: &[&Failure]) -> Self {
        let in_time = |lead: Option<f64>| lead.is_some_and(|l| l >= IN_TIME);
        Self {
            name,
            failures: failures.len(),
            warned_in_time: Share::of(failures.iter().map(|f| in_time(f.lead))),
            missed: failures.iter().filter(|f| f.lead.is_none()).count(),
            median_lead_seconds: median(failures.iter().filter_map(|f| f.lead).collect()),
            prognostic_horizon_seconds: median(failures.iter().map(|f| f.horizon).collect()),
            alpha_lambda: Share::of(failures.iter().filter_map(|f| f.alpha_lambda)),
            line_warned_in_time: Share::of(failures.iter().map(|f| in_time(f.line_lead))),
            line_missed: failures.iter().filter(|f| f.line_lead.is_none()).count(),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Healthy days of one shape.
#[derive(Debug, Serialize)]
struct Healthy {
    shape: Shape,
    machine_days: f64,
    false_alarms: usize,
    line_false_alarms: usize,
    false_anomalies: usize,
    /// How often the temperature was in the 90 % interval of 20 minutes before.
    coverage: Share,
}

/// An odd machine that does not overheat.
#[derive(Debug, Serialize)]
struct Oddity {
    name: &'static str,
    found: Share,
    median_seconds: f64,
}

/// The evaluation's outcome.
#[derive(Debug, Serialize)]
pub struct Report {
    seeds: String,
    by_class: Vec<Row>,
    by_shape: Vec<Row>,
    /// The bar: failures that leave 25 minutes at least.
    enough_time: Row,
    /// The same of those with a load column.
    enough_time_with_load: Row,
    healthy: Vec<Healthy>,
    false_alarms_per_machine_day: f64,
    false_alarms_per_machine_day_with_load: f64,
    line_false_alarms_per_machine_day: f64,
    false_anomalies_per_machine_day: f64,
    coverage: Share,
    coverage_with_load: Share,
    /// Warming that ends between 80 and 88 °C: warned of although nothing happens.
    harmless_warned: Share,
    line_harmless_warned: Share,
    oddities: Vec<Oddity>,
}

/// Runs all of it.
pub fn run(seeds: &Seeds, settings: &Settings) -> Report {
    let runs = || seeds.0.clone().flat_map(|seed| Shape::ALL.map(|shape| (seed, shape)));
    let failures: Vec<Failure> = runs()
        .flat_map(|(seed, shape)| Class::ALL.map(|class| (seed, shape, class)))
        .filter_map(|(seed, shape, class)| failure(seed, shape, class, settings))
        .collect();
    let healthy: Vec<Healthy> = Shape::ALL.map(|shape| healthy(seeds, shape, settings)).into();
    let harmless: Vec<(bool, bool)> = runs().map(|(seed, shape)| harmless(seed, shape, settings)).collect();
    let rows =
        |name, keep: &dyn Fn(&Failure) -> bool| Row::of(name, &failures.iter().filter(|f| keep(f)).collect::<Vec<_>>());
    let with_load = |h: &&Healthy| h.shape.tells_load();
    let per_day = |keep: &dyn Fn(&&Healthy) -> bool, count: fn(&Healthy) -> usize| {
        let days: f64 = healthy.iter().filter(|h| keep(h)).map(|h| h.machine_days).sum();
        healthy.iter().filter(|h| keep(h)).map(count).sum::<usize>() as f64 / days
    };
    let coverage = |keep: &dyn Fn(&&Healthy) -> bool| {
        healthy
            .iter()
            .filter(|h| keep(h))
            .fold(Share::default(), |s, h| Share { count: s.count + h.coverage.count, of: s.of + h.coverage.of })
    };
    Report {
        seeds: format!("{}..{}", seeds.0.start, seeds.0.end),
        by_class: Class::ALL.map(|c| rows(c.name(), &|f| f.class == c)).into(),
        by_shape: Shape::ALL.map(|s| rows(s.name(), &|f| f.shape == s && f.class != Class::Fast)).into(),
        enough_time: rows("all that leave 25 min", &|f| f.class != Class::Fast),
        enough_time_with_load: rows("of these with a load", &|f| f.class != Class::Fast && f.shape.tells_load()),
        false_alarms_per_machine_day: per_day(&|_| true, |h| h.false_alarms),
        false_alarms_per_machine_day_with_load: per_day(&with_load, |h| h.false_alarms),
        line_false_alarms_per_machine_day: per_day(&|_| true, |h| h.line_false_alarms),
        false_anomalies_per_machine_day: per_day(&|_| true, |h| h.false_anomalies),
        coverage: coverage(&|_| true),
        coverage_with_load: coverage(&with_load),
        harmless_warned: Share::of(harmless.iter().map(|h| h.0)),
        line_harmless_warned: Share::of(harmless.iter().map(|h| h.1)),
        oddities: oddities(seeds, settings),
        healthy,
    }
}

/// A machine that works well for three to four hours and then fails.
fn failure(seed: u64, shape: Shape, class: Class, settings: &Settings) -> Option<Failure> {
    let mut chance = rng_for(seed, shape as u64, 20 + class as u64);
    let mut plant = Plant::new(seed, shape);
    let ramp = Ramp {
        onset: chance.random_range(3.0..4.0) * 3_600.0,
        length: chance.random_range(class.lengths()) * 60.0,
        height: settings.limit - plant.working_temperature(),
    };
    let (mut forecaster, mut line) = (Forecaster::default(), Line::new());
    let (mut alarm, mut line_alarm) = (None, None);
    // ETA after each reading since the onset.
    let mut etas: Vec<(f64, f64)> = Vec::new();
    loop {
        let seen = plant.next(Some(&ramp));
        let time = seen.sample.time;
        if time > ramp.onset + LONGEST {
            return None;
        }
        if forecaster.observe(seen.sample, settings).is_some() && time >= ramp.onset {
            alarm = alarm.or(Some(time));
        }
        if line.raised(&seen, settings) && time >= ramp.onset {
            line_alarm = line_alarm.or(Some(time));
        }
        if time >= ramp.onset {
            etas.push((time, f64::from(forecaster.outlook().eta_seconds)));
        }
        if time < ramp.onset || seen.truth < settings.limit {
            continue;
        }
        let right = |(at, eta): &(f64, f64), within: f64| (eta - (time - at)).abs() <= within;
        let wrong = etas.iter().rev().find(|e| !right(e, HORIZON_TOLERANCE));
        let asked = alarm.map(|a: f64| a + LAMBDA * (time - a));
        return Some(Failure {
            shape,
            class: Class::of((time - ramp.onset) / 60.0),
            lead: alarm.map(|a| time - a),
            line_lead: line_alarm.map(|a| time - a),
            horizon: time - wrong.map_or(ramp.onset, |w| w.0 + STEP),
            alpha_lambda: asked
                .and_then(|asked| etas.iter().find(|e| e.0 >= asked).map(|e| right(e, ALPHA * (time - e.0)))),
        });
    }
}

/// The sensors' oddness: the largest of all.
fn oddness(forecaster: &Forecaster, monitor: &Monitor) -> f32 {
    let scores = [forecaster.outlook().residual_score, monitor.vibration(), monitor.power()];
    scores.into_iter().map(f32::abs).fold(0.0, f32::max)
}

/// A day of each machine in which nothing happens.
fn healthy(seeds: &Seeds, shape: Shape, settings: &Settings) -> Healthy {
    let mut total = Healthy {
        shape,
        machine_days: 0.0,
        false_alarms: 0,
        line_false_alarms: 0,
        false_anomalies: 0,
        coverage: Share::default(),
    };
    for seed in seeds.0.clone() {
        let mut plant = Plant::new(seed, shape);
        let (mut forecaster, mut monitor, mut line) = (Forecaster::default(), Monitor::default(), Line::new());
        let mut odd = Latch::default();
        let mut expected: std::collections::VecDeque<(f64, f64, f64)> = std::collections::VecDeque::new();
        loop {
            let seen = plant.next(None);
            let time = seen.sample.time;
            if time > 86_400.0 {
                break;
            }
            total.false_alarms += usize::from(forecaster.observe(seen.sample, settings).is_some());
            total.line_false_alarms += usize::from(line.raised(&seen, settings));
            monitor.observe(seen.load, seen.vibration, seen.power, STEP);
            total.false_anomalies += usize::from(odd.raised(oddness(&forecaster, &monitor) >= ODD, 0.0));
            let outlook = forecaster.outlook();
            expected.push_back((
                time + settings.horizon,
                f64::from(outlook.predicted),
                f64::from(outlook.predicted_sd),
            ));
            while expected.front().is_some_and(|e| e.0 <= time) {
                let Some((_, mean, sd)) = expected.pop_front() else { break };
                // It was said of a machine at work, and of one that is known a little.
                if seen.load > 0.02 && time > 2.0 * settings.warm_up + settings.horizon {
                    total.coverage.of += 1;
                    total.coverage.count += usize::from((seen.truth - mean).abs() <= Z90 * sd);
                }
            }
        }
        total.machine_days += 1.0;
    }
    total
}

/// Warming that saturates between 80 and 88 °C. Returns whether the forecast and the line warned.
fn harmless(seed: u64, shape: Shape, settings: &Settings) -> (bool, bool) {
    let mut chance = rng_for(seed, shape as u64, 30);
    let mut plant = Plant::new(seed, shape);
    let height = chance.random_range(80.0..88.0) - plant.working_temperature();
    let length = chance.random_range(15.0..60.0) * 60.0;
    let onset = 3.0 * 3_600.0;
    let (mut forecaster, mut line) = (Forecaster::default(), Line::new());
    let (mut warned, mut line_warned) = (false, false);
    for _ in 0..((onset + 3.0 * length) / STEP) as usize {
        let mut seen = plant.next(None);
        // Saturating whatever the shape is: 95 % of the height after `length`.
        let rise = height * (1.0 - (-3.0 * (seen.sample.time - onset).max(0.0) / length).exp());
        seen.sample.temperature += rise;
        let alarm = forecaster.observe(seen.sample, settings).is_some();
        let line_alarm = line.raised(&seen, settings);
        if seen.sample.time >= onset {
            warned |= alarm;
            line_warned |= line_alarm;
        }
    }
    (warned, line_warned)
}

/// Faults too small to overheat: are they noticed within half an hour?
fn oddities(seeds: &Seeds, settings: &Settings) -> Vec<Oddity> {
    type Spoil = fn(&mut Plant);
    let faults: [(&str, Spoil); 3] = [
        ("bearing: 1.5 mm/s more vibration", |p| p.effects().extra_vibration = 1.5),
        ("friction: 15 % of the full heat", |p| p.effects().extra_heat = 0.15),
        ("cooling: 25 % more thermal resistance", |p| p.effects().resistance_factor = 1.25),
    ];
    let shapes = [Shape::Linear, Shape::LoadSteps, Shape::DayCycle];
    let one = |seed: u64, shape: Shape, spoil: Spoil| {
        let mut plant = Plant::new(seed, shape);
        let (mut forecaster, mut monitor) = (Forecaster::default(), Monitor::default());
        let onset = 6.0 * 3_600.0;
        loop {
            let seen = plant.next(None);
            forecaster.observe(seen.sample, settings);
            monitor.observe(seen.load, seen.vibration, seen.power, STEP);
            if seen.sample.time == onset {
                spoil(&mut plant);
            }
            let since = seen.sample.time - onset;
            if since > 1_800.0 {
                return None;
            }
            if since > 0.0 && oddness(&forecaster, &monitor) >= ODD {
                return Some(since);
            }
        }
    };
    let measure = |(name, spoil): (&'static str, Spoil)| {
        let found: Vec<Option<f64>> =
            seeds.0.clone().flat_map(|seed| shapes.map(|shape| one(seed, shape, spoil))).collect();
        Oddity {
            name,
            found: Share::of(found.iter().map(Option::is_some)),
            median_seconds: median(found.into_iter().flatten().collect()),
        }
    };
    faults.map(measure).into()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = |seconds: f64| format!("{:.1} min", seconds / 60.0);
        writeln!(f, "Seeds {}. A warning is in time if it comes 10 minutes before 95 °C.\n", self.seeds)?;
        writeln!(
            f,
            "| failures by time from onset to 95 °C | warned in time | missed | median lead | prognostic horizon | α–λ | predict_linear in time | its misses |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        let shapes = self.by_shape.iter();
        for row in self.by_class.iter().chain([&self.enough_time, &self.enough_time_with_load]).chain(shapes) {
            let Row { name, warned_in_time, missed, alpha_lambda, line_warned_in_time, line_missed, .. } = row;
            let (lead, horizon) = (minutes(row.median_lead_seconds), minutes(row.prognostic_horizon_seconds));
            writeln!(
                f,
                "| {name} | {warned_in_time} | {missed} | {lead} | {horizon} | {alpha_lambda} | {line_warned_in_time} | {line_missed} |"
            )?;
        }
        writeln!(
            f,
            "\n| healthy days | machine-days | false alarms | predict_linear | false anomalies | in the 90 % interval |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        for h in &self.healthy {
            let name = h.shape.name();
            let Healthy { machine_days, false_alarms, line_false_alarms, false_anomalies, coverage, .. } = h;
            writeln!(
                f,
                "| {name} | {machine_days:.0} | {false_alarms} | {line_false_alarms} | {false_anomalies} | {coverage} |"
            )?;
        }
        writeln!(
            f,
            "\nA machine-day: {:.2} false alarms ({:.2} with a load), predict_linear {:.1}; {:.2} false anomalies. In the 90 % interval: {} ({} with a load).",
            self.false_alarms_per_machine_day,
            self.false_alarms_per_machine_day_with_load,
            self.line_false_alarms_per_machine_day,
            self.false_anomalies_per_machine_day,
            self.coverage,
            self.coverage_with_load,
        )?;
        writeln!(
            f,
            "Harmless warming that ends at 80 to 88 °C: warned of {}, predict_linear {}.\n",
            self.harmless_warned, self.line_harmless_warned
        )?;
        writeln!(f, "| small fault | noticed within 30 min | median |")?;
        writeln!(f, "|---|---|---|")?;
        for o in &self.oddities {
            writeln!(f, "| {} | {} | {} |", o.name, o.found, minutes(o.median_seconds))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range() {
        assert_eq!("3..5".parse::<Seeds>().unwrap().0, 3..5);
        for bad in ["", "5", "5..5", "5..3", "a..b", "0..100000", "-1..3"] {
            assert!(bad.parse::<Seeds>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_same_seeds_give_the_same_report_and_it_tells_good_from_bad() {
        let settings = Settings::default();
        let one = |settings| failure(5, Shape::Linear, Class::Slow, settings).unwrap();
        let first = one(&settings);
        assert_eq!(format!("{first:?}"), format!("{:?}", one(&settings)));
        assert!(first.lead.is_some_and(|l| l >= IN_TIME), "{first:?}");
        // A forecaster that never says anything is told as one.
        let mute = Settings { alarm_from: 2.0, high: 1e4, ..settings };
        assert_eq!(one(&mute).lead, None);
    }

    #[test]
    fn an_alarm_is_raised_once_until_it_was_calm() {
        let mut latch = Latch::default();
        let raised: Vec<_> = (0..200).map(|i| latch.raised(i < 20 || (30..40).contains(&i) || i > 150, 20.0)).collect();
        assert_eq!(raised.iter().enumerate().filter(|r| *r.1).map(|r| r.0).collect::<Vec<_>>(), [1, 152]);
    }
}
