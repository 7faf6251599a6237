//! Models in the lake, and the log that says which one serves.
//!
//! A model is one document, `models/<version>.json`, and never changes. Which one serves
//! follows from `model-log/` alone, in the order of its names: a promotion puts a version on top, a
//! rollback takes the top away, so that the former champion serves again. Each entry is one
//! object, so a promotion is there or it is not. Everybody who reads the log comes to the same
//! champion. The steps of a challenge are entries too, and change nothing by themselves.

use std::collections::BTreeMap;

use lake::{Lake, LakeError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    clock::rfc3339,
    model::{BUILT_IN, Model, ModelError},
};

const MODELS: &str = "models";
const LOG: &str = "model-log";
/// A model larger than this is none.
const MAX_MODEL: u64 = 16 << 20;
const MAX_ENTRY: u64 = 64 << 10;

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The version serves from now on.
    Promote,
    /// The champion is taken away, the former one serves again.
    Rollback,
    /// A challenger is being trained.
    Train,
    /// It was compared with the champion on readings that it had not seen.
    Judge,
    /// It does not serve: this challenge is over.
    Discard,
    /// A challenger was wanted, and none is trained now.
    Hold,
}

impl Action {
    /// As the log has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Rollback => "rollback",
            Self::Train => "train",
            Self::Judge => "judge",
            Self::Discard => "discard",
            Self::Hold => "hold",
        }
    }
}

/// Why, for machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A person or a program asked for it.
    #[default]
    Requested,
    /// Accuracy has been low.
    AccuracyLow,
    /// A feature has drifted.
    Drift,
    /// The champion has not served for long and is wrong too often.
    RecentPromotion,
    /// The comparison was made.
    Judged,
    /// The challenger is right more often, and not by chance.
    ChallengerWins,
    /// Too few rows were followed by a failure to learn from.
    TooFewFailures,
    /// Too few rows to learn from or to judge by.
    TooFewRows,
    /// The challenger does not beat what needs no model.
    BelowBaseline,
    /// The challenger is not better, or not by enough to matter.
    NoBetter,
    /// The challenger is better, and chance may explain it.
    WithinChance,
    /// Another model came to serve while it was trained.
    ChampionChanged,
    /// The readings could not be read.
    LakeUnavailable,
    /// The process ended meanwhile.
    Interrupted,
    /// It could not be trained for another reason.
    Failed,
    /// The last challenge began too recently.
    TooSoon,
    /// So many challengers lost in a row that the next one waits longer.
    BackingOff,
    /// All challenges of the day are used.
    BudgetExhausted,
    /// One is being trained.
    Running,
}

impl Code {
    /// As the log and the metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::AccuracyLow => "accuracy_low",
            Self::Drift => "drift",
            Self::RecentPromotion => "recent_promotion",
            Self::Judged => "judged",
            Self::ChallengerWins => "challenger_wins",
            Self::TooFewFailures => "too_few_failures",
            Self::TooFewRows => "too_few_rows",
            Self::BelowBaseline => "below_baseline",
            Self::NoBetter => "no_better",
            Self::WithinChance => "within_chance",
            Self::ChampionChanged => "champion_changed",
            Self::LakeUnavailable => "lake_unavailable",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::TooSoon => "too_soon",
            Self::BackingOff => "backing_off",
            Self::BudgetExhausted => "budget_exhausted",
            Self::Running => "running",
        }
    }
}

/// Numbers that a decision was taken by.
pub type Figures = BTreeMap<String, f64>;

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// When, RFC 3339.
    pub at: String,
    /// What.
    pub action: Action,
    /// The version that serves after it.
    pub version: String,
    /// The version that served before it.
    pub previous: String,
    /// Why, for machines.
    #[serde(default)]
    pub code: Code,
    /// Why, in words.
    pub reason: String,
    /// The challenger that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenger: Option<String>,
    /// What it was decided by.
    #[serde(default, skip_serializing_if = "Figures::is_empty")]
    #[schema(value_type = Object)]
    pub figures: Figures,
}

/// What is to be written down.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What.
    pub action: Action,
    /// Why, for machines.
    pub code: Code,
    /// Why, in words.
    pub reason: String,
    /// The challenger that it is about.
    pub challenger: Option<String>,
    /// What it was decided by.
    pub figures: Figures,
}

/// A registry that cannot do what is asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// It makes no sense.
    #[error("{0}")]
    Refused(String),
}

/// The decisions so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// All, oldest first.
    pub entries: Vec<Entry>,
    /// Name of the newest entry in the lake.
    newest: String,
}

impl History {
    /// Versions in the order of promotion that no rollback has taken away; the last one serves.
    pub fn champions(&self) -> Vec<&str> {
        let mut stack = Vec::new();
        for entry in &self.entries {
            match entry.action {
                Action::Promote => stack.push(entry.version.as_str()),
                Action::Rollback => {
                    stack.pop();
                }
                Action::Train | Action::Judge | Action::Discard | Action::Hold => {}
            }
        }
        stack
    }

