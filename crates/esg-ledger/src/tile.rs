//! The layout of C2SP tlog-tiles: names of tiles and entry bundles, and their content.
//!
//! <https://c2sp.org/tlog-tiles>. A tile holds up to 256 hashes of one level, a bundle the
//! entries under one tile of level 0, each behind its length as a big-endian u16.

use std::{fmt, str::FromStr};

use crate::merkle::{Frontier, Hash, Nodes, node_hash};

/// Hashes in a full tile, entries in a full bundle.
pub const WIDTH: u64 = 256;

/// Levels of the tree that one tile spans: log2 of [`WIDTH`].
const HEIGHT: u32 = 8;

/// Largest entry, in bytes: what the length in front of it can say.
pub const MAX_ENTRY: usize = 65_535;

/// What a file below `tile/` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `tile/<L>/…`: hashes of this level.
    Hashes(u8),
    /// `tile/entries/…`.
    Entries,
}

/// One file below `tile/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TileId {
    /// Hashes of a level, or entries.
    pub kind: Kind,
    /// Position among the tiles of its level.
    pub index: u64,
    /// Hashes or entries in it, 1 to 256; less than 256 is partial.
    pub width: u16,
}

impl TileId {
    /// The tile of hashes at `level`.
    pub fn hashes(level: u8, index: u64, width: u16) -> Self {
        Self { kind: Kind::Hashes(level), index, width }
    }

    /// The bundle of entries.
    pub fn entries(index: u64, width: u16) -> Self {
        Self { kind: Kind::Entries, index, width }
    }

    /// Whether it can still grow.
    pub fn is_partial(&self) -> bool {
        u64::from(self.width) < WIDTH
    }

    /// The same tile when it is full.
    pub fn full(self) -> Self {
        Self { width: WIDTH as u16, ..self }
    }

    /// First entry below the tile.
    pub fn first_entry(&self) -> u64 {
        let level = match self.kind {
            Kind::Hashes(level) => u32::from(level),
            Kind::Entries => 0,
        };
        self.index.saturating_mul(WIDTH.saturating_pow(level + 1))
    }
}

