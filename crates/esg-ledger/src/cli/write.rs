//! `init`, `append`, `new-key`, `rotate-key`.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    path::PathBuf,
};

use telemetry::config::Duration;

use super::{Done, EXIT_DATA, EXIT_IO, Failure, read_factors};
use crate::{
    disk::DiskError,
    ingest::Policy,
    log::{self, Log, Outcome, Place, write_key},
    note::Algorithm,
    serve::now_us,
};

/// Lines that are made durable together.
const LINES: usize = 10_000;

/// Where a log and its secrets are.
#[derive(clap::Args, Debug)]
pub struct Where {
    /// The log's directory.
    dir: PathBuf,
    /// State and lock of the writer; DIR.state if not given.
    #[arg(long)]
    state: Option<PathBuf>,
    /// The signing key; `signing-key` in the state if not given.
    #[arg(long)]
    key_file: Option<PathBuf>,
}

impl Where {
    fn place(&self) -> Place {
        let mut place = Place::beside(&self.dir);
        if let Some(state) = &self.state {
            place.key_file = state.join("signing-key");
            place.state.clone_from(state);
        }
        if let Some(key) = &self.key_file {
            place.key_file.clone_from(key);
        }
        place
    }
}

/// `init`.
#[derive(clap::Args, Debug)]
pub struct Init {
    #[command(flatten)]
    at: Where,
    /// Name of the log, such as example.com/esg.
    #[arg(long)]
    origin: String,
    /// Factor table (JSON); the built-in one if not given.
    #[arg(long)]
    factors: Option<PathBuf>,
}

impl Init {
    pub(super) fn run(self) -> Done {
        let factors =
            read_factors(self.factors.as_deref(), now_us()).map_err(|e| Failure::new(EXIT_DATA, format!("{e:#}")))?;
        let key = log::init(&self.at.place(), &self.origin, factors)?;
        println!("{key}");
        Ok(())
    }
}

/// `append`.
#[derive(clap::Args, Debug)]
pub struct Append {
    #[command(flatten)]
    at: Where,
    /// Entries, one JSON document a line; standard input if not given.
    file: Option<PathBuf>,
    /// Machines that may send, one a line.
    #[arg(long)]
    machines: Option<PathBuf>,
    /// A reading may be this much ahead of the clock.
    #[arg(long, default_value = "5m")]
    max_ahead: Duration,
    /// A reading may be this old.
    #[arg(long, default_value = "31days")]
    max_age: Duration,
}

impl Append {
    pub(super) fn run(self) -> Done {
        let us = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        let machines = match &self.machines {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| DiskError::new("read", path, e))?;
                Some(text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect::<HashSet<_>>())
            }
        };
        let policy = Policy { max_ahead_us: us(self.max_ahead), max_age_us: us(self.max_age), machines };
        let input: Box<dyn BufRead> = match &self.file {
            None => Box::new(std::io::stdin().lock()),
            Some(path) => {
                Box::new(BufReader::new(std::fs::File::open(path).map_err(|e| DiskError::new("read", path, e))?))
            }
        };
        let mut log = Log::open(self.at.place())?;
        let (mut number, mut first, mut appended, mut duplicates, mut refused) = (0u64, 1u64, 0u64, 0u64, 0u64);
        let mut batch: Vec<Vec<u8>> = Vec::new();
        let mut lines = input.split(b'\n');
        loop {
            let line = lines.next().transpose().map_err(|e| Failure::new(EXIT_IO, format!("cannot read: {e}")))?;
            let end = line.is_none();
            if let Some(line) = line {
                number += 1;
                batch.push(line);
            }
            if batch.len() < LINES && !end {
                continue;
            }
            // Empty lines keep their number.
            let (numbers, sent): (Vec<u64>, Vec<Vec<u8>>) =
                (first..).zip(std::mem::take(&mut batch)).filter(|(_, l)| !l.trim_ascii().is_empty()).unzip();
            first = number + 1;
            for (line, outcome) in numbers.into_iter().zip(log.submit(&sent, &policy, now_us())?) {
                match outcome {
                    Outcome::Appended(_) => appended += 1,
                    Outcome::Duplicate(why) => {
                        duplicates += 1;
                        eprintln!("line {line}: {why}");
                    }
                    Outcome::Refused(why) => {
                        refused += 1;
                        eprintln!("line {line}: {why}");
                    }
                }
            }
            if end {
                break;
            }
        }
        println!("appended {appended}, duplicates {duplicates}, refused {refused}; the log has {} entries", log.size());
        log.close()?;
        if refused + duplicates > 0 { Err(Failure::new(EXIT_DATA, "")) } else { Ok(()) }
    }
}

/// `new-key`.
#[derive(clap::Args, Debug)]
pub struct NewKey {
    /// File for the private key; it must not exist.
    file: PathBuf,
    /// Name of the key.
    #[arg(long)]
    name: String,
    /// A witness's key, which cosigns.
    #[arg(long)]
    witness: bool,
}

impl NewKey {
    pub(super) fn run(self) -> Done {
        let algorithm = if self.witness { Algorithm::CosignatureV1 } else { Algorithm::Ed25519 };
        println!("{}", write_key(&self.file, &self.name, algorithm)?.verifier());
        Ok(())
    }
}

/// `rotate-key`.
#[derive(clap::Args, Debug)]
pub struct RotateKey {
    #[command(flatten)]
    at: Where,
    /// Why; it is kept in the log.
    #[arg(long)]
    reason: String,
}

impl RotateKey {
    pub(super) fn run(self) -> Done {
        println!("{}", log::rotate_key(&self.at.place(), &self.reason, now_us())?);
        Ok(())
    }
}
