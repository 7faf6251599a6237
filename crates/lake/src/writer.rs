//! Writing readings: data object first, manifest second.

use bytes::Bytes;

use crate::{
    Lake, LakeError, Reading, Result, codec,
    manifest::{MANIFESTS, Manifest, Partition, manifest_name, object_path, sha256_hex},
};

/// Readings ready to be written, or written again: the same batch makes the same object.
#[derive(Clone, Debug)]
pub struct Batch {
    manifest: Manifest,
    boot_id: String,
    bytes: Bytes,
}

impl Batch {
    /// How many of the readings, from the first, may share one object: same boot, same hour.
    pub fn extent(readings: &[Reading]) -> usize {
        let Some(first) = readings.first() else { return 0 };
        let partition = Partition::of(first.ts_us);
        // Comparing hours as numbers; the calendar is asked once.
        let hour = first.ts_us.div_euclid(3_600_000_000);
        debug_assert_eq!(partition, Partition::of(hour * 3_600_000_000));
        readings.iter().take_while(|r| r.boot_id == first.boot_id && r.ts_us.div_euclid(3_600_000_000) == hour).count()
    }

    /// Encodes readings of one [`Batch::extent`].
    ///
    /// # Errors
    /// [`LakeError::Encode`] for readings that do not belong together, or none.
    pub fn new(readings: &[Reading]) -> Result<Self> {
        let (Some(first), true) = (readings.first(), Self::extent(readings) == readings.len()) else {
            return Err(LakeError::Encode("a batch holds readings of one boot and one hour".to_owned()));
        };
        let (mut min_seq, mut max_seq) = (first.seq, first.seq);
        let (mut min_ts, mut max_ts) = (first.ts_us, first.ts_us);
        for r in readings {
            min_seq = min_seq.min(r.seq);
            max_seq = max_seq.max(r.seq);
            min_ts = min_ts.min(r.ts_us);
            max_ts = max_ts.max(r.ts_us);
        }
        let bytes = codec::encode(readings)?;
        let sha256 = sha256_hex(&bytes);
        let manifest = Manifest {
            schema: codec::SCHEMA_VERSION,
            object: object_path(&Partition::of(min_ts), &first.boot_id, (min_seq, max_seq), &sha256),
            rows: readings.len() as u64,
            bytes: bytes.len() as u64,
            sha256,
            min_ts,
            max_ts,
            written_at: 0,
        };
        Ok(Self { manifest, boot_id: first.boot_id.to_string(), bytes })
    }

    /// Readings in the batch.
    pub fn rows(&self) -> usize {
        self.manifest.rows as usize
    }

    /// Path of its data object.
    pub fn object(&self) -> &str {
        &self.manifest.object
    }
}

impl Lake {
    /// Writes a batch; on success every reader sees it, on failure none does.
    ///
    /// Safe to repeat after any failure: the object is replaced by itself. If the
    /// answer to the first manifest was lost, a second manifest names the same
    /// object, and readers drop the repeated readings by sequence number.
    ///
    /// # Errors
    /// [`LakeError::Unavailable`] to be tried again, [`LakeError::Refused`] if the store will not have it.
    pub async fn write(&self, batch: &Batch, now_us: i64) -> Result<Manifest> {
        let written_at = self.unused_instant(now_us);
        let manifest = Manifest { written_at, ..batch.manifest.clone() };
        self.put(&manifest.object, batch.bytes.clone()).await?;
        let name = manifest_name(written_at, &batch.boot_id);
        let document = serde_json::to_vec(&manifest).map_err(|e| LakeError::Encode(e.to_string()))?;
        self.put(&format!("{MANIFESTS}/{name}"), document.into()).await?;
        Ok(manifest)
    }
}
