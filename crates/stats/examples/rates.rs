//! How often verdicts are false, and how often they see a change: the tables of `docs/drift.md`.
//!
//! `cargo run --release -p stats --example rates [REPETITIONS]`; 1,000 by default.
#![allow(missing_docs)]

use std::collections::VecDeque;

use stats::{
    calibrate::{block_line, lag_one, thinning},
    cells::Binning,
    compare::{Current, FeatureDrift, Options, compare, judge},
    persistence::Persistence,
    profile::{Categories, Histogram, Kind, Numbers, Reference, Summary},
};

/// Standard normal numbers, the same every time.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn normals(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.normal()).collect()
    }

    /// Stationary AR(1) with unit variance.
    fn ar1(&mut self, phi: f64, n: usize) -> Vec<f64> {
        let mut x = self.normal();
        let scale = (1.0 - phi * phi).sqrt();
        (0..n)
            .map(|_| {
                x = phi * x + scale * self.normal();
                x
            })
            .collect()
    }
}

fn freeze(rows: &[f64]) -> Reference {
    let mut numbers = Numbers::new(1 << 18);
    rows.iter().for_each(|x| numbers.add(*x));
    Reference::freeze("x", Kind::Number, Summary::Numbers(numbers))
}

fn verdict(reference: &Reference, rows: &[f64]) -> FeatureDrift {
    let options = Options::default();
    let mut current = Current::new(reference, Binning::Deciles, 1 << 18);
    rows.iter().for_each(|x| current.number(*x));
    let mut drift = compare(reference, &current, &options);
    judge(&mut [&mut drift], &options);
    drift
}

fn percent(hits: usize, of: usize) -> String {
    format!("{:.1} %", 100.0 * hits as f64 / of as f64)
}

fn independent(repetitions: usize, noise: &mut Noise) {
    println!("| N | M | PSI ≥ 0.1 | PSI ≥ χ² critical | KS p < 0.05 | our verdict |\n|---|---|---|---|---|---|");
    for (n, m) in [
        (100, 100),
        (1_000, 100),
        (1_000, 1_000),
        (10_000, 100),
        (10_000, 1_000),
        (10_000, 10_000),
        (100_000, 1_000),
        (100_000, 10_000),
        (100_000, 100_000),
    ] {
        let of = repetitions;
        let mut hits = [0; 4];
        for _ in 0..of {
            let drift = verdict(&freeze(&noise.normals(n)), &noise.normals(m));
            let psi = drift.psi.unwrap_or(0.0);
            hits[0] += usize::from(psi >= 0.1);
            hits[1] += usize::from(psi >= drift.psi_critical.unwrap_or(f64::INFINITY));
            hits[2] += usize::from(drift.ks.is_some_and(|k| k.p < 0.05));
            hits[3] += usize::from(drift.drifted == Some(true));
        }
        let [a, b, c, d] = hits.map(|h| percent(h, of));
        println!("| {n} | {m} | {a} | {b} | {c} | {d} |");
    }
}

fn autocorrelated(repetitions: usize, noise: &mut Noise) {
    println!(
        "\n| φ | N | M | KS p < 0.05 | PSI ≥ χ² critical | our verdict | PSI ≥ its blocks' 95 % | thinned: KS p < 0.05 |\n|---|---|---|---|---|---|---|---|"
    );
    let sizes = [(0.0, 40_000, 300), (0.5, 40_000, 300), (0.9, 40_000, 300), (0.98, 40_000, 300)];
    let more =
        [(0.9, 4_000, 100), (0.9, 40_000, 1_000), (0.9, 100_000, 100), (0.9, 100_000, 1_000), (0.9, 100_000, 5_000)];
    for (phi, n, m) in sizes.into_iter().chain(more) {
        let mut hits = [0; 5];
        let mut of = 0;
        // Each reference is looked at from twenty windows.
        for _ in 0..repetitions.div_ceil(20) {
            let rows = noise.ar1(phi, n);
            let reference = freeze(&rows);
            let Some(histogram) = reference.deciles.as_ref() else { continue };
            let Some(line) = block_line(&rows, histogram, m, 0.95) else { continue };
            let step = thinning(lag_one(&rows).unwrap_or(0.0));
            let thin = |rows: &[f64]| rows.iter().copied().step_by(step).collect::<Vec<_>>();
            let thinned = freeze(&thin(&rows));
            for _ in 0..20 {
                of += 1;
                let now = noise.ar1(phi, m);
                let drift = verdict(&reference, &now);
                let psi = drift.psi.unwrap_or(0.0);
                hits[0] += usize::from(drift.ks.is_some_and(|k| k.p < 0.05));
                hits[1] += usize::from(psi >= drift.psi_critical.unwrap_or(f64::INFINITY));
                hits[2] += usize::from(drift.drifted == Some(true));
                hits[3] += usize::from(psi > line.psi);
                hits[4] += usize::from(verdict(&thinned, &thin(&now)).ks.is_some_and(|k| k.p < 0.05));
            }
        }
        let [a, b, c, d, e] = hits.map(|h| percent(h, of));
        println!("| {phi} | {n} | {m} | {a} | {b} | {c} | {d} | {e} |");
    }
}

