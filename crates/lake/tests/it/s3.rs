//! A real S3 endpoint (versitygw).

use lake::{Cursor, LakeError};
use telemetry::config::Secret;

use crate::support::{NOON_US, drain, readings, s3, s3_settings, write};

#[tokio::test]
async fn a_round_trip_makes_the_bucket_and_pages_through_many_manifests() {
    let lake = s3(&s3_settings());
    let mut cursor = Cursor::starting_at(NOON_US);
    assert!(drain(&lake, &mut cursor).await.is_empty(), "no bucket yet is an empty lake");
    for i in 1..=12u64 {
        write(&lake, &readings("b", i..=i), NOON_US + i as i64 * 15_000_000).await;
    }
    let first = lake.manifests_after(&cursor, 5).await.unwrap();
    assert_eq!(first.len(), 5);
    assert!(first.is_sorted());
    let got = drain(&lake, &mut cursor).await;
    let seqs: Vec<u64> = got.iter().flat_map(|f| &f.as_ref().unwrap().readings).map(|r| r.seq).collect();
    assert_eq!(seqs, (1..=12).flat_map(|s| [s, s]).collect::<Vec<_>>());
    assert!(drain(&lake, &mut cursor).await.is_empty());
}

#[tokio::test]
async fn wrong_keys_are_refused_not_unavailable() {
    let mut settings = s3_settings();
    settings.secret_key = Secret::new("wrong");
    let error = s3(&settings).manifests_after(&Cursor::starting_at(0), 1).await.unwrap_err();
    assert!(matches!(error, LakeError::Refused(_)), "{error:?}");
    assert!(!error.to_string().contains("wrong"));
}
