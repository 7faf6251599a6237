//! The auditor's side: everything recomputed from a directory and a key.
//!
//! One pass over the entry bundles, from the first entry to the last. Each leaf's hash is
//! computed and compared with the tiles at every level, so memory does not grow with the log.
//! Where two files disagree, `blame` finds by the signed root which of them was altered.

mod blame;
mod files;
mod kinds;

use std::path::{Path, PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;

pub use kinds::{Finding, Kind};

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    dir::{LogDir, ReadError},
    disk,
    entry::{Entry, EntryError},
    history::History,
    merkle::{Hash, empty_root, leaf_hash},
    note::VerifierKey,
    tile::{self, Entries, TileId, TileTree, WIDTH, hashes_at, width_in},
};

/// Failures of what entries say that are told; more are only counted.
const MOST_FINDINGS: usize = 100;

/// What to check against.
#[derive(Clone, Debug)]
pub struct Options {
    /// The log's key.
    pub key: VerifierKey,
    /// A checkpoint that was trusted before: this directory must continue it.
    pub last: Option<PathBuf>,
    /// Witnesses that must have cosigned.
    pub witnesses: Vec<VerifierKey>,
}

/// A witness's cosignature that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cosignature {
    /// Who.
    pub name: String,
    /// When, Unix seconds.
    pub time: u64,
}

/// Something to know that is no failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// What it is about.
    pub kind: &'static str,
    /// How many files.
    pub count: u64,
    /// One line for people.
    pub message: String,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Everything holds.
    pub ok: bool,
    /// Exit code of the first failure; 0 if there is none.
    pub exit_code: u8,
    /// The log.
    pub origin: String,
    /// Entries that the checkpoint signs.
    pub size: u64,
    /// Root hash that the checkpoint signs, base64.
    pub root: String,
    /// Size of the trusted checkpoint that this directory was found to continue.
    pub continues: Option<u64>,
    /// Cosignatures that hold.
    pub cosignatures: Vec<Cosignature>,
    /// Entries read.
    pub entries: u64,
    /// Tiles of hashes compared.
    pub tiles: u64,
    /// Bytes of entries.
    pub bytes: u64,
    /// Machines that sent readings.
    pub machines: u64,
    /// Gaps that records tell of.
    pub declared_gaps: u64,
    /// Their length, seconds, open ones up to the log's latest time.
    pub gap_seconds: u64,
    /// Time covered by readings, of all time covered or in gaps.
    pub coverage_ratio: f64,
    /// What is wrong; damage to the evidence first.
    pub failures: Vec<Finding>,
    /// Failures beyond those that are listed.
    pub more_failures: u64,
    /// What is worth knowing.
    pub warnings: Vec<Warning>,
}

impl Report {
    fn fail(&mut self, finding: Finding) {
        if self.failures.len() < MOST_FINDINGS {
            self.failures.push(finding);
        } else {
            self.more_failures += 1;
        }
    }

    fn finish(mut self) -> Self {
        self.failures.sort_by_key(|f| !f.kind.is_integrity());
        self.exit_code = self.failures.first().map_or(0, |f| f.code);
        self.ok = self.failures.is_empty();
        self
    }
}

/// Checks a directory.
pub fn verify(root: &Path, options: &Options) -> Report {
    let mut report = Report::default();
    if let Err(finding) = run(root, options, &mut report) {
        report.fail(finding);
    }
    report.finish()
}

fn run(root: &Path, options: &Options, report: &mut Report) -> Result<(), Finding> {
    let checkpoint = open_checkpoint(root, options, report)?;
    let last = options.last.as_deref().map(|path| open_last(path, &options.key, &checkpoint)).transpose()?;
    let mut pass = Pass {
        dir: LogDir::new(root, checkpoint.size),
        checkpoint: &checkpoint,
        last: last.as_ref(),
        last_root: last.as_ref().filter(|l| l.size == 0).map(|_| empty_root()),
        tree: TileTree::default(),
        history: History::default(),
        suspect: None,
        report,
    };
    pass.bundles()?;
    pass.conclude()?;
    let unexpected = files::check(root, &pass.dir, pass.report)?;
    unexpected.into_iter().for_each(|f| pass.report.fail(f));
    Ok(())
}

fn io(error: &dyn std::error::Error, file: impl ToString) -> Finding {
    Finding::file(Kind::Io, file, error.to_string())
}

fn unreadable(error: &ReadError) -> Finding {
    match error {
        ReadError::Missing(id) => Finding::at(Kind::Missing, *id, id.first_entry(), format!("{id} is missing")),
        ReadError::Short(id) => Finding::at(Kind::Truncated, *id, id.first_entry(), error.to_string()),
        ReadError::Disk(e) => io(e, "."),
    }
}