impl fmt::Display for TileId {
    /// The path below the log's directory.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Hashes(level) => write!(f, "tile/{level}/")?,
            Kind::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = vec![self.index % 1_000];
        let mut rest = self.index / 1_000;
        while rest > 0 {
            groups.push(rest % 1_000);
            rest /= 1_000;
        }
        for (i, group) in groups.iter().enumerate().rev() {
            if i > 0 {
                write!(f, "x{group:03}/")?;
            } else {
                write!(f, "{group:03}")?;
            }
        }
        if self.is_partial() {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

/// A path that names no tile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a name of the tlog-tiles layout")]
pub struct NotATile;

impl FromStr for TileId {
    type Err = NotATile;

    fn from_str(path: &str) -> Result<Self, NotATile> {
        let rest = path.strip_prefix("tile/").ok_or(NotATile)?;
        let (kind, rest) = rest.split_once('/').ok_or(NotATile)?;
        let kind = if kind == "entries" {
            Kind::Entries
        } else {
            Kind::Hashes(kind.parse().ok().filter(|l| *l < 64).ok_or(NotATile)?)
        };
        let (name, width) = match rest.split_once(".p/") {
            Some((name, width)) => (name, width.parse().ok().filter(|w| (1..256).contains(w)).ok_or(NotATile)?),
            None => (rest, WIDTH as u16),
        };
        let mut index: u64 = 0;
        for group in name.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            let value: u64 = digits.parse().map_err(|_| NotATile)?;
            index = index.checked_mul(1_000).and_then(|i| i.checked_add(value)).ok_or(NotATile)?;
        }
        let id = Self { kind, index, width };
        // One spelling only: leading zeros, signs, a missing x all end here.
        if id.to_string() == path { Ok(id) } else { Err(NotATile) }
    }
}

/// The tiles of hashes and the bundle at the right edge of a tree of `size`: those that still grow.
pub fn partials(size: u64) -> Vec<TileId> {
    let mut out = Vec::new();
    let width = (size % WIDTH) as u16;
    if width > 0 {
        out.push(TileId::entries(size / WIDTH, width));
    }
    let (mut level, mut hashes) = (0, size);
    while hashes > 0 {
        let width = (hashes % WIDTH) as u16;
        if width > 0 {
            out.push(TileId::hashes(level, hashes / WIDTH, width));
        }
        hashes /= WIDTH;
        level += 1;
    }
    out
}

/// Hashes of a level that a tree of `size` has: `floor(size / 256^level)`.
pub fn hashes_at(size: u64, level: u8) -> u64 {
    if u32::from(level) * HEIGHT >= 64 { 0 } else { size >> (u32::from(level) * HEIGHT) }
}

/// The width that the tile has in a tree of `size`; 0 if it is not there.
pub fn width_in(size: u64, kind: Kind, index: u64) -> u16 {
    let total = match kind {
        Kind::Entries => size,
        Kind::Hashes(level) => hashes_at(size, level),
    };
    total.saturating_sub(index.saturating_mul(WIDTH)).min(WIDTH) as u16
}

/// Hash over consecutive hashes: the root of the subtree that they span.
pub fn span_hash(hashes: &[Hash]) -> Option<Hash> {
    let mut frontier = Frontier::default();
    hashes.iter().for_each(|h| frontier.push(*h));
    frontier.fold(None)
}

/// Bytes to hashes; `None` unless they are a whole number of hashes.
pub fn decode_hashes(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (chunks, rest) = bytes.as_chunks::<32>();
    rest.is_empty().then(|| chunks.to_vec())
}

/// Appends an entry as a bundle holds it; the caller has checked its length.
pub fn encode_entry(out: &mut Vec<u8>, entry: &[u8]) {
    debug_assert!(entry.len() <= MAX_ENTRY);
    out.extend_from_slice(&(entry.len() as u16).to_be_bytes());
    out.extend_from_slice(entry);
}

/// Reads entries one after another.
pub struct Entries<'a> {
    rest: &'a [u8],
}

/// A bundle ends in the middle of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

impl<'a> Entries<'a> {
    /// Reads from a bundle's bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub fn rest(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<&'a [u8], Cut>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((length, rest)) = self.rest.split_at_checked(2) else {
            self.rest = &[];
            return Some(Err(Cut));
        };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        match rest.split_at_checked(length) {
            Some((entry, rest)) => {
                self.rest = rest;
                Some(Ok(entry))
            }
            None => {
                self.rest = &[];
                Some(Err(Cut))
            }
        }
    }
}

/// A tree that grows on the right and hands out each tile when it is full.
///
/// Memory: at most 256 hashes a level, whatever the size.
#[derive(Clone, Debug, Default)]
pub struct TileTree {
    size: u64,
    levels: Vec<Level>,
}

#[derive(Clone, Debug, Default)]
struct Level {
    full: u64,
    hashes: Vec<Hash>,
    inner: Frontier,
}

