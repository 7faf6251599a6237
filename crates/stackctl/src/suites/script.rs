//! Scripts that test a component from outside and close with `N passed, N failed`.

use std::time::Duration;

use anyhow::Result;
use tokio::process::Command;

use super::{Bench, Tally};
use crate::exec;
use crate::scenario::Check;
use crate::verify;

/// None of them needs longer.
const LIMIT: Duration = Duration::from_secs(600);

/// Lines of a failed script that the summary repeats.
const LINES: usize = 20;

/// Runs a script, shows what it found and counts each of its checks.
pub async fn run(bench: &Bench<'_>, tally: &mut Tally, what: &str, script: Command) -> Result<()> {
    let step = bench.progress.step(what);
    let output = match exec::capture(script, LIMIT).await {
        Ok(output) => output,
        Err(error) => {
            step.failed("not run");
            return Err(error);
        }
    };
    step.done("done");
    let mut last = None;
    for line in output.stdout.lines() {
        match closing(line) {
            Some(found) => last = Some(found),
            None => bench.progress.line(format!("  {line}")),
        }
    }
    let Some(found) = last else {
        bench.check(tally, &verify::check(what, Err(anyhow::anyhow!(output.last_line()))));
        return Ok(());
    };
    let passed = found.failed == 0 && output.ok();
    let detail = format!("{} passed, {} failed", found.passed, found.failed);
    let line = verify::line(&Check { what: what.to_owned(), passed, detail });
    bench.progress.line(&line);
    if !passed {
        // A script says `ok` before what holds.
        let said: Vec<&str> = output.stdout.lines().filter(|line| !line.trim_start().starts_with("ok")).collect();
        let said = &said[said.len().saturating_sub(LINES)..];
        bench.remember(format!("{line}\n{}\n{}", said.join("\n"), output.stderr.trim_end()));
    }
    tally.add(found);
    // It broke off between two checks.
    if !output.ok() && found.failed == 0 {
        tally.count(false);
    }
    Ok(())
}

/// `N passed, N failed`.
fn closing(line: &str) -> Option<Tally> {
    let (passed, failed) = line.trim().strip_suffix(" failed")?.split_once(" passed, ")?;
    Some(Tally { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_closing_line_of_a_script() {
        assert_eq!(closing("31 passed, 2 failed"), Some(Tally { passed: 31, failed: 2 }));
        assert_eq!(closing("FAILED route"), None);
    }
}