fn open_checkpoint(root: &Path, options: &Options, report: &mut Report) -> Result<Checkpoint, Finding> {
    let bytes = disk::read(&root.join("checkpoint")).map_err(|e| io(&e, "checkpoint"))?;
    let bytes = bytes.ok_or_else(|| {
        Finding::file(Kind::Missing, "checkpoint", "there is no checkpoint: is this a log's directory, whole?")
    })?;
    let (checkpoint, note) = Checkpoint::open(&bytes, &options.key).map_err(|e| refused(&e, "checkpoint"))?;
    report.origin.clone_from(&checkpoint.origin);
    report.size = checkpoint.size;
    report.root = BASE64_STANDARD.encode(checkpoint.root);
    for witness in &options.witnesses {
        let time = note.verify(witness).map_err(|e| Finding::file(Kind::Witness, "checkpoint", e.to_string()))?;
        report.cosignatures.push(Cosignature { name: witness.name().to_owned(), time: time.unwrap_or_default() });
    }
    Ok(checkpoint)
}

fn refused(error: &CheckpointError, file: &str) -> Finding {
    let kind = match error {
        CheckpointError::Note(crate::note::NoteError::Unsigned(_) | crate::note::NoteError::Invalid(_)) => {
            Kind::Signature
        }
        CheckpointError::Origin { .. } => Kind::OtherLog,
        CheckpointError::Note(_) | CheckpointError::Malformed(_) => Kind::CheckpointMalformed,
    };
    Finding::file(kind, file, error.to_string())
}

fn open_last(path: &Path, key: &VerifierKey, now: &Checkpoint) -> Result<Checkpoint, Finding> {
    let name = path.display().to_string();
    let bytes = disk::read(path).map_err(|e| io(&e, &name))?;
    let bytes = bytes.ok_or_else(|| Finding::file(Kind::Io, &name, "the trusted checkpoint is not there"))?;
    let (last, _) = Checkpoint::open(&bytes, key).map_err(|e| refused(&e, &name))?;
    if last.size > now.size {
        let message =
            format!("the log ends at {} entries, but {} were signed before: it was rolled back", now.size, last.size);
        return Err(Finding::file(Kind::RolledBack, "checkpoint", message));
    }
    Ok(last)
}

/// One pass over the bundles.
struct Pass<'a> {
    dir: LogDir,
    checkpoint: &'a Checkpoint,
    last: Option<&'a Checkpoint>,
    /// Root of the tree when it had the trusted checkpoint's size.
    last_root: Option<Hash>,
    tree: TileTree,
    history: History,
    /// The first tile that disagrees with the entries, while it is open which of them is right.
    suspect: Option<(TileId, u64)>,
    report: &'a mut Report,
}

