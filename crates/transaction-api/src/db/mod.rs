//! Postgres: a bounded pool, named and measured statements, errors by what can be
//! done about them.

mod statements;
mod writer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use sqlx::{
    Connection, PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
pub use statements::Claim;
pub use writer::{WriteError, Writer};

use crate::metrics::DbMetrics;

/// A connection that lay idle for longer is tested before it is used.
const TEST_AFTER_IDLE: Duration = Duration::from_secs(1);

/// The statements by name; label `query` of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// A page of the list.
    ListTransactions,
    /// One transaction.
    GetTransaction,
    /// One batch of new transactions.
    InsertTransactions,
    /// Takes an idempotency key, or says who has it.
    ClaimIdempotencyKey,
    /// Gives a key back after a failure.
    ReleaseIdempotencyKey,
    /// Forgets old keys.
    PurgeIdempotencyKeys,
    /// `/health` and `/readyz`.
    HealthCheck,
}

impl Query {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ListTransactions,
        Self::GetTransaction,
        Self::InsertTransactions,
        Self::ClaimIdempotencyKey,
        Self::ReleaseIdempotencyKey,
        Self::PurgeIdempotencyKeys,
        Self::HealthCheck,
    ];

    /// The label value.
    pub fn name(self) -> &'static str {
        match self {
            Self::ListTransactions => "list_transactions",
            Self::GetTransaction => "get_transaction",
            Self::InsertTransactions => "insert_transactions",
            Self::ClaimIdempotencyKey => "claim_idempotency_key",
            Self::ReleaseIdempotencyKey => "release_idempotency_key",
            Self::PurgeIdempotencyKeys => "purge_idempotency_keys",
            Self::HealthCheck => "health_check",
        }
    }
}

/// Why a statement failed. Cheap to clone: one failure may concern a whole batch.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DbError {
    /// Postgres cannot be used now: not reachable, no connection free in time, too slow.
    #[error("postgres cannot be used: {0}")]
    Unavailable(Arc<sqlx::Error>),
    /// A constraint of this name was violated.
    #[error("constraint {0} violated")]
    Constraint(Arc<str>),
    /// A mistake of ours.
    #[error("statement failed: {0}")]
    Internal(Arc<sqlx::Error>),
}

impl DbError {
    /// The violated constraint.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Constraint(name) => Some(name),
            _ => None,
        }
    }

    /// The limit on our side passed.
    fn timed_out() -> Self {
        let late = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within DB_QUERY_TIMEOUT");
        Self::Unavailable(Arc::new(sqlx::Error::Io(late)))
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        if let sqlx::Error::Database(db) = &error {
            if let Some(constraint) = db.constraint() {
                return Self::Constraint(constraint.into());
            }
            let code = db.code();
            let code = code.as_deref().unwrap_or_default();
            // https://www.postgresql.org/docs/current/errcodes-appendix.html
            let unavailable = matches!(
                code,
                "57P01" | "57P02" | "57P03" | "57P05" // shutting down, crashed, starting up, idle too long
                | "57014" | "55P03" | "25P03" // statement, lock and transaction time-outs
                | "53300" | "53100" | "53200" // too many connections, disk full, out of memory
                | "28P01" | "28000" | "3D000" // not (yet) set up for us
                | "25006" // a standby that has not been promoted
            ) || code.starts_with("08");
            return if unavailable { Self::Unavailable(Arc::new(error)) } else { Self::Internal(Arc::new(error)) };
        }
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(Arc::new(error)),
            _ => Self::Internal(Arc::new(error)),
        }
    }
}

/// The connection broke while in use: another one may do.
fn connection_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(db) => matches!(db.code().as_deref(), Some("57P01" | "57P02" | "57P05")),
        _ => false,
    }
}

/// When a connection last broke. Those that lay idle then probably broke with it.
#[derive(Clone)]
struct Breakage {
    base: Instant,
    /// Nanoseconds after `base`.
    last: Arc<AtomicU64>,
}

