//! The list of incidents.

use axum::{extract::State, response::Response};
use maud::{Markup, html};
use telemetry::problem::{Problem, Query};

use super::{
    super::{
        AppState,
        api::{self, IncidentQuery},
        view::{IncidentPage, IncidentSummary},
    },
    frame::{Frame, Page, query},
    parts,
    visit::{Away, Visit},
};

/// In the order in which they are offered.
const STATES: [&str; 14] = [
    "open",
    "waiting",
    "acting",
    "verifying",
    "escalated",
    "closed",
    "healed",
    "not_healed",
    "unverified",
    "resolved",
    "covered",
    "silenced",
    "expired",
    "closed_by_operator",
];

/// `GET /`
pub(super) async fn page(
    State(app): State<AppState>,
    visit: Visit,
    Query(asked): Query<IncidentQuery>,
) -> Result<Response, Away> {
    let chosen = Chosen::of(&asked);
    let filter = asked.filter()?;
    let found = api::page(&app, filter).await?;
    let counts = app.journal.counts().await.map_err(Problem::internal)?;
    let services = app.journal.services().await.map_err(Problem::internal)?;
    let frame = Frame::of(&app, visit).await;
    let body = html! {
        div.head {
            h1 { "Incidents" }
            (filters(&frame, &chosen, &services))
        }
        div id="counts" data-live="" { (tally(&frame, &chosen, &counts)) }
        div id="list" data-live="" { (list(&frame, &found, &chosen)) }
    };
    Ok(frame.show(Page { title: "Incidents".to_owned(), live: "any".to_owned(), body }))
}

/// What the list is narrowed down to.
struct Chosen {
    state: String,
    service: String,
    since: String,
}

impl Chosen {
    fn of(asked: &IncidentQuery) -> Self {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        Self { state: text(&asked.state), service: text(&asked.service), since: text(&asked.since) }
    }

    fn any(&self) -> bool {
        !(self.state.is_empty() && self.service.is_empty() && self.since.is_empty())
    }

    fn with(&self, state: &str, cursor: &str) -> String {
        let pairs =
            [("state", state), ("service", self.service.as_str()), ("since", self.since.as_str()), ("cursor", cursor)];
        query(&pairs)
    }
}

fn filters(frame: &Frame, chosen: &Chosen, services: &[String]) -> Markup {
    let periods =
        [("", "any time"), ("1h", "last hour"), ("24h", "last day"), ("7d", "last 7 days"), ("30d", "last 30 days")];
    html! {
        form.filters method="get" action=(frame.to("/")) role="search" aria-label="Filter incidents" {
            label { span { "State" }
                select name="state" {
                    option value="" { "all" }
                    @for state in STATES { option value=(state) selected[chosen.state == state] { (parts::words(state)) } }
                }
            }
            label { span { "Service" }
                select name="service" {
                    option value="" { "all" }
                    @for name in services { option value=(name) selected[chosen.service == *name] { (name) } }
                }
            }
            label { span { "Opened" }
                select name="since" {
                    @for (value, name) in periods { option value=(value) selected[chosen.since == value] { (name) } }
                    @if !periods.iter().any(|(value, _)| *value == chosen.since) {
                        option value=(chosen.since) selected { "since " (chosen.since) }
                    }
                }
            }
            button type="submit" { "Show" }
            @if chosen.any() { a.clear href=(frame.to("/")) { "Clear" } }
        }
    }
}

/// How many there are of each kind, as links.
fn tally(frame: &Frame, chosen: &Chosen, counts: &[(String, i64)]) -> Markup {
    let of = |states: &[&str]| counts.iter().filter(|(s, _)| states.contains(&s.as_str())).map(|(_, n)| n).sum::<i64>();
    let open = of(&["waiting", "acting", "verifying", "escalated"]);
    let tiles = [
        ("open", "Open", open, if open > 0 { "run" } else { "calm" }),
        ("escalated", "Need people", of(&["escalated"]), "bad"),
        ("healed", "Healed", of(&["healed"]), "good"),
        ("not_healed", "Not healed", of(&["not_healed"]), "bad"),
        ("unverified", "Unverified", of(&["unverified"]), "warn"),
    ];
    html! {
        ul.tiles aria-label="Incidents by state" {
            @for (state, name, count, tone) in tiles {
                li {
                    a.tile.(if count > 0 { tone } else { "calm" }) href=(frame.to(&format!("/{}", chosen.with(state, ""))))
                        aria-current=[(chosen.state == state).then_some("true")] {
                        strong { (count) } span { (name) }
                    }
                }
            }
        }
    }
}

fn list(frame: &Frame, found: &IncidentPage, chosen: &Chosen) -> Markup {
    html! {
        @if found.incidents.is_empty() {
            div.empty {
                @if chosen.any() {
                    p { strong { "No incident matches." } }
                    p { a href=(frame.to("/")) { "Show all of them" } }
                } @else {
                    p { strong { "No incidents." } }
                    p { "Nothing burns, or nothing was heard of it. An alert that fires appears here by itself." }
                }
            }
        } @else {
            ol.incidents { @for incident in &found.incidents { (item(frame, incident)) } }
        }
        @if let Some(cursor) = &found.next_cursor {
            p.more { a.button href=(frame.to(&format!("/{}", chosen.with(&chosen.state, cursor)))) { "Older incidents" } }
        }
    }
}

fn item(frame: &Frame, i: &IncidentSummary) -> Markup {
    let tone = parts::tone(i.outcome.unwrap_or(i.state));
    html! {
        li.incident.(tone) id=(format!("i-{}", i.id)) {
            div.state { (parts::state(i)) }
            div.what {
                h2 {
                    a href=(frame.to(&format!("/incidents/{}", i.id))) id=(format!("a-{}", i.id)) { (i.alertname) }
                    @if let Some(service) = &i.service { " " span.on { "on " (service) } }
                }
                @if let Some(summary) = &i.summary { p.summary { (summary) } }
                p.cause { (cause(frame, i)) }
            }
            div.doing {
                @match (&i.step, i.outcome) {
                    (Some(step), None) => p.step {
                        "Step " (step.number) " of " (step.of) ": " strong { (parts::words(step.action)) }
                    },
                    (None, None) => p.step { "No step" },
                    (_, Some(_)) => p.step { (i.decision_text.as_deref().unwrap_or("not decided on")) },
                }
                @if let Some(waits) = &i.waits_for { p.waits { "Waits for " (waits) } }
            }
            div.age {
                @match i.closed_at {
                    None => { p { "opened" } p { (parts::ago(i.opened_at, frame.now)) } },
                    Some(closed) => {
                        p { "lasted " (parts::span(closed.since(i.starts_at))) }
                        p { "closed " (parts::ago(closed, frame.now)) }
                    },
                }
            }
        }
    }
}

/// Which container it is about, or which incident it only follows from.
fn cause(frame: &Frame, i: &IncidentSummary) -> Markup {
    html! {
        @if let Some(cause) = &i.cause {
            "Cause: "
            a href=(frame.to(&format!("/incidents/{}", cause.incident))) {
                (cause.alertname.as_deref().unwrap_or("another incident"))
                @if let Some(on) = cause.target.as_ref().or(cause.service.as_ref()) { " on " (on) }
            }
        } @else if let Some(target) = &i.target {
            "Container " code { (target) }
        } @else {
            span.dim { "No container looked up" }
        }
        @if let Some(severity) = &i.severity { " · " span.severity { (severity) } }
        @if let Some(by) = &i.taken_over { " · taken over by " (by) }
    }
}
