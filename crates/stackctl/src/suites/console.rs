//! The incident console in a real Chromium, on a real alert-bot and real containers.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::cargo::cargo;
use super::{Bench, Tally, script};
use crate::daemon;
use crate::exec;

const FOLDER: &str = "crates/alert-bot/console/tests";

/// Builds the bot, installs the browser and the packages of the test where they are missing, and runs it.
pub async fn run(bench: &Bench<'_>) -> Result<Tally> {
    let browser = browser(bench).await?;
    daemon::ensure(bench.site, &bench.progress).await?;
    let base = bench.obtain.base_image().await?;
    let step = bench.progress.step("alert-bot and the packages of the test");
    // All of it, as the suite `tests` has compiled it: of one package alone the features would differ.
    let args = ["build", "--locked", "--workspace", "--bins", "--examples"];
    exec::logged(cargo(bench.site, args), &bench.site.logs().join("test-console-build.log"), |_| {}).await?;
    let folder = bench.site.root.join(FOLDER);
    let mut install = exec::command("npm", ["ci", "--no-audit", "--no-fund"]);
    install.current_dir(&folder);
    exec::logged(install, &bench.site.logs().join("test-console-npm.log"), |_| {})
        .await
        .context("the test of the console needs Node 20 with npm")?;
    step.done("ready");
    let mut test = exec::command("node", ["console.mjs"]);
    test.current_dir(&folder)
        .env("CARGO_TARGET_DIR", bench.site.cargo_target())
        .env("CHROMIUM", browser)
        .env("CONSOLE_DOCKER_IMAGE", base);
    let mut tally = Tally::default();
    script::run(bench, &mut tally, "the console in Chromium", test).await?;
    Ok(tally)
}

async fn browser(bench: &Bench<'_>) -> Result<PathBuf> {
    let step = bench.progress.step("chromium");
    if let Some(found) = exec::which("chromium") {
        step.done("present");
        return Ok(found);
    }
    step.detail("installing");
    match daemon::apt_install(bench.site, &["chromium"], "chromium").await {
        Ok(()) => step.done("installed"),
        Err(error) => {
            step.failed("not available");
            return Err(error);
        }
    }
    exec::which("chromium").context("chromium is not on the PATH")
}
