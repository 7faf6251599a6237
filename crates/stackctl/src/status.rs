//! `./stack status`: what runs, what burns, what was done about it.

use std::time::Duration;

use anyhow::Result;
use console::style;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::api::{Alert, Api};
use crate::docker::Container;
use crate::incident::Incident;
use crate::layout::{self, Table, duration, wrap};
use crate::site::Site;
use crate::stack::{self, Readiness, Stack};
use crate::state::LeftOut;
use crate::up;

/// Alerts that say that alerting works.
pub const ALWAYS_FIRING: &[&str] = &["Watchdog"];
/// Incidents that are shown.
const SHOWN: usize = 8;
/// Incidents that are looked at.
const LOOKED_AT: usize = 100;

/// All that `status` shows; also its JSON.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// Containers of the stack.
    pub services: Vec<ServiceStatus>,
    /// Service level of the transaction API.
    pub sli: Option<Sli>,
    /// Pending and firing alerts.
    pub alerts: Vec<AlertStatus>,
    /// The newest incidents.
    pub incidents: Vec<Incident>,
    /// Services that are not there, and why.
    pub left_out: Vec<LeftOut>,
    /// Parts of this view that could not be had.
    pub unavailable: Vec<String>,
}

/// One service.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ServiceStatus {
    /// Compose service.
    pub service: String,
    /// `running`, `exited`, … or `absent`.
    pub state: String,
    /// Health check, or empty.
    pub health: String,
    /// Seconds since the last start.
    pub up_seconds: Option<u64>,
    /// First published address.
    pub address: Option<String>,
    /// As it should be.
    pub well: bool,
}

/// An alert under way.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AlertStatus {
    /// Name.
    pub name: String,
    /// Service, if it has one.
    pub service: String,
    /// `pending` or `firing`.
    pub state: String,
    /// Severity label.
    pub severity: String,
    /// Seconds since it began.
    pub seconds: Option<u64>,
}

/// The transaction API's service level.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Sli {
    /// Share of requests answered with 5xx.
    pub error_ratio: f64,
    /// 95th percentile of the latency in seconds.
    pub p95_seconds: Option<f64>,
    /// Below the alert's threshold.
    pub good: bool,
}

/// Runs `status`. The exit code is 0 when every service is as it should be.
pub async fn run(site: &Site, json: bool) -> Result<u8> {
    let stack = Stack::attach(site).await?;
    let status = gather(&stack).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print!("{}", render(&status, layout::width()));
        if status.services.iter().any(|service| service.state != "absent") {
            print!("\n{}", up::addresses(&stack).render(layout::width()));
        }
    }
    Ok(u8::from(status.services.is_empty() || status.services.iter().any(|service| !service.well)))
}

