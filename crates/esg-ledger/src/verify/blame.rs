//! Which of two files that disagree is the altered one: the signed root decides.

use super::{Finding, Kind, unreadable};
use crate::{
    checkpoint::Checkpoint,
    dir::LogDir,
    merkle::{self, Hash},
    tile::{self, TileId, TileNodes, WIDTH, decode_hashes, span_hash, width_in},
};

/// The hashes of a tile as the directory's size needs it.
///
/// # Errors
/// It is missing, or its length is not that of its hashes.
pub fn tile(dir: &LogDir, level: u8, index: u64) -> Result<(TileId, Vec<Hash>), Finding> {
    let kind = tile::Kind::Hashes(level);
    let (id, bytes) = dir.read(kind, index).map_err(|e| unreadable(&e))?;
    let width = usize::from(width_in(dir.size(), kind, index));
    match decode_hashes(&bytes) {
        Some(mut hashes) if hashes.len() == usize::from(id.width) => {
            hashes.truncate(width);
            Ok((id, hashes))
        }
        _ => {
            let whole = bytes.len() as u64 / 32;
            let per_hash = WIDTH.saturating_pow(level.into());
            let entry = (index * WIDTH + whole.min(width.max(1) as u64 - 1)).saturating_mul(per_hash);
            let message = format!("{id} has {} bytes, not {}", bytes.len(), 32 * u32::from(id.width));
            Err(Finding::at(Kind::Truncated, id, entry, message))
        }
    }
}

/// Whether a tile leads to the signed root over the tiles above it.
///
/// Tiles that still grow are hashed into the root itself; a full one into the tile above it.
pub fn is_authentic(dir: &mut LogDir, checkpoint: &Checkpoint, level: u8, index: u64) -> bool {
    let Ok((_, hashes)) = tile(dir, level, index) else { return false };
    if (hashes.len() as u64) < WIDTH {
        let size = checkpoint.size;
        return merkle::root(&mut TileNodes::new(dir, size), size).is_ok_and(|root| root == checkpoint.root);
    }
    let Ok((_, above)) = tile(dir, level + 1, index / WIDTH) else { return false };
    above.get((index % WIDTH) as usize).copied() == span_hash(&hashes)
        && is_authentic(dir, checkpoint, level + 1, index / WIDTH)
}
