use crate::{filter::TrendFilter, lagged::LaggedLoad, median, normal, settings::Settings};

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Seconds since any fixed instant.
    pub time: f64,
    /// °C.
    pub temperature: f64,
    /// Share of the maximum load, 0 to 1; `None` if it is not known.
    pub load: Option<f64>,
}

/// Why there is an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is going to overheat.
    Trend,
    /// It is hot already.
    Level,
}

/// An alarm, when it is raised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alarm {
    /// Why.
    pub cause: Cause,
    /// Seconds until the limit, if it is on its way there.
    pub eta_seconds: Option<f64>,
    /// That the limit is reached within the horizon.
    pub probability: f64,
}

/// What is expected of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outlook {
    /// Slope of the temperature now, K/min; what the load explains included.
    pub gradient_per_minute: f32,
    /// Temperature at the horizon if the machine goes on working as it does, °C: mean …
    pub predicted: f32,
    /// … and standard deviation, K.
    pub predicted_sd: f32,
    /// Probability that it is at the limit or above at the horizon.
    pub probability: f32,
    /// Seconds until the limit; infinite if it is not on its way there.
    pub eta_seconds: f32,
    /// Distance of the unexplained warmth from where it usually is, in its usual deviations.
    pub residual_score: f32,
}

/// Readings closer than this are averaged, s.
const STEP: f64 = 10.0;
/// After a longer silence the trend is forgotten, s.
const SILENCE: f64 = 1_800.0;
/// A load that was not given for longer is not known any more, s.
const LOAD_HOLDS: f64 = 600.0;
/// No ETA beyond, s.
pub(crate) const FORESIGHT: f64 = 21_600.0;
/// An innovation of more than so many standard deviations is an outlier …
const GATE: f64 = 5.0;
/// … unless this many come in a row, for this long, s: then the level has really moved.
const MAX_REJECTED: f64 = 3.0;
const REJECTED_FOR: f64 = 60.0;
/// What the model does not get right even without noise, K².
const MODEL_ERROR: f64 = 0.01;
/// The load at work is remembered for this long, s of work.
const WORK_MEMORY: f64 = 1_800.0;
/// The work to come is this many standard deviations heavier than the mean.
const HEAVY: f64 = 0.7;
/// A lower load is no work.
const IDLE_BELOW: f64 = 0.02;
/// The usual level of the residual may rise this fast, K/s: faster than any day does.
const ENVELOPE_RISE: f64 = 0.15 / 60.0;
/// It comes down with this time constant, s.
const ENVELOPE_MEMORY: f64 = 43_200.0;
/// The usual mean and deviation of the residual are learnt with this time constant, s.
const USUAL_MEMORY: f64 = 14_400.0;
/// Before this age nobody knows what is usual, s.
const USUAL_AFTER: f64 = 7_200.0;
/// The residual's deviation counts as this at least, K.
const LEAST_DEVIATION: f32 = 0.8;
/// An alarm ends after this long without a reason, s.
const CALM: f64 = 600.0;
/// The high temperature must last this long, s.
const HIGH_LASTS: f64 = 20.0;

/// Readings since the last step.
#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    sum: f64,
    load: f32,
    count: u16,
}

/// The load while at work: means of its first three powers.
#[derive(Clone, Copy, Debug)]
struct Work([f32; 3]);

impl Work {
    fn new(load: f64) -> Self {
        let load = load as f32;
        Self([load, load * load, load * load * load])
    }

    fn observe(&mut self, load: f64, seconds: f64) {
        if load > IDLE_BELOW {
            let a = (1.0 - (-seconds / WORK_MEMORY).exp()) as f32;
            for (mean, new) in self.0.iter_mut().zip(Self::new(load).0) {
                *mean += a * (new - *mean);
            }
        }
    }

    /// What is to be expected: rather the heavy work, for that is what overheats.
    fn expected(&self) -> f64 {
        (self.mean() + HEAVY * self.variance().sqrt()).min(1.0)
    }

    /// Mean that weighs each load by itself.
    fn mean(&self) -> f64 {
        if self.0[0] > 0.0 { f64::from(self.0[1] / self.0[0]) } else { 0.0 }
    }

    fn variance(&self) -> f64 {
        if self.0[0] > 0.0 { (f64::from(self.0[2] / self.0[0]) - self.mean().powi(2)).max(0.0) } else { 0.0 }
    }
}

