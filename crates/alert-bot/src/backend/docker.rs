//! Docker, through docker-guard.
//!
//! Reads need no token; what changes something carries the guard's. The API
//! version is negotiated at the first call and again when the engine says that
//! it does not speak ours any more.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bollard::{
    API_DEFAULT_VERSION, BollardRequest, Docker,
    errors::Error,
    models::{ContainerInspectResponse, ContainerStateStatusEnum, HealthStatusEnum},
    query_parameters::{ListContainersOptions, RestartContainerOptionsBuilder},
};
use telemetry::config::Secret;
use tokio::sync::Mutex;

use super::{Backend, BackendError};
use crate::{
    engine::{Health, RunState, Workload, target::Candidate},
    policy::Verb,
    timestamp::Timestamp,
};

/// Limit of every read.
const READ_LIMIT: Duration = Duration::from_secs(5);

const ENABLE: &str = "selfheal.enable";
const PROTECT: &str = "selfheal.protect";
const SERVICE: &str = "selfheal.service";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";
const COMPOSE_PROJECT: &str = "com.docker.compose.project";

/// A client of the Docker Engine API.
pub struct DockerBackend {
    plain: Docker,
    negotiated: Mutex<Option<Docker>>,
}

impl DockerBackend {
    /// `host` as in `DOCKER_HOST`: `tcp://docker-guard:2375` or `unix:///var/run/docker.sock`.
    ///
    /// # Errors
    /// The address is of another kind.
    pub fn new(host: &str, token: Option<Secret>) -> Result<Self, String> {
        // bollard's own limit covers the longest call; every call has a shorter one here.
        const CLIENT_LIMIT: u64 = 600;
        let docker = if let Some(path) = host.strip_prefix("unix://") {
            Docker::connect_with_unix(path, CLIENT_LIMIT, API_DEFAULT_VERSION)
        } else if host.starts_with("tcp://") || host.starts_with("http://") {
            Docker::connect_with_http(host, CLIENT_LIMIT, API_DEFAULT_VERSION)
        } else {
            return Err(format!("'{host}' is neither tcp://HOST:PORT nor unix:///PATH"));
        }
        .map_err(|e| e.to_string())?;
        let plain = match token {
            Some(token) => docker.with_request_modifier(authorize(&token)?),
            None => docker,
        };
        Ok(Self { plain, negotiated: Mutex::new(None) })
    }

    async fn client(&self) -> Result<Docker, BackendError> {
        let mut negotiated = self.negotiated.lock().await;
        if let Some(docker) = &*negotiated {
            return Ok(docker.clone());
        }
        let docker = within(READ_LIMIT, self.plain.clone().negotiate_version())
            .await?
            .map_err(|e| BackendError::Unreachable(e.to_string()))?;
        Ok(negotiated.insert(docker).clone())
    }

    async fn failed(&self, error: Error) -> BackendError {
        // The engine was replaced by one that speaks another version.
        if matches!(&error, Error::DockerResponseServerError { status_code: 400, message } if message.contains("version"))
        {
            *self.negotiated.lock().await = None;
        }
        classify(error)
    }
}

fn authorize(token: &Secret) -> Result<impl Fn(BollardRequest) -> BollardRequest + Send + Sync + use<>, String> {
    let mut value = http::HeaderValue::try_from(format!("Bearer {}", token.expose()))
        .map_err(|_| "the token is not fit for a header".to_owned())?;
    value.set_sensitive(true);
    let value = Arc::new(value);
    Ok(move |mut request: BollardRequest| {
        if request.method() != http::Method::GET && request.method() != http::Method::HEAD {
            request.headers_mut().insert(http::header::AUTHORIZATION, (*value).clone());
        }
        // The guard's spans join the incident's trace.
        telemetry::trace::inject(request.headers_mut());
        request
    })
}

async fn within<T>(limit: Duration, call: impl Future<Output = T>) -> Result<T, BackendError> {
    tokio::time::timeout(limit, call).await.map_err(|_| BackendError::TimedOut(limit))
}

fn classify(error: Error) -> BackendError {
    match error {
        Error::DockerResponseServerError { status_code: 404, .. } => BackendError::NotFound,
        Error::DockerResponseServerError { status_code, message } if (400..500).contains(&status_code) => {
            BackendError::Refused(format!("{status_code}: {message}"))
        }
        error if never_connected(&error) => BackendError::Unreachable(error.to_string()),
        error => BackendError::Failed(error.to_string()),
    }
}