type Change = fn(&mut Noise) -> f64;

/// Readings a second of a few alike machines, looked at every so often, as the service does.
mod day {
    pub const MACHINES: usize = 5;
    /// Readings of a look's window, s.
    pub const WINDOW: usize = 1_200;
    /// Between looks, s.
    pub const LOOK: usize = 30;
    pub const DAY: usize = 86_400;
    /// Days that the line is taken from, and how far above them it is.
    pub const REFERENCE: usize = 7;
    pub const MARGIN: f64 = 1.25;
}

/// Seconds of readings until three of five looks are above the line; `None` if that does not come.
fn alarm(reference: &Histogram, line: f64, mut reading: impl FnMut(usize) -> [f64; day::MACHINES]) -> Option<usize> {
    let mut parts: VecDeque<Vec<u64>> = VecDeque::new();
    let mut persistence = Persistence::new(3, 5);
    let mut now = Histogram::new(reference.cells.clone());
    for look in 0..(day::DAY + day::WINDOW) / day::LOOK {
        let mut part = Histogram::new(reference.cells.clone());
        for second in 0..day::LOOK {
            reading(look * day::LOOK + second).iter().for_each(|x| part.add(*x));
        }
        now.counts.iter_mut().zip(&part.counts).for_each(|(sum, new)| *sum += new);
        parts.push_back(part.counts);
        if parts.len() > day::WINDOW / day::LOOK
            && let Some(old) = parts.pop_front()
        {
            now.counts.iter_mut().zip(old).for_each(|(sum, old)| *sum -= old);
        }
        let full = parts.len() == day::WINDOW / day::LOOK;
        let psi = stats::distance::psi(&reference.counts, &now.counts, 0.95).map_or(0.0, |p| p.value);
        if full && persistence.observe(psi > line) {
            return Some((look + 1) * day::LOOK);
        }
    }
    None
}

/// False alarms a day of a feature, and how soon a shift is seen, by a line that the reference's own windows give.
fn days(repetitions: usize, noise: &mut Noise) {
    println!(
        "\n| φ | line | days with a false alarm | 0.5 σ seen within 30 min | half of them after |\n|---|---|---|---|---|"
    );
    for phi in [0.0f64, 0.5, 0.9, 0.98] {
        let scale = (1.0 - phi * phi).sqrt();
        let step = |x: &mut [f64; day::MACHINES], noise: &mut Noise| {
            x.iter_mut().for_each(|x| *x = phi * *x + scale * noise.normal());
            *x
        };
        let start = |noise: &mut Noise| [(); day::MACHINES].map(|()| noise.normal());
        let (mut false_alarms, mut seen, mut lines, mut of) = (0, Vec::new(), 0.0, 0);
        // Each reference is looked at from twenty days.
        for _ in 0..repetitions.div_ceil(20) {
            let mut x = start(noise);
            let rows: Vec<f64> = (0..day::REFERENCE * day::DAY).flat_map(|_| step(&mut x, noise)).collect();
            let Some(histogram) = freeze(&rows).deciles else { continue };
            let Some(largest) = block_line(&rows, &histogram, day::WINDOW * day::MACHINES, 1.0) else { continue };
            let line = day::MARGIN * largest.psi;
            lines += line;
            for _ in 0..20 {
                of += 1;
                let mut x = start(noise);
                false_alarms += usize::from(alarm(&histogram, line, |_| step(&mut x, noise)).is_some());
                let mut x = start(noise);
                let shifted = alarm(&histogram, line, |second| {
                    step(&mut x, noise).map(|x| if second < day::WINDOW { x } else { x + 0.5 })
                });
                seen.extend(shifted.and_then(|at| at.checked_sub(day::WINDOW)));
            }
        }
        seen.sort_unstable();
        println!(
            "| {phi} | {:.4} | {} | {} | {} s |",
            lines / (of / 20).max(1) as f64,
            percent(false_alarms, of),
            percent(seen.iter().filter(|at| **at <= 1_800).count(), of),
            seen.get(seen.len() / 2).copied().unwrap_or(day::DAY)
        );
    }
}

