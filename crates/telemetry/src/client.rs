//! An HTTP client whose calls are client spans and carry the trace on. Plain HTTP
//! inside the stack's networks; it follows no redirect.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
pub use reqwest::{Error, Response};
use serde::Serialize;
use tracing::{Instrument, field::Empty};

use crate::trace;

/// Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client(reqwest::Client);

/// A client whose calls end after `timeout`, connecting included.
///
/// # Errors
/// The client could not be built.
pub fn new(timeout: Duration) -> Result<Client, Error> {
    reqwest::Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map(Client)
}

impl Client {
    /// A request.
    pub fn request(&self, method: Method, url: impl AsRef<str>) -> RequestBuilder {
        RequestBuilder(self.0.request(method, url.as_ref()))
    }
    /// A GET.
    pub fn get(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::GET, url)
    }
    /// A POST.
    pub fn post(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::POST, url)
    }
}

/// A request being put together.
#[must_use = "nothing is sent before `send`"]
#[derive(Debug)]
pub struct RequestBuilder(reqwest::RequestBuilder);

impl RequestBuilder {
    /// Adds a header.
    pub fn header<V>(self, name: HeaderName, value: V) -> Self
    where
        HeaderValue: TryFrom<V>,
        <HeaderValue as TryFrom<V>>::Error: Into<http::Error>,
    {
        Self(self.0.header(name, value))
    }
    /// Adds a bearer token.
    pub fn bearer_auth(self, token: &str) -> Self {
        Self(self.0.bearer_auth(token))
    }
    /// Adds basic authentication.
    pub fn basic_auth(self, user: &str, password: &str) -> Self {
        Self(self.0.basic_auth(user, Some(password)))
    }
    /// Adds query parameters.
    pub fn query(self, query: &(impl Serialize + ?Sized)) -> Self {
        Self(self.0.query(query))
    }
    /// Sets a JSON body.
    pub fn json(self, body: &(impl Serialize + ?Sized)) -> Self {
        Self(self.0.json(body))
    }
    /// Sets a body.
    pub fn body(self, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.body(body))
    }
    /// A time limit for this call alone.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    /// Sends it inside a client span.
    ///
    /// # Errors
    /// The URL is not valid, or no answer came. An answer of 4xx or 5xx is no error here.
    pub async fn send(self) -> Result<Response, Error> {
        let (client, request) = self.0.build_split();
        let mut request = request?;
        let span = tracing::info_span!(
            "http call",
            otel.name = format!("{} {}", request.method(), request.url().host_str().unwrap_or_default()),
            otel.kind = "client",
            http.request.method = request.method().as_str(),
            server.address = request.url().host_str(),
            url.path = request.url().path(),
            http.response.status_code = Empty,
        );
        async move {
            trace::inject(request.headers_mut());
            let result = client.execute(request).await;
            match &result {
                Ok(response) => {
                    tracing::Span::current().record("http.response.status_code", response.status().as_u16());
                    if response.status().is_client_error() || response.status().is_server_error() {
                        trace::set_error(response.status().canonical_reason().unwrap_or("error"));
                    }
                }
                Err(_) => trace::set_error("no answer"),
            }
            result
        }
        .instrument(span)
        .await
    }
}
