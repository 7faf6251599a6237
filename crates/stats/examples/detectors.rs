//! What one value costs each detector of streams: `detectors FILE`, a column of numbers below its name.
//! `bench/drift/compare.sh` runs it beside river.
#![allow(missing_docs)]

use std::{hint::black_box, time::Instant};

use stats::{adwin::Adwin, kswin::Kswin, page_hinkley::PageHinkley};

const ROUNDS: usize = 5;

/// The median of some rounds, as `NAME NANOSECONDS CHANGES`.
fn time(name: &str, values: &[f64], detect: impl Fn(&[f64]) -> usize) {
    let mut rounds: Vec<(f64, usize)> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            let changes = detect(black_box(values));
            (started.elapsed().as_nanos() as f64 / values.len() as f64, changes)
        })
        .collect();
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (nanoseconds, changes) = rounds[ROUNDS / 2];
    println!("{name} {nanoseconds:.2} {changes}");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("detectors FILE")?;
    let values: Vec<f64> = std::fs::read_to_string(file)?.lines().skip(1).map(str::parse).collect::<Result<_, _>>()?;
    if values.is_empty() {
        return Err("the file has no values".into());
    }
    macro_rules! detector {
        ($name:literal, $detector:ident) => {
            time($name, &values, |values| {
                let mut detector = $detector::new(Default::default());
                values.iter().filter(|x| detector.update(**x)).count()
            });
        };
    }
    detector!("adwin", Adwin);
    detector!("kswin", Kswin);
    detector!("page-hinkley", PageHinkley);
    Ok(())
}
