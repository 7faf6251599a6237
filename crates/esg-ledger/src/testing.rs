//! Readings for tests and benchmarks: plausible, deterministic, one second each.

use std::{borrow::Cow, sync::LazyLock};

use crate::{
    carbon,
    entry::{Basis, Entry, Reading},
};

/// 2026-10-01T00:00:00Z: when these readings start.
pub const START_US: i64 = 1_790_812_800_000_000;

static TABLE: LazyLock<String> = LazyLock::new(|| carbon::built_in(START_US).table_sha256.into_owned());

/// The `seq`-th reading of a machine that draws 1 kW: one second from `START_US + seq` s.
pub fn reading(machine: &str, seq: i64) -> Reading<'static> {
    let set = carbon::built_in(START_US);
    let factor = carbon::find(&set, Basis::Location, "default", START_US).map(|f| carbon::quote(f, &TABLE));
    let mut reading = Reading {
        boot_id: Cow::Borrowed("boot-1"),
        energy_mj: 1_000_000,
        factor: factor.unwrap_or_default(),
        end_us: START_US + (seq + 1) * 1_000_000,
        start_us: START_US + seq * 1_000_000,
        line: Cow::Borrowed("line-1"),
        machine_id: Cow::Owned(machine.to_owned()),
        meter_mj: (seq + 1) * 1_000_000,
        region: Cow::Borrowed("default"),
        seq,
        site: Cow::Borrowed("site-1"),
        ..Reading::default()
    };
    reading.compute();
    reading
}

/// A log's first `n` entries: the factors, then readings of `machines` machines in turn.
pub fn entries(n: usize, machines: usize) -> impl Iterator<Item = Vec<u8>> {
    let first = Entry::FactorSet(carbon::built_in(START_US)).to_bytes();
    // Each machine's entry is built once; only the numbers change from second to second.
    let mut templates: Vec<Reading<'static>> = (0..machines).map(|m| reading(&format!("machine-{m:03}"), 0)).collect();
    let readings = (0..).map(move |i: usize| {
        let r = &mut templates[i % machines];
        let seq = (i / machines) as i64;
        (r.seq, r.start_us, r.end_us) = (seq, START_US + seq * 1_000_000, START_US + (seq + 1) * 1_000_000);
        r.meter_mj = (seq + 1) * 1_000_000;
        Entry::Reading(r.clone()).to_bytes()
    });
    std::iter::once(first).chain(readings).take(n)
}
