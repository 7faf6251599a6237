//! `./stack verify`: the running stack shows what it claims to show.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use console::style;
use futures::{StreamExt, stream};
use rand::RngExt;
use regex::Regex;
use serde_json::{Value, json};

use crate::api::Api;
use crate::layout;
use crate::scenario::Check;
use crate::site::Site;
use crate::stack::Stack;

/// Queries that must answer as they are written (S1.3, S3.8).
pub const PROMISED: &[&str] = &[
    "esg_energy_kwh_total * 0.4",
    "sum(esg_energy_kwh_total)",
    "machine_temperature",
    "avg_over_time(machine_status[1h]) * 100",
    "app_temperature_celsius",
    "sum(app_exceptions_total)",
];

/// A fresh stack needs this long until everything was scraped and stored once.
const SOON: Duration = Duration::from_secs(90);
/// Queries that run at once.
const AT_ONCE: usize = 4;

/// Runs `verify`; exit code 1 when a check fails.
pub async fn run(site: &Site, json: bool) -> Result<u8> {
    let stack = Stack::attach(site).await?;
    let checks = checks(&stack).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&checks)?);
    } else {
        for check in &checks {
            println!("{}", line(check));
        }
        let failed = checks.iter().filter(|check| !check.passed).count();
        println!("verify: {} passed, {failed} failed", checks.len() - failed);
    }
    Ok(u8::from(checks.iter().any(|check| !check.passed)))
}

/// One line for a person.
pub fn line(check: &Check) -> String {
    let mark = if check.passed { style("✓").green() } else { style("✗").red() };
    let detail = if check.detail.is_empty() { String::new() } else { format!(": {}", check.detail) };
    layout::wrap(&format!("{mark} {}{detail}", check.what), layout::width(), 4)
}

/// All checks.
pub async fn checks(stack: &Stack) -> Result<Vec<Check>> {
    let api = Api::new(stack)?;
    let mut checks = vec![targets(stack, &api).await, rules(&api).await];
    checks.extend(promised(&api).await);
    checks.extend(datasources(stack, &api).await);
    checks.push(planted(stack, &api).await);
    checks.extend(panels(stack, &api).await?);
    Ok(checks)
}

/// A check from a result: the text is the detail either way.
pub fn check(what: impl Into<String>, result: Result<String>) -> Check {
    let (passed, detail) = match result {
        Ok(detail) => (true, detail),
        Err(error) => (false, format!("{error:#}")),
    };
    Check { what: what.into(), passed, detail }
}