/// The forecast of one machine. About 370 bytes.
#[derive(Clone, Debug)]
pub struct Forecaster {
    filter: TrendFilter,
    lags: LaggedLoad,
    work: Work,
    bin: Bin,
    raw: [f32; 2],
    /// Of the sensor, K.
    noise: f32,
    first: f64,
    last_sample: f64,
    last_step: f64,
    last_load: f64,
    load: f32,
    /// Highest usual level of the residual, °C.
    envelope: f32,
    /// Usual level of the residual, °C, and its mean absolute deviation, K.
    usual: f32,
    deviation: f32,
    /// For how long there has been a reason for each kind of alarm, and none for any, s.
    trend_for: f32,
    high_for: f32,
    calm_for: f32,
    rejected: u8,
    phase: u8,
    started: bool,
    alarmed: bool,
    outlook: Outlook,
}

impl Default for Forecaster {
    fn default() -> Self {
        Self {
            filter: TrendFilter::new(0.0, &LaggedLoad::default().now()),
            lags: LaggedLoad::default(),
            work: Work([0.0; 3]),
            bin: Bin::default(),
            raw: [0.0; 2],
            noise: 0.3,
            first: 0.0,
            last_sample: 0.0,
            last_step: 0.0,
            last_load: f64::NEG_INFINITY,
            load: 0.0,
            envelope: 0.0,
            usual: 0.0,
            deviation: LEAST_DEVIATION,
            trend_for: 0.0,
            high_for: 0.0,
            calm_for: 0.0,
            rejected: 0,
            phase: 0,
            started: false,
            alarmed: false,
            outlook: Outlook { eta_seconds: f32::INFINITY, ..Outlook::default() },
        }
    }
}

impl Forecaster {
    /// A forecaster that looks ahead `number % 10` seconds earlier than others that start with
    /// it: a whole fleet does not do so at once.
    pub fn staggered(number: usize) -> Self {
        Self { phase: (number % STEP as usize) as u8, ..Self::default() }
    }

    /// Takes the next reading. Returns the alarm if it raises one.
    ///
    /// A reading that is not later than the one before it, or no number, changes nothing.
    pub fn observe(&mut self, sample: Sample, settings: &Settings) -> Option<Alarm> {
        let Sample { time, temperature, load } = sample;
        if !temperature.is_finite() || !time.is_finite() || (self.started && time <= self.last_sample) {
            return None;
        }
        // Beyond any sensor; keeps the arithmetic finite.
        let temperature = temperature.clamp(-1e4, 1e4) as f32;
        if let Some(load) = load.filter(|l| l.is_finite()) {
            self.load = load.clamp(0.0, 1.5) as f32;
            self.last_load = time;
        }
        if !self.started || time - self.last_sample > SILENCE {
            self.begin(time, temperature);
            return None;
        }
        self.last_sample = time;
        let [older, old] = self.raw;
        let middle = median::of_three(older, old, temperature);
        self.learn_noise(older - 2.0 * old + temperature);
        self.raw = [old, temperature];
        self.bin.sum += f64::from(middle);
        self.bin.load += self.load;
        self.bin.count = self.bin.count.saturating_add(1);
        let seconds = time - self.last_step;
        if seconds < STEP {
            return None;
        }
        let bin = std::mem::take(&mut self.bin);
        self.last_step = time;
        let count = f64::from(bin.count);
        self.step(time, seconds, bin.sum / count, f64::from(bin.load) / count, count, settings)
    }

    /// The machine has been ordered to work with at most this load: what it did before says
    /// nothing any more.
    pub fn limit_load(&mut self, limit: f64) {
        if limit.is_finite() && self.work.expected() > limit {
            self.work = Work::new(limit.clamp(0.0, 1.0));
        }
    }

    /// What is expected, as of the latest step.
    pub fn outlook(&self) -> &Outlook {
        &self.outlook
    }

    /// There is an alarm.
    pub fn alarmed(&self) -> bool {
        self.alarmed
    }

    /// The load is known.
    pub fn load_aware(&self) -> bool {
        self.last_load >= self.last_sample - LOAD_HOLDS
    }

