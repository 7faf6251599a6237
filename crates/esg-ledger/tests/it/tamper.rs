//! Whatever is changed in whichever file is found, with the entry that it is about.

use std::{collections::BTreeMap, fs, sync::LazyLock};

use esg_ledger::{
    tile::{self, Entries, TileId, encode_entry},
    verify::{self, Kind, Report},
};
use proptest::prelude::*;

use crate::support::{self, Sample, files, restore, sample};

/// 600 entries: two full tiles, partial ones, and an earlier form of the partial ones.
const SIZE: u64 = 600;

static LOG: LazyLock<(Sample, BTreeMap<String, Vec<u8>>)> = LazyLock::new(|| {
    let log = sample(SIZE as usize, 3, &[256, 300, 20, 23]);
    let files = files(log.dir());
    (log, files)
});

/// Verifies a changed copy of the sample.
fn check(changed: &BTreeMap<String, Vec<u8>>) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("copy");
    restore(&dir, changed);
    verify::verify(&dir, &LOG.0.options())
}

fn name(at: usize) -> String {
    LOG.1.keys().nth(at % LOG.1.len()).unwrap().clone()
}

/// The entries below a hash or under a name.
fn covers(file: &str, index: u64) -> bool {
    let id: TileId = file.parse().unwrap();
    let per = match id.kind {
        tile::Kind::Hashes(level) => 256u64.pow(level.into()),
        tile::Kind::Entries => 1,
    };
    (id.first_entry()..id.first_entry() + per * u64::from(id.width)).contains(&index)
}

/// Found, in that file, at an entry that the file is about.
fn assert_found(report: &Report, file: &str, what: &str) {
    assert!(!report.ok && report.exit_code != 0, "{what} in {file} was not found");
    let first = &report.failures[0];
    assert_eq!(first.file.as_deref(), Some(file), "{what}: {first:?}");
    if file != "checkpoint" {
        let index = first.index.unwrap_or_else(|| panic!("{what} in {file}: no index: {first:?}"));
        assert!(covers(file, index), "{what} in {file}: {first:?}");
    }
}

#[test]
fn the_sample_is_whole_and_has_every_kind_of_file() {
    let report = check(&LOG.1);
    assert!(report.ok, "{:?}", report.failures);
    assert_eq!((report.entries, report.machines, report.warnings.len()), (SIZE, 3, 0));
    assert_eq!(report.cosignatures.len(), 1);
    let names: Vec<&String> = LOG.1.keys().collect();
    for file in [
        "checkpoint",
        "tile/0/000",
        "tile/0/002.p/88",
        "tile/0/002.p/65",
        "tile/1/000.p/2",
        "tile/entries/001",
        "tile/entries/002.p/88",
    ] {
        assert!(LOG.1.contains_key(file), "{file} is not in {names:?}");
    }
}

/// The exact entry, not only one nearby: a flipped byte within an entry's own bytes.
#[test]
fn a_flipped_byte_of_each_entry_names_that_entry() {
    let mut index = 0;
    for (file, bytes) in LOG.1.iter().filter(|(f, _)| *f == "tile/entries/000" || *f == "tile/entries/002.p/88") {
        if file.contains("002") {
            index = 512;
        }
        let mut at = 0;
        for entry in Entries::new(bytes).map(|e| e.unwrap()) {
            // Every eighth is enough: each is a pass over the log.
            if index % 8 == 0 {
                let mut changed = LOG.1.clone();
                changed.get_mut(file).unwrap()[at + 2 + entry.len() / 2] ^= 0x20;
                let report = check(&changed);
                let first = &report.failures[0];
                assert_eq!(
                    (first.kind, first.index, first.file.as_deref()),
                    (Kind::EntryAltered, Some(index), Some(file.as_str()))
                );
            }
            at += 2 + entry.len();
            index += 1;
        }
    }
}

#[test]
fn two_bundles_or_tiles_that_were_swapped_are_found() {
    for (a, b) in [
        ("tile/entries/000", "tile/entries/001"),
        ("tile/0/000", "tile/0/001"),
        ("tile/0/002.p/88", "tile/0/002.p/65"),
        ("tile/entries/000", "tile/0/000"),
    ] {
        let mut changed = LOG.1.clone();
        changed.insert(a.to_owned(), LOG.1[b].clone());
        changed.insert(b.to_owned(), LOG.1[a].clone());
        let report = check(&changed);
        let first = &report.failures[0];
        assert!(first.file.as_deref() == Some(a) || first.file.as_deref() == Some(b), "{first:?}");
        assert!(covers(a, first.index.unwrap()) || covers(b, first.index.unwrap()));
    }
}

#[test]
fn a_file_that_the_tree_needs_is_missed_and_an_old_form_is_not() {
    for (file, _) in LOG.1.iter() {
        let mut changed = LOG.1.clone();
        changed.remove(file);
        let report = check(&changed);
        let needed = file == "checkpoint" || verify::needs(SIZE, file.parse().unwrap());
        assert_eq!(report.ok, !needed, "{file}");
        if needed {
            assert_eq!((report.failures[0].kind, report.exit_code), (Kind::Missing, 20), "{file}");
            assert_eq!(report.failures[0].file.as_deref(), Some(file.as_str()));
        }
    }
}