/// Asks again until the answer is good or the time is up.
pub async fn eventually<F, Fut>(limit: Duration, mut ask: F) -> Result<String>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<String>>,
{
    let deadline = Instant::now() + limit;
    loop {
        match ask().await {
            Ok(detail) => return Ok(detail),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn targets(stack: &Stack, api: &Api) -> Check {
    let labelled = |s: &&crate::compose::Service| s.labels.get("prometheus.scrape").is_some_and(|v| v == "true");
    let started = |name: &str| stack.state.services.is_empty() || stack.state.services.iter().any(|s| s == name);
    let wanted: Vec<String> =
        stack.selected().into_iter().filter(labelled).map(|s| s.name.clone()).filter(|name| started(name)).collect();
    let result = eventually(SOON, || async {
        let targets = api.targets().await?;
        let absent: Vec<&String> =
            wanted.iter().filter(|name| !targets.iter().any(|t| t.labels.get("service") == Some(*name))).collect();
        anyhow::ensure!(absent.is_empty(), "not discovered: {absent:?}");
        let running = |target: &&crate::api::Target| {
            let service = target.labels.get("service").map_or("", String::as_str);
            // Probes of services that were left out on purpose have nothing to reach.
            stack.file.service(service).is_none() || started(service) && !stack.state.is_left_out(service)
        };
        let down: Vec<String> = targets
            .iter()
            .filter(running)
            .filter(|target| target.health != "up")
            .map(|t| format!("{} ({})", t.labels.get("instance").map_or("?", String::as_str), t.last_error))
            .collect();
        anyhow::ensure!(down.is_empty(), "{}", down.join(", "));
        Ok(format!("{} targets", targets.iter().filter(running).count()))
    });
    check("every scrape target is up", result.await)
}

async fn rules(api: &Api) -> Check {
    let result = eventually(SOON, || async {
        let rules = api.rules().await?;
        anyhow::ensure!(!rules.is_empty(), "there are no rules");
        let sick: Vec<String> = rules
            .iter()
            .filter(|r| r.health != "ok")
            .map(|r| format!("{} ({} {})", r.name, r.health, r.last_error))
            .collect();
        anyhow::ensure!(sick.is_empty(), "{}", sick.join(", "));
        Ok(format!("{} rules", rules.len()))
    });
    check("every rule is healthy", result.await)
}

async fn promised(api: &Api) -> Vec<Check> {
    let mut checks = Vec::new();
    for query in PROMISED {
        let result = eventually(SOON, || async {
            let found = api.query(query).await?;
            anyhow::ensure!(!found.is_empty(), "no data");
            Ok(format!("{} series, first {}", found.len(), found[0].value))
        });
        checks.push(check(format!("query {query}"), result.await));
    }
    checks
}

/// Every data source that is provisioned and whose service runs answers a question of its kind.
async fn datasources(stack: &Stack, api: &Api) -> Vec<Check> {
    let runs = |name: &str| stack.selected().iter().any(|service| service.name == name);
    let mut checks = Vec::new();
    let questions = [
        ("prometheus", "/api/v1/labels"),
        ("alertmanager", "/api/v2/status"),
        ("loki", "/loki/api/v1/labels"),
        ("tempo", "/api/search/tags"),
        ("jaeger", "/jaeger/api/services"),
    ];
    for (service, path) in questions.into_iter().filter(|(service, _)| runs(service)) {
        let result = async {
            let answer: Value = api.get(service, path, &[]).await?;
            anyhow::ensure!(!answer.is_null(), "an empty answer");
            Ok(String::new())
        };
        checks.push(check(format!("data source {service} answers"), result.await));
    }
    checks
}

/// One request with a known trace id and a planted address: found as log and trace, the address nowhere.
async fn planted(stack: &Stack, api: &Api) -> Check {
    let runs = |name: &str| stack.selected().iter().any(|service| service.name == name);
    let what = "a request with a known traceparent is found in logs and traces, its e-mail address nowhere";
    if !runs("loki") || stack.state.only_core {
        return check(what, Ok("skipped: logs and traces are not started".into()));
    }
    let result = async {
        let (trace, span) = (hex(32), hex(16));
        let address = format!("planted.{}@example.org", &span[..8]);
        let url = format!("{}/transactions/create", api.url("transaction-api")?);
        let body = json!({"amount": 1234, "currency": "EUR", "description": format!("call me at {address}")});
        let request = api.http().post(url).header("traceparent", format!("00-{trace}-{span}-01")).json(&body);
        let status = request.send().await.context("transaction-api cannot be reached")?.status();
        anyhow::ensure!(status.is_success(), "the API answered {status}");
        let logs = eventually(SOON, || async {
            let query = format!(r#"{{service_name="transaction-api"}} | trace_id="{trace}""#);
            let lines = api.log_lines(&query, 10).await?;
            anyhow::ensure!(!lines.is_empty(), "trace {trace} is not in the logs");
            Ok(format!("{} log lines", lines.len()))
        })
        .await?;
        let spans = eventually(SOON, || async {
            let services = api.trace_services(&trace).await?;
            anyhow::ensure!(services.iter().any(|s| s == "transaction-api"), "trace {trace} is not in the trace store");
            Ok(format!("spans of {}", services.join(", ")))
        })
        .await?;
        let leaked = api.log_lines(&format!(r#"{{service_name=~".+"}} |= "{address}""#), 10).await?;
        anyhow::ensure!(leaked.is_empty(), "{address} is in the logs");
        Ok(format!("{logs}, {spans}"))
    };
    check(what, result.await)
}

fn hex(digits: usize) -> String {
    let mut rng = rand::rng();
    (0..digits).map(|_| char::from_digit(rng.random_range(1..16), 16).unwrap_or('1')).collect()
}

/// A query of a dashboard panel.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PanelQuery {
    dashboard: String,
    panel: String,
    kind: String,
    expr: String,
    /// The panel says what it shows without data.
    may_be_empty: bool,
}

/// Every panel of every dashboard has data, or says that it may have none.
async fn panels(stack: &Stack, api: &Api) -> Result<Vec<Check>> {
    let mut files = Vec::new();
    list_json(&stack.site.root.join("grafana/dashboards"), &mut files);
    let mut queries = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file)?;
        let dashboard: Value = serde_json::from_str(&text).with_context(|| format!("{}", file.display()))?;
        queries.extend(panel_queries(&dashboard)?);
    }
    let loki = stack.selected().iter().any(|service| service.name == "loki") && !stack.state.only_core;
    let deadline = Instant::now() + SOON;
    let mut results = Vec::new();
    // A rate needs two samples: on a stack that has just been started, what is empty is asked for again.
    loop {
        let asked: Vec<(PanelQuery, Result<bool>)> = stream::iter(std::mem::take(&mut queries))
            .map(|query| async move {
                let found = has_data(api, &query, loki).await;
                (query, found)
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        let late = Instant::now() >= deadline;
        for (query, found) in asked {
            let good = matches!(found, Ok(true)) || matches!(found, Ok(false)) && query.may_be_empty;
            if good || late {
                results.push((query, found));
            } else {
                queries.push(query);
            }
        }
        if queries.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let mut by_dashboard: BTreeMap<String, (usize, usize, Vec<String>)> = BTreeMap::new();
    for (query, found) in results {
        let entry = by_dashboard.entry(query.dashboard.clone()).or_default();
        entry.0 += 1;
        match found {
            Ok(true) => {}
            Ok(false) if query.may_be_empty => entry.1 += 1,
            Ok(false) => entry.2.push(format!("{}: no data for {}", query.panel, query.expr)),
            Err(error) => entry.2.push(format!("{}: {error:#}", query.panel)),
        }
    }
    let checks = by_dashboard.into_iter().map(|(dashboard, (all, empty, wrong))| {
        let result = match wrong.is_empty() {
            true => Ok(format!("{all} queries, {empty} of them empty as declared")),
            false => Err(anyhow::anyhow!("{}", wrong.join("; "))),
        };
        check(format!("dashboard {dashboard} shows data"), result)
    });
    Ok(checks.collect())
}

async fn has_data(api: &Api, query: &PanelQuery, loki: bool) -> Result<bool> {
    match query.kind.as_str() {
        "prometheus" => Ok(!api.query(&query.expr).await?.is_empty()),
        "loki" if loki => loki_has_data(api, &query.expr).await,
        _ => Ok(true),
    }
}

async fn loki_has_data(api: &Api, expr: &str) -> Result<bool> {
    // A metric query has values at once, a log query has lines.
    Ok(!api.log_lines(expr, 60).await?.is_empty())
}

fn list_json(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            list_json(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
    found.sort();
}

fn panel_queries(dashboard: &Value) -> Result<Vec<PanelQuery>> {
    let title = dashboard["title"].as_str().unwrap_or("untitled").to_owned();
    let variables = variables(dashboard);
    let mut queue: Vec<&Value> = dashboard["panels"].as_array().into_iter().flatten().collect();
    let mut queries = Vec::new();
    while let Some(panel) = queue.pop() {
        // Collapsed rows hold their panels inside.
        queue.extend(panel["panels"].as_array().into_iter().flatten());
        for target in panel["targets"].as_array().into_iter().flatten() {
            let Some(expr) = target["expr"].as_str().filter(|expr| !expr.is_empty()) else { continue };
            let kind =
                [&target["datasource"]["type"], &panel["datasource"]["type"]].into_iter().find_map(Value::as_str);
            queries.push(PanelQuery {
                dashboard: title.clone(),
                panel: panel["title"].as_str().unwrap_or("untitled").to_owned(),
                kind: kind.unwrap_or("prometheus").to_owned(),
                expr: substitute(expr, &variables)?,
                // "no data" is what a panel says that must have some.
                may_be_empty: panel["fieldConfig"]["defaults"]["noValue"]
                    .as_str()
                    .is_some_and(|text| text != "no data"),
            });
        }
    }
    queries.reverse();
    Ok(queries)
}

/// What Grafana would put in for each variable: its current value, or everything.
fn variables(dashboard: &Value) -> BTreeMap<String, String> {
    let mut values: BTreeMap<String, String> = [
        ("__rate_interval", "1m"),
        ("__interval", "30s"),
        ("__interval_ms", "30000"),
        ("__range", "1h"),
        ("__range_s", "3600"),
        ("__auto", "1m"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
        let Some(name) = variable["name"].as_str() else { continue };
        let current = match &variable["current"]["value"] {
            Value::String(value) if value != "$__all" => value.clone(),
            Value::Array(values) if !values.is_empty() && values[0] != "$__all" => {
                values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("|")
            }
            _ => variable["allValue"].as_str().filter(|all| !all.is_empty()).unwrap_or(".+").to_owned(),
        };
        let current = if current.is_empty() { ".+".to_owned() } else { current };
        values.insert(name.to_owned(), current);
    }
    values
}

fn substitute(expr: &str, variables: &BTreeMap<String, String>) -> Result<String> {
    let pattern = Regex::new(r"\$\{(?<a>\w+)(?::[^}]*)?\}|\[\[(?<b>\w+)(?::[^\]]*)?\]\]|\$(?<c>\w+)")?;
    let replaced = pattern.replace_all(expr, |found: &regex::Captures<'_>| {
        let name = ["a", "b", "c"].iter().find_map(|group| found.name(group)).map_or("", |name| name.as_str());
        variables.get(name).cloned().unwrap_or_else(|| found[0].to_owned())
    });
    Ok(replaced.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panel_queries_are_what_grafana_would_send() {
        let dashboard = json!({
            "title": "Overview",
            "templating": {"list": [
                {"name": "service", "current": {"value": ["$__all"]}},
                {"name": "machine", "current": {"value": "m-1"}},
                {"name": "ds", "current": {"value": "prometheus"}},
            ]},
            "panels": [
                {"title": "Rate", "datasource": {"type": "prometheus"}, "targets": [
                    {"expr": "sum(rate(x{service=~\"$service\", m=\"${machine:regex}\"}[$__rate_interval]))"}]},
                {"title": "Row", "panels": [
                    {"title": "Errors", "fieldConfig": {"defaults": {"noValue": "none yet"}}, "targets": [
                        {"expr": "{a=\"b\"} |= \"$1x\"", "datasource": {"type": "loki"}}, {"expr": ""}]}]},
                {"title": "Text"}
            ]
        });
        insta::assert_debug_snapshot!(panel_queries(&dashboard).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn eventually_asks_until_it_is_good() {
        let mut asked = 0;
        let answer = eventually(Duration::from_secs(10), || {
            asked += 1;
            let good = asked == 3;
            async move {
                anyhow::ensure!(good, "not yet");
                Ok("done".to_owned())
            }
        });
        assert_eq!(answer.await.unwrap(), "done");
        assert_eq!(asked, 3);
    }
}
