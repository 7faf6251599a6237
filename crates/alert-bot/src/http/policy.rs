//! The policy in force, and what another would do.

#![allow(unused_qualifications, reason = "in what utoipa's attribute expands to")]

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use telemetry::problem::{self, Problem};
use utoipa::ToSchema;

use super::{AppState, access::Reader};
use crate::{cli, policy::Policy, timestamp::Timestamp};

/// A document or a notification to try out is at most this long, in bytes.
const LONGEST: usize = 1024 * 1024;

/// The policy in force, and what is wrong with the file if it is not the same.
#[utoipa::path(get, path = "/v1/policy", tag = "policy",
    responses((status = 200, body = Object), (status = 401, description = "Reading needs a token from there")))]
pub async fn policy(State(app): State<AppState>, _reader: Reader) -> Json<Value> {
    let loaded = app.policy.borrow().clone();
    let policy = &loaded.policy;
    Json(json!({
        "digest": policy.digest,
        "mode": policy.mode,
        "in_force_since": loaded.since,
        "limits": policy.limits,
        "escalation": policy.escalation,
        "never_touched": never_touched(policy),
        "rules": policy.rules,
        "rejected": loaded.rejected,
        "document": &*loaded.text,
    }))
}

/// Services that are never touched under this policy.
pub(super) fn never_touched(policy: &Policy) -> Vec<String> {
    crate::policy::ALWAYS_DENIED.iter().map(|s| (*s).to_owned()).chain(policy.deny.iter().cloned()).collect()
}

/// What to try out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulateBody {
    /// The document, as YAML; without it the policy in force.
    policy: Option<String>,
    /// The notification, as posted to the webhook.
    #[schema(value_type = Object)]
    payload: Value,
}

/// What a policy would decide on a notification, touching nothing: the same JSON as `alert-bot simulate`.
#[utoipa::path(post, path = "/v1/policy/simulate", tag = "policy", request_body = SimulateBody,
    responses(
        (status = 200, description = "One decision an alert, in the order of the notification", body = [Object]),
        (status = 400, description = "The body is not JSON"),
        (status = 401, description = "Reading needs a token from there"),
        (status = 413, description = "Policy or payload is larger than 1 MiB"),
        (status = 422, description = "Policy or payload is wrong; `errors` has every fault, a policy's with its line"),
    ))]
pub async fn simulate(
    State(app): State<AppState>,
    _reader: Reader,
    problem::Json(body): problem::Json<SimulateBody>,
) -> Result<Json<Vec<Value>>, Problem> {
    let payload = serde_json::to_vec(&body.payload).map_err(Problem::internal)?;
    tried(&app, body.policy, payload).await.map(Json)
}

/// Decides under a document, or under the policy in force, aside: a large one takes its time.
pub(super) async fn tried(app: &AppState, document: Option<String>, payload: Vec<u8>) -> Result<Vec<Value>, Problem> {
    if payload.len() > LONGEST || document.as_ref().is_some_and(|d| d.len() > LONGEST) {
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Body too large")
            .detail(format!("policy and payload may have {LONGEST} bytes each")));
    }
    let in_force = app.policy.borrow().policy.clone();
    let project = app.project.clone();
    let work = move || {
        let policy = match document {
            None => in_force,
            Some(text) => Arc::new(Policy::parse(&text).map_err(|faults| {
                let wrong = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "Not a policy");
                faults.iter().fold(wrong, |problem, fault| problem.field("policy", fault.to_string()))
            })?),
        };
        cli::decisions(policy, &payload, &project, Timestamp::now()).map_err(|error| {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "Not a notification")
                .field(format!("payload.{}", error.field), error.detail)
        })
    };
    tokio::task::spawn_blocking(work).await.map_err(Problem::internal)?
}
