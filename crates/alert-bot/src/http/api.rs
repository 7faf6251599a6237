//! Reading: incidents, decisions, policy, record.
//!
//! Open to whoever can reach the port, which compose publishes on loopback only.

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
    view::{ActionView, AuditPage, Decisions, IncidentDetail, IncidentPage, IncidentSummary, ReasonView},
};
use crate::{
    engine::Reason,
    journal::{
        audit::{self, Report},
        read::{Cursor, Filter, StateFilter},
    },
    policy::{Plan, Policy},
};

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 500;

fn limit(asked: Option<i64>) -> Result<i64, Problem> {
    match asked.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(invalid("limit", format!("must be between 1 and {MAX_LIMIT}"))),
    }
}

fn invalid(field: &str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "Invalid query").field(field, detail)
}

/// Which incidents.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct IncidentQuery {
    /// `open`, a state, or an outcome.
    state: Option<String>,
    /// Of this service.
    service: Option<String>,
    /// At most so many, 1 to 500; 50 if not given.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl IncidentQuery {
    pub(super) fn filter(self) -> Result<Filter, Problem> {
        let state = self.state.map(|text| {
            StateFilter::parse(&text).ok_or_else(|| invalid("state", "is neither 'open', a state, nor an outcome"))
        });
        let after = self
            .cursor
            .map(|text| Cursor::decode(&text).ok_or_else(|| invalid("cursor", "is not one that this list gave out")));
        Ok(Filter {
            state: state.transpose()?,
            service: self.service,
            after: after.transpose()?,
            limit: limit(self.limit)?,
        })
    }
}

/// Incidents, newest first.
#[utoipa::path(get, path = "/v1/incidents", tag = "incidents", params(IncidentQuery),
    responses((status = 200, body = IncidentPage), (status = 400, description = "A parameter is wrong")))]
pub async fn incidents(
    State(app): State<AppState>,
    Query(query): Query<IncidentQuery>,
) -> Result<Json<IncidentPage>, Problem> {
    let mut filter = query.filter()?;
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    filter.limit += 1;
    let mut found = app.journal.incidents(&filter).await.map_err(Problem::internal)?;
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| more);
    let next_cursor = last.map(|i| Cursor { opened_at: i.opened_at, id: i.id.clone() }.encode());
    Ok(Json(IncidentPage { incidents: found.iter().map(IncidentSummary::from).collect(), next_cursor }))
}

/// One incident with its timeline, its evidence, and the reason of every refusal.
#[utoipa::path(get, path = "/v1/incidents/{id}", tag = "incidents", params(("id" = String, Path, description = "The incident's id")),
    responses((status = 200, body = IncidentDetail), (status = 404, description = "No such incident")))]
pub async fn incident(State(app): State<AppState>, Path(id): Path<String>) -> Result<Json<IncidentDetail>, Problem> {
    detail(&app, &id).await.map(Json)
}

pub(super) async fn detail(app: &AppState, id: &str) -> Result<IncidentDetail, Problem> {
    let incident = app.journal.incident(id).await.map_err(Problem::internal)?;
    let incident = incident.ok_or_else(|| Problem::not_found("incident"))?;
    let actions = app.journal.actions_of(id).await.map_err(Problem::internal)?;
    let timeline = app.journal.timeline(id).await.map_err(Problem::internal)?;
    Ok(IncidentDetail {
        summary: IncidentSummary::from(&incident),
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
    alert: Option<String>,
    /// At most so many, 1 to 500; 50 if not given.
    limit: Option<i64>,
}

/// Why the bot acted, and why it did not.
#[utoipa::path(get, path = "/v1/decisions", tag = "incidents", params(DecisionQuery),
    responses((status = 200, body = Decisions)))]
pub async fn decisions(
    State(app): State<AppState>,
    Query(query): Query<DecisionQuery>,
) -> Result<Json<Decisions>, Problem> {
    let limit = limit(query.limit)?;
    let decisions = app.journal.decisions(query.alert.as_deref(), limit).await.map_err(Problem::internal)?;
    let policy = app.policy.borrow().policy.clone();
    let policy = query.alert.map_or(Value::Null, |alert| standing(&policy, &alert));
    Ok(Json(Decisions { policy, decisions }))
}

/// What a policy says of an alert by its name alone.
fn standing(policy: &Policy, alert: &str) -> Value {
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
pub async fn reasons() -> Json<Vec<ReasonView>> {
    Json(Reason::ALL.iter().map(|r| ReasonView::from(*r)).collect())
}

/// The policy in force, and what is wrong with the file if it is not the same.
#[utoipa::path(get, path = "/v1/policy", tag = "policy", responses((status = 200, body = Object)))]
pub async fn policy(State(app): State<AppState>) -> Json<Value> {
    let loaded = app.policy.borrow().clone();
    let policy = &loaded.policy;
    Json(json!({
        "digest": policy.digest,
        "mode": policy.mode,
        "in_force_since": loaded.since,
        "limits": policy.limits,
        "escalation": policy.escalation,
        "never_touched": crate::policy::ALWAYS_DENIED.iter().map(|s| (*s).to_owned())
            .chain(policy.deny.iter().cloned()).collect::<Vec<_>>(),
        "rules": policy.rules,
        "rejected": loaded.rejected,
        "document": &*loaded.text,
    }))
}

/// Which lines.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// `next_before` of the page before.
    before: Option<i64>,
    /// At most so many, 1 to 500; 50 if not given.
    limit: Option<i64>,
}

/// The record, newest first.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(AuditQuery), responses((status = 200, body = AuditPage)))]
pub async fn audit(State(app): State<AppState>, Query(query): Query<AuditQuery>) -> Result<Json<AuditPage>, Problem> {
    let limit = limit(query.limit)?;
    let entries = app.journal.audit(query.before, limit).await.map_err(Problem::internal)?;
    let next_before = entries.last().map(|e| e.seq).filter(|seq| *seq > 1);
    Ok(Json(AuditPage { entries, next_before }))
}

/// Checks the record's whole chain of hashes.
#[utoipa::path(get, path = "/v1/audit/verify", tag = "audit", responses((status = 200, body = Report)))]
pub async fn verify(State(app): State<AppState>) -> Result<Json<Report>, Problem> {
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