impl Pass<'_> {
    fn bundles(&mut self) -> Result<(), Finding> {
        let size = self.checkpoint.size;
        for n in 0..size.div_ceil(WIDTH) {
            self.bundle(n)?;
        }
        let edges: Vec<_> = self.tree.edges().map(|(l, i, h)| (l, i, h.to_vec())).collect();
        for (level, index, hashes) in edges.into_iter().filter(|(l, ..)| *l > 0) {
            self.compare(level, index, &hashes)?;
        }
        Ok(())
    }

    /// One bundle and the tile of leaf hashes over it.
    fn bundle(&mut self, n: u64) -> Result<(), Finding> {
        let size = self.checkpoint.size;
        let width = usize::from(width_in(size, tile::Kind::Entries, n));
        let (id, bytes) = self.dir.read(tile::Kind::Entries, n).map_err(|e| unreadable(&e))?;
        let first = n * WIDTH;
        let (mut leaves, mut entries) = (Vec::with_capacity(width), Vec::with_capacity(width));
        let mut reader = Entries::new(&bytes);
        for entry in reader.by_ref().take(width).map_while(Result::ok) {
            leaves.push(leaf_hash(entry));
            entries.push(entry);
        }
        let surplus = reader.rest() > 0 && usize::from(id.width) == width;
        if leaves.len() < width || surplus {
            // A length that was changed shifts all that follows: the tile tells where it began.
            let expected = blame::tile(&self.dir, 0, n).map(|(_, h)| h).unwrap_or_default();
            let good = leaves.iter().zip(&expected).take_while(|(a, b)| a == b).count().min(width - 1);
            let what = if surplus { "more" } else { "fewer" };
            let message = format!(
                "{id} does not divide into its {width} entries (it holds {what}); entry {} is the first bad one",
                first + good as u64
            );
            return Err(Finding::at(Kind::Truncated, id, first + good as u64, message));
        }
        self.compare(0, n, &leaves)?;
        if self.suspect.is_none() {
            self.entries(id, first, &entries);
        }
        let mut done = Vec::new();
        for leaf in leaves {
            self.tree.push(leaf, |level, index, hashes| {
                if level > 0 {
                    done.push((level, index, hashes.to_vec()));
                }
            });
            if self.last.is_some_and(|l| l.size == self.tree.size()) {
                self.last_root = Some(self.tree.root());
            }
        }
        self.report.entries += width as u64;
        self.report.bytes += bytes.len() as u64;
        done.into_iter().try_for_each(|(level, index, hashes)| self.compare(level, index, &hashes))
    }

    /// Compares computed hashes with the tile's file.
    fn compare(&mut self, level: u8, index: u64, computed: &[Hash]) -> Result<(), Finding> {
        let (id, found) = blame::tile(&self.dir, level, index)?;
        self.report.tiles += 1;
        if found == computed || self.suspect.is_some() {
            return Ok(());
        }
        let at = found.iter().zip(computed).take_while(|(a, b)| a == b).count() as u64;
        let entry = (index * WIDTH + at).saturating_mul(WIDTH.saturating_pow(level.into()));
        if !blame::is_authentic(&mut self.dir, self.checkpoint, level, index) {
            // Perhaps the tile is wrong and the entries are right: their root will tell.
            self.suspect = Some((id, entry));
            return Ok(());
        }
        let bundle = TileId::entries(entry / WIDTH, width_in(self.checkpoint.size, tile::Kind::Entries, entry / WIDTH));
        let message = if level == 0 {
            format!("entry {entry} is not the one that was signed: its hash differs from {id}")
        } else {
            format!("entries from {entry} on and their tiles are not those that were signed: {id} differs")
        };
        Err(Finding::at(Kind::EntryAltered, bundle, entry, message))
    }

    /// What the entries of a bundle say.
    fn entries(&mut self, id: TileId, first: u64, entries: &[&[u8]]) {
        let dir = self.dir.clone();
        let mut earlier = |index: u64| dir.entry(index).ok();
        for (i, bytes) in entries.iter().enumerate() {
            let index = first + i as u64;
            let outcome = match Entry::parse(bytes) {
                Ok(entry) => self.history.admit(&entry, &mut earlier).map_err(|e| (Kind::from(e.fault), e.message)),
                Err(e @ EntryError::Carbon { .. }) => Err((Kind::Carbon, e.to_string())),
                Err(e) => Err((Kind::Entry, e.to_string())),
            };
            if let Err((kind, message)) = outcome {
                self.report.fail(Finding::at(kind, id, index, format!("entry {index}: {message}")));
            }
        }
    }

    /// After the last entry: the root, the suspect, the trusted checkpoint, the totals.
    fn conclude(&mut self) -> Result<(), Finding> {
        let root_holds = self.tree.root() == self.checkpoint.root;
        match self.suspect {
            Some((id, entry)) if root_holds => {
                let message = format!(
                    "{id} is not the tile that was signed: its first wrong hash is over entry {entry}; the entries themselves are whole"
                );
                return Err(Finding::at(Kind::TileAltered, id, entry, message));
            }
            Some((id, entry)) => {
                let message = format!(
                    "entries and tiles disagree from entry {entry} on ({id}), and neither leads to the signed root"
                );
                return Err(Finding::at(Kind::Root, id, entry, message));
            }
            None if !root_holds => {
                let message = "entries and tiles agree with each other, but not with the signed root: the whole log was rewritten, or the checkpoint is of another one";
                return Err(Finding::file(Kind::Root, "checkpoint", message));
            }
            None => {}
        }
        if let Some(last) = self.last {
            if self.last_root != Some(last.root) {
                let message = format!(
                    "the first {} entries are not those of the trusted checkpoint: history was rewritten and signed again",
                    last.size
                );
                return Err(Finding::file(Kind::Inconsistent, "checkpoint", message));
            }
            self.report.continues = Some(last.size);
        }
        self.totals();
        Ok(())
    }

    fn totals(&mut self) {
        let latest = self.history.latest_us();
        let (mut covered, mut missing, mut gaps) = (0i64, 0i64, 0u64);
        for machine in self.history.machines().values() {
            let open = machine.gap.filter(|g| g.until_us.is_none());
            covered += machine.covered_us;
            missing += machine.gap_us + open.map_or(0, |g| (latest - g.from_us).max(0));
            gaps += machine.gaps + u64::from(open.is_some());
        }
        self.report.machines = self.history.machines().len() as u64;
        self.report.declared_gaps = gaps;
        self.report.gap_seconds = (missing / 1_000_000) as u64;
        self.report.coverage_ratio =
            if covered + missing > 0 { covered as f64 / (covered + missing) as f64 } else { 1.0 };
    }
}

/// The tile's place in the tree, for tests of which files a size needs.
pub fn needs(size: u64, id: TileId) -> bool {
    let total = match id.kind {
        tile::Kind::Entries => size,
        tile::Kind::Hashes(level) => hashes_at(size, level),
    };
    total > 0 && width_in(size, id.kind, id.index) == id.width && id.width > 0
}
