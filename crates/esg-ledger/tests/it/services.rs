//! The ledger and its witness over HTTP, in one process on ports of their own.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use esg_ledger::{
    entry::Entry,
    log::Place,
    note::{Algorithm, Note, SigningKey, VerifierKey},
    serve, testing,
    verify::{Options, verify},
    witness,
};
use telemetry::{Runtime, config::Service};
use tokio::{net::TcpListener, task::JoinHandle};

const TOKEN: &str = "a-token";

#[derive(Parser)]
#[command(args_override_self = true)]
struct LedgerArgs {
    #[command(flatten)]
    config: serve::Config,
}

#[derive(Parser)]
struct WitnessArgs {
    #[command(flatten)]
    config: witness::Config,
}

struct Running {
    url: String,
    rt: Runtime,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn stop(self) {
        self.rt.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    fn metric(&self, name: &str) -> f64 {
        let text = String::from_utf8(self.rt.registry.encode(None).1).unwrap();
        let value = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
    }
}

async fn ledger(dir: &std::path::Path, more: &[&str]) -> Running {
    let log = dir.join("log").display().to_string();
    let args = [
        &[
            "x",
            "--dir",
            &log,
            "--token",
            TOKEN,
            "--verify-interval",
            "0s",
            "--max-age",
            "36500days",
            "--max-ahead",
            "36500days",
            "--silence",
            "36500days",
            "--batch-window",
            "1ms",
            "--witness-interval",
            "20ms",
        ],
        more,
    ]
    .concat();
    let config = LedgerArgs::parse_from(args).config;
    config.validate().unwrap();
    let rt = Runtime::for_test();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(serve::serve(config, listener, rt.clone()));
    let running = Running { url, rt, task };
    until("the log is open", async || running.rt.readiness.check().await.ready).await;
    running
}

async fn witness(dir: &std::path::Path, log_key: &str, address: Option<std::net::SocketAddr>) -> Running {
    let folder = dir.join("witness").display().to_string();
    let config =
        WitnessArgs::parse_from(["x", "--dir", &folder, "--name", "example.com/w", "--log-key", log_key]).config;
    config.validate().unwrap();
    let rt = Runtime::for_test();
    let listener = TcpListener::bind(address.unwrap_or(([127, 0, 0, 1], 0).into())).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(witness::serve(config, listener, rt.clone()));
    Running { url, rt, task }
}

/// Waits for something that must come; how long it takes is not what is tested.
async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..1_500 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what} did not happen");
}

fn lines(machine: &str, range: std::ops::Range<i64>) -> String {
    range
        .map(|seq| String::from_utf8(Entry::Reading(testing::reading(machine, seq)).to_bytes()).unwrap() + "\n")
        .collect()
}

