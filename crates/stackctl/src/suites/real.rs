//! Unit and integration tests: `cargo test` with the components of `deploy/test` running.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};

use super::cargo::{cargo, step};
use super::{Bench, Tally};
use crate::compose::ComposeFile;
use crate::docker::{Compose, docker};
use crate::dotenv::Vars;
use crate::exec;
use crate::ports;

/// Where the components are.
pub const COMPONENTS: &str = "deploy/test/docker-compose.yml";
/// Compose project of the components.
const PROJECT: &str = "selfheal-test";

/// Starts the components, runs all tests, and takes the components away unless they were there before.
pub async fn run(bench: &Bench<'_>) -> Result<Tally> {
    // Compiled first: images may still be on their way.
    step(bench, "compile the tests", cargo(bench.site, ALL.into_iter().chain(["--no-run"]))).await?;
    let file = bench.site.root.join(COMPONENTS);
    let compose_file = ComposeFile::load(&file)?;
    let variables = bench.image_variables(&compose_file);
    let mut vars = bench.images(&variables).await?;
    if let Some(missing) = variables.iter().find(|name| !vars.contains_key(*name)) {
        bail!("{missing} cannot be had here, and the integration tests need it");
    }
    let base = bench.obtain.base_image().await;
    let before = Compose::other(&bench.site.root, file.clone(), PROJECT, vars.clone());
    let running = before.containers().await?;
    let ours: BTreeSet<u16> = running.iter().flat_map(|container| container.ports.clone()).collect();
    let wanted = ComposeFile::wanted_ports(&compose_file.services, &Vars::new());
    let chosen = ports::choose(&wanted, &BTreeMap::new(), &ours, ports::is_free);
    vars.extend(chosen.iter().map(|(name, port)| (name.clone(), port.chosen.to_string())));
    let compose = Compose::other(&bench.site.root, file, PROJECT, vars);

    let step = bench.progress.step("start the components");
    let up = compose.command(["up", "--detach", "--wait", "--wait-timeout", "120"]);
    if let Err(error) = exec::logged(up, &bench.site.logs().join("test-components.log"), |_| {}).await {
        step.failed("not started");
        return Err(error);
    }
    step.done("ready");

    let port = |name: &str| chosen.get(name).map_or(0, |port| port.chosen);
    let address = |name: &str| format!("http://127.0.0.1:{}", port(name));
    let mut environment = vec![
        (
            "TEST_POSTGRES_URL",
            format!("postgres://postgres:postgres@127.0.0.1:{}/postgres", port("TEST_POSTGRES_PORT")),
        ),
        ("TEST_REDIS_URL", format!("redis://127.0.0.1:{}", port("TEST_REDIS_PORT"))),
        ("TEST_S3_ENDPOINT", address("TEST_LAKE_PORT")),
        ("TEST_S3_ACCESS_KEY", "test".into()),
        ("TEST_S3_SECRET_KEY", "testsecret".into()),
        ("TEST_PROMETHEUS_URL", address("TEST_PROMETHEUS_PORT")),
        ("TEST_ALERTMANAGER_URL", address("TEST_ALERTMANAGER_PORT")),
        ("TEST_LOKI_URL", address("TEST_LOKI_PORT")),
        ("TEST_MQTT_ADDR", format!("127.0.0.1:{}", port("TEST_MQTT_PORT"))),
    ];
    match base {
        Ok(base) => environment.push(("TEST_BASE_IMAGE", base)),
        Err(error) => bench.progress.line(format!("no base image for tests of containers: {error:#}")),
    }
    let tally = cargo_test(bench, environment).await;
    if running.is_empty() {
        let down = compose.command(["down", "--volumes"]);
        exec::capture(down, Duration::from_secs(120)).await?;
    }
    // Containers that a failed test left behind carry this label.
    let left =
        exec::stdout(docker(["ps", "-aq", "--filter", "label=selfheal.test=true"]), Duration::from_secs(30)).await?;
    for id in left.lines() {
        exec::capture(docker(["rm", "-f", "-v", id]), Duration::from_secs(60)).await?;
    }
    tally
}

/// Which tests.
const ALL: [&str; 4] = ["test", "--workspace", "--locked", "--no-fail-fast"];

async fn cargo_test(bench: &Bench<'_>, environment: Vec<(&'static str, String)>) -> Result<Tally> {
    let step = bench.progress.step("cargo test");
    let mut command = cargo(bench.site, ALL);
    // What failed is said in one line, of which the test is named.
    command.envs(environment).env("RUST_BACKTRACE", "0");
    let found = Arc::new(Mutex::new(Found::default()));
    let sink = found.clone();
    let report = step.reporter();
    let log = bench.site.logs().join("test-cargo.log");
    let result = exec::logged(command, &log, move |line| {
        report(line);
        sink.lock().unwrap_or_else(PoisonError::into_inner).line(line);
    })
    .await;
    let Found { mut tally, failures, .. } = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    if let Err(error) = result {
        step.failed("failed");
        for failure in failures {
            bench.failed(failure.join("\n"));
        }
        bench.failed(format!("{error:#}"));
        // What ends without a result counts as a failure.
        if tally.failed == 0 {
            tally.failed = 1;
        }
    } else {
        step.done("passed");
    }
    Ok(tally)
}

/// Lines of a failed test that are repeated; a test may print its whole log.
const LINES: usize = 40;

/// What cargo's test programs have said so far.
#[derive(Default)]
struct Found {
    tally: Tally,
    /// Each failed test: its name and the end of what it printed.
    failures: Vec<Vec<String>>,
    inside: bool,
}

impl Found {
    fn line(&mut self, line: &str) {
        if let Some(tally) = test_result(line) {
            self.tally.add(tally);
        } else if line.starts_with("---- ") && line.ends_with(" stdout ----") {
            self.failures.push(vec![line.to_owned()]);
            self.inside = true;
        } else if line == "failures:" {
            self.inside = false;
        } else if let Some(failure) = self.failures.last_mut().filter(|_| self.inside) {
            if failure.len() > LINES {
                failure.remove(1);
            }
            failure.push(line.to_owned());
        }
    }
}

/// `test result: ok. 12 passed; 0 failed; …`
fn test_result(line: &str) -> Option<Tally> {
    let rest = line.trim().strip_prefix("test result: ")?;
    let number = |word: &str| {
        rest.split([';', '.']).find_map(|part| part.trim().strip_suffix(word)?.trim().parse::<usize>().ok())
    };
    Some(Tally { passed: number("passed")?, failed: number("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_a_failed_test_said() {
        let mut found = Found::default();
        let said = [
            "test a::b ... FAILED",
            "failures:",
            "---- a::b stdout ----",
            "thread 'a::b' panicked at src/lib.rs:3:5:",
            "left: 1",
            "failures:",
            "    a::b",
            "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "     Running unittests src/lib.rs",
        ];
        said.iter().for_each(|line| found.line(line));
        assert_eq!(found.failures, [said[2..5].to_vec()]);
        assert_eq!(found.tally, Tally { passed: 0, failed: 1 });
    }

    #[test]
    fn reads_cargo_results() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(test_result(line), Some(Tally { passed: 12, failed: 3 }));
        assert_eq!(test_result("test a::b ... ok"), None);
    }
}
