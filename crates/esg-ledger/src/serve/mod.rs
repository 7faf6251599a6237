//! The ledger as a service: takes entries, serves the log, has it witnessed, verifies itself.

mod config;
mod http;
mod metrics;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use telemetry::Runtime;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

pub use self::config::Config;
use self::metrics::{Metrics, Watcher};
use crate::{
    batch::{self, Sender},
    checkpoint::Checkpoint,
    cli::read_factors,
    log::{self, Place, read_key},
    note::{Note, VerifierKey},
    verify,
    witness::client::{Asked, WitnessClient},
};

/// The log's latest checkpoint.
#[derive(Clone, Debug)]
pub struct Head {
    /// Size and root.
    pub checkpoint: Checkpoint,
    /// With its signatures.
    pub note: Note,
    /// When it was published first, µs since 1970.
    pub at_us: i64,
}

/// What the handlers share.
pub(crate) struct App {
    place: Place,
    key: VerifierKey,
    sender: Sender,
    head: watch::Receiver<Option<Head>>,
    metrics: Metrics,
}

/// µs since 1970.
pub fn now_us() -> i64 {
    i64::try_from(time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

/// Runs the service until `rt.shutdown`.
///
/// # Errors
/// The listener, the log or its key is not usable.
pub async fn run(config: Config, rt: Runtime) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.listen_addr)
        .await
        .with_context(|| format!("LISTEN_ADDR: cannot listen on {}", config.listen_addr))?;
    serve(config, listener, rt).await
}

/// As [`run`], on a listener that is there already.
///
/// # Errors
/// As [`run`].
pub async fn serve(config: Config, listener: TcpListener, rt: Runtime) -> anyhow::Result<()> {
    let place = config.place();
    if !place.state.join("tree.json").exists() {
        let factors = read_factors(config.factors_file.as_deref(), now_us())?;
        let key = log::init(&place, &config.origin, factors)?;
        tracing::info!(%key, "a new log was made");
    }
    let key = read_key(&place.key_file)?.verifier().clone();
    let metrics = Metrics::new(&rt.registry)?;
    let (head_tx, head) = watch::channel(None);
    let writable = Arc::new(AtomicBool::new(false));
    let watcher =
        Watcher { metrics: metrics.clone(), head: head_tx, writable: writable.clone(), clock: now_us, counted: None };
    let (sender, writer) = batch::start(place.clone(), config.policy()?, config.limits(), watcher, now_us)?;
    rt.readiness.register("log", move || {
        let open = writable.load(Ordering::Relaxed);
        async move { if open { Ok(()) } else { Err("the log is not open for writing".to_owned()) } }
    });
    let app = Arc::new(App {
        place: place.clone(),
        key: key.clone(),
        sender: sender.clone(),
        head: head.clone(),
        metrics: metrics.clone(),
    });
    let router = http::router(app, config.token()?, &rt.registry);
    tracing::info!(%key, dir = %place.dir.display(), listen = %listener.local_addr()?, "ledger is running");
    let age = tokio::spawn(age(head.clone(), metrics.clone(), rt.shutdown.clone()));
    let witness = tokio::spawn(witnessed(
        config.clone(),
        place.clone(),
        sender.clone(),
        head,
        metrics.clone(),
        rt.shutdown.clone(),
    ));
    let verifier = tokio::spawn(verified(*config.verify_interval, place, key, metrics, rt.shutdown.clone()));
    telemetry::http::serve(listener, router, rt.shutdown.clone(), *config.common.shutdown_grace).await?;
    age.await?;
    witness.await??;
    verifier.await?;
    // A connection that outlived the grace period may still hold a sender: the writer is told to end.
    let end = move || {
        sender.stop();
        writer.join()
    };
    tokio::task::spawn_blocking(end).await?.map_err(|_| anyhow::anyhow!("the writer died"))
}

async fn age(head: watch::Receiver<Option<Head>>, metrics: Metrics, shutdown: CancellationToken) {
    while !pause(Duration::from_secs(1), &shutdown).await {
        if let Some(head) = head.borrow().as_ref() {
            metrics.checkpoint_age.set((now_us() - head.at_us).max(0) as f64 / 1e6);
        }
    }
}

/// Waits; whether it is time to stop.
async fn pause(time: Duration, shutdown: &CancellationToken) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => false,
        () = shutdown.cancelled() => true,
    }
}

