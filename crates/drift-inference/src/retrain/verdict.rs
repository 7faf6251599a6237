//! Does the challenger serve? Pure: two models and rows that neither has seen in, a verdict out.
//!
//! The rule: the challenger serves if, on the held-out rows,
//!
//! 1. there are [`MIN_ROWS`] rows in [`MIN_BLOCKS`] blocks at least;
//! 2. where failures came, it is right more often than never predicting one, and not less often than the
//!    temperature threshold by more than [`SIGMAS`] standard errors; where none came, never is right by definition, so no more than one false alarm in twenty
//!    is asked for ([`CALM_ACCURACY`]);
//! 3. it is right more often than the champion by [`MIN_GAIN`] or more, and by [`SIGMAS`] standard errors.
//!
//! Neighbouring rows of a machine resemble each other, so the standard error counts blocks of one minute
//! of one machine and not rows (cluster-robust: Cameron and Miller 2015, *A Practitioner's Guide to
//! Cluster-Robust Inference*, 2).

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{Evaluation, Model},
    registry::{Code, Figures},
    train::{RIVAL_CELSIUS, Row, judge, judge_threshold},
};

/// Fewer held-out rows decide nothing.
pub const MIN_ROWS: u64 = 300;
/// Fewer blocks decide nothing.
pub const MIN_BLOCKS: u64 = 10;
/// A smaller gain in accuracy is not worth another model.
pub const MIN_GAIN: f64 = 0.01;
/// Right so often on rows that no failure followed.
pub const CALM_ACCURACY: f64 = 0.95;
/// A gain of fewer standard errors may be chance.
pub const SIGMAS: f64 = 2.0;
const BLOCK_US: i64 = 60_000_000;

/// How both did on the same rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scores {
    /// The model that serves.
    pub champion: Evaluation,
    /// The model that might.
    pub challenger: Evaluation,
    /// Accuracy of the temperature threshold.
    pub threshold_accuracy: f64,
    /// Rows that were followed by a failure.
    pub positives: u64,
    /// Minutes of machines.
    pub blocks: u64,
    /// Accuracy of the challenger minus that of the champion.
    pub gain: f64,
    /// Its standard error over blocks.
    pub gain_error: f64,
    /// Accuracy of the challenger minus that of the temperature threshold, and its standard error.
    pub above_threshold: (f64, f64),
}

impl Scores {
    /// As the log shows them.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::new();
        let mut put = |name: &str, value: Option<f64>| {
            if let Some(value) = value.filter(|v| v.is_finite()) {
                figures.insert(name.to_owned(), value);
            }
        };
        put("rows", Some(self.challenger.rows as f64));
        put("failures", Some(self.positives as f64));
        put("blocks", Some(self.blocks as f64));
        put("champion_accuracy", self.champion.accuracy);
        put("challenger_accuracy", self.challenger.accuracy);
        put("champion_recall", self.champion.recall);
        put("challenger_recall", self.challenger.recall);
        put("champion_brier", self.champion.brier);
        put("challenger_brier", self.challenger.brier);
        put("always_no_accuracy", self.challenger.always_no_accuracy);
        put("temperature_accuracy", Some(self.threshold_accuracy));
        put("gain", Some(self.gain));
        put("gain_standard_error", Some(self.gain_error));
        put("above_temperature", Some(self.above_threshold.0));
        put("above_temperature_standard_error", Some(self.above_threshold.1));
        figures
    }
}

/// How much more often one is right than the other on the same rows, with the standard error over blocks.
fn gain(rows: &[Row], one: impl Fn(&Row) -> bool, other: impl Fn(&Row) -> bool) -> (f64, f64) {
    // Of each block: rows, and how often only one was right minus how often only the other was.
    let mut blocks: BTreeMap<(usize, i64), (f64, f64)> = BTreeMap::new();
    for row in rows {
        let right = |says: bool| f64::from(u8::from(says == row.came));
        let block = blocks.entry((row.machine, row.ts_us.div_euclid(BLOCK_US))).or_default();
        block.0 += 1.0;
        block.1 += right(one(row)) - right(other(row));
    }
    let n = rows.len().max(1) as f64;
    let gain = blocks.values().map(|b| b.1).sum::<f64>() / n;
    let k = blocks.len() as f64;
    let spread: f64 = blocks.values().map(|(rows, sum)| (sum - rows * gain).powi(2)).sum();
    (gain, if k > 1.0 { (k / (k - 1.0) * spread).sqrt() / n } else { f64::INFINITY })
}

