//! Each alert is tested at both speeds, explained by a runbook and shown by a dashboard.

use std::collections::{BTreeMap, BTreeSet};

use rulegen::{AlertSource, Project, State};

use crate::{read, root};

fn project() -> Project {
    Project::load(&root()).unwrap()
}

/// Alerts of Prometheus; promtool does not know `LogQL`.
fn prometheus_alerts(project: &Project) -> Vec<&AlertSource> {
    project.prometheus.iter().flat_map(|(_, file)| file.alerts()).collect()
}

#[test]
fn every_alert_is_tested_firing_resolved_and_negative() {
    let project = project();
    let mut wrong = Vec::new();
    for alert in prometheus_alerts(&project) {
        let cases: Vec<_> = project
            .cases
            .iter()
            .flat_map(|(_, file)| &file.cases)
            .filter(|case| case.alert.as_ref() == Some(&alert.alert))
            .collect();
        let name = &alert.alert;
        if !cases.iter().any(|case| case.reaches(State::Firing)) {
            wrong.push(format!("{name} never fires"));
        }
        // It fires always: nothing resolves it, nothing holds it back.
        if name == "Watchdog" {
            continue;
        }
        if !cases.iter().any(|case| case.resolves()) {
            wrong.push(format!("{name} never resolves"));
        }
        if alert.pending.is_some() && !cases.iter().any(|case| case.reaches(State::Pending)) {
            wrong.push(format!("{name} is never pending"));
        }
        let negative = |case: &&&rulegen::Case| !case.reaches(State::Firing) && case.reaches(State::Inactive);
        if !cases.iter().any(|case| negative(&case)) {
            wrong.push(format!("{name} has no case in which it must stay quiet"));
        }
        let about_absence = ["absent(", "unless", "vector(0)) == 0"].iter().any(|word| alert.expr.contains(word));
        if about_absence && !cases.iter().any(|case| case.has_absence()) {
            wrong.push(format!("{name} is about absence and has no case with an absent series"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_alert_has_a_runbook_with_all_its_sections() {
    for (_, alert) in project().alerts() {
        let text = read(format!("docs/runbooks/{}.md", alert.alert));
        assert!(text.starts_with(&format!("# {}\n", alert.alert)), "{}", alert.alert);
        for section in ["Meaning", "Impact", "What the bot does", "Diagnose", "Fix", "False positives"] {
            let body = text.split(&format!("\n## {section}\n")).nth(1).unwrap_or_default();
            let body = body.split("\n## ").next().unwrap_or_default().trim();
            assert!(body.len() > 10, "{}: section {section} is empty", alert.alert);
        }
        assert!(
            text.contains(&format!("Severity **{}**", alert.severity)),
            "{}: the page names another severity than {}",
            alert.alert,
            alert.severity
        );
    }
}

#[test]
fn no_runbook_is_left_without_its_alert_and_links_between_them_hold() {
    let project = project();
    let alerts: BTreeSet<_> = project.alerts().map(|(_, alert)| alert.alert.as_str()).collect();
    let index = read("docs/runbooks/README.md");
    for path in crate::files("docs/runbooks", "md") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name != "README" {
            assert!(alerts.contains(name.as_str()), "{name}.md has no alert");
            assert!(index.contains(&format!("({name}.md)")), "README.md does not list {name}");
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("http") {
                continue;
            }
            let file = path.parent().unwrap().join(target);
            assert!(file.exists(), "{name}.md links to {target}, which does not exist");
        }
    }
}

#[test]
fn every_alert_leads_to_a_dashboard_that_exists_with_variables_that_it_has() {
    let dashboards: BTreeMap<String, BTreeSet<String>> = crate::dashboards::load()
        .into_iter()
        .map(|(_, dashboard)| {
            let uid = dashboard["uid"].as_str().unwrap().to_owned();
            let variables = dashboard["templating"]["list"].as_array().unwrap();
            let names = variables.iter().map(|v| v["name"].as_str().unwrap().to_owned());
            (uid, names.collect())
        })
        .collect();
    for (_, alert) in project().alerts() {
        let variables = dashboards
            .get(&alert.dashboard)
            .unwrap_or_else(|| panic!("{}: there is no dashboard `{}`", alert.alert, alert.dashboard));
        for name in alert.variables.keys() {
            assert!(variables.contains(name), "{}: `{}` has no variable `{name}`", alert.alert, alert.dashboard);
        }
    }
}

#[test]
fn expressions_avoid_the_known_traps() {
    let project = project();
    for alert in prometheus_alerts(&project) {
        let name = &alert.alert;
        let expr = alert.expr.as_str();
        // A window that looks back is patient already; a `for` on top doubles the wait.
        let looks_back = ["avg_over_time(", "max_over_time(", "changes(", "increase("]
            .iter()
            .any(|function| expr.contains(function));
        let only_floor = expr.contains("and on (service) sum by (service) (increase(");
        assert!(
            !(looks_back && alert.pending.is_some()) || only_floor,
            "{name}: a window that looks back, with `for` on top"
        );
        // Division by something that can be zero makes NaN or +Inf.
        for denominator in expr.split(" / ").skip(1) {
            let guarded =
                denominator.trim_start().starts_with('(') || denominator.trim_start().starts_with("on (sloth_id)");
            assert!(guarded, "{name}: the denominator is not guarded by `> 0`: {denominator}");
        }
        assert!(!expr.contains(") or rate("), "{name}: `rate(a) or rate(b)` hides b wherever a exists");
    }
}

#[test]
fn every_alert_has_a_rule_in_the_healing_policy() {
    let policy = read("healing/policy.yaml");
    for (_, alert) in project().alerts() {
        let named = policy.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == alert.alert);
        assert!(named, "healing/policy.yaml does not say what to do about {}", alert.alert);
    }
}

#[test]
fn every_slo_belongs_to_a_service_of_the_compose_file() {
    let compose = read("docker-compose.yml");
    for (source, file) in &project().slos {
        assert!(compose.contains(&format!("\n  {}:\n", file.service)), "{}: no such service", source.path);
        assert_eq!(source.path, format!("slo/{}.yaml", file.service));
    }
}
