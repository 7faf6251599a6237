//! The proxy: reads a request, asks for a decision, carries it out.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration, time::Instant};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use telemetry::{Runtime, config::Secret};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, field::Empty};

use crate::{
    answer::{self, EventFilter},
    audit,
    collector::Snapshot,
    config::Config,
    daemon::{Daemon, Known},
    metrics::Metrics,
    operate::{self, Services, Stopped},
    policy::{
        self, Allowed, Answer, Container, ContainerId, Decision, Denied, Forward, HeaderFacts, Operation, Plan, Policy,
        Reason, Token, Verb,
    },
    stream::{self, Body, Held, Limits, StallGuard},
    upstream::{Upstream, UpstreamBody, UpstreamError},
};

/// Time for a request's head, which also bounds how long a kept-alive connection may idle.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// A client that takes nothing for so long is gone.
const STALL_LIMIT: Duration = Duration::from_secs(30);
/// Reading needs no longer than this, however busy the daemon is.
const READ_LIMIT: Duration = Duration::from_secs(15);
/// What a restart may need beside stopping: creating namespaces, mounting, starting.
const ACT_MARGIN: Duration = Duration::from_secs(30);
/// How long a request waits for its turn before it is told to come back.
const QUEUE_LIMIT: Duration = Duration::from_secs(1);
/// Healing actions under way at a time; they have their own lane so that readers cannot block them.
const MAX_HEALING: usize = 16;
/// How much of an unwanted body is read, so that its sender gets to see the answer.
const DRAIN_BYTES: usize = 1024 * 1024;
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// Everything that answering a request needs.
pub struct Guard {
    /// The daemon and what is known of it.
    pub daemon: Daemon,
    /// The guard's own metrics.
    pub metrics: Metrics,
    /// What the collector last saw.
    pub snapshot: Arc<Snapshot>,
    /// What is being done to which service.
    pub services: Services,
    /// Replicas that a service may have.
    pub max_replicas: u32,
    token: Secret,
    reading: Arc<Semaphore>,
    healing: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    limits: Limits,
}

impl Guard {
    /// Puts a guard together; nothing is asked of the daemon yet.
    ///
    /// # Errors
    /// The token cannot be read, or a metric's name is taken.
    pub fn new(config: &Config, rt: &Runtime) -> anyhow::Result<Self> {
        let snapshot = Arc::new(Snapshot::default());
        rt.registry.register(Box::new(crate::collector::Exporter::new(snapshot.clone())?))?;
        Ok(Self {
            daemon: Daemon::new(config),
            metrics: Metrics::new(&rt.registry)?,
            snapshot,
            services: Services::default(),
            max_replicas: config.max_replicas,
            token: config.secret()?,
            reading: Arc::new(Semaphore::new(config.max_requests)),
            healing: Arc::new(Semaphore::new(MAX_HEALING)),
            streams: Arc::new(Semaphore::new(config.max_streams)),
            limits: Limits {
                idle: *config.stream_idle,
                lifetime: *config.stream_lifetime,
                shutdown: rt.shutdown.clone(),
            },
        })
    }

    /// What the token in the headers is worth.
    fn token(&self, headers: &HeaderMap) -> Token {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Token::Absent };
        let bearer = value
            .as_bytes()
            .split_at_checked(7)
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
            .map(|(_, token)| token);
        match bearer {
            None => Token::Absent,
            Some(token) if bool::from(token.ct_eq(self.token.expose().as_bytes())) => Token::Right,
            Some(_) => Token::Wrong,
        }
    }

    /// What the daemon told; asked now if it has not been asked yet.
    async fn known(&self) -> Result<Arc<Known>, Reason> {
        let known = self.daemon.known();
        if known.versions.is_some() && known.policy.project.is_some() {
            return Ok(known);
        }
        self.daemon.learn().await.map_err(|e| reason_of(&e))
    }
}