/// Has each new checkpoint cosigned, at most once an interval.
async fn witnessed(
    config: Config,
    place: Place,
    sender: Sender,
    mut head: watch::Receiver<Option<Head>>,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    if config.witness_url.is_empty() {
        return Ok(());
    }
    let http = telemetry::client::new(Duration::from_secs(5))?;
    let mut client = None;
    loop {
        if client.is_none() {
            match witness_key(&config, &place, &http).await {
                Ok(key) => client = Some(WitnessClient::new(http.clone(), &config.witness_url, key)),
                Err(why) => away(&metrics, &format!("{why:#}")),
            }
        }
        let latest = head.borrow_and_update().clone();
        let mut again = client.is_none() || latest.is_none();
        if let (Some(client), Some(latest)) = (&mut client, latest) {
            match client.ask(&place.dir, &latest.checkpoint, &latest.note).await {
                Asked::Cosigned(signature) => {
                    metrics.witness_up.set(1);
                    metrics.witness_disagrees.set(0);
                    metrics.witness_size.set(latest.checkpoint.size as i64);
                    sender.cosigned(latest.checkpoint.to_text(), signature);
                }
                Asked::Disagrees(why) => {
                    metrics.witness_up.set(1);
                    metrics.witness_disagrees.set(1);
                    tracing::error!(why, "the witness has seen another history of this log");
                    again = true;
                }
                Asked::Away(why) => {
                    away(&metrics, &why);
                    again = true;
                }
            }
        }
        if pause(*config.witness_interval, &shutdown).await {
            return Ok(());
        }
        if !again {
            tokio::select! {
                changed = head.changed() => changed?,
                () = shutdown.cancelled() => return Ok(()),
            }
        }
    }
}

fn away(metrics: &Metrics, why: &str) {
    metrics.witness_up.set(0);
    tracing::warn!(why, "the witness did not cosign");
}

/// The witness's key: configured, or remembered from the first time that it was asked.
async fn witness_key(config: &Config, place: &Place, http: &telemetry::client::Client) -> anyhow::Result<VerifierKey> {
    if let Some(key) = config.witness_key()? {
        return Ok(key);
    }
    let file = place.state.join("witness-key");
    if let Some(text) = crate::disk::read(&file)? {
        return Ok(String::from_utf8(text)?.parse()?);
    }
    let url = format!("{}/key", config.witness_url.trim_end_matches('/'));
    let key: VerifierKey = http.get(url).send().await?.text().await?.parse()?;
    place.disk.put(&[(file, format!("{key}\n").into_bytes())])?;
    tracing::info!(%key, "the witness's key is remembered from now on");
    Ok(key)
}

/// The most of one core that the log's own verification may take: one part of this many.
const SPARE: u32 = 50;
/// What failed is looked at once more after this time: a file that was replaced while it was read is whole then.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// Verifies the whole log from time to time: the alert on tampering must not wait for an auditor. A log
/// that takes long is verified less often.
async fn verified(every: Duration, place: Place, key: VerifierKey, metrics: Metrics, shutdown: CancellationToken) {
    if every.is_zero() {
        return;
    }
    let look = async || {
        let (place, key) = (place.clone(), key.clone());
        tokio::task::spawn_blocking(move || look(&place, &key)).await.ok()
    };
    loop {
        let begun = std::time::Instant::now();
        let mut report = look().await;
        let took = begun.elapsed();
        if report.as_ref().is_some_and(|r| !r.ok) {
            if pause(SECOND_LOOK.min(every), &shutdown).await {
                return;
            }
            report = look().await;
        }
        if let Some(report) = report {
            for finding in &report.failures {
                metrics.verify_failed(finding.kind);
            }
            metrics.verify_duration.set(took.as_secs_f64());
            metrics.verified_time.set(now_us() as f64 / 1e6);
            metrics.verified.set(i64::from(report.ok));
            if let Some(first) = report.failures.first() {
                let file = first.file.clone().unwrap_or_default();
                tracing::error!(
                    kind = first.kind.as_str(),
                    file,
                    index = first.index,
                    reason = first.message,
                    "the log does not verify"
                );
            }
        }
        // Who asks for it several times a second wants it whatever it costs.
        let rest = if every < Duration::from_secs(1) { every } else { every.max(took * SPARE) };
        if pause(rest, &shutdown).await {
            return;
        }
    }
}

/// One verification, against the checkpoint of the latest one that held: an older copy of the log in
/// its place is properly signed, too.
fn look(place: &Place, key: &VerifierKey) -> verify::Report {
    let trusted = place.state.join("verified-checkpoint");
    // After a change of keys it may be signed by the old one alone.
    let opens = |bytes: Vec<u8>| Checkpoint::open(&bytes, key).is_ok();
    let last = crate::disk::read(&trusted).ok().flatten().is_some_and(opens).then(|| trusted.clone());
    // Read before: it covers no more than what is verified now.
    let before = crate::disk::read(&place.dir.join("checkpoint"));
    let options = verify::Options { key: key.clone(), last, witnesses: Vec::new() };
    let report = verify::verify(&place.dir, &options);
    if let (true, Ok(Some(checkpoint))) = (report.ok, before)
        && let Err(error) = place.disk.put(&[(trusted, checkpoint)])
    {
        tracing::warn!(%error, "the verified checkpoint could not be kept");
    }
    report
}