fn power(repetitions: usize, noise: &mut Noise) {
    let changes: [(&str, Change); 9] = [
        ("none", |n| n.normal()),
        ("mean + 0.1 σ", |n| n.normal() + 0.1),
        ("mean + 0.25 σ", |n| n.normal() + 0.25),
        ("mean + 0.5 σ", |n| n.normal() + 0.5),
        ("σ × 1.5", |n| n.normal() * 1.5),
        ("same mean and σ, exponential", |n| -n.uniform().ln() - 1.0),
        ("same mean and σ, two humps", |n| if n.uniform() < 0.5 { 0.8 } else { -0.8 } + 0.6 * n.normal()),
        ("5 % missing", |n| if n.uniform() < 0.05 { f64::NAN } else { n.normal() }),
        ("20 % missing", |n| if n.uniform() < 0.2 { f64::NAN } else { n.normal() }),
    ];
    let reference = freeze(&noise.normals(20_000));
    println!("\n| change | M = 100 | M = 300 | M = 1,000 | M = 10,000 |\n|---|---|---|---|---|");
    for (name, draw) in changes {
        let seen = [100, 300, 1_000, 10_000].map(|m| {
            let of = repetitions;
            let drifted = |_: &usize| {
                let rows: Vec<f64> = (0..m).map(|_| draw(noise)).collect();
                verdict(&reference, &rows).drifted == Some(true)
            };
            percent((0..of).filter(drifted).count(), of)
        });
        println!("| {name} | {} |", seen.join(" | "));
    }
}

/// A column of four categories, of which the rarest may become more frequent, or a new one come.
fn categories(repetitions: usize, noise: &mut Noise) {
    const BEFORE: [f64; 5] = [0.4, 0.3, 0.2, 0.1, 0.0];
    let draw = |noise: &mut Noise, shares: [f64; 5], m: usize, take: &mut dyn FnMut(&str)| {
        for _ in 0..m {
            let mut rest = noise.uniform();
            let at = shares.iter().position(|share| {
                rest -= share;
                rest < 0.0
            });
            take(["a", "b", "c", "d", "new"][at.unwrap_or(0)]);
        }
    };
    let options = Options::default();
    let mut summary = Categories::default();
    draw(noise, BEFORE, 20_000, &mut |c| summary.add(c));
    let reference = Reference::freeze("c", Kind::Text, Summary::Categories(summary));
    println!("\n| categories | M = 100 | M = 300 | M = 1,000 | M = 10,000 |\n|---|---|---|---|---|");
    for (name, shares) in [
        ("none", BEFORE),
        ("d from 10 to 15 %", [0.35, 0.3, 0.2, 0.15, 0.0]),
        ("d from 10 to 25 %", [0.25, 0.3, 0.2, 0.25, 0.0]),
        ("a new one with 5 %", [0.35, 0.3, 0.2, 0.1, 0.05]),
    ] {
        let seen = [100, 300, 1_000, 10_000].map(|m| {
            let drifted = |_: &usize| {
                let mut current = Current::new(&reference, Binning::Deciles, 16);
                draw(noise, shares, m, &mut |c| current.category(c));
                let mut drift = compare(&reference, &current, &options);
                judge(&mut [&mut drift], &options);
                drift.drifted == Some(true)
            };
            percent((0..repetitions).filter(drifted).count(), repetitions)
        });
        println!("| {name} | {} |", seen.join(" | "));
    }
}

fn outlier(noise: &mut Noise) {
    println!("\n| reference of 5,000 | deciles | ten cells of one width |\n|---|---|---|");
    let clean = noise.normals(5_000);
    let now: Vec<f64> = noise.normals(5_000).into_iter().map(|x| x + 0.5).collect();
    for (name, rows) in [("clean", clean.clone()), ("with one value of 10⁴", [clean, vec![1e4]].concat())] {
        let reference = freeze(&rows);
        let psi = [Binning::Deciles, Binning::EqualWidth].map(|binning| {
            let counts = |h: &Histogram| {
                let mut h = Histogram::new(h.cells.clone());
                now.iter().for_each(|x| h.add(*x));
                h.counts
            };
            let value = reference
                .histogram(binning)
                .and_then(|h| stats::distance::psi(&h.counts, &counts(h), 0.95))
                .map_or(f64::NAN, |p| p.value);
            format!("{value:.5}")
        });
        println!("| {name} | {} |", psi.join(" | "));
    }
}

fn main() {
    let repetitions = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let mut noise = Noise(0x5DEE_CE66_D123_4567);
    println!("{repetitions} repetitions\n");
    independent(repetitions, &mut noise);
    autocorrelated(repetitions, &mut noise);
    power(repetitions, &mut noise);
    categories(repetitions, &mut noise);
    outlier(&mut noise);
    days(repetitions, &mut noise);
}
