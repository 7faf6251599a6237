//! One incident: what burns, what is done, what was found, and what one may order.

use axum::{extract::State, response::Response};
use maud::{Markup, html};
use telemetry::problem::Path;

use super::{
    super::{AppState, api, view::IncidentDetail},
    evidence::Evidence,
    frame::{Frame, Page, query},
    parts,
    visit::{Away, Visit},
};
use crate::{
    engine::{Incident, Reason},
    journal::read::Entry,
};

/// `GET /incidents/{id}`
pub(super) async fn page(State(app): State<AppState>, visit: Visit, Path(id): Path<String>) -> Result<Response, Away> {
    let incident = api::found(&app, &id).await?;
    let detail = api::detail(&app, &incident).await?;
    let frame = Frame::of(&app, visit).await;
    let s = &detail.summary;
    let body = html! {
        nav.crumbs aria-label="Where this is" { a href=(frame.to("/")) { "Incidents" } " / " span { (s.id) } }
        div id="lead" data-live="" { (lead(&frame, &incident, &detail)) }
        div.columns {
            div.story {
                div id="orders" data-live="" { (orders(&frame, &detail)) }
                div id="evidence" data-live="" { (evidence(&incident, &detail)) }
                div id="timeline-part" data-live="" { (timeline(&detail.timeline)) }
            }
            aside.side aria-label="Facts" { div id="facts" data-live="" { (facts(&frame, &detail)) } }
        }
    };
    let live = match &incident.cause {
        Some(cause) => format!("{} {cause}", incident.id),
        None => incident.id.clone(),
    };
    Ok(frame.show(Page { title: s.alertname.clone(), live, body }))
}

fn lead(frame: &Frame, incident: &Incident, detail: &IncidentDetail) -> Markup {
    let s = &detail.summary;
    html! {
        div.title {
            h1 { (s.alertname) @if let Some(service) = &s.service { " " span.on { "on " (service) } } }
            (parts::state(s))
        }
        @if let Some(summary) = &s.summary { p.summary { (summary) } }
        section.card.now.(parts::tone(s.outcome.unwrap_or(s.state))) aria-label="Where it stands" {
            p.big { (standing(detail)) }
            @if let Some(waits) = &s.waits_for {
                p { "Waits for " (waits) "."
                    @if let Some(at) = s.next_at { " Next look " (parts::ahead(at, frame.now)) "." }
                }
            }
            @if let Some(cause) = &s.cause {
                p {
                    "Its cause, as far as the bot can tell: "
                    a href=(frame.to(&format!("/incidents/{}", cause.incident))) {
                        (cause.alertname.as_deref().unwrap_or("another incident"))
                        @if let Some(on) = cause.target.as_ref().or(cause.service.as_ref()) { " on " (on) }
                    }
                    ". " (s.service.as_deref().unwrap_or("This service")) " depends on it, so it is not acted on itself."
                    @if detail.possible.contains(&"retry") { " If that is wrong, retry: then it is acted on all the same." }
                }
            }
            (steps(incident, detail))
        }
        @if let Some(refusal) = &detail.refusal {
            @let over = s.outcome.is_some();
            section.card.why aria-labelledby="why" {
                h2 id="why" { @if over { "Why it did not act" } @else { "Why it does not act" } }
                p { code.reason { (refusal.code) } " " (refusal.text) }
                @if let Some(text) = s.decision_text.as_deref().filter(|t| *t != refusal.text) { p { (text) } }
                @if refusal.code == Reason::NoPolicy.as_str() {
                    p { "Add a rule for this alert to the policy: to heal it, or to leave it to people and say why." }
                }
                p { a href=(frame.to(&format!("/decisions{}", query(&[("alert", s.alertname.as_str())])))) {
                    "Every decision on this alert" } }
            }
        }
    }
}

