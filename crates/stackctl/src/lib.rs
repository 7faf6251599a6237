//! The stack's command line. `./stack` builds this program and hands its arguments over.
//!
//! Decisions are pure and apart from the work they cause: [`image`] (which way an image is obtained),
//! [`ports`] (which port is free), [`recipe`] (what a local image is made of), [`scenario::schema`].
//! Docker is used by its command line, so that whatever the user's `docker` reaches is what is meant.

pub mod api;
pub mod cli;
pub mod compose;
pub mod daemon;
pub mod docker;
pub mod doctor;
pub mod dotenv;
pub mod down;
pub mod exec;
pub mod image;
pub mod incident;
pub mod layout;
pub mod ledger;
pub mod load;
pub mod lock;
pub mod obtain;
pub mod ports;
pub mod progress;
pub mod recipe;
pub mod scenario;
pub mod secrets;
pub mod site;
pub mod stack;
pub mod state;
pub mod status;
pub mod suites;
pub mod up;
pub mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use cli::{Cli, Command, SecretsCommand};
use site::Site;

/// Runs the command line; the exit code says whether everything asked for was achieved.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("stack: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        tokio::select! {
            result = dispatch(cli.command) => match result {
                Ok(code) => code,
                Err(error) => {
                    eprintln!("stack: {error:#}");
                    1
                }
            },
            code = interrupted() => {
                // Dropping the command stops what it started.
                eprintln!("\nstack: interrupted; the same command goes on where this one stopped");
                code
            }
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    ExitCode::from(code)
}

async fn interrupted() -> u8 {
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = int.recv() => 130,
        _ = term.recv() => 143,
    }
}

async fn dispatch(command: Command) -> Result<u8> {
    // The only commands that run where there is no work tree.
    match &command {
        Command::Secrets(SecretsCommand::Init { dir }) => {
            secrets::init(dir)?;
            return Ok(0);
        }
        Command::Secrets(SecretsCommand::Show { dir, name }) => {
            println!("{}", secrets::show(dir, name)?);
            return Ok(0);
        }
        _ => {}
    }
    let site = Site::from_env()?;
    match command {
        Command::Up(args) => up::run(&Site { debug: args.dev, ..site }, &args).await.map(|()| 0),
        Command::Down(args) => down::run(&site, &args).await.map(|()| 0),
        Command::Status(args) => status::run(&site, args.json).await,
        Command::Restart { service } => stack::restart(&site, &service).await.map(|()| 0),
        Command::Logs { service, follow, tail } => stack::logs(&site, &service, follow, tail).await,
        Command::Load(args) => load::run(&site, &args).await,
        Command::Scenario(command) => scenario::run(&site, command).await,
        Command::Test(args) => suites::run(&site, &args).await,
        Command::Doctor(args) => doctor::run(&site, args.json).await,
        Command::Verify(args) => verify::run(&site, args.json).await,
        Command::Secret { name } => secrets::print(&site, &name).await.map(|()| 0),
        Command::Ledger(command) => ledger::run(&site, command).await,
        Command::Secrets(_) => Ok(0),
    }
}
