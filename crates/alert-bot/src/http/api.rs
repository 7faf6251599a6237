//! Reading: incidents, decisions, record.

#![allow(unused_qualifications, reason = "in what utoipa's attribute expands to")]

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use telemetry::problem::{Path, Problem, Query};
use utoipa::IntoParams;

use super::{
    AppState,
    access::Reader,
    view::{ActionView, AuditPage, Decisions, IncidentDetail, IncidentPage, IncidentSummary, ReasonView},
};
use crate::{
    engine::{Incident, OperatorCommand, Reason, possible},
    journal::{
        audit::{self, Report},
        read::{Cursor, Decided, Filter, StateFilter},
    },
    policy::{Plan, Policy},
    timestamp::Timestamp,
};

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 500;

fn limit(asked: Option<i64>) -> Result<i64, Problem> {
    match asked.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(invalid("limit", format!("must be between 1 and {MAX_LIMIT}"))),
    }
}

/// `7d` ago, or a time.
pub(super) fn since(asked: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = asked.map(str::trim).filter(|t| !t.is_empty()) else { return Ok(None) };
    let ago = humantime::parse_duration(text).ok().map(|period| now.minus(period));
    ago.or_else(|| Timestamp::parse(text))
        .map(Some)
        .ok_or_else(|| invalid("since", "is neither an RFC 3339 time nor a period such as 24h or 7d"))
}

fn invalid(field: &str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "Invalid query").field(field, detail)
}

/// Which incidents.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct IncidentQuery {
    /// `open`, a state, or an outcome.
    pub(super) state: Option<String>,
    /// Of this service.
    pub(super) service: Option<String>,
    /// Opened since then: an RFC 3339 time, or a period before now such as `24h` or `7d`.
    pub(super) since: Option<String>,
    /// At most so many, 1 to 500; 50 if not given.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl IncidentQuery {
    pub(super) fn filter(self) -> Result<Filter, Problem> {
        let state = self.state.filter(|t| !t.is_empty()).map(|text| {
            StateFilter::parse(&text).ok_or_else(|| invalid("state", "is neither 'open', a state, nor an outcome"))
        });
        let after = self
            .cursor
            .map(|text| Cursor::decode(&text).ok_or_else(|| invalid("cursor", "is not one that this list gave out")));
        Ok(Filter {
            state: state.transpose()?,
            service: self.service.filter(|s| !s.is_empty()),
            since: since(self.since.as_deref(), Timestamp::now())?,
            after: after.transpose()?,
            limit: limit(self.limit)?,
        })
    }
}

/// A page of incidents, each with what is known of its cause.
pub(super) async fn page(app: &AppState, mut filter: Filter) -> Result<IncidentPage, Problem> {
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    filter.limit += 1;
    let mut found = app.journal.incidents(&filter).await.map_err(Problem::internal)?;
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| more);
    let next_cursor = last.map(|i| Cursor { opened_at: i.opened_at, id: i.id.clone() }.encode());
    let mut incidents: Vec<_> = found.iter().map(IncidentSummary::from).collect();
    fill_causes(app, &mut incidents).await?;
    Ok(IncidentPage { incidents, next_cursor })
}

/// Names the causes.
async fn fill_causes(app: &AppState, incidents: &mut [IncidentSummary]) -> Result<(), Problem> {
    let mut ids: Vec<_> = incidents.iter().filter_map(|i| i.cause.as_ref()).map(|c| c.incident.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    let known = app.journal.incidents_of(&ids).await.map_err(Problem::internal)?;
    for cause in incidents.iter_mut().filter_map(|i| i.cause.as_mut()) {
        if let Some(incident) = known.iter().find(|k| k.id == cause.incident) {
            cause.fill(incident);
        }
    }
    Ok(())
}

/// Incidents, newest first.
#[utoipa::path(get, path = "/v1/incidents", tag = "incidents", params(IncidentQuery),
    responses((status = 200, body = IncidentPage), (status = 400, description = "A parameter is wrong; `errors` names it"),
        (status = 401, description = "Reading needs a token from there")))]
pub async fn incidents(
    State(app): State<AppState>,
    _reader: Reader,
    Query(query): Query<IncidentQuery>,
) -> Result<Json<IncidentPage>, Problem> {
    page(&app, query.filter()?).await.map(Json)
}

