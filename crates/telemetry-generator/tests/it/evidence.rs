//! What the meters say reaches the ledger, whatever is killed meanwhile: real processes, a real ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    process::{Child, Command},
    time::{Duration, Instant},
};

use clap::Parser;
use esg_ledger::{
    dir::LogDir,
    entry::{DeclaredBy, Entry},
    serve,
    verify::{Options, verify},
};
use telemetry::{Runtime, config::Service};
use tokio::{net::TcpListener, task::JoinHandle};

const TOKEN: &str = "ledger-token";

/// A generator of its own, whose state is under `dir`.
struct Generator(Child);

impl Generator {
    fn start(dir: &Path, ledger: SocketAddr) -> Self {
        let (lake, state) = (dir.join("lake"), dir.join("state"));
        let child = Command::new(env!("CARGO_BIN_EXE_telemetry-generator"))
            .env_clear()
            .args(["--listen-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--machines", "3"])
            .args(["--tick-interval", "50ms", "--write-interval", "200ms", "--ledger-interval", "200ms"])
            .args(["--lake-access-key", "a", "--lake-secret-key", "b", "--ledger-token", TOKEN])
            .args(["--ledger-url", &format!("http://{ledger}")])
            .arg("--lake-dir")
            .arg(lake)
            .arg("--state-dir")
            .arg(state)
            .stdout(std::fs::File::options().create(true).append(true).open(dir.join("generator.log")).unwrap())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// SIGKILL: it writes down nothing more.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn stop(mut self) {
        let ended = Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        assert!(ended.success() && self.0.wait().unwrap().success());
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Parser)]
struct LedgerArgs {
    #[command(flatten)]
    config: serve::Config,
}

struct Ledger {
    rt: Runtime,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Ledger {
    async fn start(dir: &Path, address: SocketAddr) -> Self {
        let log = dir.join("log").display().to_string();
        let args = ["x", "--dir", &log, "--token", TOKEN, "--verify-interval", "0s", "--batch-window", "1ms"];
        let config = LedgerArgs::parse_from(args).config;
        config.validate().unwrap();
        let rt = Runtime::for_test();
        let listener = TcpListener::bind(address).await.unwrap();
        let task = tokio::spawn(serve::serve(config, listener, rt.clone()));
        Self { rt, task }
    }

    async fn stop(self) -> BTreeMap<String, f64> {
        self.rt.shutdown.cancel();
        self.task.await.unwrap().unwrap();
        let text = String::from_utf8(self.rt.registry.encode(None).1).unwrap();
        let samples = text.lines().filter_map(|l| l.rsplit_once(' '));
        samples.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }
}

/// Entries of the log as it is on the disk.
fn entries(dir: &Path) -> Vec<Vec<u8>> {
    let log = dir.join("log");
    let Ok((checkpoint, _)) = esg_ledger::scan::checkpoint(&log, None) else { return Vec::new() };
    let log = LogDir::new(&log, checkpoint.size);
    (0..checkpoint.size).map_while(|index| log.entry(index).ok()).collect()
}

/// Sequence numbers by run and machine.
fn sequences(entries: &[Vec<u8>]) -> BTreeMap<(String, String), Vec<i64>> {
    let mut found: BTreeMap<_, Vec<i64>> = BTreeMap::new();
    for bytes in entries {
        if let Ok(Entry::Reading(r)) = Entry::parse(bytes) {
            found.entry((r.boot_id.to_string(), r.machine_id.to_string())).or_default().push(r.seq);
        }
    }
    found
}

async fn until(dir: &Path, what: &str, mut check: impl FnMut() -> bool) {
    let started = Instant::now();
    while !check() {
        let log = || std::fs::read_to_string(dir.join("generator.log")).unwrap_or_default();
        assert!(started.elapsed() < Duration::from_secs(60), "{what} did not happen\n{}", log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn queued(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("state/ledger-queue")).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_killed_generator_nor_a_ledger_that_is_away_loses_an_entry() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let ledger = Ledger::start(dir, address).await;
    let first = Generator::start(dir, address);
    until(dir, "entries of the first run", || sequences(&entries(dir)).values().any(|s| s.len() >= 4)).await;
    first.kill();
    ledger.stop().await;

    // The ledger is away: a second run is killed with entries in its queue, a third goes on.
    let second = Generator::start(dir, address);
    until(dir, "a queue", || queued(dir) >= 3).await;
    second.kill();
    let waiting = queued(dir);
    let third = Generator::start(dir, address);
    until(dir, "a longer queue", || queued(dir) >= waiting + 2).await;

    let ledger = Ledger::start(dir, address).await;
    until(dir, "the queue to be drained", || queued(dir) == 0 && sequences(&entries(dir)).len() == 9).await;
    third.stop();
    assert_eq!(queued(dir), 0, "the last intervals were handed over, too");
    let counted = ledger.stop().await;
    assert_eq!(counted["esg_ledger_entries_total{outcome=\"refused\"}"], 0.0);

    let key = std::fs::read_to_string(dir.join("log.state/verifier-key")).unwrap().trim().parse().unwrap();
    let report = verify(&dir.join("log"), &Options { key, last: None, witnesses: Vec::new() });
    assert!(report.ok, "{:?}", report.failures);
    let entries = entries(dir);
    for (run, seqs) in sequences(&entries) {
        assert_eq!(seqs, (1..=seqs.len() as i64).collect::<Vec<_>>(), "{run:?}");
    }
    // What the ledger itself missed is what the two kills took.
    let mut ledgers = BTreeSet::new();
    for bytes in &entries {
        if let Ok(Entry::GapOpen(gap)) = Entry::parse(bytes)
            && gap.declared_by == DeclaredBy::Ledger
        {
            assert!(matches!(&*gap.reason, "restart" | "silent"), "{}", gap.reason);
            ledgers.insert((gap.machine_id.to_string(), gap.from_us));
        }
    }
    assert_eq!(ledgers.len(), 6, "{ledgers:?}");
}
