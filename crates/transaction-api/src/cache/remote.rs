//! The tier in Redis, shared by all processes of the service.
//!
//! One key holds a random token; a page is current if it was stored under the token
//! that is there now. Replacing the token invalidates all pages at once, wherever
//! they came from, and no page can be stored as current that was read before.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use redis::{
    RedisResult,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use telemetry::db_span;
use tracing::Instrument;
use uuid::Uuid;

use super::PageKey;
use crate::metrics::CacheMetrics;

const TOKEN: usize = 16;
const HEADER: usize = TOKEN + 8;

/// How often a Redis that failed is asked whether it is back, and a good one whether it still is.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// A page from Redis.
pub(super) struct Copy {
    pub body: Bytes,
    pub age: Duration,
    /// No transaction was stored since.
    pub current: bool,
}

/// What Redis said about a page.
pub(super) struct Found {
    /// The token of now; a page that is read from here on may be stored under it.
    pub token: Option<[u8; TOKEN]>,
    pub copy: Option<Copy>,
}

/// A Redis that may be absent at any time. Clones share everything.
#[derive(Clone)]
pub struct Remote {
    connection: ConnectionManager,
    prefix: Arc<str>,
    timeout: Duration,
    up: Arc<AtomicBool>,
    metrics: CacheMetrics,
}

impl Remote {
    /// Connects later; must be called inside a runtime.
    ///
    /// # Errors
    /// Never in practice: the configuration holds no contradiction.
    pub fn new(client: redis::Client, prefix: &str, timeout: Duration, metrics: CacheMetrics) -> RedisResult<Self> {
        let config = ConnectionManagerConfig::new()
            // We ask again ourselves, and decide ourselves how long to wait.
            .set_number_of_retries(0)
            .set_connection_timeout(Some(Duration::from_secs(1)))
            .set_response_timeout(Some(Duration::from_secs(1)));
        Ok(Self {
            connection: ConnectionManager::new_lazy_with_config(client, config)?,
            prefix: prefix.into(),
            timeout,
            up: Arc::new(AtomicBool::new(false)),
            metrics,
        })
    }

