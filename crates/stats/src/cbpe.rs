//! Accuracy before the truth is known.
//!
//! Confidence-based performance estimation (NannyML's CBPE; the idea is in Guillory et al.,
//! *Predicting with Confidence on Unseen Distributions*, ICCV 2021): if a calibrated model
//! says p, it is right with probability p where it predicts yes and 1 − p where it predicts no. Sums
//! of these are an expected confusion matrix.
//!
//! It answers to a change of the inputs only. When the relation between inputs and truth
//! changes (concept drift), the calibration is wrong and so is every number here.

use serde::{Deserialize, Serialize};

use crate::isotonic::Isotonic;

/// An estimator, calibrated on predictions whose truth is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cbpe {
    calibration: Isotonic,
    threshold: f64,
}

/// Expected performance of a set of predictions. Ratios of nothing are `None`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Predictions.
    pub rows: u64,
    /// Expected share of right ones.
    pub accuracy: Option<f64>,
    /// Expected share of right ones among the predicted positives.
    pub precision: Option<f64>,
    /// Expected share of predicted ones among the positives.
    pub recall: Option<f64>,
    /// Standard deviation of the accuracy that chance alone gives.
    pub accuracy_sd: Option<f64>,
}

impl Cbpe {
    /// Calibrates on (score, came true) pairs; positive from `threshold` on. `None` without pairs.
    pub fn fit(judged: &[(f64, bool)], threshold: f64) -> Option<Self> {
        let points: Vec<(f64, f64)> = judged.iter().map(|(s, came)| (*s, f64::from(u8::from(*came)))).collect();
        Some(Self { calibration: Isotonic::fit(&points)?, threshold })
    }

    /// The calibrated probability of a score.
    pub fn probability(&self, score: f64) -> f64 {
        self.calibration.at(score).clamp(0.0, 1.0)
    }

    /// Expected performance on scores without truth; scores that are no numbers are left out.
    pub fn estimate(&self, scores: &[f64]) -> Estimate {
        let (mut tp, mut fp, mut tn, mut missed, mut variance, mut rows) = (0.0, 0.0, 0.0, 0.0, 0.0, 0u64);
        for score in scores.iter().filter(|s| !s.is_nan()) {
            let p = self.probability(*score);
            rows += 1;
            variance += p * (1.0 - p);
            if *score >= self.threshold {
                tp += p;
                fp += 1.0 - p;
            } else {
                missed += p;
                tn += 1.0 - p;
            }
        }
        let ratio = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        Estimate {
            rows,
            accuracy: ratio(tp + tn, rows as f64),
            precision: ratio(tp, tp + fp),
            recall: ratio(tp, tp + missed),
            accuracy_sd: ratio(variance.sqrt(), rows as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores s that come true with probability s², spread evenly and without chance.
    fn judged() -> Vec<(f64, bool)> {
        let scores = (0..100).map(|i| (f64::from(i) + 0.5) / 100.0);
        scores.flat_map(|s| (0..100).map(move |j| (s, (f64::from(j) + 0.5) / 100.0 < s * s))).collect()
    }

    #[test]
    fn it_expects_what_came_on_the_same_inputs() {
        let judged = judged();
        let cbpe = Cbpe::fit(&judged, 0.5).unwrap();
        assert!((cbpe.probability(0.505) - 0.505f64.powi(2)).abs() < 0.01, "calibrated");
        let scores: Vec<f64> = judged.iter().map(|(s, _)| *s).collect();
        let right = judged.iter().filter(|(s, came)| (*s >= 0.5) == *came).count() as f64 / judged.len() as f64;
        let estimate = cbpe.estimate(&scores);
        assert!((estimate.accuracy.unwrap() - right).abs() < 1e-9);
        assert!(estimate.accuracy_sd.unwrap() < 0.01);
    }

    #[test]
    fn harder_inputs_lower_it_and_concept_drift_does_not() {
        let cbpe = Cbpe::fit(&judged(), 0.5).unwrap();
        let hard = cbpe.estimate(&[0.7; 100]).accuracy.unwrap();
        let easy = cbpe.estimate(&[0.05; 100]).accuracy.unwrap();
        assert!(hard < 0.55 && easy > 0.95, "{hard} {easy}");
        // Whatever came true of these scores, the estimate is the same: it never sees it.
        assert_eq!(cbpe.estimate(&[]).accuracy, None);
        assert_eq!(cbpe.estimate(&[f64::NAN]).rows, 0);
    }
}
