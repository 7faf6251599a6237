//! Merkle tree hashes and proofs of RFC 6962 and RFC 9162, with SHA-256.

use aws_lc_rs::digest::{SHA256, digest};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> Hash {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// Hash of a leaf: SHA-256(0x00 ‖ data), RFC 9162, 2.1.1.
pub fn leaf_hash(data: &[u8]) -> Hash {
    let mut input = Vec::with_capacity(data.len() + 1);
    input.push(0);
    input.extend_from_slice(data);
    sha256(&input)
}

/// Hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut input = [1; 65];
    input[1..33].copy_from_slice(left);
    input[33..].copy_from_slice(right);
    sha256(&input)
}

/// Root of the tree without leaves.
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// The complete subtrees that make up a growing tree, largest first.
#[derive(Clone, Debug, Default)]
pub struct Frontier {
    size: u64,
    stack: Vec<Hash>,
}

impl Frontier {
    /// Number of leaves (or of whatever was pushed).
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds the next hash on the right.
    pub fn push(&mut self, hash: Hash) {
        let mut hash = hash;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.stack.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.stack.push(hash);
        self.size += 1;
    }

    /// Joins these subtrees with what lies to their right.
    pub fn fold(&self, right: Option<Hash>) -> Option<Hash> {
        self.stack.iter().rev().fold(right, |acc, left| Some(acc.map_or(*left, |right| node_hash(left, &right))))
    }
}

/// Hash of a complete subtree: `2^level` leaves starting at leaf `index * 2^level`.
pub trait Nodes {
    /// Why a hash cannot be had.
    type Error;
    /// The hash; only asked for subtrees inside the tree.
    ///
    /// # Errors
    /// It cannot be read.
    fn node(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The largest power of two below `n`, for `n` > 1.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// Hash of the leaves `from..to`, where the range is one that RFC 6962's recursion reaches.
fn range<N: Nodes>(nodes: &mut N, from: u64, to: u64) -> Result<Hash, N::Error> {
    let n = to - from;
    if n.is_power_of_two() {
        let level = n.trailing_zeros();
        return nodes.node(level, from >> level);
    }
    let k = split(n);
    let left = range(nodes, from, from + k)?;
    let right = range(nodes, from + k, to)?;
    Ok(node_hash(&left, &right))
}

/// Root of the first `size` leaves.
///
/// # Errors
/// A hash cannot be read.
pub fn root<N: Nodes>(nodes: &mut N, size: u64) -> Result<Hash, N::Error> {
    if size == 0 { Ok(empty_root()) } else { range(nodes, 0, size) }
}

/// Inclusion proof of leaf `index` in the tree of `size` leaves (RFC 9162, 2.1.3.1); `index < size`.
///
/// # Errors
/// A hash cannot be read.
pub fn inclusion_proof<N: Nodes>(nodes: &mut N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let (mut from, mut to) = (0, size);
    let mut path = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            path.push(range(nodes, middle, to)?);
            to = middle;
        } else {
            path.push(range(nodes, from, middle)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Consistency proof between the trees of `old` and `new` leaves (RFC 9162, 2.1.4.1); `old <= new`.
///
/// # Errors
/// A hash cannot be read.
pub fn consistency_proof<N: Nodes>(nodes: &mut N, old: u64, new: u64) -> Result<Vec<Hash>, N::Error> {
    let mut path = Vec::new();
    if old == 0 || old == new {
        return Ok(path);
    }
    let (mut from, mut to) = (0, new);
    // Whether the subtree on the way down is one that the verifier knows as the old root.
    let mut known = true;
    while to != old {
        let middle = from + split(to - from);
        if old <= middle {
            path.push(range(nodes, middle, to)?);
            to = middle;
        } else {
            path.push(range(nodes, from, middle)?);
            from = middle;
            known = false;
        }
    }
    if !known {
        path.push(range(nodes, from, to)?);
    }
    path.reverse();
    Ok(path)
}

/// Why a proof does not prove.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf is outside the tree, or the old tree is larger than the new one.
    #[error("{0} is not inside the tree of {1} entries")]
    Range(u64, u64),
    /// More or fewer hashes than the sizes ask for.
    #[error("the proof has {0} hashes, which does not fit the sizes")]
    Length(usize),
    /// The hashes lead to another root.
    #[error("the proof leads to another root hash")]
    Root,
}

/// Checks an inclusion proof (RFC 9162, 2.1.3.2).
///
/// # Errors
/// Why it does not hold.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Range(index, size));
    }
    let (mut fnode, mut snode) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if snode == 0 {
            return Err(ProofError::Length(proof.len()));
        }
        if fnode & 1 == 1 || fnode == snode {
            hash = node_hash(sibling, &hash);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    if snode != 0 {
        return Err(ProofError::Length(proof.len()));
    }
    if hash == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// Checks a consistency proof (RFC 9162, 2.1.4.2).
///
/// # Errors
/// Why it does not hold.
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::Range(old, new));
    }
    if old == 0 || old == new {
        if !proof.is_empty() {
            return Err(ProofError::Length(proof.len()));
        }
        let expected = if old == 0 { empty_root() } else { *new_root };
        return if *old_root == expected { Ok(()) } else { Err(ProofError::Root) };
    }
    // A complete old tree is its own first hash, which the proof therefore leaves out.
    let mut rest = proof.iter();
    let first = if old.is_power_of_two() { *old_root } else { *rest.next().ok_or(ProofError::Length(0))? };
    let (mut fnode, mut snode) = (old - 1, new - 1);
    while fnode & 1 == 1 {
        fnode >>= 1;
        snode >>= 1;
    }
    let (mut from_old, mut from_new) = (first, first);
    for hash in rest {
        if snode == 0 {
            return Err(ProofError::Length(proof.len()));
        }
        if fnode & 1 == 1 || fnode == snode {
            from_old = node_hash(hash, &from_old);
            from_new = node_hash(hash, &from_new);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, hash);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    if snode != 0 {
        return Err(ProofError::Length(proof.len()));
    }
    if from_old == *old_root && from_new == *new_root { Ok(()) } else { Err(ProofError::Root) }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// Straight from RFC 6962, 2.1: the definition, without any cleverness.
    fn mth(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => leaf_hash(one),
            many => {
                let k = split(many.len() as u64) as usize;
                node_hash(&mth(&many[..k]), &mth(&many[k..]))
            }
        }
    }

