//! Metrics of the process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lake::{Observer, Operation, Outcome};
use prometheus::{Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use telemetry::metrics::{HttpMetrics, LATENCY_BUCKETS, Registry};

use crate::{
    distribution::Indicators,
    features::NAMES,
    model::{Confusion, Model},
    pipeline::Snapshot,
};

/// Everything that is counted.
#[derive(Clone)]
pub struct Metrics {
    /// Requests.
    pub http: HttpMetrics,
    /// Predictions made, from the lake and by the API.
    pub predictions: IntCounterVec,
    /// Predictions that truth has judged.
    pub labelled: IntCounter,
    /// The same by what was said and what came.
    pub outcomes: IntCounterVec,
    /// Predictions whose truth will never be known.
    pub unlabelled: IntCounter,
    /// Predictions that wait for their truth.
    pub pending: IntGauge,
    /// Share of right ones in the window; NaN while too few are judged.
    pub accuracy: Gauge,
    /// Judged predictions in the window.
    pub accuracy_labels: IntGauge,
    /// Requests to the lake.
    pub lake_reads: IntCounterVec,
    /// The latest pull reached the lake.
    pub lake_up: IntGauge,
    /// Duration of one request.
    pub lake_request_duration: Histogram,
    /// Age of the newest reading.
    pub ingestion_delay: Gauge,
    /// Duration of one pull: list, read, check, score.
    pub ingestion_duration: Histogram,
    /// Rows read.
    pub rows: IntCounterVec,
    /// Objects set aside whole.
    pub corrupt_objects: IntCounter,
    /// Distance of each mean from the reference.
    pub mean_shift: GaugeVec,
    /// Population stability index of each feature.
    pub psi: GaugeVec,
    /// What chance alone explains of it.
    pub psi_line: GaugeVec,
    /// Kolmogorov-Smirnov distance of each feature.
    pub ks: GaugeVec,
    /// The feature's PSI is above its line, and stays.
    pub drifted: GaugeVec,
    /// Age of the model.
    pub model_age: Gauge,
    model_info: IntGaugeVec,
    /// Seconds since 1970, as bits.
    trained_at: Arc<AtomicU64>,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(registry: &Registry, model: &Model) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            http: HttpMetrics::new(registry)?,
            predictions: registry.counter_vec(
                "inference_predictions_total",
                "Predictions made, from the lake and by the API.",
                &["outcome"],
            )?,
            labelled: registry.counter("inference_labelled_total", "Predictions that later readings have judged.")?,
            outcomes: registry.counter_vec(
                "inference_outcomes_total",
                "Judged predictions by what was predicted and what came.",
                &["predicted", "actual"],
            )?,
            unlabelled: registry.counter(
                "inference_unlabelled_total",
                "Predictions whose truth will never be known: readings are missing.",
            )?,
            pending: registry.int_gauge("inference_labels_pending", "Predictions that wait for their truth.")?,
            accuracy: registry.gauge(
                "inference_accuracy_ratio",
                "Share of right predictions in the window, 0 to 1; NaN while too few are judged.",
            )?,
            accuracy_labels: registry
                .int_gauge("inference_accuracy_window_labels", "Judged predictions in the accuracy's window.")?,
            lake_reads: registry.counter_vec("lake_read_total", "Requests to the lake.", &["result"])?,
            lake_up: registry.int_gauge("lake_up", "1 if the latest pull reached the lake, else 0.")?,
            lake_request_duration: registry.histogram(
                "lake_request_duration_seconds",
                "Duration of one request to the lake, retries included.",
                LATENCY_BUCKETS,
            )?,
            ingestion_delay: registry
                .gauge("lake_ingestion_delay_seconds", "Age of the newest reading; NaN before the first.")?,
            ingestion_duration: registry.histogram(
                "ingestion_duration_seconds",
                "Duration of one pull: list, read, check, score; failed ones included.",
                &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0],
            )?,
            rows: registry.counter_vec("lake_rows_total", "Rows read from the lake.", &["result"])?,
            corrupt_objects: registry
                .counter("lake_corrupt_objects_total", "Objects set aside whole: not what their manifest says.")?,
            mean_shift: registry.gauge_vec(
                "feature_mean_shift_sigma",
                "Distance of the feature's mean in the window from the reference, in the reference's σ.",
                &["feature"],
            )?,
            psi: registry.gauge_vec(
                "feature_psi",
                "Population stability index of the feature in the window over the reference's deciles; NaN while too few rows are there.",
                &["feature"],
            )?,
            psi_line: registry.gauge_vec(
                "feature_psi_line",
                "Twice the largest population stability index of a window of the reference itself; NaN if the model has none.",
                &["feature"],
            )?,
            ks: registry.gauge_vec(
                "feature_ks_distance",
                "Kolmogorov-Smirnov distance of the feature in the window from the reference, 0 to 1; NaN while too few rows are there.",
                &["feature"],
            )?,
            drifted: registry.gauge_vec(
                "feature_drifted",
                "1 while the feature's stability index stays above its line, else 0.",
                &["feature"],
            )?,
            model_age: registry.gauge("model_age_seconds", "Time since the model was trained.")?,
            model_info: registry.int_gauge_vec("model_info", "The model in use; always 1.", &["version"])?,
            trained_at: Arc::default(),
        };
        for outcome in [true, false] {
            metrics.predictions.with_label_values(&[said(outcome)]);
            for actual in [true, false] {
                metrics.outcomes.with_label_values(&[said(outcome), said(actual)]);
            }
        }
        for outcome in [Outcome::Ok, Outcome::Unavailable, Outcome::Error] {
            metrics.lake_reads.with_label_values(&[outcome.as_str()]);
        }
        for result in ["ok", "quarantined", "duplicate"] {
            metrics.rows.with_label_values(&[result]);
        }
        for feature in NAMES {
            metrics.mean_shift.with_label_values(&[feature]);
            metrics.psi.with_label_values(&[feature]).set(f64::NAN);
            metrics.ks.with_label_values(&[feature]).set(f64::NAN);
            metrics.drifted.with_label_values(&[feature]);
        }
        metrics.accuracy.set(f64::NAN);
        metrics.ingestion_delay.set(f64::NAN);
        metrics.serve_model(model);
        Ok(metrics)
    }

    /// This model serves from now on.
    pub fn serve_model(&self, model: &Model) {
        self.model_info.reset();
        self.model_info.with_label_values(&[&model.version]).set(1);
        let trained_at = crate::clock::parse_rfc3339(&model.training.trained_at).unwrap_or(f64::NAN);
        self.trained_at.store(trained_at.to_bits(), Ordering::Relaxed);
        for (i, feature) in NAMES.iter().enumerate() {
            let line = model.reference.distributions.get(i).map_or(f64::NAN, |d| d.psi_line);
            self.psi_line.with_label_values(&[feature]).set(line);
        }
    }

    /// Predictions that were made.
    pub fn count_predictions(&self, failures: u64, healthy: u64) {
        self.predictions.with_label_values(&[said(true)]).inc_by(failures);
        self.predictions.with_label_values(&[said(false)]).inc_by(healthy);
    }

    /// Predictions that were judged.
    pub fn count_judged(&self, judged: &Confusion) {
        self.labelled.inc_by(judged.rows());
        for (predicted, actual, count) in [
            (true, true, judged.true_positive),
            (true, false, judged.false_positive),
            (false, false, judged.true_negative),
            (false, true, judged.false_negative),
        ] {
            self.outcomes.with_label_values(&[said(predicted), said(actual)]).inc_by(count);
        }
    }

    /// The pipeline's state at an instant.
    pub fn show(&self, snapshot: &Snapshot, min_labels: u64, now_us: i64) {
        let accuracy = snapshot.accuracy.evaluation();
        let enough = accuracy.rows >= min_labels;
        self.accuracy.set(accuracy.accuracy.filter(|_| enough).unwrap_or(f64::NAN));
        self.accuracy_labels.set(accuracy.rows as i64);
        self.pending.set(snapshot.pending as i64);
        if let Some(shift) = snapshot.shift {
            for (feature, shift) in NAMES.iter().zip(shift) {
                self.mean_shift.with_label_values(&[feature]).set(shift.abs());
            }
        }
        for (i, feature) in NAMES.iter().enumerate() {
            let of = |x: fn(&Indicators) -> f64| snapshot.indicators.as_ref().map_or(f64::NAN, |all| x(&all[i]));
            self.psi.with_label_values(&[feature]).set(of(|x| x.psi));
            self.ks.with_label_values(&[feature]).set(of(|x| x.ks));
            let drifted = f64::from(u8::from(snapshot.drifted_since[i].is_some()));
            self.drifted.with_label_values(&[feature]).set(drifted);
        }
        if let Some(newest) = snapshot.newest_us {
            self.ingestion_delay.set(now_us.saturating_sub(newest) as f64 / 1e6);
        }
        self.model_age.set(now_us as f64 / 1e6 - f64::from_bits(self.trained_at.load(Ordering::Relaxed)));
    }
}

fn said(fails: bool) -> &'static str {
    if fails { "failure" } else { "healthy" }
}

impl Observer for Metrics {
    fn request(&self, _: Operation, outcome: Outcome, elapsed: Duration) {
        self.lake_reads.with_label_values(&[outcome.as_str()]).inc();
        self.lake_request_duration.observe(elapsed.as_secs_f64());
    }
}
