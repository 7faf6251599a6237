//! What outlives the process: each machine's meter, in one small file.
//!
//! `esg_energy_kwh_total` is an energy meter, and a meter does not start again at zero
//! because its gateway was restarted. What was counted after the last save is lost with a
//! killed process; that stretch is reported as a gap. Readings that the lake has not taken
//! yet are kept beside it at an orderly stop.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use lake::{Reading, codec};
use serde::{Deserialize, Serialize};

use crate::fleet::Kept;

/// The folder, if there is one that can be written.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    machines: Vec<Kept>,
}

impl StateDir {
    /// Uses `dir`, making it if need be. Without it the service runs and counts from zero.
    pub fn open(dir: &Path) -> Option<Self> {
        let probe = dir.join(".probe");
        let usable = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&probe, b""));
        match usable.and_then(|()| std::fs::remove_file(&probe)) {
            Ok(()) => Some(Self(dir.to_owned())),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "no state is kept: meters will start at zero");
                None
            }
        }
    }

    /// A folder in it.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The meters of the last run; a damaged file is set aside, not fatal.
    pub fn load(&self) -> Vec<Kept> {
        let path = self.0.join("machines.json");
        let Ok(text) = std::fs::read(&path) else { return Vec::new() };
        match serde_json::from_slice::<Document>(&text) {
            Ok(Document { version: 1, machines }) => machines,
            Ok(Document { version, .. }) => {
                tracing::error!(version, "the state file has an unknown version and is ignored");
                Vec::new()
            }
            Err(error) => {
                let aside = path.with_extension("damaged");
                tracing::error!(%error, aside = %aside.display(), "the state file is damaged: meters start at zero");
                let _ = std::fs::rename(&path, aside);
                Vec::new()
            }
        }
    }

    /// Replaces the file whole.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, machines: Vec<Kept>) -> std::io::Result<()> {
        let text = serde_json::to_vec(&Document { version: 1, machines }).map_err(std::io::Error::other)?;
        self.replace("machines.json", &text)
    }

    /// Readings that the last run could not hand over. They are taken out of the folder.
    pub fn take_unwritten(&self) -> Vec<Reading> {
        let path = self.0.join("unwritten.parquet");
        let Ok(bytes) = std::fs::read(&path) else { return Vec::new() };
        let _ = std::fs::remove_file(&path);
        match codec::decode(Bytes::from(bytes)) {
            Ok(rows) => rows.into_iter().flatten().collect(),
            Err(reason) => {
                tracing::error!(reason, "readings kept from the last run are damaged and lost");
                Vec::new()
            }
        }
    }

    /// Keeps readings that could not be handed over.
    ///
    /// # Errors
    /// The disk's.
    pub fn keep_unwritten(&self, readings: &[Reading]) -> std::io::Result<()> {
        let bytes = codec::encode(readings).map_err(std::io::Error::other)?;
        self.replace("unwritten.parquet", &bytes)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let path = self.0.join(name);
        let new = path.with_extension("new");
        let mut file = std::fs::File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(new, path)?;
        std::fs::File::open(&self.0)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Fleet;

    #[test]
    fn meters_and_readings_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("new")).unwrap();
        assert!(state.load().is_empty() && state.take_unwritten().is_empty());
        let mut fleet = Fleet::new(2, 1, "b", 1_000_000, 0);
        let readings = fleet.tick(1_000_000).readings;
        state.save(fleet.keep()).unwrap();
        state.keep_unwritten(&readings).unwrap();
        assert_eq!(state.load(), fleet.keep());
        assert_eq!(state.take_unwritten(), readings);
        assert!(state.take_unwritten().is_empty(), "once");
    }

    #[test]
    fn damage_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        std::fs::write(dir.path().join("machines.json"), b"{ half").unwrap();
        assert!(state.load().is_empty());
        assert!(dir.path().join("machines.damaged").exists());
        std::fs::write(dir.path().join("unwritten.parquet"), b"junk").unwrap();
        assert!(state.take_unwritten().is_empty());
        assert!(StateDir::open(Path::new("/proc/none")).is_none());
    }
}
