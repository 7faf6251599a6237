//! The registry: what there is, what serves, and back to what served before.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, State},
    http::{StatusCode, header, request::Parts},
};
use lake::LakeError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use telemetry::problem::{Json, Path, Problem};
use utoipa::ToSchema;

use crate::{
    clock::now_us,
    ingest::{App, follow, lock},
    model::{BUILT_IN, Evaluation, Model},
    registry::{Entry, History, RegistryError},
};

/// A request that may change which model serves.
pub struct Authorised;

impl FromRequestParts<Arc<App>> for Authorised {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Some(expected) = &app.models_token else {
            return Err(Problem::new(StatusCode::FORBIDDEN, "Models cannot be changed here")
                .detail("the service was started without a token for it; `drift-inference models` changes them"));
        };
        let value = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let given = value.and_then(|v| v.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        // Hashes have one length, whatever was sent: neither content nor length shows in the time.
        let same = given.is_some_and(|(_, token)| {
            let (given, expected) = (Sha256::digest(token.trim()), Sha256::digest(expected.expose()));
            given.as_slice().ct_eq(expected.as_slice()).into()
        });
        if same { Ok(Self) } else { Err(Problem::unauthorized()) }
    }
}

fn problem(error: RegistryError) -> Problem {
    match error {
        RegistryError::Lake(LakeError::NotFound(what)) => Problem::not_found(what),
        RegistryError::Lake(error) if error.is_unavailable() => Problem::unavailable("lake"),
        RegistryError::Lake(error) => Problem::internal(error),
        RegistryError::Model(_) | RegistryError::Refused(_) => {
            Problem::new(StatusCode::CONFLICT, "Not possible").detail(error.to_string())
        }
    }
}

/// Answer of `GET /v1/models`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelsView {
    /// The version that serves in this process.
    serving: String,
    /// The version that the log says should serve.
    champion: String,
    models: Vec<ModelView>,
    /// Oldest first.
    decisions: Vec<Entry>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ModelView {
    version: String,
    champion: bool,
    /// `null` if the document is not usable.
    trained_at: Option<String>,
    holdout: Option<Evaluation>,
    /// Why it is not usable.
    error: Option<String>,
}

/// All models of the lake, and every decision about them.
#[utoipa::path(get, path = "/v1/models", responses((status = 200, body = ModelsView), (status = 503, description = "no lake")))]
pub async fn models(State(app): State<Arc<App>>) -> Result<Json<ModelsView>, Problem> {
    let mut history = History::default();
    app.registry.update(&mut history).await.map_err(problem)?;
    let built_in = Model::parse(BUILT_IN).map_err(Problem::internal)?.version;
    let champion = history.champion(&built_in).to_owned();
    let mut versions = app.registry.versions().await.map_err(problem)?;
    versions.insert(0, built_in);
    let mut models = Vec::new();
    for version in versions {
        let model = app.registry.model(&version).await;
        models.push(ModelView {
            champion: version == champion,
            trained_at: model.as_ref().ok().map(|m| m.training.trained_at.clone()),
            holdout: model.as_ref().ok().map(|m| m.holdout),
            error: model.err().map(|e| e.to_string()),
            version,
        });
    }
    let serving = lock(&app.pipeline).model().version.clone();
    Ok(Json(ModelsView { serving, champion, models, decisions: history.entries }))
}

/// One model, whole.
#[utoipa::path(get, path = "/v1/models/{version}", params(("version" = String, Path)),
    responses((status = 200, body = Model), (status = 404, description = "no such version"), (status = 503, description = "no lake")))]
pub async fn one(State(app): State<Arc<App>>, Path(version): Path<String>) -> Result<Json<Model>, Problem> {
    Ok(Json(app.registry.model(&version).await.map_err(problem)?))
}

/// Every decision about models, oldest first.
#[utoipa::path(get, path = "/v1/decisions", responses((status = 200, body = [Entry]), (status = 503, description = "no lake")))]
pub async fn decisions(State(app): State<Arc<App>>) -> Result<Json<Vec<Entry>>, Problem> {
    let mut history = History::default();
    app.registry.update(&mut history).await.map_err(problem)?;
    Ok(Json(history.entries))
}

/// Why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecisionRequest {
    /// In words, for those who read the log later.
    #[schema(example = "recall fell after the promotion")]
    reason: String,
}

/// Lets the former champion serve again.
#[utoipa::path(post, path = "/v1/models/rollback", request_body = DecisionRequest,
    responses((status = 200, body = Entry), (status = 401, description = "no token"), (status = 403, description = "switched off"),
        (status = 409, description = "there is no former one"), (status = 503, description = "no lake")))]
pub async fn roll_back(
    _: Authorised,
    State(app): State<Arc<App>>,
    Json(request): Json<DecisionRequest>,
) -> Result<Json<Entry>, Problem> {
    let entry = app.registry.roll_back(&request.reason, now_us()).await.map_err(problem)?;
    follow(&app).await.map_err(problem)?;
    Ok(Json(entry))
}

/// Lets a version serve.
#[utoipa::path(post, path = "/v1/models/{version}/promote", params(("version" = String, Path)), request_body = DecisionRequest,
    responses((status = 200, body = Entry), (status = 401, description = "no token"), (status = 403, description = "switched off"),
        (status = 404, description = "no such version"), (status = 409, description = "it serves already, or cannot"), (status = 503, description = "no lake")))]
pub async fn promote(
    _: Authorised,
    State(app): State<Arc<App>>,
    Path(version): Path<String>,
    Json(request): Json<DecisionRequest>,
) -> Result<Json<Entry>, Problem> {
    let model = app.registry.model(&version).await.map_err(problem)?;
    app.can_serve(&model).map_err(problem)?;
    let entry = app.registry.promote(&version, &request.reason, now_us()).await.map_err(problem)?;
    follow(&app).await.map_err(problem)?;
    Ok(Json(entry))
}
