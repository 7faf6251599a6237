//! The pull: new manifests, their readings, the pipeline. [`Ingest::step`] does it once and
//! says how it went; [`run`] repeats it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lake::{Cursor, Lake, LakeError, Rejected, manifest::manifest_time};
use telemetry::config::Secret;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    clock::now_us,
    config::Config,
    lake_faults::Faults,
    metrics::Metrics,
    model::Model,
    pipeline::Pipeline,
    registry::{History, Registry, RegistryError},
    retrain::Retrain,
    state_file::{ReadUntil, StateFile, usable},
    unexplained::Learned,
};

/// Objects read in one pull; a backlog is worked off pull by pull.
const MAX_OBJECTS: usize = 20;

/// How the lake has been doing, for `GET /health`.
#[derive(Clone, Debug, Default)]
pub struct LakeHealth {
    /// The latest pull reached it; `None` before the first.
    pub up: Option<bool>,
    /// Since when `up` has had this value, µs since 1970.
    pub since_us: Option<i64>,
    /// Why the latest pull failed.
    pub error: Option<String>,
}

/// What the pull and the API share.
pub struct App {
    /// All that readings change.
    pub pipeline: Mutex<Pipeline>,
    /// How the lake has been doing.
    pub health: Mutex<LakeHealth>,
    /// What is counted.
    pub metrics: Metrics,
    /// Fewer judged predictions than this say nothing about accuracy.
    pub min_labels: u64,
    /// Models and decisions about them.
    pub registry: Registry,
    /// What was decided so far, as far as this process knows.
    pub history: Mutex<History>,
    /// The model that serves while the log names no other.
    pub first_model: Arc<Model>,
    /// How far ahead predictions are judged, s: a model for another horizon cannot serve.
    pub horizon_seconds: f64,
    /// Who may change which model serves; nobody without it.
    pub models_token: Option<Secret>,
    /// Champion and challenger.
    pub retrain: Retrain,
    /// What breaks the lake on demand; not there unless it was asked for.
    pub lake_faults: Option<Faults>,
}

impl App {
    /// Is it a model for the horizon that predictions are judged by?
    ///
    /// # Errors
    /// It is not.
    pub fn can_serve(&self, model: &Model) -> Result<(), RegistryError> {
        if (model.horizon_seconds - self.horizon_seconds).abs() <= 0.5 {
            return Ok(());
        }
        let (foresees, judged) = (model.horizon_seconds, self.horizon_seconds);
        Err(RegistryError::Refused(format!(
            "{} foresees {foresees} s, predictions are judged after {judged}",
            model.version
        )))
    }
}

/// Reads the log of decisions and lets the champion that it names serve.
///
/// # Errors
/// The lake cannot be read, or the champion cannot serve: what served goes on serving.
pub async fn follow(app: &App) -> Result<(), RegistryError> {
    let mut history = lock(&app.history).clone();
    app.registry.update(&mut history).await?;
    let champion = history.champion(&app.first_model.version).to_owned();
    let serving = lock(&app.pipeline).model().version.clone();
    if champion != serving {
        let model = if champion == app.first_model.version {
            app.first_model.clone()
        } else {
            Arc::new(app.registry.model(&champion).await?)
        };
        app.can_serve(&model)?;
        lock(&app.pipeline).serve(model.clone());
        app.metrics.serve_model(&model);
        tracing::info!(model = model.version, former = serving, "another model serves");
    }
    *lock(&app.history) = history;
    Ok(())
}

/// Locks. A panic elsewhere leaves the value usable: every change is complete in itself.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a pull went.
#[derive(Debug)]
pub enum Step {
    /// All there was is read.
    Idle,
    /// There is more: go on at once.
    More,
    /// The lake could not be read; the next pull goes on where this one stopped.
    Failed(LakeError),
}

/// What is kept over a restart.
struct Kept {
    cursor: StateFile<ReadUntil>,
    learned: StateFile<Learned>,
}

/// The reading side of the lake.
pub struct Ingest {
    app: Arc<App>,
    lake: Lake,
    cursor: Cursor,
    kept: Option<Kept>,
    /// Time of the newest manifest dealt with, µs since 1970.
    latest_us: i64,
    /// Manifests up to this instant were counted by an earlier process.
    counted_until_us: i64,
    /// Why the model log could not be followed the last time.
    registry_fault: Option<String>,
}

impl Ingest {
    /// Goes on where the last process stopped, or looks back.
    pub fn new(app: Arc<App>, lake: Lake, config: &Config, now_us: i64) -> Self {
        let us = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        let dir = &config.state_dir;
        let files = usable(dir)
            .then(|| Kept { cursor: StateFile::new(dir, "cursor"), learned: StateFile::new(dir, "learned") });
        let kept = files.as_ref().and_then(|f| f.cursor.load()).map(|at| at.latest_us);
        if let Some(learned) = files.as_ref().and_then(|f| f.learned.load())
            && !lock(&app.pipeline).unexplained.resume(learned)
        {
            tracing::error!("what was learned of the features does not fit together: it is learned anew");
        }
        let warm_up = us(*config.label_horizon + *config.accuracy_window.max(config.drift_window));
        let oldest = now_us.saturating_sub(us(*config.max_catch_up));
        let start =
            kept.map_or(now_us.saturating_sub(us(*config.lookback)), |at| at.saturating_sub(warm_up)).max(oldest);
        tracing::info!(from = crate::clock::rfc3339(start), resumed = kept.is_some(), "reading the lake");
        let counted_until_us = kept.unwrap_or(i64::MIN);
        Self {
            app,
            lake,
            cursor: Cursor::starting_at(start),
            kept: files,
            latest_us: counted_until_us,
            counted_until_us,
            registry_fault: None,
        }
    }

