//! `drift-inference stream`.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::json;
use stats::{adwin, kswin, page_hinkley};

use super::print;
use crate::table::{self, Cell, Format, Place, Sink, parse_boolean, parse_number};

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DetectorArg {
    /// A window that shortens itself: delta, clock, max_buckets, min_window_length, grace_period, last_bucket.
    Adwin,
    /// The last values against a draw from those before: alpha, window_size, stat_size, seed.
    Kswin,
    /// Cumulated deviation from the mean: delta, threshold, alpha, min_instances, mode (up, down, both).
    PageHinkley,
}

#[derive(clap::Args, Debug)]
pub struct Args {
    /// How to watch.
    #[arg(long, value_enum)]
    detector: DetectorArg,
    /// The column to watch.
    #[arg(long, value_name = "NAME")]
    column: String,
    /// CSV or Parquet file, in the order of time.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// A setting of the detector; can be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    param: Vec<String>,
    /// Measure values in σ from the mean of the first N, which are not watched themselves.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    standardise: Option<u64>,
    /// Between the fields of a CSV file, one character; found out if not given.
    #[arg(long, value_name = "CHAR")]
    delimiter: Option<char>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

enum Detector {
    Adwin(adwin::Adwin),
    Kswin(Box<kswin::Kswin>),
    PageHinkley(page_hinkley::PageHinkley),
}

impl Detector {
    fn update(&mut self, x: f64) -> bool {
        match self {
            Self::Adwin(d) => d.update(x),
            Self::Kswin(d) => d.update(x),
            Self::PageHinkley(d) => d.update(x),
        }
    }

    fn new(kind: DetectorArg, params: &[String]) -> anyhow::Result<Self> {
        let mut pairs = Vec::new();
        for param in params {
            let pair = param.split_once('=');
            pairs.push(pair.ok_or_else(|| anyhow::anyhow!("--param {param:?} is not of the form key=value"))?);
        }
        Ok(match kind {
            DetectorArg::Adwin => Self::Adwin(adwin::Adwin::new(adwin_settings(&pairs)?)),
            DetectorArg::Kswin => Self::Kswin(Box::new(kswin::Kswin::new(kswin_settings(&pairs)?))),
            DetectorArg::PageHinkley => {
                Self::PageHinkley(page_hinkley::PageHinkley::new(page_hinkley_settings(&pairs)?))
            }
        })
    }
}

fn value<T: std::str::FromStr>((key, text): (&str, &str), what: &str) -> anyhow::Result<T> {
    text.trim().parse().map_err(|_| anyhow::anyhow!("--param {key}={text}: must be {what}"))
}

/// A number between two, `low` itself not included.
fn between(pair: (&str, &str), low: f64, high: f64) -> anyhow::Result<f64> {
    let x: f64 = value(pair, "a number")?;
    anyhow::ensure!(x > low && x <= high, "--param {}={}: must be above {low} and up to {high}", pair.0, pair.1);
    Ok(x)
}

fn count(pair: (&str, &str), low: u64) -> anyhow::Result<u64> {
    let n: u64 = value(pair, "a whole number")?;
    anyhow::ensure!((low..=10_000_000).contains(&n), "--param {}={}: must be {low} to 10000000", pair.0, pair.1);
    Ok(n)
}

fn unknown(key: &str, known: &str) -> anyhow::Error {
    anyhow::anyhow!("--param {key}: is not known; known are {known}")
}

fn adwin_settings(pairs: &[(&str, &str)]) -> anyhow::Result<adwin::Settings> {
    let mut s = adwin::Settings::default();
    for &pair in pairs {
        match pair.0 {
            "delta" => s.delta = between(pair, 0.0, 1.0)?,
            "clock" => s.clock = count(pair, 1)?,
            "max_buckets" => s.max_buckets = count(pair, 1)? as usize,
            "min_window_length" | "min_window" => s.min_window = count(pair, 1)?,
            "grace_period" | "grace" => s.grace = count(pair, 0)?,
            "last_bucket" => s.last_bucket = value(pair, "true or false")?,
            key => {
                return Err(unknown(key, "delta, clock, max_buckets, min_window_length, grace_period, last_bucket"));
            }
        }
    }
    Ok(s)
}

fn kswin_settings(pairs: &[(&str, &str)]) -> anyhow::Result<kswin::Settings> {
    let mut s = kswin::Settings::default();
    for &pair in pairs {
        match pair.0 {
            "alpha" => s.alpha = between(pair, 0.0, 1.0)?,
            "window_size" | "window" => s.window = count(pair, 2)? as usize,
            "stat_size" | "stat" => s.stat = count(pair, 1)? as usize,
            "seed" => s.seed = value(pair, "a whole number")?,
            key => return Err(unknown(key, "alpha, window_size, stat_size, seed")),
        }
    }
    s.check().map_err(anyhow::Error::msg)?;
    Ok(s)
}

fn page_hinkley_settings(pairs: &[(&str, &str)]) -> anyhow::Result<page_hinkley::Settings> {
    let mut s = page_hinkley::Settings::default();
    for &pair in pairs {
        match pair.0 {
            "delta" => s.delta = between(pair, -f64::MIN_POSITIVE, f64::MAX)?,
            "threshold" | "lambda" => s.threshold = between(pair, 0.0, f64::MAX)?,
            "alpha" => s.alpha = between(pair, 0.0, 1.0)?,
            "min_instances" | "min" => s.min_instances = count(pair, 0)?,
            "mode" => {
                (s.up, s.down) = match pair.1 {
                    "both" => (true, true),
                    "up" => (true, false),
                    "down" => (false, true),
                    other => anyhow::bail!("--param mode={other}: must be up, down or both"),
                }
            }
            key => return Err(unknown(key, "delta, threshold, alpha, min_instances, mode")),
        }
    }
    Ok(s)
}

/// Watches one column of a table.
struct Watch {
    name: String,
    column: Option<usize>,
    detector: Detector,
    /// Values that are still gathered for a scale, and how many are wanted.
    scale: Option<(u64, stats::moments::Moments)>,
    detections: Vec<u64>,
    watched: u64,
    /// Rows without a finite number, and the first of them.
    skipped: u64,
    first_skipped: Option<Place>,
}

impl Watch {
    fn take(&mut self, place: Place, x: f64) -> Result<(), String> {
        if !x.is_finite() {
            self.skipped += 1;
            self.first_skipped.get_or_insert(place);
            return Ok(());
        }
        let x = match &mut self.scale {
            None => x,
            Some((wanted, moments)) if moments.count < *wanted => {
                moments.add(x);
                return Ok(());
            }
            Some((wanted, moments)) => match moments.deviation().filter(|s| *s > 0.0) {
                Some(sigma) => (x - moments.mean) / sigma,
                None => return Err(format!("the first {wanted} values do not vary: they give no scale")),
            },
        };
        self.watched += 1;
        if self.detector.update(x) {
            self.detections.push(place.row - 1);
        }
        Ok(())
    }
}

impl Sink for Watch {
    fn columns(&mut self, names: &[String]) -> Result<(), String> {
        self.column = names.iter().position(|n| *n == self.name);
        match self.column {
            Some(_) => Ok(()),
            None => Err(format!("there is no column {:?}; there are {}", self.name, names.join(", "))),
        }
    }

