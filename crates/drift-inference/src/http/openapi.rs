//! The API's description.

use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "drift-inference",
        description = "Failure prediction over machine readings, with accuracy, drift, and models that are challenged, \
            promoted and rolled back. What changes something needs the token (`MODELS_TOKEN_FILE`); errors are \
            `application/problem+json`."
    ),
    modifiers(&Token),
    paths(
        super::health,
        super::predict::predict,
        super::drift,
        super::report,
        super::learn,
        super::model,
        super::models::models,
        super::models::one,
        super::models::register,
        super::models::decisions,
        super::models::roll_back,
        super::models::promote,
        super::models::retrain,
        super::models::recover,
        super::faults::get,
        super::faults::put,
        super::faults::delete,
    )
)]
struct Document;

/// The token of what changes something.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        document.components.get_or_insert_default().add_security_scheme("models", scheme);
    }
}

/// `GET /openapi.json`.
pub async fn document() -> axum::Json<utoipa::openapi::OpenApi> {
    axum::Json(Document::openapi())
}
