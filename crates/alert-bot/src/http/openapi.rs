//! The API's own description.

use axum::Json;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
};

use super::{access::COOKIE, api, events, operate, policy, view, webhook};
use crate::journal::{audit::Report, read::Entry};

const DESCRIPTION: &str = "Heals containers when alerts fire, and proves it.

Times are RFC 3339 in UTC, lengths of time say their unit in their name. Errors are `application/problem+json` \
(RFC 9457): `type`, `title`, `status`, `detail`, `instance`, `trace_id`, and `errors` with `field` and `detail` of \
each field that is wrong.

Two tokens: the webhook's opens `POST /webhook` and nothing else; the operator's everything else. Reading is open \
without one to whom `READ_ACCESS` names (loopback by default). A browser that has logged in at `/login` carries a \
session cookie; what changes something then needs the session's token in `x-csrf-token` beside it.";

#[derive(OpenApi)]
#[openapi(
    info(title = "alert-bot", description = DESCRIPTION),
    paths(
        webhook::receive, api::incidents, api::incident, operate::operate, api::decisions, api::reasons,
        policy::policy, policy::simulate, operate::freeze, operate::set_freeze, operate::targets,
        operate::release, api::audit, api::verify, events::events, api::health
    ),
    components(schemas(
        webhook::Accepted, view::IncidentPage, view::IncidentSummary, view::IncidentDetail, view::ActionView,
        view::StepView, view::CauseView, view::ReasonView, view::Decisions, view::AuditPage, view::FreezeView,
        view::TargetsView, view::ReleaseView, operate::OperateBody, operate::FreezeBody, operate::ReleaseBody,
        policy::SimulateBody, Entry, Report
    )),
    modifiers(&Tokens)
)]
struct Document;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        for (name, scheme) in [
            ("webhook", HttpAuthScheme::Bearer),
            ("webhook-basic", HttpAuthScheme::Basic),
            ("operator", HttpAuthScheme::Bearer),
        ] {
            components.add_security_scheme(name, SecurityScheme::Http(Http::new(scheme)));
        }
        let session =
            ApiKey::Cookie(ApiKeyValue::with_description(COOKIE, "made by /login; needs x-csrf-token beside it"));
        components.add_security_scheme("session", SecurityScheme::ApiKey(session));
    }
}

/// OpenAPI 3.1.
pub async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
