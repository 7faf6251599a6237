//! Champion and challenger.
//!
//! When drift or low accuracy lasts, or somebody asks, and the budget allows it, a challenger is trained
//! in the background on recent readings, judged on the newest ones beside the champion and two baselines,
//! and promoted or discarded. [`policy`] and [`verdict`] decide (pure), [`data`] reads; here is the order of
//! things. Each step is written to the model log before the next begins, and a promotion is one object
//! there: a process that ends anywhere leaves either the former champion or the new one. The next start
//! finds a beginning without an end and says so.

pub mod data;
pub mod policy;
pub mod verdict;

use std::{sync::Arc, time::Duration};

use lake::{Lake, LakeError};
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    clock::{now_us, rfc3339},
    ingest::{App, follow, lock},
    model::Model,
    registry::{Action, Code, Draft, Entry, Figures, History, RegistryError},
    train::{Order, TrainError, train},
};
use policy::{Decision, Limits, Past, Remedy, Watch};
use verdict::Scores;

/// Settings of retraining.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// It retrains by itself; otherwise only when asked.
    pub by_itself: bool,
    /// What it may cost.
    pub limits: Limits,
    /// Readings of this time are looked at.
    pub window: Duration,
    /// The newest of them are kept for judging.
    pub holdout: Duration,
    /// Rows count half when they are this much older.
    pub half_life: Duration,
    /// More rows than this are thinned out.
    pub max_rows: usize,
    /// How far ahead failures are foretold.
    pub horizon: Duration,
    /// Window in which drift is looked for.
    pub drift_window: Duration,
    /// Fewer judged predictions say nothing about accuracy.
    pub min_labels: u64,
}

/// Retraining of one process.
pub struct Retrain {
    settings: Settings,
    lake: Lake,
    state: Mutex<State>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

#[derive(Default)]
struct State {
    history: History,
    /// The challenger that is being trained.
    running: Option<String>,
    /// What the process before this one left open has been looked for.
    settled: bool,
    watch: Watch,
    /// The model that is watched.
    watched: String,
    /// The wish that was held back, and why: said once.
    held: Option<(Code, Code)>,
}

/// What became of a wish.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is being trained from now on.
    Started(String),
    /// It was being trained already.
    Running(String),
    /// It begins by itself then, µs since 1970, if the reason lasts.
    Waiting(i64),
    /// Not now.
    Held {
        /// Why.
        code: Code,
        /// Until then, µs since 1970.
        until_us: i64,
    },
}

/// What was done about a champion that is wrong too often.
#[derive(Clone, Debug, PartialEq)]
pub enum Recovery {
    /// The former one serves again.
    RolledBack(Entry),
    /// A challenger was asked for.
    Retrain(Answer),
}

/// How a challenge ended.
struct End {
    code: Code,
    reason: String,
    figures: Figures,
}

impl Retrain {
    /// Nothing is being trained yet.
    pub fn new(settings: Settings, lake: Lake, shutdown: CancellationToken) -> Self {
        Self { settings, lake, state: Mutex::default(), tasks: TaskTracker::new(), shutdown }
    }

    /// Waits for what is under way, after the shutdown was said.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A challenger is being trained.
    pub async fn is_running(&self) -> bool {
        self.state.lock().await.running.is_some()
    }
}

