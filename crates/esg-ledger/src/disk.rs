//! Files that are there as a whole or not at all, and that stay after a power failure.
//!
//! Each file is written under a temporary name beside its place, synced, renamed, and its
//! folder synced. Tests may let any of these steps fail.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// How many files are written at a time: a sync waits for the disk, not for the processor.
const PARALLEL: usize = 8;

/// One step that can fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Bytes go into a temporary file.
    Write(PathBuf),
    /// The temporary file is synced.
    SyncFile(PathBuf),
    /// It takes its place (from, to).
    Rename(PathBuf, PathBuf),
    /// A folder's names are synced.
    SyncDir(PathBuf),
    /// Something superseded is removed.
    Remove(PathBuf),
}

/// What becomes of a step.
pub enum Verdict {
    /// It is done.
    Go,
    /// It is not done.
    Fail(io::Error),
    /// Only so many bytes of a [`Step::Write`] are written before it fails.
    Torn(usize, io::Error),
}

/// Decides over each step before it is done.
pub trait Faults: Send + Sync {
    /// The decision.
    fn before(&self, step: &Step) -> Verdict;
}

/// What a step wanted to do when it failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {source}", path.display())]
pub struct DiskError {
    what: &'static str,
    path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl DiskError {
    /// An error over a path.
    pub fn new(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self { what, path: path.to_owned(), source }
    }
}

/// The disk.
#[derive(Clone, Default)]
pub struct Disk {
    faults: Option<Arc<dyn Faults>>,
}

impl Disk {
    /// A disk that fails where `faults` says so.
    pub fn failing(faults: Arc<dyn Faults>) -> Self {
        Self { faults: Some(faults) }
    }

    fn ask(&self, step: impl FnOnce() -> Step) -> Result<(), io::Error> {
        match self.faults.as_ref().map(|f| f.before(&step())) {
            None | Some(Verdict::Go) => Ok(()),
            Some(Verdict::Fail(e) | Verdict::Torn(_, e)) => Err(e),
        }
    }

    /// Puts all files in their places, durably; when it returns, they survive a power failure.
    ///
    /// # Errors
    /// Which file could not be written. Some of the others may be in place.
    pub fn put(&self, files: &[(PathBuf, Vec<u8>)]) -> Result<(), DiskError> {
        let mut folders = BTreeSet::new();
        for (path, _) in files {
            if let Some(parent) = path.parent() {
                self.make_folder(parent, &mut folders)?;
                folders.insert(parent.to_owned());
            }
        }
        if self.faults.is_some() || files.len() <= 2 {
            files.iter().try_for_each(|(path, bytes)| self.write(path, bytes))?;
        } else {
            let share = files.len().div_ceil(PARALLEL);
            std::thread::scope(|scope| {
                let workers: Vec<_> = files
                    .chunks(share)
                    .map(|part| scope.spawn(|| part.iter().try_for_each(|(path, bytes)| self.write(path, bytes))))
                    .collect();
                let died = || DiskError::new("write", Path::new("a file"), io::Error::other("the writer died"));
                workers.into_iter().try_for_each(|w| w.join().unwrap_or_else(|_| Err(died())))
            })?;
        }
        for (path, _) in files {
            let from = temporary(path);
            self.ask(|| Step::Rename(from.clone(), path.clone()))
                .and_then(|()| fs::rename(&from, path))
                .map_err(|e| DiskError::new("rename to", path, e))?;
        }
        // Deepest first: a name is durable before the folder above is.
        folders.iter().rev().try_for_each(|folder| self.sync_folder(folder))
    }

    /// As [`Disk::put`], for a file that only its owner may read.
    ///
    /// # Errors
    /// It could not be written.
    pub fn put_secret(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        use std::os::unix::fs::OpenOptionsExt;
        // The name has to have its mode before it has its content.
        let temporary = temporary(path);
        let make = || {
            self.remove(&temporary).map_err(|e| e.source)?;
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)
        };
        make().map_err(|e| DiskError::new("write", path, e))?;
        self.put(&[(path.to_owned(), bytes.to_vec())])
    }

    fn make_folder(&self, folder: &Path, created: &mut BTreeSet<PathBuf>) -> Result<(), DiskError> {
        let mut missing = Vec::new();
        let mut at = folder;
        while !at.as_os_str().is_empty() && !at.exists() {
            missing.push(at.to_owned());
            at = at.parent().unwrap_or(Path::new(""));
        }
        for path in missing.into_iter().rev() {
            match fs::create_dir(&path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(DiskError::new("create the folder", &path, e));
                }
                _ => {}
            }
            // The new folder's own name must be durable too.
            if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                created.insert(parent.to_owned());
            }
            created.insert(path);
        }
        Ok(())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let temporary = temporary(path);
        let fail = |e| DiskError::new("write", path, e);
        let mut file = File::create(&temporary).map_err(fail)?;
        match self.faults.as_ref().map(|f| f.before(&Step::Write(temporary.clone()))) {
            None | Some(Verdict::Go) => file.write_all(bytes).map_err(fail)?,
            Some(Verdict::Fail(e)) => return Err(fail(e)),
            Some(Verdict::Torn(n, e)) => {
                file.write_all(&bytes[..n.min(bytes.len())]).map_err(fail)?;
                return Err(fail(e));
            }
        }
        self.ask(|| Step::SyncFile(temporary.clone())).and_then(|()| file.sync_all()).map_err(fail)
    }

    fn sync_folder(&self, folder: &Path) -> Result<(), DiskError> {
        self.ask(|| Step::SyncDir(folder.to_owned()))
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(|e| DiskError::new("sync the folder", folder, e))
    }

    /// Removes a file or a folder with its content, if it is there. Not durable: what comes back is removed again.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let remove = || match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        };
        self.ask(|| Step::Remove(path.to_owned()))
            .and_then(|()| remove())
            .map_err(|e| DiskError::new("remove", path, e))
    }
}

/// The name beside `path` that a file has until it is complete.
pub fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Whether a file name is one of an unfinished write.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

/// Reads a file; `None` if it is not there.
///
/// # Errors
/// It is there and cannot be read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(DiskError::new("read", path, e)),
    }
}
