//! What the subcommands share: their arguments from the command line, and their end.

use std::{future::Future, process::ExitCode};

use clap::Parser;

/// The arguments after the program's name; or what to end with, told already: 0 for help, 64 for a fault.
///
/// # Errors
/// Help was asked for, or the arguments are wrong.
pub fn arguments<A: Parser>() -> Result<A, ExitCode> {
    A::try_parse_from(std::env::args_os().skip(1)).map_err(|error| {
        let _ = error.print();
        ExitCode::from(if error.use_stderr() { telemetry::config::EXIT_CONFIG } else { 0 })
    })
}

/// Runs to the end on one thread, and says under the command's `name` what went wrong.
pub fn complete(name: &str, work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|rt| rt.block_on(work)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("telemetry-generator {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
