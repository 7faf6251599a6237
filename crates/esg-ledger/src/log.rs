//! The writer of a log.
//!
//! One batch is made durable in this order, each step as a whole before the next begins:
//! entry bundles → tiles → state → checkpoint. Until the checkpoint is in place nothing is
//! acknowledged; whatever a crash leaves is finished or cleared away at the next start.
//! The state is the writer's promise: a checkpoint is only ever signed for the tree that the
//! state names, after a consistency proof from the one signed before.

use std::{
    fs::{self, File, TryLockError},
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use crate::{
    canonical::Value,
    carbon,
    checkpoint::{Checkpoint, CheckpointError},
    dir::{LogDir, ReadError},
    disk::{self, Disk, DiskError},
    entry::{Entry, FactorSet, KeyRotation},
    history::History,
    ingest::{self, Decision, Policy},
    merkle::{self, Hash, ProofError, consistency_proof, empty_root, leaf_hash, verify_consistency},
    note::{Algorithm, Note, NoteError, Signature, SigningKey, VerifierKey},
    tile::{Entries, Kind, TileId, TileNodes, TileTree, Tiles, WIDTH, encode_entry, hashes_at, width_in},
};

/// A snapshot of the history is written after this many entries.
const SNAPSHOT_EVERY: u64 = 100_000;

/// Tiles beyond the edge that an interrupted batch can have left; a batch is never larger.
const LEFTOVER_TILES: u64 = 256;

/// Most entries in one batch.
pub const MAX_BATCH: usize = (LEFTOVER_TILES * WIDTH / 2) as usize;

/// Why the log cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file could not be written or read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Another process writes this log.
    #[error("another process writes this log: {} is locked", .0.display())]
    Locked(PathBuf),
    /// The key is not usable.
    #[error("{}: {source}", path.display())]
    Key {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        source: NoteError,
    },
    /// There is no log.
    #[error("{} is no log: run `esg-ledger init` first", .0.display())]
    NoLog(PathBuf),
    /// There is one already.
    #[error("{} holds a log already", .0.display())]
    Exists(PathBuf),
    /// The published checkpoint is not one of this log.
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// A tile or bundle that the tree needs.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The directory is not the one that was signed.
    #[error("{0}; nothing is signed, run `esg-ledger verify`")]
    Inconsistent(String),
    /// An earlier write failed; open the log again.
    #[error("an earlier write failed, the log must be opened again")]
    Broken,
}

/// Where a log and its secrets are.
#[derive(Clone)]
pub struct Place {
    /// The log itself: exactly the tlog-tiles layout.
    pub dir: PathBuf,
    /// State and lock of the writer.
    pub state: PathBuf,
    /// The signing key's file.
    pub key_file: PathBuf,
    /// The disk.
    pub disk: Disk,
}

impl Place {
    /// The log at `dir`, its state beside it in `dir.state`, the key within that.
    pub fn beside(dir: &Path) -> Self {
        let mut name = dir.file_name().map(|n| n.to_owned()).unwrap_or_default();
        name.push(".state");
        let state = dir.with_file_name(name);
        Self { dir: dir.to_owned(), key_file: state.join("signing-key"), state, disk: Disk::default() }
    }

    fn checkpoint(&self) -> PathBuf {
        self.dir.join("checkpoint")
    }

    fn tree_file(&self) -> PathBuf {
        self.state.join("tree.json")
    }

    fn history_file(&self) -> PathBuf {
        self.state.join("history.json")
    }
}

/// What became of one entry that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable, at this index.
    Appended(u64),
    /// It was there before.
    Duplicate(String),
    /// It was not accepted.
    Refused(String),
}

/// The one writer of a log.
pub struct Log {
    place: Place,
    /// The key that signs, then former ones that sign beside it.
    keys: Vec<SigningKey>,
    _lock: Lock,
    tree: TileTree,
    /// Bytes of the bundle that is still growing.
    bundle: Vec<u8>,
    history: History,
    snapshot_size: u64,
    signed: Checkpoint,
    note: Note,
    broken: bool,
}

