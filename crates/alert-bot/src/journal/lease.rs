//! The right to act, where several bots share a journal.
//!
//! One row says who acts, under which token, and until when. The token grows with each change
//! of hands; every write of the bot that acts carries its token and is refused when the row has
//! another one. Who thinks that it still acts and does not cannot change anything here.

use std::time::Duration;

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use tokio::sync::oneshot;

use super::{Job, Journal, JournalError, Result};
use crate::timestamp::Timestamp;

/// The row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who acts.
    pub holder: String,
    /// Under which token: from 1, one more with each change of hands.
    pub token: i64,
    /// Since when, by the holder's clock.
    pub since: Timestamp,
    /// Until when, unless it is renewed, by the holder's clock.
    pub expires_at: Timestamp,
}

/// A bot's claim to act.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Which bot.
    pub by: String,
    /// By what right.
    pub grounds: Grounds,
    /// When, by its clock.
    pub at: Timestamp,
    /// For how long.
    pub length: Duration,
}

/// By what right a bot claims the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// It acts under this token and wants to go on.
    Renewal(i64),
    /// Its process has just started: whoever acted under its name is dead.
    Start,
    /// It stands by.
    Succession,
    /// It stands by, and has seen this row unchanged for as long as a lease lasts by a clock that
    /// does not jump.
    Silence(Lease),
}

/// The row as the claim leaves it; `None`: somebody else acts.
pub fn granted(row: Option<&Lease>, claim: &Claim) -> Option<Lease> {
    let expires_at = claim.at.plus(claim.length);
    let Some(row) = row else {
        return Some(Lease { holder: claim.by.clone(), token: 1, since: claim.at, expires_at });
    };
    let expired = row.expires_at <= claim.at;
    let free = match &claim.grounds {
        // Nobody has claimed it meanwhile, however late this comes.
        Grounds::Renewal(token) if *token == row.token => return Some(Lease { expires_at, ..row.clone() }),
        Grounds::Renewal(_) => false,
        Grounds::Start => expired || row.holder == claim.by,
        Grounds::Succession => expired,
        Grounds::Silence(seen) => expired || row == seen,
    };
    free.then(|| Lease { holder: claim.by.clone(), token: row.token.saturating_add(1), since: claim.at, expires_at })
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Whether the claimant acts now.
    pub granted: bool,
    /// The row afterwards.
    pub lease: Lease,
    /// Who acted before, where that was somebody else.
    pub predecessor: Option<String>,
}

impl Journal {
    /// A handle whose decisions and messages are written only while the lease has this token;
    /// otherwise they fail with [`JournalError::Fenced`]. Notifications are taken from anybody.
    #[must_use]
    pub fn under(&self, token: i64) -> Self {
        Self { fence: Some(token), ..self.clone() }
    }

    /// The row as it is, if any bot has ever acted.
    pub async fn lease(&self) -> Result<Option<Lease>> {
        Ok(sqlx::query(SELECT).fetch_optional(&self.readers).await?.as_ref().map(read))
    }

    /// Takes or renews the lease, in one transaction.
    pub async fn claim(&self, claim: Claim) -> Result<Claimed> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::Claim { claim, reply }).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }

    /// Gives the lease back: whoever stands by need not wait for its end.
    pub async fn release(&self, token: i64) -> Result<()> {
        self.job(|reply| Job::Release { token, reply }).await
    }
}

const SELECT: &str = "SELECT holder, token, since, expires_at FROM lease WHERE id = 1";

fn read(row: &SqliteRow) -> Lease {
    Lease {
        holder: row.get(0),
        token: row.get(1),
        since: Timestamp::from_millis(row.get(2)),
        expires_at: Timestamp::from_millis(row.get(3)),
    }
}

/// Fails unless the lease has this token, within the transaction of what depends on it.
pub(super) async fn check(tx: &mut SqliteConnection, own: i64) -> Result<()> {
    let now: Option<i64> = sqlx::query_scalar("SELECT token FROM lease WHERE id = 1").fetch_optional(tx).await?;
    match now {
        Some(now) if now == own => Ok(()),
        now => Err(JournalError::Fenced { own, now: now.unwrap_or(0) }),
    }
}

