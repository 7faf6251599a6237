//! The model: logistic regression on standardised features, as a versioned document.
//!
//! `p = 1 / (1 + exp(−(b + Σ wᵢ zᵢ)))` with `zᵢ = (xᵢ − meanᵢ)/sdᵢ`; each `wᵢ zᵢ` is that
//! feature's contribution to the log-odds, which is all the explanation a linear model needs.

use std::path::Path;

use serde::{Deserialize, Serialize};
use stats::cbpe::Cbpe;
use utoipa::ToSchema;

use crate::{
    features::{COUNT, Features, NAMES},
    profile::Profile,
};

/// The model that the service starts with when it is given no other.
///
/// Trained offline by `model/train.sh`: `telemetry-generator simulate` writes readings to a
/// folder, `drift-inference train` reads them. The crates know nothing of each other: what
/// passes between them is a lake, as in the running stack.
pub const BUILT_IN: &str = include_str!("../model/failure-v1.json");

/// A trained model with everything needed to use and to judge it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Version of this document's form.
    pub schema: u32,
    /// Version of the model.
    pub version: String,
    /// Names of the features, in the order of the numbers below.
    pub features: Vec<String>,
    /// Means to subtract.
    pub means: Vec<f64>,
    /// Standard deviations to divide by.
    pub deviations: Vec<f64>,
    /// Weights of the standardised features.
    pub weights: Vec<f64>,
    /// Constant term.
    pub bias: f64,
    /// Probability from which a failure is predicted.
    pub threshold: f64,
    /// What it predicts: a failure within this many seconds.
    pub horizon_seconds: f64,
    /// How it came about.
    pub training: Training,
    /// How it did on readings that it was not trained on.
    pub holdout: Evaluation,
    /// What its probabilities were worth there: expects an accuracy before the truth is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    pub calibration: Option<Cbpe>,
    /// The features' distribution when all was well: what drift is measured against.
    pub reference: Profile,
}

/// How a model came about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// When, RFC 3339.
    pub trained_at: String,
    /// First and last reading, RFC 3339.
    pub range: [String; 2],
    /// Rows with a known label.
    pub rows: u64,
    /// Of these, how many were followed by a failure.
    pub positives: u64,
    /// The champion that it was trained to beat; none for one that was trained by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenged: Option<String>,
    /// The program that trained it, with its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

/// Counts of right and wrong, and what follows from them. Ratios of nothing are `null`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Rows judged.
    pub rows: u64,
    /// Right.
    pub accuracy: Option<f64>,
    /// Of the predicted failures, those that came.
    pub precision: Option<f64>,
    /// Of the failures, those that were predicted.
    pub recall: Option<f64>,
    /// Accuracy of never predicting a failure.
    pub always_no_accuracy: Option<f64>,
    /// Mean squared error of the probability.
    pub brier: Option<f64>,
}

/// A prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// That the machine fails within the horizon.
    pub probability: f64,
    /// The probability reaches the threshold.
    pub fails: bool,
    /// What each feature adds to the log-odds.
    pub contributions: [f64; COUNT],
}

/// A model that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the model is not usable: {0}")]
pub struct ModelError(String);

impl Model {
    /// Parses and checks a document.
    ///
    /// # Errors
    /// What does not fit.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        let model: Self = serde_json::from_str(text).map_err(|e| ModelError(e.to_string()))?;
        model.check().map_err(ModelError)?;
        Ok(model)
    }

    /// Reads a document from a file.
    ///
    /// # Errors
    /// The file cannot be read, or what does not fit.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let text = std::fs::read_to_string(path).map_err(|e| ModelError(format!("{}: {e}", path.display())))?;
        Self::parse(&text)
    }

    fn check(&self) -> Result<(), String> {
        if self.schema != 1 {
            return Err(format!("schema {} is not 1", self.schema));
        }
        if self.features != NAMES {
            return Err(format!("features {:?} are not {NAMES:?}", self.features));
        }
        for (name, values) in [("means", &self.means), ("deviations", &self.deviations), ("weights", &self.weights)] {
            if values.len() != COUNT || !values.iter().all(|v| v.is_finite()) {
                return Err(format!("{name} must be {COUNT} finite numbers"));
            }
        }
        if !self.deviations.iter().all(|d| *d > 0.0) {
            return Err("deviations must be more than 0".to_owned());
        }
        if !self.bias.is_finite() || self.threshold.is_nan() || self.threshold <= 0.0 || self.threshold >= 1.0 {
            return Err("bias must be finite and threshold between 0 and 1".to_owned());
        }
        if !(1.0..=86_400.0).contains(&self.horizon_seconds) {
            return Err("horizon_seconds must be between 1 and 86400".to_owned());
        }
        self.reference.check()
    }

    /// Scores one row.
    pub fn predict(&self, features: &Features) -> Prediction {
        let mut contributions = [0.0; COUNT];
        let mut odds = self.bias;
        for (i, c) in contributions.iter_mut().enumerate() {
            *c = self.weights[i] * (features.0[i] - self.means[i]) / self.deviations[i];
            odds += *c;
        }
        let probability = 1.0 / (1.0 + (-odds).exp());
        Prediction { probability, fails: probability >= self.threshold, contributions }
    }
}

