//! Suites that are one cargo command.

use anyhow::Result;
use tokio::process::Command;

use super::{Bench, Tally};
use crate::exec;
use crate::site::Site;

/// `cargo ARGS` in the work tree with the shared target folder.
pub fn cargo<'a>(site: &Site, args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = exec::command("cargo", args);
    command.current_dir(&site.root).env("CARGO_TARGET_DIR", site.cargo_target()).env("CARGO_TERM_COLOR", "never");
    command
}

/// Runs a command as a step of its own, with a log named like it.
pub async fn step(bench: &Bench<'_>, name: &str, command: Command) -> Result<()> {
    let step = bench.progress.step(name);
    let report = step.reporter();
    let log = bench.site.logs().join(format!("test-{}.log", name.replace(' ', "-")));
    match exec::logged(command, &log, move |line| report(line)).await {
        Ok(()) => {
            step.done("passed");
            Ok(())
        }
        Err(error) => {
            step.failed("failed");
            Err(error)
        }
    }
}

async fn one(bench: &Bench<'_>, name: &str, command: Command) -> Result<Tally> {
    let mut tally = Tally::default();
    let result = step(bench, name, command).await;
    tally.count(result.is_ok());
    if let Err(error) = result {
        bench.failed(format!("{error:#}"));
    }
    Ok(tally)
}

/// Formatting.
pub async fn fmt(bench: &Bench<'_>) -> Result<Tally> {
    one(bench, "cargo fmt", cargo(bench.site, ["fmt", "--all", "--check"])).await
}

/// Lints, on everything that compiles.
pub async fn clippy(bench: &Bench<'_>) -> Result<Tally> {
    let args = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    one(bench, "cargo clippy", cargo(bench.site, args)).await
}

/// Documentation without a warning.
pub async fn docs(bench: &Bench<'_>) -> Result<Tally> {
    let mut command = cargo(bench.site, ["doc", "--workspace", "--no-deps", "--locked"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    one(bench, "cargo doc", command).await
}
