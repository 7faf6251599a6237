//! Reads a log's directory.

use std::path::{Path, PathBuf};

use crate::{
    disk::{self, DiskError},
    merkle::Hash,
    tile::{Entries, Kind, TileId, Tiles, WIDTH, decode_hashes, width_in},
};

/// A tile or bundle that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Neither it nor its full form is there.
    #[error("{0} is missing")]
    Missing(TileId),
    /// It holds less than its name says.
    #[error("{0} is shorter than its name says")]
    Short(TileId),
    /// The system could not read it.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A log's directory, read as the tree of one size.
#[derive(Clone, Debug)]
pub struct LogDir {
    root: PathBuf,
    size: u64,
}

impl LogDir {
    /// The directory as a tree of `size` entries.
    pub fn new(root: &Path, size: u64) -> Self {
        Self { root: root.to_owned(), size }
    }

    /// Entries in the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where a tile is.
    pub fn path(&self, id: TileId) -> PathBuf {
        self.root.join(id.to_string())
    }

    /// Reads a tile or bundle as this size needs it: partial, or full where that is there already.
    ///
    /// # Errors
    /// It is missing, or cannot be read.
    pub fn read(&self, kind: Kind, index: u64) -> Result<(TileId, Vec<u8>), ReadError> {
        let id = TileId { kind, index, width: width_in(self.size, kind, index) };
        for id in [id, id.full()] {
            if let Some(bytes) = disk::read(&self.path(id))? {
                return Ok((id, bytes));
            }
        }
        Err(ReadError::Missing(id))
    }

    /// The bytes of one entry.
    ///
    /// # Errors
    /// Its bundle is missing or too short.
    pub fn entry(&self, index: u64) -> Result<Vec<u8>, ReadError> {
        let (id, bytes) = self.read(Kind::Entries, index / WIDTH)?;
        let entry = Entries::new(&bytes).nth((index % WIDTH) as usize);
        entry.and_then(Result::ok).map(<[u8]>::to_vec).ok_or(ReadError::Short(id))
    }
}

impl Tiles for LogDir {
    type Error = ReadError;

    fn tile(&mut self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, ReadError> {
        let (id, bytes) = self.read(Kind::Hashes(level), index)?;
        let mut hashes = decode_hashes(&bytes).ok_or(ReadError::Short(id))?;
        if hashes.len() < usize::from(width) {
            return Err(ReadError::Short(id));
        }
        hashes.truncate(width.into());
        Ok(hashes)
    }
}