    /// The version that serves; the built-in one's if none was ever promoted.
    pub fn champion<'a>(&'a self, built_in: &'a str) -> &'a str {
        self.champions().last().copied().unwrap_or(built_in)
    }
}

/// The models of a lake.
#[derive(Clone)]
pub struct Registry {
    lake: Lake,
}

impl Registry {
    /// Of a lake.
    pub fn new(lake: Lake) -> Self {
        Self { lake }
    }

    /// Puts a model into the lake.
    ///
    /// # Errors
    /// Its version is taken by another model or no name for a file, or the lake cannot take it.
    pub async fn register(&self, model: &Model) -> Result<(), RegistryError> {
        let name = document(&model.version)?;
        if model.version == built_in_version()? {
            return Err(RegistryError::Refused(format!("{} is built in", model.version)));
        }
        let text = serde_json::to_vec(model).map_err(|e| RegistryError::Refused(e.to_string()))?;
        match self.lake.get_document(MODELS, &name, MAX_MODEL).await {
            Ok(known) if known == text => Ok(()),
            Ok(_) => Err(RegistryError::Refused(format!("another model is named {}", model.version))),
            Err(LakeError::NotFound(_)) => Ok(self.lake.put_document(MODELS, &name, text).await?),
            Err(other) => Err(other.into()),
        }
    }

    /// Versions in the lake, in the order of their names.
    ///
    /// # Errors
    /// The lake cannot be read.
    pub async fn versions(&self) -> Result<Vec<String>, RegistryError> {
        let names = self.lake.document_names(MODELS, "").await?;
        Ok(names.iter().filter_map(|n| n.strip_suffix(".json")).map(str::to_owned).collect())
    }

    /// A model by its version.
    ///
    /// # Errors
    /// There is none, it is not usable, or the lake cannot be read.
    pub async fn model(&self, version: &str) -> Result<Model, RegistryError> {
        if version == built_in_version()? {
            return Ok(Model::parse(BUILT_IN)?);
        }
        let bytes = self.lake.get_document(MODELS, &document(version)?, MAX_MODEL).await?;
        let model = Model::parse(&String::from_utf8_lossy(&bytes))?;
        if model.version != version {
            return Err(RegistryError::Refused(format!("the model in {version}.json says it is {}", model.version)));
        }
        Ok(model)
    }

    /// Reads what was decided since.
    ///
    /// # Errors
    /// The lake cannot be read, or an entry is none. `history` is as it was then.
    pub async fn update(&self, history: &mut History) -> Result<(), RegistryError> {
        let mut next = history.clone();
        for name in self.lake.document_names(LOG, &history.newest).await? {
            let bytes = self.lake.get_document(LOG, &name, MAX_ENTRY).await?;
            let entry = serde_json::from_slice(&bytes)
                .map_err(|e| RegistryError::Refused(format!("{LOG}/{name} is no decision: {e}")))?;
            next.entries.push(entry);
            next.newest = name;
        }
        *history = next;
        Ok(())
    }

    /// Lets a version serve from now on.
    ///
    /// # Errors
    /// It serves already, is not usable, or the lake cannot take it.
    pub async fn promote(&self, version: &str, why: Draft, now_us: i64) -> Result<Entry, RegistryError> {
        self.model(version).await?;
        let built_in = built_in_version()?;
        let mut history = History::default();
        self.update(&mut history).await?;
        let previous = history.champion(&built_in).to_owned();
        if previous == version {
            return Err(RegistryError::Refused(format!("{version} serves already")));
        }
        self.write(&history, Draft { action: Action::Promote, ..why }, version, &previous, now_us).await
    }

    /// Lets the former champion serve again.
    ///
    /// # Errors
    /// There is none, it is not usable any more, or the lake cannot take it.
    pub async fn roll_back(&self, why: Draft, now_us: i64) -> Result<Entry, RegistryError> {
        let built_in = built_in_version()?;
        let mut history = History::default();
        self.update(&mut history).await?;
        let mut champions = history.champions();
        let Some(previous) = champions.pop().map(str::to_owned) else {
            return Err(RegistryError::Refused(format!("{built_in} is built in and has no predecessor")));
        };
        let version = champions.last().copied().unwrap_or(&built_in).to_owned();
        self.model(&version).await?;
        self.write(&history, Draft { action: Action::Rollback, ..why }, &version, &previous, now_us).await
    }

    /// Writes down a step that does not change which version serves. `history` is brought up to
    /// date before and after.
    ///
    /// # Errors
    /// The lake cannot take it.
    pub async fn note(&self, history: &mut History, draft: Draft, now_us: i64) -> Result<Entry, RegistryError> {
        let built_in = built_in_version()?;
        self.update(history).await?;
        let champion = history.champion(&built_in).to_owned();
        let entry = self.write(history, draft, &champion, &champion, now_us).await?;
        self.update(history).await?;
        Ok(entry)
    }