/// Where it stands, in a sentence.
fn standing(detail: &IncidentDetail) -> String {
    let s = &detail.summary;
    let target = s.target.as_deref().unwrap_or("its container");
    let planned = || s.step.as_ref().map_or("an action", |step| step.action);
    let step = match s.state {
        "waiting" => planned(),
        _ => detail.actions.last().map_or_else(planned, |a| a.verb),
    };
    let step = step.replace('_', " ");
    match (s.outcome, s.state) {
        (Some("healed"), _) => format!("Healed: {step} of {target}, and proven by its indicator."),
        (Some("not_healed"), _) => "Not healed by what was done; the alert ended later.".to_owned(),
        (Some("unverified"), _) => "Something was done; whether it helped could not be measured.".to_owned(),
        (Some("resolved"), _) => "The alert ended by itself: nothing was done.".to_owned(),
        (Some("silenced"), _) => "Somebody silenced the alert.".to_owned(),
        (Some("expired"), _) => "Sent by hand, and not repeated.".to_owned(),
        (Some("covered"), _) => "It ended with another incident.".to_owned(),
        (Some("closed_by_operator"), _) => "A person closed it.".to_owned(),
        (Some(other), _) => parts::words(other),
        (None, "acting") => format!("Acting: {step} of {target} is under way."),
        (None, "verifying") => format!("{} of {target} is done. The proof is awaited.", parts::words(&step)),
        (None, "escalated") => match &s.taken_over {
            Some(by) => format!("{by} has taken it over."),
            None => "The bot is at its end: people must see to it.".to_owned(),
        },
        (None, _) => match s.decision.as_deref() {
            None => "Not decided on yet.".to_owned(),
            Some("awaiting_approval") => format!("A person must approve: {step} of {target}."),
            Some("act") => "About to be acted on.".to_owned(),
            Some(_) => "Not acted on.".to_owned(),
        },
    }
}

/// The rule's steps, and how far it got.
fn steps(incident: &Incident, detail: &IncidentDetail) -> Markup {
    let Some(heal) = incident.rule.as_ref().and_then(|r| r.heal()) else { return html! {} };
    let closed = detail.summary.outcome.is_some();
    html! {
        ol.steps aria-label="Steps of the rule" {
            @for (n, step) in heal.steps.iter().enumerate() {
                @let last = detail.actions.iter().rfind(|a| a.step == n + 1);
                @let current = !closed && n == incident.step;
                @let (tone, said) = match last.map(|a| a.status) {
                    Some("done") => ("good", "done"),
                    Some("not_performed") => ("bad", "not carried out"),
                    Some("unknown") => ("warn", "outcome unknown"),
                    Some("unanswered") => ("warn", "not answered"),
                    Some(_) => ("run", "under way"),
                    None if current => ("warn", "next"),
                    None => ("calm", "not taken"),
                };
                li.(tone) aria-current=[current.then_some("step")] {
                    (parts::icon(tone)) span { strong { (parts::words(step.action.as_str())) } " " span.dim { (said) } }
                }
            }
        }
    }
}

