//! A page for people: what happened, and why. No script, nothing from elsewhere.

use std::fmt::Write;

use axum::{
    extract::State,
    http::header,
    response::{Html, IntoResponse, Response},
};
use telemetry::problem::{Path, Problem, Query};

use super::{AppState, api, api::IncidentQuery, view::IncidentSummary};
use crate::{engine::Reason, journal::read::Cursor};

const CSS: &str = include_str!("page.css");

/// Text as text: alerts are written by whoever can send one.
fn esc(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn respond(title: &str, head: &str, body: &str, refresh: bool) -> Response {
    let refresh = if refresh { "<meta http-equiv=refresh content=10>" } else { "" };
    let html = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>{title}</title>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">{refresh}\
         <link rel=icon href=\"data:,\"><style>{CSS}</style></head>\
         <body><header>{head}</header><main>{body}</main></body></html>",
        title = esc(title),
    );
    let policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], Html(html))
        .into_response()
}

fn badge(summary: &IncidentSummary) -> String {
    let shown = summary.outcome.unwrap_or(summary.state);
    format!("<span class=\"b {shown}\">{}</span>", shown.replace('_', " "))
}

fn time(at: impl ToString) -> String {
    let text = at.to_string();
    let shown = text.get(..19).unwrap_or(&text).replace('T', " ");
    format!("<time datetime=\"{}\">{}</time>", esc(&text), esc(&shown))
}

/// The list.
pub async fn index(State(app): State<AppState>, Query(query): Query<IncidentQuery>) -> Result<Response, Problem> {
    let mut filter = query.filter()?;
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    filter.limit += 1;
    let mut incidents = app.journal.incidents(&filter).await.map_err(Problem::internal)?;
    let counts = app.journal.counts().await.map_err(Problem::internal)?;
    let loaded = app.policy.borrow().clone();
    let more = incidents.len() > limit;
    incidents.truncate(limit);

    let mut head = String::from(
        "<h1>Incidents</h1><nav aria-label=\"Filter\"><a href=\"/\">all</a><a href=\"/?state=open\">open</a>",
    );
    for (state, count) in &counts {
        let _ = write!(head, "<a href=\"/?state={state}\">{} {count}</a>", state.replace('_', " "));
    }
    let _ = write!(
        head,
        "</nav><span class=dim>policy {} · mode {} · times in UTC</span>",
        esc(&loaded.policy.digest),
        loaded.policy.mode.as_str()
    );
    let mut body = String::new();
    if let Some(rejected) = &loaded.rejected {
        let _ = write!(
            body,
            "<p role=alert class=not_healed>The policy file is wrong and not in force: {}</p>",
            esc(&rejected.errors.join("; "))
        );
    }
    body.push_str("<div class=wrap><table><thead><tr><th>Opened</th><th>Alert</th><th>Target</th><th>State</th><th>Why</th></tr></thead><tbody>");
    for incident in &incidents {
        let s = IncidentSummary::from(incident);
        let why = s.decision_text.as_deref().unwrap_or("not decided yet");
        let _ = write!(
            body,
            "<tr><td>{}</td><td><a href=\"/incidents/{}\">{}</a><br><span class=dim>{}</span></td><td>{}</td><td>{}</td><td>{}</td></tr>",
            time(s.opened_at),
            esc(&s.id),
            esc(&s.alertname),
            esc(s.severity.as_deref().unwrap_or("")),
            esc(s.target.as_deref().or(s.service.as_deref()).unwrap_or("–")),
            badge(&s),
            esc(why),
        );
    }
    body.push_str("</tbody></table>");
    if incidents.is_empty() {
        body.push_str("<p class=empty>No incidents. Nothing burns, or nothing was heard of it.</p>");
    }
    body.push_str("</div>");
    if let (true, Some(last)) = (more, incidents.last()) {
        let cursor = Cursor { opened_at: last.opened_at, id: last.id.clone() }.encode();
        let _ = write!(body, "<p><a href=\"/?cursor={}\">older</a></p>", esc(&cursor));
    }
    body.push_str("<p class=dim><a href=\"/v1/incidents\">JSON</a> · <a href=\"/v1/policy\">policy</a> · <a href=\"/v1/audit/verify\">check the record</a> · <a href=\"/openapi.json\">API</a></p>");
    Ok(respond("Incidents · alert-bot", &head, &body, true))
}

/// One incident.
pub async fn incident(State(app): State<AppState>, Path(id): Path<String>) -> Result<Response, Problem> {
    let detail = api::detail(&app, &id).await?;
    let s = &detail.summary;
    let head = format!(
        "<h1>{}</h1>{}<nav><a href=\"/\">all incidents</a><a href=\"/v1/incidents/{}\">JSON</a></nav>",
        esc(&s.alertname),
        badge(s),
        esc(&s.id)
    );
    let mut body = String::from("<div class=wrap><dl>");
    let mut row = |name: &str, value: String| {
        let _ = write!(body, "<dt>{name}</dt><dd>{value}</dd>");
    };
    row("Service", esc(s.service.as_deref().unwrap_or("–")));
    row("Container", esc(s.target.as_deref().unwrap_or("–")));
    row("Burning since", time(s.starts_at));
    row("Opened", time(s.opened_at));
    if let Some(at) = s.closed_at {
        row("Closed", time(at));
    }
    if let Some(verdict) = s.verdict {
        row("Verdict", esc(&verdict.replace('_', " ")));
    }
    row("Decision", esc(s.decision_text.as_deref().unwrap_or("not decided yet")));
    if let Some(refusal) = &detail.refusal {
        row("Why not", format!("<code>{}</code>: {}", refusal.code, esc(refusal.text)));
    }
    if let Some(at) = s.next_at {
        row("Next look", time(at));
    }
    row("Rule", esc(s.rule.as_deref().unwrap_or("none")));
    if let Some(trace) = &s.trace_id {
        row("Trace", format!("<code>{}</code>", esc(trace)));
    }
    for (name, value) in detail.labels.iter().chain(&detail.annotations) {
        row(&esc(name), esc(value));
    }
    body.push_str("</dl></div><h2>Timeline</h2><div class=wrap><table><thead><tr><th>When</th><th>What</th><th>Detail</th></tr></thead><tbody>");
    for entry in &detail.timeline {
        let reason = entry.reason.as_deref().map(|r| format!(" <code>{}</code>", esc(r))).unwrap_or_default();
        let data = serde_json::to_string_pretty(&entry.data).unwrap_or_default();
        let _ = write!(
            body,
            "<tr><td>{}</td><td>{}</td><td>{}{reason}<details><summary class=dim>evidence</summary><pre>{}</pre></details></td></tr>",
            time(entry.at),
            esc(&entry.kind.replace('_', " ")),
            esc(&entry.text),
            esc(&data),
        );
    }
    body.push_str("</tbody></table></div>");
    if s.decision.as_deref() == Some(Reason::NoPolicy.as_str()) {
        body.push_str("<p class=dim>Add a rule for this alert to the policy to have it healed, or left to people with a reason.</p>");
    }
    Ok(respond(&format!("{} · alert-bot", s.alertname), &head, &body, s.outcome.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        assert_eq!(
            esc("<script>alert('x')</script>\u{1b}[2J\""),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;\u{fffd}[2J&quot;"
        );
    }
}
