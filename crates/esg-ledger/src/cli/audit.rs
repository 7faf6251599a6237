//! `verify`, `prove`, `check-proof`: what needs no secret.

use std::{io::Write, path::PathBuf};

use super::{Done, EXIT_DATA, EXIT_IO, EXIT_NO_PROOF, EXIT_PROOF, EXIT_UNANCHORED, Failure, output, read_verifier};
use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    dir::LogDir,
    disk::{self, DiskError},
    log::Place,
    note::{NoteError, VerifierKey},
    proof::{self, Proven},
    scan,
    verify::{self, Kind, Options},
};

/// `key`.
#[derive(clap::Args, Debug)]
pub struct Key {
    /// The file, or the log's directory.
    at: PathBuf,
}

impl Key {
    pub(super) fn run(self) -> Done {
        let file = if self.at.is_dir() { Place::beside(&self.at).state.join("verifier-key") } else { self.at };
        let key = read_verifier(&file.display().to_string()).map_err(|e| Failure::new(EXIT_DATA, e))?;
        println!("{key}");
        Ok(())
    }
}

/// `verify`.
#[derive(clap::Args, Debug)]
pub struct Verify {
    /// The log's directory, or a copy of it.
    dir: PathBuf,
    /// The log's verifier key (name+id+key), or a file that holds it.
    #[arg(long, value_parser = read_verifier)]
    key: VerifierKey,
    /// A checkpoint that you trusted before; the log must continue it.
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// Verifier key of a witness that must have cosigned; may be given more than once.
    #[arg(long, value_parser = read_verifier)]
    witness: Vec<VerifierKey>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self) -> Done {
        let options = Options { key: self.key, last: self.checkpoint, witnesses: self.witness };
        let report = verify::verify(&self.dir, &options);
        if self.json {
            let text = serde_json::to_string_pretty(&report).map_err(|e| Failure::new(EXIT_IO, e))?;
            println!("{text}");
        } else {
            print(&report);
        }
        if report.ok { Ok(()) } else { Err(Failure { code: report.exit_code, message: String::new() }) }
    }
}

fn print(report: &verify::Report) {
    for f in &report.failures {
        let file = f.file.as_deref().unwrap_or("-");
        let index = f.index.map(|i| format!(", entry {i}")).unwrap_or_default();
        let tile = f.tile.as_ref().map(|t| format!(", tile {t}")).unwrap_or_default();
        println!("FAILED {} ({}) in {file}{tile}{index}: {}", f.kind.as_str(), f.code, f.message);
    }
    if report.more_failures > 0 {
        println!("FAILED and {} more", report.more_failures);
    }
    for w in &report.warnings {
        println!("note: {}", w.message);
    }
    if report.ok {
        println!("OK {}: {} entries, {} tiles, root {}", report.origin, report.entries, report.tiles, report.root);
        for c in &report.cosignatures {
            println!("cosigned by {} at {}", c.name, crate::report::rfc3339((c.time as i64).saturating_mul(1_000_000)));
        }
        if let Some(size) = report.continues {
            println!("continues the trusted checkpoint of {size} entries");
        }
        println!(
            "{} machines, {} declared gaps of {} s in all, coverage {:.4} %",
            report.machines,
            report.declared_gaps,
            report.gap_seconds,
            100.0 * report.coverage_ratio
        );
    }
}

