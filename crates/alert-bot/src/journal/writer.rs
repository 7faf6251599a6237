//! The one task that writes.
//!
//! Notifications that wait at the same time share one commit, and so one flush
//! to disk: under load the acknowledgements get cheaper, not slower. They also
//! go before the engine's own commits, which are kept short for their sake.

use std::collections::HashMap;

use sqlx::{ConnectOptions, Connection, Row, Sqlite, SqliteConnection, Transaction, sqlite::SqliteConnectOptions};
use tokio::sync::mpsc;

use super::{
    Intake, Job, JournalError, Result,
    audit::{GENESIS, Hash, Line},
    lease, outbox,
};
use crate::{
    engine::{Action, Edge, Effect, Freeze, Incident, Note, Page, Release},
    timestamp::Timestamp,
};

/// Notifications in one commit at most.
const GROUP: usize = 256;
/// Unreadable notifications kept at most; the oldest go first.
const QUARANTINE_ROWS: i64 = 1000;

pub(super) struct Writer {
    connection: Option<SqliteConnection>,
    options: SqliteConnectOptions,
}

impl Writer {
    pub(super) async fn new(mut connection: SqliteConnection, options: SqliteConnectOptions) -> Result<Self> {
        head(&mut connection).await?;
        Ok(Self { connection: Some(connection), options })
    }

    pub(super) async fn run(mut self, mut intake: mpsc::Receiver<Intake>, mut jobs: mpsc::Receiver<Job>) {
        let mut group = Vec::new();
        loop {
            tokio::select! {
                biased;
                n = intake.recv_many(&mut group, GROUP) => {
                    if n == 0 {
                        break;
                    }
                    self.take_in(&mut group).await;
                    // One job in between, or a flood of notifications would keep the engine waiting.
                    if let Ok(job) = jobs.try_recv() {
                        self.work(job).await;
                    }
                }
                job = jobs.recv() => match job {
                    Some(job) => self.work(job).await,
                    None => break,
                },
            }
        }
        if let Some(connection) = self.connection {
            // Leaves a checkpointed file behind; a crash instead costs nothing but a replay of the WAL.
            let _ = connection.close().await;
        }
    }

    /// A connection that has failed is not trusted again: a new one is opened.
    async fn connection(&mut self) -> Result<&mut SqliteConnection> {
        if self.connection.is_none() {
            self.connection = Some(self.options.connect().await?);
        }
        self.connection.as_mut().ok_or(JournalError::Closed)
    }

