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
    /// The first notification of its thread; its own id where it is the first.
    pub thread: u64,
    /// How often its sender has changed it.
    pub edits: u32,
    /// An earlier one with the same key: the same message came twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<u64>,
    /// What it says.
    #[serde(flatten)]
    pub draft: Draft,
}

impl Notification {
    /// Begins a thread of its own.
    pub fn new(id: u64, received_at: OffsetDateTime, draft: Draft) -> Self {
        Self { id, received_at, thread: id, edits: 0, repeats: None, draft }
    }

    /// What it is known by.
    fn is_called(&self, channel: Channel, handle: &str) -> bool {
        self.draft.channel == channel
            && !self.draft.refused
            && (self.draft.handle == handle
                || (channel == Channel::Webhook && self.draft.follows.iter().any(|f| f == handle)))
    }
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
        let mut notification = Notification::new(id, now, draft);
        let draft = &notification.draft;
        let earlier = || inner.notifications.iter();
        let first = |handle: &String| earlier().find(|n| n.is_called(draft.channel, handle)).map(|n| n.thread);
        let thread = draft.follows.iter().find_map(first);
        let repeats = earlier()
            .find(|n| n.draft.channel == draft.channel && !draft.key.is_empty() && n.draft.key == draft.key)
            .map(|n| n.id);
        notification.thread = thread.unwrap_or(id);
        notification.repeats = repeats;
        inner.notifications.push_back(notification);
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

    /// One with this key, if it is still kept.
    pub fn by_key(&self, channel: Channel, key: &str) -> Option<u64> {
        self.inner().notifications.iter().find(|n| n.draft.channel == channel && n.draft.key == key).map(|n| n.id)
    }

    /// One that is called so.
    pub fn by_handle(&self, channel: Channel, handle: &str) -> Option<Notification> {
        self.inner().notifications.iter().find(|n| n.is_called(channel, handle)).cloned()
    }

    /// Replaces what one says; its place stays.
    pub fn edit(&self, id: u64, draft: Draft) -> bool {
        let mut inner = self.inner();
        let Some(at) = inner.notifications.iter().position(|n| n.id == id) else { return false };
        let (before, after) = (inner.notifications[at].draft.bytes(), draft.bytes());
        inner.bytes = inner.bytes - before + after;
        let old = &mut inner.notifications[at];
        old.edits += 1;
        old.draft = Draft {
            handle: std::mem::take(&mut old.draft.handle),
            follows: std::mem::take(&mut old.draft.follows),
            key: std::mem::take(&mut old.draft.key),
            ..draft
        };
        true
    }

    /// Threads, the one with the newest notification first, each in order.
    pub fn threads(&self, channel: Option<Channel>, limit: usize) -> (Vec<Vec<Notification>>, usize) {
        let inner = self.inner();
        let fitting = || inner.notifications.iter().filter(|n| channel.is_none_or(|c| n.draft.channel == c));
        let mut order: Vec<u64> = Vec::new();
        for notification in fitting().rev() {
            if !order.contains(&notification.thread) {
                order.push(notification.thread);
            }
        }
        let of = |thread: &u64| fitting().filter(|n| n.thread == *thread).cloned().collect();
        (order.iter().take(limit).map(of).collect(), fitting().count())
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
    fn what_follows_is_one_thread_and_what_comes_twice_is_known() {
        let store = Store::new(10, 1_000_000);
        let named = |channel, handle: &str, follows: &[&str], key: &str| Draft {
            handle: handle.to_owned(),
            follows: follows.iter().map(|f| (*f).to_owned()).collect(),
            key: key.to_owned(),
            ..Draft::empty(channel)
        };
        for draft in [
            named(Channel::Slack, "1.1", &[], "a"),
            named(Channel::Email, "1.1", &[], ""),
            named(Channel::Slack, "1.2", &["1.1"], "b"),
            named(Channel::Slack, "1.3", &["9.9"], "a"),
            named(Channel::Slack, "1.4", &["1.2"], ""),
            named(Channel::Webhook, "", &["incident x"], ""),
            named(Channel::Webhook, "", &["incident y", "incident x"], ""),
        ] {
            store.put(draft, OffsetDateTime::UNIX_EPOCH);
        }
        let ids = |channel| -> Vec<Vec<u64>> {
            let threads = store.threads(channel, 10).0;
            threads.into_iter().map(|t| t.into_iter().map(|n| n.id).collect()).collect()
        };
        assert_eq!(ids(None), [vec![6, 7], vec![1, 3, 5], vec![4], vec![2]]);
        assert_eq!(ids(Some(Channel::Slack)), [vec![1, 3, 5], vec![4]]);
        assert_eq!(store.get(4).unwrap().repeats, Some(1));
        assert_eq!(store.by_handle(Channel::Slack, "1.2").unwrap().id, 3);
        assert!(store.edit(3, named(Channel::Slack, "x", &[], "x")) && !store.edit(99, draft(Channel::Slack, "")));
        let edited = store.get(3).unwrap();
        assert_eq!((edited.edits, edited.draft.handle.as_str(), edited.draft.key.as_str()), (1, "1.2", "b"));
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
