//! What the program does beside serving: each a command that needs no server.

mod models;
mod profile;
mod score;
mod stream;
mod train;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{collect::Choices, config::Config, table::Format};

/// Nothing can be told: bad input, or too little of it.
const CANNOT_TELL: u8 = 2;

#[derive(Debug, Parser)]
#[command(
    name = "drift-inference",
    about = "Drift of anybody's tables, and the failure model of machine readings",
    after_help = "Without a command the service is started; `drift-inference --help` lists its settings, `drift-inference \
                  check-config` checks them."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Freeze a table as the reference of later comparisons.
    Profile(profile::Args),
    /// Compare a table with a reference: exit code 0 no drift, 1 drift, 2 cannot tell.
    Score(score::Args),
    /// Watch one column value by value: exit code 0 no change, 1 changes, 2 cannot tell.
    Stream(stream::Args),
    /// Train the failure model on a lake folder.
    Train(train::TrainArgs),
    /// Measure a failure model's reference anew on a lake folder without faults.
    Reference(train::ReferenceArgs),
    /// Models of a lake: list, register, promote, rollback.
    Models(models::Args),
    /// Judge a failure model on a lake folder, and show how far each mean wanders in a window.
    Evaluate(train::EvaluateArgs),
}

/// What commands that read tables share.
#[derive(clap::Args, Clone, Debug)]
struct TableArgs {
    /// Between the fields of a CSV file, one character; found out if not given.
    #[arg(long, value_name = "CHAR")]
    delimiter: Option<char>,
    /// Look at this column only; can be repeated.
    #[arg(long, value_name = "NAME")]
    column: Vec<String>,
    /// Leave this column out; can be repeated.
    #[arg(long, value_name = "NAME")]
    ignore: Vec<String>,
    /// Read this column as text, whatever it looks like; can be repeated.
    #[arg(long, value_name = "NAME")]
    text: Vec<String>,
    /// Look at every K-th row only, for rows that resemble their neighbours.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    thin: u64,
}

impl TableArgs {
    fn format(&self) -> anyhow::Result<Format> {
        let delimiter = self
            .delimiter
            .map(|c| u8::try_from(c).ok().filter(u8::is_ascii))
            .map(|d| d.ok_or_else(|| anyhow::anyhow!("--delimiter must be one ASCII character")));
        Ok(Format { delimiter: delimiter.transpose()? })
    }

    fn choices(&self) -> Choices {
        Choices { only: self.column.clone(), ignore: self.ignore.clone(), text: self.text.clone(), thin: self.thin }
    }
}

/// The command that checks the service's settings and exits: 0 valid, 64 not.
pub const CHECK_CONFIG: &str = "check-config";

/// Checks the settings of arguments and environment as a start would.
pub fn check_config() -> ExitCode {
    let program = std::env::args_os().take(1);
    let args = program.chain([std::ffi::OsString::from("--check-config")]).chain(std::env::args_os().skip(2));
    let config: Config = match telemetry::config::parse(args) {
        Ok(config) => config,
        Err(Ok(help)) => {
            print!("{help}");
            return ExitCode::SUCCESS;
        }
        Err(Err(error)) => telemetry::config::refuse("drift-inference", &error),
    };
    telemetry::run_with("drift-inference", env!("CARGO_PKG_VERSION"), config, crate::run)
}

/// Is this a command for [`main`]?
pub fn is_command(argument: &str) -> bool {
    matches!(argument, "profile" | "score" | "stream" | "train" | "reference" | "evaluate" | "models" | "help")
}

/// Entry. 0 done or no drift, 1 drift (or failed, for training), 2 cannot tell, 64 wrong arguments.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { telemetry::config::EXIT_CONFIG } else { 0 });
        }
    };
    let (result, failure) = match cli.command {
        Command::Profile(args) => (profile::run(&args), CANNOT_TELL),
        Command::Score(args) => (score::run(&args), CANNOT_TELL),
        Command::Stream(args) => (stream::run(&args), CANNOT_TELL),
        Command::Train(args) => (block_on(train::train_command(args)), 1),
        Command::Reference(args) => (block_on(train::reference_command(args)), 1),
        Command::Models(args) => (block_on(models::run(args)), 1),
        Command::Evaluate(args) => (block_on(train::evaluate_command(args)), 1),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("drift-inference: {error:#}");
            ExitCode::from(failure)
        }
    }
}

fn block_on(future: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(future)?;
    Ok(0)
}

/// Writes a file whole or not at all.
fn write_file(file: &PathBuf, content: &str) -> anyhow::Result<()> {
    let mut part = file.clone().into_os_string();
    part.push(".part");
    let written = std::fs::write(&part, content).and_then(|()| std::fs::rename(&part, file));
    written.map_err(|e| {
        let _ = std::fs::remove_file(&part);
        anyhow::anyhow!("{}: {e}", file.display())
    })
}

/// Prints to a pipe that may be closed early, which is no fault.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
