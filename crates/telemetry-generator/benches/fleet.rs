//! What a fleet costs: `cargo bench -p telemetry-generator --bench fleet`.
//!
//! A tick, the forecast in it, the exposition and the memory, for 1 to 100,000 machines; every
//! line compares with another measured in the same run.
#![allow(missing_docs)]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use forecast::{Forecaster, Sample, Settings, baseline::PredictLinear};
use telemetry::metrics::Registry;
use telemetry_generator::{
    exposition::{FleetCollector, render},
    fleet::Fleet,
    service::Shared,
};

/// Resident memory of this process, bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).map_or(0, |pages| pages * 4_096)
}

const SECOND: i64 = 1_000_000;
const START: i64 = 1_769_864_400_000_000;

/// The median of several runs.
fn median(runs: usize, mut run: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<_> = (0..runs).map(|_| run()).collect();
    times.sort();
    times[times.len() / 2]
}

fn fleet_lines() -> Vec<(usize, Duration)> {
    println!(
        "| machines | tick | a machine | memory a machine | exposition | series/s | times faster than by the registry |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut ticks = Vec::new();
    for count in [1, 10, 100, 1_000, 10_000, 100_000] {
        let before = resident();
        let mut fleet = Fleet::new(count, 42, "bench", SECOND, START);
        let mut now = START;
        // Pages count: said of few machines it would say nothing.
        let memory = resident().saturating_sub(before) / count;
        let memory = if count < 10_000 { "–".to_owned() } else { format!("{memory} B") };
        (0..30).for_each(|_| {
            now += SECOND;
            drop(fleet.tick(now));
        });
        // A tenth of the machines looks ahead in each tick.
        let tick = median(5, || {
            let started = Instant::now();
            for _ in 0..10 {
                now += SECOND;
                black_box(fleet.tick(now));
            }
            started.elapsed() / 10
        });
        let registry = Registry::new("bench", "0").expect("a registry");
        let fleet = Arc::new(Shared::new(fleet));
        let collector = FleetCollector::new(fleet.clone()).expect("a collector");
        registry.register(Box::new(collector)).expect("no name is taken");
        let mut series = 0;
        let exposition = median(3, || {
            let started = Instant::now();
            let (_, text) = render(&fleet, &registry, None);
            let elapsed = started.elapsed();
            series = text.split(|b| *b == b'\n').filter(|l| !l.is_empty() && l[0] != b'#').count();
            elapsed
        });
        let collected = median(1, || {
            let started = Instant::now();
            black_box(registry.encode(None));
            started.elapsed()
        });
        let times = collected.as_secs_f64() / exposition.as_secs_f64();
        let rate = series as f64 / exposition.as_secs_f64();
        let each = tick / u32::try_from(count).expect("small");
        println!(
            "| {count} | {tick:.1?} | {each:.0?} | {memory} | {exposition:.1?} for {series} | {rate:.0} | {times:.1} |"
        );
        ticks.push((count, tick));
    }
    ticks
}

/// A forecaster beside the straight line that it replaces, on the same series.
fn forecast_beside_line() {
    const MACHINES: usize = 100_000;
    let sample = |i: usize, machine: usize| {
        let load = 0.5 + 0.3 * ((i / 60 + machine) % 2) as f64;
        let temperature = 40.0 + 30.0 * load + ((i * 7_919 + machine * 31) % 17) as f64 / 20.0;
        Sample { time: (i * 10) as f64, temperature, load: Some(load) }
    };
    let settings = Settings::default();
    let mut forecasters = vec![Forecaster::default(); MACHINES];
    let mut i = 0;
    // A reading every ten seconds: each one is a whole step of the filter.
    let forecast = median(7, || {
        i += 1;
        let started = Instant::now();
        for (machine, forecaster) in forecasters.iter_mut().enumerate() {
            black_box(forecaster.observe(sample(i, machine), &settings));
        }
        started.elapsed()
    });
    let mut lines = vec![PredictLinear::new(600.0); MACHINES / 100];
    let mut i = 0;
    let line = median(121, || {
        i += 1;
        let started = Instant::now();
        for (machine, line) in lines.iter_mut().enumerate() {
            let s = sample(i, machine);
            black_box(line.observe(s.time, s.temperature, 1_200.0));
        }
        started.elapsed() * 100
    });
    let ratio = forecast.as_secs_f64() / line.as_secs_f64();
    println!(
        "\n100,000 machines forecast: {forecast:.1?}; a straight line through 10 minutes of each: {line:.1?}; ratio {ratio:.2}"
    );
}

fn main() {
    let ticks = fleet_lines();
    let per_machine = |at: usize| ticks[at].1.as_secs_f64() / ticks[at].0 as f64;
    println!("\na machine among 100,000 costs {:.2} times one among 1,000", per_machine(5) / per_machine(3));
    forecast_beside_line();
}
