//! The API's description.

use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};

#[derive(OpenApi)]
#[openapi(
    info(title = "telemetry-generator", description = "A fleet of industrial machines: readings, energy, faults on demand."),
    paths(
        super::health, super::machines, super::machine, super::fleet,
        super::faults::inject_on_machine, super::faults::inject_on_fleet,
        super::faults::clear_machine, super::faults::clear_fleet,
        super::plant::add, super::plant::remove, super::plant::limit, super::plant::lift, super::plant::relieve,
        super::readings::take,
    ),
    modifiers(&Token)
)]
struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("operator", scheme);
    }
}

/// `GET /openapi.json`.
pub async fn document() -> axum::Json<utoipa::openapi::OpenApi> {
    axum::Json(Document::openapi())
}
