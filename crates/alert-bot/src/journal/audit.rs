//! The hash chain: each line's hash covers the line and the hash before it, so
//! that no line can be changed, removed or put in between without all later
//! hashes changing.

use futures::TryStreamExt;
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::Row;
use utoipa::ToSchema;

use super::{Journal, Result};
use crate::{engine::Note, timestamp::Timestamp};

/// A line's hash.
pub type Hash = [u8; 32];

/// What the first line is chained to.
pub const GENESIS: Hash = [0; 32];

/// One line as it is hashed.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub(super) seq: i64,
    pub(super) at: i64,
    pub(super) incident: Option<&'a str>,
    pub(super) kind: &'a str,
    pub(super) reason: Option<&'a str>,
    pub(super) alertname: &'a str,
    pub(super) target: Option<&'a str>,
    pub(super) text: &'a str,
    pub(super) data: &'a str,
}

impl<'a> Line<'a> {
    pub(super) fn of(note: &'a Note, seq: i64, data: &'a str) -> Self {
        Self {
            seq,
            at: note.at.millis(),
            incident: note.incident.as_deref(),
            kind: note.kind.as_str(),
            reason: note.reason.map(|r| r.as_str()),
            alertname: &note.alert,
            target: note.target.as_deref(),
            text: &note.text,
            data,
        }
    }

    /// SHA-256 over the previous hash and all columns, each with its length:
    /// text cannot move from one column to the next unnoticed.
    pub fn hash(&self, previous: &Hash) -> Hash {
        let mut hash = Sha256::new();
        hash.update(previous);
        hash.update(self.seq.to_be_bytes());
        hash.update(self.at.to_be_bytes());
        let columns = [
            self.incident,
            Some(self.kind),
            self.reason,
            Some(self.alertname),
            self.target,
            Some(self.text),
            Some(self.data),
        ];
        for column in columns {
            match column {
                None => hash.update([0]),
                Some(text) => {
                    hash.update([1]);
                    hash.update((text.len() as u64).to_be_bytes());
                    hash.update(text);
                }
            }
        }
        hash.finalize().into()
    }
}

/// What a check of the whole chain found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Report {
    /// Every line is where and what it was when it was written.
    pub intact: bool,
    /// Lines looked at.
    pub lines: i64,
    /// The last good line's hash, as hex: kept elsewhere, it also proves that
    /// nothing was cut off at the end.
    pub head: String,
    /// What is wrong with the first bad line.
    pub error: Option<String>,
}

/// Checks the whole chain, a line at a time.
pub async fn verify(journal: &Journal) -> Result<Report> {
    let mut rows = sqlx::query(
        "SELECT seq, at, incident, kind, reason, alertname, target, text, data, hash FROM audit ORDER BY seq",
    )
    .fetch(&journal.readers);
    let mut head = GENESIS;
    let mut lines = 0;
    while let Some(row) = rows.try_next().await? {
        let expected = lines + 1;
        let line = Line {
            seq: row.get(0),
            at: row.get(1),
            incident: row.get(2),
            kind: row.get(3),
            reason: row.get(4),
            alertname: row.get(5),
            target: row.get(6),
            text: row.get(7),
            data: row.get(8),
        };
        let hash: &[u8] = row.get(9);
        let error = if line.seq != expected {
            Some(format!("line {expected} is missing"))
        } else if line.hash(&head).as_slice() != hash {
            Some(format!("line {expected} was changed after {}", Timestamp::from_millis(line.at)))
        } else {
            None
        };
        if error.is_some() {
            return Ok(Report { intact: false, lines, head: hex(&head), error });
        }
        head = line.hash(&head);
        lines += 1;
    }
    Ok(Report { intact: true, lines, head: hex(&head), error: None })
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