/// Looks at the present state until the shutdown.
pub async fn run(app: Arc<App>, interval: Duration) {
    let retrain = &app.retrain;
    loop {
        tokio::select! {
            () = retrain.shutdown.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        // A lake that is away is told by the pull; the reason to retrain does not go away by it.
        if let Err(error) = look(&app, now_us()).await {
            tracing::debug!(%error, "retraining could not be looked after");
        }
    }
}

/// One look: what has lasted long enough asks for a challenger.
///
/// # Errors
/// The log cannot be read or written.
pub async fn look(app: &Arc<App>, now_us: i64) -> Result<Option<Answer>, RegistryError> {
    let settings = app.retrain.settings;
    let (snapshot, version) = {
        let pipeline = lock(&app.pipeline);
        (pipeline.snapshot(), pipeline.model().version.clone())
    };
    let mut state = app.retrain.state.lock().await;
    if !state.settled {
        settle(app, &mut state, now_us).await?;
        state.settled = true;
    }
    if state.watched != version {
        (state.watch, state.watched, state.held) = (Watch::default(), version, None);
    }
    let evaluation = snapshot.accuracy.evaluation();
    let accuracy = evaluation.accuracy.filter(|_| evaluation.rows >= settings.min_labels);
    let drifted = snapshot.drifted_since.iter().any(Option::is_some) || snapshot.together_since.is_some();
    state.watch.observe(accuracy, drifted, &settings.limits, now_us);
    let wants = state.watch.wants(&settings.limits, now_us);
    let Some(code) = wants.filter(|_| settings.by_itself) else {
        state.held = state.held.filter(|(wish, _)| *wish == Code::Requested);
        return Ok(None);
    };
    settle(app, &mut state, now_us).await?;
    let reason = reason(code, &snapshot, settings.limits.accuracy_line);
    ask_locked(app, &mut state, code, &reason, now_us).await.map(Some)
}

/// What is wrong, in words.
fn reason(code: Code, snapshot: &crate::pipeline::Snapshot, line: f64) -> String {
    if code == Code::AccuracyLow {
        let accuracy = snapshot.accuracy.evaluation().accuracy.unwrap_or_default();
        return format!("accuracy {accuracy:.3} has stayed below {line}");
    }
    let names = crate::features::NAMES.iter().zip(&snapshot.drifted_since);
    let mut drifted: Vec<&str> = names.filter(|(_, since)| since.is_some()).map(|(name, _)| *name).collect();
    if snapshot.together_since.is_some() {
        drifted.push("the features together");
    }
    format!("drift has stayed in {}", drifted.join(", "))
}

/// Asks for a challenger now.
///
/// # Errors
/// The log cannot be read or written.
pub async fn ask(app: &Arc<App>, code: Code, reason: &str, now_us: i64) -> Result<Answer, RegistryError> {
    let mut state = app.retrain.state.lock().await;
    settle(app, &mut state, now_us).await?;
    ask_locked(app, &mut state, code, reason, now_us).await
}

/// Does what helps against a champion that is wrong too often: see [`policy::remedy`].
///
/// # Errors
/// The log cannot be read or written, or there is nothing to roll back to.
pub async fn recover(app: &Arc<App>, reason: &str, now_us: i64) -> Result<Recovery, RegistryError> {
    let limits = app.retrain.settings.limits;
    let mut state = app.retrain.state.lock().await;
    settle(app, &mut state, now_us).await?;
    if policy::remedy(&state.history.entries, &limits, now_us) == Remedy::RollBack {
        let why = Draft::of(Action::Rollback, Code::RecentPromotion, reason);
        let entry = app.registry.roll_back(why, now_us).await?;
        follow(app).await?;
        return Ok(Recovery::RolledBack(entry));
    }
    // Too early there is nothing to learn from: what has just begun is not yet in any labelled row.
    if let Some(at) = state.watch.low_lasts_at(&limits).filter(|at| app.retrain.settings.by_itself && *at > now_us)
        && state.running.is_none()
    {
        return Ok(Recovery::Retrain(Answer::Waiting(at)));
    }
    ask_locked(app, &mut state, Code::AccuracyLow, reason, now_us).await.map(Recovery::Retrain)
}

/// Reads the log, and ends what a process that is no more has begun.
async fn settle(app: &App, state: &mut State, now_us: i64) -> Result<(), RegistryError> {
    app.registry.update(&mut state.history).await?;
    if state.running.is_some() {
        return Ok(());
    }
    if let Some(challenger) = Past::of(&state.history.entries).open {
        let words = "the process that trained it ended before it was judged";
        let draft = Draft { challenger: Some(challenger), ..Draft::of(Action::Discard, Code::Interrupted, words) };
        app.registry.note(&mut state.history, draft, now_us).await?;
        app.metrics.count_retraining(Code::Interrupted);
    }
    Ok(())
}

async fn ask_locked(
    app: &Arc<App>,
    state: &mut State,
    code: Code,
    reason: &str,
    now_us: i64,
) -> Result<Answer, RegistryError> {
    if let Some(challenger) = &state.running {
        return Ok(Answer::Running(challenger.clone()));
    }
    match policy::decide(&Past::of(&state.history.entries), &app.retrain.settings.limits, now_us) {
        Decision::Hold { code: held, until_us } => {
            if state.held != Some((code, held)) {
                let words = format!("{reason}; not before {}", rfc3339(until_us));
                app.registry.note(&mut state.history, Draft::of(Action::Hold, held, &words), now_us).await?;
                app.metrics.retraining_held.with_label_values(&[held.as_str()]).inc();
                state.held = Some((code, held));
            }
            Ok(Answer::Held { code: held, until_us })
        }
        Decision::Start => {
            let challenger = version(now_us);
            let draft = Draft { challenger: Some(challenger.clone()), ..Draft::of(Action::Train, code, reason) };
            app.registry.note(&mut state.history, draft, now_us).await?;
            state.running = Some(challenger.clone());
            state.held = None;
            app.metrics.retraining_running.set(1);
            tracing::info!(challenger, reason, "a challenger is being trained");
            let span = tracing::info_span!("challenge", challenger);
            app.retrain.tasks.spawn(challenge(app.clone(), challenger.clone()).instrument(span));
            Ok(Answer::Started(challenger))
        }
    }
}

/// Name of a challenger that begins at an instant.
fn version(now_us: i64) -> String {
    let digits: String = rfc3339(now_us / 1_000_000 * 1_000_000).chars().filter(|c| !matches!(c, '-' | ':')).collect();
    format!("failure-{digits}")
}

/// A challenge from its beginning to its end. The shutdown leaves it open in the log.
async fn challenge(app: Arc<App>, challenger: String) {
    let end = tokio::select! {
        () = app.retrain.shutdown.cancelled() => return,
        end = contest(&app, &challenger) => end,
    };
    let mut state = app.retrain.state.lock().await;
    let code = match end {
        Ok(entry) => entry.code,
        Err(end) => {
            let End { code, reason, figures } = end;
            let draft = Draft { action: Action::Discard, code, reason, challenger: Some(challenger.clone()), figures };
            if let Err(error) = app.registry.note(&mut state.history, draft, now_us()).await {
                // The next look finds it open and ends it.
                tracing::error!(%error, "the end of a challenge could not be written down");
            }
            code
        }
    };
    tracing::info!(challenger, outcome = code.as_str(), "the challenge is over");
    app.metrics.count_retraining(code);
    app.metrics.retraining_running.set(0);
    state.running = None;
}

fn discarded(code: Code, reason: impl Into<String>) -> End {
    End { code, reason: reason.into(), figures: Figures::new() }
}

impl From<RegistryError> for End {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Lake(error) => error.into(),
            other => discarded(Code::Failed, other.to_string()),
        }
    }
}

