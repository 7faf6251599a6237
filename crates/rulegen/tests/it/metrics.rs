//! `docs/metrics.md` is the list of what exists: rules and dashboards use nothing else.

use std::collections::BTreeSet;

use rulegen::{Project, RuleSource, promql};

use crate::{read, root};

/// Name and type of every metric that the page declares.
pub fn declared() -> Vec<(String, String)> {
    read("docs/metrics.md")
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|');
            let name = cells.next()?.trim().trim_end_matches('`').to_owned();
            Some((name, cells.next()?.trim().to_owned()))
        })
        .collect()
}

fn is_declared(declared: &[(String, String)], name: &str) -> bool {
    declared.iter().any(|(known, kind)| known == name || (kind == "histogram" && known == promql::family(name)))
}

/// Names that an expression uses and the page does not declare.
pub fn undeclared(expr: &str) -> Vec<String> {
    let declared = declared();
    promql::metric_names(expr).into_iter().filter(|name| !is_declared(&declared, name)).collect()
}

#[test]
fn the_page_is_well_formed() {
    let declared = declared();
    assert!(declared.len() > 100, "only {} metrics were found on the page", declared.len());
    let mut seen = BTreeSet::new();
    for (name, kind) in &declared {
        assert!(seen.insert(name), "{name} stands twice on the page");
        assert!(["counter", "gauge", "histogram"].contains(&kind.as_str()), "{name} is a `{kind}`");
        // What our own services count ends in _total; exporters have their own habits.
        if name.ends_with("_total") {
            assert_eq!(kind, "counter", "{name}");
        }
    }
}

#[test]
fn rules_and_slos_use_declared_metrics_only() {
    let project = Project::load(&root()).unwrap();
    let mut wrong = Vec::new();
    for (source, file) in &project.prometheus {
        for rule in file.groups.iter().flat_map(|group| &group.rules) {
            let (name, expr) = match rule {
                RuleSource::Record(record) => (&record.record, &record.expr),
                RuleSource::Alert(alert) => (&alert.alert, &alert.expr),
            };
            for metric in undeclared(expr) {
                wrong.push(format!("{}: {name} uses {metric}", source.path));
            }
        }
    }
    for (source, file) in &project.slos {
        for slo in &file.slos {
            for metric in [&slo.sli.errors, &slo.sli.total].into_iter().flat_map(|e| undeclared(e)) {
                wrong.push(format!("{}: {} uses {metric}", source.path, slo.name));
            }
        }
    }
    assert!(wrong.is_empty(), "not in docs/metrics.md:\n{}", wrong.join("\n"));
}

#[test]
fn everything_recorded_is_declared() {
    let declared = declared();
    for path in crate::files("prometheus/rules/demo", "yaml") {
        let text = std::fs::read_to_string(&path).unwrap();
        for name in text.lines().filter_map(|line| line.trim_start_matches(['-', ' ']).strip_prefix("record: ")) {
            assert!(declared.iter().any(|(known, _)| known == name), "docs/metrics.md does not have {name}");
        }
    }
}