/// One incident with its timeline, its evidence, and the reason of every refusal.
#[utoipa::path(get, path = "/v1/incidents/{id}", tag = "incidents", params(("id" = String, Path, description = "The incident's id")),
    responses((status = 200, body = IncidentDetail), (status = 401, description = "Reading needs a token from there"),
        (status = 404, description = "No such incident")))]
pub async fn incident(
    State(app): State<AppState>,
    _reader: Reader,
    Path(id): Path<String>,
) -> Result<Json<IncidentDetail>, Problem> {
    let incident = found(&app, &id).await?;
    detail(&app, &incident).await.map(Json)
}

pub(super) async fn found(app: &AppState, id: &str) -> Result<Incident, Problem> {
    let incident = app.journal.incident(id).await.map_err(Problem::internal)?;
    incident.ok_or_else(|| Problem::not_found("incident"))
}

/// Every order there is, by its name in paths.
pub(super) const COMMANDS: [(&str, OperatorCommand); 5] = [
    ("approve", OperatorCommand::Approve),
    ("reject", OperatorCommand::Reject),
    ("take-over", OperatorCommand::TakeOver),
    ("retry", OperatorCommand::Retry),
    ("close", OperatorCommand::Close),
];

pub(super) async fn detail(app: &AppState, incident: &Incident) -> Result<IncidentDetail, Problem> {
    let id = &incident.id;
    let actions = app.journal.actions_of(id).await.map_err(Problem::internal)?;
    let timeline = app.journal.timeline(id).await.map_err(Problem::internal)?;
    let mut summary = [IncidentSummary::from(incident)];
    fill_causes(app, &mut summary).await?;
    let [summary] = summary;
    Ok(IncidentDetail {
        summary,
        possible: COMMANDS.iter().filter(|(_, c)| possible(incident, *c).is_ok()).map(|(name, _)| *name).collect(),
        refusal: incident.decision.as_ref().and_then(|d| d.reason).map(ReasonView::from),
        labels: incident.alert.labels.clone(),
        annotations: incident.alert.annotations.clone(),
        generator_url: incident.alert.generator_url.clone(),
        rule_in_force: serde_json::to_value(&incident.rule).map_err(Problem::internal)?,
        policy: incident.policy.clone(),
        verification: serde_json::to_value(&incident.verification).map_err(Problem::internal)?,
        actions: actions.iter().map(ActionView::from).collect(),
        timeline,
    })
}

/// Which decisions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct DecisionQuery {
    /// On alerts of this name.
    pub(super) alert: Option<String>,
    /// With this reason: a code, see `/v1/reasons`.
    pub(super) reason: Option<String>,
    /// Taken since then: an RFC 3339 time, or a period before now such as `24h` or `7d`.
    pub(super) since: Option<String>,
    /// `next_before` of the page before.
    pub(super) before: Option<i64>,
    /// At most so many, 1 to 500; 50 if not given.
    pub(super) limit: Option<i64>,
}

/// Why the bot acted, and why it did not.
#[utoipa::path(get, path = "/v1/decisions", tag = "incidents", params(DecisionQuery),
    responses((status = 200, body = Decisions), (status = 400, description = "A parameter is wrong; `errors` names it"),
        (status = 401, description = "Reading needs a token from there")))]
pub async fn decisions(
    State(app): State<AppState>,
    _reader: Reader,
    Query(query): Query<DecisionQuery>,
) -> Result<Json<Decisions>, Problem> {
    decided(&app, query).await.map(Json)
}

pub(super) async fn decided(app: &AppState, query: DecisionQuery) -> Result<Decisions, Problem> {
    let limit = limit(query.limit)?;
    let reason = query.reason.filter(|r| !r.is_empty());
    if reason.as_ref().is_some_and(|r| Reason::ALL.iter().all(|known| known.as_str() != r)) {
        return Err(invalid("reason", "is not a reason's code; /v1/reasons lists them"));
    }
    let asked = Decided {
        alertname: query.alert.filter(|a| !a.is_empty()),
        reason,
        since: since(query.since.as_deref(), Timestamp::now())?,
        before: query.before,
    };
    let decisions = app.journal.decisions(&asked, limit).await.map_err(Problem::internal)?;
    let full = i64::try_from(decisions.len()).unwrap_or(i64::MAX) == limit;
    let next_before = decisions.last().map(|e| e.seq).filter(|_| full);
    let policy = app.policy.borrow().policy.clone();
    let policy = asked.alertname.map_or(Value::Null, |alert| standing(&policy, &alert));
    Ok(Decisions { policy, decisions, next_before })
}