pub(super) async fn claim(tx: &mut SqliteConnection, claim: &Claim) -> Result<Claimed> {
    let row = sqlx::query(SELECT).fetch_optional(&mut *tx).await?.as_ref().map(read);
    match (granted(row.as_ref(), claim), row) {
        (Some(lease), before) => {
            sqlx::query("INSERT OR REPLACE INTO lease (id, holder, token, since, expires_at) VALUES (1, ?, ?, ?, ?)")
                .bind(&lease.holder)
                .bind(lease.token)
                .bind(lease.since.millis())
                .bind(lease.expires_at.millis())
                .execute(tx)
                .await?;
            let predecessor = before.map(|b| b.holder).filter(|holder| *holder != lease.holder);
            Ok(Claimed { granted: true, lease, predecessor })
        }
        (None, Some(lease)) => Ok(Claimed { granted: false, lease, predecessor: None }),
        // What nobody holds is always granted.
        (None, None) => Err(JournalError::Closed),
    }
}

pub(super) async fn release(tx: &mut SqliteConnection, token: i64) -> Result<()> {
    sqlx::query("UPDATE lease SET expires_at = 0 WHERE id = 1 AND token = ?").bind(token).execute(tx).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + seconds * 1000)
    }

    fn claim(by: &str, grounds: Grounds, seconds: i64) -> Claim {
        Claim { by: by.to_owned(), grounds, at: at(seconds), length: LENGTH }
    }

    /// `a` acts since 0 under token 1, until 10.
    fn held() -> Lease {
        granted(None, &claim("a", Grounds::Start, 0)).unwrap()
    }

    #[test]
    fn the_first_acts_at_once_and_goes_on() {
        let lease = held();
        assert_eq!((lease.token, lease.expires_at), (1, at(10)));
        let renewed = granted(Some(&lease), &claim("a", Grounds::Renewal(1), 3)).unwrap();
        assert_eq!((renewed.token, renewed.since, renewed.expires_at), (1, at(0), at(13)));
        // Late, but nobody else has come.
        assert_eq!(granted(Some(&lease), &claim("a", Grounds::Renewal(1), 60)).unwrap().token, 1);
    }

    #[test]
    fn who_starts_again_under_the_same_name_acts_at_once_and_under_a_new_token() {
        let again = granted(Some(&held()), &claim("a", Grounds::Start, 2)).unwrap();
        assert_eq!((again.token, again.since), (2, at(2)));
        // Its former process, should it live after all, does not.
        assert_eq!(granted(Some(&again), &claim("a", Grounds::Renewal(1), 3)), None);
        // Nor does it take back at once what the new one has taken.
        assert_eq!(granted(Some(&again), &claim("a", Grounds::Succession, 3)), None);
    }

    #[test]
    fn who_stands_by_waits_for_the_end_of_the_lease() {
        for grounds in [Grounds::Start, Grounds::Succession] {
            assert_eq!(granted(Some(&held()), &claim("b", grounds.clone(), 9)), None, "{grounds:?}");
            let taken = granted(Some(&held()), &claim("b", grounds, 10)).unwrap();
            assert_eq!((taken.holder.as_str(), taken.token), ("b", 2));
        }
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_keep_the_lease_for_ever() {
        // Written by a clock an hour ahead: by the present one it ends in an hour.
        let lease = Lease { expires_at: at(3610), ..held() };
        assert_eq!(granted(Some(&lease), &claim("b", Grounds::Succession, 11)), None);
        assert_eq!(granted(Some(&lease), &claim("b", Grounds::Silence(lease.clone()), 11)).unwrap().token, 2);
        // But it was renewed after all.
        let renewed = Lease { expires_at: at(3613), ..lease.clone() };
        assert_eq!(granted(Some(&renewed), &claim("b", Grounds::Silence(lease), 11)), None);
    }
}