/// Asks Docker, Prometheus and the alert-bot at the same time.
pub async fn gather(stack: &Stack) -> Result<Status> {
    let compose = stack.compose();
    let api = Api::new(stack)?;
    let (containers, alerts, ratio, p95, incidents) = tokio::join!(
        compose.containers(),
        api.alerts(),
        api.value(r#"service:http_errors:ratio{service="transaction-api"}"#),
        api.value(r#"service:http_latency_p95:seconds{service="transaction-api"}"#),
        incidents(&api),
    );
    let now = OffsetDateTime::now_utc();
    let mut status = Status { left_out: stack.state.left_out.clone(), ..Status::default() };
    let containers = containers?;
    let names = &stack.state.services;
    let meant: Vec<_> = stack.selected().into_iter().filter(|s| names.is_empty() || names.contains(&s.name)).collect();
    let ready = stack::readiness(&meant, &containers);
    status.services = meant
        .iter()
        .filter(|service| !service.one_shot)
        .map(|service| describe(stack, &service.name, &containers, &ready, now))
        .collect();
    if containers.is_empty() {
        return Ok(status);
    }
    match alerts {
        Ok(alerts) => {
            status.alerts = alerts
                .iter()
                .filter(|a| !ALWAYS_FIRING.contains(&a.label("alertname")))
                .map(|a| alert(a, now))
                .collect();
            status.alerts.sort_by(|a, b| (&a.state, &a.name, &a.service).cmp(&(&b.state, &b.name, &b.service)));
        }
        Err(error) => status.unavailable.push(format!("alerts: {error}")),
    }
    match incidents {
        Ok(incidents) => status.incidents = incidents,
        Err(error) => status.unavailable.push(format!("incidents: {error}")),
    }
    if let (Ok(Some(error_ratio)), p95) = (ratio, p95) {
        let p95_seconds = p95.ok().flatten().filter(|value| value.is_finite());
        status.sli = Some(Sli { error_ratio, p95_seconds, good: error_ratio <= 0.1 });
    }
    Ok(status)
}

/// The newest incidents. Those in which something was done, or is about to be, come before those that are
/// left to people, so that a long list of the latter hides nothing.
async fn incidents(api: &Api) -> Result<Vec<Incident>> {
    let chosen = choose(api.incidents(LOOKED_AT).await?);
    futures::future::try_join_all(chosen.iter().map(|incident| api.incident(&incident.id))).await
}

fn choose(listed: Vec<Incident>) -> Vec<Incident> {
    let (dealt_with, rest): (Vec<Incident>, Vec<Incident>) =
        listed.into_iter().partition(|incident| incident.verdict.is_some() || incident.is_pending());
    let mut chosen: Vec<Incident> = dealt_with.into_iter().chain(rest).take(SHOWN).collect();
    chosen.sort_by(|a, b| b.starts_at.cmp(&a.starts_at));
    chosen
}

fn describe(
    stack: &Stack,
    name: &str,
    containers: &[Container],
    ready: &Readiness,
    now: OffsetDateTime,
) -> ServiceStatus {
    let Some(container) = containers.iter().find(|container| container.service == name) else {
        return ServiceStatus { service: name.to_owned(), state: "absent".into(), ..ServiceStatus::default() };
    };
    ServiceStatus {
        service: name.to_owned(),
        state: container.state.clone(),
        health: container.health.clone(),
        up_seconds: (container.state == "running").then(|| seconds_since(&container.started_at, now)).flatten(),
        address: stack.shown_address(name).ok(),
        well: ready.ready.contains(name),
    }
}

fn alert(alert: &Alert, now: OffsetDateTime) -> AlertStatus {
    AlertStatus {
        name: alert.label("alertname").to_owned(),
        service: alert.label("service").to_owned(),
        state: alert.state.clone(),
        severity: alert.label("severity").to_owned(),
        seconds: alert.active_at.as_deref().and_then(|at| seconds_since(at, now)),
    }
}

fn seconds_since(at: &str, now: OffsetDateTime) -> Option<u64> {
    let at = OffsetDateTime::parse(at, &Rfc3339).ok()?;
    u64::try_from((now - at).whole_seconds()).ok()
}

fn seconds(value: Option<u64>) -> String {
    value.map(|seconds| duration(Duration::from_secs(seconds))).unwrap_or_default()
}

/// The view for a terminal of `width` columns.
pub fn render(status: &Status, width: usize) -> String {
    let mut text = String::new();
    let mut line = |part: String| {
        text.push_str(&part);
        text.push('\n');
    };
    let well = status.services.iter().filter(|service| service.well).count();
    let total = status.services.len();
    if status.services.iter().all(|service| service.state == "absent") {
        return "nothing is running; start it with ./stack up\n".into();
    }
    let mark = if well == total { style("●").green() } else { style("●").red() };
    line(format!("{mark} {well} of {total} services are well"));
    if let Some(sli) = status.sli {
        let mark = if sli.good { style("●").green() } else { style("●").red() };
        let p95 = sli.p95_seconds.map(|p95| format!(", p95 {:.0} ms", p95 * 1000.0)).unwrap_or_default();
        let word = if sli.good { "good" } else { "bad" };
        line(wrap(
            &format!("{mark} SLI of transaction-api is {word}: {:.1} % errors{p95}", sli.error_ratio * 100.0),
            width,
            2,
        ));
    }
    let mut services = Table::new(["SERVICE", "STATE", "HEALTH", "UP", "ADDRESS"]);
    for service in &status.services {
        let state = if service.well { style(&service.state) } else { style(&service.state).red() };
        let cells = [service.service.clone(), state.to_string(), service.health.clone(), seconds(service.up_seconds)];
        services.row(cells.into_iter().chain([service.address.clone().unwrap_or_default()]));
    }
    line(format!("\n{}", services.render(width).trim_end()));
    for left in &status.left_out {
        let stand_in = left.stand_in.as_ref().map(|by| format!(" ({by})")).unwrap_or_default();
        line(wrap(&format!("- {} is left out{stand_in}", left.service), width, 2));
    }
    line(format!("\n{}", style("Alerts").bold()));
    if status.alerts.is_empty() {
        line("  none".into());
    } else {
        let mut alerts = Table::new(["ALERT", "SERVICE", "STATE", "SEVERITY", "FOR"]);
        for alert in &status.alerts {
            let state = if alert.state == "firing" { style(&alert.state).red() } else { style(&alert.state).yellow() };
            let cells = [&alert.name, &alert.service, &state.to_string(), &alert.severity, &seconds(alert.seconds)];
            alerts.row(cells.map(String::clone));
        }
        line(alerts.render(width).trim_end().to_owned());
    }
    line(format!("\n{}", style("Incidents, newest first").bold()));
    if status.incidents.is_empty() {
        line("  none".into());
    } else {
        let mut incidents = Table::new(["BEGAN", "ALERT", "SERVICE", "DONE", "VERDICT", "STATE"]);
        for incident in &status.incidents {
            incidents.row(incident_cells(incident));
        }
        let table = incidents.render_columns(width);
        // A sentence each reads better than a table that does not fit.
        let sentences =
            || status.incidents.iter().map(|i| wrap(&sentence(i), width, 10)).collect::<Vec<_>>().join("\n");
        line(table.unwrap_or_else(sentences).trim_end().to_owned());
    }
    for part in &status.unavailable {
        line(wrap(&format!("! {part}"), width, 2));
    }
    text
}

fn incident_cells(incident: &Incident) -> [String; 6] {
    let began = incident.starts_at.get(11..19).unwrap_or_default().to_owned();
    let mut verbs: Vec<(&str, usize)> = Vec::new();
    for action in incident.done() {
        match verbs.iter_mut().find(|(verb, _)| *verb == action.verb) {
            Some((_, count)) => *count += 1,
            None => verbs.push((&action.verb, 1)),
        }
    }
    let done = match (verbs.as_slice(), incident.reason()) {
        ([], Some(reason)) => format!("nothing: {reason}"),
        ([], None) => "nothing".into(),
        (verbs, _) => verbs.iter().map(|(verb, count)| times(verb, *count)).collect::<Vec<_>>().join(", "),
    };
    let verdict = match incident.verdict.as_deref() {
        Some("healed") => style("healed").green().to_string(),
        Some(other) => style(other.replace('_', " ")).red().to_string(),
        None => String::new(),
    };
    let state = match (incident.closed(), &incident.outcome) {
        (true, Some(outcome)) if Some(outcome) != incident.verdict.as_ref() => format!("closed: {outcome}"),
        (true, _) => "closed".into(),
        (false, _) => incident.state.clone(),
    };
    [began, incident.alertname.clone(), incident.service().to_owned(), done, verdict, state]
}

fn sentence(incident: &Incident) -> String {
    let [began, alert, service, done, verdict, state] = incident_cells(incident);
    let parts: Vec<String> = [done, verdict, state].into_iter().filter(|part| !part.is_empty()).collect();
    format!("{began} {alert} of {service}: {}", parts.join(", "))
}

fn times(verb: &str, count: usize) -> String {
    match count {
        1 => format!("{verb} once"),
        count => format!("{verb} {count} times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::Action;

    fn sample() -> Status {
        let service = |name: &str, health: &str, well| ServiceStatus {
            service: name.into(),
            state: "running".into(),
            health: health.into(),
            up_seconds: Some(75),
            address: Some("http://127.0.0.1:8000".into()),
            well,
        };
        let restart = Action { verb: "restart".into(), target: "transaction-api".into(), status: "done".into() };
        Status {
            services: vec![
                service("transaction-api", "healthy", true),
                service("otel-collector", "", true),
                service("loki", "starting", false),
            ],
            sli: Some(Sli { error_ratio: 0.004, p95_seconds: Some(0.0123), good: true }),
            alerts: vec![AlertStatus {
                name: "PostgresConnections".into(),
                service: "postgres".into(),
                state: "pending".into(),
                severity: "warning".into(),
                seconds: Some(12),
            }],
            incidents: vec![
                Incident {
                    id: "a".into(),
                    alertname: "HighErrorRate".into(),
                    service: Some("transaction-api".into()),
                    state: "closed".into(),
                    outcome: Some("healed".into()),
                    verdict: Some("healed".into()),
                    actions: vec![restart],
                    starts_at: "2026-01-02T03:04:05Z".into(),
                    closed_at: Some("2026-01-02T03:05:05Z".into()),
                    ..Incident::default()
                },
                Incident {
                    alertname: "TargetDown".into(),
                    service: Some("loki".into()),
                    state: "waiting".into(),
                    decision: Some("left_to_people".into()),
                    starts_at: "2026-01-02T03:04:05Z".into(),
                    ..Incident::default()
                },
            ],
            left_out: vec![LeftOut {
                service: "tempo".into(),
                reason: "x".into(),
                stand_in: Some("Jaeger takes the traces".into()),
            }],
            unavailable: Vec::new(),
        }
    }

    #[test]
    fn wide() {
        insta::assert_snapshot!(render(&sample(), 120));
    }

    #[test]
    fn narrow() {
        let text = render(&sample(), 60);
        assert!(text.lines().all(|line| console::measure_text_width(line) <= 60), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_is_left_to_people_hides_no_repair() {
        let incident = |at: usize, verdict: Option<&str>| Incident {
            id: at.to_string(),
            starts_at: format!("2026-01-02T03:{at:02}:00Z"),
            state: "waiting".into(),
            decision: Some("left_to_people".into()),
            verdict: verdict.map(str::to_owned),
            ..Incident::default()
        };
        let listed = (0..20).rev().map(|at| incident(at, (at == 0).then_some("healed"))).collect();
        let shown: Vec<String> = choose(listed).into_iter().map(|incident| incident.id).collect();
        assert_eq!(shown, ["19", "18", "17", "16", "15", "14", "13", "0"]);
    }

    #[test]
    fn says_when_nothing_runs() {
        let services = vec![ServiceStatus { state: "absent".into(), ..ServiceStatus::default() }];
        assert!(render(&Status { services, ..Status::default() }, 80).contains("./stack up"));
    }
}
