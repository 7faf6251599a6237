//! What the API shows.

use serde::Serialize;
use stats::{
    cells::BINS,
    compare::{FeatureDrift as Compared, Ks, Options, Severity, short},
    profile::{Histogram, Kind},
};
use utoipa::ToSchema;

use crate::{
    clock::rfc3339,
    features::{MEASURED, NAMES},
    ingest::LakeHealth,
    model::{Evaluation, Model},
    pipeline::{Pipeline, Snapshot},
    score::{Feature, Report},
    unexplained::Present,
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
    /// The features together; `null` if the model has no reference for it.
    together: Option<TogetherDrift>,
    /// What each measured feature does that the others do not explain, by the fleet's own past.
    unexplained: Unexplained,
    /// Predictions judged in the accuracy's window.
    accuracy: Evaluation,
    /// What is expected of the predictions that wait for their truth; `null` if the model has no calibration. Blind
    /// to a change of what leads to failures.
    expected: Option<ExpectedAccuracy>,
}

#[derive(Debug, Serialize, ToSchema)]
struct TogetherDrift {
    /// Distance of the mean reconstruction error from the reference's, in σ of its rows; `null` with too few rows.
    shift_sigma: Option<f64>,
    /// As much as chance alone explains: the largest distance of a window of the reference itself.
    chance: f64,
    /// It counts from here on: twice that, 0.5 at least.
    line: f64,
    /// How many times as far as chance alone went.
    times_chance: Option<f64>,
    drifted: bool,
    drifted_since: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Unexplained {
    /// Share of the fleet's first day that is learned, 0 to 1; nothing is judged before it is 1.
    learned: f64,
    /// Beginning and end of that day.
    learned_range: Option<[String; 2]>,
    features: Vec<UnexplainedShift>,
}

#[derive(Debug, Serialize, ToSchema)]
struct UnexplainedShift {
    feature: &'static str,
    /// Mean of the last 20 min, in σ of the fleet's day; `null` while they are not full.
    shift_sigma: Option<f64>,
    /// It counts from here on, either way: 1.75 times the largest of a window of that day, 0.2 at least.
    line: Option<f64>,
    /// How far the feature alone must have moved for what all shifts show, in σ.
    moved_sigma: Option<f64>,
    /// A shift is beyond its line, and a move of this feature alone accounts for all of them best; and that stays.
    drifted: bool,
    drifted_since: Option<String>,
    /// All of it in words; empty while all is well.
    reason: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct ExpectedAccuracy {
    accuracy: f64,
    /// Standard deviation by chance alone.
    deviation: f64,
    /// Predictions.
    rows: u64,
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
    /// As much as chance alone explains: the largest PSI of a window of the reference itself.
    psi_chance: Option<f64>,
    /// It counts from here on: twice that, 0.25 at least.
    psi_line: Option<f64>,
    /// How many times as far as chance alone went.
    times_chance: Option<f64>,
    /// Kolmogorov-Smirnov distance, to 1/200.
    ks: Option<f64>,
    /// The PSI is above its line, and stays.
    drifted: bool,
    /// Since when.
    drifted_since: Option<String>,
    /// All of it in words; empty while all is well.
    reason: String,
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
            psi_chance: model.reference.distributions.get(i).map(|d| d.chance()),
            psi_line: model.reference.distributions.get(i).map(|d| d.psi_line),
            times_chance: times_chance(snapshot, model, i),
            ks: snapshot.indicators.map(|all| all[i].ks),
            drifted: snapshot.drifted_since[i].is_some(),
            drifted_since: snapshot.drifted_since[i].map(rfc3339),
            reason: reason(snapshot, model, i),
        });
        let together = model.reference.together.as_ref().map(|t| {
            let chance = t.line / 2.0;
            TogetherDrift {
                shift_sigma: snapshot.together,
                chance,
                line: t.line,
                times_chance: snapshot.together.map(|s| s.abs() / chance),
                drifted: snapshot.together_since.is_some(),
                drifted_since: snapshot.together_since.map(rfc3339),
            }
        });
        Self {
            model: model.version.clone(),
            rows: snapshot.rows,
            newest_reading: snapshot.newest_us.map(rfc3339),
            features: features.collect(),
            together,
            unexplained: Unexplained::of(&snapshot.unexplained),
            accuracy: snapshot.accuracy.evaluation(),
            expected: snapshot.expected.map(|e| ExpectedAccuracy {
                accuracy: e.accuracy,
                deviation: e.deviation,
                rows: e.rows,
            }),
        }
    }
}

impl Unexplained {
    fn of(present: &Present) -> Self {
        let feature = |(i, feature): (usize, &&'static str)| UnexplainedShift {
            feature,
            shift_sigma: present.shift.map(|s| s[i]),
            line: present.lines.map(|l| l[i]),
            moved_sigma: present.moved.map(|m| m[i]),
            drifted: present.since[i].is_some(),
            drifted_since: present.since[i].map(rfc3339),
            reason: unexplained(present, i).unwrap_or_default(),
        };
        Self {
            learned: present.learned,
            learned_range: present.range_us.map(|range| range.map(rfc3339)),
            features: NAMES[..MEASURED].iter().enumerate().map(feature).collect(),
        }
    }
}

