//! What the API asks of the journal. Reads never wait for the writer.

use std::{path::Path, time::Duration};

use serde::Serialize;
use serde_json::Value;
use sqlx::{
    QueryBuilder, Row, Sqlite,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow},
};
use tokio::sync::mpsc;
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
    /// Opened at this time or later.
    pub since: Option<Timestamp>,
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

/// Which decisions.
#[derive(Clone, Debug, Default)]
pub struct Decided {
    /// On alerts of this name.
    pub alertname: Option<String>,
    /// With this reason's code.
    pub reason: Option<String>,
    /// Taken at this time or later.
    pub since: Option<Timestamp>,
    /// Before this line of the record.
    pub before: Option<i64>,
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

/// The index that is named has every column that narrows the list down, in the order of the list. SQLite would
/// choose by guessing how many rows there are, and guesses wrong where several times are compared.
fn list(select: &str, filter: &Filter) -> QueryBuilder<Sqlite> {
    let index = match (filter.service.is_some(), filter.state) {
        (false, None) => "incidents_recent",
        (false, Some(StateFilter::Open)) => "incidents_open",
        (false, Some(StateFilter::Phase(_))) => "incidents_by_state",
        (false, Some(StateFilter::Outcome(_))) => "incidents_by_outcome",
        (true, None) => "incidents_by_service",
        (true, Some(StateFilter::Open)) => "incidents_open_by_service",
        (true, Some(StateFilter::Phase(_))) => "incidents_by_service_state",
        (true, Some(StateFilter::Outcome(_))) => "incidents_by_service_outcome",
    };
    let mut query = QueryBuilder::<Sqlite>::new(select);
    query.push(" FROM incidents INDEXED BY ").push(index).push(" WHERE 1 = 1");
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
    if let Some(since) = filter.since {
        query.push(" AND opened_at >= ").push_bind(since.millis());
    }
    if let Some(after) = &filter.after {
        query.push(" AND (opened_at, id) < (").push_bind(after.opened_at.millis());
        query.push(", ").push_bind(&after.id).push(")");
    }
    query.push(" ORDER BY opened_at DESC, id DESC LIMIT ").push_bind(filter.limit);
    query
}

impl Journal {
    /// Opens an existing file to look at it only; everything that would write says that the journal is closed.
    pub async fn look(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(Duration::from_secs(5));
        let readers = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        let ((intake, _), (jobs, _)) = (mpsc::channel(1), mpsc::channel(1));
        Ok(Self { readers, intake, jobs, fence: None })
    }

