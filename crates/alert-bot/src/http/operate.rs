//! What operators do: approve, reject, take over, retry, close, freeze, give budgets back; and what
//! they look at for it.

#![allow(unused_qualifications, reason = "in what utoipa's attribute expands to")]

use axum::{Json, extract::State, http::StatusCode};
use bytes::Bytes;
use serde::Deserialize;
use telemetry::problem::{self, Path, Problem};
use utoipa::ToSchema;

use super::{
    AppState,
    access::{Operator, Reader},
    api::COMMANDS,
    view::{FreezeView, IncidentSummary, ReleaseView, TargetsView},
};
use crate::{
    driver::{FreezeOrder, OperateError},
    engine::{OperatorCommand, ReleaseOrder},
    timestamp::Timestamp,
};

/// Notes and reasons are at most this long, in characters.
const LONGEST_NOTE: usize = 500;

/// Who does it, and why; both may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OperateBody {
    /// For the record: what the timeline says beside the deed, at most 500 characters.
    note: Option<String>,
    /// For the record: whose hand it was. A session's own name counts before it.
    by: Option<String>,
}

impl OperateBody {
    /// A note that is not too long.
    pub(super) fn noted(note: Option<String>) -> Result<Option<String>, Problem> {
        short("note", note)
    }
}

/// The last part of the path, as a command.
pub(super) fn command(text: &str) -> Option<OperatorCommand> {
    COMMANDS.iter().find(|(name, _)| *name == text).map(|(_, command)| *command)
}

/// Approves or rejects the step that waits for it, takes the incident over, has it tried again, or closes it.
#[utoipa::path(post, path = "/v1/incidents/{id}/{command}", tag = "operators",
    params(
        ("id" = String, Path, description = "The incident's id"),
        ("command" = String, Path, description = "approve, reject, take-over, retry or close"),
    ),
    request_body(content = Option<OperateBody>, description = "May be empty"),
    security(("operator" = []), ("session" = [])),
    responses(
        (status = 200, description = "The incident after it", body = IncidentSummary),
        (status = 400, description = "The body is not JSON"),
        (status = 401, description = "No or wrong token"),
        (status = 403, description = "The webhook's token, or a session without its CSRF token"),
        (status = 404, description = "No such incident, or no such command"),
        (status = 409, description = "Not possible as the incident stands; `detail` says why"),
        (status = 422, description = "A field of the body is wrong; `errors` names it"),
        (status = 503, description = "This bot stands by, or cannot write its journal"),
    ))]
