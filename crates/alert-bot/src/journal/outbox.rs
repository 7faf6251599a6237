//! Messages to people: from what the engine wants said to what a receiver took.
//!
//! `outbox` holds what the engine wants said, `messages` what goes to whom, and
//! `threads` where a receiver already has the incident. Each step is one
//! transaction: a crash between two of them repeats a step and loses none.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection};

use super::{Job, Journal, Result};
use crate::{
    engine::{NextLevel, Page, PageKind},
    policy::Receiver,
    timestamp::Timestamp,
};

/// At once so many rows at most; the rest waits for the next look.
const LIMIT: i64 = 500;
/// Delivered messages and quiet threads are kept for so much longer than notifications.
const KEEP: Duration = Duration::from_secs(23 * 24 * 3600);

/// What the engine wants said and nobody was told yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// Row.
    pub id: i64,
    /// What it is about.
    pub page: Page,
}

/// One message to one receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// To whom.
    pub receiver: Receiver,
    /// Why it is sent.
    pub kind: PageKind,
    /// About which incidents, oldest first.
    pub incidents: Vec<String>,
    /// How far the ladder has been climbed.
    pub levels: usize,
    /// Who is told next, unless somebody takes over.
    pub next: Option<NextLevel>,
    /// Why people are called, by incident.
    #[serde(default)]
    pub why: BTreeMap<String, String>,
}

/// A message that is not delivered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Row; stable over retries.
    pub id: i64,
    /// When it was put together.
    pub at: Timestamp,
    /// How often it was tried.
    pub attempts: i64,
    /// Not to be tried before.
    pub next_at: Timestamp,
    /// What it is.
    pub envelope: Envelope,
}

/// Where a receiver has an incident.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Slack's channel id, or nothing.
    pub channel: String,
    /// What later messages refer to: Slack's `ts`, a mail's Message-ID. Empty until it was delivered.
    pub root: String,
    /// The last message in it, where the medium chains them.
    pub last: String,
    /// Every incident of the first message.
    pub incidents: Vec<String>,
    /// The state that was told last: the same one is not told again.
    pub said: String,
}

/// How an attempt went.
#[derive(Clone, Debug)]
pub enum Tried {
    /// The receiver took it: where its incidents are now.
    Delivered(Thread),
    /// Not now; again at that time.
    Failed(Timestamp),
}

impl Journal {
    /// What the engine wants said, oldest first.
    pub async fn outbox_waiting(&self) -> Result<Vec<Waiting>> {
        let rows = sqlx::query("SELECT id, doc FROM outbox WHERE delivered_at IS NULL ORDER BY id LIMIT ?")
            .bind(LIMIT)
            .fetch_all(&self.readers)
            .await?;
        rows.into_iter().map(|row| Ok(Waiting { id: row.get(0), page: serde_json::from_str(row.get(1))? })).collect()
    }

    /// When messages were put together for a receiver since then.
    pub async fn messages_since(&self, receiver: Receiver, since: Timestamp) -> Result<Vec<Timestamp>> {
        let rows = sqlx::query_scalar("SELECT at FROM messages WHERE receiver = ? AND at >= ? ORDER BY at")
            .bind(receiver.as_str())
            .bind(since.millis())
            .fetch_all(&self.readers)
            .await?;
        Ok(rows.into_iter().map(Timestamp::from_millis).collect())
    }