    /// One pull.
    pub async fn step(&mut self) -> Step {
        let started = Instant::now();
        let result = self.pull().await;
        if result.is_ok() {
            self.follow().await;
        }
        self.app.metrics.ingestion_duration.observe(started.elapsed().as_secs_f64());
        self.note(result.as_ref().err());
        let snapshot = lock(&self.app.pipeline).snapshot();
        self.app.metrics.show(&snapshot, self.app.min_labels, now_us());
        self.app.metrics.show_fault(self.app.lake_faults.as_ref().and_then(Faults::active).map(|(f, _)| f.kind));
        match result {
            Ok(read) if read == MAX_OBJECTS => Step::More,
            Ok(_) => Step::Idle,
            Err(error) => Step::Failed(error),
        }
    }

    /// A registry that cannot be read costs nothing but news: said once until it changes.
    async fn follow(&mut self) {
        let fault = follow(&self.app).await.err().map(|e| e.to_string());
        if let Some(reason) = fault.as_ref().filter(|_| fault != self.registry_fault) {
            tracing::warn!(reason, "the model log cannot be followed");
        }
        self.registry_fault = fault;
    }

    async fn pull(&mut self) -> Result<usize, LakeError> {
        let names = self.lake.manifests_after(&self.cursor, MAX_OBJECTS).await?;
        let read = names.len();
        for name in names {
            self.read(&name).await?;
            self.cursor.advance(&name);
            self.latest_us = self.latest_us.max(manifest_time(&name).unwrap_or(i64::MIN));
        }
        if read > 0
            && let Err(error) = self.keep()
        {
            tracing::warn!(%error, "what a restart needs could not be kept");
        }
        Ok(read)
    }

    fn keep(&self) -> std::io::Result<()> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let news = lock(&self.app.pipeline).unexplained.news();
        if let Some(Err(error)) = news.map(|learned| kept.learned.save(&learned)) {
            lock(&self.app.pipeline).unexplained.not_kept();
            return Err(error);
        }
        kept.cursor.save(&ReadUntil { latest_us: self.latest_us })
    }

    async fn read(&mut self, name: &str) -> Result<(), LakeError> {
        let metrics = self.app.metrics.clone();
        let fetched = match self.lake.fetch(name).await {
            Ok(fetched) => fetched,
            // Nothing of it may be used, and asking again will not mend it.
            Err(LakeError::Corrupt { object, reason }) => {
                tracing::error!(object, reason, "an object of the lake is corrupt and set aside");
                metrics.corrupt_objects.inc();
                return recorded(self.lake.quarantine_object(name, &object, &reason).await);
            }
            // Listed a moment ago and gone: somebody tidied up.
            Err(LakeError::NotFound(path)) => {
                tracing::warn!(path, "a manifest vanished before it was read");
                return Ok(());
            }
            Err(other) => return Err(other),
        };
        if !fetched.rejected.is_empty() {
            self.set_aside(name, &fetched.manifest.object, &fetched.rejected).await?;
        }
        let scored = lock(&self.app.pipeline).take(fetched.readings);
        if manifest_time(name).is_some_and(|at| at <= self.counted_until_us) {
            return Ok(());
        }
        metrics.rows.with_label_values(&["ok"]).inc_by(scored.new);
        metrics.rows.with_label_values(&["duplicate"]).inc_by(scored.duplicates);
        metrics.rows.with_label_values(&["quarantined"]).inc_by(fetched.rejected.len() as u64);
        metrics.count_predictions(scored.failures_predicted, scored.new - scored.failures_predicted);
        metrics.count_judged(&scored.judged);
        metrics.unlabelled.inc_by(scored.unknown);
        Ok(())
    }

    async fn set_aside(&self, name: &str, object: &str, rejected: &[Rejected]) -> Result<(), LakeError> {
        let first = rejected.first().map_or("", |r| r.reason.as_str());
        tracing::warn!(object, rows = rejected.len(), first, "rows that cannot be readings are set aside");
        recorded(self.lake.quarantine(name, object, rejected).await)
    }

    /// One line when the lake is lost and one when it is back.
    fn note(&self, error: Option<&LakeError>) {
        let up = !error.is_some_and(LakeError::is_unavailable);
        self.app.metrics.lake_up.set(i64::from(up));
        let mut health = lock(&self.app.health);
        if health.up != Some(up) {
            match (up, error) {
                (false, Some(error)) => tracing::warn!(%error, "the lake is unavailable: predictions go on without it"),
                _ if health.up == Some(false) => tracing::info!("the lake is back"),
                _ => {}
            }
            health.up = Some(up);
            health.since_us = Some(now_us());
        }
        if let (true, Some(error)) = (up, error)
            && health.error.is_none()
        {
            tracing::error!(%error, "the lake refuses to be read");
        }
        health.error = error.map(ToString::to_string);
    }
}

/// A lake that is away will take the record at the next pull; one that refuses it must not stop the reading.
fn recorded(result: Result<(), LakeError>) -> Result<(), LakeError> {
    match result {
        Err(error) if !error.is_unavailable() => {
            tracing::error!(%error, "what was set aside could not be recorded in the lake");
            Ok(())
        }
        other => other,
    }
}

/// Pulls until `shutdown`.
pub async fn run(mut ingest: Ingest, interval: Duration, shutdown: CancellationToken) {
    loop {
        let step = ingest.step().instrument(tracing::info_span!("pull readings"));
        let step = tokio::select! {
            // Nothing is lost: what this pull had not finished the next process reads again.
            () = shutdown.cancelled() => return,
            step = step => step,
        };
        if matches!(step, Step::More) {
            continue;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
    }
}
