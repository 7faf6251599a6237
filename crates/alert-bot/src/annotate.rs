//! Marks on Grafana's dashboards, from the start of an action to its end.
//!
//! A convenience: Grafana may be slow, wrong or absent, and healing never waits
//! for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::Method;
use prometheus::IntCounterVec;
use serde_json::{Value, json};
use telemetry::{
    client::{self, Client, RequestBuilder},
    config::Secret,
};
use tokio::sync::oneshot;

use crate::{engine::Action, timestamp::Timestamp};

const LIMIT: Duration = Duration::from_secs(3);

/// Sends annotations, if it was told where to.
#[derive(Clone)]
pub struct Annotator(Option<Arc<Grafana>>);

struct Grafana {
    client: Client,
    base: String,
    user: String,
    password: Secret,
    counter: IntCounterVec,
    /// Ids of annotations that were begun, by action.
    begun: Mutex<BTreeMap<String, oneshot::Receiver<Option<i64>>>>,
}

impl Annotator {
    /// Sends nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// `user` empty: the password is a service account's token.
    ///
    /// # Errors
    /// The HTTP client could not be built.
    pub fn new(base: &str, user: &str, password: Secret, counter: IntCounterVec) -> Result<Self, client::Error> {
        Ok(Self(Some(Arc::new(Grafana {
            client: client::new(LIMIT)?,
            base: base.trim_end_matches('/').to_owned(),
            user: user.to_owned(),
            password,
            counter,
            begun: Mutex::default(),
        }))))
    }

    /// Marks the start of an action.
    pub fn begin(&self, action: &Action) {
        let Some(grafana) = self.0.clone() else { return };
        let (done, id) = oneshot::channel();
        grafana.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(action.id.clone(), id);
        let action = action.clone();
        tokio::spawn(async move {
            let body = json!({
                "time": action.intended_at.millis(),
                "tags": tags(&action),
                "text": format!("{} {} (incident {})", action.verb, action.target.name, action.incident),
            });
            let answer = grafana.send(Method::POST, "/api/annotations", &body).await;
            let _ = done.send(answer.and_then(|a| a.get("id")?.as_i64()));
        });
    }

    /// Marks its end; where the start was lost, the whole at once.
    pub fn end(&self, action: &Action, at: Timestamp) {
        let Some(grafana) = self.0.clone() else { return };
        let begun = grafana.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(&action.id);
        let action = action.clone();
        tokio::spawn(async move {
            let id = match begun {
                Some(id) => id.await.ok().flatten(),
                None => None,
            };
            let text = format!(
                "{} {}: {} (incident {})",
                action.verb,
                action.target.name,
                action.status.as_str(),
                action.incident
            );
            let (method, path, body) = match id {
                Some(id) => {
                    (Method::PATCH, format!("/api/annotations/{id}"), json!({ "timeEnd": at.millis(), "text": text }))
                }
                None => (
                    Method::POST,
                    "/api/annotations".to_owned(),
                    json!({
                        "time": action.intended_at.millis(),
                        "timeEnd": at.millis(),
                        "tags": tags(&action),
                        "text": text,
                    }),
                ),
            };
            grafana.send(method, &path, &body).await;
        });
    }
}

fn tags(action: &Action) -> Vec<String> {
    vec![
        "selfheal".to_owned(),
        "remediation".to_owned(),
        action.verb.to_string(),
        format!("service:{}", action.target.service),
    ]
}

impl Grafana {
    async fn send(&self, method: Method, path: &str, body: &Value) -> Option<Value> {
        let request = self.authorized(self.client.request(method, format!("{}{path}", self.base)));
        let result = match request.json(body).send().await {
            Ok(answer) if answer.status().is_success() => Ok(answer.json::<Value>().await.unwrap_or(Value::Null)),
            Ok(answer) => Err(format!("answers {}", answer.status())),
            Err(error) => Err(error.to_string()),
        };
        self.counter.with_label_values(&[if result.is_ok() { "ok" } else { "error" }]).inc();
        result.map_err(|error| tracing::debug!(error, "no annotation in grafana")).ok()
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        if self.user.is_empty() {
            request.bearer_auth(self.password.expose())
        } else {
            request.basic_auth(&self.user, self.password.expose())
        }
    }
}
