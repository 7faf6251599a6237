//! What a feature does that the others do not explain, measured by the fleet's own past.
//!
//! A load that changes moves temperature, vibration and power together, so that each of them wanders far and a sensor
//! that reads half a σ too much is lost in it. What remains of a feature once the others have told what they can
//! ([`stats::residual`]) hardly wanders. How much, only the fleet itself can say: machines of another make relate
//! load and power otherwise. So the first day of readings is learned, in windows of [`WINDOW`], and then frozen; from
//! then on the mean of each window is held against the largest that a window of that day had. Where one is beyond, the
//! feature is named whose shift alone accounts best for what is seen of all.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use stats::{
    comoments::Comoments,
    residual::{Alone, Residuals},
};

use crate::{
    features::{Features, MEASURED},
    pipeline::Watch,
    profile::Moments,
    window::{MIN_ROWS, Window},
};

/// Length of what is held against the past.
pub const WINDOW: Duration = Duration::from_micros(WINDOW_US.unsigned_abs());
const WINDOW_US: i64 = 20 * 60 * 1_000_000;
/// Windows that are learned: a day. With half of it, what the hour does to the air was taken for drift on many days.
pub const LEARN: usize = 72;
/// A line is so many times the largest of the learned windows; see docs/drift.md for what others would do.
const MARGIN: f64 = 1.75;
/// No line is lower, in σ: less is a small effect (Cohen, *Statistical Power Analysis*, 1988).
const LOWEST_LINE: f64 = 0.2;
/// What follows from others exactly wanders by rounding only.
const LEAST_WANDER: f64 = 1e-6;

/// What is kept over a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learned {
    /// Windows of the day that is being learned, with their numbers since 1970, oldest first; none once it is over.
    #[serde(default)]
    windows: Vec<(i64, Comoments)>,
    /// What was learned.
    #[serde(default)]
    past: Option<Past>,
}

/// A day of the fleet, frozen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    residuals: Residuals,
    /// The largest mean of a window, by feature, in σ.
    wander: [f64; MEASURED],
    /// Beginning of the first window and end of the last, µs since 1970.
    pub range_us: [i64; 2],
}

impl Past {
    fn of(windows: &[(i64, Comoments)]) -> Option<Self> {
        let mut sums = Comoments::new(MEASURED);
        windows.iter().for_each(|(_, window)| sums.merge(window));
        let residuals = Residuals::fit(&sums)?;
        let mut largest = [0.0f64; MEASURED];
        for (_, window) in windows {
            let shift = residuals.of(window.means())?;
            largest.iter_mut().zip(shift).for_each(|(most, s)| *most = most.max(s.abs()));
        }
        let wander = largest.map(|most| most.max(LEAST_WANDER));
        let ((first, _), (last, _)) = windows.first().zip(windows.last())?;
        Some(Self { residuals, wander, range_us: [first * WINDOW_US, (last + 1) * WINDOW_US] })
    }

    fn fits(&self) -> bool {
        self.residuals.check(MEASURED).is_ok() && self.wander.iter().all(|w| w.is_finite() && *w > 0.0)
    }

    /// From where on the mean of a window counts, by feature, in σ.
    fn lines(&self) -> [f64; MEASURED] {
        self.wander.map(|wander| (MARGIN * wander).max(LOWEST_LINE))
    }

    /// How far each feature alone must have moved for what is seen of all, in units of how far each wanders by itself.
    fn alone(&self, shift: &[f64; MEASURED]) -> Vec<Alone> {
        self.residuals.alone(shift, &self.wander)
    }
}

impl Learned {
    fn fits(&self) -> bool {
        self.past.as_ref().is_none_or(Past::fits) && self.windows.iter().all(|(_, window)| window.fits(MEASURED))
    }
}

/// Learns the past, and holds the present against it.
#[derive(Clone, Debug)]
pub struct Unexplained {
    learned: Learned,
    /// Something was learned since this was asked last.
    news: bool,
    /// Windows that late readings may still reach.
    open: BTreeMap<i64, Comoments>,
    /// The window in which this process began to read: it is not complete.
    began: Option<i64>,
    /// The last window that is closed.
    closed: Option<i64>,
    now: Window<Moments>,
    watches: [Watch; MEASURED],
}

/// How things stand.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Present {
    /// Share of the day that is learned, 0 to 1.
    pub learned: f64,
    /// Beginning and end of the day, µs since 1970.
    pub range_us: Option<[i64; 2]>,
    /// From where on a shift counts, in σ.
    pub lines: Option<[f64; MEASURED]>,
    /// Mean of the window, in σ; `None` while the window is not full.
    pub shift: Option<[f64; MEASURED]>,
    /// How far each feature alone must have moved for that, in σ.
    pub moved: Option<[f64; MEASURED]>,
    /// Since when a feature is the one that has moved, µs since 1970.
    pub since: [Option<i64>; MEASURED],
}