/// Running counts behind an [`Evaluation`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Confusion {
    /// Predicted and came.
    pub true_positive: u64,
    /// Predicted and did not come.
    pub false_positive: u64,
    /// Not predicted and did not come.
    pub true_negative: u64,
    /// Not predicted and came.
    pub false_negative: u64,
    /// Sum of squared errors of the probability.
    pub squared_error: f64,
}

impl Confusion {
    /// Counts one.
    pub fn add(&mut self, predicted: bool, probability: f64, actual: bool) {
        match (predicted, actual) {
            (true, true) => self.true_positive += 1,
            (true, false) => self.false_positive += 1,
            (false, false) => self.true_negative += 1,
            (false, true) => self.false_negative += 1,
        }
        self.squared_error += (probability - f64::from(u8::from(actual))).powi(2);
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        self.true_positive += other.true_positive;
        self.false_positive += other.false_positive;
        self.true_negative += other.true_negative;
        self.false_negative += other.false_negative;
        self.squared_error += other.squared_error;
    }

    /// Everything counted.
    pub fn rows(&self) -> u64 {
        self.true_positive + self.false_positive + self.true_negative + self.false_negative
    }

    /// The ratios.
    pub fn evaluation(&self) -> Evaluation {
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let rows = self.rows();
        Evaluation {
            rows,
            accuracy: ratio(self.true_positive + self.true_negative, rows),
            precision: ratio(self.true_positive, self.true_positive + self.false_positive),
            recall: ratio(self.true_positive, self.true_positive + self.false_negative),
            always_no_accuracy: ratio(self.true_negative + self.false_positive, rows),
            brier: (rows > 0).then(|| self.squared_error / rows as f64),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Looks at the temperature only: 80 °C is even odds.
    pub(crate) fn thermometer() -> Model {
        Model {
            schema: 1,
            version: "thermometer".into(),
            features: NAMES.map(str::to_owned).to_vec(),
            means: vec![80.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            deviations: vec![1.0; COUNT],
            weights: vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            bias: 0.0,
            threshold: 0.5,
            horizon_seconds: 120.0,
            training: Training::default(),
            holdout: Evaluation::default(),
            calibration: None,
            reference: Profile {
                rows: 1_000,
                means: vec![50.0, 0.0, 0.5, 1.5, 5_000.0, 0.0],
                deviations: vec![5.0, 1.0, 0.2, 0.5, 1_000.0, 0.1],
                ..Profile::default()
            },
        }
    }

    #[test]
    fn the_built_in_model_is_usable_and_better_than_always_no() {
        let model = Model::parse(BUILT_IN).unwrap();
        let (accuracy, always_no) = (model.holdout.accuracy.unwrap(), model.holdout.always_no_accuracy.unwrap());
        assert!(accuracy > always_no && accuracy > 0.9, "{accuracy} {always_no}");
        let calm = Features([50.0, 0.0, 0.5, 1.5, 10_000.0, 0.0]);
        assert!(!model.predict(&calm).fails);
        assert!(model.predict(&Features([88.0, 5.0, 0.6, 1.5, 10_000.0, 1.0])).fails);
        assert!(model.predict(&Features([55.0, 1.0, 0.6, 10.0, 10_000.0, 1.0])).fails, "a shaking bearing");
    }

    #[test]
    fn contributions_add_up_to_the_odds() {
        let model = Model::parse(BUILT_IN).unwrap();
        let p = model.predict(&Features([70.0, 2.0, 0.6, 3.0, 9_000.0, 1.0]));
        let odds = model.bias + p.contributions.iter().sum::<f64>();
        assert!((p.probability - 1.0 / (1.0 + (-odds).exp())).abs() < 1e-12);
    }

    #[test]
    fn a_document_that_does_not_fit_is_refused_with_the_reason() {
        let refuse = |change: &dyn Fn(&mut Model)| {
            let mut m = thermometer();
            change(&mut m);
            Model::parse(&serde_json::to_string(&m).unwrap()).unwrap_err().to_string()
        };
        assert!(refuse(&|m| m.schema = 2).contains("schema"));
        assert!(refuse(&|m| m.features[0] = "x".into()).contains("features"));
        assert!(
            refuse(&|m| {
                m.weights.pop();
            })
            .contains("weights")
        );
        assert!(refuse(&|m| m.deviations[1] = 0.0).contains("deviations"));
        assert!(refuse(&|m| m.threshold = 1.0).contains("threshold"));
        assert!(refuse(&|m| m.reference.deviations[0] = 0.0).contains("reference"));
        assert!(Model::parse("{}").is_err());
        assert!(Model::load(Path::new("/nonexistent")).unwrap_err().to_string().contains("/nonexistent"));
    }

    #[test]
    fn ratios_of_nothing_are_none() {
        assert_eq!(Confusion::default().evaluation().accuracy, None);
        let mut c = Confusion::default();
        for (predicted, actual) in [(true, true), (true, false), (false, false), (false, false), (false, true)] {
            c.add(predicted, f64::from(u8::from(predicted)), actual);
        }
        let e = c.evaluation();
        assert_eq!((e.accuracy, e.precision, e.recall), (Some(0.6), Some(0.5), Some(0.5)));
        assert_eq!((e.always_no_accuracy, e.brier), (Some(0.6), Some(0.4)));
    }
}
