//! The cache of the list's first pages, in two tiers: this process's memory and Redis.
//!
//! What a reader may rely on:
//! - A transaction is in every list that this process answers after it acknowledged
//!   it: storing one ends the generation that all cached lists belong to.
//! - Another process of the same service shows it at the latest after
//!   `CACHE_LOCAL_TTL`, as long as this one reaches Redis, and after `CACHE_TTL` if not.
//! - Many requests for one page that is not cached cause one query.
//! - Redis being down, slow or wrong costs one request at most its time limit; then
//!   it is passed by until it answers again.
//! - While Postgres cannot be read, an old copy stands in, and says so. Only such a copy may lack
//!   what this process has acknowledged.

mod local;
mod remote;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::sync::Notify;
use tracing::Instrument;

use self::local::Local;
pub use self::remote::Remote;
use crate::{db::DbError, metrics::CacheMetrics, transaction::Status};

/// A failing Postgres is asked again for the same page only after this long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Invalidations are sent to Redis at most this often; several become one.
const INVALIDATE_EVERY: Duration = Duration::from_millis(20);

/// Which first page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageKey {
    /// The status filter.
    pub filter: Option<Status>,
    /// The length of the page.
    pub limit: u16,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Memory or Redis.
    Cache,
    /// Postgres, just now.
    Database,
    /// An old copy, because Postgres could not be read.
    Stale,
}

/// An answer: the JSON of the page.
#[derive(Clone, Debug)]
pub struct Served {
    /// The body.
    pub body: Bytes,
    /// Where it came from.
    pub source: Source,
    /// How old it is.
    pub age: Duration,
}

/// How long what counts.
#[derive(Clone, Copy, Debug)]
pub struct Ttl {
    /// Fresh in memory.
    pub local: Duration,
    /// Fresh in Redis.
    pub remote: Duration,
    /// Good enough while Postgres is down.
    pub stale: Duration,
}

type Flight = Shared<BoxFuture<'static, Result<Served, DbError>>>;

/// The cache.
pub struct ListCache {
    local: Local,
    remote: Option<Remote>,
    ttl: Ttl,
    metrics: CacheMetrics,
    /// Lists of an earlier generation may lack a transaction that this process has stored.
    generation: AtomicU64,
    /// The generation up to which Redis has been told.
    told: AtomicU64,
    changed: Notify,
    flights: Mutex<HashMap<(PageKey, u64), Flight>>,
}

impl ListCache {
    /// An empty cache; without `remote`, memory alone.
    pub fn new(remote: Option<Remote>, ttl: Ttl, metrics: CacheMetrics) -> Self {
        let cache = Self {
            local: Local::default(),
            remote,
            ttl,
            metrics,
            generation: AtomicU64::new(0),
            told: AtomicU64::new(0),
            changed: Notify::new(),
            flights: Mutex::default(),
        };
        // A process before this one may have ended between storing and telling.
        cache.invalidate();
        cache
    }

    /// The page, from the nearest place that has it; `load` reads it from Postgres.
    ///
    /// # Errors
    /// Nothing has it and Postgres cannot be read.
    pub async fn get<F, Fut>(self: &Arc<Self>, key: PageKey, load: F) -> Result<Served, DbError>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Bytes, DbError>> + Send + 'static,
    {
        let generation = self.generation.load(Ordering::Acquire);
        if let Some(served) = self.local.fresh(key, generation, self.ttl.local, Instant::now()) {
            self.count(served.source);
            return Ok(served);
        }
        let flight = self.join(key, generation, load);
        let result = flight.await;
        if let Ok(served) = &result {
            self.count(served.source);
        }
        result
    }

    fn count(&self, source: Source) {
        match source {
            Source::Cache => self.metrics.hits.inc(),
            Source::Database => self.metrics.misses.inc(),
            Source::Stale => self.metrics.stale.inc(),
        }
    }

