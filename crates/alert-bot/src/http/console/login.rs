//! In and out.

use std::time::Duration;

use axum::{
    extract::{Form, State, rejection::FormRejection},
    http::StatusCode,
    response::Response,
};
use maud::{Markup, html};
use serde::Deserialize;
use telemetry::problem::Query;

use super::{
    super::AppState,
    frame::document,
    orders::{Fields, fields, see_other},
    respond,
    visit::{Away, Door, Visit, local},
};
use crate::{
    http::access::{COOKIE, tidy_name},
    timestamp::Timestamp,
};

/// A wrong token is answered after this time: trying them out takes for ever.
const PENALTY: Duration = Duration::from_millis(500);

/// Where to go afterwards.
#[derive(Debug, Deserialize)]
pub(super) struct Next {
    next: Option<String>,
}

/// `GET /login`
pub(super) async fn page(Door(visit): Door, Query(query): Query<Next>) -> Response {
    show(&visit, StatusCode::OK, query.next.as_deref().unwrap_or("/"), "", None)
}

/// `POST /login`
pub(super) async fn login(
    State(app): State<AppState>,
    Door(visit): Door,
    form: Result<Form<Fields>, FormRejection>,
) -> Result<Response, Away> {
    let fields = fields(&visit, &app, form)?;
    let field = |name: &str| fields.get(name).map_or("", |v| v.trim());
    let (name, next) = (tidy_name(field("name")), field("next"));
    if !app.access.is_operator(field("token")) {
        tokio::time::sleep(PENALTY).await;
        tracing::warn!("somebody tried to log in with a wrong token");
        return Ok(show(&visit, StatusCode::UNAUTHORIZED, next, &name, Some("This is not the operator's token.")));
    }
    if name.is_empty() {
        return Ok(show(
            &visit,
            StatusCode::UNPROCESSABLE_ENTITY,
            next,
            "",
            Some("Say who you are: the record names you."),
        ));
    }
    let session = app.access.sessions.begin(name, Timestamp::now());
    tracing::info!(operator = session.name, "an operator has logged in");
    let mut response = see_other(&visit.to(local(next)));
    let seconds = app.access.sessions.time().as_secs();
    visit.set_cookie(&mut response, COOKIE, &app.access.sessions.seal(&session), Some(seconds));
    Ok(response)
}

/// `POST /logout`
pub(super) async fn logout(
    State(app): State<AppState>,
    Door(visit): Door,
    form: Result<Form<Fields>, FormRejection>,
) -> Result<Response, Away> {
    fields(&visit, &app, form)?;
    if let Some(session) = &visit.session {
        app.access.sessions.end(session, Timestamp::now());
    }
    let mut response = see_other(&visit.to("/login"));
    visit.set_cookie(&mut response, COOKIE, "", Some(0));
    Ok(response)
}

fn show(visit: &Visit, status: StatusCode, next: &str, name: &str, wrong: Option<&str>) -> Response {
    let body: Markup = html! {
        main.alone id="main" {
            div.brand {
                img src=(visit.to(&format!("/assets/{}/icon.svg", *super::VERSION))) width="40" height="40" alt="";
                span { "alert-bot" }
            }
            h1 { "Log in" }
            @if let Some(session) = &visit.session {
                p { "You are logged in as " strong { (session.name) } ". " a href=(visit.to("/")) { "To the incidents" } }
            }
            @if let Some(wrong) = wrong { p.notice.bad role="alert" id="wrong" { (wrong) } }
            form.stack method="post" action=(visit.to("/login")) {
                input type="hidden" name="csrf" value=(visit.csrf);
                input type="hidden" name="next" value=(local(next));
                label for="name" { "Your name" }
                input id="name" name="name" type="text" value=(name) required maxlength="64" autocomplete="name"
                    aria-describedby="name-hint";
                p.hint id="name-hint" { "The record says who ordered what." }
                label for="token" { "Operator token" }
                input id="token" name="token" type="password" required autocomplete="current-password"
                    aria-describedby="token-hint" aria-invalid=[wrong.map(|_| "true")];
                p.hint id="token-hint" { code { "./stack secret alert-bot-operator" } " shows it." }
                button type="submit" { "Log in" }
            }
        }
    };
    visit.greet(respond(status, document("Log in", &visit.prefix, None, body)))
}
