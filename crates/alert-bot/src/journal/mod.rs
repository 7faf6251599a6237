//! The journal: what was received, decided, done and found, on disk before
//! anything follows from it.
//!
//! One SQLite file in WAL mode with `synchronous=FULL`: a commit that has
//! returned survives a power cut. One task writes (`writer`); reads go through
//! a small pool of their own ([`read`]) and never wait for it.

pub mod audit;
pub mod lease;
mod load;
pub mod outbox;
pub mod read;
mod writer;

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{mpsc, oneshot};

use crate::{engine::Effect, timestamp::Timestamp};

/// Why the journal could not be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// SQLite says no: full, read-only, damaged.
    #[error("the journal cannot be used: {0}")]
    Sqlite(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("the journal's schema: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A document in it cannot be read: it was written by another version, or by hand.
    #[error("the journal holds a document that cannot be read: {0}")]
    Document(#[from] serde_json::Error),
    /// The audit's chain does not hold.
    #[error("the audit is broken: {0}")]
    Audit(String),
    /// Another bot acts by now: nothing was written.
    #[error("another bot has taken over: the lease's token is {now}, this one's is {own}")]
    Fenced {
        /// The writer's.
        own: i64,
        /// The lease's.
        now: i64,
    },
    /// The writer has ended.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    /// No other bot's work is the reason, and to try again does not help: SQLite's result codes for a file that is
    /// read-only (8), damaged (11), cannot be opened (14) or is none of its own (26), and a schema of another version.
    fn lasts(&self) -> bool {
        use sqlx::migrate::MigrateError::{Dirty, Execute, ExecuteMigration, VersionMismatch, VersionMissing};
        match self {
            Self::Sqlite(error) | Self::Migrate(Execute(error) | ExecuteMigration(error, _)) => {
                let code = error.as_database_error().and_then(|e| e.code()).and_then(|code| code.parse::<u32>().ok());
                // The low byte is the primary one.
                code.is_some_and(|code| [8, 11, 14, 26].contains(&(code & 0xff)))
            }
            Self::Migrate(error) => matches!(error, Dirty(_) | VersionMismatch(_) | VersionMissing(_)),
            _ => false,
        }
    }
}

type Result<T> = std::result::Result<T, JournalError>;

/// A notification as it was received.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Row.
    pub id: i64,
    /// When the journal took it.
    pub received_at: Timestamp,
    /// As received.
    pub body: Vec<u8>,
}

/// `fence`: only while the lease has this token.
enum Job {
    Effects { effects: Arc<Vec<Effect>>, processed: Vec<i64>, now: Timestamp, fence: Option<i64>, reply: Reply },
    Quarantine { at: Timestamp, reason: String, body: Vec<u8>, reply: Reply },
    Gather { taken: Vec<i64>, messages: Vec<outbox::Envelope>, now: Timestamp, fence: Option<i64>, reply: Reply },
    Tried { message: Box<outbox::Message>, tried: outbox::Tried, now: Timestamp, fence: Option<i64>, reply: Reply },
    Prune { before: Timestamp, reply: Reply },
    Claim { claim: lease::Claim, reply: oneshot::Sender<Result<lease::Claimed>> },
    Release { token: i64, reply: Reply },
}

struct Intake {
    at: Timestamp,
    alerts: usize,
    body: Vec<u8>,
    reply: Reply,
}

type Reply = oneshot::Sender<Result<()>>;

/// A handle to the journal; clones share it.
#[derive(Clone)]
pub struct Journal {
    pub(crate) readers: SqlitePool,
    intake: mpsc::Sender<Intake>,
    jobs: mpsc::Sender<Job>,
    /// What this handle decides is written only while the lease has this token.
    fence: Option<i64>,
}

/// So often a file that others are bringing up to date is tried again.
const ATTEMPTS: u32 = 25;

/// Makes the file and brings its schema up to date.
///
/// SQLite knows no lock around either: of bots that start on the same file at the same time some fail, and when they
/// try again it is done.
async fn prepare(options: &SqliteConnectOptions) -> Result<()> {
    let attempt = async || -> Result<()> {
        // Through a pool: with a connection the future is not `Send` for every lifetime.
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        let migrated = sqlx::migrate!().run(&pool).await;
        pool.close().await;
        Ok(migrated?)
    };
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(error) if !error.lasts() => tokio::time::sleep(Duration::from_millis(200)).await,
            done => return done,
        }
    }
    attempt().await
}

impl Journal {
    /// Opens or creates the file and starts the writer.
    pub async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .foreign_keys(true);
        prepare(&options).await?;
        let connection = options.connect().await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(3)
            .min_connections(0)
            .idle_timeout(Duration::from_secs(60))
            .connect_lazy_with(options.clone().read_only(true).create_if_missing(false));
        let (intake, intake_rx) = mpsc::channel(4096);
        let (jobs, jobs_rx) = mpsc::channel(64);
        let writer = writer::Writer::new(connection, options).await?;
        tokio::spawn(writer.run(intake_rx, jobs_rx));
        Ok(Self { readers, intake, jobs, fence: None })
    }

    /// Stores a notification. Once this has returned, it is on disk.
    pub async fn deliver(&self, at: Timestamp, alerts: usize, body: Vec<u8>) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.intake.send(Intake { at, alerts, body, reply }).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }

    /// Stores all durable effects, or none of them; marks the deliveries they
    /// came from as processed.
    pub async fn commit(&self, effects: Arc<Vec<Effect>>, processed: Vec<i64>, now: Timestamp) -> Result<()> {
        let fence = self.fence;
        self.job(|reply| Job::Effects { effects, processed, now, fence, reply }).await
    }

    /// Keeps what could not be read.
    pub async fn quarantine(&self, at: Timestamp, reason: String, body: Vec<u8>) -> Result<()> {
        self.job(|reply| Job::Quarantine { at, reason, body, reply }).await
    }

    /// Deletes bodies of processed notifications that are older than `before`.
    pub async fn prune(&self, before: Timestamp) -> Result<()> {
        self.job(|reply| Job::Prune { before, reply }).await
    }

    async fn job(&self, make: impl FnOnce(Reply) -> Job) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(make(reply)).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }
}
