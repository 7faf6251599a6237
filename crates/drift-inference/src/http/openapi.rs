//! The API's description.

use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "drift-inference",
        description = "Failure prediction over machine readings, with accuracy and drift."
    ),
    paths(
        super::health,
        super::predict::predict,
        super::drift,
        super::model,
        super::models::models,
        super::models::one,
        super::models::decisions,
        super::models::roll_back,
        super::models::promote,
    )
)]
struct Document;

/// `GET /openapi.json`.
pub async fn document() -> axum::Json<utoipa::openapi::OpenApi> {
    axum::Json(Document::openapi())
}
