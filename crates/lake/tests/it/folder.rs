//! Behaviour that does not depend on the kind of store.

use lake::{
    Batch, Cursor, LakeError, Manifest, Reading, SeenReadings, codec,
    manifest::{manifest_name, sha256_hex},
};

use crate::support::{NOON_US, drain, folder, reading, readings, write};

/// Where a batch is filed.
fn object(readings: &[Reading]) -> String {
    let object = Batch::new(readings).unwrap().object().to_owned();
    assert!(object.starts_with("readings/date=2026-01-31/hour=13/b-"), "{object}");
    object
}

#[tokio::test]
async fn batches_with_the_same_numbers_do_not_replace_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let lake = folder(dir.path());
    // A machine that was added later counts from one.
    let late: Vec<Reading> =
        readings("b", 1..=15).into_iter().map(|r| Reading { machine_id: "late".into(), ..r }).collect();
    for (i, batch) in [readings("b", 1..=15), late].iter().enumerate() {
        write(&lake, batch, NOON_US + 1 + i as i64).await;
    }
    let got = drain(&lake, &mut Cursor::starting_at(NOON_US)).await;
    assert_eq!(got.iter().map(|f| f.as_ref().unwrap().readings.len()).collect::<Vec<_>>(), [30, 30]);
}

#[tokio::test]
async fn what_was_written_is_read_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let lake = folder(dir.path());
    let mut cursor = Cursor::starting_at(NOON_US);
    assert!(drain(&lake, &mut cursor).await.is_empty());
    for (i, seqs) in [1..=15, 16..=30, 31..=45].into_iter().enumerate() {
        write(&lake, &readings("b", seqs), NOON_US + 15_000_000 * (i as i64 + 1)).await;
    }
    let got = drain(&lake, &mut cursor).await;
    let seqs: Vec<u64> = got.iter().flat_map(|f| &f.as_ref().unwrap().readings).map(|r| r.seq).collect();
    assert_eq!(seqs, (1..=45).flat_map(|s| [s, s]).collect::<Vec<_>>());
    assert!(drain(&lake, &mut cursor).await.is_empty());
    assert!(dir.path().join(object(&readings("b", 1..=15))).is_file());
}

#[tokio::test]
async fn an_object_without_manifest_is_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let lake = folder(dir.path());
    let half = dir.path().join(object(&readings("b", 1..=15)));
    std::fs::create_dir_all(half.parent().unwrap()).unwrap();
    let whole = codec::encode(&readings("b", 1..=15)).unwrap();
    std::fs::write(&half, &whole[..whole.len() / 2]).unwrap();
    let mut cursor = Cursor::starting_at(NOON_US);
    assert!(drain(&lake, &mut cursor).await.is_empty());
    // The writer comes back and repeats the batch: the object is whole, once.
    write(&lake, &readings("b", 1..=15), NOON_US + 1).await;
    assert_eq!(drain(&lake, &mut cursor).await.remove(0).unwrap().readings.len(), 30);
}

#[tokio::test]
async fn a_damaged_truncated_or_missing_object_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let lake = folder(dir.path());
    write(&lake, &readings("b", 1..=15), NOON_US + 1).await;
    let object = dir.path().join(object(&readings("b", 1..=15)));
    let whole = std::fs::read(&object).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 3] ^= 1;
    for (bytes, says) in [(&whole[..100], "100 bytes"), (&flipped[..], "sha256")] {
        std::fs::write(&object, bytes).unwrap();
        let error = drain(&lake, &mut Cursor::starting_at(NOON_US)).await.remove(0).unwrap_err();
        assert!(matches!(&error, LakeError::Corrupt { reason, .. } if reason.contains(says)), "{error}");
    }
    std::fs::remove_file(&object).unwrap();
    let error = drain(&lake, &mut Cursor::starting_at(NOON_US)).await.remove(0).unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[tokio::test]
async fn bad_rows_are_set_aside_with_their_reason() {
    let dir = tempfile::tempdir().unwrap();
    let lake = folder(dir.path());
    let bad = [
        reading("m", "b", 1),
        Reading { temperature: f64::NAN, ..reading("m", "b", 2) },
        Reading { energy_millijoules_total: -5, ..reading("m", "b", 3) },
        Reading { ts_us: NOON_US + 3_000_000_000, ..reading("m", "b", 4) },
        reading("m", "b", 5),
    ];
    write(&lake, &bad, NOON_US + 10_000_000).await;
    let mut cursor = Cursor::starting_at(NOON_US);
    let name = lake.manifests_after(&cursor, 10).await.unwrap().remove(0);
    let got = drain(&lake, &mut cursor).await.remove(0).unwrap();
    assert_eq!(got.readings.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 5]);
    let reasons: Vec<_> = got.rejected.iter().map(|r| (r.row, r.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            (1, "temperature is not a finite number"),
            (2, "energy_millijoules_total is negative"),
            (3, "ts is in the future"),
        ]
    );
    lake.quarantine(&name, &got.manifest.object, &got.rejected).await.unwrap();
    let record = std::fs::read_to_string(dir.path().join(format!("quarantine/{name}l"))).unwrap();
    assert_eq!(record.lines().count(), 3);
    assert!(record.contains(r#""row":2,"reason":"energy_millijoules_total is negative""#), "{record}");
}

#[tokio::test]
async fn a_manifest_written_twice_gives_duplicates_that_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let lake = folder(dir.path());
    // The answer to the first manifest was lost, so the writer repeats the batch.
    write(&lake, &readings("b", 1..=15), NOON_US + 1).await;
    write(&lake, &readings("b", 1..=15), NOON_US + 2).await;
    let mut seen = SeenReadings::default();
    let (mut new, mut duplicate) = (0, 0);
    for fetched in drain(&lake, &mut Cursor::starting_at(NOON_US)).await {
        for r in fetched.unwrap().readings {
            if seen.insert(&r) { new += 1 } else { duplicate += 1 }
        }
    }
    assert_eq!((new, duplicate), (30, 30));
}

#[tokio::test]
async fn a_manifest_that_claims_too_much_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let lake = folder(dir.path());
    let bytes = codec::encode(&readings("b", 1..=2)).unwrap();
    std::fs::create_dir_all(dir.path().join("manifest")).unwrap();
    std::fs::create_dir_all(dir.path().join("readings")).unwrap();
    std::fs::write(dir.path().join("readings/x.parquet"), &bytes).unwrap();
    let manifest = Manifest {
        schema: 1,
        object: "readings/x.parquet".into(),
        rows: 5,
        bytes: bytes.len() as u64,
        sha256: sha256_hex(&bytes),
        min_ts: NOON_US,
        max_ts: NOON_US,
        written_at: NOON_US,
    };
    let name = manifest_name(NOON_US + 1, "b");
    std::fs::write(dir.path().join("manifest").join(&name), serde_json::to_vec(&manifest).unwrap()).unwrap();
    let error = lake.fetch(&name).await.unwrap_err();
    assert!(error.to_string().contains("4 rows where the manifest says 5"), "{error}");
    std::fs::write(dir.path().join("manifest").join(&name), vec![b' '; 70_000]).unwrap();
    assert!(matches!(lake.fetch(&name).await, Err(LakeError::Corrupt { .. })));
}

#[tokio::test]
async fn two_batches_at_the_same_instant_have_two_manifests() {
    let dir = tempfile::tempdir().unwrap();
    let lake = folder(dir.path());
    for seqs in [1..=5, 6..=10] {
        write(&lake, &readings("b", seqs), NOON_US + 1).await;
    }
    assert_eq!(drain(&lake, &mut Cursor::starting_at(NOON_US)).await.len(), 2);
}
