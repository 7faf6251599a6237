//! Rows a second that one core scores: the model alone, and the whole path of the pull. See README.md beside this
//! file.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use drift_inference::{
    features::Features,
    model::{BUILT_IN, Model},
    pipeline::Pipeline,
};
use lake::Reading;

const ROWS: usize = 1_000_000;
const MACHINES: usize = 50;
const BATCH: usize = 750;
const ROUNDS: usize = 5;

fn reading(i: usize) -> Reading {
    let (machine, second) = (i % MACHINES, (i / MACHINES) as u64);
    let wobble = (i * 7 % 97) as f64 / 97.0;
    Reading {
        machine_id: format!("m-{machine}").into(),
        line: "line-1".into(),
        site: "site-1".into(),
        boot_id: "b".into(),
        seq: second,
        ts_us: 1_769_864_400_000_000 + second as i64 * 1_000_000,
        temperature: 45.0 + 10.0 * wobble,
        load: 0.3 + 0.4 * wobble,
        vibration: 1.0 + wobble,
        power_watts: 8_000.0 + 4_000.0 * wobble,
        energy_millijoules_total: second as i64,
        error_code: 0,
        status: 1,
        failed: false,
    }
}

fn best(name: &str, rows: usize, mut work: impl FnMut()) {
    let times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            work();
            started.elapsed()
        })
        .collect();
    let mut rates: Vec<f64> = times.iter().map(|t| rows as f64 / t.as_secs_f64()).collect();
    rates.sort_by(f64::total_cmp);
    println!(
        "{name:<34} {:>12.0} rows/s, median of {ROUNDS} ({:.0} to {:.0})",
        rates[ROUNDS / 2],
        rates[0],
        rates[ROUNDS - 1]
    );
}

fn main() {
    let model = Arc::new(Model::parse(BUILT_IN).unwrap());
    let rows: Vec<Features> = (0..ROWS).map(|i| Features::of(&reading(i), 0.1)).collect();
    best("the model alone", ROWS, || {
        let failures = rows.iter().filter(|r| model.predict(black_box(r)).fails).count();
        black_box(failures);
    });
    let batches: Vec<Vec<Reading>> =
        (0..ROWS / BATCH).map(|b| (b * BATCH..(b + 1) * BATCH).map(reading).collect()).collect();
    let minutes = |m: u64| Duration::from_secs(60 * m);
    best("gradient, score, truth, windows", ROWS / BATCH * BATCH, || {
        let mut pipeline = Pipeline::new(model.clone(), minutes(2), minutes(5), minutes(5));
        for batch in &batches {
            black_box(pipeline.take(batch.clone()));
        }
        black_box(pipeline.snapshot());
    });
}
