//! What the bot needs of whatever runs the containers.
//!
//! Only [`docker`] exists today. Another backend is another module that
//! implements [`Backend`]; nothing else names its client library.

pub mod docker;
mod guard;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::{
    engine::{Workload, target::Candidate},
    timestamp::Timestamp,
};

/// What can be done to one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Start it; nothing happens to one that runs.
    Start,
    /// Stop it and start it again in one call.
    Restart {
        /// How long it may take to stop before it is killed.
        stop_timeout: Duration,
    },
    /// Stop it, and when it has stopped, start it: what a restart cannot do to a container
    /// whose processes hang while it is being stopped.
    StopStart {
        /// How long it may take to stop before it is killed.
        stop_timeout: Duration,
    },
    /// Put a new one in its place, alike but for its id and, if wanted, its image. By id it is
    /// done once: asked again for a container that was replaced, the answer is the new one.
    Recreate {
        /// How long it may take to stop before it is killed.
        stop_timeout: Duration,
        /// An image that ran healthy in this service before, or [`PREVIOUS_IMAGE`].
        image: Option<String>,
    },
    /// Run a further one beside it. This is done as often as it is asked for: who does not know
    /// whether it was done looks for candidates with `replica_of` first.
    Replicate,
    /// Stop and remove a replica; one that was not made by [`Deed::Replicate`] is refused.
    Remove {
        /// How long it may take to stop before it is killed.
        stop_timeout: Duration,
    },
}

/// As the image of a [`Deed::Recreate`]: the last one that ran healthy in the service and is
/// not the present one.
pub const PREVIOUS_IMAGE: &str = "@previous";

/// What came of a deed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The container that was made by it, if one was.
    pub id: Option<String>,
}

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

    /// Does it to the container of this id or name, and returns when it is done.
    ///
    /// # Errors
    /// [`BackendError::TimedOut`] after `limit`, and [`BackendError::Failed`], leave open what was
    /// done. After every other error it was not done and will not be.
    async fn act(&self, target: &str, deed: &Deed, limit: Duration) -> Result<Done, BackendError>;

    /// The last lines that a container wrote, oldest first, without control characters.
    async fn logs(&self, id: &str, lines: usize) -> Result<Vec<String>, BackendError>;

    /// Tells of every container that is stopped on purpose, by name, from `since` on; returns when
    /// the connection ends.
    async fn stops(&self, since: Timestamp, tell: mpsc::Sender<(String, Timestamp)>) -> Result<(), BackendError>;

    /// Whether it can be used.
    async fn ping(&self) -> Result<(), BackendError>;
}
