//! Docker, through docker-guard.
//!
//! Reads need no token; what changes something carries the guard's. The API
//! version is negotiated at the first call and again when the engine says that
//! it does not speak ours any more.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bollard::{
    API_DEFAULT_VERSION, BollardRequest, Docker,
    container::LogOutput,
    errors::Error,
    models::{ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummaryStateEnum, HealthStatusEnum},
    query_parameters::{
        EventsOptionsBuilder, ListContainersOptions, LogsOptionsBuilder, RestartContainerOptionsBuilder,
        StopContainerOptionsBuilder,
    },
};
use futures::{StreamExt, TryStreamExt};
use telemetry::config::Secret;
use tokio::sync::{Mutex, mpsc};

use super::{
    Backend, BackendError, Deed, Done,
    guard::{Guard, Operation},
};
use crate::{
    engine::{Health, RunState, Workload, target::Candidate},
    timestamp::Timestamp,
};

/// Limit of every read.
const READ_LIMIT: Duration = Duration::from_secs(5);
/// Log lines are evidence, not an archive: so many at most, and no longer ones.
const MAX_LINES: usize = 500;
const MAX_LINE: usize = 2000;

const ENABLE: &str = "selfheal.enable";
const PROTECT: &str = "selfheal.protect";
const SERVICE: &str = "selfheal.service";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";
const COMPOSE_PROJECT: &str = "com.docker.compose.project";
const COMPOSE_DEPENDS_ON: &str = "com.docker.compose.depends_on";
const DEPENDS_ON: &str = "selfheal.depends-on";
const REPLICA_OF: &str = "selfheal.replica-of";

/// A client of the Docker Engine API.
pub struct DockerBackend {
    plain: Docker,
    negotiated: Mutex<Option<Docker>>,
    /// What Docker's API has not.
    guard: Option<Guard>,
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
        let guard = Guard::new(host, token.clone())?;
        let plain = match token {
            Some(token) => docker.with_request_modifier(authorize(&token)?),
            None => docker,
        };
        Ok(Self { plain, negotiated: Mutex::new(None), guard })
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