impl Breakage {
    fn new() -> Self {
        Self { base: Instant::now(), last: Arc::default() }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn happened(&self) {
        self.last.fetch_max(self.now(), Ordering::AcqRel);
    }

    /// Whether a connection that has been idle for so long needs a test.
    fn suspects(&self, idle_for: Duration) -> bool {
        let idle_since = self.now().saturating_sub(u64::try_from(idle_for.as_nanos()).unwrap_or(u64::MAX));
        idle_for > TEST_AFTER_IDLE || idle_since <= self.last.load(Ordering::Acquire)
    }
}

/// The pool and what is measured about it.
pub struct Database {
    pool: PgPool,
    /// One connection apart, so that a busy pool does not look like a dead Postgres.
    health: PgPool,
    breakage: Breakage,
    metrics: DbMetrics,
    query_timeout: Duration,
}

impl Database {
    /// Opens nothing yet: Postgres may be down.
    pub fn new(
        options: PgConnectOptions,
        size: u32,
        acquire_timeout: Duration,
        query_timeout: Duration,
        metrics: DbMetrics,
    ) -> Self {
        let breakage = Breakage::new();
        let broke = breakage.clone();
        let pool = PgPoolOptions::new()
            .max_connections(size)
            .acquire_timeout(acquire_timeout)
            .idle_timeout(Duration::from_secs(300))
            .max_lifetime(Duration::from_secs(1800))
            // The default tests before each use, which is one round trip more for every statement.
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let suspected = broke.suspects(meta.idle_for);
                Box::pin(async move {
                    if suspected {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options.clone());
        let health = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(acquire_timeout)
            .test_before_acquire(false)
            .connect_lazy_with(options.application_name("transaction-api health"));
        Self { pool, health, breakage, metrics, query_timeout }
    }

    /// The pool, to be watched.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    async fn acquire(&self) -> Result<PoolConnection<Postgres>, DbError> {
        let started = Instant::now();
        let result = self.pool.acquire().await;
        self.metrics.acquire.observe(started.elapsed().as_secs_f64());
        result.map_err(|error| {
            self.metrics.timeouts.inc();
            DbError::from(error)
        })
    }

    /// Runs a statement that may safely be repeated, once more if its connection broke.
    async fn run<T>(
        &self,
        query: Query,
        statement: impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, sqlx::Result<T>> + Send,
    ) -> Result<T, DbError> {
        let mut repeated = false;
        loop {
            let mut connection = self.acquire().await?;
            match self.measure(query, statement(&mut connection)).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) if connection_lost(&error) => {
                    self.breakage.happened();
                    connection.close_on_drop();
                    if repeated {
                        return Err(error.into());
                    }
                    repeated = true;
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(Late) => {
                    self.breakage.happened();
                    connection.close_on_drop();
                    return Err(DbError::timed_out());
                }
            }
        }
    }

    /// Runs one statement within the time limit and counts it.
    async fn measure<T>(
        &self,
        query: Query,
        statement: impl Future<Output = sqlx::Result<T>>,
    ) -> Result<sqlx::Result<T>, Late> {
        let started = Instant::now();
        let result = tokio::time::timeout(self.query_timeout, statement).await;
        self.metrics.observe(query, started.elapsed(), matches!(result, Ok(Ok(_))));
        result.map_err(|_| Late)
    }

    /// Whether Postgres answers, on a connection apart.
    ///
    /// # Errors
    /// It does not.
    pub async fn check(&self) -> Result<(), DbError> {
        let mut connection = self.health.acquire().await?;
        // A connection that broke while it lay idle is replaced, not reported.
        if connection.ping().await.is_err() {
            connection.close_on_drop();
            drop(connection);
            connection = self.health.acquire().await?;
        }
        let result =
            self.measure(Query::HealthCheck, async { sqlx::query("SELECT 1").execute(&mut *connection).await }).await;
        match result {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                connection.close_on_drop();
                Err(error.into())
            }
            Err(Late) => {
                connection.close_on_drop();
                Err(DbError::timed_out())
            }
        }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
        self.health.close().await;
    }
}

/// No answer within the limit.
struct Late;
