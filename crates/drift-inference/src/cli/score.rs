//! `drift-inference score`.

use std::path::PathBuf;

use clap::ValueEnum;
use console::Term;
use stats::{cells::Binning, compare::Options};

use super::{TableArgs, print, write_file};
use crate::{collect::Profile, report, score::Report};

/// Width of what is not a terminal.
const WIDTH: usize = 120;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BinningArg {
    /// At the reference's deciles.
    Deciles,
    /// Ten cells of one width between the reference's smallest and largest value.
    EqualWidth,
}

#[derive(clap::Args, Debug)]
pub struct Args {
    /// CSV, Parquet or a profile (.json) to compare with.
    #[arg(long, value_name = "FILE")]
    reference: PathBuf,
    /// CSV or Parquet to compare.
    #[arg(long, value_name = "FILE")]
    current: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write a page for a browser.
    #[arg(long, value_name = "REPORT.html")]
    html: Option<PathBuf>,
    /// Edges of the cells that numbers are counted in.
    #[arg(long, value_enum, default_value = "deciles")]
    binning: BinningArg,
    /// A PSI counts only above what chance stays below with this probability.
    #[arg(long, default_value_t = 0.95)]
    confidence: f64,
    /// A test counts below this p-value, adjusted for the number of features.
    #[arg(long, default_value_t = 0.01)]
    alpha: f64,
    #[command(flatten)]
    table: TableArgs,
}

pub fn run(args: &Args) -> anyhow::Result<u8> {
    for (name, value) in [("--confidence", args.confidence), ("--alpha", args.alpha)] {
        anyhow::ensure!(value > 0.0 && value < 1.0, "{name} must be between 0 and 1, not {value}");
    }
    let binning = match args.binning {
        BinningArg::Deciles => Binning::Deciles,
        BinningArg::EqualWidth => Binning::EqualWidth,
    };
    let options = Options { binning, confidence: args.confidence, alpha: args.alpha, ..Options::default() };
    let (format, choices) = (args.table.format()?, args.table.choices());
    let profile = Profile::load(&args.reference, &format, choices.clone())?;
    let report = Report::of(&profile, &args.reference, &args.current, &format, &choices, options)?;
    if let Some(file) = &args.html {
        write_file(file, &report::page(&report))?;
    }
    if args.json {
        print(&(serde_json::to_string_pretty(&report.json())? + "\n"))?;
    } else {
        let terminal = Term::stdout();
        let width = terminal.size_checked().map_or_else(columns, |(_, width)| usize::from(width));
        print(&report::table(&report, width, terminal.is_term() && console::colors_enabled()))?;
    }
    Ok(report.verdict().exit_code())
}

/// What the environment says of the width.
fn columns() -> usize {
    std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).filter(|c| (20..=1_000).contains(c)).unwrap_or(WIDTH)
}
