//! Proofs as text that travels without the log.
//!
//! An inclusion proof is a C2SP tlog-proof (<https://c2sp.org/tlog-proof>) whose extra line
//! holds the entry. A consistency proof has the hashes of RFC 9162 between two named trees.

use std::fmt::Write;

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    dir::{LogDir, ReadError},
    merkle::{
        self, Hash, ProofError, consistency_proof, inclusion_proof, leaf_hash, verify_consistency, verify_inclusion,
    },
    note::{Note, VerifierKey},
    tile::TileNodes,
};

const INCLUSION: &str = "c2sp.org/tlog-proof@v1";
const CONSISTENCY: &str = "esg-ledger-consistency/v1";

/// Why a proof cannot be made or does not prove.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log's files.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Index or sizes are outside the log.
    #[error("{0}")]
    Range(String),
    /// The text is no proof.
    #[error("not a proof: {0}")]
    Malformed(&'static str),
    /// The checkpoint in it does not hold.
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The hashes do not lead where they should.
    #[error("{0}")]
    Proof(#[from] ProofError),
    /// Nothing signed says that the roots are the log's.
    #[error("no signed checkpoint of {0} entries: give it with --checkpoint")]
    Unanchored(u64),
}

/// What a proof was found to prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proven {
    /// The entry is in the log.
    Inclusion {
        /// Where.
        index: u64,
        /// In the tree of this size.
        size: u64,
        /// Its bytes.
        entry: Vec<u8>,
    },
    /// The old tree is a prefix of the new one.
    Consistency {
        /// Size of the old tree.
        old: u64,
        /// Size of the new tree.
        new: u64,
    },
}

/// The inclusion proof of one entry in the directory's signed tree.
///
/// # Errors
/// The index is outside, or a tile cannot be read.
pub fn inclusion(dir: &mut LogDir, index: u64, checkpoint: &Note) -> Result<String, Error> {
    let size = dir.size();
    if index >= size {
        return Err(Error::Range(format!("entry {index} is not in the log of {size} entries")));
    }
    let entry = dir.entry(index)?;
    let hashes = inclusion_proof(&mut TileNodes::new(dir, size), index, size)?;
    let mut out = format!("{INCLUSION}\nextra {}\nindex {index}\n", BASE64_STANDARD.encode(entry));
    lines(&mut out, &hashes);
    let _ = write!(out, "\n{checkpoint}");
    Ok(out)
}

/// The consistency proof between two sizes of the log; with the checkpoint, if `new` is what it signs.
///
/// # Errors
/// The sizes are outside, or a tile cannot be read.
pub fn consistency(dir: &mut LogDir, old: u64, new: u64, checkpoint: &Note) -> Result<String, Error> {
    let size = dir.size();
    if old > new || new > size {
        return Err(Error::Range(format!("sizes {old} and {new} are not in order within the log of {size} entries")));
    }
    let mut nodes = TileNodes::new(dir, size);
    let (old_root, new_root) = (merkle::root(&mut nodes, old)?, merkle::root(&mut nodes, new)?);
    let hashes = consistency_proof(&mut nodes, old, new)?;
    let encode = |root: Hash| BASE64_STANDARD.encode(root);
    let mut out = format!("{CONSISTENCY}\nold {old} {}\nnew {new} {}\n", encode(old_root), encode(new_root));
    lines(&mut out, &hashes);
    if new == size {
        let _ = write!(out, "\n{checkpoint}");
    }
    Ok(out)
}

fn lines(out: &mut String, hashes: &[Hash]) {
    for hash in hashes {
        out.push_str(&BASE64_STANDARD.encode(hash));
        out.push('\n');
    }
}

/// Checks a proof against the log's key, and against checkpoints that are trusted besides.
///
/// `entry` is the entry that somebody holds; if it is given, the proof must be about it.
///
/// # Errors
/// What does not hold.
pub fn check(text: &str, key: &VerifierKey, entry: Option<&[u8]>, trusted: &[Checkpoint]) -> Result<Proven, Error> {
    let (head, tail) = match text.split_once("\n\n") {
        Some((head, tail)) => (head, Some(tail)),
        None => (text.strip_suffix('\n').unwrap_or(text), None),
    };
    let mut head = head.split('\n');
    let kind = head.next().filter(|k| [INCLUSION, CONSISTENCY].contains(k));
    let kind = kind.ok_or(Error::Malformed("the first line names no kind of proof"))?;
    let signed = match tail {
        Some(tail) => Some(Checkpoint::open(tail.as_bytes(), key)?.0),
        None => None,
    };
    if kind == INCLUSION { check_inclusion(head, signed, entry) } else { check_consistency(head, signed, trusted) }
}

fn hashes<'t>(lines: impl Iterator<Item = &'t str>) -> Result<Vec<Hash>, Error> {
    lines.map(hash).collect()
}

fn hash(line: &str) -> Result<Hash, Error> {
    let bytes = BASE64_STANDARD.decode(line).ok().and_then(|b| b.try_into().ok());
    bytes.ok_or(Error::Malformed("a line is no hash in base64"))
}

fn number(text: &str) -> Result<u64, Error> {
    text.parse::<u64>().ok().filter(|n| n.to_string() == text).ok_or(Error::Malformed("a number is expected"))
}

fn check_inclusion<'t>(
    mut lines: impl Iterator<Item = &'t str>,
    signed: Option<Checkpoint>,
    held: Option<&[u8]>,
) -> Result<Proven, Error> {
    let signed = signed.ok_or(Error::Malformed("it has no checkpoint"))?;
    let mut line = lines.next().unwrap_or_default();
    let mut entry = held.map(<[u8]>::to_vec);
    if let Some(extra) = line.strip_prefix("extra ") {
        let extra = BASE64_STANDARD.decode(extra).map_err(|_| Error::Malformed("the extra line is not base64"))?;
        if entry.as_ref().is_some_and(|e| *e != extra) {
            return Err(Error::Malformed("it is about another entry"));
        }
        entry = Some(extra);
        line = lines.next().unwrap_or_default();
    }
    let entry = entry.ok_or(Error::Malformed("it does not hold the entry: give it with --entry"))?;
    let index = line.strip_prefix("index ").ok_or(Error::Malformed("the index line is missing"))?;
    let index = number(index)?;
    verify_inclusion(&leaf_hash(&entry), index, signed.size, &hashes(lines)?, &signed.root)?;
    Ok(Proven::Inclusion { index, size: signed.size, entry })
}

fn check_consistency<'t>(
    mut lines: impl Iterator<Item = &'t str>,
    signed: Option<Checkpoint>,
    trusted: &[Checkpoint],
) -> Result<Proven, Error> {
    let mut tree = |word: &'static str| {
        let mut parts = lines.next().unwrap_or_default().split(' ');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(w), Some(size), Some(root), None) if w == word => Ok((number(size)?, hash(root)?)),
            _ => Err(Error::Malformed("the old or the new tree is missing")),
        }
    };
    let (old, new) = (tree("old")?, tree("new")?);
    verify_consistency(old.0, &old.1, new.0, &new.1, &hashes(lines)?)?;
    // The hashes show only that two roots belong together; that they are the log's, signatures say.
    for (size, root) in [old, new] {
        let mut known = signed.iter().chain(trusted).filter(|c| c.size == size);
        let anchored = match known.next() {
            Some(first) => first.root == root && known.all(|c| c.root == root),
            None if size == 0 => true,
            None => return Err(Error::Unanchored(size)),
        };
        if !anchored {
            return Err(ProofError::Root.into());
        }
    }
    Ok(Proven::Consistency { old: old.0, new: new.0 })
}
