//! `export` and `report`.

use std::{io::Write, path::PathBuf};

use super::{Done, EXIT_DATA, EXIT_IO, Failure, output, read_verifier};
use crate::{
    dir::LogDir,
    export::{self, ExportError},
    note::VerifierKey,
    report::{self, Month},
    scan,
    verify::{self, Options},
};

/// `export`.
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("format").required(true).args(["csv", "parquet"]))]
pub struct Export {
    /// The log's directory.
    dir: PathBuf,
    /// As CSV.
    #[arg(long)]
    csv: bool,
    /// As Parquet.
    #[arg(long)]
    parquet: bool,
    /// Check the checkpoint's signature with this verifier key first.
    #[arg(long, value_parser = read_verifier)]
    key: Option<VerifierKey>,
    /// File for the table; standard output if not given.
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Export {
    pub(super) fn run(self) -> Done {
        let (checkpoint, _) = scan::checkpoint(&self.dir, self.key.as_ref())?;
        let dir = LogDir::new(&self.dir, checkpoint.size);
        let out = output(self.out.as_ref())?;
        let done = if self.csv { export::to_csv(&dir, out) } else { export::to_parquet(&dir, out) };
        done.map_err(|e| match e {
            ExportError::Scan(e) => e.into(),
            ExportError::Write(_) => Failure::new(EXIT_IO, e),
        })
    }
}

/// A report's form.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Json,
    Csv,
    Html,
}

/// `report`.
#[derive(clap::Args, Debug)]
pub struct Report {
    /// The log's directory.
    dir: PathBuf,
    /// The month, such as 2026-10, in UTC.
    #[arg(long)]
    month: Month,
    /// text, json, csv (hour by hour) or html (one printable page).
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Verify the whole log with this verifier key first; without it the report says that it was not verified.
    #[arg(long, value_parser = read_verifier)]
    key: Option<VerifierKey>,
    /// File for the report; standard output if not given.
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Report {
    pub(super) fn run(self) -> Done {
        if let Some(key) = &self.key {
            let options = Options { key: key.clone(), last: None, witnesses: Vec::new() };
            let found = verify::verify(&self.dir, &options);
            if let Some(first) = found.failures.first() {
                let message = format!("no report is made of a log that does not verify: {}", first.message);
                return Err(Failure::new(found.exit_code, message));
            }
        }
        let report = report::build(&self.dir, self.month, self.key.as_ref(), self.key.is_some())?;
        let text = match self.format {
            Format::Text => report.to_text(),
            Format::Json => {
                let json = serde_json::to_string_pretty(&report).map_err(|e| Failure::new(EXIT_DATA, e))?;
                format!("{json}\n")
            }
            Format::Csv => report.to_csv(),
            Format::Html => report.to_html(),
        };
        output(self.out.as_ref())?
            .write_all(text.as_bytes())
            .map_err(|e| Failure::new(EXIT_IO, format!("cannot write the report: {e}")))
    }
}
