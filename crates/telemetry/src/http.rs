//! The HTTP layer of every service: request id, span, metrics, access log,
//! panics and unknown routes as problems, bounded bodies, graceful end.

use std::{
    future::{Future, IntoFuture},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{Instrument, field::Empty};

use crate::{metrics::HttpMetrics, problem::Problem, trace};

/// Bodies larger than this are refused with 413 unless a service says otherwise.
pub const DEFAULT_BODY_LIMIT: usize = 64 * 1024;

/// The header that carries a request's id, in and out.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Puts the layer around a finished router. Call it last: routes added later escape it.
pub fn instrument(router: Router, metrics: HttpMetrics) -> Router {
    instrument_with_limit(router, metrics, DEFAULT_BODY_LIMIT)
}

/// Like [`instrument`], with a body limit in bytes.
pub fn instrument_with_limit(router: Router, metrics: HttpMetrics, body_limit: usize) -> Router {
    router
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "Not found").detail("no such resource") })
        .method_not_allowed_fallback(|method: Method| async move {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
                .detail(format!("{method} is not possible here"))
        })
        .layer(DefaultBodyLimit::max(body_limit))
        .layer(CatchPanicLayer::custom(|panic: Box<dyn std::any::Any + Send>| {
            let text = panic
                .downcast_ref::<&str>()
                .map(ToString::to_string)
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "panic".to_owned());
            Problem::internal(format!("handler panicked: {text}")).into_response()
        }))
        .layer(Observe(Arc::new(metrics)))
}

/// Serves until `shutdown`, then lets requests under way finish within `grace`.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    grace: Duration,
) -> io::Result<()> {
    // Handlers may ask for `ConnectInfo<SocketAddr>`: whom they speak with.
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned()).into_future();
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        result = server => result,
        () = overdue => {
            tracing::warn!(grace_seconds = grace.as_secs_f64(), "requests still open after the grace period were cut");
            Ok(())
        }
    }
}

#[derive(Clone)]
struct Observe(Arc<HttpMetrics>);

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;
    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, metrics: self.0.clone() }
    }
}

#[derive(Clone)]
struct Observed<S> {
    inner: S,
    metrics: Arc<HttpMetrics>,
}

/// Counts the request as in flight for as long as it lives, even if its client goes away.
struct InFlight(Arc<HttpMetrics>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

impl<S> Service<Request> for Observed<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The service that was polled ready is the one to call; the clone waits for the next request.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let metrics = self.metrics.clone();
        metrics.in_flight.inc();
        let in_flight = InFlight(metrics.clone());

        let started = Instant::now();
        let matched = request.extensions().get::<MatchedPath>().cloned();
        let method = method_label(request.method());
        let path = request.uri().path().to_owned();
        let request_id = request_id(&request);
        let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
        let span = tracing::info_span!(
            "request",
            otel.name = format!("{method} {route}"),
            otel.kind = "server",
            http.request.method = method,
            http.route = route,
            url.path = path,
            http.response.status_code = Empty,
            request_id = request_id.to_str().unwrap_or_default(),
            user_id = Empty,
        );
        trace::set_parent(&span, request.headers());

        let future = async move {
            let _in_flight = in_flight;
            let result = inner.call(request).await;
            let elapsed = started.elapsed().as_secs_f64();
            let endpoint = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
            result.map(|mut response| {
                let status = response.status();
                metrics.requests.with_label_values(&[method, endpoint, status.as_str()]).inc();
                metrics.duration.observe(&[method, endpoint], elapsed);
                tracing::Span::current().record("http.response.status_code", status.as_u16());
                if status.is_server_error() {
                    trace::set_error(status.canonical_reason().unwrap_or("server error"));
                }
                tracing::info!(method, endpoint, status = status.as_u16(), seconds = elapsed, "request answered");
                response.headers_mut().insert(REQUEST_ID, request_id);
                complete_problem(response, &path)
            })
        };
        Box::pin(future.instrument(span))
    }
}

/// Methods come from the network; the label's values come from this set.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The caller's id if it is sane (1 to 64 characters of `[A-Za-z0-9._-]`), else a new one.
fn request_id(request: &Request) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        (1..=64).contains(&value.len())
            && value.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
    };
    request.headers().get(REQUEST_ID).filter(sane).cloned().unwrap_or_else(|| {
        let id = uuid::Uuid::new_v4().simple().to_string();
        HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    })
}

/// A problem learns here what its maker could not know: the path that it happened at.
fn complete_problem(mut response: Response, path: &str) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let body = problem.render(path);
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = Body::from(body);
    }
    response
}
