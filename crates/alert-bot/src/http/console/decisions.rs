//! Why the bot did not act, for any alert of the last weeks.

use axum::{extract::State, response::Response};
use maud::{Markup, html};
use serde_json::Value;
use telemetry::problem::{Problem, Query};

use super::{
    super::{
        AppState,
        api::{self, DecisionQuery},
        view::Decisions,
    },
    frame::{Frame, Page, query},
    parts,
    visit::{Away, Visit},
};
use crate::engine::Reason;

/// `GET /decisions`
pub(super) async fn page(
    State(app): State<AppState>,
    visit: Visit,
    Query(asked): Query<DecisionQuery>,
) -> Result<Response, Away> {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let (alert, reason, since) = (text(&asked.alert), text(&asked.reason), text(&asked.since));
    let live = if asked.before.is_some() { "" } else { "any" };
    let found = api::decided(&app, asked).await?;
    let mut names = app.journal.alerts().await.map_err(Problem::internal)?;
    let policy = app.policy.borrow().policy.clone();
    names.extend(policy.rules.iter().filter_map(|r| r.matches.get("alertname")).flatten().cloned());
    names.sort_unstable();
    names.dedup();
    let frame = Frame::of(&app, visit).await;
    let periods = [("", "any time"), ("24h", "last day"), ("7d", "last 7 days"), ("30d", "last 30 days")];
    let body = html! {
        div.head {
            h1 { "Why did it not act?" }
            form.filters method="get" action=(frame.to("/decisions")) role="search" aria-label="Search decisions" {
                label { span { "Alert" }
                    input name="alert" type="search" list="alerts" value=(alert) placeholder="HighErrorRate" autocomplete="off";
                }
                datalist id="alerts" { @for name in &names { option value=(name) {} } }
                label { span { "Reason" }
                    select name="reason" {
                        option value="" { "all" }
                        @for r in Reason::ALL { option value=(r.as_str()) selected[r.as_str() == reason] { (r.as_str().replace('_', " ")) } }
                    }
                }
                label { span { "Taken" }
                    select name="since" {
                        @for (value, name) in periods { option value=(value) selected[value == since] { (name) } }
                    }
                }
                button type="submit" { "Search" }
            }
        }
        @if !alert.is_empty() { (standing(&alert, &found.policy)) }
        div id="decisions" data-live="" { (list(&frame, &found, [&alert, &reason, &since])) }
    };
    Ok(frame.show(Page { title: "Why did it not act?".to_owned(), live: live.to_owned(), body }))
}

/// What the policy in force says of an alert of this name.
fn standing(alert: &str, policy: &Value) -> Markup {
    let rules = policy.get("rules").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |v: &Value, field: &str| v.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    html! {
        section.card aria-labelledby="standing" {
            h2 id="standing" { "What the policy in force says of " (alert) }
            @if rules.is_empty() {
                p { "No rule is meant for it: an incident opens, and nothing is done." }
            }
            @for rule in &rules {
                p {
                    "Rule " code { (text(rule, "rule")) } ": "
                    @match text(rule, "plan").as_str() {
                        "heal" => {
                            "healed by "
                            @for (n, step) in rule["steps"].as_array().into_iter().flatten().enumerate() {
                                @if n > 0 { ", then " }
                                strong { (step.as_str().unwrap_or_default().replace('_', " ")) }
                            }
                            ", mode " (text(rule, "mode"))
                        },
                        "leave_to_people" => { "left to people: " (text(rule, "because")) },
                        _ => { "no incident: " (text(rule, "because")) },
                    }
                }
            }
        }
    }
}

fn list(frame: &Frame, found: &Decisions, [alert, reason, since]: [&String; 3]) -> Markup {
    html! {
        @if found.decisions.is_empty() {
            div.empty {
                p { strong { "No decision was found." } }
                @if alert.is_empty() { p { "Every decision of the bot is written down and appears here." } }
                @else { p { "The bot has not decided on an alert of this name in that time." } }
            }
        } @else {
            ol.decisions {
                @for entry in &found.decisions {
                    li.(if entry.reason.is_some() { "warn" } else { "run" }) id=(format!("e-{}", entry.seq)) {
                        div.when { (parts::time(entry.at)) }
                        div {
                            p {
                                @match &entry.incident {
                                    Some(id) => a href=(frame.to(&format!("/incidents/{id}"))) { (entry.alertname) },
                                    None => (entry.alertname),
                                }
                                @if let Some(target) = &entry.target { " · " code { (target) } }
                                " · "
                                @match &entry.reason {
                                    Some(reason) => code.reason { (reason) },
                                    None => strong { "acts" },
                                }
                            }
                            p { (entry.text) }
                            @if let Some(explained) = entry.reason.as_deref().and_then(explain).filter(|e| *e != entry.text) {
                                p.dim { (explained) }
                            }
                        }
                    }
                }
            }
        }
        @if let Some(before) = found.next_before {
            @let before = before.to_string();
            @let pairs = [("alert", alert.as_str()), ("reason", reason.as_str()), ("since", since.as_str()), ("before", before.as_str())];
            p.more { a.button href=(frame.to(&format!("/decisions{}", query(&pairs)))) { "Older decisions" } }
        }
    }
}

fn explain(code: &str) -> Option<&'static str> {
    Reason::ALL.iter().find(|r| r.as_str() == code).map(|r| r.explain())
}
