//! Scenarios: break something on purpose, and check that the stack notices, acts and recovers.

pub mod containers;
mod events;
pub mod judge;
pub mod parameters;
mod perform;
mod plant;
pub mod release;
mod run;
pub mod schema;
pub mod step;
pub mod value;

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use console::style;
use serde_json::{Value, json};

use crate::cli::ScenarioCommand;
use crate::layout::{self, Table};
use crate::site::Site;
use crate::stack::Stack;

pub use judge::{Check, Report};
pub use parameters::Given;
pub use run::{Manner, execute};
pub use schema::Scenario;

/// Reads the scenarios of the work tree.
pub fn load(stack: &Stack, given: &Given) -> Result<Vec<Scenario>> {
    schema::load(&stack.site.root.join("scenarios"), given, |service| stack.file.service(service).is_some())
}

/// Runs `scenario`.
pub async fn run(site: &Site, command: ScenarioCommand) -> Result<u8> {
    site.prepare()?;
    let stack = Stack::attach(site).await?;
    match command {
        ScenarioCommand::List(args) => {
            let scenarios = load(&stack, &Given::default())?;
            if args.json {
                println!("{}", serde_json::to_string_pretty(&described(&scenarios))?);
            } else {
                print!("{}", list(&scenarios).render(layout::width()));
            }
            Ok(0)
        }
        ScenarioCommand::Run(args) => {
            let given = Given { quick: args.quick, set: args.set.into_iter().collect() };
            let mut chosen = choose(load(&stack, &given)?, &args.names, args.all)?;
            if args.all {
                let off = |scenario: &Scenario| {
                    scenario.profile.as_ref().filter(|p| !stack.state.profiles.contains(p)).cloned()
                };
                chosen.retain(|scenario| match off(scenario) {
                    Some(profile) if !args.json => {
                        println!("{} is left out: {}", scenario.name, profile_is_off(&profile));
                        false
                    }
                    off => off.is_none(),
                });
            }
            known_parameters(&chosen, &given)?;
            let manner = Manner { talk: !args.json, patience: args.patience, release: !args.no_release };
            let mut reports = Vec::new();
            for scenario in chosen.iter().flat_map(|scenario| (0..args.times).map(move |_| scenario)) {
                // One that cannot be carried out must not keep the others from being.
                let report = execute(&stack, scenario, manner).await;
                reports.push(report.unwrap_or_else(|error| not_carried_out(scenario, &error, manner.talk)));
            }
            if args.json {
                println!("{}", serde_json::to_string_pretty(&reports)?);
            } else {
                print!("\n{}", table(&reports).render(layout::width()));
            }
            Ok(u8::from(reports.iter().any(|report| !report.passed())))
        }
    }
}

/// What is missing for a scenario that needs a profile.
fn profile_is_off(profile: &str) -> String {
    format!("the profile {profile} is off; ./stack up --profile {profile} turns it on")
}

fn not_carried_out(scenario: &Scenario, error: &anyhow::Error, talk: bool) -> Report {
    let detail = format!("{error:#}");
    let check = Check { what: "it could be carried out".into(), passed: false, detail };
    let report =
        Report { name: scenario.name.clone(), title: scenario.title.clone(), checks: vec![check], ..Report::default() };
    if talk {
        print!("{}", checks(&report, layout::width()));
    }
    report
}

fn choose(scenarios: Vec<Scenario>, names: &[String], all: bool) -> Result<Vec<Scenario>> {
    if all {
        return Ok(in_order(scenarios.into_iter().filter(|scenario| scenario.by_name_only.is_none()).collect()));
    }
    let find = |name: &String| scenarios.iter().find(|scenario| scenario.name == *name).cloned();
    if let Some(unknown) = names.iter().find(|name| find(name).is_none()) {
        let known: Vec<&str> = scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
        bail!("there is no scenario called {unknown}; there are {}", known.join(", "));
    }
    Ok(names.iter().filter_map(find).collect())
}

