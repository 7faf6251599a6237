//! The witness: a second process with its own key and its own memory of what it has seen.
//!
//! A lone signer can rewrite its log and sign again. The witness cosigns a checkpoint only if
//! it continues the one that it cosigned before, and keeps that on a volume of its own.

pub mod client;
pub mod decide;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context;
use axum::{
    Router,
    body::Bytes,
    extract::{self, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use prometheus::{IntCounterVec, IntGauge};
use telemetry::{
    Runtime,
    config::{Common, ConfigError, Service},
    metrics::HttpMetrics,
    problem::Problem,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::decide::{Refusal, Request, decide};
use crate::{
    carbon::hex,
    checkpoint::Checkpoint,
    cli::read_verifier,
    disk::{self, Disk},
    log::{read_key, write_key},
    merkle::sha256,
    note::{Algorithm, Note, SigningKey, VerifierKey},
};

/// A checkpoint with all its signatures is far smaller.
const BODY_LIMIT: usize = 256 * 1024;

/// Configuration of the witness.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// What all services share.
    #[command(flatten)]
    pub common: Common,
    /// Listener for the witness protocol.
    #[arg(long, env = "WITNESS_LISTEN_ADDR", default_value = "0.0.0.0:8012")]
    pub listen_addr: SocketAddr,
    /// Folder for the key and for what was cosigned; a volume of its own.
    #[arg(long, env = "WITNESS_DIR", default_value = "/var/lib/esg-witness")]
    pub dir: PathBuf,
    /// Name of the witness, used when the key is made.
    #[arg(long, env = "WITNESS_NAME", default_value = "esg-witness")]
    pub name: String,
    /// Verifier keys of the logs that it watches: the keys themselves, or files that hold them.
    #[arg(long, env = "WITNESS_LOG_KEYS", value_delimiter = ',')]
    pub log_key: Vec<String>,
    /// Addresses of logs whose key is asked for once, and remembered for ever.
    #[arg(long, env = "WITNESS_LOG_URLS", value_delimiter = ',')]
    pub log_url: Vec<String>,
}

impl Config {
    fn keys(&self) -> Result<Vec<VerifierKey>, ConfigError> {
        let read = |k: &String| read_verifier(k).map_err(|e| ConfigError::new("WITNESS_LOG_KEYS", e));
        self.log_key.iter().filter(|k| !k.is_empty()).map(read).collect()
    }

    fn urls(&self) -> Vec<String> {
        self.log_url
            .iter()
            .map(|url| url.trim().trim_end_matches('/').to_owned())
            .filter(|url| !url.is_empty())
            .collect()
    }
}

impl Service for Config {
    fn common(&self) -> &Common {
        &self.common
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if self.keys()?.is_empty() && self.urls().is_empty() {
            return Err(ConfigError::new("WITNESS_LOG_KEYS", "neither a key here nor an address in WITNESS_LOG_URLS"));
        }
        match self.urls().iter().find(|url| !url.starts_with("http://")) {
            Some(url) => Err(ConfigError::new("WITNESS_LOG_URLS", format!("{url:?} does not start with http://"))),
            None => Ok(()),
        }
    }
}

/// What the witness counts.
#[derive(Clone)]
pub struct Metrics {
    http: HttpMetrics,
    requests: IntCounterVec,
    size: IntGauge,
}

/// Outcomes of a request, as a label.
const OUTCOMES: [&str; 6] = ["cosigned", "bad_request", "forbidden", "unknown_log", "conflict", "inconsistent"];

impl Metrics {
    fn new(registry: &telemetry::metrics::Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            http: HttpMetrics::new(registry)?,
            requests: registry.counter_vec(
                "esg_witness_checkpoints_total",
                "Checkpoints that were submitted, by what the witness answered.",
                &["outcome"],
            )?,
            size: registry.int_gauge("esg_witness_tree_size_entries", "Entries in the tree that was cosigned last.")?,
        };
        OUTCOMES.iter().for_each(|o| metrics.requests.with_label_values(&[o]).inc_by(0));
        Ok(metrics)
    }
}

/// The witness's memory and key.
pub struct Witness {
    dir: PathBuf,
    key: SigningKey,
    logs: RwLock<Vec<VerifierKey>>,
    disk: Disk,
    /// Checking against the latest and writing the next must be one step.
    turn: Mutex<()>,
}

impl Witness {
    /// Opens the folder; makes a key if there is none.
    ///
    /// # Errors
    /// The folder or the key is not usable.
    pub fn open(dir: &Path, name: &str, logs: Vec<VerifierKey>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let path = dir.join("signing-key");
        let key = if path.exists() { read_key(&path)? } else { write_key(&path, name, Algorithm::CosignatureV1)? };
        anyhow::ensure!(
            key.verifier().algorithm() == Algorithm::CosignatureV1,
            "{}: not a witness's key",
            path.display()
        );
        let disk = Disk::default();
        disk.put(&[(dir.join("verifier-key"), format!("{}\n", key.verifier()).into_bytes())])?;
        Ok(Self { dir: dir.to_owned(), key, logs: RwLock::new(logs), disk, turn: Mutex::new(()) })
    }

    fn logs(&self) -> Vec<VerifierKey> {
        self.logs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn watch(&self, key: VerifierKey) {
        self.logs.write().unwrap_or_else(PoisonError::into_inner).push(key);
    }

    /// Where the key that an address gave is remembered.
    fn remembered(&self, url: &str) -> PathBuf {
        self.dir.join(format!("{}.log-key", hex(&sha256(url.as_bytes()))))
    }

    /// Watches the log at an address if its key is known.
    ///
    /// # Errors
    /// What is remembered cannot be read: then the log must not be asked again, it could be another.
    pub fn recall(&self, url: &str) -> anyhow::Result<bool> {
        let path = self.remembered(url);
        let Some(bytes) = disk::read(&path)? else { return Ok(false) };
        let key = String::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
        self.watch(key.with_context(|| format!("{}: not a verifier key", path.display()))?);
        Ok(true)
    }

    /// Watches a log from now on by the key that its address gave.
    ///
    /// # Errors
    /// It cannot be remembered.
    pub fn remember(&self, url: &str, key: VerifierKey) -> anyhow::Result<()> {
        self.disk.put(&[(self.remembered(url), format!("{key}\n").into_bytes())])?;
        self.watch(key);
        Ok(())
    }

    /// The witness's public key.
    pub fn verifier(&self) -> &VerifierKey {
        self.key.verifier()
    }

    fn file(&self, origin: &str) -> PathBuf {
        self.dir.join(format!("{}.checkpoint", hex(&sha256(origin.as_bytes()))))
    }

    /// What was cosigned last for a log.
    ///
    /// # Errors
    /// The file is damaged: then nothing may be cosigned.
    pub fn latest(&self, origin: &str) -> anyhow::Result<Option<(Checkpoint, Note)>> {
        let path = self.file(origin);
        let Some(bytes) = disk::read(&path)? else { return Ok(None) };
        let note = Note::parse(&bytes).with_context(|| path.display().to_string())?;
        note.verify(self.verifier()).with_context(|| path.display().to_string())?;
        let checkpoint = Checkpoint::from_text(note.text()).with_context(|| path.display().to_string())?;
        Ok(Some((checkpoint, note)))
    }

    /// Cosigns a checkpoint, if it may be. The new state is on the disk before the answer is given.
    ///
    /// # Errors
    /// The outer: its own state cannot be read or written. The inner: the protocol's refusal.
    pub fn add(&self, body: &[u8], now: u64) -> anyhow::Result<Result<(String, Checkpoint), Refusal>> {
        let request = match Request::parse(body) {
            Ok(request) => request,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let logs = self.logs();
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut damaged = None;
        let decision = decide(&request, &logs, |origin| match self.latest(origin) {
            Ok(latest) => latest.map(|(checkpoint, _)| checkpoint),
            Err(error) => {
                damaged = Some(error);
                None
            }
        });
        if let Some(error) = damaged {
            return Err(error);
        }
        let (checkpoint, note) = match decision {
            Ok(accepted) => accepted,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let line = self.key.sign(note.text(), now);
        let mut cosigned = Note::new(note.text().to_owned());
        // Only what was checked is kept: the log's lines, and this one.
        note.signatures().iter().filter(|s| logs.iter().any(|k| s.is_by(k))).for_each(|s| cosigned.add(s.clone()));
        cosigned.add(line.clone());
        self.disk.put(&[(self.file(&checkpoint.origin), cosigned.to_string().into_bytes())])?;
        Ok(Ok((line.to_string(), checkpoint)))
    }
}

#[derive(Clone)]
struct App {
    witness: Arc<Witness>,
    metrics: Metrics,
}

/// Runs the witness until `rt.shutdown`.
///
/// # Errors
/// The listener, the folder or the key is not usable.
pub async fn run(config: Config, rt: Runtime) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.listen_addr)
        .await
        .with_context(|| format!("WITNESS_LISTEN_ADDR: cannot listen on {}", config.listen_addr))?;
    serve(config, listener, rt).await
}

/// As [`run`], on a listener that is there already.
///
/// # Errors
/// As [`run`].
pub async fn serve(config: Config, listener: TcpListener, rt: Runtime) -> anyhow::Result<()> {
    let witness = Arc::new(Witness::open(&config.dir, &config.name, config.keys()?)?);
    let mut strangers = Vec::new();
    for url in config.urls() {
        if !witness.recall(&url)? {
            strangers.push(url);
        }
    }
    tracing::info!(key = %witness.verifier(), logs = witness.logs().len(), "witness is running");
    let introduced = tokio::spawn(introduced(witness.clone(), strangers, rt.shutdown.clone()));
    let metrics = Metrics::new(&rt.registry)?;
    let http = metrics.http.clone();
    let router = Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{hash}/checkpoint", get(latest))
        .route("/key", get(key))
        .route("/metrics", rt.registry.http_handler())
        .with_state(App { witness, metrics });
    let router = telemetry::http::instrument_with_limit(router, http, BODY_LIMIT);
    telemetry::http::serve(listener, router, rt.shutdown.clone(), *config.common.shutdown_grace).await?;
    introduced.await?
}

/// Asks each log for its key, once, however long it takes until it answers.
async fn introduced(
    witness: Arc<Witness>,
    mut strangers: Vec<String>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let http = telemetry::client::new(Duration::from_secs(5))?;
    while !strangers.is_empty() {
        let mut left = Vec::new();
        for url in strangers {
            match key_of(&http, &url).await.and_then(|key| {
                let shown = key.to_string();
                witness.remember(&url, key).map(|()| shown)
            }) {
                Ok(key) => tracing::info!(url, key, "the log's key is remembered from now on"),
                Err(error) => {
                    tracing::debug!(url, error = format!("{error:#}"), "the log has not given its key yet");
                    left.push(url);
                }
            }
        }
        strangers = left;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
    Ok(())
}

async fn key_of(http: &telemetry::client::Client, url: &str) -> anyhow::Result<VerifierKey> {
    let response = http.get(format!("{url}/key")).send().await?;
    anyhow::ensure!(response.status().is_success(), "it answered {}", response.status());
    Ok(response.text().await?.parse()?)
}

async fn add_checkpoint(State(app): State<App>, body: Bytes) -> Result<Response, Problem> {
    let witness = app.witness.clone();
    let now = u64::try_from(time::OffsetDateTime::now_utc().unix_timestamp()).unwrap_or_default();
    let answer = tokio::task::spawn_blocking(move || witness.add(&body, now)).await.map_err(Problem::internal)?;
    let answer = answer.map_err(|e| Problem::internal(format!("{e:#}")))?;
    let outcome = match &answer {
        Ok(_) => "cosigned",
        Err(Refusal::BadRequest(_)) => "bad_request",
        Err(Refusal::Forbidden(_)) => "forbidden",
        Err(Refusal::UnknownLog(_)) => "unknown_log",
        Err(Refusal::Conflict(_)) => "conflict",
        Err(Refusal::Inconsistent(_)) => "inconsistent",
    };
    app.metrics.requests.with_label_values(&[outcome]).inc();
    match answer {
        Ok((line, checkpoint)) => {
            app.metrics.size.set(checkpoint.size as i64);
            Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], line).into_response())
        }
        Err(Refusal::Conflict(size)) => {
            Ok((StatusCode::CONFLICT, [(header::CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n"))
                .into_response())
        }
        Err(refusal) => {
            if let Refusal::Inconsistent(why) = &refusal {
                tracing::error!(why, "a checkpoint does not continue the one before it");
            }
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
            let (Refusal::BadRequest(why)
            | Refusal::Forbidden(why)
            | Refusal::UnknownLog(why)
            | Refusal::Inconsistent(why)) = refusal
            else {
                return Err(Problem::internal("a conflict is answered above"));
            };
            Err(Problem::new(status, "Not cosigned").detail(why))
        }
    }
}

async fn latest(State(app): State<App>, extract::Path(hash): extract::Path<String>) -> Result<Response, Problem> {
    let known = app.witness.logs().into_iter().find(|k| hex(&sha256(k.name().as_bytes())) == hash);
    let origin = known.ok_or_else(|| Problem::not_found("log"))?.name().to_owned();
    let witness = app.witness.clone();
    let latest = tokio::task::spawn_blocking(move || witness.latest(&origin)).await.map_err(Problem::internal)?;
    let latest = latest.map_err(|e| Problem::internal(format!("{e:#}")))?;
    let (_, note) = latest.ok_or_else(|| Problem::not_found("checkpoint"))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], note.to_string()).into_response())
}

async fn key(State(app): State<App>) -> String {
    format!("{}\n", app.witness.verifier())
}
