//! Go's `golang.org/x/mod/sumdb/tlog` and `note` on our folders, proofs and keys.
//!
//! The Go program is in `tests/go`. Without Go this test fails: what it shows is not optional.

#![allow(clippy::unwrap_used)]

#[path = "../it/support.rs"]
#[allow(dead_code)]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use esg_ledger::{checkpoint::Checkpoint, dir::LogDir, proof, scan};
use support::Sample;

fn build(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go");
    let program = folder.join("interop");
    let output = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(source)
        .output()
        .unwrap_or_else(|e| panic!("this test needs Go (the command `go`): {e}"));
    assert!(output.status.success(), "go build: {}", String::from_utf8_lossy(&output.stderr));
    program
}

/// Inclusion proofs of some entries and consistency proofs between some sizes.
fn proofs(log: &Sample, folder: &Path) -> (u64, u64) {
    fs::create_dir_all(folder).unwrap();
    let (checkpoint, note) = scan::checkpoint(log.dir(), Some(&log.key)).unwrap();
    let size = checkpoint.size;
    let mut dir = LogDir::new(log.dir(), size);
    let interesting = [
        0,
        1,
        2,
        3,
        127,
        254,
        255,
        256,
        257,
        511,
        512,
        65_535,
        65_536,
        size / 2,
        size.saturating_sub(2),
        size - 1,
        size,
    ];
    let (mut inclusion, mut consistency) = (0, 0);
    for index in interesting.into_iter().filter(|i| *i < size) {
        let text = proof::inclusion(&mut dir, index, &note).unwrap();
        fs::write(folder.join(format!("i-{index}")), text).unwrap();
    }
    for old in interesting.into_iter().filter(|i| (1..=size).contains(i)) {
        for new in [old, old + 1, size - size / 3, size] {
            if (old..=size).contains(&new) {
                let text = proof::consistency(&mut dir, old, new, &note).unwrap();
                fs::write(folder.join(format!("c-{old}-{new}")), text).unwrap();
            }
        }
    }
    for name in support::files(folder).keys() {
        if name.starts_with('i') { inclusion += 1 } else { consistency += 1 }
    }
    (inclusion, consistency)
}

fn go(program: &Path, log: &Sample, proofs: &Path) -> Result<serde_json::Value, String> {
    let output = Command::new(program)
        .arg(log.dir())
        .arg(log.key.to_string())
        .arg(log.witness.to_string())
        .arg(&log.place.key_file)
        .arg(proofs)
        .output()
        .unwrap();
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn go_reads_our_folders_accepts_our_proofs_and_signs_with_our_keys() {
    let folder = tempfile::tempdir().unwrap();
    let program = build(folder.path());
    for size in [1, 2, 255, 256, 257, 1_000, 66_000] {
        let log = support::sample(size, 4, &[size / 2 + 1, 20_000]);
        let texts = folder.path().join(size.to_string());
        let (inclusion, consistency) = proofs(&log, &texts);
        let found = go(&program, &log, &texts).unwrap_or_else(|e| panic!("{size} entries: {e}"));
        assert_eq!(found["size"], size);
        assert_eq!(found["records"], size);
        assert_eq!((found["inclusion"].as_u64(), found["consistency"].as_u64()), (Some(inclusion), Some(consistency)));
        assert_eq!(found["cosigned"], true);
        let (opened, _) = Checkpoint::open(found["resigned"].as_str().unwrap().as_bytes(), &log.key).unwrap();
        assert_eq!(opened.size, size as u64);
    }
}

/// The test above would be worth nothing if the Go program accepted anything.
#[test]
fn go_refuses_what_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let program = build(folder.path());
    let log = support::sample(300, 2, &[299]);
    let texts = folder.path().join("proofs");
    proofs(&log, &texts);
    let files = support::files(log.dir());
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    for file in ["checkpoint", "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/44"] {
        flip(&log.dir().join(file));
        assert!(go(&program, &log, &texts).is_err(), "{file}");
        support::restore(log.dir(), &files);
    }
    assert!(go(&program, &log, &texts).is_ok());
    let path = texts.join("i-127");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("index 127", "index 126")).unwrap();
    assert!(go(&program, &log, &texts).unwrap_err().contains("CheckRecord"));
}
