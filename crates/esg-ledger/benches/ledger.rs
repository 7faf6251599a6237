//! The ledger's figures, each beside its floor in the same run.
//!
//! `cargo bench -p esg-ledger`. `SIZES=1000,10000,100000,1000000` entries, `MACHINES=1000`,
//! `SECONDS=5` of durable appends, `DIR=.` a folder on the disk to be measured.

#![allow(clippy::unwrap_used)]

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::mpsc::sync_channel,
    time::{Duration, Instant},
};

use esg_ledger::{
    batch::{self, Limits},
    carbon,
    entry::Entry,
    ingest::Policy,
    log::{self, Log, Place},
    note::VerifierKey,
    testing::{self, START_US},
    verify::{Options, verify},
};

fn env<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn policy() -> Policy {
    Policy { max_age_us: i64::MAX / 4, max_ahead_us: i64::MAX / 4, machines: None }
}

fn percentile(sorted: &[Duration], p: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * p) as usize]
}

/// Memory that the process has had at most, KiB.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap_or_default().to_owned();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Processor time of this thread: what a busy machine does not distort.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0))
}

fn place(root: &Path, name: &str) -> (Place, VerifierKey) {
    let place = Place::beside(&root.join(name));
    let key = log::init(&place, "example.com/bench", carbon::built_in(START_US)).unwrap();
    (place, key)
}

/// The floor: the same bytes, appended to one file and synced, batch by batch.
fn plain(root: &Path, batch: usize, time: Duration) -> f64 {
    let entries: Vec<Vec<u8>> = testing::entries(batch + 1, 100).skip(1).collect();
    let mut file = File::create(root.join("plain")).unwrap();
    let (start, mut n) = (Instant::now(), 0u64);
    while start.elapsed() < time {
        for entry in &entries {
            file.write_all(entry).unwrap();
        }
        file.sync_all().unwrap();
        n += batch as u64;
    }
    n as f64 / start.elapsed().as_secs_f64()
}

/// The ledger: one batch after another, each acknowledged before the next.
fn batches(root: &Path, batch: usize, time: Duration) -> (f64, Vec<Duration>) {
    let (place, _) = place(root, &format!("batches-{batch}"));
    let mut log = Log::open(place).unwrap();
    let mut source = testing::entries(usize::MAX, 100).skip(1);
    let (mut n, mut taken, mut latencies) = (0u64, Duration::ZERO, Vec::new());
    while taken < time {
        let entries: Vec<Vec<u8>> = source.by_ref().take(batch).collect();
        let start = Instant::now();
        log.submit(&entries, &policy(), START_US).unwrap();
        latencies.push(start.elapsed());
        taken += start.elapsed();
        n += batch as u64;
    }
    latencies.sort();
    (n as f64 / taken.as_secs_f64(), latencies)
}

/// Many producers that send at a fixed rate, whether they are answered or not: how long an answer takes.
fn producers(root: &Path, rate: usize, time: Duration) -> (f64, Vec<Duration>) {
    const LINES: usize = 100;
    let (place, _) = place(root, &format!("producers-{rate}"));
    let limits = Limits { silence: Duration::MAX, waiting: 100_000, ..Limits::default() };
    let (sender, writer) = batch::start(place, policy(), limits, (), || START_US).unwrap();
    let (tx, rx) = sync_channel(1_000_000);
    let mut source = testing::entries(usize::MAX, 100).skip(1);
    let mut ready: VecDeque<Vec<Vec<u8>>> = VecDeque::new();
    let every = Duration::from_secs_f64(LINES as f64 / rate as f64);
    let start = Instant::now();
    let (mut due, mut sent) = (Duration::ZERO, 0u64);
    while due < time {
        while start.elapsed() < due {
            ready.push_back(source.by_ref().take(LINES).collect());
        }
        let lines = ready.pop_front().unwrap_or_else(|| source.by_ref().take(LINES).collect());
        let (tx, due_at) = (tx.clone(), start + due);
        sender
            .send(lines, move |answer| {
                answer.unwrap();
                tx.send(due_at.elapsed()).unwrap();
            })
            .unwrap();
        sent += LINES as u64;
        due += every;
    }
    drop((tx, sender));
    let mut latencies: Vec<Duration> = rx.iter().collect();
    let rate = sent as f64 / start.elapsed().as_secs_f64();
    writer.join().unwrap();
    latencies.sort();
    (rate, latencies)
}

