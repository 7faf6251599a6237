//! Models in the lake, and the log that says which one serves.
//!
//! A model is one document, `models/<version>.json`, and never changes. Which one serves
//! follows from `model-log/` alone, in the order of its names: a promotion puts a version on top, a
//! rollback takes the top away, so that the former champion serves again. Each entry is one
//! object, so a promotion is there or it is not. Everybody who reads the log comes to the same
//! champion.

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
}

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
    /// Why, in words.
    pub reason: String,
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
    pub async fn promote(&self, version: &str, reason: &str, now_us: i64) -> Result<Entry, RegistryError> {
        self.model(version).await?;
        let built_in = built_in_version()?;
        let mut history = History::default();
        self.update(&mut history).await?;
        let previous = history.champion(&built_in).to_owned();
        if previous == version {
            return Err(RegistryError::Refused(format!("{version} serves already")));
        }
        self.decide(&history, Action::Promote, version, &previous, reason, now_us).await
    }

    /// Lets the former champion serve again.
    ///
    /// # Errors
    /// There is none, it is not usable any more, or the lake cannot take it.
    pub async fn roll_back(&self, reason: &str, now_us: i64) -> Result<Entry, RegistryError> {
        let built_in = built_in_version()?;
        let mut history = History::default();
        self.update(&mut history).await?;
        let mut champions = history.champions();
        let Some(previous) = champions.pop().map(str::to_owned) else {
            return Err(RegistryError::Refused(format!("{built_in} is built in and has no predecessor")));
        };
        let version = champions.last().copied().unwrap_or(&built_in).to_owned();
        self.model(&version).await?;
        self.decide(&history, Action::Rollback, &version, &previous, reason, now_us).await
    }

    async fn decide(
        &self,
        history: &History,
        action: Action,
        version: &str,
        previous: &str,
        reason: &str,
        now_us: i64,
    ) -> Result<Entry, RegistryError> {
        let at_us = now_us.max(newest_us(&history.newest) + 1);
        let entry = Entry {
            at: rfc3339(at_us),
            action,
            version: version.to_owned(),
            previous: previous.to_owned(),
            reason: reason.to_owned(),
        };
        let word = match action {
            Action::Promote => "promote",
            Action::Rollback => "rollback",
        };
        let text = serde_json::to_vec(&entry).map_err(|e| RegistryError::Refused(e.to_string()))?;
        self.lake.put_document(LOG, &format!("{at_us:020}-{word}.json"), text).await?;
        Ok(entry)
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
            registry.promote(version, "test", 5).await.unwrap();
        }
        assert_eq!(registry.versions().await.unwrap(), ["a", "b"]);
        let mut history = History::default();
        registry.update(&mut history).await.unwrap();
        assert_eq!((history.champions(), history.champion("x")), (vec!["a", "b"], "b"));
        let entry = registry.roll_back("worse", 5).await.unwrap();
        assert_eq!((entry.version.as_str(), entry.previous.as_str()), ("a", "b"));
        registry.update(&mut history).await.unwrap();
        assert_eq!((history.entries.len(), history.champion("x")), (3, "a"));
        assert_eq!(registry.roll_back("", 6).await.unwrap().version, "failure-v1");
        assert!(registry.roll_back("", 7).await.unwrap_err().to_string().contains("no predecessor"));
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
        assert!(refused(registry.promote("nope", "", 1).await.unwrap_err()).contains("nope"));
        assert!(refused(registry.promote("failure-v1", "", 1).await.unwrap_err()).contains("already"));
        std::fs::write(dir.path().join("models/broken.json"), "{}").unwrap();
        assert!(registry.promote("broken", "", 1).await.is_err());
        assert_eq!(registry.versions().await.unwrap(), ["a", "broken"]);
    }
}
