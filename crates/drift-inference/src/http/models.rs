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
    clock::{now_us, rfc3339},
    ingest::{App, follow, lock},
    model::{BUILT_IN, Evaluation, Model},
    registry::{Code, Draft, Entry, History, RegistryError},
    retrain::{self, Answer, Recovery},
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

/// The log as it is now; what is known of it already is not read again.
async fn history(app: &App) -> Result<History, Problem> {
    let mut history = lock(&app.history).clone();
    app.registry.update(&mut history).await.map_err(problem)?;
    Ok(history)
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
    /// The champion that it was trained to beat; `null` for one that was trained by hand.
    challenged: Option<String>,
    /// First and last reading that it was trained on.
    training_range: Option<[String; 2]>,
    training_rows: Option<u64>,
    holdout: Option<Evaluation>,
    /// Why it is not usable.
    error: Option<String>,
}

/// All models of the lake, and every decision about them.
#[utoipa::path(get, path = "/v1/models", responses((status = 200, body = ModelsView), (status = 503, description = "no lake")))]
pub async fn models(State(app): State<Arc<App>>) -> Result<Json<ModelsView>, Problem> {
    let history = history(&app).await?;
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
            challenged: model.as_ref().ok().and_then(|m| m.training.challenged.clone()),
            training_range: model.as_ref().ok().map(|m| m.training.range.clone()),
            training_rows: model.as_ref().ok().map(|m| m.training.rows),
            holdout: model.as_ref().ok().map(|m| m.holdout),
            error: model.err().map(|e| e.to_string()),
            version,
        });
    }
    let serving = lock(&app.pipeline).model().version.clone();
    Ok(Json(ModelsView { serving, champion, models, decisions: history.entries }))
}

/// A model that says when to predict a failure otherwise.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Its name.
    #[schema(example = "failure-v1-cautious")]
    version: String,
    /// The model that it is a copy of.
    #[schema(example = "failure-v1")]
    of: String,
    /// Probability from which a failure is predicted, between 0 and 1.
    #[schema(example = 0.2)]
    threshold: f64,
}

/// Registers a copy of a model with another threshold. It does not serve before it is promoted.
#[utoipa::path(post, path = "/v1/models", security(("models" = [])), request_body = Variant,
    responses((status = 201, body = Model), (status = 401, description = "no token"), (status = 403, description = "switched off"),
        (status = 404, description = "no such model"), (status = 409, description = "the name is taken, or is none"),
        (status = 422, description = "a field is not acceptable; errors names it"), (status = 503, description = "no lake")))]
pub async fn register(
    _: Authorised,
    State(app): State<Arc<App>>,
    Json(variant): Json<Variant>,
) -> Result<(StatusCode, Json<Model>), Problem> {
    let threshold = variant.threshold;
    if !(threshold > 0.0 && threshold < 1.0) {
        return Err(Problem::invalid("threshold", "must be between 0 and 1"));
    }
    let of = app.registry.model(&variant.of).await.map_err(problem)?;
    // Its holdout and calibration were measured at the other threshold.
    let model = Model { version: variant.version, threshold, holdout: Evaluation::default(), calibration: None, ..of };
    app.registry.register(&model).await.map_err(problem)?;
    Ok((StatusCode::CREATED, Json(model)))
}

/// One model, whole.
#[utoipa::path(get, path = "/v1/models/{version}", params(("version" = String, Path)),
    responses((status = 200, body = Model), (status = 404, description = "no such version"), (status = 503, description = "no lake")))]
pub async fn one(State(app): State<Arc<App>>, Path(version): Path<String>) -> Result<Json<Model>, Problem> {
    Ok(Json(app.registry.model(&version).await.map_err(problem)?))
}

/// Every decision about models and each step of a challenge, oldest first.
#[utoipa::path(get, path = "/v1/decisions", responses((status = 200, body = [Entry]), (status = 503, description = "no lake")))]
pub async fn decisions(State(app): State<Arc<App>>) -> Result<Json<Vec<Entry>>, Problem> {
    Ok(Json(history(&app).await?.entries))
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
#[utoipa::path(post, path = "/v1/models/rollback", security(("models" = [])), request_body = DecisionRequest,
    responses((status = 200, body = Entry), (status = 401, description = "no token"), (status = 403, description = "switched off"),
        (status = 409, description = "there is no former one"), (status = 503, description = "no lake")))]
