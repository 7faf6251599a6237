//! Scenarios: break something on purpose, and check that the stack notices, acts and recovers.

pub mod judge;
mod run;
pub mod schema;

use anyhow::{Result, bail};
use console::style;
use serde_json::json;

use crate::cli::ScenarioCommand;
use crate::layout::{self, Table};
use crate::site::Site;
use crate::stack::Stack;

pub use judge::{Check, Report};
pub use run::execute;
pub use schema::Scenario;

/// Reads the scenarios of the work tree.
pub fn load(stack: &Stack) -> Result<Vec<Scenario>> {
    schema::load(&stack.site.root.join("scenarios"), |service| stack.file.service(service).is_some())
}

/// Runs `scenario`.
pub async fn run(site: &Site, command: ScenarioCommand) -> Result<u8> {
    site.prepare()?;
    let stack = Stack::attach(site).await?;
    let scenarios = load(&stack)?;
    match command {
        ScenarioCommand::List(args) => {
            list(&scenarios, args.json)?;
            Ok(0)
        }
        ScenarioCommand::Run { names, all, json } => {
            let chosen = choose(scenarios, &names, all)?;
            let mut reports = Vec::new();
            for scenario in &chosen {
                reports.push(execute(&stack, scenario, !json).await?);
            }
            if json {
                println!("{}", serde_json::to_string_pretty(&reports)?);
            } else {
                print!("\n{}", table(&reports).render(layout::width()));
            }
            Ok(u8::from(reports.iter().any(|report| !report.passed())))
        }
    }
}

fn choose(scenarios: Vec<Scenario>, names: &[String], all: bool) -> Result<Vec<Scenario>> {
    if all {
        return Ok(in_order(scenarios));
    }
    let find = |name: &String| scenarios.iter().find(|scenario| scenario.name == *name).cloned();
    if let Some(unknown) = names.iter().find(|name| find(name).is_none()) {
        let known: Vec<&str> = scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
        bail!("there is no scenario called {unknown}; there are {}", known.join(", "));
    }
    Ok(names.iter().filter_map(find).collect())
}

/// The strictest first: each action makes the alert-bot wait longer before the next on the same target, and
/// its budget for a target is finite. Outages, which may use some of it, come last.
pub fn in_order(mut scenarios: Vec<Scenario>) -> Vec<Scenario> {
    scenarios.sort_by_key(|scenario| match &scenario.expect.action {
        schema::ActionExpected::Do(wanted) => wanted.within.0,
        _ => std::time::Duration::MAX,
    });
    scenarios
}

fn list(scenarios: &[Scenario], as_json: bool) -> Result<()> {
    if as_json {
        let items: Vec<_> = scenarios
            .iter()
            .map(|s| json!({"name": s.name, "title": s.title, "description": s.description.trim()}))
            .collect();
        println!("{}", serde_json::to_string_pretty(&items)?);
        return Ok(());
    }
    let mut table = Table::new(["SCENARIO", "WHAT"]);
    for scenario in scenarios {
        table.row([scenario.name.clone(), scenario.title.clone()]);
    }
    print!("{}", table.render(layout::width()));
    Ok(())
}

/// Times and verdicts of several scenarios.
pub fn table(reports: &[Report]) -> Table {
    let mut table = Table::new(["SCENARIO", "DETECTED", "ACTED", "VERIFIED", "VERDICT", "RESULT"]);
    let seconds = |value: Option<f64>| value.map(|s| format!("{s:.0}s")).unwrap_or_else(|| "-".into());
    for report in reports {
        let result = if report.passed() { style("passed").green() } else { style("FAILED").red() };
        table.row([
            report.name.clone(),
            seconds(report.detected_seconds),
            seconds(report.acted_seconds),
            seconds(report.verified_seconds),
            report.verdict.clone().unwrap_or_else(|| "-".into()),
            result.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_readable_narrow_and_wide() {
        let report = |name: &str, passed| Report {
            name: name.into(),
            title: String::new(),
            detected_seconds: Some(21.4),
            acted_seconds: Some(23.0),
            verified_seconds: None,
            verdict: Some("healed".into()),
            load: None,
            checks: vec![Check { what: "x".into(), passed, detail: String::new() }],
        };
        let table = table(&[report("high-error-rate", true), report("postgres-outage", false)]);
        insta::assert_snapshot!(format!("{}\n{}", table.render(100), table.render(60)));
    }

    /// The scenarios that are shipped are valid and speak of services that exist.
    #[test]
    fn shipped_scenarios_are_valid() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let file = crate::compose::ComposeFile::load(&root.join("docker-compose.yml")).unwrap();
        let scenarios = schema::load(&root.join("scenarios"), |name| file.service(name).is_some()).unwrap();
        let names: Vec<&str> = scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
        for wanted in ["high-error-rate", "high-latency", "container-killed", "readme-curl-loop", "postgres-outage"] {
            assert!(names.contains(&wanted), "{wanted} is missing");
        }
    }
}
