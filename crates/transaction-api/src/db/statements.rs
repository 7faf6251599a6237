//! The statements. All are fixed texts with bound values, prepared once a connection.

use std::time::Duration;

use futures::FutureExt;
use sqlx::{
    FromRow, PgConnection, Row,
    postgres::{PgRow, types::PgInterval},
};
use telemetry::db_span;
use time::OffsetDateTime;
use tracing::Instrument;
use uuid::Uuid;

use super::{Database, DbError, Query};
use crate::{
    cursor::Cursor,
    idempotency::{Key, RequestHash},
    money::{Amount, Currency},
    transaction::{DeclineReason, Description, NewTransaction, Status, Transaction},
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, created_at, amount_minor, currency, description, status, decline_reason FROM transactions ",
            $rest
        )
    };
}

const LIST: &str = select!("ORDER BY created_at DESC, id DESC LIMIT $1");
const LIST_AFTER: &str = select!("WHERE (created_at, id) < ($2, $3) ORDER BY created_at DESC, id DESC LIMIT $1");
const LIST_STATUS: &str = select!("WHERE status = $2 ORDER BY created_at DESC, id DESC LIMIT $1");
const LIST_STATUS_AFTER: &str =
    select!("WHERE status = $2 AND (created_at, id) < ($3, $4) ORDER BY created_at DESC, id DESC LIMIT $1");
const GET: &str = select!("WHERE id = $1");
const GET_MANY: &str = select!("WHERE id = ANY($1)");

/// A row that is there already was stored by an earlier try of the same batch.
const INSERT: &str = "\
INSERT INTO transactions (id, amount_minor, currency, description, status, decline_reason)
SELECT * FROM UNNEST($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[])
ON CONFLICT (id) DO NOTHING
RETURNING id, created_at";

/// One round trip: takes the key if it is free or its lease has run out without a
/// result, and otherwise reads who has it. Exactly one of two that arrive together
/// inserts; the other waits on the unique index until the first has committed, does
/// nothing, and may not see that row yet: then no row comes back.
const CLAIM: &str = "\
WITH claimed AS (
    INSERT INTO idempotency_keys AS k (key, request_hash, transaction_id, locked_until)
    VALUES ($1, $2, $3, clock_timestamp() + $4)
    ON CONFLICT (key) DO UPDATE SET locked_until = EXCLUDED.locked_until
        WHERE k.locked_until < clock_timestamp()
          AND k.request_hash = EXCLUDED.request_hash
          AND NOT EXISTS (SELECT FROM transactions t WHERE t.id = k.transaction_id)
    RETURNING k.transaction_id
)
SELECT true AS won, transaction_id, NULL::bytea AS request_hash, NULL::uuid AS id, NULL::timestamptz AS created_at,
       NULL::bigint AS amount_minor, NULL::text AS currency, NULL::text AS description, NULL::text AS status,
       NULL::text AS decline_reason
FROM claimed
UNION ALL
SELECT false, k.transaction_id, k.request_hash, t.id, t.created_at, t.amount_minor, t.currency, t.description,
       t.status, t.decline_reason
FROM idempotency_keys k LEFT JOIN transactions t ON t.id = k.transaction_id
WHERE k.key = $1 AND NOT EXISTS (SELECT FROM claimed)";

const RELEASE: &str = "\
DELETE FROM idempotency_keys k
WHERE k.key = $1 AND k.transaction_id = $2
  AND NOT EXISTS (SELECT FROM transactions t WHERE t.id = k.transaction_id)";

const PURGE: &str = "\
DELETE FROM idempotency_keys WHERE key IN (
    SELECT key FROM idempotency_keys WHERE created_at < clock_timestamp() - $1 ORDER BY created_at LIMIT 1000)";

/// Whose a key is.
#[derive(Debug)]
pub enum Claim {
    /// Ours: store the transaction under this id.
    Won(Uuid),
    /// The same request has ended with this.
    Done(Box<Transaction>),
    /// The same request has not ended yet.
    InProgress,
    /// Another request's.
    OtherRequest,
}

impl FromRow<'_, PgRow> for Transaction {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        fn known<T>(column: &'static str, value: Option<T>) -> sqlx::Result<T> {
            value.ok_or_else(|| sqlx::Error::ColumnDecode {
                index: column.to_owned(),
                source: "a value that this version does not know".into(),
            })
        }
        let reason: Option<&str> = row.try_get("decline_reason")?;
        Ok(Self {
            id: row.try_get("id")?,
            created_at: row.try_get("created_at")?,
            amount: known("amount_minor", Amount::new(row.try_get("amount_minor")?))?,
            currency: known("currency", Currency::from_code(row.try_get("currency")?))?,
            description: row.try_get::<Option<String>, _>("description")?.map(Description::stored),
            status: known("status", Status::from_name(row.try_get("status")?))?,
            decline_reason: reason.map(|name| known("decline_reason", DeclineReason::from_name(name))).transpose()?,
        })
    }
}