/// Only where not even a connection came about is it certain that nothing was sent.
fn never_connected(error: &Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && matches!(io.kind(), std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound)
        {
            return true;
        }
        source = error.source();
    }
    false
}

#[async_trait]
impl Backend for DockerBackend {
    async fn list(&self) -> Result<Vec<Candidate>, BackendError> {
        let docker = self.client().await?;
        let options = ListContainersOptions { all: true, ..Default::default() };
        match within(READ_LIMIT, docker.list_containers(Some(options))).await? {
            Ok(found) => Ok(found
                .into_iter()
                .map(|c| {
                    let labels = c.labels.unwrap_or_default();
                    let name = c.names.unwrap_or_default().into_iter().next().unwrap_or_default();
                    Candidate {
                        id: c.id.unwrap_or_default(),
                        name: bare(&name),
                        services: services(&labels),
                        project: labels.get(COMPOSE_PROJECT).cloned(),
                        enabled: is_true(&labels, ENABLE),
                        protected: is_true(&labels, PROTECT),
                    }
                })
                .collect()),
            Err(error) => Err(self.failed(error).await),
        }
    }

    async fn inspect(&self, id: &str) -> Result<Workload, BackendError> {
        let docker = self.client().await?;
        match within(READ_LIMIT, docker.inspect_container(id, None)).await? {
            Ok(found) => Ok(workload(found)),
            Err(error) => Err(self.failed(error).await),
        }
    }

    async fn act(&self, id: &str, verb: Verb, stop_timeout: Duration, limit: Duration) -> Result<(), BackendError> {
        let docker = self.client().await?;
        let result = match verb {
            Verb::Restart => {
                let seconds = i32::try_from(stop_timeout.as_secs()).unwrap_or(i32::MAX);
                let options = RestartContainerOptionsBuilder::default().t(seconds).build();
                within(limit, docker.restart_container(id, Some(options))).await?
            }
            Verb::Start => within(limit, docker.start_container(id, None)).await?,
        };
        match result {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(error).await),
        }
    }

    async fn ping(&self) -> Result<(), BackendError> {
        let docker = self.client().await?;
        match within(READ_LIMIT, docker.ping()).await? {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(error).await),
        }
    }
}

fn bare(name: &str) -> String {
    name.trim_start_matches('/').to_owned()
}

fn is_true(labels: &HashMap<String, String>, name: &str) -> bool {
    labels.get(name).is_some_and(|v| v == "true")
}

fn services(labels: &HashMap<String, String>) -> Vec<String> {
    [SERVICE, COMPOSE_SERVICE].into_iter().filter_map(|l| labels.get(l).cloned()).collect()
}

fn workload(found: ContainerInspectResponse) -> Workload {
    let config = found.config.unwrap_or_default();
    let labels = config.labels.unwrap_or_default();
    let state = found.state.unwrap_or_default();
    let run = match state.status {
        Some(ContainerStateStatusEnum::RUNNING) => RunState::Running,
        Some(ContainerStateStatusEnum::PAUSED) => RunState::Paused,
        Some(ContainerStateStatusEnum::RESTARTING | ContainerStateStatusEnum::REMOVING) => RunState::Changing,
        _ => RunState::Down,
    };
    let health = state.health.and_then(|h| h.status).and_then(|status| match status {
        HealthStatusEnum::STARTING => Some(Health::Starting),
        HealthStatusEnum::HEALTHY => Some(Health::Healthy),
        HealthStatusEnum::UNHEALTHY => Some(Health::Unhealthy),
        _ => None,
    });
    Workload {
        id: found.id.unwrap_or_default(),
        name: bare(&found.name.unwrap_or_default()),
        services: services(&labels),
        project: labels.get(COMPOSE_PROJECT).cloned(),
        enabled: is_true(&labels, ENABLE),
        protected: is_true(&labels, PROTECT),
        state: run,
        health,
        started_at: state.started_at.as_deref().and_then(Timestamp::parse),
        finished_at: state.finished_at.as_deref().and_then(Timestamp::parse),
        exit_code: state.exit_code,
        oom_killed: state.oom_killed.unwrap_or(false),
        restart_count: found.restart_count.unwrap_or(0),
        image: config.image.unwrap_or_default(),
    }
}
