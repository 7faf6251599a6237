//! Forms by which operators order something. Each carries its session's token,
//! and leads back to where it was sent from.

use std::collections::HashMap;

use axum::{
    extract::{Form, Path, State, rejection::FormRejection},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use telemetry::problem::Problem;

use super::{
    super::{
        AppState,
        operate::{self, FreezeBody, OperateBody, ReleaseBody},
    },
    visit::{Away, Door, Visit, local},
};
use crate::{http::access::Session, timestamp::Timestamp};

/// A form's fields.
pub(super) type Fields = HashMap<String, String>;

/// The fields of a form that was made for this visitor.
pub(super) fn fields(visit: &Visit, app: &AppState, form: Result<Form<Fields>, FormRejection>) -> Result<Fields, Away> {
    let Form(fields) = form.map_err(|e| {
        let status = e.status();
        Problem::new(status, "Not a form").detail("what was sent is not a form of this console")
    })?;
    visit.check(&fields, app)?;
    Ok(fields)
}

/// Somebody who has logged in; others are asked to first.
fn operator(visit: &Visit) -> Result<&Session, Away> {
    visit.session.as_ref().ok_or_else(|| Away::Login(visit.to("/login")))
}

/// `POST /incidents/{id}/{command}`
pub(super) async fn operate(
    State(app): State<AppState>,
    Door(visit): Door,
    Path((id, name)): Path<(String, String)>,
    form: Result<Form<Fields>, FormRejection>,
) -> Result<Response, Away> {
    let session = operator(&visit)?;
    let fields = fields(&visit, &app, form)?;
    let command = operate::command(&name).ok_or_else(|| Problem::not_found("command"))?;
    let note = OperateBody::noted(fields.get("note").cloned())?;
    operate::ordered(&app, &id, command, &session.name, note).await?;
    Ok(see_other(&visit.to(&format!("/incidents/{id}"))))
}

/// `POST /freeze`
pub(super) async fn freeze(
    State(app): State<AppState>,
    Door(visit): Door,
    form: Result<Form<Fields>, FormRejection>,
) -> Result<Response, Away> {
    let session = operator(&visit)?;
    let mut fields = fields(&visit, &app, form)?;
    let now = Timestamp::now();
    let until = match fields.get("for").map(String::as_str).filter(|t| !t.is_empty()) {
        None => None,
        Some(text) => Some(
            humantime::parse_duration(text)
                .map(|period| now.plus(period).to_string())
                .map_err(|_| Problem::invalid("for", "is not a period such as 1h"))?,
        ),
    };
    let frozen = fields.get("frozen").is_some_and(|f| f == "true");
    let body = FreezeBody { frozen, why: fields.remove("why"), until: until.filter(|_| frozen), by: None };
    app.control.freeze(body.order(now)?, &session.name).await.map_err(operate::refused)?;
    let back = fields.get("back").map_or("/", |path| local(path));
    Ok(see_other(&visit.to(back)))
}

/// `POST /targets/{service}/release`
pub(super) async fn release(
    State(app): State<AppState>,
    Door(visit): Door,
    Path(service): Path<String>,
    form: Result<Form<Fields>, FormRejection>,
) -> Result<Response, Away> {
    let session = operator(&visit)?;
    let mut fields = fields(&visit, &app, form)?;
    let global = fields.get("global").is_some_and(|g| g == "true");
    let body = ReleaseBody { reason: fields.remove("reason"), global, by: None };
    app.control.release(body.order(service, session.name.clone())?).await.map_err(operate::refused)?;
    Ok(see_other(&visit.to("/targets")))
}

/// To be fetched with GET: loading the page again orders nothing twice.
pub(super) fn see_other(to: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    *response.status_mut() = StatusCode::SEE_OTHER;
    response
}
