//! The API's own description.

use axum::Json;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};

use super::{api, view, webhook};
use crate::journal::{audit::Report, read::Entry};

#[derive(OpenApi)]
#[openapi(
    info(title = "alert-bot", description = "Heals containers when alerts fire, and proves it."),
    paths(
        webhook::receive, api::incidents, api::incident, api::decisions, api::reasons, api::policy,
        api::audit, api::verify, api::health
    ),
    components(schemas(
        webhook::Accepted, view::IncidentPage, view::IncidentSummary, view::IncidentDetail, view::ActionView,
        view::ReasonView, view::Decisions, view::AuditPage, Entry, Report
    )),
    modifiers(&Tokens)
)]
struct Document;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        for (name, scheme) in [("webhook", HttpAuthScheme::Bearer), ("webhook-basic", HttpAuthScheme::Basic)] {
            components.add_security_scheme(name, SecurityScheme::Http(Http::new(scheme)));
        }
    }
}

/// OpenAPI 3.1.
pub async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