impl Default for Unexplained {
    fn default() -> Self {
        Self {
            learned: Learned::default(),
            news: false,
            open: BTreeMap::new(),
            began: None,
            closed: None,
            now: Window::new(WINDOW),
            watches: std::array::from_fn(|_| Watch::calm()),
        }
    }
}

impl Unexplained {
    /// Goes on with what an earlier process had learned. What does not fit together is not taken, and `false` said.
    pub fn resume(&mut self, learned: Learned) -> bool {
        let fits = learned.fits();
        if fits {
            *self = Self { closed: learned.windows.last().map(|(number, _)| *number), learned, ..Self::default() };
        }
        fits
    }

    /// Forgets the day and learns the next.
    pub fn begin_anew(&mut self) {
        *self = Self { news: true, ..Self::default() };
    }

    /// What was learned, if there is something new in it.
    pub fn news(&mut self) -> Option<Learned> {
        std::mem::take(&mut self.news).then(|| self.learned.clone())
    }

    /// It could not be kept: it is news again.
    pub fn not_kept(&mut self) {
        self.news = true;
    }

    /// Takes a row.
    pub fn add(&mut self, ts_us: i64, features: &Features) {
        if let Some(moments) = self.now.at(ts_us) {
            moments.add(features);
        }
        if self.learned.past.is_some() {
            return;
        }
        let window = ts_us.div_euclid(WINDOW_US);
        if window <= *self.began.get_or_insert(window) || self.closed.is_some_and(|closed| window <= closed) {
            return;
        }
        self.open.entry(window).or_insert_with(|| Comoments::new(MEASURED)).add(&features.0[..MEASURED]);
        // The one before may still get late readings.
        while let Some(oldest) = self.open.first_entry().filter(|oldest| *oldest.key() < window - 1) {
            let (number, sums) = oldest.remove_entry();
            self.close(number, sums);
        }
    }

    fn close(&mut self, number: i64, sums: Comoments) {
        self.closed = Some(number);
        if sums.count() < MIN_ROWS as f64 {
            return;
        }
        self.learned.windows.push((number, sums));
        self.news = true;
        if self.learned.windows.len() >= LEARN {
            self.learned.past = Past::of(&self.learned.windows);
            self.learned.windows.clear();
            self.open.clear();
        }
    }

    /// Looks whether a feature has moved, and whether that stays.
    pub fn watch(&mut self, now_us: i64) {
        let moved = self.moved();
        for (i, watch) in self.watches.iter_mut().enumerate() {
            watch.observe(moved == Some(i), now_us);
        }
    }

    /// Where one of the shifts is beyond its line: the feature whose move alone leaves the least unexplained.
    fn moved(&self) -> Option<usize> {
        let (shift, past) = self.shift().zip(self.learned.past.as_ref())?;
        if shift.iter().zip(past.lines()).all(|(s, line)| s.abs() <= line) {
            return None;
        }
        let alone = past.alone(&shift);
        (0..MEASURED).min_by(|a, b| alone[*a].left.total_cmp(&alone[*b].left))
    }

    fn shift(&self) -> Option<[f64; MEASURED]> {
        let past = self.learned.past.as_ref()?;
        let moments = self.now.total();
        if !self.now.full() || moments.rows < MIN_ROWS {
            return None;
        }
        let means: [f64; MEASURED] = std::array::from_fn(|i| moments.mean(i));
        past.residuals.of(&means)?.try_into().ok()
    }

