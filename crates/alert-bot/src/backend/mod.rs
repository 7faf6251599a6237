//! What the bot needs of whatever runs the containers.
//!
//! Only [`docker`] exists today. Another backend is another module that
//! implements [`Backend`]; nothing else names its client library.

pub mod docker;

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    engine::{Workload, target::Candidate},
    policy::Verb,
};

/// Why a call failed, told apart by whether it may have had an effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// It was never sent.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It was sent, and refused before anything was done.
    #[error("refused: {0}")]
    Refused(String),
    /// There is no such container.
    #[error("there is no such container")]
    NotFound,
    /// There was no answer in time.
    #[error("no answer within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// It failed in a way that leaves open what was done.
    #[error("failed: {0}")]
    Failed(String),
}

/// Runs containers.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Every container that can be seen, running or not.
    async fn list(&self) -> Result<Vec<Candidate>, BackendError>;

    /// One container, by id or name.
    async fn inspect(&self, id: &str) -> Result<Workload, BackendError>;

    /// Does it, and returns when it is done.
    async fn act(&self, id: &str, verb: Verb, stop_timeout: Duration, limit: Duration) -> Result<(), BackendError>;

    /// Whether it can be used.
    async fn ping(&self) -> Result<(), BackendError>;
}
