//! Reads a log's entries one after another, bundle by bundle.

use std::path::Path;

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    dir::{LogDir, ReadError},
    disk::{self, DiskError},
    entry::{Entry, EntryError},
    note::{Note, VerifierKey},
    tile::{Entries, Kind, WIDTH, width_in},
};

/// Why the entries cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// There is no checkpoint.
    #[error("checkpoint is missing: is this a log's directory?")]
    NoCheckpoint,
    /// The checkpoint is not one.
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// A bundle cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// An entry is no entry.
    #[error("entry {index}: {source}")]
    Entry {
        /// Which.
        index: u64,
        /// Why.
        source: EntryError,
    },
}

/// The directory's checkpoint, its signature checked if there is a key.
///
/// # Errors
/// It is missing, no checkpoint, or not signed by the key.
pub fn checkpoint(root: &Path, key: Option<&VerifierKey>) -> Result<(Checkpoint, Note), ScanError> {
    let bytes = disk::read(&root.join("checkpoint"))?.ok_or(ScanError::NoCheckpoint)?;
    Ok(match key {
        Some(key) => Checkpoint::open(&bytes, key)?,
        None => {
            let note = Note::parse(&bytes).map_err(CheckpointError::from)?;
            (Checkpoint::from_text(note.text())?, note)
        }
    })
}

/// Calls `each` with every entry of a tree of `size`: index, parsed, bytes.
///
/// # Errors
/// A bundle is missing or cut, an entry is no entry, or what `each` says.
pub fn entries<E: From<ScanError>>(
    dir: &LogDir,
    mut each: impl FnMut(u64, &Entry<'_>, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    for n in 0..dir.size().div_ceil(WIDTH) {
        let (id, bytes) = dir.read(Kind::Entries, n).map_err(ScanError::from)?;
        let width = usize::from(width_in(dir.size(), Kind::Entries, n));
        let mut reader = Entries::new(&bytes);
        for i in 0..width {
            let index = n * WIDTH + i as u64;
            let entry = reader.next().and_then(Result::ok);
            let bytes = entry.ok_or(ScanError::Read(ReadError::Short(id)))?;
            let entry = Entry::parse(bytes).map_err(|source| ScanError::Entry { index, source })?;
            each(index, &entry, bytes)?;
        }
    }
    Ok(())
}

/// Base64 as notes use it.
pub fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}
