//! The engine's state, read back from the journal.

use std::{sync::Arc, time::Duration};

use futures::TryStreamExt;
use sqlx::Row;

use super::{Delivery, Journal, Result};
use crate::{
    engine::{
        Action, AlertKey, Edge, Effect, Ended, Freeze, Incident, MEMORY, Outcome, Page, RECOVERY, Recovery, Release,
        Scope, State,
    },
    policy::{LONGEST_WINDOW, Policy},
    timestamp::Timestamp,
};

impl Journal {
    /// The state as of the last commit, reduced to what decisions at `now` can
    /// depend on.
    pub async fn load(&self, policy: Arc<Policy>, scope: Scope, now: Timestamp) -> Result<State> {
        let mut state = State::new(policy, scope);
        let horizon = now.minus(MEMORY);
        // In the order of their writing, as far as it matters: what is over first, then what
        // is open, then actions by attempt.
        let mut rows = sqlx::query("SELECT fingerprint, starts_at, at FROM ended WHERE at >= ?")
            .bind(horizon.millis())
            .fetch(&self.readers);
        while let Some(row) = rows.try_next().await? {
            let key = AlertKey { fingerprint: row.get(0), starts_at: Timestamp::from_millis(row.get(1)) };
            state.apply(&Effect::Ended(key, Timestamp::from_millis(row.get(2))));
        }
        drop(rows);
        // Only the keys of what is over: there may be a hundred thousand of them.
        let mut rows =
            sqlx::query("SELECT fingerprint, starts_at, closed_at, outcome FROM incidents WHERE closed_at >= ?")
                .bind(horizon.millis())
                .fetch(&self.readers);
        while let Some(row) = rows.try_next().await? {
            let key = AlertKey { fingerprint: row.get(0), starts_at: Timestamp::from_millis(row.get(1)) };
            let outcome: Option<&str> = row.get(3);
            let may_reopen = outcome == Some(Outcome::Silenced.as_str());
            state.remember(key, Ended { at: Timestamp::from_millis(row.get(2)), may_reopen });
        }
        drop(rows);
        let mut rows = sqlx::query("SELECT doc FROM incidents WHERE closed_at IS NULL").fetch(&self.readers);
        while let Some(row) = rows.try_next().await? {
            let incident: Incident = serde_json::from_str(row.get(0))?;
            state.apply(&Effect::Put(Box::new(incident)));
        }
        drop(rows);
        let mut rows = sqlx::query(
            "SELECT doc FROM actions WHERE intended_at >= ? OR status IN ('intended', 'unknown') \
             OR incident IN (SELECT id FROM incidents WHERE closed_at IS NULL) ORDER BY intended_at, attempt",
        )
        .bind(now.minus(MEMORY.max(LONGEST_WINDOW)).millis())
        .fetch(&self.readers);
        while let Some(row) = rows.try_next().await? {
            let action: Action = serde_json::from_str(row.get(0))?;
            state.apply(&Effect::PutAction(Box::new(action)));
        }
        drop(rows);
        self.load_releases(&mut state, now).await?;
        self.load_edges(&mut state).await?;
        let mut rows =
            sqlx::query("SELECT id, service, closed_at FROM incidents WHERE closed_at >= ? AND outcome = 'healed'")
                .bind(now.minus(RECOVERY).millis())
                .fetch(&self.readers);
        while let Some(row) = rows.try_next().await? {
            let service: Option<String> = row.get(1);
            if let Some(service) = service {
                let at = Timestamp::from_millis(row.get(2));
                state.remember_recovery(service, Recovery { incident: row.get(0), at });
            }
        }
        drop(rows);
        let freeze =
            sqlx::query("SELECT doc FROM settings WHERE name = 'freeze'").fetch_optional(&self.readers).await?;
        if let Some(row) = freeze {
            let freeze: Freeze = serde_json::from_str(row.get(0))?;
            state.apply(&Effect::Freeze(Some(Box::new(freeze))));
        }
        let mut rows = sqlx::query("SELECT target, at FROM stopped").fetch(&self.readers);
        while let Some(row) = rows.try_next().await? {
            state.apply(&Effect::ManualStop(row.get(0), Some(Timestamp::from_millis(row.get(1)))));
        }
        drop(rows);
        let mut rows = sqlx::query("SELECT doc FROM outbox WHERE at >= ? ORDER BY at, id")
            .bind(horizon.millis())
            .fetch(&self.readers);
        while let Some(row) = rows.try_next().await? {
            let page: Page = serde_json::from_str(row.get(0))?;
            state.apply(&Effect::Page(Box::new(page)));
        }
        drop(rows);
        state.forget(now);
        Ok(state)
    }

    /// After the actions: what does not count any more must be there.
    async fn load_releases(&self, state: &mut State, now: Timestamp) -> Result<()> {
        let mut release = Release { at: now, targets: Vec::new(), actions: Vec::new(), global: Vec::new() };
        let mut rows = sqlx::query("SELECT action, budget FROM uncounted").fetch(&self.readers);
        while let Some(row) = rows.try_next().await? {
            let to = if row.get::<&str, _>(1) == "target" { &mut release.actions } else { &mut release.global };
            to.push(row.get(0));
        }
        drop(rows);
        state.apply(&Effect::Release(Box::new(release)));
        let mut rows = sqlx::query("SELECT target, at FROM released").fetch(&self.readers);
        while let Some(row) = rows.try_next().await? {
            state.remember_release(row.get(0), Timestamp::from_millis(row.get(1)));
        }
        Ok(())
    }

    async fn load_edges(&self, state: &mut State) -> Result<()> {
        let mut rows = sqlx::query("SELECT client, server, since, seen FROM edges").fetch(&self.readers);
        while let Some(row) = rows.try_next().await? {
            let (since, seen) = (Timestamp::from_millis(row.get(2)), Timestamp::from_millis(row.get(3)));
            state.apply(&Effect::Edge(Box::new(Edge { client: row.get(0), server: row.get(1), since, seen })));
        }
        Ok(())
    }

    /// Notifications that were acknowledged and not worked through yet, oldest first.
    pub async fn pending(&self, limit: i64) -> Result<Vec<Delivery>> {
        let rows =
            sqlx::query("SELECT id, received_at, body FROM deliveries WHERE processed_at IS NULL ORDER BY id LIMIT ?")
                .bind(limit)
                .fetch_all(&self.readers)
                .await?;
        Ok(rows
            .into_iter()
            .map(|row| Delivery { id: row.get(0), received_at: Timestamp::from_millis(row.get(1)), body: row.get(2) })
            .collect())
    }

    /// How old the oldest of them is; zero if there is none.
    pub async fn lag(&self, now: Timestamp) -> Result<Duration> {
        let oldest: Option<i64> =
            sqlx::query_scalar("SELECT min(received_at) FROM deliveries WHERE processed_at IS NULL")
                .fetch_one(&self.readers)
                .await?;
        Ok(oldest.map_or(Duration::ZERO, |at| now.since(Timestamp::from_millis(at))))
    }
}
