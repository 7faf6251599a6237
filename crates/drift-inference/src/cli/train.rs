//! Offline commands: `train` and `evaluate`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use lake::{Cursor, Lake, Settings, store::Backend};
use telemetry::config::Duration;
use time::OffsetDateTime;

use crate::{
    distribution,
    features::{COUNT, NAMES},
    model::{BUILT_IN, Evaluation, Model},
    pipeline::Pipeline,
    profile::Profile,
    train::{Dataset, Order, RIVAL_CELSIUS, judge, judge_threshold, train},
};

/// How drift is looked for.
#[derive(clap::Args, Debug)]
struct WindowArgs {
    /// Window in which drift is looked for.
    #[arg(long, default_value = "5m")]
    drift_window: Duration,
}

/// What lines are taken from.
#[derive(clap::Args, Debug)]
struct FleetArgs {
    /// Machines that will be watched together.
    #[arg(long, default_value_t = 5)]
    fleet: usize,
}

/// A model that is there.
#[derive(clap::Args, Debug)]
struct ModelArgs {
    /// Lake folder to look at.
    #[arg(long)]
    data: PathBuf,
    /// Model document; the built-in one if not given.
    #[arg(long)]
    model: Option<PathBuf>,
    #[command(flatten)]
    window: WindowArgs,
}

#[derive(clap::Args, Debug)]
pub struct TrainArgs {
    /// Lake folder to learn from: it must hold failures.
    #[arg(long)]
    data: PathBuf,
    /// Lake folder to judge by: another one.
    #[arg(long)]
    holdout: PathBuf,
    /// Lake folder without faults: the frozen reference of drift.
    #[arg(long)]
    reference: PathBuf,
    /// How far ahead.
    #[arg(long, default_value = "2m")]
    horizon: Duration,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    lines: FleetArgs,
    /// Version of the model.
    #[arg(long)]
    version: String,
    /// File to write.
    #[arg(long)]
    out: PathBuf,
}

#[derive(clap::Args, Debug)]
pub struct ReferenceArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    lines: FleetArgs,
    /// File to write.
    #[arg(long)]
    out: PathBuf,
}

#[derive(clap::Args, Debug)]
pub struct EvaluateArgs {
    #[command(flatten)]
    model: ModelArgs,
}

fn open(dir: PathBuf) -> anyhow::Result<Lake> {
    anyhow::ensure!(dir.is_dir(), "{} is not a folder", dir.display());
    Ok(Lake::open(&Settings { backend: Backend::Folder(dir) }, Arc::new(()))?)
}

pub async fn train_command(args: TrainArgs) -> anyhow::Result<()> {
    let horizon = *args.horizon;
    let data = Dataset::load(&open(args.data)?, horizon).await?;
    let holdout = Dataset::load(&open(args.holdout)?, horizon).await?;
    let reference = reference(&open(args.reference)?, horizon, &args.window, &args.lines).await?;
    let model = train(Order {
        version: &args.version,
        rows: &data.rows,
        holdout: &holdout.rows,
        reference,
        fallback: None,
        horizon,
        now: OffsetDateTime::now_utc(),
    })?;
    std::fs::write(&args.out, serde_json::to_string_pretty(&model)? + "\n")?;
    println!("{} rows, {} followed by a failure", model.training.rows, model.training.positives);
    for (name, weight) in NAMES.iter().zip(&model.weights) {
        println!("  {name:<22} {weight:>8.3}");
    }
    println!("threshold {}", model.threshold);
    compare(&model, &holdout);
    Ok(())
}

pub async fn reference_command(args: ReferenceArgs) -> anyhow::Result<()> {
    let ReferenceArgs { model: ModelArgs { data, model, window }, lines, out } = args;
    let mut model = load(model.as_deref())?;
    let horizon = std::time::Duration::from_secs_f64(model.horizon_seconds);
    model.reference = reference(&open(data)?, horizon, &window, &lines).await?;
    std::fs::write(&out, serde_json::to_string_pretty(&model)? + "\n")?;
    println!("{} rows; twice the largest PSI of a calm window of {}:", model.reference.rows, window.drift_window);
    for (name, distribution) in NAMES.iter().zip(&model.reference.distributions) {
        println!("  {name:<22} {:>8.3}", distribution.psi_line);
    }
    Ok(())
}