    /// Joins the read of this page that is under way, or starts one. The read is a
    /// task of its own: it goes on when the request that started it is given up.
    fn join<F, Fut>(self: &Arc<Self>, key: PageKey, generation: u64, load: F) -> Flight
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Bytes, DbError>> + Send + 'static,
    {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&(key, generation)) {
            self.metrics.coalesced.inc();
            return flight.clone();
        }
        let landing = Landing { cache: self.clone(), flight: (key, generation) };
        let read = async move { landing.cache.read(key, generation, load).await };
        let task = tokio::spawn(read.in_current_span());
        let flight = async move {
            task.await
                .unwrap_or_else(|error| Err(DbError::Internal(Arc::new(sqlx::Error::Io(std::io::Error::other(error))))))
        }
        .boxed()
        .shared();
        flights.insert((key, generation), flight.clone());
        flight
    }

    async fn read<F, Fut>(&self, key: PageKey, generation: u64, load: F) -> Result<Served, DbError>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Bytes, DbError>>,
    {
        // Another request may have finished the same read since we looked.
        if let Some(served) = self.local.fresh(key, generation, self.ttl.local, Instant::now()) {
            return Ok(served);
        }
        // Redis still has the lists of before our own last transaction until it is told.
        let up_to_date = self.told.load(Ordering::Acquire) >= generation;
        let mut found = None;
        if let Some(remote) = &self.remote
            && up_to_date
        {
            found = remote.get(key).await;
            if let Some(copy) = found.as_ref().and_then(|found| found.copy.as_ref())
                && copy.current
                && copy.age < self.ttl.remote
            {
                self.local.put(key, generation, copy.body.clone(), copy.age);
                return Ok(Served { body: copy.body.clone(), source: Source::Cache, age: copy.age });
            }
        }
        match load().await {
            Ok(body) => {
                // If a transaction was stored meanwhile, this belongs to the old generation, which
                // nobody asks for any more.
                self.local.put(key, generation, body.clone(), Duration::ZERO);
                if let (Some(remote), Some(found)) = (&self.remote, found) {
                    remote.put(key, found.token, body.clone(), self.ttl.stale);
                }
                Ok(Served { body, source: Source::Database, age: Duration::ZERO })
            }
            Err(error @ DbError::Unavailable(_)) => self.stale(key, generation, found).await.ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// An old copy, which then stands in for a while without asking Postgres again.
    async fn stale(&self, key: PageKey, generation: u64, found: Option<remote::Found>) -> Option<Served> {
        let found = match (&self.remote, found) {
            (Some(remote), None) => remote.get(key).await,
            (_, found) => found,
        };
        let remote = found.and_then(|found| found.copy).map(|copy| (copy.body, copy.age));
        let newest = self.local.any(key, Instant::now()).into_iter().chain(remote).min_by_key(|(_, age)| *age)?;
        let (body, age) = newest;
        if age > self.ttl.stale {
            return None;
        }
        self.local.put_stale(key, generation, body.clone(), age, RETRY_AFTER);
        tracing::warn!(age_seconds = age.as_secs_f64(), "list answered from an old copy");
        Some(Served { body, source: Source::Stale, age })
    }

    /// Ends the generation: what is cached lacks a transaction that is stored now.
    pub fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        if self.remote.is_some() {
            self.changed.notify_one();
        }
    }

    /// Forgets everything, old copies included. Says whether Redis forgot too.
    pub async fn clear(&self) -> bool {
        self.invalidate();
        self.local.clear();
        match &self.remote {
            Some(remote) => remote.clear().await,
            None => true,
        }
    }

    /// Tells Redis of invalidations, again and again until it knows. Ends never.
    pub async fn tell_remote(self: Arc<Self>) {
        let Some(remote) = &self.remote else { return };
        loop {
            self.changed.notified().await;
            loop {
                // What is stored after this line is another generation, and another round.
                let generation = self.generation.load(Ordering::Acquire);
                if remote.invalidate().await {
                    self.told.fetch_max(generation, Ordering::AcqRel);
                    tokio::time::sleep(INVALIDATE_EVERY).await;
                    break;
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }

    /// Redis, if there is one.
    pub fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// Pages in memory.
    pub fn local_pages(&self) -> usize {
        self.local.len()
    }

    /// The metrics.
    pub fn metrics(&self) -> &CacheMetrics {
        &self.metrics
    }

    /// How long what counts.
    pub fn ttl(&self) -> Ttl {
        self.ttl
    }
}

/// Ends a flight when its read ends, by a panic too.
struct Landing {
    cache: Arc<ListCache>,
    flight: (PageKey, u64),
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.cache.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.flight);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use telemetry::metrics::Registry;

    use super::*;

    const KEY: PageKey = PageKey { filter: None, limit: 50 };

    fn cache() -> Arc<ListCache> {
        let metrics = CacheMetrics::new(&Registry::new("test", "0").unwrap()).unwrap();
        let ttl =
            Ttl { local: Duration::from_secs(60), remote: Duration::from_secs(60), stale: Duration::from_secs(600) };
        Arc::new(ListCache::new(None, ttl, metrics))
    }

    fn down() -> DbError {
        DbError::Unavailable(Arc::new(sqlx::Error::PoolTimedOut))
    }

    #[tokio::test]
    async fn many_misses_are_one_read() {
        let cache = cache();
        let reads = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Notify::new());
        let all: Vec<_> = (0..100)
            .map(|_| {
                let (cache, reads, gate) = (cache.clone(), reads.clone(), gate.clone());
                tokio::spawn(async move {
                    cache
                        .get(KEY, move || async move {
                            reads.fetch_add(1, Ordering::Relaxed);
                            gate.notified().await;
                            Ok(Bytes::from_static(b"page"))
                        })
                        .await
                })
            })
            .collect();
        while cache.metrics.coalesced.get() < 99 {
            tokio::task::yield_now().await;
        }
        gate.notify_one();
        for one in all {
            assert_eq!(one.await.unwrap().unwrap().body, "page");
        }
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        assert!(cache.flights.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_read_that_began_before_a_write_is_not_served_after_it() {
        let cache = cache();
        let (began, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = tokio::spawn({
            let (cache, began, go_on) = (cache.clone(), began.clone(), go_on.clone());
            async move {
                cache
                    .get(KEY, move || async move {
                        began.notify_one();
                        go_on.notified().await;
                        Ok(Bytes::from_static(b"before"))
                    })
                    .await
            }
        });
        began.notified().await;
        cache.invalidate();
        let after = cache.get(KEY, || async { Ok(Bytes::from_static(b"after")) }).await.unwrap();
        assert_eq!((after.body.as_ref(), after.source), (&b"after"[..], Source::Database));
        go_on.notify_one();
        assert_eq!(slow.await.unwrap().unwrap().body, "before");
        let later = cache.get(KEY, || async { Err(down()) }).await.unwrap();
        assert_eq!((later.body.as_ref(), later.source), (&b"after"[..], Source::Cache));
    }

    #[tokio::test]
    async fn an_old_copy_stands_in_while_postgres_is_down_and_only_then() {
        let cache = cache();
        assert!(cache.get(KEY, || async { Err(down()) }).await.is_err(), "nothing to stand in yet");
        cache.get(KEY, || async { Ok(Bytes::from_static(b"old")) }).await.unwrap();
        cache.invalidate();
        let stale = cache.get(KEY, || async { Err(down()) }).await.unwrap();
        assert_eq!((stale.body.as_ref(), stale.source), (&b"old"[..], Source::Stale));
        // Served again without another try, until the pause is over.
        let again = cache.get(KEY, || async { panic!("asked again") }).await.unwrap();
        assert_eq!(again.source, Source::Stale);
        assert_eq!(cache.metrics.stale.get(), 2);
        cache.invalidate();
        let mistake = DbError::Internal(Arc::new(sqlx::Error::RowNotFound));
        assert!(cache.get(KEY, || async { Err(mistake) }).await.is_err(), "a mistake is not hidden");
        let back = cache.get(KEY, || async { Ok(Bytes::from_static(b"new")) }).await.unwrap();
        assert_eq!((back.body.as_ref(), back.source), (&b"new"[..], Source::Database));
        assert!(cache.clear().await);
        assert_eq!(cache.local_pages(), 0);
    }

    #[tokio::test]
    async fn a_read_that_panics_fails_its_requests_only() {
        let cache = cache();
        assert!(cache.get(KEY, || async { panic!("bug") }).await.is_err());
        // The flight of a panicked read must not stay for ever.
        assert!(cache.get(KEY, || async { Ok(Bytes::new()) }).await.is_ok());
    }
}