/// A value that no chosen scenario takes is a mistake.
fn known_parameters(chosen: &[Scenario], given: &Given) -> Result<()> {
    let takes = |name: &String| chosen.iter().any(|scenario| scenario.parameters.contains_key(name));
    match given.set.keys().find(|name| !takes(name)) {
        Some(name) => bail!("--set {name}: none of the chosen scenarios has a parameter of this name"),
        None => Ok(()),
    }
}

/// The strictest first: each action makes the alert-bot wait longer before the next on the same target, and
/// its budget for a target is finite. Outages, which may use some of it, come last.
pub fn in_order(mut scenarios: Vec<Scenario>) -> Vec<Scenario> {
    scenarios.sort_by_key(|scenario| {
        let limits = scenario.expect.action.wanted().iter().map(|wanted| wanted.within.0);
        limits.min().unwrap_or(std::time::Duration::MAX)
    });
    scenarios
}

fn described(scenarios: &[Scenario]) -> Vec<Value> {
    let one = |s: &Scenario| {
        let parameters: BTreeMap<&String, Value> =
            s.parameters.iter().map(|(name, p)| (name, json!({"default": p.default, "quick": p.quick}))).collect();
        json!({
            "name": s.name, "title": s.title, "description": s.description.trim(),
            "parameters": parameters, "by_name_only": s.by_name_only, "profile": s.profile,
        })
    };
    scenarios.iter().map(one).collect()
}

fn list(scenarios: &[Scenario]) -> Table {
    let mut table = Table::new(["SCENARIO", "WHAT"]);
    for scenario in scenarios {
        let mut what = scenario.title.clone();
        for (name, parameter) in &scenario.parameters {
            what.push_str(&format!(" · {name}={}", parameter.default));
        }
        if let Some(profile) = &scenario.profile {
            what.push_str(&format!(" · with the profile {profile}"));
        }
        if scenario.by_name_only.is_some() {
            what.push_str(" · by name only");
        }
        table.row([scenario.name.clone(), what]);
    }
    table
}

/// Times and verdicts of several scenarios.
pub fn table(reports: &[Report]) -> Table {
    let mut table = Table::new(["SCENARIO", "DETECTED", "ACTED", "VERIFIED", "VERDICT", "RESULT"]);
    let seconds = |value: Option<f64>| value.map(|s| format!("{s:.0}s")).unwrap_or_else(|| "-".into());
    for report in reports {
        let result = if report.passed() { style("passed").green() } else { style("FAILED").red() };
        // Where nothing was to be done, the reason is what counts.
        let why = report.reasons.first().cloned().unwrap_or_else(|| "-".into());
        table.row([
            report.name.clone(),
            seconds(report.detected_seconds),
            seconds(report.acted_seconds),
            seconds(report.verified_seconds),
            report.verdict.clone().unwrap_or(why),
            result.to_string(),
        ]);
    }
    table
}

