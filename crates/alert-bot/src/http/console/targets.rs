//! What may be acted on, and how much of it is left.

use axum::{extract::State, response::Response};
use maud::{Markup, html};

use super::{
    super::AppState,
    frame::{Frame, Page, query},
    parts,
    visit::{Away, Visit, percent},
};
use crate::engine::{Reason, TargetView};

/// `GET /targets`
pub(super) async fn page(State(app): State<AppState>, visit: Visit) -> Result<Response, Away> {
    let frame = Frame::of(&app, visit).await;
    let body = html! {
        div.head { h1 { "Targets" } }
        p.lead {
            "Containers of the project " code { (app.project) }
            ": what may be healed, what is left of each budget, and what was done last."
        }
        div id="limits" data-live="" { (limits(&frame)) }
        div id="targets" data-live="" { (targets(&frame)) }
    };
    Ok(frame.show(Page { title: "Targets".to_owned(), live: "any".to_owned(), body }))
}

/// What holds for all of them together.
fn limits(frame: &Frame) -> Markup {
    let Some(limits) = frame.overview.as_ref().map(|o| o.limits) else { return html! {} };
    let window = parts::span(std::time::Duration::from_secs(limits.budget.window_seconds));
    html! {
        p {
            "Over all of them together " strong { (limits.budget.left) " of " (limits.budget.actions) }
            " actions are left in " (window)
            @if let Some(until) = limits.until { ": " span.warn-text { "nothing is done" } " for now, more " (parts::ahead(until, frame.now)) }
            "."
        }
    }
}

fn targets(frame: &Frame) -> Markup {
    let Some(overview) = &frame.overview else {
        return html! { div.empty { p { strong { "The engine does not answer." } } } };
    };
    let (healable, others): (Vec<_>, Vec<_>) = overview.targets.iter().partition(|t| t.enabled && !t.protected);
    html! {
        @if overview.targets.is_empty() {
            div.empty {
                p { strong { "No containers." } }
                p { "None of the project was found yet, or the way to Docker is not available." }
            }
        }
        @if !healable.is_empty() {
            h2 { "May be healed" }
            ul.cards { @for target in healable { (card(frame, target)) } }
        }
        @if !others.is_empty() {
            h2 { "Never touched" }
            ul.cards { @for target in others { (card(frame, target)) } }
        }
    }
}

fn card(frame: &Frame, t: &TargetView) -> Markup {
    let tone = match (t.burning, t.running) {
        (true, _) => "bad",
        (_, false) => "warn",
        _ => "good",
    };
    html! {
        li.card.target.(tone) id=(format!("target-{}", t.name)) {
            h3 { (t.service) }
            p.dim { code { (t.name) } }
            p.chips {
                span.badge.(tone) {
                    (parts::icon(tone)) @if t.burning { "Burning" } @else if t.running { "Running" } @else { "Down" }
                }
                @if t.protected { " " span.badge.calm { "Protected" } }
                @else if !t.enabled { " " span.badge.calm { "Not opted in" } }
                @if t.stopped_by_person.is_some() { " " span.badge.warn { "Stopped by a person" } }
            }
            dl.facts {
                @if t.enabled && !t.protected {
                    (parts::fact("Budget", budget(t)))
                    (parts::fact("Breaker", breaker(frame, t)))
                    @if let Some(at) = t.not_before { (parts::fact("Next look", parts::ahead(at, frame.now))) }
                    (parts::fact("Last action", html! {
                        @match &t.last_action {
                            Some(last) => {
                                (parts::words(last.verb.as_str())) " " (parts::ago(last.at, frame.now))
                                @if let Some(status) = last.status { ", " (parts::words(status.as_str()).to_lowercase()) }
                            },
                            None => span.dim { "none lately" },
                        }
                    }))
                }
                (parts::fact("Depends on", html! {
                    @if t.depends_on.is_empty() { span.dim { "nothing" } }
                    @for (n, name) in t.depends_on.iter().enumerate() { @if n > 0 { ", " } (name) }
                }))
                @if !t.calls.is_empty() {
                    (parts::fact("Calls", html! {
                        @for (n, edge) in t.calls.iter().enumerate() {
                            @if n > 0 { ", " }
                            (edge.server) " " span.dim { "(traces, since " (parts::ago(edge.since, frame.now)) ")" }
                        }
                    }))
                }
            }
            @if t.enabled && !t.protected { (release(frame, t)) }
            p { a href=(frame.to(&format!("/{}", query(&[("service", t.service.as_str())])))) {
                "Incidents" span.quiet { " of " (t.service) } } }
        }
    }
}

/// Whether anything would be done to it now.
fn breaker(frame: &Frame, t: &TargetView) -> Markup {
    html! {
        @match (&t.held, t.released_at) {
            (Some(held), _) => {
                span.warn-text { "open" } " for the rule " (held.rule) ": "
                @if held.reason == Reason::Cooldown { "the last action is too recent" } @else { "the budget is used up" }
                ", closes " (parts::ahead(held.until, frame.now))
            },
            (None, Some(at)) => { "closed: given back " (parts::ago(at, frame.now)) },
            (None, None) => "closed",
        }
    }
}

/// The form by which somebody who has looked at it gives it its budget back.
fn release(frame: &Frame, t: &TargetView) -> Markup {
    let counted = t.budget.is_some_and(|b| b.left < b.actions) || t.held.is_some();
    if !counted || frame.visit.session.is_none() {
        return html! {};
    }
    let field = |name: &str| format!("{name}-{}", t.name);
    html! {
        div.offers {
            details id=(field("release")) {
                summary.button { "Give the budget back…" }
                form method="post" action=(frame.to(&format!("/targets/{}/release", percent(&t.name)))) {
                    (frame.csrf())
                    p { "What was done to it so far does not count any more, and its breaker is closed. For somebody who has looked at it." }
                    label for=(field("reason")) { "What you found" }
                    input id=(field("reason")) name="reason" type="text" required maxlength="500" autocomplete="off";
                    label.check for=(field("global")) {
                        input id=(field("global")) name="global" type="checkbox" value="true";
                        " and the budget over all targets"
                    }
                    button type="submit" { "Yes, give it back" }
                }
            }
        }
    }
}

/// Actions left, as a number and as dots.
fn budget(t: &TargetView) -> Markup {
    let Some(budget) = t.budget else { return html! { span.dim { "untouched" } } };
    let window = parts::span(std::time::Duration::from_secs(budget.window_seconds));
    html! {
        @if budget.actions <= 10 {
            span.dots aria-hidden="true" {
                @for n in 0..budget.actions { span.dot.full[n < budget.left] {} }
            }
            " "
        }
        (budget.left) " of " (budget.actions) " left in " (window)
    }
}