/// By how much a feature is off what the others explain, and since when; `None` while all is well, and for a flag.
fn unexplained(present: &Present, feature: usize) -> Option<String> {
    let (since, moved) = ((*present.since.get(feature)?)?, *present.moved?.get(feature)?);
    let (much, way) = (short(moved.abs()), if moved > 0.0 { "higher" } else { "lower" });
    Some(format!("about {much} σ {way} than the other features explain, since {}", rfc3339(since)))
}

fn times_chance(snapshot: &Snapshot, model: &Model, feature: usize) -> Option<f64> {
    let chance = model.reference.distributions.get(feature)?.chance();
    snapshot.indicators.map(|all| all[feature].psi / chance).filter(|x| x.is_finite())
}

/// Which feature, by how much of what chance alone explains, since when; empty while all is well.
fn reason(snapshot: &Snapshot, model: &Model, feature: usize) -> String {
    let since = snapshot.drifted_since[feature];
    let Some(((times, all), since)) = times_chance(snapshot, model, feature).zip(snapshot.indicators).zip(since) else {
        return String::new();
    };
    let psi = all[feature].psi;
    let (chance, line) = model.reference.distributions.get(feature).map_or((0.0, 0.0), |d| (d.chance(), d.psi_line));
    if psi <= line {
        let (psi, line, since) = (short(psi), short(line), rfc3339(since));
        return format!("PSI {psi} is back below its line ({line}); over once it has stayed there, began {since}");
    }
    format!(
        "PSI {} is {} times what chance alone explains ({}), since {}",
        short(psi),
        short(times),
        short(chance),
        rfc3339(since)
    )
}

/// The drift window beside the model's reference, for the page of `drift-inference score`.
pub fn report(pipeline: &Pipeline) -> Report {
    let (snapshot, model, counts) = (pipeline.snapshot(), pipeline.model(), pipeline.counts());
    let features = NAMES.iter().enumerate().map(|(i, name)| {
        let distribution = model.reference.distributions.get(i);
        let drifted = snapshot.drifted_since[i].is_some();
        let (severity, words) = match (snapshot.indicators, unexplained(&snapshot.unexplained, i)) {
            (Some(_), _) if drifted => (Severity::Alert, reason(&snapshot, model, i)),
            (_, Some(words)) => (Severity::Warning, words),
            (None, _) if distribution.is_none() => (Severity::Unknown, "the model has no reference for it".to_owned()),
            (None, _) => (Severity::Unknown, "too few readings in the window".to_owned()),
            (Some(_), None) => (Severity::None, String::new()),
        };
        let mut drift = Compared::verdict(Kind::Number, severity, words);
        drift.psi = snapshot.indicators.map(|all| all[i].psi);
        drift.psi_threshold = distribution.map(|d| d.psi_line);
        drift.psi_critical = distribution.map(|d| d.chance());
        drift.ks = snapshot.indicators.map(|all| Ks { d: all[i].ks, p: f64::NAN, error: 0.005 });
        drift.mean_shift_sigma = snapshot.shift.map(|s| s[i]);
        drift.mean.reference = Some(model.reference.means[i]);
        drift.mean.current = (snapshot.rows > 0).then_some(snapshot.means[i]);
        (drift.rows.reference, drift.rows.current) = (model.reference.rows, snapshot.rows);
        let histograms = distribution.zip(counts.of(i)).map(|(d, now)| {
            let now = Histogram { cells: d.histogram.cells.clone(), counts: now.to_vec() };
            d.histogram.coarse_pair(&now, BINS)
        });
        Feature { name: (*name).to_owned(), drift, histograms }
    });
    let mut remarks = Vec::new();
    let accuracy = snapshot.accuracy.evaluation();
    if let Some(share) = accuracy.accuracy {
        remarks.push(format!("Accuracy {share:.4} over {} predictions whose truth has come.", accuracy.rows));
    }
    if let Some(e) = snapshot.expected {
        remarks.push(format!(
            "Accuracy {:.4} ± {:.4} is expected of {} predictions that wait for it (blind to a change of what leads to failures).",
            e.accuracy, e.deviation, e.rows
        ));
    }
    if let Some((shift, together)) = snapshot.together.zip(model.reference.together.as_ref()) {
        let since = snapshot.together_since.map_or_else(String::new, |at| format!(", since {}", rfc3339(at)));
        remarks.push(format!(
            "The features together: reconstruction error {} σ from the reference's; chance alone explains {}, {} counts{since}.",
            short(shift),
            short(together.line / 2.0),
            short(together.line)
        ));
    }
    let learned = snapshot.unexplained.learned;
    if learned < 1.0 {
        remarks.push(format!(
            "What features tell of each other is being learned: {:.0} % of the fleet's first day.",
            100.0 * learned
        ));
    }
    let seconds = pipeline.drift_window().as_secs();
    Report {
        reference: format!("the reference of {}", model.version),
        current: format!("the readings of the last {} min", (seconds as f64 / 60.0).round()),
        reference_rows: model.reference.rows,
        current_rows: snapshot.rows,
        options: Options::default(),
        features: features.collect(),
        new_columns: Vec::new(),
        together: None,
        remarks,
        rule:
            "PSI counts from twice the largest that any window of the reference itself had, when three of five looks \
               30 s apart are above it. Readings a second apart resemble each other: p-values would mislead."
                .to_owned(),
    }
}
