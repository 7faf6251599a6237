//! Whether this process acts: its share in the journal's [lease](crate::journal::lease).
//!
//! What counts for a commit is the journal alone: it refuses whoever has an old token. What
//! counts for everything outside it, a call to Docker, a message to people, is asked of here
//! right before it: whether the lease is ours, and will be for long enough, by a clock that does
//! not jump and that goes on while the process is stopped.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus::IntGauge;
use tokio_util::sync::CancellationToken;

use crate::{
    engine::{LeaseView, Role},
    journal::{
        Journal, JournalError,
        lease::{Claim, Grounds, Lease as Row, granted},
    },
    timestamp::Timestamp,
};

/// Renewed so often within its length.
const RENEWALS: f64 = 10.0 / 3.0;
/// Between two attempts at a renewal that failed.
const RETRY: Duration = Duration::from_millis(500);

/// A handle; clones share it.
#[derive(Clone)]
pub struct Lease(Arc<Inner>);

struct Inner {
    journal: Journal,
    name: String,
    length: Duration,
    leader: IntGauge,
    standing: Mutex<Standing>,
}

#[derive(Default)]
struct Standing {
    /// Under which token this process acts, and until when that is certain.
    held: Option<(i64, Instant)>,
    /// The row as it was last seen, and since when it has not changed.
    seen: Option<(Row, Instant)>,
    /// Who acted before, until somebody asks.
    predecessor: Option<String>,
    /// Ends with the right to act.
    term: CancellationToken,
}

impl Lease {
    /// Nothing is claimed yet. `leader` shows whether this process acts.
    pub fn new(journal: Journal, name: String, length: Duration, leader: IntGauge) -> Self {
        leader.set(0);
        Self(Arc::new(Inner { journal, name, length, leader, standing: Mutex::default() }))
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.0.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims it for a process that has just started.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub async fn start(&self) -> Result<bool, JournalError> {
        self.claim(Grounds::Start).await
    }

    /// Claims it for a process that stands by, if it may have become free.
    ///
    /// # Errors
    /// The journal cannot be used.
    pub async fn succeed(&self) -> Result<bool, JournalError> {
        let row = self.0.journal.lease().await?;
        let grounds = match &row {
            Some(row) if self.see(row) >= self.0.length => Grounds::Silence(row.clone()),
            _ => Grounds::Succession,
        };
        // Whoever acts must not wait behind the claims of those who cannot have it anyway.
        if granted(row.as_ref(), &self.wish(grounds.clone())).is_none() {
            return Ok(false);
        }
        self.claim(grounds).await
    }

    /// Renews it until it is lost or `term` ends; ends `term` when it is lost.
    pub async fn keep(self, term: CancellationToken) {
        self.standing().term = term.clone();
        let mut failed = false;
        loop {
            let renewed = self.renew().await;
            let pause = match &renewed {
                Ok(true) => self.0.length.div_f64(RENEWALS),
                Ok(false) => return term.cancel(),
                Err(error) => {
                    if !failed {
                        tracing::warn!(%error, "the lease cannot be renewed");
                    }
                    RETRY
                }
            };
            failed = renewed.is_err();
            tokio::select! {
                () = term.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn renew(&self) -> Result<bool, JournalError> {
        match self.held() {
            Some(token) => self.claim(Grounds::Renewal(token)).await,
            None => Ok(false),
        }
    }

    /// Right before something is done outside: renews the lease, so that half of its length at
    /// least is left for the request to leave this process.
    ///
    /// # Errors
    /// Why it must not be done.
    pub async fn confirm(&self) -> Result<(), String> {
        match self.renew().await {
            Ok(true) if self.left() >= self.0.length / 2 => Ok(()),
            Ok(true) => Err("the lease could not be confirmed in time".to_owned()),
            Ok(false) => Err("another bot acts by now".to_owned()),
            Err(error) => Err(format!("the lease could not be confirmed: {error}")),
        }
    }

    fn left(&self) -> Duration {
        let until = self.standing().held.map(|(_, until)| until);
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// The token under which this process acts, as far as it knows.
    pub fn held(&self) -> Option<i64> {
        self.standing().held.map(|(token, _)| token)
    }

    /// The same, as long as nobody else can have taken over.
    pub fn certain(&self) -> Option<i64> {
        self.held().filter(|_| !self.left().is_zero())
    }

    /// Another bot acts: this one does not from now on.
    pub fn lost(&self) {
        let mut standing = self.standing();
        if standing.held.take().is_some() {
            self.0.leader.set(0);
            standing.term.cancel();
        }
    }

    /// Gives it back at the end of the process.
    pub async fn release(&self) {
        let Some(token) = self.held() else { return };
        self.lost();
        if let Err(error) = self.0.journal.release(token).await {
            tracing::warn!(%error, "the lease could not be given back: its end is waited for");
        }
    }

    /// Who acted before this process, where that was another bot; told once.
    pub fn predecessor(&self) -> Option<String> {
        self.standing().predecessor.take()
    }

    /// For people.
    pub fn view(&self) -> LeaseView {
        let standing = self.standing();
        let role = if standing.held.is_some() { Role::Active } else { Role::Standby };
        let row = standing.seen.as_ref().map(|(row, _)| row);
        LeaseView {
            role,
            name: self.0.name.clone(),
            holder: row.map(|r| r.holder.clone()),
            since: row.map(|r| r.since),
        }
    }

    fn wish(&self, grounds: Grounds) -> Claim {
        Claim { by: self.0.name.clone(), grounds, at: Timestamp::now(), length: self.0.length }
    }

    async fn claim(&self, grounds: Grounds) -> Result<bool, JournalError> {
        // Valid from before it is written: later would be longer than others believe.
        let begun = Instant::now();
        let claimed = self.0.journal.claim(self.wish(grounds)).await?;
        self.see(&claimed.lease);
        if claimed.granted {
            let mut standing = self.standing();
            let until = begun + self.0.length;
            standing.held = Some((claimed.lease.token, until));
            if claimed.predecessor.is_some() {
                standing.predecessor = claimed.predecessor;
            }
            self.0.leader.set(1);
        } else {
            self.lost();
        }
        Ok(claimed.granted)
    }

    /// How long the row has been as it is.
    fn see(&self, row: &Row) -> Duration {
        let mut standing = self.standing();
        match &standing.seen {
            Some((known, since)) if known == row => since.elapsed(),
            _ => {
                standing.seen = Some((row.clone(), Instant::now()));
                Duration::ZERO
            }
        }
    }
}
