//! Documents beside the readings: models, and what was decided about them.

use bytes::Bytes;

use crate::{Lake, Result};

/// Names that one listing returns at most.
const MAX_NAMES: usize = 10_000;

impl Lake {
    /// Writes a document whole or not at all; an older one of the same name is replaced.
    ///
    /// # Errors
    /// The lake is unavailable or refuses.
    pub async fn put_document(&self, folder: &str, name: &str, content: impl Into<Bytes>) -> Result<()> {
        self.put(&format!("{folder}/{name}"), content.into()).await
    }

    /// Reads a document of at most `limit` bytes.
    ///
    /// # Errors
    /// There is none, it is larger, or the lake is unavailable or refuses.
    pub async fn get_document(&self, folder: &str, name: &str, limit: u64) -> Result<Bytes> {
        self.get(&format!("{folder}/{name}"), limit).await
    }

    /// Names of a folder's documents that sort after `after`, ascending.
    ///
    /// # Errors
    /// The lake is unavailable or refuses.
    pub async fn document_names(&self, folder: &str, after: &str) -> Result<Vec<String>> {
        self.list(folder, if after.is_empty() { "0" } else { after }, MAX_NAMES).await
    }
}