/// What a policy says of an alert by its name alone.
pub(super) fn standing(policy: &Policy, alert: &str) -> Value {
    let rules =
        policy.rules.iter().filter(|r| r.matches.get("alertname").is_some_and(|v| v.iter().any(|n| n == alert)));
    let rules: Vec<_> = rules
        .map(|rule| match &rule.plan {
            Plan::Heal(heal) => json!({
                "rule": rule.name, "plan": "heal", "target": heal.target,
                "steps": heal.steps.iter().map(|s| s.action).collect::<Vec<_>>(),
                "mode": policy.mode.stricter(rule.mode),
            }),
            Plan::LeaveToPeople(because) => {
                json!({ "rule": rule.name, "plan": "leave_to_people", "because": because })
            }
            Plan::Ignore(because) => json!({ "rule": rule.name, "plan": "ignore", "because": because }),
        })
        .collect();
    if rules.is_empty() {
        json!({ "plan": "none", "because": Reason::NoPolicy.explain() })
    } else {
        json!({ "rules": rules })
    }
}

/// Every reason not to act that there is.
#[utoipa::path(get, path = "/v1/reasons", tag = "incidents", responses((status = 200, body = [ReasonView])))]
pub async fn reasons(_reader: Reader) -> Json<Vec<ReasonView>> {
    Json(Reason::ALL.iter().map(|r| ReasonView::from(*r)).collect())
}

/// Which lines.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// `next_before` of the page before.
    pub(super) before: Option<i64>,
    /// Of this kind: opened, decision, intent, result, verdict, operator, ….
    pub(super) kind: Option<String>,
    /// At most so many, 1 to 500; 50 if not given.
    pub(super) limit: Option<i64>,
    /// With any value the whole chain is checked as well, as by `/v1/audit/verify`.
    pub(super) verify: Option<String>,
}

/// The record, newest first.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(AuditQuery),
    responses((status = 200, body = AuditPage), (status = 400, description = "A parameter is wrong; `errors` names it"),
        (status = 401, description = "Reading needs a token from there")))]
pub async fn audit(
    State(app): State<AppState>,
    _reader: Reader,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditPage>, Problem> {
    recorded(&app, query).await.map(Json)
}

pub(super) async fn recorded(app: &AppState, query: AuditQuery) -> Result<AuditPage, Problem> {
    let limit = limit(query.limit)?;
    let kind = query.kind.filter(|k| !k.is_empty());
    let entries = app.journal.audit(query.before, kind.as_deref(), limit).await.map_err(Problem::internal)?;
    let full = i64::try_from(entries.len()).unwrap_or(i64::MAX) == limit;
    let next_before = entries.last().map(|e| e.seq).filter(|seq| full && *seq > 1);
    let report = match query.verify {
        None => None,
        Some(_) => Some(audit::verify(&app.journal).await.map_err(Problem::internal)?),
    };
    Ok(AuditPage { entries, next_before, report })
}

/// Checks the record's whole chain of hashes.
#[utoipa::path(get, path = "/v1/audit/verify", tag = "audit",
    responses((status = 200, body = Report), (status = 401, description = "Reading needs a token from there")))]
pub async fn verify(State(app): State<AppState>, _reader: Reader) -> Result<Json<Report>, Problem> {
    audit::verify(&app.journal).await.map(Json).map_err(Problem::internal)
}

/// What works and what does not, and how long each answer took.
#[utoipa::path(get, path = "/health", tag = "health",
    responses((status = 200, body = Object), (status = 503, body = Object)))]
pub async fn health(State(app): State<AppState>) -> Response {
    let report = app.runtime.readiness.check().await;
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let loaded = app.policy.borrow().clone();
    let body = json!({
        "status": if report.ready { "ok" } else { "degraded" },
        "checks": report.checks,
        "policy": { "digest": loaded.policy.digest, "mode": loaded.policy.mode, "rejected": loaded.rejected },
    });
    (status, Json(body)).into_response()
}
