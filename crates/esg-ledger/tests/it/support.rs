//! Logs in temporary folders.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use esg_ledger::{
    carbon,
    ingest::Policy,
    log::{self, Log, Outcome, Place},
    note::{Algorithm, Signature, SigningKey, VerifierKey},
    testing::{self, START_US},
    verify::{Options, Report, verify},
};

pub const ORIGIN: &str = "example.com/esg";

/// A clock a day after the test readings start.
pub const NOW_US: i64 = START_US + 86_400_000_000;

/// A log and everything that an auditor is given.
pub struct Sample {
    pub root: tempfile::TempDir,
    pub place: Place,
    pub key: VerifierKey,
    pub witness: VerifierKey,
}

pub fn witness_key() -> SigningKey {
    SigningKey::from_seed("example.com/witness", Algorithm::CosignatureV1, [9; 32]).unwrap()
}

impl Sample {
    pub fn dir(&self) -> &Path {
        &self.place.dir
    }

    pub fn options(&self) -> Options {
        Options { key: self.key.clone(), last: None, witnesses: vec![self.witness.clone()] }
    }

    pub fn verify(&self) -> Report {
        verify(self.dir(), &self.options())
    }
}

pub fn policy() -> Policy {
    Policy { max_age_us: i64::MAX / 2, ..Policy::default() }
}

/// An empty log: its factors only.
pub fn started() -> Sample {
    let root = tempfile::tempdir().unwrap();
    let place = Place::beside(&root.path().join("log"));
    let key = log::init(&place, ORIGIN, carbon::built_in(START_US)).unwrap();
    Sample { root, place, key, witness: witness_key().verifier().clone() }
}

/// A log of `n` entries by `machines` machines, written in batches of these sizes, cosigned at the end.
pub fn sample(n: usize, machines: usize, batches: &[usize]) -> Sample {
    let sample = started();
    let mut log = Log::open(sample.place.clone()).unwrap();
    let entries: Vec<Vec<u8>> = testing::entries(n, machines).skip(1).collect();
    let mut rest = entries.as_slice();
    for size in batches.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at((*size).min(rest.len()));
        append(&mut log, now);
        rest = later;
    }
    cosign(&mut log);
    log.close().unwrap();
    sample
}

pub fn append(log: &mut Log, entries: &[Vec<u8>]) -> Vec<u64> {
    let outcomes = log.submit(entries, &policy(), NOW_US).unwrap();
    let index = |o| match o {
        Outcome::Appended(index) => index,
        other => panic!("{other:?}"),
    };
    outcomes.into_iter().map(index).collect()
}

pub fn cosign(log: &mut Log) -> Signature {
    let text = log.note().text().to_owned();
    let line = witness_key().sign(&text, 1_790_000_000);
    assert!(log.cosigned(&text, line.clone()).unwrap());
    line
}

/// Every file of a folder by its path below it.
pub fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, at: &Path, out: &mut BTreeMap<String, Vec<u8>>) {
        for item in fs::read_dir(at).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                walk(root, &path, out);
            } else {
                out.insert(path.strip_prefix(root).unwrap().display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(root, root, &mut out);
    out
}

/// Writes files back as they were; files that are not among them go.
pub fn restore(root: &Path, files: &BTreeMap<String, Vec<u8>>) {
    let _ = fs::remove_dir_all(root);
    for (path, bytes) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// A file beside the log.
pub fn beside(sample: &Sample, name: &str) -> PathBuf {
    sample.root.path().join(name)
}