    fn begin(&mut self, time: f64, temperature: f32) {
        let known = self.started;
        self.started = true;
        self.raw = [temperature; 2];
        self.bin = Bin::default();
        (self.last_sample, self.last_step, self.first) = (time, time - f64::from(self.phase), time);
        self.lags = LaggedLoad::steady(f64::from(self.load));
        if self.work.0[0] <= 0.0 {
            self.work = Work::new(f64::from(self.load));
        }
        if known {
            // The gains are the machine's own and stay.
            let explained = self.filter.explained(&self.lags.now());
            self.filter.forget_trend();
            let innovation = self.filter.innovation(f64::from(temperature), &self.lags.now(), 1.0);
            self.filter.update(&innovation, &self.lags.now());
            self.envelope = temperature - explained as f32;
        } else {
            self.filter = TrendFilter::new(f64::from(temperature), &self.lags.now());
            self.envelope = self.filter.level() as f32;
        }
        self.usual = self.envelope;
        (self.trend_for, self.high_for, self.rejected) = (0.0, 0.0, 0);
        self.outlook = Outlook { predicted: temperature, eta_seconds: f32::INFINITY, ..Outlook::default() };
    }

    /// From second differences, which no ramp and hardly a load step disturbs.
    fn learn_noise(&mut self, second_difference: f32) {
        // E|d| = √6 σ √(2/π); a spike counts as a large error, not as a spike.
        let seen = (second_difference.abs() / 1.954).min(3.0 * self.noise + 0.1);
        self.noise = (self.noise + 0.02 * (seen - self.noise)).clamp(0.005, 10.0);
    }

    fn step(
        &mut self,
        time: f64,
        seconds: f64,
        temperature: f64,
        load: f64,
        count: f64,
        settings: &Settings,
    ) -> Option<Alarm> {
        let aware = self.load_aware();
        self.lags.advance(load, seconds);
        if self.work.0[0] <= 0.0 && load > IDLE_BELOW {
            self.work = Work::new(load);
        }
        self.work.observe(load, seconds);
        self.filter.predict(seconds);
        let x = self.lags.now();
        // Medians of three that share readings are less independent than their number says.
        let sensor = f64::from(self.noise).powi(2) * if count > 1.5 { 1.3 / count } else { 0.6 };
        let noise = sensor + MODEL_ERROR;
        let mut new = self.filter.innovation(temperature, &x, noise);
        let outlier = new.difference.abs() > GATE * new.variance.sqrt();
        if outlier && f64::from(self.rejected) < MAX_REJECTED.max(REJECTED_FOR / seconds) {
            self.rejected = self.rejected.saturating_add(1);
        } else {
            if outlier {
                self.filter.doubt_level(new.difference);
                new = self.filter.innovation(temperature, &x, noise);
            }
            self.rejected = 0;
            let shift = self.filter.update(&new, &x) as f32;
            self.envelope -= shift;
            self.usual -= shift;
        }
        let warm_up = settings.warm_up * if aware { 1.0 } else { 2.0 };
        let age = time - self.first;
        self.learn_usual(seconds, age, age < warm_up, aware);
        self.look_ahead(aware, load, settings);
        self.judge(seconds, temperature, age >= warm_up, aware, settings)
    }

    fn learn_usual(&mut self, seconds: f64, age: f64, warming_up: bool, aware: bool) {
        let level = self.filter.level() as f32;
        let above = level - self.envelope;
        if warming_up {
            // Part way: at the very first the level is not known well.
            self.envelope += above.max(above * 0.1);
            self.usual += 0.2 * (level - self.usual);
        } else if above <= 0.0 {
            self.envelope += above * (1.0 - (-seconds / ENVELOPE_MEMORY).exp()) as f32;
        } else if !self.alarmed {
            self.envelope += above.min((ENVELOPE_RISE * seconds) as f32);
        }
        let off = level - self.usual;
        // 1.25: from the mean absolute to the standard deviation of a normal distribution.
        let score = off / (1.25 * self.deviation.max(LEAST_DEVIATION));
        // Without a load all of its swings would be odd, and with one it takes a while to know it.
        self.outlook.residual_score = if aware && age >= USUAL_AFTER { score } else { 0.0 };
        // What is odd is learnt slowly: a fault must not become usual while it lasts.
        let patience = if self.outlook.residual_score.abs() > 4.0 { 8.0 } else { 1.0 };
        let a = (1.0 - (-seconds / (patience * USUAL_MEMORY)).exp()) as f32;
        self.usual += a * off;
        self.deviation += a * (off.abs() - self.deviation);
    }

    /// The reach of the slope over `seconds`, s.
    fn reach(seconds: f64, aware: bool, settings: &Settings) -> f64 {
        if aware {
            TrendFilter::reach(seconds)
        } else {
            settings.blind_reach * (1.0 - (-seconds / settings.blind_reach).exp())
        }
    }

