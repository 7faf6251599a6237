//! Offline commands: `train` and `evaluate`.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Parser, Subcommand};
use lake::{Cursor, Lake, Settings, store::Backend};
use telemetry::config::Duration;
use time::OffsetDateTime;

use crate::{
    features::{COUNT, NAMES},
    model::{BUILT_IN, Evaluation, Model},
    pipeline::Pipeline,
    train::{Dataset, RIVAL_CELSIUS, judge, judge_threshold, train},
};

#[derive(Debug, Parser)]
#[command(name = "drift-inference", about = "Train and evaluate the failure model on lake folders")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model on a lake folder.
    Train {
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
        /// Version of the model.
        #[arg(long)]
        version: String,
        /// File to write.
        #[arg(long)]
        out: PathBuf,
    },
    /// Judge a model on a lake folder, and show how far each mean wanders in a window.
    Evaluate {
        /// Lake folder.
        #[arg(long)]
        data: PathBuf,
        /// Model document; the built-in one if not given.
        #[arg(long)]
        model: Option<PathBuf>,
        /// Window of the mean shift.
        #[arg(long, default_value = "5m")]
        drift_window: Duration,
    },
}

/// Is this a command for [`main`]?
pub fn is_command(argument: &str) -> bool {
    matches!(argument, "train" | "evaluate")
}

/// Entry: 0 done, 1 failed, 64 wrong arguments.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { telemetry::config::EXIT_CONFIG } else { 0 });
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|rt| rt.block_on(run(cli.command))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("drift-inference: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn open(dir: PathBuf) -> anyhow::Result<Lake> {
    anyhow::ensure!(dir.is_dir(), "{} is not a folder", dir.display());
    Ok(Lake::open(&Settings { backend: Backend::Folder(dir) }, Arc::new(()))?)
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Train { data, holdout, reference, horizon, version, out } => {
            let data = Dataset::load(&open(data)?, *horizon).await?;
            let holdout = Dataset::load(&open(holdout)?, *horizon).await?;
            let reference = Dataset::load(&open(reference)?, *horizon).await?;
            let reference = reference.moments.freeze().map_err(anyhow::Error::msg)?;
            let model = train(&version, &data, &holdout, reference, *horizon, OffsetDateTime::now_utc())?;
            std::fs::write(&out, serde_json::to_string_pretty(&model)? + "\n")?;
            println!("{} rows, {} followed by a failure", model.training.rows, model.training.positives);
            for (name, weight) in NAMES.iter().zip(&model.weights) {
                println!("  {name:<22} {weight:>8.3}");
            }
            println!("threshold {}", model.threshold);
            compare(&model, &holdout);
        }
        Command::Evaluate { data, model, drift_window } => {
            let model = model.map_or_else(|| Model::parse(BUILT_IN), |path| Model::load(&path))?;
            let lake = open(data)?;
            let horizon = std::time::Duration::from_secs_f64(model.horizon_seconds);
            compare(&model, &Dataset::load(&lake, horizon).await?);
            let shifts = widest_shifts(&lake, model, horizon, *drift_window).await?;
            println!("widest mean shift in a window of {drift_window}, in σ of the reference");
            for (name, shift) in shifts {
                println!("  {name:<22} {shift:>8.3}");
            }
        }
    }
    Ok(())
}

fn compare(model: &Model, data: &Dataset) {
    let line = |name: &str, e: Evaluation| {
        let show = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.4}"));
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
    let rival =
        line(&format!("temperature ≥ {RIVAL_CELSIUS} °C"), judge_threshold(&data.rows, RIVAL_CELSIUS).evaluation());
    println!("  {:<22} accuracy {:.4}", "always no", ours.always_no_accuracy.unwrap_or_default());
    let beats = ours.accuracy > rival.accuracy && ours.accuracy > ours.always_no_accuracy;
    println!("  the model {} both baselines in accuracy", if beats { "beats" } else { "does not beat" });
}

/// What the pipeline would have shown, batch by batch.
async fn widest_shifts(
    lake: &Lake,
    model: Model,
    horizon: std::time::Duration,
    window: std::time::Duration,
) -> anyhow::Result<BTreeMap<&'static str, f64>> {
    let mut pipeline = Pipeline::new(Arc::new(model), horizon, window, window);
    let mut widest = [0.0f64; COUNT];
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
                let shift = pipeline.snapshot().shift.unwrap_or_default();
                for (w, s) in widest.iter_mut().zip(shift) {
                    *w = w.max(s.abs());
                }
            }
            cursor.advance(&name);
        }
    }
}
