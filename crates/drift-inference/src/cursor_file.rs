//! How far the lake has been read, kept over a restart.
//!
//! Only the instant is kept. What the pipeline knows (gradients, predictions that wait for
//! their truth, windows) follows from the readings shortly before it, so a start reads those
//! again without counting them: a restart neither forgets nor counts twice.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The file.
#[derive(Clone, Debug)]
pub struct CursorFile(PathBuf);

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    latest_us: i64,
}

impl CursorFile {
    /// In `dir`, made if need be; `None` if it cannot be written.
    pub fn open(dir: &Path) -> Option<Self> {
        let probe = dir.join(".probe");
        let usable = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&probe, b""));
        match usable.and_then(|()| std::fs::remove_file(&probe)) {
            Ok(()) => Some(Self(dir.join("cursor.json"))),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "no cursor is kept: a restart looks back a fixed time");
                None
            }
        }
    }

    /// The instant kept, if there is a readable one.
    pub fn load(&self) -> Option<i64> {
        let text = std::fs::read(&self.0).ok()?;
        match serde_json::from_slice::<Document>(&text) {
            Ok(Document { version: 1, latest_us }) => Some(latest_us),
            _ => {
                tracing::error!(file = %self.0.display(), "the kept cursor is not readable and is ignored");
                None
            }
        }
    }

    /// Keeps an instant. Not synced: losing the last seconds of it costs nothing but reading again.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, latest_us: i64) -> std::io::Result<()> {
        let new = self.0.with_extension("new");
        let text = serde_json::to_vec(&Document { version: 1, latest_us }).map_err(std::io::Error::other)?;
        std::fs::write(&new, text)?;
        std::fs::rename(new, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_damage_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let file = CursorFile::open(dir.path()).unwrap();
        assert_eq!(file.load(), None);
        file.save(42).unwrap();
        assert_eq!(CursorFile::open(dir.path()).unwrap().load(), Some(42));
        std::fs::write(dir.path().join("cursor.json"), b"{").unwrap();
        assert_eq!(file.load(), None);
        assert!(CursorFile::open(Path::new("/proc/none")).is_none());
    }
}
