//! The record, and whether its chain holds.

use axum::{extract::State, response::Response};
use maud::{Markup, html};
use telemetry::problem::{Problem, Query};

use super::{
    super::{
        AppState,
        api::{self, AuditQuery},
        view::AuditPage,
    },
    frame::{Frame, Page, query},
    parts,
    visit::{Away, Visit},
};
use crate::journal::audit::{self, Report};

const KINDS: [&str; 16] = [
    "opened",
    "adopted",
    "reopened",
    "decision",
    "intent",
    "result",
    "evidence",
    "probe",
    "verdict",
    "next_step",
    "operator",
    "escalated",
    "alert_ended",
    "closed",
    "system",
    "policy",
];

/// `GET /audit`
pub(super) async fn page(
    State(app): State<AppState>,
    visit: Visit,
    Query(mut asked): Query<AuditQuery>,
) -> Result<Response, Away> {
    let kind = asked.kind.clone().unwrap_or_default();
    let live = if asked.before.is_some() { "" } else { "any" };
    asked.verify = None;
    let found = api::recorded(&app, asked).await?;
    let report = audit::verify(&app.journal).await.map_err(Problem::internal)?;
    let frame = Frame::of(&app, visit).await;
    let body = html! {
        div.head {
            h1 { "Audit" }
            form.filters method="get" action=(frame.to("/audit")) role="search" aria-label="Filter the record" {
                label { span { "Kind" }
                    select name="kind" {
                        option value="" { "all" }
                        @for name in KINDS { option value=(name) selected[name == kind] { (parts::words(name)) } }
                    }
                }
                button type="submit" { "Show" }
            }
        }
        div id="chain" data-live="" { (chain(&report)) }
        div id="record" data-live="" { (record(&frame, &found, &kind)) }
    };
    Ok(frame.show(Page { title: "Audit".to_owned(), live: live.to_owned(), body }))
}

fn chain(report: &Report) -> Markup {
    html! {
        @if report.intact {
            section.card.now.good aria-label="State of the record" {
                p.big { "The record is whole: " (report.lines) " lines, each where and what it was when it was written." }
                p { "Last hash " code.hash { (report.head) } ". Kept elsewhere, it also proves that nothing was cut off at the end." }
            }
        } @else {
            section.card.now.bad role="alert" aria-label="State of the record" {
                p.big { "The record was changed: " (report.error.as_deref().unwrap_or("a line is not what it was")) "." }
                p { (report.lines) " lines before it hold; last good hash " code.hash { (report.head) } "." }
            }
        }
    }
}

fn record(frame: &Frame, found: &AuditPage, kind: &str) -> Markup {
    html! {
        @if found.entries.is_empty() {
            div.empty { p { strong { "No lines." } } }
        } @else {
            ol.decisions {
                @for entry in &found.entries {
                    li.calm id=(format!("e-{}", entry.seq)) {
                        div.when { span.seq { (entry.seq) } " " (parts::time(entry.at)) }
                        div {
                            p {
                                span.kind { (parts::words(&entry.kind)) }
                                @if !entry.alertname.is_empty() {
                                    " · "
                                    @match &entry.incident {
                                        Some(id) => a href=(frame.to(&format!("/incidents/{id}"))) { (entry.alertname) },
                                        None => (entry.alertname),
                                    }
                                }
                                @if let Some(reason) = &entry.reason { " · " code.reason { (reason) } }
                            }
                            p { (entry.text) }
                            p.dim { code.hash { (entry.hash) } }
                        }
                    }
                }
            }
        }
        @if let Some(before) = found.next_before {
            @let before = before.to_string();
            p.more { a.button href=(frame.to(&format!("/audit{}", query(&[("kind", kind), ("before", before.as_str())])))) { "Older lines" } }
        }
    }
}
