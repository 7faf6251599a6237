//! Stores new transactions, many with one statement where many are waiting.
//!
//! A few lanes share one queue. A lane takes all that waits, up to a bound, stores
//! it by one statement and thereby one commit, and answers each request only
//! then. Nothing is delayed to fill a batch: a lone request is stored at once, and
//! batches grow only while all lanes are busy. Under load this costs Postgres one
//! parse, one flush and one round trip for many rows.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Postgres, pool::PoolConnection};
use telemetry::db_span;
use tokio::sync::{Mutex, mpsc, oneshot};
use tracing::Instrument;

use super::{Database, DbError, Late, Query, connection_lost, statements};
use crate::transaction::{NewTransaction, Transaction};

/// Rows of one statement.
const BATCH: usize = 64;

/// Requests that may wait. One more is told 503 at once.
const QUEUE: usize = 1024;

/// A lane keeps its connection this long without work, to spare the pool's test on return.
const HOLD: Duration = Duration::from_millis(100);

/// Why a transaction was not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{cause}")]
pub struct WriteError {
    /// What happened.
    #[source]
    pub cause: DbError,
    /// It is certain that nothing was stored. Otherwise nobody knows.
    pub not_stored: bool,
}

struct Job {
    new: NewTransaction,
    answer: oneshot::Sender<Result<Transaction, WriteError>>,
}

/// Hands transactions to the lanes.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Job>,
}

impl Writer {
    /// Starts the lanes; they end when the last `Writer` is dropped.
    pub fn start(db: &Arc<Database>, lanes: usize) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..lanes {
            tokio::spawn(Lane { db: db.clone(), jobs: jobs.clone(), connection: None }.run());
        }
        Self { queue }
    }

    /// Stores one transaction; returns when it is committed.
    ///
    /// # Errors
    /// It was not, or nobody knows.
    pub async fn insert(&self, new: NewTransaction) -> Result<Transaction, WriteError> {
        let busy = || WriteError { cause: DbError::Unavailable(Arc::new(sqlx::Error::PoolTimedOut)), not_stored: true };
        async {
            let (answer, stored) = oneshot::channel();
            self.queue.try_send(Job { new, answer }).map_err(|_| busy())?;
            stored.await.unwrap_or_else(|_| {
                Err(WriteError { cause: DbError::Unavailable(Arc::new(sqlx::Error::PoolClosed)), not_stored: false })
            })
        }
        .instrument(db_span!("INSERT", "transactions", "postgresql"))
        .await
    }
}

struct Lane {
    db: Arc<Database>,
    jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    connection: Option<PoolConnection<Postgres>>,
}

impl Lane {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let receive = async { self.jobs.lock().await.recv_many(&mut batch, BATCH).await };
            let received = if self.connection.is_some() {
                match tokio::time::timeout(HOLD, receive).await {
                    Ok(received) => received,
                    Err(_) => {
                        self.connection = None;
                        continue;
                    }
                }
            } else {
                receive.await
            };
            if received == 0 {
                return;
            }
            let (new, answers): (Vec<_>, Vec<_>) = batch.drain(..).map(|job| (job.new, job.answer)).unzip();
            self.db.metrics.batch.observe(new.len() as f64);
            match self.store(&new).await {
                Ok(stored) => {
                    for (answer, transaction) in answers.into_iter().zip(stored) {
                        // Nobody waits any more: the transaction is stored all the same.
                        let _ = answer.send(Ok(transaction));
                    }
                }
                // One row that Postgres refuses must not fail the others.
                Err(error) if new.len() > 1 && !matches!(error.cause, DbError::Unavailable(_)) => {
                    for (new, answer) in new.into_iter().zip(answers) {
                        let alone = self.store(std::slice::from_ref(&new)).await;
                        let _ = answer.send(alone.map(|mut stored| stored.remove(0)));
                    }
                }
                Err(error) => {
                    let unreachable = error.not_stored && self.connection.is_none();
                    for answer in answers {
                        let _ = answer.send(Err(error.clone()));
                    }
                    if unreachable {
                        self.refuse_waiting(&error);
                    }
                }
            }
        }
    }

    /// Without a connection those who wait behind would only wait in vain, one time-out after the other.
    fn refuse_waiting(&self, error: &WriteError) {
        // Whoever has the queue now waits for it to fill: it is empty.
        let Ok(mut jobs) = self.jobs.try_lock() else { return };
        while let Ok(job) = jobs.try_recv() {
            let _ = job.answer.send(Err(error.clone()));
        }
    }

    /// Stores a batch, once more on a new connection if the first one broke: ids make that safe.
    async fn store(&mut self, batch: &[NewTransaction]) -> Result<Vec<Transaction>, WriteError> {
        let mut not_stored = true;
        let mut repeated = false;
        loop {
            let connection = match &mut self.connection {
                Some(connection) => connection,
                none => {
                    let new = self.db.acquire().await.map_err(|cause| WriteError { cause, not_stored })?;
                    none.insert(new)
                }
            };
            let started = Instant::now();
            let result = self.db.measure(Query::InsertTransactions, statements::insert(connection, batch)).await;
            let cause = match result {
                Ok(Ok(stored)) => return Ok(stored),
                Ok(Err(error)) if connection_lost(&error) => {
                    not_stored = false;
                    self.discard();
                    if !repeated {
                        repeated = true;
                        continue;
                    }
                    error.into()
                }
                // Postgres answered that it did not: the statement is undone as a whole.
                Ok(Err(error)) => error.into(),
                Err(Late) => {
                    not_stored = false;
                    self.discard();
                    DbError::timed_out()
                }
            };
            tracing::debug!(rows = batch.len(), seconds = started.elapsed().as_secs_f64(), "batch not stored");
            return Err(WriteError { cause, not_stored });
        }
    }

    fn discard(&mut self) {
        self.db.breakage.happened();
        if let Some(mut connection) = self.connection.take() {
            connection.close_on_drop();
        }
    }
}