fn orders(frame: &Frame, detail: &IncidentDetail) -> Markup {
    let s = &detail.summary;
    if s.outcome.is_some() {
        return html! {};
    }
    let step = s.step.as_ref().map_or_else(|| "the step".to_owned(), |step| parts::words(step.action));
    let target = s.target.as_deref().or(s.service.as_deref()).unwrap_or("its target");
    let offers = [
        ("approve", "Approve", format!("Carry out “{step}” on {target} now."), ""),
        ("reject", "Reject", format!("“{step}” is not carried out; people see to it."), "danger"),
        ("take-over", "Take over", "You see to it: the bot does nothing more about this incident.".to_owned(), ""),
        (
            "retry",
            "Retry",
            "Begin again with the first step, whatever was tried and whatever is taken for the cause.".to_owned(),
            "",
        ),
        (
            "close",
            "Close",
            "The incident is over. If the alert still burns, it is not opened again.".to_owned(),
            "danger",
        ),
    ];
    html! {
        section.card.orders aria-labelledby="orders-title" {
            h2 id="orders-title" { "What you can order" }
            @if frame.visit.session.is_none() {
                (frame.login_hint("to approve, take over, retry or close"))
            } @else if detail.possible.is_empty() {
                p { "Nothing at this moment: an action is under way, its result comes first." }
            } @else {
                div.offers {
                    @for (name, label, means, tone) in offers.iter().filter(|o| detail.possible.contains(&o.0)) {
                        details id=(format!("order-{name}")) name="order" {
                            summary.button.(tone) { (label) "…" }
                            form method="post" action=(frame.to(&format!("/incidents/{}/{name}", s.id))) {
                                (frame.csrf())
                                p { (means) }
                                label for=(format!("note-{name}")) { "Note for the record (may be empty)" }
                                input id=(format!("note-{name}")) name="note" type="text" maxlength="500" autocomplete="off";
                                button.(tone) type="submit" { "Yes, " (label.to_lowercase()) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn evidence(incident: &Incident, detail: &IncidentDetail) -> Markup {
    let found = Evidence::of(detail);
    html! {
        @if found.is_empty() {
            @if detail.summary.outcome.is_none() && incident.rule.as_ref().and_then(|r| r.heal()).is_some() {
                section.card { h2 { "Evidence" } p.dim { "Log lines and the indicator's curve appear here once something is done." } }
            }
        } @else { (found.show(incident, detail)) }
    }
}

fn timeline(entries: &[Entry]) -> Markup {
    html! {
        section.card aria-labelledby="timeline" {
            h2 id="timeline" { "Timeline" }
            ol.timeline {
                @for entry in entries {
                    li.(tone(entry)) id=(format!("t-{}", entry.seq)) {
                        div.when { (parts::clock(entry.at)) }
                        div.entry {
                            p {
                                span.kind { (parts::words(&entry.kind)) }
                                " " (entry.text)
                                @if let Some(reason) = &entry.reason { " " code.reason { (reason) } }
                            }
                            @if has_data(entry) {
                                details id=(format!("d-{}", entry.seq)) {
                                    summary { "Details" }
                                    pre tabindex="0" { (serde_json::to_string_pretty(&entry.data).unwrap_or_default()) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn has_data(entry: &Entry) -> bool {
    entry.data.as_object().is_some_and(|o| !o.is_empty())
}

fn tone(entry: &Entry) -> &'static str {
    match entry.kind.as_str() {
        "verdict" if entry.text.starts_with("healed") => "good",
        "verdict" if entry.text.starts_with("unverified") => "warn",
        "verdict" | "escalated" => "bad",
        "decision" if entry.reason.is_some() => "warn",
        "intent" | "result" | "decision" | "next_step" => "run",
        "operator" => "hand",
        _ => "calm",
    }
}

fn facts(frame: &Frame, detail: &IncidentDetail) -> Markup {
    let s = &detail.summary;
    html! {
        section.card {
            h2 { "Facts" }
            dl.facts {
                (parts::fact("Service", parts::or_dash(s.service.as_deref())))
                (parts::fact("Container", parts::or_dash(s.target.as_deref())))
                (parts::fact("Severity", parts::or_dash(s.severity.as_deref())))
                (parts::fact("Burns since", parts::time(s.starts_at)))
                (parts::fact("Opened", parts::time(s.opened_at)))
                @if let Some(at) = s.escalated_at { (parts::fact("People told", parts::time(at))) }
                @if let Some(at) = s.closed_at { (parts::fact("Closed", parts::time(at))) }
                @if let Some(verdict) = s.verdict { (parts::fact("Verdict", parts::badge(verdict))) }
                (parts::fact("Rule", parts::or_dash(s.rule.as_deref())))
                (parts::fact("Policy", html! { code { (detail.policy) } }))
                @if s.round > 0 { (parts::fact("Tried again", html! { (s.round) " times" })) }
                @if let Some(trace) = &s.trace_id { (parts::fact("Trace", html! { code { (trace) } })) }
                @if let Some(url) = detail.generator_url.as_deref().filter(|u| u.starts_with("http")) {
                    (parts::fact("Source", html! { a href=(url) rel="noreferrer" { "the alert's query" } }))
                }
            }
        }
        section.card {
            h2 { "Labels" }
            dl.facts { @for (name, value) in &detail.labels { (parts::fact(name, html! { (value) })) } }
        }
        @if !detail.annotations.is_empty() {
            section.card {
                h2 { "Annotations" }
                dl.facts { @for (name, value) in &detail.annotations { (parts::fact(name, html! { (value) })) } }
            }
        }
        @if !detail.rule_in_force.is_null() {
            section.card {
                details id="rule" {
                    summary { "The rule as it was when this opened" }
                    pre tabindex="0" { (serde_json::to_string_pretty(&detail.rule_in_force).unwrap_or_default()) }
                }
            }
        }
        p { a href=(frame.to(&format!("/v1/incidents/{}", s.id))) { "This incident as JSON" } }
    }
}
