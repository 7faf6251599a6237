//! How far a reader has come.

use std::collections::BTreeSet;

use crate::manifest::manifest_time;

/// Manifests may appear this much out of order: two writers' clocks differ, and a
/// listing may miss an object whose write overlapped it.
const OVERLAP_US: i64 = 60_000_000;

/// The manifests that a reader has dealt with.
///
/// It remembers a time and, for the minute before it, each name: a manifest that
/// turns up late within that minute is still read, and none is read twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    latest_us: i64,
    recent: BTreeSet<String>,
}

impl Cursor {
    /// Starts with the manifests written after this instant.
    pub fn starting_at(ts_us: i64) -> Self {
        Self { latest_us: ts_us.saturating_add(OVERLAP_US), recent: BTreeSet::new() }
    }

    /// A listing for new manifests starts after this name.
    pub fn list_after(&self) -> String {
        format!("{:020}", self.latest_us.saturating_sub(OVERLAP_US).max(0))
    }

    /// Has this manifest been dealt with? A name that is no manifest's is none to read.
    pub fn is_new(&self, name: &str) -> bool {
        manifest_time(name).is_some() && *name > *self.list_after() && !self.recent.contains(name)
    }

    /// Names that a listing will show again.
    pub fn remembered(&self) -> usize {
        self.recent.len()
    }

    /// Notes that a manifest was dealt with.
    pub fn advance(&mut self, name: &str) {
        let Some(ts) = manifest_time(name) else { return };
        self.recent.insert(name.to_owned());
        self.latest_us = self.latest_us.max(ts);
        let oldest = self.list_after();
        self.recent = self.recent.split_off(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::manifest_name;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn late_manifests_are_read_once_and_old_ones_forgotten() {
        let mut cursor = Cursor::starting_at(1_000 * SECOND);
        let a = manifest_name(1_001 * SECOND, "a");
        let b = manifest_name(1_030 * SECOND, "b");
        assert!(cursor.is_new(&a));
        cursor.advance(&b);
        assert!(cursor.is_new(&a), "late, within the overlap");
        cursor.advance(&a);
        assert!(!cursor.is_new(&a) && !cursor.is_new(&b));
        cursor.advance(&manifest_name(2_000 * SECOND, "c"));
        assert!(!cursor.is_new(&a), "before the overlap");
        assert_eq!(cursor.recent.len(), 1, "memory is bounded by the overlap");
        assert!(!cursor.is_new("junk"));
    }

    #[test]
    fn it_starts_after_the_instant_given() {
        let cursor = Cursor::starting_at(1_000 * SECOND);
        assert!(!cursor.is_new(&manifest_name(999 * SECOND, "a")));
        assert!(cursor.is_new(&manifest_name(1_000 * SECOND, "a")));
    }
}