    /// Numbers for metrics and the API.
    pub fn present(&self) -> Present {
        let past = self.learned.past.as_ref();
        let shift = self.shift();
        let moved = shift.zip(past).map(|(shift, past)| {
            let alone = past.alone(&shift);
            std::array::from_fn(|i| alone[i].shift)
        });
        Present {
            learned: if past.is_some() { 1.0 } else { self.learned.windows.len() as f64 / LEARN as f64 },
            range_us: past.map(|p| p.range_us),
            lines: past.map(Past::lines),
            shift,
            moved,
            since: std::array::from_fn(|i| self.watches[i].since_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_file::StateFile;

    const SECOND: i64 = 1_000_000;
    const HOUR: i64 = 3_600 * SECOND;

    /// Three machines of different make, a reading each ten seconds: load comes and goes, and the rest follows.
    fn rows(from: i64, until: i64) -> impl Iterator<Item = (i64, Features)> {
        // SplitMix64: between -0.5 and 0.5, the same every time.
        let wobble = |i: i64, k: i64| {
            let mut x = (i * 131 + k).cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15);
            x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64 - 0.5
        };
        (from / (10 * SECOND)..until / (10 * SECOND)).flat_map(move |i| {
            (0..3).map(move |machine| {
                let m = machine as f64;
                let load = 0.5 + 0.3 * (i as f64 / 90.0 + 2.0 * m).sin() + 0.05 * wobble(4 * i + machine, 37);
                let temperature = 25.0 + (38.0 + m) * load + wobble(4 * i + machine, 53);
                let vibration = (1.0 + 0.3 * m) * (0.5 + 0.5 * load) * (1.0 + 0.1 * wobble(4 * i + machine, 83));
                let power = 9e3 * load + 500.0 * wobble(4 * i + machine, 61);
                let row = [temperature, wobble(4 * i + machine, 29), load, vibration, power, 0.0];
                (i * 10 * SECOND + machine, Features(row))
            })
        })
    }

    fn feed(u: &mut Unexplained, from: i64, until: i64, change: impl Fn(&mut [f64; 6])) {
        let mut looked = from;
        for (ts, mut features) in rows(from, until) {
            change(&mut features.0);
            u.add(ts, &features);
            if ts - looked >= 30 * SECOND {
                looked = ts;
                u.watch(ts);
            }
        }
    }

    /// The beginning is within a window: that one is not learned.
    const BEGIN: i64 = 7 * 60 * SECOND;
    /// 72 windows later, and the one after them, in which late readings may still come.
    const LEARNED: i64 = 24 * HOUR + 40 * 60 * SECOND + 10 * SECOND;

    fn learned() -> Unexplained {
        let mut u = Unexplained::default();
        feed(&mut u, BEGIN, LEARNED, |_| ());
        u
    }

    #[test]
    fn a_day_is_learned_and_half_a_sigma_is_seen_within_half_an_hour() {
        let mut u = Unexplained::default();
        feed(&mut u, BEGIN, LEARNED - 20 * SECOND, |_| ());
        assert_eq!(u.present().shift, None);
        assert!((u.present().learned - 71.0 / 72.0).abs() < 1e-9, "{}", u.present().learned);
        feed(&mut u, LEARNED - 20 * SECOND, LEARNED, |_| ());
        let past = u.present();
        assert_eq!((past.learned, past.range_us), (1.0, Some([1_200 * SECOND, 24 * HOUR + 1_200 * SECOND])));
        feed(&mut u, LEARNED, LEARNED + 6 * HOUR, |_| ());
        assert_eq!(u.present().since, [None; MEASURED], "{:?}", u.present());

        // σ of the vibration over the day is 0.34 mm/s.
        let drifted = LEARNED + 6 * HOUR;
        feed(&mut u, drifted, drifted + HOUR / 2, |row| row[3] += 0.17);
        let now = u.present();
        assert_eq!(now.since.map(|s| s.is_some()), [false, false, false, true, false], "{now:?}");
        assert!((now.moved.unwrap()[3] - 0.5).abs() < 0.1, "{now:?}");
        feed(&mut u, drifted + HOUR / 2, drifted + HOUR + HOUR / 2, |_| ());
        assert_eq!(u.present().since, [None; MEASURED], "it was mended");
    }

    #[test]
    fn what_the_load_explains_is_no_drift() {
        let mut u = learned();
        // Half as much again is asked of all machines for an hour: everything that follows it rises.
        let more = |row: &mut [f64; 6]| {
            let extra = 0.1;
            row[2] += extra;
            row[0] += 39.0 * extra;
            row[3] += 1.3 * 0.5 * extra;
            row[4] += 9e3 * extra;
        };
        feed(&mut u, LEARNED, LEARNED + HOUR, more);
        let now = u.present();
        assert_eq!(now.since, [None; MEASURED], "{now:?}");
        assert!(now.shift.is_some());
    }

    #[test]
    fn a_restart_goes_on_and_damage_begins_anew() {
        let mut whole = learned();
        let mut first = Unexplained::default();
        feed(&mut first, BEGIN, 9 * HOUR, |_| ());
        let kept = first.news().unwrap();
        assert_eq!(first.news(), None);
        first.not_kept();
        assert_eq!(first.news(), Some(kept.clone()), "a full disk loses no day");
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(dir.path(), "learned");
        file.save(&kept).unwrap();
        let mut second = Unexplained::default();
        assert!(second.resume(file.load().unwrap()));
        assert_eq!(second.present().learned, first.present().learned);
        // It reads the last minutes again: what is learned already is not learned twice. The window in which it
        // began is lost, so it takes one more.
        feed(&mut second, 9 * HOUR - 30 * 60 * SECOND, LEARNED, |_| ());
        let learned = second.present().learned;
        assert!((1.0 - 4.0 / 72.0..1.0).contains(&learned), "{learned}");
        feed(&mut second, LEARNED, LEARNED + 2 * HOUR, |_| ());
        assert_eq!(second.present().learned, 1.0);
        let past = whole.news().unwrap();
        let mut third = Unexplained::default();
        assert!(third.resume(past.clone()));
        assert_eq!(third.present().lines, whole.present().lines);
        assert_eq!(third.present().shift, None, "its window is not full");

        let mut damaged = past;
        damaged.past.as_mut().unwrap().wander[0] = f64::NAN;
        assert!(!third.resume(damaged));
        assert_eq!(third.present().learned, 1.0, "what it had, it has");
        third.begin_anew();
        assert_eq!((third.present().learned, third.news()), (0.0, Some(Learned::default())));
    }
}
