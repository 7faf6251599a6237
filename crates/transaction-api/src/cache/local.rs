//! The tier in memory: ready-made bodies, bounded in number.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{PageKey, Served, Source};

/// Pages in memory at most: about 3 MiB of the longest ones.
const MAX_PAGES: usize = 64;

struct Page {
    body: Bytes,
    generation: u64,
    /// When the content was read from Postgres, by whomever.
    read_at: Instant,
    /// When it came here.
    put_at: Instant,
    /// Set for a copy that stands in: until when, without asking Postgres again.
    stands_in_until: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Local {
    pages: RwLock<HashMap<PageKey, Page>>,
}

impl Local {
    /// A copy that may be served without asking anybody.
    pub fn fresh(&self, key: PageKey, generation: u64, ttl: Duration, now: Instant) -> Option<Served> {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        let page = pages.get(&key).filter(|page| page.generation == generation)?;
        let source = match page.stands_in_until {
            Some(until) if now < until => Source::Stale,
            None if now.saturating_duration_since(page.put_at) < ttl => Source::Cache,
            _ => return None,
        };
        Some(Served { body: page.body.clone(), source, age: now.saturating_duration_since(page.read_at) })
    }

    /// Any copy, however old, with its age.
    pub fn any(&self, key: PageKey, now: Instant) -> Option<(Bytes, Duration)> {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        pages.get(&key).map(|page| (page.body.clone(), now.saturating_duration_since(page.read_at)))
    }

    pub fn put(&self, key: PageKey, generation: u64, body: Bytes, age: Duration) {
        self.insert(key, generation, body, age, None);
    }

    pub fn put_stale(&self, key: PageKey, generation: u64, body: Bytes, age: Duration, pause: Duration) {
        self.insert(key, generation, body, age, Some(Instant::now() + pause));
    }

    fn insert(&self, key: PageKey, generation: u64, body: Bytes, age: Duration, stands_in_until: Option<Instant>) {
        let now = Instant::now();
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        // A slow read must not push out what a later one has put here.
        if pages.get(&key).is_some_and(|page| page.generation > generation) {
            return;
        }
        if pages.len() >= MAX_PAGES
            && !pages.contains_key(&key)
            && let Some(oldest) = pages.iter().min_by_key(|(_, page)| page.put_at).map(|(key, _)| *key)
        {
            pages.remove(&oldest);
        }
        let read_at = now.checked_sub(age).unwrap_or(now);
        pages.insert(key, Page { body, generation, read_at, put_at: now, stands_in_until });
    }

    pub fn clear(&self) {
        self.pages.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub fn len(&self) -> usize {
        self.pages.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(limit: u16) -> PageKey {
        PageKey { filter: None, limit }
    }

    #[test]
    fn a_page_is_fresh_for_its_time_and_generation() {
        let local = Local::default();
        let ttl = Duration::from_secs(1);
        local.put(key(1), 7, Bytes::from_static(b"x"), Duration::from_secs(3));
        let now = Instant::now();
        let served = local.fresh(key(1), 7, ttl, now).unwrap();
        assert_eq!(served.source, Source::Cache);
        assert!(served.age >= Duration::from_secs(3));
        assert!(local.fresh(key(1), 8, ttl, now).is_none());
        assert!(local.fresh(key(2), 7, ttl, now).is_none());
        assert!(local.fresh(key(1), 7, ttl, now + ttl).is_none());
        assert!(local.any(key(1), now + ttl).is_some());
        local.put(key(1), 6, Bytes::from_static(b"late"), Duration::ZERO);
        assert_eq!(local.any(key(1), now).unwrap().0, "x");
    }

    #[test]
    fn the_number_of_pages_is_bounded() {
        let local = Local::default();
        for limit in 1..=200 {
            local.put(key(limit), 0, Bytes::new(), Duration::ZERO);
        }
        assert_eq!(local.len(), MAX_PAGES);
        assert!(local.any(key(200), Instant::now()).is_some());
    }
}