impl From<LakeError> for End {
    fn from(error: LakeError) -> Self {
        let code = if error.is_unavailable() { Code::LakeUnavailable } else { Code::Failed };
        discarded(code, error.to_string())
    }
}

/// Trains, judges and promotes; or says why not.
async fn contest(app: &Arc<App>, challenger: &str) -> Result<Entry, End> {
    let settings = app.retrain.settings;
    let champion = lock(&app.pipeline).model().clone();
    let now = now_us();
    let window = i64::try_from(settings.window.as_micros()).unwrap_or(i64::MAX);
    let from = now.saturating_sub(window);
    let rows = data::read(&app.retrain.lake, from, settings.horizon, settings.max_rows).await?;
    // One thread of the blocking pool: the runtime's own go on serving.
    let (version, against) = (challenger.to_owned(), champion.clone());
    let work = tokio::task::spawn_blocking(move || examine(rows, &against, &version, settings, now));
    let (model, scores, code) = work.await.map_err(|e| discarded(Code::Failed, e.to_string()))??;
    app.metrics.show_challenge(&scores);
    let figures = scores.figures();
    let judged = Draft {
        challenger: Some(challenger.to_owned()),
        figures: figures.clone(),
        ..Draft::of(Action::Judge, Code::Judged, &words(&scores, &champion.version))
    };
    {
        let mut state = app.retrain.state.lock().await;
        app.registry.note(&mut state.history, judged, now_us()).await?;
        let serving = state.history.champion(&app.first_model.version);
        if serving != champion.version {
            return Err(End { figures, ..discarded(Code::ChampionChanged, format!("{serving} serves meanwhile")) });
        }
    }
    if code != Code::ChallengerWins {
        return Err(End { figures, ..discarded(code, explain(code)) });
    }
    app.can_serve(&model)?;
    app.registry.register(&model).await?;
    let why = Draft {
        challenger: Some(challenger.to_owned()),
        figures,
        ..Draft::of(Action::Promote, Code::ChallengerWins, explain(code))
    };
    let entry = app.registry.promote(challenger, why, now_us()).await?;
    if let Err(error) = follow(app).await {
        // It is promoted; the next pull follows the log.
        tracing::warn!(%error, "the new champion will serve with the next pull");
    }
    Ok(entry)
}

