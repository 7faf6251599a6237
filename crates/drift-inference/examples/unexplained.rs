//! How often what features tell of each other is false, and how soon half a σ is seen: the table of `docs/drift.md`.
//!
//! `cargo run --release -p drift-inference --example unexplained -- LAKE…`, each a folder of
//! `telemetry-generator simulate --duration 192h --tick-interval 5s --seed N`. The first day is learned; every later day
//! is looked at as it is, and with half a σ added to one feature after another for half an hour.
#![allow(missing_docs)]

use std::{path::PathBuf, sync::Arc};

use drift_inference::{
    features::{Features, MEASURED, NAMES},
    pipeline::WATCH_US,
    profile::Moments,
    train::Dataset,
    unexplained::Unexplained,
};
use lake::{Lake, Settings, store::Backend};

const SECOND: i64 = 1_000_000;
const HALF_HOUR: i64 = 1_800 * SECOND;
const DAY: i64 = 86_400 * SECOND;
/// What comes after the learned day until it is frozen: the window that was begun, and the one for late readings.
const SETTLE: i64 = 3_600 * SECOND;
/// Of a σ.
const SHIFT: f64 = 0.5;

#[derive(Default)]
struct Tally {
    days: usize,
    false_days: [usize; MEASURED],
    tried: usize,
    seen: [usize; MEASURED],
    named: [usize; MEASURED],
    moved: [f64; MEASURED],
    after_seconds: [Vec<i64>; MEASURED],
}

/// The first feature that has moved, with the instant of that look, and all that have.
#[derive(Default)]
struct Found {
    first: Option<(i64, usize)>,
    all: [bool; MEASURED],
}

fn feed(u: &mut Unexplained, rows: &[(i64, Features)], change: Option<(usize, f64)>) -> Found {
    let mut found = Found::default();
    let mut looked = rows.first().map_or(0, |(ts, _)| *ts);
    for (ts, features) in rows {
        let mut features = *features;
        if let Some((feature, by)) = change {
            features.0[feature] += by;
        }
        u.add(*ts, &features);
        if ts - looked >= WATCH_US {
            looked = *ts;
            u.watch(*ts);
            if let Some(feature) = u.present().since.iter().position(Option::is_some) {
                found.first.get_or_insert((*ts, feature));
                found.all[feature] = true;
            }
        }
    }
    found
}

fn look(rows: &[(i64, Features)], tally: &mut Tally) {
    let Some((begin, end)) = rows.first().zip(rows.last()).map(|(a, b)| (a.0, b.0)) else { return };
    let until = |at: i64| rows.partition_point(|(ts, _)| *ts < at);
    let learned = begin + DAY + SETTLE;
    let mut moments = Moments::default();
    rows[..until(begin + DAY)].iter().for_each(|(_, f)| moments.add(f));
    let mut u = Unexplained::default();
    feed(&mut u, &rows[..until(learned)], None);
    assert_eq!(u.present().learned.to_bits(), 1.0f64.to_bits(), "the first day must be learned");
    let mut from = learned;
    while from + DAY <= end {
        for hour in [3, 9, 15, 21] {
            let at = from + hour * 3_600 * SECOND;
            let mut before = u.clone();
            feed(&mut before, &rows[until(from)..until(at)], None);
            tally.tried += 1;
            for feature in 0..MEASURED {
                let change = SHIFT * moments.deviation(feature);
                let mut now = before.clone();
                let shifted = &rows[until(at)..until(at + HALF_HOUR)];
                if let Some((ts, named)) = feed(&mut now, shifted, Some((feature, change))).first {
                    tally.seen[feature] += 1;
                    tally.after_seconds[feature].push((ts - at) / SECOND);
                    if named == feature {
                        tally.named[feature] += 1;
                        tally.moved[feature] += now.present().moved.map_or(f64::NAN, |m| m[feature]);
                    }
                }
            }
        }
        tally.days += 1;
        let found = feed(&mut u, &rows[until(from)..until(from + DAY)], None);
        tally.false_days.iter_mut().zip(found.all).for_each(|(days, found)| *days += usize::from(found));
        from += DAY;
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut tally = Tally::default();
    for folder in std::env::args_os().skip(1).map(PathBuf::from) {
        let lake = Lake::open(&Settings { backend: Backend::Folder(folder) }, Arc::new(()))?;
        let data = Dataset::load_reference(&lake, std::time::Duration::from_secs(120)).await?;
        let mut rows: Vec<(i64, Features)> = data.observed.iter().map(|o| (o.ts_us, o.features)).collect();
        rows.sort_by_key(|(ts, _)| *ts);
        look(&rows, &mut tally);
    }
    let percent = |hits: usize, of: usize| format!("{:.1} %", 100.0 * hits as f64 / of.max(1) as f64);
    println!("{} days of no change, {} shifts of {SHIFT} σ each\n", tally.days, tally.tried);
    println!(
        "| feature | days with a false alarm | seen within 30 min | half of them after | rightly named | its size |"
    );
    println!("|---|---|---|---|---|---|");
    for (i, feature) in NAMES[..MEASURED].iter().enumerate() {
        let after = &mut tally.after_seconds[i];
        after.sort_unstable();
        println!(
            "| {feature} | {} | {} | {} s | {} | {:.2} σ |",
            percent(tally.false_days[i], tally.days),
            percent(tally.seen[i], tally.tried),
            after.get(after.len() / 2).copied().unwrap_or_default(),
            percent(tally.named[i], tally.seen[i]),
            tally.moved[i] / tally.named[i].max(1) as f64
        );
    }
    Ok(())
}
