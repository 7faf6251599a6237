//! What the API shows.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    clock::rfc3339,
    features::NAMES,
    ingest::LakeHealth,
    model::{Evaluation, Model},
    pipeline::Snapshot,
};

/// Answer of `GET /health`.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthView {
    /// `ok`, or `degraded` while the lake cannot be read: accuracy and drift stand still then.
    status: &'static str,
    /// Predictions are served.
    predictions: bool,
    model: String,
    lake: LakeView,
    /// Of the predictions judged in the window; `null` while too few are.
    accuracy: Option<f64>,
    labels_in_window: u64,
    labels_pending: usize,
    machines: usize,
}

#[derive(Debug, Serialize, ToSchema)]
struct LakeView {
    /// `null` before the first pull.
    up: Option<bool>,
    since: Option<String>,
    newest_reading: Option<String>,
    delay_seconds: Option<f64>,
}

impl HealthView {
    /// From the parts.
    pub fn of(health: &LakeHealth, snapshot: &Snapshot, model: String, min_labels: u64, now_us: i64) -> Self {
        let accuracy = snapshot.accuracy.evaluation();
        let well = health.up == Some(true) && health.error.is_none();
        Self {
            status: if well { "ok" } else { "degraded" },
            predictions: true,
            model,
            lake: LakeView {
                up: health.up,
                since: health.since_us.map(rfc3339),
                newest_reading: snapshot.newest_us.map(rfc3339),
                delay_seconds: snapshot.newest_us.map(|at| now_us.saturating_sub(at) as f64 / 1e6),
            },
            accuracy: accuracy.accuracy.filter(|_| accuracy.rows >= min_labels),
            labels_in_window: accuracy.rows,
            labels_pending: snapshot.pending,
            machines: snapshot.machines,
        }
    }
}

/// Answer of `GET /v1/drift`.
#[derive(Debug, Serialize, ToSchema)]
pub struct DriftView {
    model: String,
    /// Readings in the window.
    rows: u64,
    /// Instant of the newest reading.
    newest_reading: Option<String>,
    features: Vec<FeatureDrift>,
    /// Predictions judged in the accuracy's window.
    accuracy: Evaluation,
}

#[derive(Debug, Serialize, ToSchema)]
struct FeatureDrift {
    feature: &'static str,
    reference_mean: f64,
    reference_deviation: f64,
    /// `null` without readings.
    mean: Option<f64>,
    /// (mean − reference mean)/reference deviation.
    mean_shift_sigma: Option<f64>,
    /// Population stability index over the reference's deciles.
    psi: Option<f64>,
    /// Twice the largest PSI of a window of the reference itself: what chance explains.
    psi_line: Option<f64>,
    /// Kolmogorov-Smirnov distance, to 1/200.
    ks: Option<f64>,
    /// The PSI is above its line, and stays.
    drifted: bool,
    /// Since when.
    drifted_since: Option<String>,
}

impl DriftView {
    /// From the pipeline's state.
    pub fn of(snapshot: &Snapshot, model: &Model) -> Self {
        let features = NAMES.iter().enumerate().map(|(i, feature)| FeatureDrift {
            feature,
            reference_mean: model.reference.means[i],
            reference_deviation: model.reference.deviations[i],
            mean: (snapshot.rows > 0).then_some(snapshot.means[i]),
            mean_shift_sigma: snapshot.shift.map(|s| s[i]),
            psi: snapshot.indicators.map(|all| all[i].psi),
            psi_line: model.reference.distributions.get(i).map(|d| d.psi_line),
            ks: snapshot.indicators.map(|all| all[i].ks),
            drifted: snapshot.drifted_since[i].is_some(),
            drifted_since: snapshot.drifted_since[i].map(rfc3339),
        });
        Self {
            model: model.version.clone(),
            rows: snapshot.rows,
            newest_reading: snapshot.newest_us.map(rfc3339),
            features: features.collect(),
            accuracy: snapshot.accuracy.evaluation(),
        }
    }
}