/// The features when all is well.
async fn reference(
    lake: &Lake,
    horizon: std::time::Duration,
    window: &WindowArgs,
    lines: &FleetArgs,
) -> anyhow::Result<Profile> {
    let data = Dataset::load_reference(lake, horizon).await?;
    let (length, fleet) = (*window.drift_window, lines.fleet);
    let mut reference = data.moments.freeze_or(None).map_err(anyhow::Error::msg)?;
    reference.distributions = distribution::measure(&data.observed, length, fleet).map_err(anyhow::Error::msg)?;
    reference.together = distribution::measure_together(&data.observed, length, fleet);
    Ok(reference)
}

fn load(file: Option<&Path>) -> anyhow::Result<Model> {
    Ok(file.map_or_else(|| Model::parse(BUILT_IN), Model::load)?)
}

pub async fn evaluate_command(args: EvaluateArgs) -> anyhow::Result<()> {
    let ModelArgs { data, model, window } = args.model;
    let model = load(model.as_deref())?;
    let lake = open(data)?;
    let horizon = std::time::Duration::from_secs_f64(model.horizon_seconds);
    compare(&model, &Dataset::load(&lake, horizon).await?);
    let widest = widest(&lake, model, horizon, *window.drift_window).await?;
    println!("widest in a window of {}: mean shift/σ, PSI, its line, minutes above it", window.drift_window);
    for (name, w) in widest {
        println!("  {name:<22} {:>8.3} {:>8.3} {:>8.3} {:>6}", w.shift, w.psi, w.line, w.minutes_above);
    }
    Ok(())
}

fn compare(model: &Model, data: &Dataset) {
    let show = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.4}"));
    let line = |name: &str, e: Evaluation| {
        println!(
            "  {name:<22} accuracy {}  precision {}  recall {}  brier {}",
            show(e.accuracy),
            show(e.precision),
            show(e.recall),
            show(e.brier)
        );
        e
    };
    println!("on {} rows:", data.rows.len());
    let ours = line("model", judge(model, &data.rows).evaluation());
    if let Some(calibration) = &model.calibration {
        let scores: Vec<f64> = data.rows.iter().map(|r| model.predict(&r.features).probability).collect();
        let expected = calibration.estimate(&scores);
        println!(
            "  {:<22} accuracy {}  precision {}  recall {}  (blind to a change of what leads to failures)",
            "expected without labels",
            show(expected.accuracy),
            show(expected.precision),
            show(expected.recall)
        );
    }
    let rival =
        line(&format!("temperature ≥ {RIVAL_CELSIUS} °C"), judge_threshold(&data.rows, RIVAL_CELSIUS).evaluation());
    println!("  {:<22} accuracy {:.4}", "always no", ours.always_no_accuracy.unwrap_or_default());
    let beats = ours.accuracy > rival.accuracy && ours.accuracy > ours.always_no_accuracy;
    println!("  the model {} both baselines in accuracy", if beats { "beats" } else { "does not beat" });
}

/// The worst of a feature.
#[derive(Clone, Copy, Debug, Default)]
struct Widest {
    shift: f64,
    psi: f64,
    line: f64,
    minutes_above: u32,
}

/// What the pipeline would have shown, batch by batch.
async fn widest(
    lake: &Lake,
    model: Model,
    horizon: std::time::Duration,
    window: std::time::Duration,
) -> anyhow::Result<BTreeMap<&'static str, Widest>> {
    let model = Arc::new(model);
    let mut pipeline = Pipeline::new(model.clone(), horizon, window, window);
    let mut widest = [Widest::default(); COUNT];
    for (w, d) in widest.iter_mut().zip(&model.reference.distributions) {
        w.line = d.psi_line;
    }
    let mut cursor = Cursor::starting_at(0);
    loop {
        let names = lake.manifests_after(&cursor, 1_000).await?;
        if names.is_empty() {
            return Ok(NAMES.into_iter().zip(widest).collect());
        }
        for name in names {
            let mut readings = lake.fetch(&name).await?.readings;
            readings.sort_by_key(|r| r.ts_us);
            // Once a minute is often enough to see the widest.
            for minute in readings.chunk_by(|a, b| a.ts_us.div_euclid(60_000_000) == b.ts_us.div_euclid(60_000_000)) {
                pipeline.take(minute.to_vec());
                let snapshot = pipeline.snapshot();
                for (i, w) in widest.iter_mut().enumerate() {
                    w.shift = w.shift.max(snapshot.shift.unwrap_or_default()[i].abs());
                    let psi = snapshot.indicators.unwrap_or_default()[i].psi;
                    w.psi = w.psi.max(psi);
                    w.minutes_above += u32::from(psi > w.line);
                }
            }
            cursor.advance(&name);
        }
    }
}