async fn post(url: &str, token: &str, body: String) -> (u16, serde_json::Value) {
    let client = reqwest::Client::new();
    let response = client.post(format!("{url}/v1/entries")).bearer_auth(token).body(body).send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

async fn get(url: String) -> (u16, Vec<u8>) {
    let response = reqwest::get(url).await.unwrap();
    (response.status().as_u16(), response.bytes().await.unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_go_in_by_token_and_the_log_comes_out_as_files() {
    let folder = tempfile::tempdir().unwrap();
    let running = ledger(folder.path(), &[]).await;
    let url = &running.url;
    assert_eq!(post(url, "wrong", lines("m", 0..1)).await.0, 401);
    assert_eq!(post(url, TOKEN, "\n".to_owned()).await.0, 400);
    let (status, answer) = post(url, TOKEN, lines("m", 0..300)).await;
    assert_eq!((status, answer["appended"].as_u64(), answer["last_index"].as_u64()), (200, Some(300), Some(300)));
    // Again, with one more, one of them broken: nothing twice, nothing lost.
    let (status, answer) = post(url, TOKEN, lines("m", 290..301) + "{\"x\": NaN}\n").await;
    assert_eq!((status, answer["appended"].as_u64(), answer["duplicates"].as_u64()), (200, Some(1), Some(10)));
    assert_eq!(answer["refused"][0]["line"], 12);
    assert!(answer["refused"][0]["detail"].as_str().unwrap().contains("NaN"), "{answer}");

    assert_eq!(running.metric("esg_ledger_tree_size_entries"), 302.0);
    assert_eq!(running.metric("esg_ledger_entries_total{outcome=\"duplicate\"}"), 10.0);
    assert_eq!(running.metric("esg_ledger_coverage_ratio"), 1.0);
    let (_, checkpoint) = get(format!("{url}/checkpoint")).await;
    let dir = folder.path().join("log");
    assert_eq!(checkpoint, std::fs::read(dir.join("checkpoint")).unwrap());
    for path in ["tile/0/000", "tile/0/001.p/46", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/46"] {
        let (status, bytes) = get(format!("{url}/{path}")).await;
        assert_eq!((status, bytes), (200, std::fs::read(dir.join(path)).unwrap()), "{path}");
    }
    for path in ["tile/0/001", "tile/0/001.p/47", "tile/entries/../../log.state/signing-key", "tile/0/000/", "tile/x"] {
        assert_eq!(get(format!("{url}/{path}")).await.0, 404, "{path}");
    }
    let key: VerifierKey = String::from_utf8(get(format!("{url}/key")).await.1).unwrap().parse().unwrap();
    running.stop().await;
    let report = verify(&dir, &Options { key, last: None, witnesses: Vec::new() });
    assert!(report.ok, "{:?}", report.failures);
    // It comes back with everything, and takes the next.
    let running = ledger(folder.path(), &[]).await;
    let (_, answer) = post(&running.url, TOKEN, lines("m", 300..302)).await;
    assert_eq!((answer["appended"].as_u64(), answer["duplicates"].as_u64()), (Some(1), Some(1)));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_witness_cosigns_what_continues_and_disagrees_with_a_rewritten_log() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::beside(&folder.path().join("log"));
    let first = ledger(folder.path(), &[]).await;
    let key = String::from_utf8(get(format!("{}/key", first.url)).await.1).unwrap().trim().to_owned();
    first.stop().await;
    let beginning = (crate::support::files(&place.dir), crate::support::files(&place.state));

    let w = witness(folder.path(), &key, None).await;
    let address = w.url.strip_prefix("http://").unwrap().parse().unwrap();
    let w_url = w.url.clone();
    let running = ledger(folder.path(), &["--witness-url", &w_url]).await;
    let w_key: VerifierKey = String::from_utf8(get(format!("{w_url}/key")).await.1).unwrap().parse().unwrap();
    assert_eq!(post(&running.url, TOKEN, lines("m", 0..20)).await.0, 200);
    let cosigned = async |url: &str, size: u64| {
        let (_, bytes) = get(format!("{url}/checkpoint")).await;
        let note = Note::parse(&bytes).unwrap();
        note.text().contains(&format!("\n{size}\n")) && note.verify(&w_key).is_ok()
    };
    until("the first cosignature", async || cosigned(&running.url, 21).await).await;
    // Without its witness the log goes on; when it is back, it cosigns what came meanwhile.
    w.stop().await;
    assert_eq!(post(&running.url, TOKEN, lines("m", 20..25)).await.0, 200);
    until("the witness is missed", async || running.metric("esg_ledger_witness_up") == 0.0).await;
    let w = witness(folder.path(), &key, Some(address)).await;
    until("the next cosignature", async || cosigned(&running.url, 26).await).await;
    assert_eq!(running.metric("esg_ledger_witness_disagrees"), 0.0);
    let options = Options { key: key.parse().unwrap(), last: None, witnesses: vec![w_key.clone()] };
    running.stop().await;
    assert!(verify(&place.dir, &options).ok);

    // The operator goes back to the beginning and writes another history with the same key.
    crate::support::restore(&place.dir, &beginning.0);
    crate::support::restore(&place.state, &beginning.1);
    let running = ledger(folder.path(), &["--witness-url", &w_url]).await;
    assert_eq!(post(&running.url, TOKEN, lines("other", 0..40)).await.0, 200);
    until("the witness disagrees", async || running.metric("esg_ledger_witness_disagrees") == 1.0).await;
    until("the witness has refused it", async || {
        w.metric("esg_witness_checkpoints_total{outcome=\"inconsistent\"}") >= 1.0
    })
    .await;
    assert_eq!(verify(&place.dir, &options).exit_code, 13);
    // What the witness has seen is still the honest log.
    let (status, seen) = get(format!("{w_url}/{}/checkpoint", hash(&options.key))).await;
    assert_eq!(status, 200);
    assert!(String::from_utf8(seen).unwrap().contains("\n26\n"));
    running.stop().await;
    w.stop().await;
}

fn hash(key: &VerifierKey) -> String {
    esg_ledger::carbon::hex(&esg_ledger::merkle::sha256(key.name().as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_found_by_the_service_itself() {
    let folder = tempfile::tempdir().unwrap();
    let running = ledger(folder.path(), &["--verify-interval", "50ms"]).await;
    assert_eq!(post(&running.url, TOKEN, lines("m", 0..300)).await.0, 200);
    until("a verification", async || running.metric("esg_ledger_verified") == 1.0).await;
    let bundle: PathBuf = folder.path().join("log/tile/entries/000");
    let good = std::fs::read(&bundle).unwrap();
    let mut bytes = good.clone();
    bytes[1_000] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    until("the damage is found", async || running.metric("esg_ledger_verified") == 0.0).await;
    assert!(running.metric("esg_ledger_verify_failures_total{kind=\"entry_altered\"}") >= 1.0);
    std::fs::write(&bundle, good).unwrap();
    until("it is whole again", async || running.metric("esg_ledger_verified") == 1.0).await;

    // An older checkpoint is properly signed, and yet not what was there before.
    let (checkpoint, trusted) = ("log/checkpoint", "log.state/verified-checkpoint");
    let older = std::fs::read(folder.path().join(checkpoint)).unwrap();
    assert_eq!(post(&running.url, TOKEN, lines("m", 300..310)).await.0, 200);
    let newer = std::fs::read(folder.path().join(checkpoint)).unwrap();
    until("that is trusted", async || std::fs::read(folder.path().join(trusted)).unwrap() == newer).await;
    std::fs::write(folder.path().join(checkpoint), older).unwrap();
    until("the older one is found", async || running.metric("esg_ledger_verified") == 0.0).await;
    assert!(running.metric("esg_ledger_verify_failures_total{kind=\"rolled_back\"}") >= 1.0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_asks_a_log_for_its_key_once() {
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let witness_url = format!("http://{free}");
    let running = ledger(folder.path(), &["--witness-url", &witness_url]).await;
    let dir = folder.path().join("witness");
    let args = ["x", "--dir", dir.to_str().unwrap(), "--name", "example.com/w", "--log-url", &running.url];
    let start = async || {
        let config = WitnessArgs::parse_from(args).config;
        config.validate().unwrap();
        let rt = Runtime::for_test();
        let listener = TcpListener::bind(free).await.unwrap();
        let task = tokio::spawn(witness::serve(config, listener, rt.clone()));
        // It answers once everything is there.
        assert_eq!(get(format!("{witness_url}/key")).await.0, 200);
        Running { url: witness_url.clone(), rt, task }
    };
    let (_, key) = get(format!("{}/key", running.url)).await;
    let w = start().await;
    until("the two have met", async || running.metric("esg_ledger_witness_up") == 1.0).await;
    w.stop().await;
    let key = String::from_utf8(key).unwrap();
    let remembered = std::fs::read_dir(&dir)
        .unwrap()
        .map(|f| f.unwrap().path())
        .find(|f| f.extension().is_some_and(|e| e == "log-key"));
    assert_eq!(std::fs::read_to_string(remembered.as_ref().unwrap()).unwrap(), key);

    // Whoever answers at that address later is not asked any more: the log of this key is the one.
    let other = SigningKey::from_seed("example.com/other", Algorithm::Ed25519, [7; 32]).unwrap().verifier().to_string();
    let w = start().await;
    assert_eq!(post(&running.url, TOKEN, lines("m", 0..5)).await.0, 200);
    until("it cosigns as before", async || w.metric("esg_witness_tree_size_entries") == 6.0).await;
    w.stop().await;
    std::fs::write(remembered.as_ref().unwrap(), other).unwrap();
    let w = start().await;
    assert_eq!(post(&running.url, TOKEN, lines("m", 5..6)).await.0, 200);
    until("another log is not the one that it knows", async || {
        w.metric("esg_witness_checkpoints_total{outcome=\"unknown_log\"}") >= 1.0
    })
    .await;
    w.stop().await;
    std::fs::write(remembered.unwrap(), "half").unwrap();
    let refused = witness::Witness::open(&dir, "x", Vec::new()).unwrap().recall(&running.url).unwrap_err();
    assert!(refused.to_string().contains("not a verifier key"), "{refused}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_machine_has_a_gap_on_record() {
    let folder = tempfile::tempdir().unwrap();
    let running = ledger(folder.path(), &["--silence", "1s", "--heartbeat", "1s"]).await;
    // The reading is weeks old by the clock of any test run: silence follows at once, if it is in the past.
    let mut reading = testing::reading("m", 0);
    let start = serve::now_us() - 60_000_000;
    (reading.start_us, reading.end_us) = (start, start + 1_000_000);
    let line = String::from_utf8(Entry::Reading(reading).to_bytes()).unwrap();
    assert_eq!(post(&running.url, TOKEN, line).await.0, 200);
    until("the gap is open", async || {
        running.metric("esg_ledger_gaps_open") == 1.0 && running.metric("esg_ledger_coverage_ratio") < 0.1
    })
    .await;
    running.stop().await;
    let text = std::fs::read_dir(folder.path().join("log/tile/entries/000.p")).unwrap().count();
    assert!(text > 0);
}
