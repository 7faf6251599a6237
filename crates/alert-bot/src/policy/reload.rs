//! Hot reload: the running policy follows the file, and the last good one stays
//! while the file is wrong.

use std::{path::PathBuf, sync::Arc};

use serde::Serialize;
use tokio::sync::watch;

use super::{Policy, PolicyError};
use crate::timestamp::Timestamp;

/// What is in force, and what is wrong with the file if it is not the same.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// In force.
    pub policy: Arc<Policy>,
    /// The document that is in force.
    pub text: Arc<str>,
    /// Since when.
    pub since: Timestamp,
    /// Why the file as it is now is not in force.
    pub rejected: Option<Rejected>,
}

/// A file that was not taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rejected {
    /// When it was looked at first.
    pub at: Timestamp,
    /// What is wrong, each with its line.
    pub errors: Vec<String>,
}

/// What a look at the file brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The same text as before.
    Unchanged,
    /// A new policy is in force.
    Replaced,
    /// The file is wrong; the last good policy stays.
    Rejected,
}

/// Follows one file.
pub struct Reloader {
    path: PathBuf,
    seen: Result<String, String>,
    sender: watch::Sender<Loaded>,
}

/// Why the first policy could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// The document is wrong.
    #[error("{path}: {}", list(.errors))]
    Invalid {
        /// The file.
        path: String,
        /// Every fault.
        errors: Vec<PolicyError>,
    },
}

fn list(errors: &[PolicyError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Reloader {
    /// Loads the file for the first time: here a fault is final.
    pub fn open(path: PathBuf, now: Timestamp) -> Result<(Self, watch::Receiver<Loaded>), LoadError> {
        let text = std::fs::read_to_string(&path).map_err(|e| LoadError::Unreadable(path.clone(), e))?;
        let policy =
            Policy::parse(&text).map_err(|errors| LoadError::Invalid { path: path.display().to_string(), errors })?;
        let loaded = Loaded { policy: Arc::new(policy), text: text.as_str().into(), since: now, rejected: None };
        let (sender, receiver) = watch::channel(loaded);
        Ok((Self { path, seen: Ok(text), sender }, receiver))
    }

    /// Looks at the file once.
    pub fn tick(&mut self, now: Timestamp) -> Outcome {
        // By content, not by modification time: bind mounts and quick edits lie about it.
        let read = std::fs::read_to_string(&self.path).map_err(|e| format!("cannot read the file: {e}"));
        if read == self.seen {
            return Outcome::Unchanged;
        }
        self.seen = read;
        let parsed = match &self.seen {
            Ok(text) => Policy::parse(text)
                .map(|policy| (policy, text.clone()))
                .map_err(|errors| errors.iter().map(ToString::to_string).collect()),
            Err(error) => Err(vec![error.clone()]),
        };
        match parsed {
            Ok((policy, text)) => {
                self.sender.send_replace(Loaded {
                    policy: Arc::new(policy),
                    text: text.into(),
                    since: now,
                    rejected: None,
                });
                Outcome::Replaced
            }
            Err(errors) => {
                self.sender.send_modify(|l| l.rejected = Some(Rejected { at: now, errors }));
                Outcome::Rejected
            }
        }
    }
}