#[test]
fn foreign_files_below_tile_are_refused_and_others_told() {
    for file in ["tile/0/evil", "tile/entries/000.bak", "tile/notes.txt", "tile/0/000.p/x"] {
        let mut changed = LOG.1.clone();
        changed.insert(file.to_owned(), b"x".to_vec());
        let report = check(&changed);
        assert_eq!((report.exit_code, report.failures[0].file.as_deref()), (25, Some(file)));
    }
    let mut changed = LOG.1.clone();
    changed.insert("README.txt".to_owned(), b"x".to_vec());
    changed.insert("tile/0/.003.tmp".to_owned(), b"x".to_vec());
    changed.insert("tile/entries/003".to_owned(), b"x".to_vec());
    let report = check(&changed);
    assert!(report.ok);
    let kinds: Vec<_> = report.warnings.iter().map(|w| w.kind).collect();
    assert_eq!(kinds, ["beyond_checkpoint", "unfinished_write", "not_part_of_the_log"]);
}

#[test]
fn another_key_another_log_and_another_witness_are_told_apart() {
    let other = sample(3, 1, &[1]);
    let mut options = LOG.0.options();
    options.key = other.key.clone();
    assert_eq!(verify::verify(LOG.0.dir(), &options).exit_code, 11);
    let renamed =
        esg_ledger::note::SigningKey::generate("example.com/other", esg_ledger::note::Algorithm::Ed25519).unwrap();
    options.key = renamed.verifier().clone();
    assert_eq!(verify::verify(LOG.0.dir(), &options).exit_code, 12);
    let mut options = LOG.0.options();
    let stranger =
        esg_ledger::note::SigningKey::generate("example.com/witness", esg_ledger::note::Algorithm::CosignatureV1)
            .unwrap();
    options.witnesses = vec![stranger.verifier().clone()];
    assert_eq!(verify::verify(LOG.0.dir(), &options).exit_code, 13);
}

#[test]
fn the_trusted_checkpoint_must_be_continued() {
    let log = sample(300, 2, &[300]);
    let last = support::beside(&log, "last");
    fs::copy(log.dir().join("checkpoint"), &last).unwrap();
    let mut options = log.options();
    options.last = Some(last.clone());
    assert_eq!(verify::verify(log.dir(), &options).continues, Some(300));

    let mut writer = esg_ledger::log::Log::open(log.place.clone()).unwrap();
    let more: Vec<_> = esg_ledger::testing::entries(900, 2).skip(300).collect();
    support::append(&mut writer, &more);
    support::cosign(&mut writer);
    drop(writer);
    let report = verify::verify(log.dir(), &options);
    assert_eq!((report.continues, report.size, report.exit_code), (Some(300), 900, 0));

    // Who holds the key writes another history: everything fits but the checkpoint of before.
    let forged = tempfile::tempdir().unwrap();
    let place = esg_ledger::log::Place::beside(&forged.path().join("log"));
    fs::create_dir_all(&place.state).unwrap();
    fs::copy(&log.place.key_file, &place.key_file).unwrap();
    esg_ledger::log::init(&place, support::ORIGIN, esg_ledger::carbon::built_in(esg_ledger::testing::START_US))
        .unwrap();
    let mut writer = esg_ledger::log::Log::open(place.clone()).unwrap();
    let other: Vec<_> = esg_ledger::testing::entries(400, 1).skip(1).collect();
    support::append(&mut writer, &other);
    support::cosign(&mut writer);
    drop(writer);
    let report = verify::verify(&place.dir, &options);
    assert_eq!(report.exit_code, 31, "{:?}", report.failures);

    // The folder of before against the checkpoint of after.
    fs::copy(log.dir().join("checkpoint"), &last).unwrap();
    let report = verify::verify(&place.dir, &options);
    assert_eq!(report.exit_code, 30, "{:?}", report.failures);
    fs::write(&last, b"nonsense").unwrap();
    assert_eq!(verify::verify(log.dir(), &options).exit_code, 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_flipped_bit_is_found(file: usize, bit: usize) {
        let file = name(file);
        let mut changed = LOG.1.clone();
        let bytes = changed.get_mut(&file).unwrap();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_found(&check(&changed), &file, &format!("bit {bit}"));
    }

    #[test]
    fn any_truncation_or_surplus_is_found(file: usize, at: usize, surplus in 1usize..40, cut: bool) {
        let file = name(file);
        let mut changed = LOG.1.clone();
        let bytes = changed.get_mut(&file).unwrap();
        if cut {
            bytes.truncate(at % bytes.len());
        } else {
            bytes.extend(std::iter::repeat_n(b'\n', surplus));
        }
        assert_found(&check(&changed), &file, "the length");
    }

    #[test]
    fn any_entry_dropped_swapped_doubled_or_inserted_is_found(file: usize, a: usize, b: usize, how in 0..4) {
        let bundles: Vec<&String> = LOG.1.keys().filter(|f| f.starts_with("tile/entries/")).collect();
        let file = bundles[file % bundles.len()];
        let id: TileId = file.parse().unwrap();
        let mut entries: Vec<Vec<u8>> = Entries::new(&LOG.1[file]).map(|e| e.unwrap().to_vec()).collect();
        let (a, b) = (a % entries.len(), b % entries.len());
        prop_assume!(a != b);
        let first = match how {
            0 => { entries.remove(a); a }
            1 => { entries.swap(a, b); a.min(b) }
            2 => { let copy = entries[a].clone(); entries.insert(a, copy); a + 1 }
            _ => { entries.insert(a, b"{}".to_vec()); a }
        };
        let mut bytes = Vec::new();
        entries.iter().for_each(|e| encode_entry(&mut bytes, e));
        let mut changed = LOG.1.clone();
        changed.insert(file.clone(), bytes);
        let report = check(&changed);
        assert_found(&report, file, "an entry");
        let first = (id.first_entry() + first as u64).min(id.first_entry() + u64::from(id.width) - 1);
        prop_assert_eq!(report.failures[0].index, Some(first));
    }
}
