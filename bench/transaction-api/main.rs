//! Measures transaction-api against what it stands on, always two things in one run.
//!
//! See README.md beside this file. `cargo bench -p transaction-api` builds the real
//! program with optimisation and runs this.
#![allow(missing_docs, clippy::unwrap_used)]

mod load;
mod server;
mod sink;

use std::{process::Command, time::Duration};

use load::{Load, Report};
use server::{Database, Server};

const LIST: &str = "GET /transactions?limit=50 HTTP/1.1\r\nhost: bench\r\n\r\n";
const BODY: &str = r#"{"amount":1250,"currency":"EUR","description":"replacement bearings"}"#;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}: {value}")))
}

fn create() -> String {
    format!(
        "POST /transactions/create HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{BODY}",
        BODY.len()
    )
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// How a bench runs.
#[derive(Clone, Copy)]
struct Plan {
    connections: usize,
    time: Duration,
    rounds: usize,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    // `cargo test --benches` only wants to know that it builds and starts.
    if std::env::args().any(|arg| arg == "--test") || !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let plan = Plan {
        connections: setting("BENCH_CONNECTIONS", 16) as usize,
        time: Duration::from_secs(setting("BENCH_SECONDS", 10)),
        rounds: setting("BENCH_ROUNDS", 3) as usize,
    };
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || only == name;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "{} connections, {} rounds of {:?}, {cores} cores, load average before: {}",
        plan.connections,
        plan.rounds,
        plan.time,
        load_average()
    );
    let db = Database::create().await;
    println!("postgres: {}", db.describe().await);
    let sink = sink::start().await;
    let endpoint = format!("http://{sink}");
    if wanted("create") {
        create_against_pgbench(&db, plan, &endpoint).await;
    }
    if wanted("telemetry") {
        telemetry_on_against_off(&db, plan, &endpoint).await;
    }
    if wanted("parts") {
        telemetry_by_parts(&db, plan, &endpoint).await;
    }
    if wanted("list") {
        cached_list(&db, plan, &endpoint).await;
    }
    if wanted("memory") {
        memory(&db, plan, &endpoint).await;
    }
    println!("load average after: {}", load_average());
    db.drop().await;
}

fn show(what: &str, report: &Report) {
    println!(
        "  {what:<34} {:>9.0}/s  p50 {:>7.2} ms  p99 {:>7.2} ms  {:>6.1} µs cpu each",
        report.per_second,
        report.p50.as_secs_f64() * 1e3,
        report.p99.as_secs_f64() * 1e3,
        report.cpu_micros,
    );
}

/// `POST /transactions/create` without the gateway's wait, against pgbench with the same INSERT.
async fn create_against_pgbench(db: &Database, plan: Plan, endpoint: &str) {
    println!("\ncreate: POST /transactions/create ÷ pgbench INSERT (target ≥ 0.6)");
    let size = plan.connections.to_string();
    let server = Server::start(db, &[("DB_POOL_SIZE", &size), ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]).await;
    let request = create();
    server.load(&request, 201, plan.connections, Duration::from_secs(2)).await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let tps = pgbench(db, plan);
        println!("  {:<34} {tps:>9.0}/s", "pgbench");
        theirs.push(tps);
        let report = server.load(&request, 201, plan.connections, plan.time).await;
        show("create", &report);
        ours.push(report.per_second);
    }
    let (ours, theirs) = (median(ours), median(theirs));
    println!("  median {ours:.0}/s ÷ {theirs:.0}/s = {:.2}", ours / theirs);
}

/// The statement that the service sends, one row each, prepared, autocommit. Like the
/// service's, the ids of a client ascend.
const SCRIPT: &str = "\
\\set n :n + 1
\\set amount random(1, 1000000)
INSERT INTO transactions (id, amount_minor, currency, description, status, decline_reason)
VALUES ((lpad(to_hex(:run * 10000000000 + :client_id * 10000000 + :n), 32, '0'))::uuid,
        :amount, 'EUR', 'replacement bearings', 'approved', NULL)
ON CONFLICT (id) DO NOTHING RETURNING id, created_at;
";