/// Scores both on the same rows.
pub fn compare(champion: &Model, challenger: &Model, rows: &[Row]) -> Scores {
    let says = |model: &Model, row: &Row| model.predict(&row.features).fails;
    let (gain_over, gain_error) = gain(rows, |r| says(challenger, r), |r| says(champion, r));
    let blocks: BTreeSet<(usize, i64)> = rows.iter().map(|r| (r.machine, r.ts_us.div_euclid(BLOCK_US))).collect();
    Scores {
        champion: judge(champion, rows).evaluation(),
        challenger: judge(challenger, rows).evaluation(),
        threshold_accuracy: judge_threshold(rows, RIVAL_CELSIUS).evaluation().accuracy.unwrap_or_default(),
        positives: rows.iter().filter(|r| r.came).count() as u64,
        blocks: blocks.len() as u64,
        gain: gain_over,
        gain_error,
        above_threshold: gain(rows, |r| says(challenger, r), |r| r.features.0[0] >= RIVAL_CELSIUS),
    }
}

/// The rule: [`Code::ChallengerWins`], or why not.
pub fn verdict(scores: &Scores) -> Code {
    let accuracy = scores.challenger.accuracy.unwrap_or_default();
    let always_no = scores.challenger.always_no_accuracy.unwrap_or(1.0);
    if scores.challenger.rows < MIN_ROWS || scores.blocks < MIN_BLOCKS {
        Code::TooFewRows
    } else if !beats_baselines(scores, accuracy, always_no) {
        Code::BelowBaseline
    } else if scores.gain < MIN_GAIN {
        Code::NoBetter
    } else if scores.gain < SIGMAS * scores.gain_error {
        Code::WithinChance
    } else {
        Code::ChallengerWins
    }
}