/// Creates a log with a new key, if there is none, and the factors as its first entry.
///
/// # Errors
/// There is a log already, or it cannot be written.
pub fn init(place: &Place, origin: &str, factors: FactorSet<'_>) -> Result<VerifierKey, LogError> {
    if place.checkpoint().exists() || place.tree_file().exists() || place.dir.join("tile").exists() {
        return Err(LogError::Exists(place.dir.clone()));
    }
    for folder in [&place.dir, &place.state] {
        fs::create_dir_all(folder).map_err(|e| DiskError::new("create the folder", folder, e))?;
    }
    let key = if place.key_file.exists() { read_key(&place.key_file)? } else { new_key(&place.key_file, origin)? };
    if key.verifier().name() != origin {
        let source = NoteError::Key { what: "signing key", reason: "its name is not the log's origin" };
        return Err(LogError::Key { path: place.key_file.clone(), source });
    }
    let public = format!("{}\n", key.verifier());
    place.disk.put(&[(place.state.join("verifier-key"), public.into_bytes())])?;
    let start = Checkpoint { origin: origin.to_owned(), size: 0, root: empty_root() };
    place.disk.put(&[(place.tree_file(), state_bytes(&start))])?;
    let mut note = Note::new(start.to_text());
    note.add(key.sign(note.text(), 0));
    place.disk.put(&[(place.checkpoint(), note.to_string().into_bytes())])?;
    let verifier = key.verifier().clone();
    let mut log = Log::open(place.clone())?;
    let now = factors.set_at_us;
    log.submit(&[Entry::FactorSet(factors).to_bytes()], &Policy::default(), now)?;
    log.close()?;
    Ok(verifier)
}

/// Makes a key that only its owner can read.
///
/// # Errors
/// It cannot be written, or is there already.
pub fn new_key(path: &Path, name: &str) -> Result<SigningKey, LogError> {
    write_key(path, name, Algorithm::Ed25519)
}

/// As [`new_key`], for a log (`Ed25519`) or a witness (`CosignatureV1`).
///
/// # Errors
/// As [`new_key`].
pub fn write_key(path: &Path, name: &str, algorithm: Algorithm) -> Result<SigningKey, LogError> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let key =
        SigningKey::generate(name, algorithm).map_err(|source| LogError::Key { path: path.to_owned(), source })?;
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{}", key.to_secret())?;
        file.sync_all()
    };
    write().map_err(|e| DiskError::new("write the key", path, e))?;
    Ok(key)
}

/// Reads the signing key, the first of a file.
///
/// # Errors
/// It is not there, or not a key.
pub fn read_key(path: &Path) -> Result<SigningKey, LogError> {
    let bad = |source| LogError::Key { path: path.to_owned(), source };
    let mut keys = read_keys(path)?;
    if keys.is_empty() {
        return Err(bad(NoteError::Key { what: "signing key", reason: "the file is empty" }));
    }
    Ok(keys.swap_remove(0))
}

/// The key that signs now, and after it those that signed before and still do.
fn read_keys(path: &Path) -> Result<Vec<SigningKey>, LogError> {
    let text = fs::read_to_string(path).map_err(|e| DiskError::new("read the key", path, e))?;
    let parse = |line: &str| line.parse().map_err(|source| LogError::Key { path: path.to_owned(), source });
    text.lines().filter(|l| !l.trim().is_empty()).map(parse).collect()
}

/// Makes a new key for the log, says so in the log under the old one, and signs with both from then on.
///
/// # Errors
/// The log cannot be opened or written. Repeated after a crash it makes another key.
pub fn rotate_key(place: &Place, reason: &str, now_us: i64) -> Result<VerifierKey, LogError> {
    let mut log = Log::open(place.clone())?;
    let old = log.verifier().clone();
    let new = SigningKey::generate(old.name(), Algorithm::Ed25519)
        .map_err(|source| LogError::Key { path: place.key_file.clone(), source })?;
    let verifier = new.verifier().clone();
    let record = Entry::KeyRotation(KeyRotation {
        new_key: verifier.to_string().into(),
        old_key: old.to_string().into(),
        reason: reason.into(),
        rotated_at_us: now_us,
    });
    if let [Outcome::Refused(why)] = log.submit(&[record.to_bytes()], &Policy::default(), now_us)?.as_slice() {
        return Err(LogError::Inconsistent(why.clone()));
    }
    let secrets: Vec<String> = std::iter::once(&new).chain(&log.keys).map(SigningKey::to_secret).collect();
    place.disk.put_secret(&place.key_file, format!("{}\n", secrets.join("\n")).as_bytes())?;
    place.disk.put(&[(place.state.join("verifier-key"), format!("{verifier}\n").into_bytes())])?;
    log.close()?;
    // Opening it finds a checkpoint without the new key's line, and signs it.
    Log::open(place.clone())?.close()?;
    Ok(verifier)
}

