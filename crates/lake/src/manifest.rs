//! The manifest of one data object: what was written, so that it can be checked.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::{LakeError, Result, codec::SCHEMA_VERSION};

/// Where manifests live.
pub const MANIFESTS: &str = "manifest";
/// Where data objects live.
pub const READINGS: &str = "readings";
/// Where rows that cannot be readings are kept with their reasons.
pub const QUARANTINE: &str = "quarantine";

/// A reader refuses objects above this size: the manifest is foreign input.
pub const MAX_OBJECT_BYTES: u64 = 256 << 20;

/// What a manifest says of its data object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the columns.
    pub schema: u32,
    /// Path of the data object.
    pub object: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// Earliest reading, µs since 1970.
    pub min_ts: i64,
    /// Latest reading, µs since 1970.
    pub max_ts: i64,
    /// When this manifest was written, µs since 1970.
    pub written_at: i64,
}

impl Manifest {
    /// Parses and checks a manifest.
    ///
    /// # Errors
    /// [`LakeError::Corrupt`] naming `name`.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| LakeError::corrupt(name, e))?;
        let fault = if manifest.schema != SCHEMA_VERSION {
            Some(format!("schema {} is not {SCHEMA_VERSION}", manifest.schema))
        } else if !manifest.object.starts_with("readings/") || manifest.object.contains("..") {
            Some(format!("object '{}' is not under readings/", manifest.object))
        } else if manifest.bytes > MAX_OBJECT_BYTES {
            Some(format!("{} bytes are more than {MAX_OBJECT_BYTES}", manifest.bytes))
        } else {
            None
        };
        fault.map_or(Ok(manifest), |reason| Err(LakeError::corrupt(name, reason)))
    }

    /// Are these the bytes that the manifest was written for?
    ///
    /// # Errors
    /// [`LakeError::Corrupt`] naming the data object.
    pub fn verify(&self, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 != self.bytes {
            let reason = format!("{} bytes where the manifest says {}", bytes.len(), self.bytes);
            return Err(LakeError::corrupt(&self.object, reason));
        }
        let found = sha256_hex(bytes);
        if !found.eq_ignore_ascii_case(&self.sha256) {
            return Err(LakeError::corrupt(
                &self.object,
                format!("sha256 {found} where the manifest says {}", self.sha256),
            ));
        }
        Ok(())
    }
}

/// File name of a manifest: sorts by time.
pub fn manifest_name(written_at_us: i64, boot_id: &str) -> String {
    format!("{:020}-{boot_id}.json", written_at_us.max(0))
}

/// The time in a manifest's file name.
pub fn manifest_time(name: &str) -> Option<i64> {
    let digits = name.get(..20)?;
    (name.as_bytes().get(20) == Some(&b'-') && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

/// Path of a data object. Machines count on their own, so that two objects of one boot may hold the same
/// numbers: what they hold tells them apart.
pub fn object_path(partition: &Partition, boot_id: &str, (first_seq, last_seq): (u64, u64), sha256: &str) -> String {
    let Partition { date, hour } = partition;
    let content = sha256.get(..16).unwrap_or(sha256);
    format!("{READINGS}/date={date}/hour={hour:02}/{boot_id}-{first_seq}-{last_seq}-{content}.parquet")
}

/// The hour that a reading is filed under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    date: String,
    hour: u8,
}

impl Partition {
    /// The partition of an instant, in UTC. Instants beyond what a calendar knows go to the epoch.
    pub fn of(ts_us: i64) -> Self {
        let t =
            OffsetDateTime::from_unix_timestamp_nanos(i128::from(ts_us) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Self { date: t.date().to_string(), hour: t.hour() }
    }
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::tests::NOON_US;

    #[test]
    fn names_sort_by_time_and_tell_it() {
        let early = manifest_name(999, "z");
        let late = manifest_name(NOON_US, "a");
        assert_eq!(late, "00001769864400000000-a.json");
        assert!(early < late);
        assert_eq!(manifest_time(&late), Some(NOON_US));
        for bad in ["", "123-x.json", "0000176986440000000x-a.json", "00001769864400000000.json", "ü"] {
            assert_eq!(manifest_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn objects_are_filed_by_the_hour_of_their_readings() {
        let path = object_path(&Partition::of(NOON_US), "b", (1, 75), &sha256_hex(b"abc"));
        assert_eq!(path, "readings/date=2026-01-31/hour=13/b-1-75-ba7816bf8f01cfea.parquet");
    }

    #[test]
    fn a_manifest_is_checked_before_it_is_believed() {
        let good = Manifest {
            schema: 1,
            object: "readings/x.parquet".into(),
            rows: 1,
            bytes: 3,
            sha256: sha256_hex(b"abc"),
            min_ts: 0,
            max_ts: 0,
            written_at: 0,
        };
        let parse = |m: &Manifest| Manifest::parse("m", &serde_json::to_vec(m).unwrap());
        assert_eq!(parse(&good).unwrap(), good);
        good.verify(b"abc").unwrap();
        assert!(good.verify(b"abd").unwrap_err().to_string().contains("sha256"));
        assert!(good.verify(b"ab").unwrap_err().to_string().contains("2 bytes"));
        for bad in [
            Manifest { schema: 2, ..good.clone() },
            Manifest { object: "elsewhere/x".into(), ..good.clone() },
            Manifest { object: "readings/../secret".into(), ..good.clone() },
            Manifest { bytes: u64::MAX, ..good.clone() },
        ] {
            assert!(matches!(parse(&bad), Err(LakeError::Corrupt { .. })), "{bad:?}");
        }
        assert!(matches!(Manifest::parse("m", b"{"), Err(LakeError::Corrupt { .. })));
    }
}