pub async fn roll_back(
    _: Authorised,
    State(app): State<Arc<App>>,
    Json(request): Json<DecisionRequest>,
) -> Result<Json<Entry>, Problem> {
    let entry = app.registry.roll_back(Draft::requested(&request.reason), now_us()).await.map_err(problem)?;
    follow(&app).await.map_err(problem)?;
    Ok(Json(entry))
}

/// Lets a version serve.
#[utoipa::path(post, path = "/v1/models/{version}/promote", security(("models" = [])), params(("version" = String, Path)), request_body = DecisionRequest,
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
    let entry = app.registry.promote(&version, Draft::requested(&request.reason), now_us()).await.map_err(problem)?;
    follow(&app).await.map_err(problem)?;
    Ok(Json(entry))
}

/// What became of a wish for a challenger.
#[derive(Debug, Serialize, ToSchema)]
pub struct RetrainView {
    /// `started`, `running`, or `waiting`: it begins by itself at `begins_at` if the reason lasts.
    state: &'static str,
    /// Version of the challenger, while one is being trained.
    challenger: Option<String>,
    begins_at: Option<String>,
}

/// What was done about a champion that is wrong too often.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecoverView {
    /// `rollback` or `retrain`.
    remedy: &'static str,
    /// The decision, of a rollback.
    rollback: Option<Entry>,
    /// The challenge, if one was asked for.
    retrain: Option<RetrainView>,
}

fn retrain_view(answer: Answer) -> Result<RetrainView, Problem> {
    let view = |state, challenger, begins_at| Ok(RetrainView { state, challenger, begins_at });
    match answer {
        Answer::Started(challenger) => view("started", Some(challenger), None),
        Answer::Running(challenger) => view("running", Some(challenger), None),
        Answer::Waiting(at) => view("waiting", None, Some(rfc3339(at))),
        Answer::Held { code, until_us } => {
            let detail = format!("{}: not before {}", code.as_str(), rfc3339(until_us));
            Err(Problem::new(StatusCode::CONFLICT, "The retraining budget does not allow it").detail(detail))
        }
    }
}

/// Trains a challenger in the background. What becomes of it is told by `GET /v1/decisions`.
#[utoipa::path(post, path = "/v1/retrain", security(("models" = [])), request_body = DecisionRequest,
    responses((status = 202, body = RetrainView), (status = 401, description = "no token"), (status = 403, description = "switched off"),
        (status = 409, description = "the budget does not allow it; the detail says why and until when"), (status = 503, description = "no lake")))]
pub async fn retrain(
    _: Authorised,
    State(app): State<Arc<App>>,
    Json(request): Json<DecisionRequest>,
) -> Result<(StatusCode, Json<RetrainView>), Problem> {
    let answer = retrain::ask(&app, Code::Requested, &request.reason, now_us()).await.map_err(problem)?;
    Ok((StatusCode::ACCEPTED, Json(retrain_view(answer)?)))
}

/// Does what helps against a champion that is wrong too often: one that was promoted lately is rolled back, an older
/// one is challenged.
#[utoipa::path(post, path = "/v1/models/recover", security(("models" = [])), request_body = DecisionRequest,
    responses((status = 202, body = RecoverView), (status = 401, description = "no token"), (status = 403, description = "switched off"),
        (status = 409, description = "the budget does not allow it; the detail says why and until when"), (status = 503, description = "no lake")))]
pub async fn recover(
    _: Authorised,
    State(app): State<Arc<App>>,
    Json(request): Json<DecisionRequest>,
) -> Result<(StatusCode, Json<RecoverView>), Problem> {
    let view = match retrain::recover(&app, &request.reason, now_us()).await.map_err(problem)? {
        Recovery::RolledBack(entry) => RecoverView { remedy: "rollback", rollback: Some(entry), retrain: None },
        Recovery::Retrain(answer) => {
            RecoverView { remedy: "retrain", rollback: None, retrain: Some(retrain_view(answer)?) }
        }
    };
    Ok((StatusCode::ACCEPTED, Json(view)))
}