pub async fn operate(
    State(app): State<AppState>,
    operator: Operator,
    Path((id, name)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<IncidentSummary>, Problem> {
    let command = command(&name).ok_or_else(|| Problem::not_found("command"))?;
    let body: OperateBody = if body.is_empty() { OperateBody::default() } else { problem::parse_json(&body)? };
    let note = OperateBody::noted(body.note)?;
    let by = operator.name(body.by.as_deref());
    ordered(&app, &id, command, &by, note).await.map(Json)
}

/// Gives the order; the incident after it.
pub(super) async fn ordered(
    app: &AppState,
    id: &str,
    command: OperatorCommand,
    by: &str,
    note: Option<String>,
) -> Result<IncidentSummary, Problem> {
    let after = match app.control.operate(id, command, by, note).await {
        Ok(Some(incident)) => incident,
        // The order has closed it, or it was closed before.
        answer => match (answer, app.journal.incident(id).await.map_err(Problem::internal)?) {
            (_, None) => return Err(Problem::not_found("incident")),
            (Ok(_), Some(incident)) => incident,
            (Err(OperateError::NotFound), Some(_)) => {
                return Err(refused(OperateError::NotPossible("the incident is closed".to_owned())));
            }
            (Err(error), Some(_)) => return Err(refused(error)),
        },
    };
    Ok(IncidentSummary::from(&after))
}

/// What the engine's refusal is for a client.
pub(super) fn refused(error: OperateError) -> Problem {
    match error {
        OperateError::NotFound => Problem::not_found("incident"),
        OperateError::NoTarget => Problem::not_found("target"),
        OperateError::NotPossible(why) => Problem::new(StatusCode::CONFLICT, "Not possible").detail(why),
        error @ OperateError::NotLeader(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "This bot stands by")
            .with_type("/v1/reasons#not_leader")
            .detail(error.to_string()),
        OperateError::Unavailable => Problem::unavailable("the engine"),
    }
}

fn short(field: &str, text: Option<String>) -> Result<Option<String>, Problem> {
    let text = text.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
    match &text {
        Some(t) if t.chars().count() > LONGEST_NOTE => {
            Err(Problem::invalid(field, format!("is longer than {LONGEST_NOTE} characters")))
        }
        _ => Ok(text),
    }
}

/// Whether anything may be done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FreezeBody {
    /// `true`: no action starts; `false`: they may again.
    pub(super) frozen: bool,
    /// Why; required to freeze, at most 500 characters.
    pub(super) why: Option<String>,
    /// RFC 3339; without it the freeze lasts until it is lifted.
    pub(super) until: Option<String>,
    /// For the record: whose hand it was. A session's own name counts before it.
    pub(super) by: Option<String>,
}

impl FreezeBody {
    /// Checked.
    pub(super) fn order(self, now: Timestamp) -> Result<FreezeOrder, Problem> {
        let why = short("why", self.why)?;
        if self.frozen && why.is_none() {
            return Err(Problem::invalid("why", "is required: others will ask"));
        }
        let until = match self.until.as_deref().map(str::trim).filter(|t| !t.is_empty()) {
            None => None,
            Some(_) if !self.frozen => return Err(Problem::invalid("until", "is for freezing only")),
            Some(text) => {
                let until =
                    Timestamp::parse(text).ok_or_else(|| Problem::invalid("until", "is not an RFC 3339 time"))?;
                if until <= now {
                    return Err(Problem::invalid("until", "is in the past"));
                }
                Some(until)
            }
        };
        Ok(FreezeOrder { frozen: self.frozen, why: why.unwrap_or_default(), until })
    }
}

/// Whether everything is frozen, by whom, why and until when.
#[utoipa::path(get, path = "/v1/freeze", tag = "operators",
    responses((status = 200, body = FreezeView), (status = 401, description = "Reading needs a token from there"),
        (status = 503, description = "The engine does not answer")))]
pub async fn freeze(State(app): State<AppState>, _reader: Reader) -> Result<Json<FreezeView>, Problem> {
    let overview = app.control.overview().await.map_err(refused)?;
    Ok(Json(FreezeView::from(overview.freeze.as_ref())))
}

/// Freezes everything, or lifts the freeze. What is under way is finished; nothing starts.
#[utoipa::path(put, path = "/v1/freeze", tag = "operators", request_body = FreezeBody,
    security(("operator" = []), ("session" = [])),
    responses(
        (status = 200, body = FreezeView),
        (status = 400, description = "The body is not JSON"),
        (status = 401, description = "No or wrong token"),
        (status = 403, description = "The webhook's token, or a session without its CSRF token"),
        (status = 409, description = "Not possible; `detail` says why"),
        (status = 422, description = "A field is wrong; `errors` names it"),
        (status = 503, description = "This bot stands by, or cannot write its journal"),
    ))]
pub async fn set_freeze(
    State(app): State<AppState>,
    operator: Operator,
    problem::Json(body): problem::Json<FreezeBody>,
) -> Result<Json<FreezeView>, Problem> {
    let by = operator.name(body.by.as_deref());
    let order = body.order(Timestamp::now())?;
    let freeze = app.control.freeze(order, &by).await.map_err(refused)?;
    Ok(Json(FreezeView::from(freeze.as_ref())))
}

/// What may be acted on: budget left, breaker, last action; and which bot acts.
#[utoipa::path(get, path = "/v1/targets", tag = "operators",
    responses((status = 200, body = TargetsView), (status = 401, description = "Reading needs a token from there"),
        (status = 503, description = "The engine does not answer")))]
