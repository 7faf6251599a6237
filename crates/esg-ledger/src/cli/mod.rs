//! The command line. One module a group of commands; each ends with a documented code.

mod audit;
mod tables;
mod write;

use std::{path::Path, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    carbon,
    disk::DiskError,
    entry::{Entry, FactorSet},
    note::VerifierKey,
    serve, witness,
};

/// The input is wrong (`EX_DATAERR` of sysexits.h).
pub const EXIT_DATA: u8 = 65;
/// Something of the system failed (`EX_IOERR`).
pub const EXIT_IO: u8 = 74;
/// Another process has the log (`EX_TEMPFAIL`).
pub const EXIT_LOCKED: u8 = 75;
/// The log is not in the state that was signed; nothing was written.
pub const EXIT_INCONSISTENT: u8 = 70;
/// A proof does not hold.
pub const EXIT_PROOF: u8 = 50;
/// A proof holds, but nothing signed says that its roots are the log's.
pub const EXIT_UNANCHORED: u8 = 51;
/// A file that should be a proof is none.
pub const EXIT_NO_PROOF: u8 = 52;

/// Tamper-evident log of energy and emissions.
#[derive(Debug, Parser)]
#[command(name = "esg-ledger", version, about, arg_required_else_help = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of them in a process")]
enum Command {
    /// Make a new log with a new key; prints its verifier key.
    Init(write::Init),
    /// Append entries, one JSON document a line, from a file or standard input.
    Append(write::Append),
    /// Make a key; prints its verifier key.
    NewKey(write::NewKey),
    /// Make a new key for a log and say so in it; prints the verifier key.
    RotateKey(write::RotateKey),
    /// Print a verifier key that a file holds, or that of a log that this machine writes.
    Key(audit::Key),
    /// Check a directory with nothing but a key.
    Verify(audit::Verify),
    /// Print a proof that an entry is in the log, or that an older log is its beginning.
    Prove(audit::Prove),
    /// Check a proof with nothing but a key.
    CheckProof(audit::CheckProof),
    /// Write all entries as a table.
    Export(tables::Export),
    /// Write a month's report.
    Report(tables::Report),
    /// Run the service.
    Serve(serve::Config),
    /// Run a witness.
    Witness(witness::Config),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli: Cli = match telemetry::config::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(Ok(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(Err(error)) => telemetry::config::refuse("esg-ledger", &error),
    };
    let version = env!("CARGO_PKG_VERSION");
    let done = match cli.command {
        Command::Init(c) => c.run(),
        Command::Append(c) => c.run(),
        Command::NewKey(c) => c.run(),
        Command::RotateKey(c) => c.run(),
        Command::Key(c) => c.run(),
        Command::Verify(c) => c.run(),
        Command::Prove(c) => c.run(),
        Command::CheckProof(c) => c.run(),
        Command::Export(c) => c.run(),
        Command::Report(c) => c.run(),
        Command::Serve(c) => return telemetry::run_with("esg-ledger", version, c, serve::run),
        Command::Witness(c) => return telemetry::run_with("esg-witness", version, c, witness::run),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("esg-ledger: {}", failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}

/// How a command ended, other than well.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn new(code: u8, message: impl ToString) -> Self {
        Self { code, message: message.to_string() }
    }
}

impl From<DiskError> for Failure {
    fn from(e: DiskError) -> Self {
        Self::new(EXIT_IO, e)
    }
}

impl From<crate::log::LogError> for Failure {
    fn from(e: crate::log::LogError) -> Self {
        use crate::log::LogError as E;
        let code = match &e {
            E::Disk(_) | E::Broken => EXIT_IO,
            E::Locked(_) => EXIT_LOCKED,
            E::Key { .. } | E::NoLog(_) | E::Exists(_) => EXIT_DATA,
            E::Checkpoint(_) | E::Read(_) | E::Inconsistent(_) => EXIT_INCONSISTENT,
        };
        Self::new(code, e)
    }
}

impl From<crate::scan::ScanError> for Failure {
    fn from(e: crate::scan::ScanError) -> Self {
        use crate::scan::ScanError as E;
        let code = if matches!(e, E::Disk(_)) { EXIT_IO } else { EXIT_DATA };
        Self::new(code, e)
    }
}

type Done = Result<(), Failure>;

/// A verifier key given as itself, or as the file that holds it.
///
/// # Errors
/// Neither.
pub fn read_verifier(text: &str) -> Result<VerifierKey, String> {
    match text.parse::<VerifierKey>() {
        Ok(key) => Ok(key),
        Err(error) => {
            let Ok(file) = std::fs::read_to_string(text) else {
                let hint = if text.contains('+') { "" } else { ", and there is no such file" };
                return Err(format!("{error}{hint}"));
            };
            file.parse().map_err(|e| format!("{text}: {e}"))
        }
    }
}

/// The factors of a file (a `factor_set` in any spelling, whose hash may be left out), or the built-in ones.
///
/// # Errors
/// The file is not there, or no factor set.
pub fn read_factors(file: Option<&Path>, now_us: i64) -> anyhow::Result<FactorSet<'static>> {
    use anyhow::Context;
    let Some(path) = file else { return Ok(carbon::built_in(now_us)) };
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    factors_of(&bytes, now_us).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))
}

fn factors_of(bytes: &[u8], now_us: i64) -> Result<FactorSet<'static>, String> {
    use crate::canonical::Value;
    let document = Value::parse(bytes).map_err(|e| e.to_string())?;
    let factors = document.get("factors").ok_or("field 'factors' is missing")?.clone();
    // The hash is over the canonical rows; whoever writes a table by hand need not compute it.
    let table = Value::Object(vec![("factors".to_owned(), factors.clone())]).to_bytes();
    let mut fields = vec![
        ("factors".to_owned(), factors),
        ("schema".to_owned(), Value::Text(crate::entry::SCHEMA.to_owned())),
        ("set_at_us".to_owned(), Value::Int(now_us)),
        ("table_sha256".to_owned(), Value::Text(carbon::hex(&crate::merkle::sha256(&table)))),
        ("type".to_owned(), Value::Text("factor_set".to_owned())),
    ];
    if let Some(assumption) = document.get("avoided_assumption") {
        fields.push(("avoided_assumption".to_owned(), assumption.clone()));
    }
    let bytes = Value::Object(fields).to_bytes();
    match Entry::parse(&bytes) {
        Ok(Entry::FactorSet(set)) => Ok(crate::history::owned_set(&set)),
        Ok(_) => Err("not a factor set".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

/// Where output goes: a file, or standard output.
fn output(path: Option<&PathBuf>) -> Result<Box<dyn std::io::Write + Send>, Failure> {
    match path {
        None => Ok(Box::new(std::io::stdout())),
        Some(path) => match std::fs::File::create(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(e) => Err(DiskError::new("create", path, e).into()),
        },
    }
}