/// The expectations of one scenario, one after the other.
pub fn checks(report: &Report, width: usize) -> String {
    let line = |check: &Check| {
        let mark = if check.passed { style("✓").green() } else { style("✗").red() };
        layout::wrap(&format!("{mark} {}: {}", check.what, check.detail), width.saturating_sub(2), 2)
    };
    let lines = report.checks.iter().map(line).collect::<Vec<_>>().join("\n");
    lines.lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(name: &str, passed: bool) -> Report {
        let check = |what: &str, passed: bool, detail: &str| Check { what: what.into(), passed, detail: detail.into() };
        Report {
            name: name.into(),
            detected_seconds: Some(21.4),
            acted_seconds: Some(23.0),
            verdict: Some("healed".into()),
            checks: vec![
                check("ServiceDown of drift-inference fires within 1m 00s", true, "after 14s"),
                check(
                    "restart drift-inference, 1 × and nothing else",
                    passed,
                    "restart drift-inference, restart redis",
                ),
                check(
                    "HighErrorRate of transaction-api (if there is one) is held with cause_elsewhere or inhibited, \
                     ends covered or resolved",
                    true,
                    "there is no such incident",
                ),
            ],
            ..Report::default()
        }
    }

    #[test]
    fn the_table_is_readable_narrow_and_wide() {
        let held = Report {
            acted_seconds: None,
            verdict: None,
            reasons: vec!["target_budget_exhausted".into(), "hold".into()],
            ..report("bot-down-ten-minutes", true)
        };
        let table = table(&[report("crash-loop-after-deploy", true), report("postgres-outage", false), held]);
        for width in [80, 120] {
            let text = table.render(width);
            assert!(text.lines().all(|line| console::measure_text_width(line) <= width), "{text}");
        }
        insta::assert_snapshot!([120, 80, 60].map(|width| table.render(width)).join("\n"));
    }

    #[test]
    fn the_checks_are_readable_narrow_and_wide() {
        let text = [80, 120].map(|width| checks(&report("x", false), width));
        for (text, width) in text.iter().zip([80, 120]) {
            assert!(text.lines().all(|line| console::measure_text_width(line) <= width), "{text}");
        }
        insta::assert_snapshot!(text.join("\n"));
    }

    fn shipped(given: &Given) -> Vec<Scenario> {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let file = crate::compose::ComposeFile::load(&root.join("docker-compose.yml")).unwrap();
        schema::load(&root.join("scenarios"), given, |name| file.service(name).is_some()).unwrap()
    }

    /// The scenarios that are shipped are valid and speak of services that exist.
    #[test]
    fn shipped_scenarios_are_valid() {
        for given in [Given::default(), Given::quick()] {
            let scenarios = shipped(&given);
            assert!(scenarios.len() >= 10);
            for scenario in &scenarios {
                let name = &scenario.name;
                assert!(scenario.title.len() <= 90, "{name}: the title is too long for a line");
                assert!(!scenario.description.trim().is_empty(), "{name}");
                // What is broken and not healed by itself or the bot must be put right at the end.
                let steps: Vec<&step::Step> = scenario.steps.iter().flat_map(step::Step::flat).collect();
                for step in steps {
                    if let step::Step::Deploy(deploy) = step {
                        let undone = scenario
                            .cleanup
                            .iter()
                            .any(|s| matches!(s, step::Step::Redeploy(service) if *service == deploy.service));
                        assert!(undone, "{name} leaves {} as it deployed it", deploy.service);
                    }
                }
            }
        }
    }

    /// Each is told to users, and nothing is told that is not there.
    #[test]
    fn the_documentation_lists_every_scenario() {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/scenarios.md");
        let page = std::fs::read_to_string(page).unwrap();
        let listed = page.split("\n## ").find(|section| section.starts_with("What there is")).unwrap();
        let rows = listed.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let mut told: Vec<String> = rows.map(|(name, _)| name.to_owned()).collect();
        let there: Vec<String> = shipped(&Given::default()).into_iter().map(|scenario| scenario.name).collect();
        told.sort();
        assert_eq!(told, there);
    }

    #[test]
    fn all_leaves_out_what_is_run_by_name_only() {
        let mut scenarios = shipped(&Given::default());
        scenarios.truncate(2);
        scenarios[0].by_name_only = Some("it takes a day".into());
        let name = scenarios[0].name.clone();
        assert_eq!(choose(scenarios.clone(), &[], true).unwrap().len(), 1);
        assert_eq!(choose(scenarios.clone(), std::slice::from_ref(&name), false).unwrap()[0].name, name);
        let error = choose(scenarios, &["nonsense".into()], false).unwrap_err().to_string();
        assert!(error.contains(&name), "{error}");
    }

    #[test]
    fn a_value_for_nobody_is_a_mistake() {
        let given = Given { quick: false, set: BTreeMap::from([("nobodys".to_owned(), "1m".to_owned())]) };
        assert!(known_parameters(&shipped(&Given::default()), &given).is_err());
    }
}
