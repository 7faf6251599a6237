//! What the API asks of the journal. Reads never wait for the writer.

use serde::Serialize;
use serde_json::Value;
use sqlx::{QueryBuilder, Row, Sqlite, sqlite::SqliteRow};
use utoipa::ToSchema;

use super::{Journal, Result, audit};
use crate::{
    engine::{Action, Incident, Outcome, Phase},
    timestamp::Timestamp,
};

/// Where a page of a list ends and the next begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When the last incident of the page was opened.
    pub opened_at: Timestamp,
    /// Its id.
    pub id: String,
}

impl Cursor {
    /// As given to clients.
    pub fn encode(&self) -> String {
        format!("{}-{}", self.opened_at.millis(), self.id)
    }

    /// From what a client gave back.
    pub fn decode(text: &str) -> Option<Self> {
        let (millis, id) = text.split_once('-')?;
        Some(Self { opened_at: Timestamp::from_millis(millis.parse().ok()?), id: id.to_owned() })
    }
}

/// Which incidents.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In this state.
    pub state: Option<StateFilter>,
    /// Of this service.
    pub service: Option<String>,
    /// After this one.
    pub after: Option<Cursor>,
    /// At most so many.
    pub limit: i64,
}

/// What `?state=` may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateFilter {
    /// Not closed.
    Open,
    /// In this phase.
    Phase(Phase),
    /// Ended like this.
    Outcome(Outcome),
}

impl StateFilter {
    /// `open`, a phase, or an outcome.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "open" {
            return Some(Self::Open);
        }
        let phases = [Phase::Waiting, Phase::Acting, Phase::Verifying, Phase::Escalated, Phase::Closed];
        let phase = phases.into_iter().find(|p| p.as_str() == text).map(Self::Phase);
        phase.or_else(|| Outcome::ALL.into_iter().find(|o| o.as_str() == text).map(Self::Outcome))
    }
}

/// One line of the record.
#[derive(Debug, Serialize, ToSchema)]
pub struct Entry {
    /// Position in the chain, from 1.
    pub seq: i64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// About which incident.
    pub incident: Option<String>,
    /// opened, adopted, decision, intent, result, probe, verdict, escalated, closed, …
    pub kind: String,
    /// Why the bot did not act: a code, see `/v1/reasons`.
    pub reason: Option<String>,
    /// The alert's name.
    pub alertname: String,
    /// The container's name.
    pub target: Option<String>,
    /// For people.
    pub text: String,
    /// The evidence.
    #[schema(value_type = Object)]
    pub data: Value,
    /// SHA-256 over this line and the hash before it.
    pub hash: String,
}

const ENTRY: &str = "SELECT seq, at, incident, kind, reason, alertname, target, text, data, hash FROM audit";

fn entry(row: &SqliteRow) -> Result<Entry> {
    let hash: &[u8] = row.get(9);
    Ok(Entry {
        seq: row.get(0),
        at: Timestamp::from_millis(row.get(1)),
        incident: row.get(2),
        kind: row.get(3),
        reason: row.get(4),
        alertname: row.get(5),
        target: row.get(6),
        text: row.get(7),
        data: serde_json::from_str(row.get(8))?,
        hash: audit::hex(hash),
    })
}

impl Journal {
    /// Newest first.
    pub async fn incidents(&self, filter: &Filter) -> Result<Vec<Incident>> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT doc FROM incidents WHERE 1 = 1");
        match filter.state {
            None => {}
            Some(StateFilter::Open) => {
                query.push(" AND closed_at IS NULL");
            }
            Some(StateFilter::Phase(phase)) => {
                query.push(" AND state = ").push_bind(phase.as_str());
            }
            Some(StateFilter::Outcome(outcome)) => {
                query.push(" AND outcome = ").push_bind(outcome.as_str());
            }
        }
        if let Some(service) = &filter.service {
            query.push(" AND service = ").push_bind(service);
        }
        if let Some(after) = &filter.after {
            query.push(" AND (opened_at, id) < (").push_bind(after.opened_at.millis());
            query.push(", ").push_bind(&after.id).push(")");
        }
        query.push(" ORDER BY opened_at DESC, id DESC LIMIT ").push_bind(filter.limit);
        let rows = query.build().fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok(serde_json::from_str(row.get(0))?)).collect()
    }

    /// One incident.
    pub async fn incident(&self, id: &str) -> Result<Option<Incident>> {
        let row = sqlx::query("SELECT doc FROM incidents WHERE id = ?").bind(id).fetch_optional(&self.readers).await?;
        row.map(|row| Ok(serde_json::from_str(row.get(0))?)).transpose()
    }

    /// Its actions, oldest first.
    pub async fn actions_of(&self, incident: &str) -> Result<Vec<Action>> {
        let rows = sqlx::query("SELECT doc FROM actions WHERE incident = ? ORDER BY intended_at, attempt")
            .bind(incident)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok(serde_json::from_str(row.get(0))?)).collect()
    }

    /// Its timeline, oldest first.
    pub async fn timeline(&self, incident: &str) -> Result<Vec<Entry>> {
        let mut query = QueryBuilder::<Sqlite>::new(ENTRY);
        query.push(" WHERE incident = ").push_bind(incident).push(" ORDER BY seq LIMIT 1000");
        query.build().fetch_all(&self.readers).await?.iter().map(entry).collect()
    }

    /// Decisions on alerts of this name, newest first.
    pub async fn decisions(&self, alertname: Option<&str>, limit: i64) -> Result<Vec<Entry>> {
        let mut query = QueryBuilder::<Sqlite>::new(ENTRY);
        query.push(" WHERE kind = 'decision'");
        if let Some(name) = alertname {
            query.push(" AND alertname = ").push_bind(name);
        }
        query.push(" ORDER BY seq DESC LIMIT ").push_bind(limit);
        query.build().fetch_all(&self.readers).await?.iter().map(entry).collect()
    }

    /// The record, newest first, before line `before`.
    pub async fn audit(&self, before: Option<i64>, limit: i64) -> Result<Vec<Entry>> {
        let mut query = QueryBuilder::<Sqlite>::new(ENTRY);
        query.push(" WHERE seq < ").push_bind(before.unwrap_or(i64::MAX));
        query.push(" ORDER BY seq DESC LIMIT ").push_bind(limit);
        query.build().fetch_all(&self.readers).await?.iter().map(entry).collect()
    }

    /// How many incidents are in which state: open ones by phase, closed ones by outcome.
    pub async fn counts(&self) -> Result<Vec<(String, i64)>> {
        let rows = sqlx::query("SELECT coalesce(outcome, state), count(*) FROM incidents GROUP BY 1 ORDER BY 1")
            .fetch_all(&self.readers)
            .await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// A read that fails if the file cannot be read.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1 FROM deliveries LIMIT 1").fetch_optional(&self.readers).await?;
        Ok(())
    }
}