    fn look_ahead(&mut self, aware: bool, load: f64, settings: &Settings) {
        let work = self.work.expected();
        let expected = |seconds: f64| {
            self.filter.ahead(seconds, Self::reach(seconds, aware, settings), &self.lags.after(work, seconds))
        };
        let (mean, variance) = expected(settings.horizon);
        // The work may become lighter or heavier by as much as it does anyway.
        let lighter = LaggedLoad::steady(work - 0.05).now();
        let heavier = LaggedLoad::steady(work + 0.05).now();
        let gain = (self.filter.explained(&heavier) - self.filter.explained(&lighter)) * 10.0;
        let sd = (variance + gain * gain * self.work.variance() + MODEL_ERROR).sqrt();
        let slope = self.filter.slope() + self.filter.explained(&self.lags.rate(load));
        self.outlook = Outlook {
            gradient_per_minute: (slope * 60.0) as f32,
            predicted: mean as f32,
            predicted_sd: sd as f32,
            probability: normal::cdf((mean - settings.limit) / sd) as f32,
            eta_seconds: self.eta(mean, aware, settings).map_or(f32::INFINITY, |s| s as f32),
            residual_score: self.outlook.residual_score,
        };
    }

    /// Seconds until the expected temperature is at the limit.
    fn eta(&self, at_horizon: f64, aware: bool, settings: &Settings) -> Option<f64> {
        let work = self.work.expected();
        let expected = |seconds: f64| {
            let slope = self.filter.slope() * Self::reach(seconds, aware, settings);
            self.filter.level() + slope + self.filter.explained(&self.lags.after(work, seconds))
        };
        if expected(0.0) >= settings.limit {
            return Some(0.0);
        }
        let (mut early, mut late) = (0.0, if at_horizon >= settings.limit { settings.horizon } else { FORESIGHT });
        if late > settings.horizon && expected(late) < settings.limit {
            return None;
        }
        while late - early > 1.0 {
            let middle = 0.5 * (early + late);
            if expected(middle) >= settings.limit { late = middle } else { early = middle }
        }
        Some(late)
    }

