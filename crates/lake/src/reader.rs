//! Reading: new manifests, their objects verified, rows that cannot be true set aside.

use std::fmt::Write;

use crate::{
    Cursor, Lake, LakeError, Manifest, Reading, Result, codec,
    manifest::{MANIFESTS, MAX_OBJECT_BYTES, QUARANTINE},
};

/// Manifests are small.
const MAX_MANIFEST_BYTES: u64 = 64 << 10;
/// Rows written out for one object; a file full of nonsense needs no full copy.
const MAX_QUARANTINED: usize = 1_000;

/// The content of one object.
#[derive(Debug)]
pub struct Fetched {
    /// What the writer said.
    pub manifest: Manifest,
    /// Rows that are plausible.
    pub readings: Vec<Reading>,
    /// Rows that are not.
    pub rejected: Vec<Rejected>,
}

/// A row that is no reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Zero-based row in the object.
    pub row: usize,
    /// Why.
    pub reason: String,
}

impl Lake {
    /// Names of the manifests that the cursor has not seen, oldest first, at most `limit`.
    ///
    /// # Errors
    /// As the store answers.
    pub async fn manifests_after(&self, cursor: &Cursor, limit: usize) -> Result<Vec<String>> {
        // The overlap is listed again each time; it must not use up the limit.
        let names = self.list(MANIFESTS, &cursor.list_after(), limit.saturating_add(cursor.remembered())).await?;
        Ok(names.into_iter().filter(|name| cursor.is_new(name)).take(limit).collect())
    }

    /// Reads what a manifest names and checks it: size, SHA-256, schema, row count, each row.
    ///
    /// # Errors
    /// [`LakeError::Corrupt`] if the manifest or its object is not what it should be (an
    /// object that is missing included): nothing of it may be used.
    pub async fn fetch(&self, name: &str) -> Result<Fetched> {
        let path = format!("{MANIFESTS}/{name}");
        let manifest = Manifest::parse(&path, &self.get(&path, MAX_MANIFEST_BYTES).await?)?;
        let bytes = match self.get(&manifest.object, MAX_OBJECT_BYTES).await {
            Err(LakeError::NotFound(_)) => {
                return Err(LakeError::corrupt(&manifest.object, "the manifest names it, but it does not exist"));
            }
            other => other?,
        };
        manifest.verify(&bytes)?;
        let rows = codec::decode(bytes).map_err(|reason| LakeError::corrupt(&manifest.object, reason))?;
        if rows.len() as u64 != manifest.rows {
            let reason = format!("{} rows where the manifest says {}", rows.len(), manifest.rows);
            return Err(LakeError::corrupt(&manifest.object, reason));
        }
        let mut readings = Vec::with_capacity(rows.len());
        let mut rejected = Vec::new();
        for (row, outcome) in rows.into_iter().enumerate() {
            match outcome.and_then(|r| r.check(manifest.written_at).map(|()| r)) {
                Ok(reading) => readings.push(reading),
                Err(reason) => rejected.push(Rejected { row, reason }),
            }
        }
        Ok(Fetched { manifest, readings, rejected })
    }

    /// Keeps a record of what was set aside: `quarantine/<manifest>.jsonl`, one line a row.
    ///
    /// # Errors
    /// As the store answers.
    pub async fn quarantine(&self, manifest_name: &str, object: &str, rejected: &[Rejected]) -> Result<()> {
        let mut lines = String::new();
        for Rejected { row, reason } in rejected.iter().take(MAX_QUARANTINED) {
            let line = serde_json::json!({ "object": object, "row": row, "reason": reason });
            let _ = writeln!(lines, "{line}");
        }
        if rejected.len() > MAX_QUARANTINED {
            let more = rejected.len() - MAX_QUARANTINED;
            let _ = writeln!(lines, "{}", serde_json::json!({ "object": object, "more": more }));
        }
        self.put(&format!("{QUARANTINE}/{manifest_name}l"), lines.into()).await
    }

    /// Keeps a record of an object that was set aside whole.
    ///
    /// # Errors
    /// As the store answers.
    pub async fn quarantine_object(&self, manifest_name: &str, object: &str, reason: &str) -> Result<()> {
        let line = format!("{}\n", serde_json::json!({ "object": object, "reason": reason }));
        self.put(&format!("{QUARANTINE}/{manifest_name}l"), line.into()).await
    }
}
