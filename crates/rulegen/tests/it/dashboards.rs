//! The dashboards as Grafana will read them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;

/// All dashboards with their files.
pub fn load() -> Vec<(PathBuf, Value)> {
    crate::files("grafana/dashboards", "json")
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            (path, value)
        })
        .collect()
}

fn panels(dashboard: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        found.push(panel);
        found.extend(panel["panels"].as_array().into_iter().flatten());
    }
    found
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn variables(dashboard: &Value) -> BTreeSet<&str> {
    dashboard["templating"]["list"].as_array().unwrap().iter().map(|v| text(v, "name")).collect()
}

/// Runs a check for every panel that shows something; names dashboard and panel when it fails.
fn each_panel(mut check: impl FnMut(&Value, &Value) -> Result<(), String>) {
    let mut wrong = Vec::new();
    for (_, dashboard) in load() {
        for panel in panels(&dashboard) {
            if text(panel, "type") == "row" {
                continue;
            }
            if let Err(message) = check(&dashboard, panel) {
                wrong.push(format!("{} / {}: {message}", text(&dashboard, "uid"), text(panel, "title")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn ensure(condition: bool, message: &str) -> Result<(), String> {
    if condition { Ok(()) } else { Err(message.to_owned()) }
}

#[test]
fn the_five_dashboards_are_there_with_unique_uids_and_titles() {
    let dashboards = load();
    let uids: BTreeSet<_> = dashboards.iter().map(|(_, d)| text(d, "uid").to_owned()).collect();
    let titles: BTreeSet<_> = dashboards.iter().map(|(_, d)| text(d, "title").to_owned()).collect();
    assert_eq!(uids.len(), dashboards.len(), "a uid is used twice");
    assert_eq!(titles.len(), dashboards.len(), "a title is used twice");
    for uid in ["overview", "operations-esg", "transaction-api", "infrastructure", "self-healing"] {
        assert!(uids.contains(uid), "there is no dashboard {uid}");
    }
    for (path, dashboard) in &dashboards {
        assert_eq!(path.file_stem().unwrap().to_str().unwrap(), text(dashboard, "uid"));
        assert!(dashboard.get("dashboard").is_none(), "provisioned dashboards are not wrapped");
        assert!(dashboard["id"].is_null(), "an id would clash with another Grafana's");
        assert!(!text(dashboard, "description").is_empty(), "{}", path.display());
    }
}

#[test]
fn every_folder_is_provisioned() {
    let provisioned = crate::read("grafana/provisioning/dashboards/dashboards.yaml");
    for (path, _) in load() {
        let folder = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
        assert!(provisioned.contains(&format!("path: /etc/grafana/dashboards/{folder}}}")), "{folder}");
    }
}

#[test]
fn every_panel_says_what_it_shows() {
    each_panel(|_, panel| {
        ensure(!text(panel, "title").is_empty(), "no title")?;
        ensure(text(panel, "description").len() > 15, "no description")?;
        let defaults = &panel["fieldConfig"]["defaults"];
        ensure(!text(defaults, "unit").is_empty(), "no unit")?;
        ensure(!text(defaults, "noValue").is_empty(), "does not say what having no value means")?;
        ensure(!defaults["thresholds"].is_null(), "no thresholds")
    });
}

#[test]
fn titles_are_unique_within_a_dashboard() {
    let mut seen = BTreeMap::new();
    each_panel(|dashboard, panel| {
        let key = (
            text(dashboard, "uid").to_owned(),
            text(panel, "title").to_owned(),
            panel["fieldConfig"]["defaults"]["unit"].to_string(),
        );
        let count = seen.entry(key).or_insert(0);
        *count += 1;
        ensure(*count <= 2, "the title is used too often")
    });
}

#[test]
fn datasources_are_chosen_by_a_variable() {
    each_panel(|dashboard, panel| {
        let variables = variables(dashboard);
        let targets = panel["targets"].as_array().into_iter().flatten();
        for source in std::iter::once(panel).chain(targets).map(|holder| &holder["datasource"]) {
            let uid = text(source, "uid");
            let name = uid.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
            let name = name.ok_or_else(|| format!("the datasource `{uid}` is not a variable"))?;
            ensure(variables.contains(name), "the datasource's variable is not declared")?;
        }
        Ok(())
    });
}

#[test]
fn panels_have_unique_ids_and_do_not_overlap() {
    for (path, dashboard) in load() {
        let panels = panels(&dashboard);
        let ids: BTreeSet<_> = panels.iter().map(|p| p["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len(), "{}", path.display());
        let mut taken = BTreeSet::new();
        for panel in panels {
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{}: {}", path.display(), text(panel, "title"));
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{}: `{}` overlaps", path.display(), text(panel, "title"));
                }
            }
        }
    }
}

/// Expressions of Prometheus in panels, variables and annotations.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for panel in panels(dashboard) {
        if text(&panel["datasource"], "type") != "prometheus" {
            continue;
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push((text(panel, "title").to_owned(), text(target, "expr").to_owned()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let query = variable["query"]["query"].as_str().unwrap_or_default();
        if let Some(arguments) = query.strip_prefix("label_values(") {
            let (metric, _) = arguments.rsplit_once(',').unwrap();
            found.push((format!("variable {}", text(variable, "name")), metric.to_owned()));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        if let Some(expr) = annotation["expr"].as_str() {
            found.push((format!("annotation {}", text(annotation, "name")), expr.to_owned()));
        }
    }
    found
}

#[test]
fn queries_use_declared_metrics_and_declared_variables() {
    let mut wrong = Vec::new();
    for (_, dashboard) in load() {
        let uid = text(&dashboard, "uid");
        let variables = variables(&dashboard);
        for (place, expr) in expressions(&dashboard) {
            for metric in crate::metrics::undeclared(&expr) {
                wrong.push(format!("{uid} / {place}: {metric} is not in docs/metrics.md"));
            }
            for name in expr.split('$').skip(1) {
                let name = name.trim_start_matches('{');
                let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
                let name = &name[..end];
                if !name.starts_with("__") && !variables.contains(name) {
                    wrong.push(format!("{uid} / {place}: there is no variable ${name}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rates_follow_the_scrape_interval() {
    for (_, dashboard) in load() {
        for (place, expr) in expressions(&dashboard) {
            for window in expr.split("rate(").skip(1).filter_map(|rest| rest.split('[').nth(1)) {
                assert!(
                    window.starts_with("$__rate_interval]") || window.starts_with("$__range]"),
                    "{} / {place}: {expr}",
                    text(&dashboard, "uid")
                );
            }
        }
    }
}

#[test]
fn links_between_dashboards_keep_the_time_and_lead_somewhere() {
    let uids: BTreeSet<String> = load().iter().map(|(_, d)| text(d, "uid").to_owned()).collect();
    for (path, dashboard) in load() {
        let links = dashboard["links"].as_array().unwrap();
        assert!(
            links.iter().any(|l| l["type"] == "dashboards" && l["keepTime"] == true),
            "{}: no links to the other dashboards",
            path.display()
        );
        let all = dashboard.to_string();
        for rest in all.split("\"/d/").skip(1) {
            let url = rest.split('"').next().unwrap();
            let uid = url.split(['?', '/']).next().unwrap();
            assert!(uids.contains(uid), "{}: link to {uid}", path.display());
            assert!(url.contains("${__url_time_range}"), "{}: the link {url} forgets the time", path.display());
        }
    }
}

#[test]
fn repairs_are_marked_on_every_dashboard() {
    for (path, dashboard) in load() {
        let annotations = dashboard["annotations"]["list"].as_array().unwrap();
        let repairs = annotations.iter().any(|a| a["target"]["tags"][0] == "remediation" && a["enable"] == true);
        assert!(repairs, "{}", path.display());
    }
}

#[test]
fn the_promised_queries_are_on_the_dashboards() {
    let expressions: Vec<String> = load().iter().flat_map(|(_, d)| expressions(d)).map(|(_, e)| e).collect();
    let squeezed = |expr: &str| expr.replace(r#"{site=~"$site", machine_id=~"$machine"}"#, "");
    for promised in [
        "esg_energy_kwh_total * 0.4",
        "sum(esg_energy_kwh_total)",
        "machine_temperature",
        "avg_over_time(machine_status[1h]) * 100",
    ] {
        assert!(expressions.iter().any(|e| squeezed(e) == promised), "no panel asks for {promised}");
    }
    for (_, dashboard) in load() {
        for panel in panels(&dashboard) {
            let title = text(panel, "title");
            let unit = text(&panel["fieldConfig"]["defaults"], "unit");
            let machine = title == "Temperature" && panel.to_string().contains("machine_temperature");
            if machine && unit == "celsius" {
                let steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array().unwrap();
                assert!(steps.iter().any(|s| s["value"] == 90 && s["color"] == "red"), "no red line at 90 °C");
            }
        }
    }
}

#[test]
fn datasources_have_the_agreed_uids_and_links() {
    let text = crate::read("grafana/provisioning/datasources/datasources.yaml");
    let document: Value = serde_yaml_ng::from_str(&text).unwrap();
    let sources = document["datasources"].as_array().unwrap();
    let find = |uid: &str| sources.iter().find(|s| s["uid"] == uid).unwrap_or_else(|| panic!("no datasource {uid}"));
    for uid in ["prometheus", "loki", "tempo", "jaeger", "alertmanager"] {
        assert!(!find(uid)["editable"].as_bool().unwrap(), "{uid}");
    }
    let prometheus = &find("prometheus")["jsonData"];
    assert_eq!(prometheus["timeInterval"], "5s");
    assert_eq!(prometheus["exemplarTraceIdDestinations"][0]["datasourceUid"], "tempo");
    assert_eq!(find("loki")["jsonData"]["derivedFields"][0]["matcherType"], "label");
    let tempo = &find("tempo")["jsonData"];
    assert_eq!(tempo["tracesToLogsV2"]["datasourceUid"], "loki");
    assert_eq!(tempo["tracesToMetrics"]["datasourceUid"], "prometheus");
    assert_eq!(tempo["serviceMap"]["datasourceUid"], "prometheus");
    assert_eq!(tempo["nodeGraph"]["enabled"], true);
    // What tracesToMetrics asks for is recorded.
    for query in tempo["tracesToMetrics"]["queries"].as_array().unwrap() {
        let expr = query["query"].as_str().unwrap().replace("{$$__tags}", "");
        assert_eq!(crate::metrics::undeclared(&expr), Vec::<String>::new());
    }
}
