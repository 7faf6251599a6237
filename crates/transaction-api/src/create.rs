//! Taking a payment: key, gateway, database, in this order.
//!
//! The key is claimed before the gateway is asked, so that requests with one key
//! ask it once; no database connection is held while it thinks. The transaction's id
//! is made beforehand and stays with the key, so that a request that is repeated
//! after a crash or a lost connection stores the same row or finds it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::RngExt;
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    App,
    db::Claim,
    error::ApiError,
    gateway::Verdict,
    idempotency::{Key, request_hash},
    metrics::GATEWAY_ERROR,
    transaction::{Draft, NewTransaction, Transaction},
};

/// How long a key stays with a request that has not ended: the gateway's longest
/// answer and a slow commit fit in. After a crash the same key works again then.
const LEASE: Duration = Duration::from_secs(30);

/// How long a request waits for another with the same key.
const PATIENCE: Duration = Duration::from_secs(3);

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The stored transaction.
    pub transaction: Transaction,
    /// It was stored by an earlier request with the same key.
    pub replayed: bool,
}

/// Takes a payment. `None` asks for a plausible random one.
///
/// Goes on to its end if the client goes away: an authorisation that nobody records is worse
/// than an answer that nobody reads.
///
/// # Errors
/// Nothing was stored; or, if Postgres was lost in the very moment of storing,
/// nobody knows, and a repetition with the same key finds out.
pub async fn create(app: Arc<App>, draft: Option<Draft>, key: Option<Key>) -> Result<Outcome, ApiError> {
    let task = async move {
        let id = Uuid::now_v7();
        let Some(key) = key else { return pay(&app, id, draft).await.map_err(|failure| failure.error) };
        let hash = request_hash(draft.as_ref());
        let id = match claim(&app, &key, &hash, id).await? {
            Ok(id) => id,
            Err(transaction) => return Ok(Outcome { transaction, replayed: true }),
        };
        match pay(&app, id, draft).await {
            Ok(outcome) => Ok(outcome),
            Err(failure) => {
                // Nothing happened under this key: the client may use it again at once. If this
                // fails too, it may after the lease.
                if failure.not_stored && app.db.release(&key, id).await.is_err() {
                    tracing::debug!("idempotency key stays claimed until its lease ends");
                }
                Err(failure.error)
            }
        }
    };
    tokio::spawn(task.in_current_span())
        .await
        .unwrap_or_else(|panic| Err(ApiError::Internal(anyhow::Error::new(panic).context("taking a payment"))))
}

/// Takes the key, or waits for whoever has it and returns what they stored.
async fn claim(app: &App, key: &Key, hash: &[u8; 32], id: Uuid) -> Result<Result<Uuid, Transaction>, ApiError> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(20);
    loop {
        match app.db.claim(key, hash, id, LEASE).await? {
            Claim::Won(id) => return Ok(Ok(id)),
            Claim::Done(transaction) => return Ok(Err(*transaction)),
            Claim::OtherRequest => return Err(ApiError::KeyReused),
            Claim::InProgress if started.elapsed() + pause > PATIENCE => return Err(ApiError::InProgress),
            Claim::InProgress => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

struct Failure {
    error: ApiError,
    not_stored: bool,
}

async fn pay(app: &App, id: Uuid, draft: Option<Draft>) -> Result<Outcome, Failure> {
    let draft = draft.unwrap_or_else(|| Draft::random(&mut rand::rng()));
    let broken = app.faults.gateway_breaks(|| rand::rng().random());
    let declined = match app.gateway.authorise(id, broken).await {
        Ok(Verdict::Approved) => None,
        Ok(Verdict::Declined(reason)) => Some(reason),
        Err(error) => {
            app.metrics.transactions.with_label_values(&[GATEWAY_ERROR]).inc();
            return Err(Failure { error: error.into(), not_stored: true });
        }
    };
    let new = NewTransaction { id, draft, declined };
    let transaction = app.writer.insert(new).await.map_err(|failed| {
        if failed.not_stored && declined.is_none() {
            app.gateway.void(id);
        }
        Failure { not_stored: failed.not_stored, error: failed.cause.into() }
    })?;
    // Before the answer: whoever has read it finds the transaction in the list.
    app.cache.invalidate();
    app.metrics.transactions.with_label_values(&[transaction.status.as_str()]).inc();
    Ok(Outcome { transaction, replayed: false })
}
