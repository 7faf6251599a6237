//! The policy: what covers which alert, and what another would do.

use axum::{
    extract::{Form, State, rejection::FormRejection},
    http::StatusCode,
    response::Response,
};
use maud::{Markup, html};
use serde_json::Value;
use telemetry::problem::Problem;

use super::{
    super::{AppState, policy as api},
    frame::{Frame, Page},
    orders::{Fields, fields},
    parts,
    visit::{Away, Visit},
};
use crate::policy::{Plan, Policy, Rule, Selector};

/// What the simulator begins with.
const SAMPLE: &str = r#"{
  "alerts": [
    {"status": "firing", "labels": {"alertname": "HighErrorRate", "service": "transaction-api", "severity": "critical"}}
  ]
}"#;

/// `GET /policy`
pub(super) async fn page(State(app): State<AppState>, visit: Visit) -> Result<Response, Away> {
    let frame = Frame::of(&app, visit).await;
    Ok(show(&frame, StatusCode::OK, &Tried::default()))
}

/// `POST /policy`: tries a policy or a payload out.
pub(super) async fn simulate(
    State(app): State<AppState>,
    visit: Visit,
    form: Result<Form<Fields>, FormRejection>,
) -> Result<Response, Away> {
    let mut fields = fields(&visit, &app, form)?;
    // Browsers send line breaks as two characters.
    let mut text = |name: &str| fields.remove(name).unwrap_or_default().replace("\r\n", "\n");
    let (policy, payload) = (text("policy"), text("payload"));
    let document = Some(policy.clone()).filter(|p| !p.trim().is_empty());
    let result = api::tried(&app, document, payload.clone().into_bytes()).await;
    let status = result.as_ref().err().map_or(StatusCode::OK, Problem::status);
    let frame = Frame::of(&app, visit).await;
    Ok(show(&frame, status, &Tried { policy, payload, result: Some(result) }))
}

/// What was tried out.
#[derive(Default)]
struct Tried {
    policy: String,
    payload: String,
    result: Option<Result<Vec<Value>, Problem>>,
}

fn show(frame: &Frame, status: StatusCode, tried: &Tried) -> Response {
    let policy = &frame.loaded.policy;
    let live = if tried.result.is_some() { "" } else { "freeze" };
    let body = html! {
        div.head { h1 { "Policy" } }
        section.card aria-label="In force" {
            dl.facts.wide {
                (parts::fact("Mode", html! { strong { (policy.mode.as_str()) } ": " (mode(policy)) }))
                (parts::fact("In force since", parts::time(frame.loaded.since)))
                (parts::fact("Digest", html! { code { (policy.digest) } }))
                (parts::fact("Over all targets", html! {
                    (policy.limits.actions) " actions within " (policy.limits.window) ", " (policy.limits.concurrent) " at once"
                }))
                (parts::fact("Never touched", html! { (api::never_touched(policy).join(", ")) }))
            }
        }
        (simulator(frame, tried))
        (coverage(policy))
        section.card {
            details id="document" {
                summary { h2 { "The document" } }
                pre.document tabindex="0" role="region" aria-label="The policy document" { (frame.loaded.text) }
            }
        }
    };
    frame.show_as(status, Page { title: "Policy".to_owned(), live: live.to_owned(), body })
}

fn mode(policy: &Policy) -> &'static str {
    match policy.mode.as_str() {
        "auto" => "decisions are carried out",
        "approve" => "each action waits for a person's approval",
        _ => "decisions are recorded, nothing is touched",
    }
}

fn simulator(frame: &Frame, tried: &Tried) -> Markup {
    let payload = if tried.payload.is_empty() { SAMPLE } else { &tried.payload };
    html! {
        section.card aria-labelledby="simulator" {
            h2 id="simulator" { "Simulator" }
            p { "What would be decided on a notification? Nothing is touched and nothing is written down." }
            form.stack method="post" action=(frame.to("/policy#result")) {
                (frame.csrf())
                div.pair {
                    div {
                        label for="payload" { "Notification (JSON)" }
                        textarea id="payload" name="payload" rows="9" spellcheck="false" required { "\n" (payload) }
                    }
                    div {
                        label for="policy" { "Policy (YAML); empty: the one in force" }
                        textarea id="policy" name="policy" rows="9" spellcheck="false" { "\n" (tried.policy) }
                    }
                }
                button type="submit" { "Simulate" }
            }
            div id="result" {
                @match &tried.result {
                    None => {},
                    Some(Ok(decisions)) => (decided(decisions)),
                    Some(Err(problem)) => (faults(problem)),
                }
            }
        }
    }
}

