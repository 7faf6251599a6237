//! What is kept over a restart beside the lake, a small document each.
//!
//! How far the lake has been read: only the instant is kept. What the pipeline knows (gradients, predictions that
//! wait for their truth, windows) follows from the readings shortly before it, so a start reads those again without
//! counting them: a restart neither forgets nor counts twice. And what features tell of each other
//! ([`crate::unexplained`]), which takes a day to learn.

use std::{
    marker::PhantomData,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A file that holds one document.
#[derive(Debug)]
pub struct StateFile<T> {
    path: PathBuf,
    document: PhantomData<fn(T) -> T>,
}

/// How far the lake has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadUntil {
    /// Time of the newest manifest dealt with, µs since 1970.
    pub latest_us: i64,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    content: T,
}

/// Whether documents can be kept in this folder; it is made if need be.
pub fn usable(dir: &Path) -> bool {
    let probe = dir.join(".probe");
    let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&probe, b""));
    match written.and_then(|()| std::fs::remove_file(&probe)) {
        Ok(()) => true,
        Err(error) => {
            let dir = dir.display();
            tracing::warn!(%dir, %error, "nothing is kept over a restart: it looks back a fixed time, and learns anew");
            false
        }
    }
}

impl<T: Serialize + DeserializeOwned> StateFile<T> {
    /// The document of this name in a folder that is [`usable`].
    pub fn new(dir: &Path, name: &str) -> Self {
        Self { path: dir.join(name).with_extension("json"), document: PhantomData }
    }

    /// What is kept, if it is readable.
    pub fn load(&self) -> Option<T> {
        let text = std::fs::read(&self.path).ok()?;
        match serde_json::from_slice::<Versioned<T>>(&text) {
            Ok(Versioned { version: 1, content }) => Some(content),
            _ => {
                tracing::error!(file = %self.path.display(), "what was kept is not readable and is ignored");
                None
            }
        }
    }

    /// Keeps it. Not synced: losing the last seconds of it costs nothing but reading again.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, content: &T) -> std::io::Result<()> {
        let new = self.path.with_extension("new");
        let text = serde_json::to_vec(&Versioned { version: 1, content }).map_err(std::io::Error::other)?;
        std::fs::write(&new, text)?;
        std::fs::rename(new, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_damage_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        assert!(usable(dir.path()));
        let file = StateFile::new(dir.path(), "cursor");
        assert_eq!(file.load(), None);
        file.save(&ReadUntil { latest_us: 42 }).unwrap();
        assert_eq!(file.load(), Some(ReadUntil { latest_us: 42 }));
        let text = std::fs::read_to_string(dir.path().join("cursor.json")).unwrap();
        assert_eq!(text, r#"{"version":1,"latest_us":42}"#);
        std::fs::write(dir.path().join("cursor.json"), b"{").unwrap();
        assert_eq!(file.load(), None);
        assert!(!usable(Path::new("/proc/none")));
    }
}