fn state_bytes(tree: &Checkpoint) -> Vec<u8> {
    Value::Object(vec![
        ("origin".to_owned(), Value::Text(tree.origin.clone())),
        ("root".to_owned(), Value::Text(carbon::hex(&tree.root))),
        ("size".to_owned(), Value::Int(tree.size as i64)),
    ])
    .to_bytes()
}

fn parse_state(bytes: &[u8]) -> Option<Checkpoint> {
    let value = Value::parse(bytes).ok()?;
    let text = |key: &str| match value.get(key) {
        Some(Value::Text(t)) => Some(t.clone()),
        _ => None,
    };
    let size = match value.get("size") {
        Some(Value::Int(n)) => u64::try_from(*n).ok()?,
        _ => return None,
    };
    let hex = text("root")?;
    let mut root = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (i, byte) in root.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(Checkpoint { origin: text("origin")?, size, root })
}

/// The lock, released when it is dropped.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it to a child process that was started meanwhile.
        let _ = self.0.unlock();
    }
}

fn lock(state: &Path) -> Result<Lock, LogError> {
    let path = state.join("lock");
    let file = File::create(&path).map_err(|e| DiskError::new("create", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(LogError::Locked(path)),
        Err(TryLockError::Error(e)) => Err(DiskError::new("lock", &path, e).into()),
    }
}

impl Log {
    /// Opens the log for writing: takes the lock, finishes or clears what a crash left.
    ///
    /// # Errors
    /// Somebody else writes it, or it is not as it was signed.
    pub fn open(place: Place) -> Result<Self, LogError> {
        if !place.state.is_dir() {
            return Err(LogError::NoLog(place.dir));
        }
        let lock = lock(&place.state)?;
        let key = read_key(&place.key_file)?;
        let keys = read_keys(&place.key_file)?;
        let state = disk::read(&place.tree_file())?.ok_or_else(|| LogError::NoLog(place.dir.clone()))?;
        let state = parse_state(&state)
            .ok_or_else(|| LogError::Inconsistent(format!("{} is damaged", place.tree_file().display())))?;
        if state.origin != key.verifier().name() {
            let (found, expected) = (state.origin, key.verifier().name().to_owned());
            return Err(CheckpointError::Origin { found, expected }.into());
        }
        let published = match disk::read(&place.checkpoint())? {
            Some(bytes) => Some(open_by_any(&bytes, &keys)?),
            // The one moment without a checkpoint is within init.
            None if state.size == 0 => None,
            None => return Err(LogError::Inconsistent("the checkpoint is missing".to_owned())),
        };
        let mut dir = LogDir::new(&place.dir, state.size);
        let tree = resume(&mut dir)?;
        if tree.root() != state.root {
            return Err(LogError::Inconsistent(format!(
                "the tiles of {} entries do not lead to the root that the writer's state names",
                state.size
            )));
        }
        let bundle = last_bundle(&dir, &tree)?;
        clear_leftovers(&place, state.size)?;
        let (note, signed) = match published {
            Some((checkpoint, note)) => (note, checkpoint),
            None => {
                let start = Checkpoint { origin: state.origin.clone(), size: 0, root: empty_root() };
                (Note::new(start.to_text()), start)
            }
        };
        let (history, snapshot_size) = history(&place, &dir)?;
        let mut log =
            Self { place, keys, _lock: lock, tree, bundle, history, snapshot_size, signed, note, broken: false };
        let unsigned = log.keys.iter().any(|k| log.note.verify(k.verifier()).is_err());
        if log.signed != state || unsigned {
            // The crash came between state and checkpoint, or the key is new: the promise is kept now.
            log.publish(&state)?;
        }
        Ok(log)
    }

    /// Entries that are durable and signed.
    pub fn size(&self) -> u64 {
        self.signed.size
    }

    /// The checkpoint that was signed last.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.signed
    }

    /// The checkpoint as it is published, with every signature.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// What the entries so far say.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The key that its readers need.
    pub fn verifier(&self) -> &VerifierKey {
        // `open` has read one at least.
        self.keys[0].verifier()
    }

    /// Decides over each entry and makes those that are accepted durable, as one batch.
    ///
    /// # Errors
    /// Nothing was acknowledged; the log must be opened again.
    pub fn submit(&mut self, sent: &[Vec<u8>], policy: &Policy, now_us: i64) -> Result<Vec<Outcome>, LogError> {
        if self.broken {
            return Err(LogError::Broken);
        }
        let first = self.tree.size();
        let mut batch: Vec<Vec<u8>> = Vec::new();
        let mut outcomes = Vec::with_capacity(sent.len());
        let dir = LogDir::new(&self.place.dir, first);
        for bytes in sent {
            let mut earlier = |index: u64| match index.checked_sub(first) {
                Some(i) => batch.get(i as usize).cloned(),
                None => dir.entry(index).ok(),
            };
            outcomes.push(match ingest::decide(&mut self.history, policy, now_us, bytes, &mut earlier) {
                Decision::Append(entries) => {
                    batch.extend(entries);
                    Outcome::Appended(first + batch.len() as u64 - 1)
                }
                Decision::Duplicate(reason) => Outcome::Duplicate(reason),
                Decision::Refuse(reason) => Outcome::Refused(reason),
            });
        }
        self.commit(&batch)?;
        Ok(outcomes)
    }

    /// Makes entries durable that `self.history` has admitted.
    fn commit(&mut self, batch: &[Vec<u8>]) -> Result<Range<u64>, LogError> {
        let first = self.tree.size();
        if batch.is_empty() {
            return Ok(first..first);
        }
        // Until the end everything may be half done.
        self.broken = true;
        for part in batch.chunks(MAX_BATCH) {
            self.commit_part(part)?;
        }
        if self.tree.size() - self.snapshot_size >= SNAPSHOT_EVERY {
            self.snapshot()?;
        }
        self.broken = false;
        Ok(first..self.tree.size())
    }

    fn commit_part(&mut self, batch: &[Vec<u8>]) -> Result<(), LogError> {
        let old_edges: Vec<(u8, u64)> = self.tree.edges().map(|(l, i, _)| (l, i)).collect();
        let (mut bundles, mut tiles) = (Vec::new(), Vec::new());
        let path = |id: TileId| self.place.dir.join(id.to_string());
        for entry in batch {
            encode_entry(&mut self.bundle, entry);
            self.tree.push(leaf_hash(entry), |level, index, hashes| {
                tiles.push((path(TileId::hashes(level, index, WIDTH as u16)), hashes.concat()));
            });
            if self.tree.size().is_multiple_of(WIDTH) {
                let id = TileId::entries(self.tree.size() / WIDTH - 1, WIDTH as u16);
                bundles.push((path(id), std::mem::take(&mut self.bundle)));
            }
        }
        let size = self.tree.size();
        if !self.bundle.is_empty() {
            bundles.push((path(TileId::entries(size / WIDTH, (size % WIDTH) as u16)), self.bundle.clone()));
        }
        for (level, index, hashes) in self.tree.edges() {
            tiles.push((path(TileId::hashes(level, index, hashes.len() as u16)), hashes.concat()));
        }
        let next = Checkpoint { origin: self.signed.origin.clone(), size, root: self.tree.root() };
        self.place.disk.put(&bundles)?;
        self.place.disk.put(&tiles)?;
        self.place.disk.put(&[(self.place.tree_file(), state_bytes(&next))])?;
        self.publish(&next)?;
        self.drop_partials(&old_edges, size)
    }

    /// Signs the next checkpoint if, by the tiles on the disk, the one before it is a prefix of it.
    fn publish(&mut self, next: &Checkpoint) -> Result<(), LogError> {
        let mut dir = LogDir::new(&self.place.dir, next.size);
        let mut nodes = TileNodes::new(&mut dir, next.size);
        if next.size < self.signed.size {
            return Err(LogError::Inconsistent(format!(
                "the writer's state has {} entries, but {} are signed",
                next.size, self.signed.size
            )));
        }
        let found = merkle::root(&mut nodes, next.size)?;
        let proof = consistency_proof(&mut nodes, self.signed.size, next.size)?;
        let consistent: Result<(), ProofError> =
            verify_consistency(self.signed.size, &self.signed.root, next.size, &found, &proof);
        if found != next.root || consistent.is_err() {
            return Err(LogError::Inconsistent(format!(
                "the tree of {} entries does not continue the signed one of {}",
                next.size, self.signed.size
            )));
        }
        let mut note = Note::new(next.to_text());
        self.keys.iter().for_each(|key| note.add(key.sign(note.text(), 0)));
        self.place.disk.put(&[(self.place.checkpoint(), note.to_string().into_bytes())])?;
        self.signed = next.clone();
        self.note = note;
        Ok(())
    }

    /// Adds a witness's cosignature to the published checkpoint, if it is still of this text.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn cosigned(&mut self, text: &str, signature: Signature) -> Result<bool, LogError> {
        if self.broken {
            return Err(LogError::Broken);
        }
        if self.note.text() != text {
            return Ok(false);
        }
        let mut note = self.note.clone();
        note.add(signature);
        self.place.disk.put(&[(self.place.checkpoint(), note.to_string().into_bytes())])?;
        self.note = note;
        Ok(true)
    }

    /// Removes partial tiles whose full tile is there now, as the specification allows.
    fn drop_partials(&self, old_edges: &[(u8, u64)], size: u64) -> Result<(), LogError> {
        for (level, index) in old_edges {
            if hashes_at(size, *level) < (index + 1) * WIDTH {
                continue;
            }
            let folder = |id: TileId| {
                let path = self.place.dir.join(id.full().to_string());
                let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                path.with_file_name(format!("{name}.p"))
            };
            self.place.disk.remove(&folder(TileId::hashes(*level, *index, WIDTH as u16)))?;
            if *level == 0 {
                self.place.disk.remove(&folder(TileId::entries(*index, WIDTH as u16)))?;
            }
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<(), LogError> {
        self.place.disk.put(&[(self.place.history_file(), self.history.to_snapshot())])?;
        self.snapshot_size = self.tree.size();
        Ok(())
    }

    /// Writes down what the next start would otherwise have to read again.
    ///
    /// # Errors
    /// It cannot be written; the log is whole all the same.
    pub fn close(mut self) -> Result<(), LogError> {
        if self.broken { Ok(()) } else { self.snapshot() }
    }
}

/// The checkpoint, if one of the keys has signed it.
fn open_by_any(bytes: &[u8], keys: &[SigningKey]) -> Result<(Checkpoint, Note), CheckpointError> {
    let mut found = keys.iter().map(|key| Checkpoint::open(bytes, key.verifier()));
    let first = found.next().unwrap_or(Err(CheckpointError::Malformed("there is no key")));
    first.or_else(|e| found.find_map(Result::ok).ok_or(e))
}

/// The tree at the directory's right edge.
fn resume(dir: &mut LogDir) -> Result<TileTree, LogError> {
    let size = dir.size();
    let mut edges = Vec::new();
    let mut level = 0;
    while hashes_at(size, level) > 0 {
        let index = hashes_at(size, level) / WIDTH;
        let width = width_in(size, Kind::Hashes(level), index);
        edges.push(if width == 0 { Vec::new() } else { dir.tile(level, index, width)? });
        level += 1;
    }
    Ok(TileTree::resume(size, &edges))
}

/// The bytes of the growing bundle, checked against the tile above it.
fn last_bundle(dir: &LogDir, tree: &TileTree) -> Result<Vec<u8>, LogError> {
    let (size, width) = (dir.size(), (dir.size() % WIDTH) as usize);
    if width == 0 {
        return Ok(Vec::new());
    }
    let (id, bytes) = dir.read(Kind::Entries, size / WIDTH)?;
    let expected: Vec<Hash> = tree.edges().find(|(l, ..)| *l == 0).map(|(.., h)| h.to_vec()).unwrap_or_default();
    let mut out = Vec::new();
    let mut entries = Entries::new(&bytes);
    for (i, hash) in expected.iter().enumerate() {
        let entry = entries.next().and_then(Result::ok);
        let entry = entry.filter(|e| leaf_hash(e) == *hash).ok_or_else(|| {
            LogError::Inconsistent(format!("{id}: entry {} is not the one in the tree", size - width as u64 + i as u64))
        })?;
        encode_entry(&mut out, entry);
    }
    Ok(out)
}

/// Removes what an interrupted batch wrote beyond the tree of `size`, and unfinished writes.
fn clear_leftovers(place: &Place, size: u64) -> Result<(), LogError> {
    let mut kinds = vec![Kind::Entries];
    kinds.extend((0..=8).map(Kind::Hashes));
    for kind in kinds {
        let total = match kind {
            Kind::Entries => size,
            Kind::Hashes(level) => hashes_at(size, level),
        };
        let edge = total / WIDTH;
        let reach = match kind {
            Kind::Entries => LEFTOVER_TILES,
            Kind::Hashes(level) => hashes_at(LEFTOVER_TILES, level),
        };
        let mut folders = std::collections::BTreeSet::new();
        for index in edge..=edge + reach + 1 {
            let full = TileId { kind, index, width: WIDTH as u16 };
            let path = place.dir.join(full.to_string());
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let partials = path.with_file_name(format!("{name}.p"));
            folders.extend(path.parent().map(Path::to_owned));
            if path.exists() {
                place.disk.remove(&path)?;
            }
            for (file, partial) in names(&partials)? {
                let width: Option<u64> = partial.parse().ok();
                if width.is_none_or(|w| index * WIDTH + w > total) {
                    place.disk.remove(&file)?;
                }
            }
        }
        for folder in folders {
            for (file, name) in names(&folder)? {
                if disk::is_temporary(&name) {
                    place.disk.remove(&file)?;
                }
            }
        }
    }
    for folder in [&place.dir, &place.state] {
        for (file, name) in names(folder)? {
            if disk::is_temporary(&name) {
                place.disk.remove(&file)?;
            }
        }
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<(PathBuf, String)>, LogError> {
    let list = match fs::read_dir(folder) {
        Ok(list) => list,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(DiskError::new("list", folder, e).into()),
    };
    let mut out = Vec::new();
    for item in list {
        let item = item.map_err(|e| DiskError::new("list", folder, e))?;
        out.push((item.path(), item.file_name().to_string_lossy().into_owned()));
    }
    Ok(out)
}

/// The history from the latest snapshot on; from the first entry if there is none.
fn history(place: &Place, dir: &LogDir) -> Result<(History, u64), LogError> {
    let snapshot = disk::read(&place.history_file())?.and_then(|b| History::from_snapshot(&b));
    let mut history = snapshot.filter(|h| h.size() <= dir.size()).unwrap_or_default();
    let start = history.size();
    let mut earlier = |index: u64| dir.entry(index).ok();
    for bundle in start / WIDTH..dir.size().div_ceil(WIDTH) {
        let (id, bytes) = dir.read(Kind::Entries, bundle)?;
        let width = usize::from(width_in(dir.size(), Kind::Entries, bundle));
        let skip = start.saturating_sub(bundle * WIDTH) as usize;
        for (i, bytes) in Entries::new(&bytes).enumerate().take(width).skip(skip) {
            let index = bundle * WIDTH + i as u64;
            let bad = |e: String| LogError::Inconsistent(format!("{id}: entry {index}: {e}"));
            let bytes = bytes.map_err(|_| bad("it is cut".to_owned()))?;
            let entry = Entry::parse(bytes).map_err(|e| bad(e.to_string()))?;
            history.admit(&entry, &mut earlier).map_err(|e| bad(e.to_string()))?;
        }
    }
    if history.size() != dir.size() {
        return Err(LogError::Inconsistent("the bundles hold fewer entries than the tree".to_owned()));
    }
    Ok((history, start))
}