    /// Messages that no receiver has taken yet, oldest first.
    pub async fn messages_waiting(&self) -> Result<Vec<Message>> {
        let rows = sqlx::query(
            "SELECT id, at, attempts, next_at, doc FROM messages WHERE delivered_at IS NULL ORDER BY id LIMIT ?",
        )
        .bind(LIMIT)
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(Message {
                    id: row.get(0),
                    at: Timestamp::from_millis(row.get(1)),
                    attempts: row.get(2),
                    next_at: Timestamp::from_millis(row.get(3)),
                    envelope: serde_json::from_str(row.get(4))?,
                })
            })
            .collect()
    }

    /// Where a receiver has an incident, if it was told or is about to be.
    pub async fn thread(&self, receiver: Receiver, incident: &str) -> Result<Option<Thread>> {
        let row = sqlx::query("SELECT doc FROM threads WHERE receiver = ? AND incident = ?")
            .bind(receiver.as_str())
            .bind(incident)
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| Ok(serde_json::from_str(row.get(0))?)).transpose()
    }

    /// Other incidents about the same service that people were called for and that are not over.
    pub async fn also_burning(&self, service: &str, except: &str) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar(
            "SELECT DISTINCT alertname FROM incidents WHERE closed_at IS NULL AND service = ? AND id <> ? \
             ORDER BY alertname LIMIT 10",
        )
        .bind(service)
        .bind(except)
        .fetch_all(&self.readers)
        .await?)
    }

    /// Turns rows of the outbox into messages, all of it or nothing.
    pub async fn gather(&self, taken: Vec<i64>, messages: Vec<Envelope>, now: Timestamp) -> Result<()> {
        let fence = self.fence;
        self.job(|reply| Job::Gather { taken, messages, now, fence, reply }).await
    }

    /// Writes down how an attempt at a message went.
    pub async fn message_tried(&self, message: Message, tried: Tried, now: Timestamp) -> Result<()> {
        let fence = self.fence;
        self.job(|reply| Job::Tried { message: Box::new(message), tried, now, fence, reply }).await
    }
}

pub(super) async fn gather(
    tx: &mut SqliteConnection,
    taken: &[i64],
    messages: &[Envelope],
    now: Timestamp,
) -> Result<()> {
    for id in taken {
        sqlx::query("UPDATE outbox SET attempts = attempts + 1, delivered_at = ? WHERE id = ?")
            .bind(now.millis())
            .bind(id)
            .execute(&mut *tx)
            .await?;
    }
    for message in messages {
        sqlx::query("INSERT INTO messages (receiver, at, doc, next_at) VALUES (?, ?, ?, ?)")
            .bind(message.receiver.as_str())
            .bind(now.millis())
            .bind(serde_json::to_string(message)?)
            .bind(now.millis())
            .execute(&mut *tx)
            .await?;
        // An update may follow before the call was taken: it must know whom it is for.
        let thread = serde_json::to_string(&Thread { incidents: message.incidents.clone(), ..Thread::default() })?;
        for incident in &message.incidents {
            sqlx::query("INSERT OR IGNORE INTO threads (receiver, incident, at, doc) VALUES (?, ?, ?, ?)")
                .bind(message.receiver.as_str())
                .bind(incident)
                .bind(now.millis())
                .bind(&thread)
                .execute(&mut *tx)
                .await?;
        }
    }
    Ok(())
}

pub(super) async fn tried(tx: &mut SqliteConnection, message: &Message, tried: &Tried, now: Timestamp) -> Result<()> {
    let (delivered_at, next_at) = match tried {
        Tried::Delivered(_) => (Some(now.millis()), now),
        Tried::Failed(next_at) => (None, *next_at),
    };
    sqlx::query("UPDATE messages SET attempts = attempts + 1, delivered_at = ?, next_at = ? WHERE id = ?")
        .bind(delivered_at)
        .bind(next_at.millis())
        .bind(message.id)
        .execute(&mut *tx)
        .await?;
    if let Tried::Delivered(thread) = tried {
        let doc = serde_json::to_string(thread)?;
        for incident in &message.envelope.incidents {
            sqlx::query("INSERT OR REPLACE INTO threads (receiver, incident, at, doc) VALUES (?, ?, ?, ?)")
                .bind(message.envelope.receiver.as_str())
                .bind(incident)
                .bind(now.millis())
                .bind(&doc)
                .execute(&mut *tx)
                .await?;
        }
    }
    Ok(())
}

pub(super) async fn prune(connection: &mut SqliteConnection, before: Timestamp) -> Result<()> {
    let before = before.minus(KEEP);
    for statement in [
        "DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE delivered_at < ? ORDER BY id LIMIT 500)",
        "DELETE FROM threads WHERE at < ?",
    ] {
        sqlx::query(statement).bind(before.millis()).execute(&mut *connection).await?;
    }
    Ok(())
}