/// `prove`.
#[derive(clap::Args, Debug)]
pub struct Prove {
    /// The log's directory.
    dir: PathBuf,
    /// Index of the entry.
    #[arg(required_unless_present = "consistency")]
    index: Option<u64>,
    /// Instead: that the log of the first size is the beginning of the log of the second.
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"], conflicts_with = "index")]
    consistency: Option<Vec<u64>>,
    /// File for the proof; standard output if not given.
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Prove {
    pub(super) fn run(self) -> Done {
        let (checkpoint, note) = scan::checkpoint(&self.dir, None)?;
        let mut dir = LogDir::new(&self.dir, checkpoint.size);
        let text = match (self.index, self.consistency.as_deref()) {
            (Some(index), _) => proof::inclusion(&mut dir, index, &note),
            (None, Some([old, new])) => proof::consistency(&mut dir, *old, *new, &note),
            (None, _) => return Err(Failure::new(64, "an index or --consistency OLD NEW is required")),
        };
        let text = text.map_err(|e| Failure::new(EXIT_DATA, e))?;
        output(self.out.as_ref())?
            .write_all(text.as_bytes())
            .map_err(|e| Failure::new(EXIT_IO, format!("cannot write the proof: {e}")))
    }
}

/// `check-proof`.
#[derive(clap::Args, Debug)]
pub struct CheckProof {
    /// The proof.
    file: PathBuf,
    /// The log's verifier key, or a file that holds it.
    #[arg(long, value_parser = read_verifier)]
    key: VerifierKey,
    /// The entry that the proof must be about.
    #[arg(long)]
    entry: Option<PathBuf>,
    /// A signed checkpoint that a consistency proof starts or ends at; may be given more than once.
    #[arg(long)]
    checkpoint: Vec<PathBuf>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

fn failed(e: &proof::Error) -> Failure {
    let code = match e {
        proof::Error::Checkpoint(e) => checkpoint_code(e),
        proof::Error::Proof(_) => EXIT_PROOF,
        proof::Error::Unanchored(_) => EXIT_UNANCHORED,
        proof::Error::Malformed(_) => EXIT_NO_PROOF,
        proof::Error::Read(_) | proof::Error::Range(_) => EXIT_DATA,
    };
    Failure::new(code, e)
}

fn checkpoint_code(e: &CheckpointError) -> u8 {
    match e {
        CheckpointError::Note(NoteError::Unsigned(_) | NoteError::Invalid(_)) => Kind::Signature.code(),
        CheckpointError::Origin { .. } => Kind::OtherLog.code(),
        CheckpointError::Note(_) | CheckpointError::Malformed(_) => Kind::CheckpointMalformed.code(),
    }
}

impl CheckProof {
    pub(super) fn run(self) -> Done {
        let read = |path: &PathBuf| {
            disk::read(path)?.ok_or_else(|| {
                Failure::from(DiskError::new("read", path, std::io::Error::from(std::io::ErrorKind::NotFound)))
            })
        };
        let text =
            String::from_utf8(read(&self.file)?).map_err(|_| Failure::new(EXIT_NO_PROOF, "not a proof: not UTF-8"))?;
        let entry = self.entry.as_ref().map(read).transpose()?;
        let mut trusted = Vec::new();
        for path in &self.checkpoint {
            let open = Checkpoint::open(&read(path)?, &self.key);
            let (checkpoint, _) =
                open.map_err(|e| Failure::new(checkpoint_code(&e), format!("{}: {e}", path.display())))?;
            trusted.push(checkpoint);
        }
        let proven = proof::check(&text, &self.key, entry.as_deref(), &trusted).map_err(|e| failed(&e))?;
        match proven {
            Proven::Inclusion { index, size, entry } if self.json => println!(
                "{}",
                serde_json::json!({"ok": true, "kind": "inclusion", "index": index, "size": size, "entry": String::from_utf8_lossy(&entry)})
            ),
            Proven::Consistency { old, new } if self.json => {
                println!("{}", serde_json::json!({"ok": true, "kind": "consistency", "old": old, "new": new}));
            }
            Proven::Inclusion { index, size, entry } => {
                println!(
                    "OK entry {index} is in the signed log of {size} entries:\n{}",
                    String::from_utf8_lossy(&entry)
                );
            }
            Proven::Consistency { old, new } => {
                println!("OK the log of {old} entries is the beginning of the log of {new}");
            }
        }
        Ok(())
    }
}