pub async fn targets(State(app): State<AppState>, _reader: Reader) -> Result<Json<TargetsView>, Problem> {
    let overview = app.control.overview().await.map_err(refused)?;
    Ok(Json(TargetsView::from(&overview)))
}

/// Why a target gets its budget back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseBody {
    /// What was found when somebody looked at it; required, at most 500 characters.
    pub(super) reason: Option<String>,
    /// The budget over all targets too.
    #[serde(default)]
    pub(super) global: bool,
    /// For the record: whose hand it was. A session's own name counts before it.
    pub(super) by: Option<String>,
}

impl ReleaseBody {
    /// Checked.
    pub(super) fn order(self, target: String, by: String) -> Result<ReleaseOrder, Problem> {
        let why = short("reason", self.reason)?;
        let why = why.ok_or_else(|| Problem::invalid("reason", "is required: others will ask"))?;
        Ok(ReleaseOrder { target, global: self.global, by, why })
    }
}

/// Gives a target its budget back: what was done to it so far counts neither towards its budget nor towards its
/// back-off any more, and its crash-loop breaker is closed until the next action.
#[utoipa::path(post, path = "/v1/targets/{service}/release", tag = "operators", request_body = ReleaseBody,
    params(("service" = String, Path, description = "A service, or a container's name")),
    security(("operator" = []), ("session" = [])),
    responses(
        (status = 200, description = "What does not count any more", body = ReleaseView),
        (status = 400, description = "The body is not JSON"),
        (status = 401, description = "No or wrong token"),
        (status = 403, description = "The webhook's token, or a session without its CSRF token"),
        (status = 404, description = "No container of the project goes by this name"),
        (status = 409, description = "An action on it is under way or being verified"),
        (status = 422, description = "A field is wrong; `errors` names it"),
        (status = 503, description = "This bot stands by, or cannot write its journal"),
    ))]
pub async fn release(
    State(app): State<AppState>,
    operator: Operator,
    Path(service): Path<String>,
    problem::Json(body): problem::Json<ReleaseBody>,
) -> Result<Json<ReleaseView>, Problem> {
    let by = operator.name(body.by.as_deref());
    let released = app.control.release(body.order(service, by)?).await.map_err(refused)?;
    Ok(Json(ReleaseView::from(released)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(text: &str) -> Result<FreezeOrder, String> {
        let now = Timestamp::parse("2026-07-01T12:00:00Z").unwrap();
        let body: FreezeBody = problem::parse_json(text.as_bytes()).map_err(|p| format!("{p:?}"))?;
        body.order(now).map_err(|p| serde_json::to_value(&p).unwrap()["errors"][0]["field"].to_string())
    }

    #[test]
    fn a_freeze_says_why_and_ends_in_the_future() {
        let good = order(r#"{"frozen": true, "why": " a deploy ", "until": "2026-07-01T12:30:00Z"}"#).unwrap();
        assert_eq!((good.why.as_str(), good.until), ("a deploy", Timestamp::parse("2026-07-01T12:30:00Z")));
        assert!(order(r#"{"frozen": false}"#).unwrap().why.is_empty());
        for (text, field) in [
            (r#"{"frozen": true}"#, "\"why\""),
            (r#"{"frozen": true, "why": " "}"#, "\"why\""),
            (r#"{"frozen": true, "why": "x", "until": "tomorrow"}"#, "\"until\""),
            (r#"{"frozen": true, "why": "x", "until": "2026-07-01T11:59:59Z"}"#, "\"until\""),
            (r#"{"frozen": false, "until": "2026-07-01T13:00:00Z"}"#, "\"until\""),
        ] {
            assert_eq!(order(text).unwrap_err(), field, "{text}");
        }
        let long = format!(r#"{{"frozen": true, "why": "{}"}}"#, "x".repeat(501));
        assert_eq!(order(&long).unwrap_err(), "\"why\"");
    }
}
