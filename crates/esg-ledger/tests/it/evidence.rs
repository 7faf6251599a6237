//! Faults that are signed: the evidence is whole, but what it says cannot be.

use std::fs;

use esg_ledger::{
    carbon,
    checkpoint::Checkpoint,
    entry::{Correction, DeclaredBy, Entry, GapClose, GapOpen, Heartbeat},
    log::{Log, Outcome, read_key},
    merkle::leaf_hash,
    note::Note,
    testing::{self, START_US},
    tile::{TileId, TileTree, encode_entry},
    verify::{Report, verify},
};

use crate::support::{self, NOW_US, policy, sample, started};

/// A folder of any entries at all, signed as a dishonest operator with the key would.
fn forge(entries: &[Vec<u8>]) -> Report {
    let sample = started();
    let key = read_key(&sample.place.key_file).unwrap();
    let dir = sample.root.path().join("forged");
    let (mut tree, mut bundle) = (TileTree::default(), Vec::new());
    for entry in entries {
        tree.push(leaf_hash(entry), |_, _, _| panic!("a small log"));
        encode_entry(&mut bundle, entry);
    }
    let put = |id: TileId, bytes: &[u8]| {
        let path = dir.join(id.to_string());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    put(TileId::entries(0, entries.len() as u16), &bundle);
    tree.edges()
        .for_each(|(level, index, hashes)| put(TileId::hashes(level, index, hashes.len() as u16), &hashes.concat()));
    let checkpoint = Checkpoint { origin: support::ORIGIN.to_owned(), size: tree.size(), root: tree.root() };
    let mut note = Note::new(checkpoint.to_text());
    note.add(key.sign(note.text(), 0));
    note.add(support::witness_key().sign(note.text(), 1));
    fs::write(dir.join("checkpoint"), note.to_string()).unwrap();
    verify(&dir, &sample.options())
}

fn factors() -> Vec<u8> {
    Entry::FactorSet(carbon::built_in(START_US)).to_bytes()
}

fn reading(seq: i64, change: impl FnOnce(&mut esg_ledger::entry::Reading<'static>)) -> Vec<u8> {
    let mut reading = testing::reading("m", seq);
    change(&mut reading);
    Entry::Reading(reading).to_bytes()
}

#[test]
fn each_fault_in_what_is_said_has_its_code_and_index() {
    let good = |seq| reading(seq, |_| ());
    assert_eq!(forge(&[factors(), good(0), good(1)]).exit_code, 0);
    let gap = GapOpen { from_us: START_US + 9, machine_id: "m".into(), reason: "r".into(), ..GapOpen::default() };
    let space = [&b"{ "[..], &good(1)[1..]].concat();
    for (code, bad) in [
        (40, b"{}".to_vec()),
        (40, b"".to_vec()),
        (40, space),
        (40, reading(1, |r| (r.energy_mj, r.co2e_location_mg) = (-1, 0))),
        (41, good(0)),
        (41, reading(1, |r| r.start_us -= 5)),
        (42, good(2)),
        (42, reading(1, |r| r.start_us += 5)),
        (43, reading(1, |r| r.meter_mj += 1)),
        (43, reading(1, |r| r.meter_mj -= 1)),
        (44, reading(1, |r| r.co2e_location_mg += 1)),
        (
            44,
            reading(1, |r| {
                r.factor.value = 1;
                r.compute();
            }),
        ),
        (45, Entry::GapOpen(gap).to_bytes()),
    ] {
        let report = forge(&[factors(), good(0), bad.clone()]);
        let text = String::from_utf8_lossy(&bad).into_owned();
        assert_eq!(report.exit_code, code, "{text}: {:?}", report.failures);
        assert_eq!(report.failures[0].index, Some(2), "{text}");
        assert_eq!(report.failures[0].file.as_deref(), Some("tile/entries/000.p/3"));
    }
    // A reading without any factor table before it.
    assert_eq!(forge(&[good(0)]).exit_code, 44);
}

#[test]
fn declared_gaps_corrections_and_heartbeats_verify_and_are_counted() {
    let sample = started();
    let mut log = Log::open(sample.place.clone()).unwrap();
    let send = |log: &mut Log, entry: Vec<u8>| log.submit(&[entry], &policy(), NOW_US).unwrap().remove(0);
    assert_eq!(send(&mut log, reading(0, |_| ())), Outcome::Appended(1));
    // The producer tells its gap, with the reason that only it knows.
    let open = GapOpen {
        from_us: START_US + 1_000_000,
        machine_id: "m".into(),
        reason: "power_loss".into(),
        declared_by: DeclaredBy::Producer,
    };
    let close = GapClose {
        from_us: open.from_us,
        until_us: START_US + 5_000_000,
        machine_id: "m".into(),
        missing: Some(4),
        declared_by: DeclaredBy::Producer,
    };
    assert_eq!(send(&mut log, Entry::GapOpen(open).to_bytes()), Outcome::Appended(2));
    assert_eq!(send(&mut log, Entry::GapClose(close).to_bytes()), Outcome::Appended(3));
    assert_eq!(send(&mut log, reading(5, |_| ())), Outcome::Appended(4));
    // Nobody tells this one: the ledger writes both records before the reading.
    assert_eq!(send(&mut log, reading(8, |_| ())), Outcome::Appended(7));
    assert_eq!(send(&mut log, Entry::Heartbeat(Heartbeat { at_us: NOW_US }).to_bytes()), Outcome::Appended(8));
    let wrong = log_entry(&sample, 7);
    let mut right = testing::reading("m", 8);
    right.energy_mj = 900_000;
    right.compute();
    let correction = Correction {
        author: "an engineer".into(),
        reading: right,
        reason: "clamp slipped".into(),
        index: 7,
        leaf_sha256: carbon::hex(&leaf_hash(&wrong)).into(),
    };
    let correction = Entry::Correction(Box::new(correction)).to_bytes();
    assert_eq!(send(&mut log, correction.clone()), Outcome::Appended(9));
    assert_eq!(
        send(&mut log, correction),
        Outcome::Refused("the correction of entry 7: it was corrected before; correct the correction".to_owned())
    );
    assert!(matches!(send(&mut log, reading(8, |_| ())), Outcome::Duplicate(_)));
    support::cosign(&mut log);
    log.close().unwrap();
    let report = sample.verify();
    assert!(report.ok, "{:?}", report.failures);
    assert_eq!((report.declared_gaps, report.gap_seconds, report.entries), (2, 6, 10));
    assert!((report.coverage_ratio - 3.0 / 9.0).abs() < 1e-9);
    // The history comes back from its snapshot, and from the log alone.
    for file in ["history.json", "nothing"] {
        let _ = fs::remove_file(sample.place.state.join(file));
        let log = Log::open(sample.place.clone()).unwrap();
        assert_eq!(log.history().machines()["m"].gaps, 2);
    }
}

fn log_entry(sample: &support::Sample, index: u64) -> Vec<u8> {
    let (checkpoint, _) = esg_ledger::scan::checkpoint(sample.dir(), None).unwrap();
    esg_ledger::dir::LogDir::new(sample.dir(), checkpoint.size).entry(index).unwrap()
}

#[test]
fn batches_of_any_size_give_the_same_tree() {
    let one = sample(700, 3, &[1]);
    let many = sample(700, 3, &[700]);
    let odd = sample(700, 3, &[1, 255, 3, 90]);
    assert_eq!(one.verify().root, many.verify().root);
    assert_eq!(one.verify().root, odd.verify().root);
    let bundle = "tile/entries/001";
    assert_eq!(fs::read(one.dir().join(bundle)).unwrap(), fs::read(many.dir().join(bundle)).unwrap());
}

#[test]
fn many_senders_share_batches_and_each_learns_its_indices() {
    let sample = started();
    let (sender, writer) = esg_ledger::batch::start(
        sample.place.clone(),
        policy(),
        esg_ledger::batch::Limits {
            heartbeat: std::time::Duration::from_secs(3_600),
            silence: std::time::Duration::MAX,
            ..Default::default()
        },
        (),
        || NOW_US,
    )
    .unwrap();
    let threads: Vec<_> = (0..8)
        .map(|t| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let entry = |seq| Entry::Reading(testing::reading(&format!("m-{t}"), seq)).to_bytes();
                let indices: Vec<u64> = (0..20)
                    .flat_map(|seq| sender.append(vec![entry(seq)]).unwrap())
                    .map(|o| match o {
                        Outcome::Appended(index) => index,
                        other => panic!("{other:?}"),
                    })
                    .collect();
                assert!(indices.is_sorted());
                indices
            })
        })
        .collect();
    let mut all: Vec<u64> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (1..=160).collect::<Vec<u64>>());
    drop(sender);
    writer.join().unwrap();
    let mut log = Log::open(sample.place.clone()).unwrap();
    support::cosign(&mut log);
    drop(log);
    assert!(sample.verify().ok);
}

#[test]
fn after_a_key_rotation_both_keys_verify_and_the_log_says_why() {
    use std::os::unix::fs::PermissionsExt;
    let mut sample = sample(300, 2, &[300]);
    let new = esg_ledger::log::rotate_key(&sample.place, "yearly", NOW_US).unwrap();
    assert_ne!(new, sample.key);
    assert_eq!(fs::metadata(&sample.place.key_file).unwrap().permissions().mode() & 0o777, 0o600);
    let mut log = Log::open(sample.place.clone()).unwrap();
    let more: Vec<_> = testing::entries(310, 2).skip(300).collect();
    support::append(&mut log, &more);
    support::cosign(&mut log);
    log.close().unwrap();
    for key in [sample.key.clone(), new] {
        sample.key = key;
        assert!(sample.verify().ok, "{:?}", sample.verify().failures);
    }
    let record = String::from_utf8(log_entry(&sample, 300)).unwrap();
    assert!(record.contains("key_rotation") && record.contains("yearly"), "{record}");
}