impl TileTree {
    /// A tree that continues from the tiles at the right edge of `size` entries: for each
    /// level from 0 the hashes of its partial tile (empty where there is none).
    pub fn resume(size: u64, edges: &[Vec<Hash>]) -> Self {
        let mut levels = Vec::new();
        for (level, hashes) in edges.iter().enumerate() {
            let mut inner = Frontier::default();
            hashes.iter().for_each(|h| inner.push(*h));
            levels.push(Level { full: hashes_at(size, level as u8) / WIDTH, hashes: hashes.clone(), inner });
        }
        Self { size, levels }
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf's hash; `full` receives (level, index, hashes) of each tile that it completes.
    pub fn push(&mut self, leaf: Hash, mut full: impl FnMut(u8, u64, &[Hash])) {
        self.size += 1;
        let mut hash = leaf;
        for at in 0.. {
            if self.levels.len() == at {
                self.levels.push(Level::default());
            }
            let Some(level) = self.levels.get_mut(at) else { return };
            level.hashes.push(hash);
            level.inner.push(hash);
            if (level.hashes.len() as u64) < WIDTH {
                return;
            }
            full(at as u8, level.full, &level.hashes);
            let Some(up) = level.inner.fold(None) else { return };
            level.full += 1;
            level.hashes.clear();
            level.inner = Frontier::default();
            hash = up;
        }
    }

    /// The partial tiles at the right edge: (level, index, hashes), none empty.
    pub fn edges(&self) -> impl Iterator<Item = (u8, u64, &[Hash])> {
        self.levels
            .iter()
            .enumerate()
            .filter(|(_, l)| !l.hashes.is_empty())
            .map(|(at, l)| (at as u8, l.full, l.hashes.as_slice()))
    }

    /// Root hash.
    pub fn root(&self) -> Hash {
        let acc = self.levels.iter().fold(None, |right, level| level.inner.fold(right));
        acc.unwrap_or_else(crate::merkle::empty_root)
    }
}

/// Reads the tiles of a log.
pub trait Tiles {
    /// Why a tile cannot be had.
    type Error;
    /// At least `width` hashes of the tile.
    ///
    /// # Errors
    /// It cannot be read, or is shorter.
    fn tile(&mut self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, Self::Error>;
}

/// Answers for any complete subtree of a tree of `size` from its tiles.
pub struct TileNodes<'a, T> {
    tiles: &'a mut T,
    size: u64,
    last: Option<(u8, u64, Vec<Hash>)>,
}

impl<'a, T: Tiles> TileNodes<'a, T> {
    /// `size` decides which tiles are partial.
    pub fn new(tiles: &'a mut T, size: u64) -> Self {
        Self { tiles, size, last: None }
    }
}

impl<T: Tiles> Nodes for TileNodes<'_, T> {
    type Error = T::Error;