    async fn write(
        &self,
        history: &History,
        draft: Draft,
        version: &str,
        previous: &str,
        now_us: i64,
    ) -> Result<Entry, RegistryError> {
        let at_us = now_us.max(newest_us(&history.newest) + 1);
        let entry = Entry {
            at: rfc3339(at_us),
            action: draft.action,
            version: version.to_owned(),
            previous: previous.to_owned(),
            code: draft.code,
            reason: draft.reason,
            challenger: draft.challenger,
            figures: draft.figures,
        };
        let text = serde_json::to_vec(&entry).map_err(|e| RegistryError::Refused(e.to_string()))?;
        self.lake.put_document(LOG, &format!("{at_us:020}-{}.json", draft.action.as_str()), text).await?;
        Ok(entry)
    }
}

impl Draft {
    /// Of somebody who asks for a promotion or a rollback, which sets the action.
    pub fn requested(reason: &str) -> Self {
        Self::of(Action::Hold, Code::Requested, reason)
    }

    /// Without challenger and figures.
    pub fn of(action: Action, code: Code, reason: &str) -> Self {
        Self { action, code, reason: reason.to_owned(), challenger: None, figures: Figures::new() }
    }
}

/// Instant in an entry's name; 0 in none.
fn newest_us(name: &str) -> i64 {
    name.split('-').next().and_then(|us| us.parse().ok()).unwrap_or(0)
}

/// Name of a version's document.
fn document(version: &str) -> Result<String, RegistryError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let starts = version.starts_with(|c: char| c.is_ascii_alphanumeric());
    if version.len() > 100 || !starts || !version.chars().all(fits) {
        return Err(RegistryError::Refused(format!("{version:?} is no version: letters, digits, - _ . only")));
    }
    Ok(format!("{version}.json"))
}

fn built_in_version() -> Result<String, RegistryError> {
    Ok(Model::parse(BUILT_IN)?.version)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lake::{Settings, store::Backend};

    use super::*;

    fn registry(dir: &tempfile::TempDir) -> Registry {
        let settings = Settings { backend: Backend::Folder(dir.path().to_owned()) };
        Registry::new(Lake::open(&settings, Arc::new(())).unwrap())
    }

    fn model(version: &str, bias: f64) -> Model {
        Model { version: version.into(), bias, ..Model::parse(BUILT_IN).unwrap() }
    }

    #[tokio::test]
    async fn a_rollback_brings_the_former_champion_back_and_then_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let registry = registry(&dir);
        for (version, bias) in [("a", 1.0), ("b", 2.0)] {
            registry.register(&model(version, bias)).await.unwrap();
            // At one instant, too, decisions have an order.
            registry.promote(version, Draft::requested("test"), 5).await.unwrap();
        }
        assert_eq!(registry.versions().await.unwrap(), ["a", "b"]);
        let mut history = History::default();
        registry.update(&mut history).await.unwrap();
        assert_eq!((history.champions(), history.champion("x")), (vec!["a", "b"], "b"));
        let entry = registry.roll_back(Draft::requested("worse"), 5).await.unwrap();
        assert_eq!((entry.version.as_str(), entry.previous.as_str()), ("a", "b"));
        registry.update(&mut history).await.unwrap();
        assert_eq!((history.entries.len(), history.champion("x")), (3, "a"));
        let figures = Figures::from([("gain".to_owned(), 0.02)]);
        let judged = Draft { figures, ..Draft::of(Action::Judge, Code::Judged, "") };
        registry.note(&mut history, judged, 1).await.unwrap();
        assert_eq!((history.entries[3].figures["gain"], history.champion("x")), (0.02, "a"), "nothing else serves");
        assert_eq!(registry.roll_back(Draft::requested(""), 6).await.unwrap().version, "failure-v1");
        assert!(registry.roll_back(Draft::requested(""), 7).await.unwrap_err().to_string().contains("no predecessor"));
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let registry = registry(&dir);
        registry.register(&model("a", 1.0)).await.unwrap();
        registry.register(&model("a", 1.0)).await.unwrap();
        let refused = |e: RegistryError| e.to_string();
        assert!(refused(registry.register(&model("a", 2.0)).await.unwrap_err()).contains("another model"));
        assert!(refused(registry.register(&model("../a", 2.0)).await.unwrap_err()).contains("no version"));
        assert!(refused(registry.register(&model("failure-v1", 2.0)).await.unwrap_err()).contains("built in"));
        assert!(refused(registry.promote("nope", Draft::requested(""), 1).await.unwrap_err()).contains("nope"));
        assert!(
            refused(registry.promote("failure-v1", Draft::requested(""), 1).await.unwrap_err()).contains("already")
        );
        std::fs::write(dir.path().join("models/broken.json"), "{}").unwrap();
        assert!(registry.promote("broken", Draft::requested(""), 1).await.is_err());
        assert_eq!(registry.versions().await.unwrap(), ["a", "broken"]);
    }
}