    fn judge(&mut self, seconds: f64, temperature: f64, warm: bool, aware: bool, settings: &Settings) -> Option<Alarm> {
        let probability = f64::from(self.outlook.probability);
        let estimate = self.filter.level() + self.filter.explained(&self.lags.now());
        let unusual = self.filter.level() as f32 > self.envelope + settings.margin as f32;
        let trend =
            warm && self.rejected == 0 && unusual && self.filter.slope() > 0.0 && probability >= settings.alarm_from;
        let high = temperature >= settings.high && estimate >= settings.high - 1.0;
        let held = |was: f32, now: bool| if now { was + seconds as f32 } else { 0.0 };
        self.trend_for = held(self.trend_for, trend);
        self.high_for = held(self.high_for, high);
        let reason = probability >= settings.alarm_until && warm || estimate >= settings.high - 2.0;
        self.calm_for = held(self.calm_for, !reason);
        if self.alarmed {
            self.alarmed = f64::from(self.calm_for) < CALM;
            return None;
        }
        let persist = if aware { settings.persist } else { settings.persist_blind };
        let cause = if f64::from(self.high_for) >= HIGH_LASTS {
            Cause::Level
        } else if f64::from(self.trend_for) >= persist {
            Cause::Trend
        } else {
            return None;
        };
        self.alarmed = true;
        self.calm_for = 0.0;
        let eta = f64::from(self.outlook.eta_seconds);
        Some(Alarm { cause, eta_seconds: eta.is_finite().then_some(eta), probability })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A machine of 60 °C at load 0.6: 40 K at full load, 5 minutes, a sensor with noise.
    struct Plant {
        heat: f64,
        seconds: f64,
        random: u64,
    }

    impl Plant {
        fn new() -> Self {
            Self { heat: 24.0, seconds: 0.0, random: 1 }
        }

        fn noise(&mut self) -> f64 {
            // Sum of uniform numbers: close enough to normal.
            let sum: f64 = (0..6)
                .map(|_| {
                    self.random =
                        self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (self.random >> 33) as f64 / f64::from(1u32 << 31) - 0.5
                })
                .sum();
            sum * 1.414
        }

        fn next(&mut self, step: f64, load: f64, fault: f64, noise: f64) -> Sample {
            self.seconds += step;
            self.heat += (40.0 * load - self.heat) * (1.0 - (-step / 300.0).exp());
            let temperature = 36.0 + self.heat + fault + noise * self.noise();
            Sample { time: self.seconds, temperature, load: Some(load) }
        }
    }

    /// Seconds of all alarms over `hours`, with readings every `step` seconds.
    fn alarms(hours: f64, mut sample: impl FnMut(&mut Plant, f64) -> Sample) -> Vec<(f64, Alarm)> {
        let (mut plant, mut forecaster) = (Plant::new(), Forecaster::default());
        let mut raised = Vec::new();
        while plant.seconds < hours * 3_600.0 {
            let seconds = plant.seconds;
            let s = sample(&mut plant, seconds);
            raised.extend(forecaster.observe(s, &Settings::default()).map(|a| (s.time, a)));
        }
        raised
    }

    fn steps(seconds: f64) -> f64 {
        if ((seconds / 900.0) as u64).is_multiple_of(2) { 0.5 } else { 0.8 }
    }

    fn ramp(seconds: f64, per_minute: f64) -> f64 {
        ((seconds - 7_200.0) / 60.0 * per_minute).max(0.0)
    }

    #[test]
    fn a_ramp_of_a_degree_a_minute_is_announced_in_time() {
        for step in [1.0, 10.0, 60.0] {
            let raised = alarms(2.6, |p, s| p.next(step, 0.6, ramp(s, 1.0), 0.2));
            assert_eq!(raised.len(), 1, "{raised:?}");
            let (at, alarm) = raised[0];
            let left = 7_200.0 + 35.0 * 60.0 - at;
            assert!(alarm.cause == Cause::Trend && left >= 600.0, "every {step} s: {left} s left");
            let eta = alarm.eta_seconds.unwrap();
            assert!((eta - left).abs() < 0.35 * left, "{eta} for {left}");
        }
    }

    #[test]
    fn load_steps_and_spikes_are_no_reason() {
        let mut spiked = 0u32;
        let raised = alarms(12.0, |p, s| {
            let mut sample = p.next(10.0, steps(s), 0.0, 0.3);
            if (s as u64 / 10) % 97 == 13 {
                spiked += 1;
                sample.temperature = 140.0;
            }
            sample
        });
        assert!(spiked > 40);
        assert_eq!(raised, []);
    }

    #[test]
    fn a_ramp_hidden_in_load_steps_is_found() {
        let raised = alarms(3.0, |p, s| p.next(10.0, steps(s), ramp(s, 0.9), 0.3));
        let hot = 7_200.0 + (95.0 - 68.0) / 0.9 * 60.0;
        assert_eq!(raised.len(), 1);
        assert!(hot - raised[0].0 >= 600.0, "{}", hot - raised[0].0);
    }

    #[test]
    fn without_a_load_it_still_warns() {
        let raised = alarms(2.6, |p, s| Sample { load: None, ..p.next(10.0, 0.6, ramp(s, 1.0), 0.3) });
        assert_eq!(raised.len(), 1);
        assert!(raised[0].0 < 7_200.0 + 35.0 * 60.0 - 300.0);
    }

    #[test]
    fn what_is_hot_is_told_even_without_a_trend() {
        let raised = alarms(3.0, |p, s| p.next(10.0, 0.6, if s > 7_200.0 { 31.5 } else { 0.0 }, 0.2));
        assert_eq!(raised.len(), 1, "{raised:?}");
        assert!(raised[0].0 < 7_200.0 + 300.0);
    }

    #[test]
    fn relief_ends_the_alarm_and_the_next_ramp_is_another() {
        let raised = alarms(9.0, |p, s| {
            let fault = if s < 14_400.0 { ramp(s, 0.5).min(34.0) } else { ramp(s - 10_800.0, 0.5).min(34.0) };
            p.next(10.0, 0.6, fault, 0.2)
        });
        assert_eq!(raised.len(), 2, "{raised:?}");
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Forecaster>() <= 400, "{}", size_of::<Forecaster>());
    }

    proptest! {
        #[test]
        fn nothing_upsets_it(values in proptest::collection::vec((any::<f64>(), any::<f64>(), any::<Option<f64>>()), 1..200)) {
            let mut forecaster = Forecaster::default();
            let mut time = 0.0;
            for (gap, temperature, load) in values {
                time += gap.abs() % 4_000.0;
                forecaster.observe(Sample { time, temperature, load }, &Settings::default());
                let o = forecaster.outlook();
                prop_assert!((0.0..=1.0).contains(&o.probability) && !o.predicted.is_nan() && !o.eta_seconds.is_nan());
            }
        }
    }
}
