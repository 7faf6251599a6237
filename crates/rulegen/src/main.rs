//! `rulegen`: writes the generated rule and test files, or with `--check` says which ones differ.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// One source, two speeds: Prometheus and Loki rules, SLO rules and promtool tests.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Root of the project: the folder that holds `prometheus/`, `loki/` and `slo/`.
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// Change nothing; exit 1 and name the files when generated files differ from their sources.
    #[arg(long)]
    check: bool,
}

/// Exit code for a source that cannot be read: the same that the services use for bad configuration.
const BAD_SOURCE: u8 = 64;

fn main() -> ExitCode {
    let args = Args::parse();
    let files = match rulegen::generate(&args.root) {
        Ok(files) => files,
        Err(error) => {
            eprintln!("rulegen: {error}");
            return ExitCode::from(BAD_SOURCE);
        }
    };
    let outcome = if args.check {
        rulegen::differences(&args.root, &files).map(|found| {
            for difference in &found {
                eprintln!("rulegen: {difference}");
            }
            if found.is_empty() {
                println!("{} generated files agree with their sources", files.len());
                ExitCode::SUCCESS
            } else {
                eprintln!("rulegen: run `cargo run -p rulegen` and commit the result");
                ExitCode::FAILURE
            }
        })
    } else {
        rulegen::write(&args.root, &files).map(|changed| {
            println!("{} generated files, {changed} changed", files.len());
            ExitCode::SUCCESS
        })
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("rulegen: {error}");
        ExitCode::FAILURE
    })
}