impl Database {
    /// A page of the list, newest first.
    ///
    /// # Errors
    /// Postgres cannot be used.
    pub async fn list(
        &self,
        filter: Option<Status>,
        after: Option<Cursor>,
        limit: i64,
    ) -> Result<Vec<Transaction>, DbError> {
        let status = filter.map(Status::as_str);
        let position = after.map(|cursor| cursor.position());
        self.run(Query::ListTransactions, |connection| {
            match (status, position) {
                (None, None) => sqlx::query_as(LIST).bind(limit).fetch_all(connection),
                (None, Some((at, id))) => {
                    sqlx::query_as(LIST_AFTER).bind(limit).bind(at).bind(id).fetch_all(connection)
                }
                (Some(status), None) => sqlx::query_as(LIST_STATUS).bind(limit).bind(status).fetch_all(connection),
                (Some(status), Some((at, id))) => {
                    sqlx::query_as(LIST_STATUS_AFTER).bind(limit).bind(status).bind(at).bind(id).fetch_all(connection)
                }
            }
            .boxed()
        })
        .instrument(db_span!("SELECT", "transactions", "postgresql"))
        .await
    }

    /// One transaction.
    ///
    /// # Errors
    /// Postgres cannot be used.
    pub async fn get(&self, id: Uuid) -> Result<Option<Transaction>, DbError> {
        self.run(Query::GetTransaction, |connection| sqlx::query_as(GET).bind(id).fetch_optional(connection).boxed())
            .instrument(db_span!("SELECT", "transactions", "postgresql"))
            .await
    }

    /// Takes a key for `lease`, with `id` for the transaction to come.
    ///
    /// # Errors
    /// Postgres cannot be used.
    pub async fn claim(&self, key: &Key, hash: &RequestHash, id: Uuid, lease: Duration) -> Result<Claim, DbError> {
        let row = self
            .run(Query::ClaimIdempotencyKey, |connection| {
                sqlx::query(CLAIM)
                    .bind(key.as_str())
                    .bind(&hash[..])
                    .bind(id)
                    .bind(interval(lease))
                    .fetch_optional(connection)
                    .boxed()
            })
            .instrument(db_span!("INSERT", "idempotency_keys", "postgresql"))
            .await?;
        // A repeated statement whose first try was committed unseen finds its own key in progress,
        // under its own id.
        let Some(row) = row else { return Ok(Claim::InProgress) };
        let holder: Uuid = row.try_get("transaction_id")?;
        if row.try_get("won")? || holder == id {
            return Ok(Claim::Won(holder));
        }
        if row.try_get::<&[u8], _>("request_hash")? != &hash[..] {
            return Ok(Claim::OtherRequest);
        }
        Ok(match row.try_get::<Option<Uuid>, _>("id")? {
            Some(_) => Claim::Done(Box::new(Transaction::from_row(&row)?)),
            None => Claim::InProgress,
        })
    }

    /// Gives a key back, unless its transaction is stored after all.
    ///
    /// # Errors
    /// Postgres cannot be used; the lease will run out.
    pub async fn release(&self, key: &Key, id: Uuid) -> Result<(), DbError> {
        self.run(Query::ReleaseIdempotencyKey, |connection| {
            sqlx::query(RELEASE).bind(key.as_str()).bind(id).execute(connection).boxed()
        })
        .instrument(db_span!("DELETE", "idempotency_keys", "postgresql"))
        .await
        .map(drop)
    }

    /// Forgets keys older than `age`, at most 1,000 at once; says how many.
    ///
    /// # Errors
    /// Postgres cannot be used.
    pub async fn purge_keys(&self, age: Duration) -> Result<u64, DbError> {
        self.run(Query::PurgeIdempotencyKeys, |connection| {
            sqlx::query(PURGE).bind(interval(age)).execute(connection).boxed()
        })
        .instrument(db_span!("DELETE", "idempotency_keys", "postgresql"))
        .await
        .map(|done| done.rows_affected())
    }
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) }
}

/// Stores a batch in one statement and one commit. What was stored before under the
/// same id is returned as it was stored then.
pub(super) async fn insert(connection: &mut PgConnection, batch: &[NewTransaction]) -> sqlx::Result<Vec<Transaction>> {
    let column = |value: fn(&NewTransaction) -> Option<&str>| batch.iter().map(value).collect::<Vec<_>>();
    let stored: Vec<(Uuid, OffsetDateTime)> = sqlx::query_as(INSERT)
        .bind(batch.iter().map(|t| t.id).collect::<Vec<_>>())
        .bind(batch.iter().map(|t| t.draft.amount.minor()).collect::<Vec<_>>())
        .bind(column(|t| Some(t.draft.currency.code())))
        .bind(column(|t| t.draft.description.as_ref().map(Description::as_str)))
        .bind(column(|t| Some(t.status().as_str())))
        .bind(column(|t| t.declined.map(DeclineReason::as_str)))
        .fetch_all(&mut *connection)
        .await?;
    // The rows come back in the order that they went in, unless some were there before.
    if stored.len() == batch.len() && stored.iter().zip(batch).all(|((id, _), new)| *id == new.id) {
        return Ok(batch.iter().zip(stored).map(|(new, (_, at))| new.clone().stored_at(at)).collect());
    }
    let ids: Vec<Uuid> = batch.iter().map(|t| t.id).collect();
    let rows: Vec<Transaction> = sqlx::query_as(GET_MANY).bind(&ids).fetch_all(connection).await?;
    ids.iter().map(|id| rows.iter().find(|row| row.id == *id).cloned().ok_or(sqlx::Error::RowNotFound)).collect()
}
