use std::{sync::Arc, time::Duration};

use lake::{
    Batch, Cursor, Fetched, Lake, LakeError, Reading, Settings,
    store::{Backend, S3},
};
use telemetry::config::Secret;

/// 2026-01-31T13:00:00Z.
pub const NOON_US: i64 = 1_769_864_400_000_000;

pub fn reading(machine: &str, boot: &str, seq: u64) -> Reading {
    Reading {
        machine_id: machine.into(),
        line: "line-1".into(),
        site: "site-a".into(),
        boot_id: boot.into(),
        seq,
        ts_us: NOON_US + seq as i64 * 1_000_000,
        temperature: 50.0,
        load: 0.5,
        vibration: 1.5,
        power_watts: 4_000.0,
        energy_millijoules_total: seq as i64,
        error_code: 0,
        status: 1,
        failed: false,
    }
}

pub fn readings(boot: &str, seqs: std::ops::RangeInclusive<u64>) -> Vec<Reading> {
    seqs.flat_map(|s| [reading("m-1", boot, s), reading("m-2", boot, s)]).collect()
}

pub fn folder(dir: &std::path::Path) -> Lake {
    Lake::open(&Settings { backend: Backend::Folder(dir.to_owned()) }, Arc::new(())).unwrap()
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("set {name}, or run ./stack test"))
}

/// A bucket of its own on the real endpoint.
pub fn s3_settings() -> S3 {
    S3 {
        endpoint: variable("TEST_S3_ENDPOINT"),
        bucket: format!("lake-{}", uuid::Uuid::new_v4()),
        region: "us-east-1".into(),
        access_key: Secret::new(variable("TEST_S3_ACCESS_KEY")),
        secret_key: Secret::new(variable("TEST_S3_SECRET_KEY")),
        connect_timeout: Duration::from_millis(500),
        request_timeout: Duration::from_secs(2),
        max_retries: 1,
    }
}

pub fn s3(settings: &S3) -> Lake {
    Lake::open(&Settings { backend: Backend::S3(settings.clone()) }, Arc::new(())).unwrap()
}

pub async fn write(lake: &Lake, readings: &[Reading], now_us: i64) {
    lake.write(&Batch::new(readings).unwrap(), now_us).await.unwrap();
}

/// Everything that is new, advancing the cursor.
pub async fn drain(lake: &Lake, cursor: &mut Cursor) -> Vec<Result<Fetched, LakeError>> {
    let mut all = Vec::new();
    for name in lake.manifests_after(cursor, 100).await.unwrap() {
        all.push(lake.fetch(&name).await);
        cursor.advance(&name);
    }
    all
}