fn verification(root: &Path, size: usize, machines: usize) {
    let (place, key) = place(root, &format!("verify-{size}"));
    let mut log = Log::open(place.clone()).unwrap();
    let mut source = testing::entries(size, machines).skip(1).peekable();
    let start = Instant::now();
    while source.peek().is_some() {
        let entries: Vec<Vec<u8>> = source.by_ref().take(20_000).collect();
        log.submit(&entries, &policy(), START_US).unwrap();
    }
    log.close().unwrap();
    let written = start.elapsed();
    let before = peak_kib();
    let (start, start_cpu) = (Instant::now(), cpu());
    let report = verify(&place.dir, &Options { key, last: None, witnesses: Vec::new() });
    let took = start.elapsed().as_secs_f64();
    let used = (cpu() - start_cpu).as_secs_f64();
    assert!(report.ok, "{:?}", report.failures);
    // The floor: only reading the same files and hashing their bytes once.
    let start_cpu = cpu();
    let mut bytes = 0;
    hash_all(&place.dir.join("tile/entries"), &mut bytes);
    let floor = (cpu() - start_cpu).as_secs_f64();
    println!(
        "| {size} | {:.0} | {took:.3} | {:.0} | {:.2} | {:.1} | {} | {:.1} |",
        size as f64 / written.as_secs_f64(),
        size as f64 / used,
        used / floor,
        bytes as f64 / 1e6,
        before,
        peak_kib() as f64 / before as f64,
    );
    fs::remove_dir_all(&place.dir).unwrap();
}

fn hash_all(folder: &Path, total: &mut usize) {
    for item in fs::read_dir(folder).unwrap() {
        let path: PathBuf = item.unwrap().path();
        if path.is_dir() {
            hash_all(&path, total);
        } else {
            let bytes = fs::read(path).unwrap();
            std::hint::black_box(esg_ledger::merkle::sha256(&bytes));
            *total += bytes.len();
        }
    }
}

fn main() {
    // `cargo test --benches` only asks whether it builds.
    if std::env::args().any(|a| a == "--test" || a == "--list") {
        return;
    }
    let root = tempfile::tempdir_in(env("DIR", ".".to_owned())).unwrap();
    let time = Duration::from_secs_f64(env("SECONDS", 5.0));
    let entry = Entry::Reading(testing::reading("machine-001", 1)).to_bytes();
    println!("one reading: {} bytes\n", entry.len());
    println!("| batch | ledger entries/s | p50 ms | p99 ms | plain file, same syncs: entries/s | ledger/plain |");
    println!("|---|---|---|---|---|---|");
    for batch in [1, 100, 1_000, 10_000] {
        let floor = plain(root.path(), batch, time / 2);
        let (rate, latencies) = batches(root.path(), batch, time);
        let ms = |p| percentile(&latencies, p).as_secs_f64() * 1e3;
        println!("| {batch} | {rate:.0} | {:.1} | {:.1} | {floor:.0} | {:.2} |", ms(0.5), ms(0.99), rate / floor);
    }
    println!("\n| sent entries/s | taken entries/s | p50 ms | p99 ms | worst ms |");
    println!("|---|---|---|---|---|");
    for rate in [2_000, 10_000, 15_000] {
        let (taken, latencies) = producers(root.path(), rate, time);
        let ms = |p| percentile(&latencies, p).as_secs_f64() * 1e3;
        println!("| {rate} | {taken:.0} | {:.1} | {:.1} | {:.1} |", ms(0.5), ms(0.99), ms(1.0));
    }
    println!(
        "\n| entries | written/s | verified in s | verified per s of processor | times reading + hashing only | MB | peak KiB before | peak after/before |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let sizes = env("SIZES", "1000,10000,100000,1000000".to_owned());
    for size in sizes.split(',').filter_map(|s| s.parse().ok()) {
        verification(root.path(), size, env("MACHINES", 1_000));
    }
}