    struct Leaves(Vec<Vec<u8>>);

    impl Nodes for Leaves {
        type Error = Infallible;
        fn node(&mut self, level: u32, index: u64) -> Result<Hash, Infallible> {
            let from = (index << level) as usize;
            Ok(mth(&self.0[from..from + (1 << level)]))
        }
    }

    fn leaves(n: u64) -> Leaves {
        Leaves((0..n).map(|i| i.to_be_bytes().to_vec()).collect())
    }

    fn hex(hash: &Hash) -> String {
        hash.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn roots_are_those_of_certificate_transparency() {
        // The test vectors of certificate-transparency-go's merkletree package.
        let data: Vec<Vec<u8>> =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
                .iter()
                .map(|h| (0..h.len()).step_by(2).map(|i| u8::from_str_radix(&h[i..i + 2], 16).unwrap()).collect())
                .collect();
        assert_eq!(hex(&empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex(&mth(&data[..1])), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert_eq!(hex(&mth(&data[..2])), "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
        assert_eq!(hex(&mth(&data)), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }

    #[test]
    fn the_frontier_and_the_nodes_give_the_definition_s_root() {
        let mut frontier = Frontier::default();
        for n in 0..70u64 {
            let expected = mth(&leaves(n).0);
            assert_eq!(frontier.fold(None).unwrap_or_else(empty_root), expected);
            assert_eq!(root(&mut leaves(n), n).unwrap(), expected);
            frontier.push(leaf_hash(&n.to_be_bytes()));
        }
    }

    #[test]
    fn every_small_proof_holds_and_every_change_of_it_fails() {
        for size in 1..20u64 {
            let mut tree = leaves(size);
            let root = mth(&tree.0);
            for index in 0..size {
                let leaf = leaf_hash(&index.to_be_bytes());
                let proof = inclusion_proof(&mut tree, index, size).unwrap();
                verify_inclusion(&leaf, index, size, &proof, &root).unwrap();
                assert!(verify_inclusion(&leaf, (index + 1) % (size + 1), size, &proof, &root).is_err());
                for (i, _) in proof.iter().enumerate() {
                    let mut bad = proof.clone();
                    bad[i][0] ^= 1;
                    assert_eq!(verify_inclusion(&leaf, index, size, &bad, &root), Err(ProofError::Root));
                    bad.remove(i);
                    assert!(verify_inclusion(&leaf, index, size, &bad, &root).is_err());
                }
                let mut long = proof.clone();
                long.push([0; 32]);
                assert!(verify_inclusion(&leaf, index, size, &long, &root).is_err());
            }
            for old in 0..=size {
                let old_root = mth(&tree.0[..old as usize]);
                let proof = consistency_proof(&mut tree, old, size).unwrap();
                verify_consistency(old, &old_root, size, &root, &proof).unwrap();
                let mut other = old_root;
                other[31] ^= 1;
                assert!(verify_consistency(old, &other, size, &root, &proof).is_err());
                for (i, _) in proof.iter().enumerate() {
                    let mut bad = proof.clone();
                    bad[i][7] ^= 0x10;
                    assert_eq!(verify_consistency(old, &old_root, size, &root, &bad), Err(ProofError::Root));
                    bad.remove(i);
                    assert!(verify_consistency(old, &old_root, size, &root, &bad).is_err());
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn larger_trees_too(size in 1u64..600, a in 0u64..600, b in 0u64..600) {
            let mut tree = leaves(size);
            let root = mth(&tree.0);
            let (index, old) = (a % size, b % (size + 1));
            let proof = inclusion_proof(&mut tree, index, size).unwrap();
            prop_assert_eq!(verify_inclusion(&leaf_hash(&index.to_be_bytes()), index, size, &proof, &root), Ok(()));
            let old_root = mth(&tree.0[..old as usize]);
            let proof = consistency_proof(&mut tree, old, size).unwrap();
            prop_assert_eq!(verify_consistency(old, &old_root, size, &root, &proof), Ok(()));
        }
    }
}