    async fn operate(&self, target: &str, operation: &Operation<'_>, limit: Duration) -> Result<Done, Halt> {
        let without = || BackendError::Refused("that needs docker-guard, and this is Docker itself".to_owned());
        let guard = self.guard.as_ref().ok_or_else(without).map_err(Halt::Told)?;
        guard.operate(target, operation, limit).await.map_err(Halt::Told)
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

/// How far a deed of several calls had come when one failed.
enum Halt {
    /// Nothing was done.
    Before(Error),
    /// Something was.
    Halfway(Error),
    /// As the error says.
    Told(BackendError),
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
                        state: run_state(c.state),
                        depends_on: depends_on(&labels),
                        image: c.image.unwrap_or_default(),
                        replica_of: labels.get(REPLICA_OF).cloned(),
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

    async fn act(&self, target: &str, deed: &Deed, limit: Duration) -> Result<Done, BackendError> {
        let docker = self.client().await?;
        let done = async {
            match deed {
                Deed::Start => docker.start_container(target, None).await.map_err(Halt::Before)?,
                Deed::Restart { stop_timeout } => {
                    let options = RestartContainerOptionsBuilder::default().t(seconds(*stop_timeout)).build();
                    docker.restart_container(target, Some(options)).await.map_err(Halt::Before)?;
                }
                Deed::StopStart { stop_timeout } => {
                    let options = StopContainerOptionsBuilder::default().t(seconds(*stop_timeout)).build();
                    docker.stop_container(target, Some(options)).await.map_err(Halt::Before)?;
                    docker.start_container(target, None).await.map_err(Halt::Halfway)?;
                }
                Deed::Recreate { stop_timeout, image } => {
                    let operation = Operation::Recreate { stop_timeout: *stop_timeout, image: image.as_deref() };
                    return self.operate(target, &operation, limit).await;
                }
                Deed::Replicate => return self.operate(target, &Operation::Replicate, limit).await,
                Deed::Remove { stop_timeout } => {
                    return self.operate(target, &Operation::Remove { stop_timeout: *stop_timeout }, limit).await;
                }
            }
            Ok(Done::default())
        };
        match within(limit, done).await? {
            Ok(done) => Ok(done),
            Err(Halt::Before(error)) => Err(self.failed(error).await),
            Err(Halt::Told(error)) => Err(error),
            Err(Halt::Halfway(error)) => Err(BackendError::Failed(format!("stopped, and then: {error}"))),
        }
    }

    async fn logs(&self, id: &str, lines: usize) -> Result<Vec<String>, BackendError> {
        let docker = self.client().await?;
        let tail = lines.min(MAX_LINES).to_string();
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&tail).build();
        let read = docker.logs(id, Some(options)).try_fold(Lines::default(), |mut lines, piece| async {
            lines.push(piece);
            Ok(lines)
        });
        match within(READ_LIMIT, read).await? {
            Ok(read) => Ok(read.last(lines)),
            Err(error) => Err(self.failed(error).await),
        }
    }

    async fn stops(&self, since: Timestamp, tell: mpsc::Sender<(String, Timestamp)>) -> Result<(), BackendError> {
        let docker = self.client().await?;
        // A crash, and a kill, end in `die`; only who asks for a stop makes a `stop`.
        let filters = HashMap::from([("type", vec!["container"]), ("event", vec!["stop"])]);
        let since = (since.millis() / 1000).to_string();
        let options = EventsOptionsBuilder::default().since(&since).filters(&filters).build();
        let mut events = docker.events(Some(options));
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => return Err(self.failed(error).await),
            };
            let name = event.actor.and_then(|a| a.attributes).and_then(|mut a| a.remove("name"));
            let at = event.time_nano.map(|nanos| Timestamp::from_millis(nanos / 1_000_000));
            if let (Some("stop"), Some(name), Some(at)) = (event.action.as_deref(), name, at)
                && tell.send((bare(&name), at)).await.is_err()
            {
                break;
            }
        }
        Ok(())
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

fn seconds(time: Duration) -> i32 {
    i32::try_from(time.as_secs()).unwrap_or(i32::MAX)
}

fn run_state(state: Option<ContainerSummaryStateEnum>) -> RunState {
    match state {
        Some(ContainerSummaryStateEnum::RUNNING) => RunState::Running,
        Some(ContainerSummaryStateEnum::PAUSED) => RunState::Paused,
        Some(ContainerSummaryStateEnum::RESTARTING | ContainerSummaryStateEnum::REMOVING) => RunState::Changing,
        _ => RunState::Down,
    }
}

/// The services that this one cannot do without. One that only had to end before it started is
/// not among them.
fn depends_on(labels: &HashMap<String, String>) -> Vec<String> {
    let list = |name: &str| labels.get(name).map_or("", String::as_str).split(',');
    // compose writes `service:condition:restart`.
    let compose = list(COMPOSE_DEPENDS_ON).filter_map(|entry| {
        let mut fields = entry.split(':');
        let service = fields.next()?;
        (fields.next() != Some("service_completed_successfully")).then_some(service)
    });
    let mut found = Vec::new();
    for service in compose.chain(list(DEPENDS_ON)).map(str::trim) {
        if !service.is_empty() && !found.iter().any(|f| f == service) {
            found.push(service.to_owned());
        }
    }
    found
}

/// Puts lines together again: a long one comes in pieces, those of the two streams mixed.
#[derive(Default)]
struct Lines {
    whole: Vec<String>,
    /// Of standard output, of standard error.
    open: [Vec<u8>; 2],
}

impl Lines {
    fn push(&mut self, piece: LogOutput) {
        let (stream, text) = match piece {
            LogOutput::StdErr { message } => (1, message),
            LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message } => {
                (0, message)
            }
        };
        let Some(open) = self.open.get_mut(stream) else { return };
        let mut parts = text.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            // A character has at most four bytes: what is longer is cut below anyway.
            let room = (MAX_LINE * 4).saturating_sub(open.len());
            open.extend_from_slice(part.get(..room).unwrap_or(part));
            if parts.peek().is_some() {
                self.whole.push(plain(&std::mem::take(open)));
            }
        }
    }

    fn last(mut self, lines: usize) -> Vec<String> {
        for open in self.open.iter().filter(|o| !o.is_empty()) {
            self.whole.push(plain(open));
        }
        let surplus = self.whole.len().saturating_sub(lines);
        self.whole.split_off(surplus)
    }
}

/// Foreign text: no more than a line, and nothing that a terminal would obey.
fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.trim_end().chars().filter(|c| !c.is_control() || *c == '\t').take(MAX_LINE).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_from_compose_and_from_our_label() {
        let labels = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let both = labels(&[
            (
                COMPOSE_DEPENDS_ON,
                "secrets:service_completed_successfully:false,postgres:service_healthy:false,redis:service_started:true",
            ),
            (DEPENDS_ON, " lake, postgres,,"),
        ]);
        assert_eq!(depends_on(&both), ["postgres", "redis", "lake"]);
        assert_eq!(depends_on(&labels(&[(COMPOSE_DEPENDS_ON, "")])), Vec::<String>::new());
        assert_eq!(depends_on(&labels(&[(COMPOSE_DEPENDS_ON, "old")])), ["old"]);
    }

    #[test]
    fn lines_are_put_together_and_made_plain() {
        let out = |text: &'static str| LogOutput::StdOut { message: text.into() };
        let err = |text: &'static str| LogOutput::StdErr { message: text.into() };
        let mut lines = Lines::default();
        for piece in [out("be"), err("oh\n"), out("gin\r\nsecond\n"), out("\x1b[31mred\tone\x07\n"), err("open")] {
            lines.push(piece);
        }
        assert_eq!(lines.last(10), ["oh", "begin", "second", "[31mred\tone", "open"]);
        let mut long = Lines::default();
        for _ in 0..3 {
            long.push(LogOutput::StdOut { message: vec![b'x'; MAX_LINE * 3].into() });
        }
        long.push(out("\nlast\n"));
        let last = long.last(2);
        assert_eq!((last[0].len(), last[1].as_str()), (MAX_LINE, "last"));
        let mut broken = Lines::default();
        broken.push(LogOutput::Console { message: vec![0xff, b'a', b'\n'].into() });
        assert_eq!(broken.last(1), ["\u{fffd}a"]);
    }
}