fn beats_baselines(scores: &Scores, accuracy: f64, always_no: f64) -> bool {
    if scores.positives == 0 {
        return accuracy >= CALM_ACCURACY;
    }
    let (above, error) = scores.above_threshold;
    accuracy > always_no && above >= -SIGMAS * error
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{features::Features, model::tests::thermometer};

    fn model(version: &str, bias: f64) -> Model {
        Model { version: version.into(), bias, ..thermometer() }
    }

    /// Rows of five machines a second apart; `hot` of them at 90 °C, which a failure follows if `true_alarm`.
    fn rows(seconds: i64, hot: impl Fn(i64, usize) -> bool, true_alarm: bool) -> Vec<Row> {
        let row = |second: i64, machine: usize| {
            let hot = hot(second, machine);
            let features = Features([if hot { 84.0 } else { 50.0 }, 0.0, 0.5, 1.0, 5e3, 0.0]);
            Row { ts_us: second * 1_000_000, machine, features, came: hot && true_alarm, weight: 1.0 }
        };
        (0..seconds).flat_map(|s| (0..5).map(move |m| (s, m))).map(|(s, m)| row(s, m)).collect()
    }

    #[test]
    fn a_champion_that_cries_wolf_loses_and_the_other_way_round_nothing_happens() {
        let (crying, calm) = (model("crying", 0.0), model("calm", -6.0));
        let drifted = rows(300, |s, m| (s / 60 + m as i64) % 2 == 0, false);
        let scores = compare(&crying, &calm, &drifted);
        // Of 25 minutes of machines 13 are hot.
        assert_eq!((scores.champion.accuracy, scores.challenger.accuracy), (Some(12.0 / 25.0), Some(1.0)));
        assert_eq!(verdict(&scores), Code::ChallengerWins);
        assert_eq!(verdict(&compare(&calm, &crying, &drifted)), Code::BelowBaseline);
        assert_eq!(verdict(&compare(&calm, &calm, &drifted)), Code::NoBetter);
        let figures = scores.figures();
        assert_eq!((figures["gain"], figures["rows"]), (scores.gain, 1_500.0));
        assert!(!figures.contains_key("champion_recall"), "a ratio of nothing is left out");
    }

    #[test]
    fn where_no_failure_came_a_few_false_alarms_do_not_cost_the_victory() {
        let (crying, calm) = (model("crying", 0.0), model("calm", -3.0));
        // The champion cries at 84 °C all the time, the challenger in one minute of twenty-five.
        let mut drifted = rows(300, |_, _| true, false);
        drifted.iter_mut().filter(|r| r.machine == 0 && r.ts_us < 60_000_000).for_each(|r| r.features.0[0] = 84.0);
        drifted.iter_mut().filter(|r| r.machine != 0 || r.ts_us >= 60_000_000).for_each(|r| r.features.0[0] = 82.0);
        let scores = compare(&crying, &calm, &drifted);
        assert_eq!((scores.champion.accuracy, scores.challenger.accuracy), (Some(0.0), Some(0.96)));
        assert_eq!(verdict(&scores), Code::ChallengerWins);
    }

    #[test]
    fn one_lucky_minute_is_chance_and_little_data_is_none() {
        let (crying, calm) = (model("crying", 0.0), model("calm", -6.0));
        let lucky = rows(300, |s, m| m == 0 && s < 60, false);
        assert_eq!(verdict(&compare(&crying, &calm, &lucky)), Code::WithinChance);
        assert_eq!(verdict(&compare(&crying, &calm, &lucky[..200])), Code::TooFewRows);
        assert_eq!(verdict(&compare(&crying, &calm, &[])), Code::TooFewRows);
    }

    #[test]
    fn who_never_predicts_a_failure_does_not_win_where_failures_come() {
        let (wild, blind) = (model("wild", 40.0), model("blind", -40.0));
        let failing = rows(300, |s, m| m == 0 && s % 100 < 30, true);
        let scores = compare(&wild, &blind, &failing);
        assert!(scores.gain > 0.5);
        assert_eq!(verdict(&scores), Code::BelowBaseline);
    }

    fn evaluation(rows: u64, accuracy: f64, always_no: f64) -> Evaluation {
        Evaluation { rows, accuracy: Some(accuracy), always_no_accuracy: Some(always_no), ..Evaluation::default() }
    }

    prop_compose! {
        fn any_scores()(
            rows in 0u64..2_000, blocks in 0u64..60, champion in 0.0..=1.0f64, challenger in 0.0..=1.0f64,
            always_no in 0.0..=1.0f64, threshold_accuracy in 0.0..=1.0f64, gain_error in 0.0..0.2f64, positives in 0u64..9,
        ) -> Scores {
            Scores {
                champion: evaluation(rows, champion, always_no),
                challenger: evaluation(rows, challenger, always_no),
                threshold_accuracy, positives, blocks, gain: challenger - champion, gain_error,
                above_threshold: (challenger - threshold_accuracy, 0.01),
            }
        }
    }

    proptest! {
        /// What wins is better than everything that it is compared with, and on enough data.
        #[test]
        fn a_winner_beats_them_all(s in any_scores()) {
            if verdict(&s) == Code::ChallengerWins {
                let accuracy = s.challenger.accuracy.unwrap();
                prop_assert!(accuracy >= s.champion.accuracy.unwrap() + MIN_GAIN - 1e-12);
                if s.positives > 0 {
                    prop_assert!(accuracy >= s.threshold_accuracy - SIGMAS * 0.01 - 1e-12);
                    prop_assert!(accuracy > s.challenger.always_no_accuracy.unwrap());
                } else {
                    prop_assert!(accuracy >= CALM_ACCURACY);
                }
                prop_assert!(s.gain >= SIGMAS * s.gain_error && s.challenger.rows >= MIN_ROWS && s.blocks >= MIN_BLOCKS);
            }
        }

        /// Two models cannot each beat the other.
        #[test]
        fn there_is_one_winner_at_most(s in any_scores()) {
            let turned = Scores { champion: s.challenger, challenger: s.champion, gain: -s.gain, ..s };
            prop_assert!(verdict(&s) != Code::ChallengerWins || verdict(&turned) != Code::ChallengerWins);
        }

        /// Being right more often, or being more sure of it, never costs the victory.
        #[test]
        fn better_stays_better(s in any_scores(), more in 0.0..0.3f64, surer in 0.0..=1.0f64) {
            if verdict(&s) == Code::ChallengerWins {
                let accuracy = s.challenger.accuracy.unwrap() + more;
                let challenger = Evaluation { accuracy: Some(accuracy), ..s.challenger };
                let above_threshold = (s.above_threshold.0 + more, s.above_threshold.1);
                let gain_error = s.gain_error * surer;
                let better = Scores { challenger, gain: s.gain + more, gain_error, above_threshold, ..s };
                prop_assert_eq!(verdict(&better), Code::ChallengerWins);
            }
        }
    }
}