/// The work of a challenge that needs a processor.
fn examine(
    rows: Vec<crate::train::Row>,
    champion: &Model,
    version: &str,
    settings: Settings,
    now_us: i64,
) -> Result<(Model, Scores, Code), End> {
    let split = data::split(rows, settings.holdout, settings.horizon, settings.half_life);
    let (count, held) = (split.training.len(), split.holdout.len());
    if (held as u64) < verdict::MIN_ROWS {
        let words = format!("{held} rows to judge by; {} are needed", verdict::MIN_ROWS);
        return Err(discarded(Code::TooFewRows, words));
    }
    let (reference, _) = data::reference(&split, &champion.reference, settings.drift_window);
    let order = Order {
        version,
        rows: &split.training,
        holdout: &split.holdout,
        reference,
        fallback: Some(&champion.reference),
        horizon: settings.horizon,
        now: OffsetDateTime::from_unix_timestamp(now_us / 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH),
    };
    let mut model = train(order).map_err(|error| {
        let code = if matches!(error, TrainError::TooFewFailures(_)) { Code::TooFewFailures } else { Code::Failed };
        let figures = Figures::from([("rows".to_owned(), count as f64)]);
        End { figures, ..discarded(code, error.to_string()) }
    })?;
    model.training.challenged = Some(champion.version.clone());
    let scores = verdict::compare(champion, &model, &split.holdout);
    let code = verdict::verdict(&scores);
    Ok((model, scores, code))
}

/// The comparison in words, with both baselines.
fn words(scores: &Scores, champion: &str) -> String {
    let share = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), |x| format!("{x:.4}"));
    format!(
        "accuracy {} against {} of {champion}, {} of never predicting a failure and {:.4} of a temperature threshold, \
         on {} rows that neither has seen",
        share(scores.challenger.accuracy),
        share(scores.champion.accuracy),
        share(scores.challenger.always_no_accuracy),
        scores.threshold_accuracy,
        scores.challenger.rows
    )
}

fn explain(code: Code) -> &'static str {
    match code {
        Code::ChallengerWins => "it is right more often than the champion, and not by chance",
        Code::BelowBaseline => "it does not beat what needs no model, or cries wolf too often",
        Code::NoBetter => "it is not right more often than the champion by a percentage point",
        Code::WithinChance => "it is right more often than the champion, and chance may explain it",
        Code::TooFewRows => "there are too few rows or minutes to judge by",
        _ => "it could not be judged",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenger_is_named_after_its_beginning() {
        assert_eq!(version(1_769_864_400_123_456), "failure-20260131T130000Z");
    }
}
