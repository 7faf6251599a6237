//! A short run of every fuzz target, from the committed corpus on: `fuzz/run`.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use super::{Bench, Tally};
use crate::daemon;
use crate::exec;

/// Seconds of each target.
const SECONDS: &str = "30";

/// Builds the targets, of which only our own crates are compiled once more, and runs each for a while.
pub async fn run(bench: &Bench<'_>) -> Result<Tally> {
    if exec::which("c++").is_none() {
        let step = bench.progress.step("a C++ compiler");
        match daemon::apt_install(bench.site, &["g++"], "g++").await {
            Ok(()) => step.done("installed"),
            Err(error) => {
                step.failed("not available");
                return Err(error);
            }
        }
    }
    let step = bench.progress.step("fuzz/run");
    let report = step.reporter();
    let found = Arc::new(Mutex::new(Vec::new()));
    let sink = found.clone();
    let mut command = exec::command(&bench.site.root.join("fuzz/run").to_string_lossy(), [SECONDS]);
    command.current_dir(&bench.site.root).env("CARGO_TARGET_DIR", bench.site.cargo_target());
    command.env("CARGO_TERM_COLOR", "never");
    let result = exec::logged(command, &bench.site.logs().join("test-fuzz.log"), move |line| {
        report(line);
        if let Some(verdict) = verdict(line) {
            sink.lock().unwrap_or_else(PoisonError::into_inner).push((line.to_owned(), verdict));
        }
    })
    .await;
    let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    let mut tally = Tally::default();
    for (line, passed) in found {
        tally.count(passed);
        if passed {
            bench.progress.line(format!("  {line}"));
        } else {
            bench.failed(line);
        }
    }
    match result {
        Ok(()) => step.done("nothing found"),
        Err(error) => {
            step.failed("failed");
            bench.failed(format!("{error:#}"));
            // What does not compile has no target that could have failed.
            if tally.failed == 0 {
                tally.count(false);
            }
        }
    }
    Ok(tally)
}

/// `fuzz NAME: ok, …`, and anything else instead of the `ok`.
fn verdict(line: &str) -> Option<bool> {
    let (name, said) = line.strip_prefix("fuzz ")?.split_once(": ")?;
    (!name.contains(' ')).then(|| said == "ok" || said.starts_with("ok,"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_target_came_to() {
        assert_eq!(verdict("fuzz webhook: ok, 120000 runs, 900 of 4000 edges"), Some(true));
        assert_eq!(verdict("fuzz policy: FAILED, see fuzz/artifacts/policy"), Some(false));
        assert_eq!(verdict("fuzzing is fun: ok"), None);
    }
}