/// Accepts connections until shutdown, then drains.
///
/// # Errors
/// None at present; a failed `accept` is logged and survived.
pub async fn serve(
    guard: Arc<Guard>,
    listener: TcpListener,
    max_connections: usize,
    shutdown: CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    let connections = Arc::new(Semaphore::new(max_connections));
    let graceful = GracefulShutdown::new();
    loop {
        // A connection beyond the limit waits in the kernel's queue.
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        let (stream, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let connection = graceful.watch(connection(guard.clone(), peer, stream));
        tokio::spawn(async move {
            // A broken connection is its client's affair.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections still open after the grace period were cut");
    }
    Ok(())
}

/// Answers what comes on one connection.
fn connection<S: AsyncRead + AsyncWrite + Unpin>(
    guard: Arc<Guard>,
    peer: SocketAddr,
    stream: S,
) -> http1::Connection<
    TokioIo<StallGuard<S>>,
    impl hyper::service::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send>,
> {
    let service = service_fn(move |request| {
        let guard = guard.clone();
        async move { Ok(answer(guard, peer, request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_headers(64).max_buf_size(16 * 1024);
    http.serve_connection(TokioIo::new(StallGuard::new(stream, STALL_LIMIT)), service)
}

/// The same for a connection that somebody else accepted.
pub async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin>(guard: Arc<Guard>, peer: SocketAddr, stream: S) {
    // A broken connection is its client's affair.
    let _ = connection(guard, peer, stream).await;
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> anyhow::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = connections.clone().acquire_owned().await.context("no more connections")?;
    let (stream, peer) = listener.accept().await?;
    let _ = stream.set_nodelay(true);
    Ok((stream, peer, permit))
}

/// What became of a request, for metrics and audit.
struct Outcome {
    verb: Verb,
    allowed: bool,
    reason: Reason,
    container: Option<Container>,
    response: Response<Body>,
}

/// Answers one request: span, decision, metrics, audit line.
async fn answer(guard: Arc<Guard>, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let target = parts.uri.to_string();
    let span = tracing::info_span!(
        "docker call",
        otel.name = Empty,
        otel.kind = "server",
        http.request.method = parts.method.as_str(),
        http.response.status_code = Empty,
        docker.verb = Empty,
        docker.container = Empty,
        guard.decision = Empty,
        guard.reason = Empty,
        request_id = Empty,
    );
    telemetry::trace::set_parent(&span, &parts.headers);
    let request_id = request_id(&parts.headers);
    span.record("request_id", request_id.to_str().unwrap_or_default());

    let metrics = guard.clone();
    metrics.metrics.http.in_flight.inc();
    let in_flight = scopeguard(move || metrics.metrics.http.in_flight.dec());

    async move {
        let _in_flight = in_flight;
        let facts = Facts {
            method: parts.method.clone(),
            target,
            headers: HeaderFacts::of(&parts.headers),
            token: guard.token(&parts.headers),
            plain_json: !parts.headers.contains_key(header::ACCEPT),
        };
        if !body.is_end_stream() {
            // Answering while the client still sends would break the connection under its answer.
            let drain = Limited::new(body, DRAIN_BYTES).collect();
            let _ = tokio::time::timeout(DRAIN_LIMIT, drain).await;
        }
        let outcome = handle(&guard, &facts).await;
        conclude(&guard, peer, &facts, outcome, started, request_id)
    }
    .instrument(span)
    .await
}

/// A request, owned, as far as it matters.
#[derive(Clone)]
struct Facts {
    method: Method,
    target: String,
    headers: HeaderFacts,
    token: Token,
    /// Docker's Go client sends no `Accept` and shows the message only of `application/json`.
    plain_json: bool,
}

impl Facts {
    fn request(&self) -> policy::Request<'_> {
        policy::Request { method: self.method.as_str(), target: &self.target, headers: self.headers, token: self.token }
    }
}

async fn handle(guard: &Arc<Guard>, facts: &Facts) -> Outcome {
    // What no daemon could make acceptable is refused without asking one.
    let route = match policy::route(&facts.request(), &guard.daemon.known().policy) {
        Ok(route) => route,
        Err(denied) => return refuse(facts, denied, None),
    };
    let verb = route.verb;
    let lane = if verb.heals() { &guard.healing } else { &guard.reading };
    let Ok(Ok(permit)) = tokio::time::timeout(QUEUE_LIMIT, lane.clone().acquire_owned()).await else {
        return refuse(facts, Denied::new(verb, Reason::Busy), None);
    };
    let known = match guard.known().await {
        Ok(known) => known,
        Err(reason) => return refuse(facts, Denied::new(verb, reason), None),
    };
    let container = match route.container() {
        None => None,
        Some(reference) => match find(guard, verb, reference, &known).await {
            Ok(container) => container,
            Err(error) => return fail(guard, facts, Denied::new(verb, reason_of(&error)), None, &error),
        },
    };
    match policy::decide(&facts.request(), container.as_ref(), &known.policy) {
        Decision::Deny(denied) => {
            // Who may not know of a container does not leave its name in our log either.
            let visible = container.filter(|_| denied.reason != Reason::NoSuchContainer);
            refuse(facts, denied, visible)
        }
        Decision::Allow(allowed) if allowed.verb.heals() => {
            // A client that hangs up must not leave a restart half observed.
            let (guard, facts) = (guard.clone(), facts.clone());
            let span = tracing::Span::current();
            let verb = allowed.verb;
            let on_panic = (facts.clone(), verb);
            let task = async move { execute(&guard, &facts, allowed, container, &known.policy, permit).await };
            tokio::spawn(task.instrument(span))
                .await
                .unwrap_or_else(|_| refuse(&on_panic.0, Denied::new(on_panic.1, Reason::DaemonAnswer), None))
        }
        Decision::Allow(allowed) => execute(guard, facts, allowed, container, &known.policy, permit).await,
    }
}

/// The container that a reference means; where one is to be made anew, also the one that has
/// taken the place of the one that is meant.
async fn find(guard: &Guard, verb: Verb, reference: &str, known: &Known) -> Result<Option<Container>, UpstreamError> {
    let version = known.policy.versions.max;
    let found = guard.daemon.find(reference, version).await?;
    match ContainerId::parse(reference) {
        Some(gone) if found.is_none() && verb == Verb::Recreate => guard.daemon.successor(&gone, version).await,
        _ => Ok(found),
    }
}

/// Carries an operation of the guard's own out and makes the answer.
async fn operate(
    guard: &Arc<Guard>,
    facts: &Facts,
    verb: Verb,
    reason: Reason,
    operation: &Operation,
    container: Container,
    policy: &Policy,
) -> Outcome {
    let started = Instant::now();
    let result = operate::run(guard, operation, &container, policy).await;
    guard.metrics.daemon_seconds.with_label_values(&[verb.name()]).observe(started.elapsed().as_secs_f64());
    match result {
        Ok(id) => {
            let response = json_response(StatusCode::OK, "application/json", &json!({"Id": id.as_str()}));
            Outcome { verb, allowed: true, reason, container: Some(container), response }
        }
        Err(Stopped::Denied(reason, detail)) => {
            let denied = Denied { verb, reason, detail };
            Outcome { allowed: true, ..refuse(facts, denied, Some(container)) }
        }
        Err(Stopped::Upstream(error)) => {
            let reason = match &error {
                UpstreamError::Status { .. } => Reason::DaemonAnswer,
                other => reason_of(other),
            };
            fail(guard, facts, Denied { verb, reason, detail: None }, Some(container), &error)
        }
    }
}

/// Sends the planned request and makes the answer.
async fn execute(
    guard: &Arc<Guard>,
    facts: &Facts,
    allowed: Allowed,
    container: Option<Container>,
    policy: &Policy,
    permit: OwnedSemaphorePermit,
) -> Outcome {
    let Allowed { verb, reason, plan } = allowed;
    // One thing at a time where a container comes or goes.
    let (mut shared, mut held) = (None, None);
    if let (true, Some(container)) = (verb.heals(), &container) {
        if verb.makes() {
            held = guard.services.hold(container.service_key());
        } else {
            shared = guard.services.share(container.service_key());
        }
        if held.is_none() && shared.is_none() {
            return refuse(facts, Denied::new(verb, Reason::TargetBusy), Some(container.clone()));
        }
    }
    let plan = match (plan, container.clone()) {
        (Plan::Forward(plan), _) => plan,
        (Plan::Operate(operation), Some(container)) => {
            return operate(guard, facts, verb, reason, &operation, container, policy).await;
        }
        // No operation is planned without a container.
        (Plan::Operate(_), None) => return refuse(facts, Denied::new(verb, Reason::NoSuchContainer), None),
    };
    let started = Instant::now();
    let result = carry_out(guard, &plan, policy, permit).await;
    guard.metrics.daemon_seconds.with_label_values(&[verb.name()]).observe(started.elapsed().as_secs_f64());
    match result {
        Ok(response) => Outcome { verb, allowed: true, reason, container, response },
        Err(Failure::Busy) => refuse(facts, Denied::new(verb, Reason::Busy), container),
        Err(Failure::Upstream(error)) => {
            let mut reason = reason_of(&error);
            let mut detail = None;
            if let UpstreamError::Status { status, message } = &error {
                reason = match status {
                    404 => Reason::NoSuchContainer,
                    400..500 => Reason::DaemonRefused,
                    // Docker says 500 when a container cannot be started: the caller must know why.
                    _ if verb.heals() => Reason::DaemonRefused,
                    _ => Reason::DaemonAnswer,
                };
                detail = Some(message.clone()).filter(|m| !m.is_empty());
            }
            fail(guard, facts, Denied { verb, reason, detail }, container, &error)
        }
    }
}

enum Failure {
    Busy,
    Upstream(UpstreamError),
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

async fn carry_out(
    guard: &Arc<Guard>,
    plan: &Forward,
    policy: &Policy,
    permit: OwnedSemaphorePermit,
) -> Result<Response<Body>, Failure> {
    let limit = match plan.answer {
        Answer::Done { seconds } => Duration::from_secs(seconds.into()) + ACT_MARGIN,
        _ => READ_LIMIT,
    };
    // A stream holds a place of its own; the short lane is free again once the head is there.
    let place = match plan.answer {
        Answer::Events | Answer::Stream => Some(guard.streams.clone().try_acquire_owned().map_err(|_| Failure::Busy)?),
        _ => None,
    };
    let response = guard.daemon.upstream.send(plan.method, &plan.target, limit).await?;
    // 304: the container is in the wanted state already.
    if !response.status().is_success() && response.status() != StatusCode::NOT_MODIFIED {
        return Err(Upstream::refusal(response, limit).await.into());
    }
    if let Some(place) = place {
        drop(permit);
        let project = policy.project.clone().unwrap_or_default();
        let filter = (plan.answer == Answer::Events).then(|| EventFilter::new(project));
        let held = Held::new(place, guard.metrics.streams_open.clone());
        return Ok(streamed(response, filter, guard.limits.clone(), held));
    }
    let status = response.status();
    let os = response.headers().get("ostype").cloned();
    let project = policy.project.as_deref().unwrap_or_default();
    let transform: fn(Value, &Policy, &str) -> Option<Value> = match plan.answer {
        Answer::Done { .. } => {
            let mut done = Response::new(empty());
            *done.status_mut() = status;
            return Ok(done);
        }
        Answer::Ping => return Ok(ping(policy, os)),
        Answer::Version => |v, policy, _| answer::version(&v, policy.versions),
        Answer::Inspect => |v, _, _| answer::inspect(v),
        Answer::Containers => |v, _, project| answer::containers(v, project),
        _ => |v, _, project| answer::of_project(v, project),
    };
    let body = Upstream::whole(response, Upstream::MAX_JSON, limit).await?;
    let value = serde_json::from_slice(&body).ok().and_then(|v| transform(v, policy, project));
    let value = value.ok_or_else(|| UpstreamError::Unexpected("not what the endpoint documents".to_owned()))?;
    Ok(json_response(StatusCode::OK, "application/json", &value))
}

fn ping(policy: &Policy, os: Option<HeaderValue>) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from_static(b"OK")));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    if let Ok(version) = HeaderValue::try_from(policy.versions.max.to_string()) {
        headers.insert("api-version", version);
    }
    if let Some(os) = os {
        headers.insert("ostype", os);
    }
    response
}

fn streamed(
    response: Response<UpstreamBody>,
    filter: Option<EventFilter>,
    limits: Limits,
    held: Held,
) -> Response<Body> {
    let (parts, body) = response.into_parts();
    let mut response = Response::new(stream::pass_on(body, filter, limits, held));
    for name in ["content-type", "ostype", "server"] {
        if let Some(value) = parts.headers.get(name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

fn reason_of(error: &UpstreamError) -> Reason {
    match error {
        UpstreamError::Connect { .. } => Reason::DaemonUnavailable,
        UpstreamError::Timeout(_) => Reason::DaemonTimeout,
        UpstreamError::Http(_)
        | UpstreamError::TooLarge(_)
        | UpstreamError::Unexpected(_)
        | UpstreamError::Status { .. } => Reason::DaemonAnswer,
    }
}

/// It was allowed, and could not be done.
fn fail(
    guard: &Arc<Guard>,
    facts: &Facts,
    denied: Denied,
    container: Option<Container>,
    error: &UpstreamError,
) -> Outcome {
    if denied.reason != Reason::NoSuchContainer {
        tracing::warn!(verb = denied.verb.name(), %error, "the daemon did not do it");
        telemetry::trace::set_error(denied.reason.code());
    }
    if matches!(error, UpstreamError::Connect { .. }) {
        guard.metrics.daemon_up.set(0);
    }
    Outcome { allowed: true, ..refuse(facts, denied, container) }
}

/// A problem document that Docker clients can read as well.
fn refuse(facts: &Facts, denied: Denied, container: Option<Container>) -> Outcome {
    let status = StatusCode::from_u16(denied.reason.status()).unwrap_or(StatusCode::FORBIDDEN);
    let sentence = denied.sentence();
    let code = denied.reason.code();
    let mut problem = json!({
        "type": format!("docker-guard/{code}"),
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": sentence,
        "instance": facts.target.split('?').next().unwrap_or_default().chars().take(256).collect::<String>(),
        "reason": code,
        "message": format!("docker-guard: {sentence} ({code})"),
    });
    if let Some(trace_id) = telemetry::trace::current_trace_id() {
        problem["trace_id"] = trace_id.into();
    }
    let content_type = if facts.plain_json { "application/json" } else { "application/problem+json" };
    let mut response = json_response(status, content_type, &problem);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if status == StatusCode::BAD_REQUEST {
        // Whatever else this client put on the connection is not read.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Outcome { verb: denied.verb, allowed: false, reason: denied.reason, container, response }
}

/// Counts and audits an answer.
fn conclude(
    guard: &Guard,
    peer: SocketAddr,
    facts: &Facts,
    outcome: Outcome,
    started: Instant,
    request_id: HeaderValue,
) -> Response<Body> {
    let Outcome { verb, allowed, reason, container, mut response } = outcome;
    let (took, status) = (started.elapsed(), response.status());
    let decision = audit::decision(allowed);
    guard.metrics.requests.with_label_values(&[verb.name(), decision, reason.code()]).inc();
    let method = match facts.method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    // The verb is the closed set that route templates are elsewhere.
    guard.metrics.http.requests.with_label_values(&[method, verb.name(), status.as_str()]).inc();
    // How long a stream or a container's end takes says nothing about the guard.
    if !verb.lasts() {
        guard.metrics.http.duration.observe(&[method, verb.name()], took.as_secs_f64());
    }

    let span = tracing::Span::current();
    span.record("otel.name", format!("docker {}", verb.name()));
    span.record("http.response.status_code", status.as_u16());
    span.record("docker.verb", verb.name());
    span.record("guard.decision", decision);
    span.record("guard.reason", reason.code());
    if let Some(container) = &container {
        span.record("docker.container", container.name.as_str());
    }
    let record = audit::Record {
        peer,
        caller: guard.snapshot.name_of(peer.ip()),
        method: facts.method.as_str(),
        target: &facts.target,
        verb,
        allowed,
        reason,
        container: container.as_ref(),
        status: status.as_u16(),
        took,
    };
    record.write();
    response.headers_mut().insert(telemetry::http::REQUEST_ID, request_id);
    response
}

/// The caller's id if it is sane, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        (1..=64).contains(&value.len())
            && value.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
    };
    headers.get(telemetry::http::REQUEST_ID).filter(sane).cloned().unwrap_or_else(|| {
        HeaderValue::try_from(uuid::Uuid::new_v4().simple().to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    })
}

fn json_response(status: StatusCode, content_type: &'static str, value: &Value) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn empty() -> Body {
    full(Bytes::new())
}

/// Runs `end` when dropped, also when the request's future is.
fn scopeguard(end: impl FnOnce() + Send + 'static) -> impl Send {
    struct OnDrop<F: FnOnce()>(Option<F>);
    impl<F: FnOnce()> Drop for OnDrop<F> {
        fn drop(&mut self) {
            if let Some(end) = self.0.take() {
                end();
            }
        }
    }
    OnDrop(Some(end))
}
