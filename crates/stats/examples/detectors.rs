//! What one value costs a detector of streams; the file is a column of numbers below its name.
//! `bench/drift/compare.sh` runs it beside river.
#![allow(missing_docs)]

use std::{hint::black_box, time::Instant};

use stats::{adwin::Adwin, kswin::Kswin, page_hinkley::PageHinkley};

const ROUNDS: usize = 5;
const USAGE: &str = "detectors adwin|kswin|page-hinkley FILE";

/// The median of some rounds, as `NANOSECONDS CHANGES`.
fn time(values: &[f64], detect: impl Fn(&[f64]) -> usize) {
    let mut rounds: Vec<(f64, usize)> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            let changes = detect(black_box(values));
            (started.elapsed().as_nanos() as f64 / values.len() as f64, changes)
        })
        .collect();
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (nanoseconds, changes) = rounds[ROUNDS / 2];
    println!("{nanoseconds:.2} {changes}");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [detector, file] = std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| USAGE)?;
    let values: Vec<f64> = std::fs::read_to_string(file)?.lines().skip(1).map(str::parse).collect::<Result<_, _>>()?;
    if values.is_empty() {
        return Err("the file has no values".into());
    }
    macro_rules! time {
        ($detector:ident) => {
            time(&values, |values| {
                let mut detector = $detector::new(Default::default());
                values.iter().filter(|x| detector.update(**x)).count()
            })
        };
    }
    match detector.as_str() {
        "adwin" => time!(Adwin),
        "kswin" => time!(Kswin),
        "page-hinkley" => time!(PageHinkley),
        _ => return Err(USAGE.into()),
    }
    Ok(())
}
