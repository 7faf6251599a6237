//! The binary: `serve` (the default) and the tools around it.

use std::process::ExitCode;

use alert_bot::{
    cli::{self, TOOLS, Tool},
    config::Config,
};

#[derive(clap::Parser)]
#[command(name = "alert-bot", version, about = "Heals containers when alerts fire, and proves it")]
struct Tools {
    #[command(subcommand)]
    tool: Tool,
}

fn main() -> ExitCode {
    // The tools need none of the settings that running needs.
    let first = std::env::args().nth(1);
    if first.as_deref().is_some_and(|f| TOOLS.contains(&f)) {
        return match telemetry::config::parse::<Tools>(std::env::args_os()) {
            Ok(tools) => cli::run(tools.tool),
            Err(Ok(text)) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(Err(error)) => telemetry::config::refuse("alert-bot", &error),
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