fn pgbench(db: &Database, plan: Plan) -> f64 {
    static RUN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    let run = RUN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let script = std::env::temp_dir().join(format!("pgbench-{}.sql", std::process::id()));
    std::fs::write(&script, SCRIPT).unwrap();
    let output = Command::new("pgbench")
        .args(["-n", "-M", "prepared", "-j", "2", "-D", "n=0"])
        .args(["-D", &format!("run={run}")])
        .args(["-c", &plan.connections.to_string(), "-T", &plan.time.as_secs().to_string()])
        .arg("-f")
        .arg(&script)
        .arg(db.app_url())
        .output()
        .unwrap_or_else(|e| panic!("pgbench (of the Debian package postgresql-contrib): {e}"));
    let _ = std::fs::remove_file(&script);
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Everything on (all traces kept, logs, metrics, exported) against logs and traces off.
async fn telemetry_on_against_off(db: &Database, plan: Plan, endpoint: &str) {
    println!("\ntelemetry: create with it on ÷ off (target ≥ 0.9)");
    let on = Server::start(db, &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]).await;
    let off = Server::start(db, &[("OTEL_SDK_DISABLED", "true"), ("LOG_LEVEL", "off")]).await;
    let request = create();
    for server in [&on, &off] {
        server.load(&request, 201, plan.connections, Duration::from_secs(2)).await;
    }
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let report = off.load(&request, 201, plan.connections, plan.time).await;
        show("off", &report);
        without.push(report.per_second);
        let report = on.load(&request, 201, plan.connections, plan.time).await;
        show("on", &report);
        with.push(report.per_second);
    }
    let (with, without) = (median(with), median(without));
    println!("  median {with:.0}/s ÷ {without:.0}/s = {:.2}", with / without);
}

/// The processor time of one create with more and more of telemetry.
async fn telemetry_by_parts(db: &Database, plan: Plan, endpoint: &str) {
    println!("\nparts: what each part of telemetry costs a create");
    let settings: [(&str, &[(&str, &str)]); 4] = [
        ("off", &[("OTEL_SDK_DISABLED", "true"), ("LOG_LEVEL", "off")]),
        ("log lines", &[("OTEL_SDK_DISABLED", "true")]),
        ("log lines, spans not exported", &[]),
        ("all, exported", &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]),
    ];
    let mut servers = Vec::new();
    for (what, settings) in settings {
        let server = Server::start(db, settings).await;
        server.load(&create(), 201, plan.connections, Duration::from_secs(2)).await;
        servers.push((what, server));
    }
    for _ in 0..plan.rounds {
        for (what, server) in &servers {
            show(what, &server.load(&create(), 201, plan.connections, plan.time).await);
        }
    }
}

/// Lists from the cache by processor second of the service: what one core serves.
async fn cached_list(db: &Database, plan: Plan, endpoint: &str) {
    println!("\nlist: cached GET /transactions for each processor second of the service (target ≥ 20,000)");
    let off = Server::start(db, &[("OTEL_SDK_DISABLED", "true"), ("LOG_LEVEL", "off")]).await;
    let on = Server::start(db, &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]).await;
    for (what, server) in [("telemetry off", &off), ("telemetry on", &on)] {
        server.load(LIST, 200, plan.connections, Duration::from_secs(2)).await;
        let mut per_core = Vec::new();
        for _ in 0..plan.rounds {
            let report = server.load(LIST, 200, plan.connections, plan.time).await;
            show(what, &report);
            per_core.push(1e6 / report.cpu_micros);
        }
        println!("  median with {what}: {:.0}/s a core", median(per_core));
    }
}

/// Resident memory at rest and under load.
async fn memory(db: &Database, plan: Plan, endpoint: &str) {
    println!("\nmemory: resident (targets ≤ 40 MiB idle, ≤ 120 MiB under load)");
    let server = Server::start(db, &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("  idle {:.1} MiB", server.memory("VmRSS"));
    let request = create();
    let (a, b) =
        (server.load(&request, 201, plan.connections, plan.time), server.load(LIST, 200, plan.connections, plan.time));
    tokio::join!(a, b);
    println!(
        "  after {:?} of creates and lists {:.1} MiB, peak {:.1} MiB",
        plan.time,
        server.memory("VmRSS"),
        server.memory("VmHWM")
    );
}

impl Server {
    async fn load(&self, request: &str, status: u16, connections: usize, time: Duration) -> Report {
        let before = self.cpu_seconds();
        let mut report = Load { address: self.address, request, status, connections, time }.run().await;
        report.cpu_micros = (self.cpu_seconds() - before) / report.answers as f64 * 1e6;
        report
    }
}