    /// A transaction that writes from its beginning: what it reads cannot be out of date by the time
    /// that it writes, though another bot writes to the same file.
    async fn begin(&mut self, fence: Option<i64>) -> Result<Transaction<'_, Sqlite>> {
        let mut tx = self.connection().await?.begin_with("BEGIN IMMEDIATE").await?;
        if let Some(token) = fence {
            lease::check(&mut tx, token).await?;
        }
        Ok(tx)
    }

    async fn take_in(&mut self, group: &mut Vec<Intake>) {
        let result = self.store(group).await;
        let failed = result.as_ref().err().map(ToString::to_string);
        if result.is_err() {
            self.connection = None;
        }
        for intake in group.drain(..) {
            let answer = match &failed {
                None => Ok(()),
                Some(why) => Err(JournalError::Sqlite(sqlx::Error::Protocol(why.clone()))),
            };
            // Nobody waits any more when the client has gone; the notification is stored all the same.
            let _ = intake.reply.send(answer);
        }
    }

    async fn store(&mut self, group: &[Intake]) -> Result<()> {
        let mut tx = self.connection().await?.begin().await?;
        for intake in group {
            sqlx::query("INSERT INTO deliveries (received_at, alerts, body) VALUES (?, ?, ?)")
                .bind(intake.at.millis())
                .bind(i64::try_from(intake.alerts).unwrap_or(i64::MAX))
                .bind(&intake.body[..])
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    async fn work(&mut self, job: Job) {
        let (result, reply) = match job {
            Job::Effects { effects, processed, now, fence, reply } => {
                (self.effects(&effects, &processed, now, fence).await, reply)
            }
            Job::Quarantine { at, reason, body, reply } => (self.quarantine(at, &reason, &body).await, reply),
            Job::Gather { taken, messages, now, fence, reply } => {
                (self.gather(&taken, &messages, now, fence).await, reply)
            }
            Job::Tried { message, tried, now, fence, reply } => (self.tried(&message, &tried, now, fence).await, reply),
            Job::Prune { before, reply } => (self.prune(before).await, reply),
            Job::Release { token, reply } => (self.release(token).await, reply),
            Job::Claim { claim, reply } => {
                let result = self.claim(&claim).await;
                if result.is_err() {
                    self.connection = None;
                }
                let _ = reply.send(result);
                return;
            }
        };
        // Who is fenced off has written nothing, and its connection is as good as before.
        if result.as_ref().is_err_and(|e| !matches!(e, JournalError::Fenced { .. })) {
            self.connection = None;
        }
        let _ = reply.send(result);
    }

    async fn claim(&mut self, claim: &lease::Claim) -> Result<lease::Claimed> {
        let mut tx = self.begin(None).await?;
        let claimed = lease::claim(&mut tx, claim).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    async fn release(&mut self, token: i64) -> Result<()> {
        let mut tx = self.begin(None).await?;
        lease::release(&mut tx, token).await?;
        Ok(tx.commit().await?)
    }

    async fn effects(
        &mut self,
        effects: &[Effect],
        processed: &[i64],
        now: Timestamp,
        fence: Option<i64>,
    ) -> Result<()> {
        let mut tx = self.begin(fence).await?;
        // Read each time: another bot may have written since.
        let (mut seq, mut head) = head(&mut tx).await?;
        // Of an incident that changed several times only the last version: the others are not news
        // to anybody who reads after this commit.
        let last: HashMap<&str, usize> = effects
            .iter()
            .enumerate()
            .filter_map(|(i, effect)| match effect {
                Effect::Put(incident) => Some((incident.id.as_str(), i)),
                _ => None,
            })
            .collect();
        for (i, effect) in effects.iter().enumerate() {
            match effect {
                Effect::Put(incident) if last.get(incident.id.as_str()) != Some(&i) => {}
                Effect::Put(incident) => put_incident(&mut tx, incident).await?,
                Effect::PutAction(action) => put_action(&mut tx, action).await?,
                Effect::Ended(key, at) => {
                    sqlx::query("INSERT OR REPLACE INTO ended (fingerprint, starts_at, at) VALUES (?, ?, ?)")
                        .bind(&key.fingerprint)
                        .bind(key.starts_at.millis())
                        .bind(at.millis())
                        .execute(&mut *tx)
                        .await?;
                }
                Effect::Page(page) => post(&mut tx, page).await?,
                Effect::Note(note) => {
                    seq += 1;
                    head = write_line(&mut tx, note, seq, &head).await?;
                }
                Effect::Freeze(freeze) => put_freeze(&mut tx, freeze.as_deref()).await?,
                Effect::ManualStop(target, at) => put_stop(&mut tx, target, *at).await?,
                Effect::Release(release) => put_release(&mut tx, release).await?,
                Effect::Edge(edge) => put_edge(&mut tx, edge).await?,
                Effect::EdgeGone(client, server) => {
                    sqlx::query("DELETE FROM edges WHERE client = ? AND server = ?")
                        .bind(client)
                        .bind(server)
                        .execute(&mut *tx)
                        .await?;
                }
                Effect::Topology(_)
                | Effect::Defer(..)
                | Effect::Heard(..)
                | Effect::Asked(..)
                | Effect::Answered(_)
                | Effect::Do(_) => {}
            }
        }
        for id in processed {
            sqlx::query("UPDATE deliveries SET processed_at = ? WHERE id = ?")
                .bind(now.millis())
                .bind(id)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    async fn quarantine(&mut self, at: Timestamp, reason: &str, body: &[u8]) -> Result<()> {
        let mut tx = self.connection().await?.begin().await?;
        sqlx::query("INSERT INTO quarantine (received_at, reason, body) VALUES (?, ?, ?)")
            .bind(at.millis())
            .bind(reason)
            .bind(body)
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM quarantine WHERE id <= (SELECT max(id) FROM quarantine) - ?")
            .bind(QUARANTINE_ROWS)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn gather(
        &mut self,
        taken: &[i64],
        messages: &[outbox::Envelope],
        now: Timestamp,
        fence: Option<i64>,
    ) -> Result<()> {
        let mut tx = self.begin(fence).await?;
        outbox::gather(&mut tx, taken, messages, now).await?;
        Ok(tx.commit().await?)
    }

    async fn tried(
        &mut self,
        message: &outbox::Message,
        tried: &outbox::Tried,
        now: Timestamp,
        fence: Option<i64>,
    ) -> Result<()> {
        let mut tx = self.begin(fence).await?;
        outbox::tried(&mut tx, message, tried, now).await?;
        Ok(tx.commit().await?)
    }

    async fn prune(&mut self, before: Timestamp) -> Result<()> {
        // In portions: a long delete would hold up the acknowledgements.
        sqlx::query(
            "DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries \
             WHERE processed_at IS NOT NULL AND received_at < ? ORDER BY id LIMIT 500)",
        )
        .bind(before.millis())
        .execute(self.connection().await?)
        .await?;
        sqlx::query("DELETE FROM uncounted WHERE at < ?")
            .bind(before.millis())
            .execute(self.connection().await?)
            .await?;
        outbox::prune(self.connection().await?, before).await
    }
}

/// The audit's last line: its number and its hash.
async fn head(connection: &mut SqliteConnection) -> Result<(i64, Hash)> {
    let row = sqlx::query("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetch_optional(connection).await?;
    let Some(row) = row else { return Ok((0, GENESIS)) };
    let hash: Vec<u8> = row.get(1);
    let hash = hash.try_into().map_err(|_| JournalError::Audit("the last hash is not a hash".to_owned()))?;
    Ok((row.get(0), hash))
}

async fn put_incident(tx: &mut SqliteConnection, incident: &Incident) -> Result<()> {
    sqlx::query(
        "INSERT INTO incidents (id, fingerprint, starts_at, opened_at, closed_at, state, outcome, alertname, service, doc) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (id) DO UPDATE SET opened_at = excluded.opened_at, closed_at = excluded.closed_at, \
         state = excluded.state, outcome = excluded.outcome, service = excluded.service, doc = excluded.doc",
    )
    .bind(&incident.id)
    .bind(&incident.alert.fingerprint)
    .bind(incident.starts_at.millis())
    .bind(incident.opened_at.millis())
    .bind(incident.closed_at.map(Timestamp::millis))
    .bind(incident.phase.as_str())
    .bind(incident.outcome.map(|o| o.as_str()))
    .bind(incident.alert.name())
    .bind(incident.service())
    .bind(serde_json::to_string(incident)?)
    .execute(tx)
    .await?;
    Ok(())
}

async fn put_action(tx: &mut SqliteConnection, action: &Action) -> Result<()> {
    sqlx::query(
        "INSERT INTO actions (id, incident, fingerprint, starts_at, policy, step, attempt, target, verb, status, intended_at, doc) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (id) DO UPDATE SET status = excluded.status, doc = excluded.doc",
    )
    .bind(&action.id)
    .bind(&action.incident)
    .bind(&action.key.fingerprint)
    .bind(action.key.starts_at.millis())
    .bind(&action.rule)
    .bind(i64::try_from(action.step).unwrap_or(i64::MAX))
    .bind(action.attempt)
    .bind(&action.target.name)
    .bind(action.verb.as_str())
    .bind(action.status.as_str())
    .bind(action.intended_at.millis())
    .bind(serde_json::to_string(action)?)
    .execute(&mut *tx)
    .await?;
    if action.closes_release() {
        sqlx::query("DELETE FROM released WHERE target = ?").bind(&action.target.name).execute(tx).await?;
    }
    Ok(())
}

async fn put_release(tx: &mut SqliteConnection, release: &Release) -> Result<()> {
    for (budget, actions) in [("target", &release.actions), ("global", &release.global)] {
        for action in actions {
            sqlx::query("INSERT OR REPLACE INTO uncounted (action, budget, at) VALUES (?, ?, ?)")
                .bind(action)
                .bind(budget)
                .bind(release.at.millis())
                .execute(&mut *tx)
                .await?;
        }
    }
    for target in &release.targets {
        sqlx::query("INSERT OR REPLACE INTO released (target, at) VALUES (?, ?)")
            .bind(target)
            .bind(release.at.millis())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

async fn put_edge(tx: &mut SqliteConnection, edge: &Edge) -> Result<()> {
    sqlx::query("INSERT OR REPLACE INTO edges (client, server, since, seen) VALUES (?, ?, ?, ?)")
        .bind(&edge.client)
        .bind(&edge.server)
        .bind(edge.since.millis())
        .bind(edge.seen.millis())
        .execute(tx)
        .await?;
    Ok(())
}

async fn put_freeze(tx: &mut SqliteConnection, freeze: Option<&Freeze>) -> Result<()> {
    match freeze {
        Some(freeze) => {
            sqlx::query("INSERT OR REPLACE INTO settings (name, doc) VALUES ('freeze', ?)")
                .bind(serde_json::to_string(freeze)?)
                .execute(tx)
                .await?
        }
        None => sqlx::query("DELETE FROM settings WHERE name = 'freeze'").execute(tx).await?,
    };
    Ok(())
}

async fn put_stop(tx: &mut SqliteConnection, target: &str, at: Option<Timestamp>) -> Result<()> {
    match at {
        Some(at) => {
            sqlx::query("INSERT OR REPLACE INTO stopped (target, at) VALUES (?, ?)")
                .bind(target)
                .bind(at.millis())
                .execute(tx)
                .await?
        }
        None => sqlx::query("DELETE FROM stopped WHERE target = ?").bind(target).execute(tx).await?,
    };
    Ok(())
}

async fn post(tx: &mut SqliteConnection, page: &Page) -> Result<()> {
    sqlx::query("INSERT INTO outbox (about, incident, at, doc, next_at) VALUES (?, ?, ?, ?, ?)")
        .bind(&page.about)
        .bind(&page.incident)
        .bind(page.at.millis())
        .bind(serde_json::to_string(page)?)
        .bind(page.at.millis())
        .execute(tx)
        .await?;
    Ok(())
}

async fn write_line(tx: &mut SqliteConnection, note: &Note, seq: i64, previous: &Hash) -> Result<Hash> {
    let data = serde_json::to_string(&note.data)?;
    let line = Line::of(note, seq, &data);
    let hash = line.hash(previous);
    sqlx::query(
        "INSERT INTO audit (seq, at, incident, kind, reason, alertname, target, text, data, hash) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(seq)
    .bind(line.at)
    .bind(line.incident)
    .bind(line.kind)
    .bind(line.reason)
    .bind(line.alertname)
    .bind(line.target)
    .bind(line.text)
    .bind(line.data)
    .bind(&hash[..])
    .execute(tx)
    .await?;
    Ok(hash)
}