    /// Whether Redis is in use now.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    fn set_up(&self, up: bool) {
        self.metrics.redis_up.set(up.into());
        if self.up.swap(up, Ordering::AcqRel) != up {
            if up {
                tracing::info!("redis in use");
            } else {
                tracing::warn!("redis passed by until it answers again");
            }
        }
    }

    fn page(&self, key: PageKey) -> String {
        let filter = key.filter.map_or("all", |status| status.as_str());
        format!("{}:list:1:{filter}:{}", self.prefix, key.limit)
    }

    fn token(&self) -> String {
        format!("{}:token", self.prefix)
    }

    /// Runs one command within the time limit. A failure takes Redis out of use.
    async fn command<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Option<T> {
        if !self.is_up() {
            return None;
        }
        let mut connection = self.connection.clone();
        let error = match tokio::time::timeout(self.timeout, command.query_async(&mut connection)).await {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer within REDIS_TIMEOUT".to_owned(),
        };
        self.metrics.errors.inc();
        tracing::debug!(%error, "redis command failed");
        self.set_up(false);
        None
    }

    /// The page and the token, in one round trip. `None`: Redis cannot be used.
    pub(super) async fn get(&self, key: PageKey) -> Option<Found> {
        let mut mget = redis::cmd("MGET");
        mget.arg(self.token()).arg(self.page(key));
        let (token, page): (Option<Vec<u8>>, Option<Vec<u8>>) =
            self.command(&mget).instrument(db_span!("MGET", "transactions list", "redis")).await?;
        let token = token.and_then(|token| <[u8; TOKEN]>::try_from(token).ok());
        if token.is_none() {
            // A new or emptied Redis. Whoever comes first sets the token; the next read uses it.
            let mut set = redis::cmd("SET");
            set.arg(self.token()).arg(Uuid::new_v4().as_bytes()).arg("NX");
            let _: Option<Option<String>> = self.command(&set).await;
        }
        let copy = page.and_then(|page| decode(&page, token.as_ref(), now_millis()));
        Some(Found { token, copy })
    }

    /// Stores a page in the background under the token that was there before it was read.
    pub(super) fn put(&self, key: PageKey, token: Option<[u8; TOKEN]>, body: Bytes, keep: Duration) {
        let Some(token) = token else { return };
        let remote = self.clone();
        let store = async move {
            let mut set = redis::cmd("SET");
            set.arg(remote.page(key))
                .arg(encode(token, now_millis(), &body))
                .arg("PX")
                .arg(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX).max(1));
            let _: Option<String> = remote.command(&set).await;
        };
        tokio::spawn(store.instrument(db_span!("SET", "transactions list", "redis")));
    }

    /// Makes all pages old. Says whether Redis knows.
    pub(super) async fn invalidate(&self) -> bool {
        let mut set = redis::cmd("SET");
        set.arg(self.token()).arg(Uuid::new_v4().as_bytes());
        self.command::<String>(&set).await.is_some()
    }

    /// Removes all pages, old ones too. Says whether Redis did.
    pub(super) async fn clear(&self) -> bool {
        if !self.invalidate().await {
            return false;
        }
        let pattern = format!("{}:list:*", self.prefix);
        let mut cursor = 0u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(500);
            let Some((next, keys)) = self.command::<(u64, Vec<String>)>(&scan).await else { return false };
            if !keys.is_empty() {
                let mut unlink = redis::cmd("UNLINK");
                unlink.arg(keys);
                if self.command::<i64>(&unlink).await.is_none() {
                    return false;
                }
            }
            if next == 0 {
                return true;
            }
            cursor = next;
        }
    }

    /// Asks Redis once, whether it is in use or not, and decides by the answer.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn probe(&self) -> Result<(), &'static str> {
        let mut connection = self.connection.clone();
        let ping = redis::cmd("PING");
        let answer = tokio::time::timeout(PROBE_EVERY, ping.query_async::<String>(&mut connection)).await;
        let result = match answer {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.is_io_error() => Err("not reachable"),
            Ok(Err(_)) => Err("refuses to answer"),
            Err(_) => Err("does not answer in time"),
        };
        self.set_up(result.is_ok());
        result
    }

    /// Probes for ever.
    pub async fn keep_probing(self) {
        loop {
            let _ = self.probe().await;
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }
}

fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Token, time of reading in Unix milliseconds (big endian), body.
fn encode(token: [u8; TOKEN], read_at: u64, body: &[u8]) -> Vec<u8> {
    [&token[..], &read_at.to_be_bytes(), body].concat()
}

fn decode(page: &[u8], token: Option<&[u8; TOKEN]>, now: u64) -> Option<Copy> {
    let (header, body) = page.split_at_checked(HEADER)?;
    let (stored_under, read_at) = header.split_at(TOKEN);
    let read_at = u64::from_be_bytes(read_at.try_into().ok()?);
    Some(Copy {
        body: Bytes::copy_from_slice(body),
        age: Duration::from_millis(now.saturating_sub(read_at)),
        current: token.is_some_and(|token| token == stored_under),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_current_under_its_own_token_only() {
        let page = encode([1; TOKEN], 1_000, b"body");
        let same = decode(&page, Some(&[1; TOKEN]), 3_500).unwrap();
        assert!(same.current);
        assert_eq!((same.body.as_ref(), same.age), (&b"body"[..], Duration::from_millis(2_500)));
        assert!(!decode(&page, Some(&[2; TOKEN]), 3_500).unwrap().current);
        assert!(!decode(&page, None, 3_500).unwrap().current);
        // A clock that runs behind makes it new, not absurdly old.
        assert_eq!(decode(&page, None, 0).unwrap().age, Duration::ZERO);
        assert!(decode(&page[..HEADER - 1], None, 0).is_none());
    }
}
