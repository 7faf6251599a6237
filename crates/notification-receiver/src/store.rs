//! The last notifications, bounded in number and in bytes.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use time::OffsetDateTime;

use crate::notification::{Channel, Draft};

/// A notification as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct Notification {
    /// Counts up from 1; larger is newer.
    pub id: u64,
    /// When it came.
    #[serde(with = "time::serde::rfc3339")]
    pub received_at: OffsetDateTime,
    /// What it says.
    #[serde(flatten)]
    pub draft: Draft,
}

/// Keeps the newest.
pub struct Store {
    keep: usize,
    keep_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next_id: u64,
    bytes: usize,
    notifications: VecDeque<Notification>,
}

impl Store {
    /// Empty.
    pub fn new(keep: usize, keep_bytes: usize) -> Self {
        Self { keep, keep_bytes, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one in; gives its id and how many are kept now.
    pub fn put(&self, draft: Draft, now: OffsetDateTime) -> (u64, usize) {
        let mut inner = self.inner();
        inner.next_id += 1;
        let id = inner.next_id;
        if draft.heartbeat
            && let Some(last) = inner.notifications.iter().position(|n| n.draft.heartbeat)
            && let Some(last) = inner.notifications.remove(last)
        {
            inner.bytes -= last.draft.bytes();
        }
        inner.bytes += draft.bytes();
        inner.notifications.push_back(Notification { id, received_at: now, draft });
        // The newest stays, whatever its size: it was accepted.
        while inner.notifications.len() > self.keep || (inner.bytes > self.keep_bytes && inner.notifications.len() > 1)
        {
            let Some(oldest) = inner.notifications.pop_front() else { break };
            inner.bytes -= oldest.draft.bytes();
        }
        (id, inner.notifications.len())
    }

    /// The newest first, of one channel or of all; and how many there are of these.
    pub fn list(&self, channel: Option<Channel>, limit: usize) -> (Vec<Notification>, usize) {
        let inner = self.inner();
        let fitting = || inner.notifications.iter().rev().filter(|n| channel.is_none_or(|c| n.draft.channel == c));
        (fitting().take(limit).cloned().collect(), fitting().count())
    }

    /// One of them.
    pub fn get(&self, id: u64) -> Option<Notification> {
        self.inner().notifications.iter().find(|n| n.id == id).cloned()
    }

    /// Forgets all; gives how many there were. Ids go on counting.
    pub fn clear(&self) -> usize {
        let mut inner = self.inner();
        inner.bytes = 0;
        std::mem::take(&mut inner.notifications).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(channel: Channel, text: &str) -> Draft {
        Draft { text: text.to_owned(), ..Draft::empty(channel) }
    }

    #[test]
    fn the_oldest_go_first() {
        let store = Store::new(3, 1_000_000);
        for i in 0..5 {
            let channel = if i % 2 == 0 { Channel::Slack } else { Channel::Email };
            store.put(draft(channel, &i.to_string()), OffsetDateTime::UNIX_EPOCH);
        }
        let ids = |channel, limit| store.list(channel, limit).0.iter().map(|n| n.id).collect::<Vec<_>>();
        assert_eq!(ids(None, 10), [5, 4, 3]);
        assert_eq!(ids(None, 1), [5]);
        assert_eq!(ids(Some(Channel::Slack), 10), [5, 3]);
        assert_eq!(store.list(Some(Channel::Slack), 1).1, 2);
        assert!(store.get(1).is_none() && store.get(4).is_some());
        assert_eq!(store.clear(), 3);
        assert_eq!(store.put(draft(Channel::Slack, ""), OffsetDateTime::UNIX_EPOCH), (6, 1));
    }

    #[test]
    fn of_heartbeats_the_last_is_kept() {
        let store = Store::new(3, 1_000_000);
        store.put(draft(Channel::Slack, "alert"), OffsetDateTime::UNIX_EPOCH);
        for _ in 0..10 {
            let beat = Draft { heartbeat: true, ..draft(Channel::Webhook, "watchdog") };
            store.put(beat, OffsetDateTime::UNIX_EPOCH);
        }
        let ids: Vec<_> = store.list(None, 10).0.iter().map(|n| n.id).collect();
        assert_eq!(ids, [11, 1]);
        store.clear();
        assert_eq!(store.inner().bytes, 0);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let store = Store::new(100, 3_000);
        for _ in 0..10 {
            store.put(draft(Channel::Email, &"x".repeat(1_000)), OffsetDateTime::UNIX_EPOCH);
            assert!(store.inner().bytes <= 3_000);
        }
        assert_eq!(store.put(draft(Channel::Email, &"x".repeat(9_000)), OffsetDateTime::UNIX_EPOCH).1, 1);
        assert_eq!(store.put(draft(Channel::Email, ""), OffsetDateTime::UNIX_EPOCH).1, 1);
    }
}
