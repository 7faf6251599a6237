//! The binary: `serve` (the default), `check`, `simulate`.

use std::process::ExitCode;

use alert_bot::{
    cli::{self, Tool},
    config::Config,
};

#[derive(clap::Parser)]
#[command(name = "alert-bot", version)]
struct Tools {
    #[command(subcommand)]
    tool: Tool,
}

fn main() -> ExitCode {
    // The tools need none of the settings that running needs.
    let first = std::env::args().nth(1);
    if matches!(first.as_deref(), Some("check" | "simulate" | "help")) {
        return match <Tools as clap::Parser>::parse().tool {
            Tool::Check { file } => cli::check(&file),
            Tool::Simulate { policy, payload, project } => cli::simulate(&policy, &payload, &project),
            Tool::Serve => ExitCode::SUCCESS,
        };
    }
    let skip_serve = usize::from(first.as_deref() == Some("serve"));
    let args = std::env::args_os().enumerate().filter(|(i, _)| *i == 0 || *i > skip_serve).map(|(_, a)| a);
    let config = match telemetry::config::parse::<Config>(args) {
        Ok(config) => config,
        Err(Ok(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(Err(error)) => telemetry::config::refuse("alert-bot", &error),
    };
    telemetry::run_with("alert-bot", env!("CARGO_PKG_VERSION"), config, alert_bot::run)
}