    fn cell(&mut self, column: usize, place: Place, cell: Cell<'_>) -> Result<(), String> {
        if Some(column) != self.column {
            return Ok(());
        }
        let x = match cell {
            Cell::Missing => f64::NAN,
            Cell::Number(x) | Cell::Instant(x) => x,
            Cell::Boolean(b) => f64::from(u8::from(b)),
            Cell::Raw(text) | Cell::Text(text) => match parse_number(text) {
                Some(x) => x,
                None => match parse_boolean(text) {
                    Some(b) => f64::from(u8::from(b)),
                    None => return Err(format!("{text:?} is not a number")),
                },
            },
        };
        self.take(place, x)
    }
}

pub fn run(args: &Args) -> anyhow::Result<u8> {
    let delimiter = match args.delimiter {
        Some(c) if c.is_ascii() => Some(c as u8),
        Some(_) => anyhow::bail!("--delimiter must be one ASCII character"),
        None => None,
    };
    let mut watch = Watch {
        name: args.column.clone(),
        column: None,
        detector: Detector::new(args.detector, &args.param)?,
        scale: args.standardise.map(|n| (n, stats::moments::Moments::default())),
        detections: Vec::new(),
        watched: 0,
        skipped: 0,
        first_skipped: None,
    };
    let rows = table::read(&args.data, &Format { delimiter }, &mut watch)?;
    if watch.skipped > 0
        && let Some(first) = watch.first_skipped
    {
        eprintln!(
            "drift-inference: {}: column {:?}: {} rows without a finite number are passed over, the first is {first}",
            args.data.display(),
            args.column,
            watch.skipped
        );
    }
    anyhow::ensure!(
        watch.watched > 0,
        "{}: column {:?}: no number to watch in {rows} rows",
        args.data.display(),
        args.column
    );
    if args.json {
        let answer = json!({
            "detections": watch.detections, "rows": rows, "watched": watch.watched, "skipped": watch.skipped,
        });
        print(&(serde_json::to_string(&answer)? + "\n"))?;
    } else {
        let lines: String = watch.detections.iter().map(|i| format!("change at index {i}\n")).collect();
        let n = watch.detections.len();
        print(&format!("{lines}{n} {} in {} values\n", if n == 1 { "change" } else { "changes" }, watch.watched))?;
    }
    Ok(u8::from(!watch.detections.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: DetectorArg, params: &[&str]) -> String {
        let params: Vec<String> = params.iter().map(|p| (*p).to_owned()).collect();
        Detector::new(kind, &params).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn each_wrong_setting_is_named() {
        use DetectorArg::{Adwin, Kswin, PageHinkley};
        assert_eq!(fault(Adwin, &["delta=0.01", "clock=1", "grace_period=0", "last_bucket=false"]), "");
        assert_eq!(fault(Kswin, &["alpha=0.001", "window_size=200", "stat_size=50", "seed=7"]), "");
        assert_eq!(fault(PageHinkley, &["threshold=20", "mode=up", "delta=0"]), "");
        for (kind, params, expected) in [
            (Adwin, "delta", "key=value"),
            (Adwin, "delta=0", "above 0"),
            (Adwin, "delta=nan", "above 0"),
            (Adwin, "clock=0", "1 to"),
            (Adwin, "alpha=1", "known are delta"),
            (Kswin, "window_size=40", "twice"),
            (Kswin, "seed=x", "whole number"),
            (PageHinkley, "mode=side", "up, down or both"),
            (PageHinkley, "threshold=-1", "above 0"),
        ] {
            let got = fault(kind, &[params]);
            assert!(got.contains(expected), "{params}: {got}");
        }
    }
}