    /// Those opened at `since` or later, oldest first, a portion at a time: after `after`.
    pub async fn history(&self, since: Timestamp, after: Option<&Cursor>, limit: i64) -> Result<Vec<Incident>> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT doc FROM incidents WHERE opened_at >= ");
        query.push_bind(since.millis());
        if let Some(after) = after {
            query.push(" AND (opened_at, id) > (").push_bind(after.opened_at.millis());
            query.push(", ").push_bind(&after.id).push(")");
        }
        query.push(" ORDER BY opened_at, id LIMIT ").push_bind(limit);
        let rows = query.build().fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok(serde_json::from_str(row.get(0))?)).collect()
    }

    /// Lines of this kind that are about no incident, since then, oldest first.
    pub async fn general(&self, kind: &str, since: Timestamp) -> Result<Vec<Entry>> {
        let mut query = QueryBuilder::<Sqlite>::new(ENTRY);
        query.push(" WHERE incident IS NULL AND kind = ").push_bind(kind);
        query.push(" AND at >= ").push_bind(since.millis()).push(" ORDER BY seq");
        query.build().fetch_all(&self.readers).await?.iter().map(entry).collect()
    }

    /// Newest first.
    pub async fn incidents(&self, filter: &Filter) -> Result<Vec<Incident>> {
        let mut query = list("SELECT doc", filter);
        let rows = query.build().fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok(serde_json::from_str(row.get(0))?)).collect()
    }

    /// How SQLite would find them: no list may scan or sort, however many there are.
    pub async fn plan(&self, filter: &Filter) -> Result<Vec<String>> {
        let mut query = list("EXPLAIN QUERY PLAN SELECT doc", filter);
        let rows = query.build().fetch_all(&self.readers).await?;
        Ok(rows.iter().map(|row| row.get("detail")).collect())
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

    /// Decisions, newest first.
    pub async fn decisions(&self, asked: &Decided, limit: i64) -> Result<Vec<Entry>> {
        let mut query = QueryBuilder::<Sqlite>::new(ENTRY);
        query.push(" WHERE kind = 'decision'");
        if let Some(name) = &asked.alertname {
            query.push(" AND alertname = ").push_bind(name);
        }
        if let Some(reason) = &asked.reason {
            query.push(" AND reason = ").push_bind(reason);
        }
        if let Some(since) = asked.since {
            query.push(" AND at >= ").push_bind(since.millis());
        }
        if let Some(before) = asked.before {
            query.push(" AND seq < ").push_bind(before);
        }
        query.push(" ORDER BY seq DESC LIMIT ").push_bind(limit);
        query.build().fetch_all(&self.readers).await?.iter().map(entry).collect()
    }

    /// The record, newest first, before line `before`, perhaps of one kind only.
    pub async fn audit(&self, before: Option<i64>, kind: Option<&str>, limit: i64) -> Result<Vec<Entry>> {
        let mut query = QueryBuilder::<Sqlite>::new(ENTRY);
        query.push(" WHERE seq < ").push_bind(before.unwrap_or(i64::MAX));
        if let Some(kind) = kind {
            query.push(" AND kind = ").push_bind(kind);
        }
        query.push(" ORDER BY seq DESC LIMIT ").push_bind(limit);
        query.build().fetch_all(&self.readers).await?.iter().map(entry).collect()
    }

    /// How many incidents are in which state: open ones by phase, closed ones by outcome.
    pub async fn counts(&self) -> Result<Vec<(String, i64)>> {
        // Each half is answered by an index alone: the documents are a hundred times as long.
        let rows = sqlx::query(
            "SELECT state, count(*) FROM incidents WHERE state IN ('waiting', 'acting', 'verifying', 'escalated') \
             GROUP BY state UNION ALL \
             SELECT outcome, count(*) FROM incidents WHERE outcome IS NOT NULL GROUP BY outcome",
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Names of services that there were incidents of.
    pub async fn services(&self) -> Result<Vec<String>> {
        // From one name to the next, by the index: as many steps as there are names.
        let rows = sqlx::query(
            "WITH RECURSIVE names(name) AS (SELECT min(service) FROM incidents UNION ALL \
             SELECT (SELECT min(service) FROM incidents WHERE service > name) FROM names WHERE name IS NOT NULL) \
             SELECT name FROM names WHERE name IS NOT NULL LIMIT 200",
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Names of alerts that there were decisions on.
    pub async fn alerts(&self) -> Result<Vec<String>> {
        let rows = sqlx::query(
            "WITH RECURSIVE names(name) AS (SELECT min(alertname) FROM audit WHERE kind = 'decision' UNION ALL \
             SELECT (SELECT min(alertname) FROM audit WHERE kind = 'decision' AND alertname > name) \
             FROM names WHERE name IS NOT NULL) \
             SELECT name FROM names WHERE name IS NOT NULL LIMIT 500",
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Those of these incidents that there are.
    pub async fn incidents_of(&self, ids: &[String]) -> Result<Vec<Incident>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::<Sqlite>::new("SELECT doc FROM incidents WHERE id IN (");
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(id);
        }
        query.push(")");
        let rows = query.build().fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok(serde_json::from_str(row.get(0))?)).collect()
    }

    /// Position of the record's last line; 0 while there is none.
    pub async fn head(&self) -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM audit").fetch_one(&self.readers).await?)
    }

    /// Position of the record's last line, and the incidents that lines after `seq` are about, at most `limit`,
    /// in the order of their last line.
    pub async fn changed_since(&self, seq: i64, limit: usize) -> Result<(i64, Vec<String>)> {
        let head = self.head().await?;
        let rows = sqlx::query(
            "SELECT incident FROM audit WHERE seq > ? AND seq <= ? AND incident IS NOT NULL \
             GROUP BY incident ORDER BY max(seq) LIMIT ?",
        )
        .bind(seq)
        .bind(head)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.readers)
        .await?;
        Ok((head, rows.iter().map(|row| row.get(0)).collect()))
    }

    /// A read that fails if the file cannot be read.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1 FROM deliveries LIMIT 1").fetch_optional(&self.readers).await?;
        Ok(())
    }
}