fn decided(decisions: &[Value]) -> Markup {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    html! {
        h3 { "Decisions" }
        @if decisions.is_empty() { p { "The notification has no alerts." } }
        ol.decisions.plain {
            @for d in decisions {
                @let acts = d["decision"] == "look_up_and_act";
                li.(if acts { "run" } else { "warn" }) {
                    div {
                        p {
                            strong { (text(&d["alert"])) }
                            " · " span.badge.(if acts { "run" } else { "calm" }) { (parts::words(&text(&d["decision"]))) }
                            @if let Some(reason) = d["reason"].as_str() { " " code.reason { (reason) } }
                        }
                        p { (text(&d["text"])) }
                        p.dim {
                            @match d["rule"].as_str() { Some(rule) => { "rule " (rule) }, None => "no rule" }
                            @if let Some(service) = d["target"]["service"].as_str() { " · service " (service) }
                            @if let Some(steps) = d["steps"].as_array().filter(|s| !s.is_empty()) {
                                " · steps " (steps.iter().map(|s| text(s).replace('_', " ")).collect::<Vec<_>>().join(", "))
                            }
                            @if let Some(mode) = d["mode"].as_str() { " · mode " (mode) }
                        }
                    }
                }
            }
        }
        details { summary { "As JSON" } pre tabindex="0" { (serde_json::to_string_pretty(decisions).unwrap_or_default()) } }
    }
}

fn faults(problem: &Problem) -> Markup {
    let told = serde_json::to_value(problem).unwrap_or_default();
    let errors = told["errors"].as_array().cloned().unwrap_or_default();
    html! {
        div.notice.bad role="alert" {
            p { strong { (told["title"].as_str().unwrap_or_default()) } " " (told["detail"].as_str().unwrap_or_default()) }
            @if !errors.is_empty() {
                ul {
                    @for e in &errors {
                        li { code { (e["field"].as_str().unwrap_or_default()) } " " (e["detail"].as_str().unwrap_or_default()) }
                    }
                }
            }
        }
    }
}

fn coverage(policy: &Policy) -> Markup {
    let rows = policy
        .rules
        .iter()
        .flat_map(|rule| rule.matches.get("alertname").into_iter().flatten().map(move |alert| (alert, rule)));
    html! {
        section.card aria-labelledby="coverage" {
            h2 id="coverage" { "What covers which alert" }
            ul.coverage {
                @for (alert, rule) in rows {
                    li {
                        span.alert { (alert) }
                        span { (plan(policy, rule)) }
                    }
                }
            }
        }
    }
}

fn plan(policy: &Policy, rule: &Rule) -> Markup {
    let more: Vec<_> = rule
        .matches
        .iter()
        .filter(|(label, _)| *label != "alertname")
        .map(|(label, values)| format!("{label} {}", values.join(" or ")))
        .collect();
    html! {
        @match &rule.plan {
            Plan::Heal(heal) => {
                span.badge.good { "Healed" } " "
                @for (n, step) in heal.steps.iter().enumerate() {
                    @if n > 0 { ", then " }
                    strong { (step.action.as_str().replace('_', " ")) }
                }
                " of "
                @match &heal.target {
                    Selector::Service(name) => (name),
                    Selector::Label { label, default: Some(default) } => { "the alert’s " (label) ", or " (default) },
                    Selector::Label { label, default: None } => { "the alert’s " (label) },
                }
                " · at most " (heal.budget.actions) " in " (heal.budget.window)
                @if policy.mode.stricter(rule.mode) != policy.mode { " · mode " (rule.mode.as_str()) }
            },
            Plan::LeaveToPeople(because) => { span.badge.calm { "Left to people" } " " (because) },
            Plan::Ignore(because) => { span.badge.calm { "No incident" } " " (because) },
        }
        @if !more.is_empty() { " · only where " (more.join(", ")) }
    }
}