    fn node(&mut self, level: u32, index: u64) -> Result<Hash, T::Error> {
        let (tile_level, within) = ((level / HEIGHT) as u8, level % HEIGHT);
        let first = index << within;
        let (tile, offset) = (first / WIDTH, (first % WIDTH) as usize);
        if self.last.as_ref().is_none_or(|(l, i, _)| (*l, *i) != (tile_level, tile)) {
            let width = width_in(self.size, Kind::Hashes(tile_level), tile);
            self.last = Some((tile_level, tile, self.tiles.tile(tile_level, tile, width)?));
        }
        let hashes =
            self.last.as_ref().map_or(&[][..], |(_, _, h)| h.get(offset..offset + (1 << within)).unwrap_or(&[]));
        // The tile has the width asked for, so the span is never empty.
        Ok(span_hash(hashes).unwrap_or_else(|| node_hash(&[0; 32], &[0; 32])))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::merkle::{consistency_proof, inclusion_proof, leaf_hash, verify_consistency, verify_inclusion};

    #[test]
    fn names_are_those_of_the_specification() {
        for (id, path) in [
            (TileId::hashes(0, 1_234_067, 256), "tile/0/x001/x234/067"),
            (TileId::hashes(2, 0, 1), "tile/2/000.p/1"),
            (TileId::entries(273, 112), "tile/entries/273.p/112"),
            (TileId::entries(1_000, 256), "tile/entries/x001/000"),
        ] {
            assert_eq!(id.to_string(), path);
            assert_eq!(path.parse(), Ok(id));
        }
        for path in [
            "checkpoint",
            "tile/0/0",
            "tile/0/0000",
            "tile/0/+00",
            "tile/0/000.p/256",
            "tile/0/000.p/0",
            "tile/0/000.p/01",
            "tile/00/000",
            "tile/64/000",
            "tile/0/x000/001",
            "tile/0/x001",
            "tile/0/001/000",
            "tile/data/000",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
            "tile/0/",
            "tile/entries/000.p/",
        ] {
            assert_eq!(path.parse::<TileId>(), Err(NotATile), "{path}");
        }
    }

    #[test]
    fn the_edge_is_that_of_the_specification_s_example() {
        let names: Vec<String> = partials(70_000).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["tile/entries/273.p/112", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
        assert_eq!(partials(256), [TileId::hashes(1, 0, 1)]);
        assert_eq!(partials(0), []);
        assert_eq!(width_in(70_000, Kind::Hashes(1), 0), 256);
        assert_eq!(width_in(70_000, Kind::Hashes(1), 2), 0);
        assert_eq!(TileId::hashes(1, 3, 256).first_entry(), 3 * 65_536);
    }

    /// Tiles as a tree hands them out.
    #[derive(Default)]
    struct Kept(std::collections::HashMap<(u8, u64), Vec<Hash>>);

    impl Tiles for Kept {
        type Error = Infallible;
        fn tile(&mut self, level: u8, index: u64, _: u16) -> Result<Vec<Hash>, Infallible> {
            Ok(self.0[&(level, index)].clone())
        }
    }

    fn grow(size: u64) -> (TileTree, Kept) {
        let (mut tree, mut kept) = (TileTree::default(), Kept::default());
        for i in 0..size {
            tree.push(leaf_hash(&i.to_be_bytes()), |level, index, hashes| {
                kept.0.insert((level, index), hashes.to_vec());
            });
        }
        for (level, index, hashes) in tree.edges() {
            kept.0.insert((level, index), hashes.to_vec());
        }
        (tree, kept)
    }

    #[test]
    fn a_tree_of_three_levels_has_the_root_of_its_leaves_and_can_be_resumed() {
        for size in [1, 255, 256, 257, 65_535, 65_536, 70_000] {
            let (tree, mut kept) = grow(size);
            let mut plain = Frontier::default();
            (0..size).for_each(|i| plain.push(leaf_hash(&i.to_be_bytes())));
            assert_eq!(Some(tree.root()), plain.fold(None), "{size}");
            let mut edges = vec![Vec::new(); 3];
            tree.edges().for_each(|(l, _, h)| edges[usize::from(l)] = h.to_vec());
            let resumed = TileTree::resume(size, &edges);
            assert_eq!((resumed.root(), resumed.size()), (tree.root(), size));
            let root = crate::merkle::root(&mut TileNodes::new(&mut kept, size), size).unwrap();
            assert_eq!(root, tree.root(), "{size}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn proofs_come_from_tiles(size in 1u64..3_000, a: u64, b: u64) {
            let (tree, mut kept) = grow(size);
            let (index, old) = (a % size, b % (size + 1));
            let mut nodes = TileNodes::new(&mut kept, size);
            let proof = inclusion_proof(&mut nodes, index, size).unwrap();
            let leaf = leaf_hash(&index.to_be_bytes());
            prop_assert_eq!(verify_inclusion(&leaf, index, size, &proof, &tree.root()), Ok(()));
            let proof = consistency_proof(&mut nodes, old, size).unwrap();
            let old_root = grow(old).0.root();
            prop_assert_eq!(verify_consistency(old, &old_root, size, &tree.root(), &proof), Ok(()));
        }

        #[test]
        fn a_bundle_gives_back_its_entries_and_any_bytes_are_read_without_panic(
            entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
            cut in 0usize..2_000,
        ) {
            let mut bytes = Vec::new();
            entries.iter().for_each(|e| encode_entry(&mut bytes, e));
            let back: Vec<Vec<u8>> = Entries::new(&bytes).map(|e| e.unwrap().to_vec()).collect();
            prop_assert_eq!(back, entries);
            bytes.truncate(cut);
            let _ = Entries::new(&bytes).count();
        }

        #[test]
        fn every_name_comes_back(level in 0u8..64, index in 0u64..1 << 56, width in 1u16..=256, entries: bool) {
            let id = if entries { TileId::entries(index, width) } else { TileId::hashes(level, index, width) };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
}
