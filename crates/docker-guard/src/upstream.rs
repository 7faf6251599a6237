//! HTTP to the Docker daemon over its Unix socket: one connection a request,
//! so that a daemon that restarts leaves no dead connection behind.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{net::UnixStream, task::AbortHandle, time::timeout};

/// Why the daemon gave nothing that can be used.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Nobody listens on the socket.
    #[error("cannot connect to {path}: {source}", path = path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No answer, or no end of it, in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The connection broke or what came is not HTTP.
    #[error("broken answer: {0}")]
    Http(#[from] hyper::Error),
    /// More than is accepted.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// Not what the endpoint documents.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
    /// An error status.
    #[error("status {status}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// Docker's message.
        message: String,
    },
}

/// The body of an answer; dropping it closes the connection.
pub struct UpstreamBody {
    inner: Incoming,
    _connection: AbortOnDrop,
}

/// Ends the connection's task together with whoever waits for its answer.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The daemon's socket.
#[derive(Clone, Debug)]
pub struct Upstream {
    socket: PathBuf,
}

impl Upstream {
    const CONNECT_LIMIT: Duration = Duration::from_secs(2);
    /// A list of a few hundred containers is well below this.
    pub const MAX_JSON: usize = 8 * 1024 * 1024;
    const MAX_ERROR: usize = 16 * 1024;

    /// Nothing is connected yet.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends a request without a body; the answer's head must come within `limit`.
    ///
    /// # Errors
    /// See [`UpstreamError`]; an error status is an answer, not an error.
    pub async fn send(
        &self,
        method: &str,
        target: &str,
        limit: Duration,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        self.send_with(method, target, None, limit).await
    }

    /// The same, with a body that was written here.
    ///
    /// # Errors
    /// See [`Upstream::send`].
    pub async fn send_with(
        &self,
        method: &str,
        target: &str,
        body: Option<&serde_json::Value>,
        limit: Duration,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let unavailable = |source| UpstreamError::Connect { path: self.socket.clone(), source };
        let stream = timeout(Self::CONNECT_LIMIT, UnixStream::connect(&self.socket))
            .await
            .map_err(|_| UpstreamError::Timeout(Self::CONNECT_LIMIT))?
            .map_err(unavailable)?;
        let body = body.map(|b| Bytes::from(b.to_string()));
        let mut request = Request::builder().method(method).uri(target).header(header::HOST, "docker");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.unwrap_or_default();
        let request = request
            .header(header::CONTENT_LENGTH, body.len())
            .body(Full::new(body))
            .map_err(|e| UpstreamError::Unexpected(e.to_string()))?;
        let exchange = async {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            // Its end is seen by whoever reads the answer.
            let connection = AbortOnDrop(tokio::spawn(async move { drop(connection.await) }).abort_handle());
            let response = sender.send_request(request).await?;
            Ok::<_, hyper::Error>(response.map(|inner| UpstreamBody { inner, _connection: connection }))
        };
        timeout(limit, exchange).await.map_err(|_| UpstreamError::Timeout(limit))?.map_err(UpstreamError::Http)
    }

    /// Sends a `GET` and reads the whole answer as JSON.
    ///
    /// # Errors
    /// See [`UpstreamError`].
    pub async fn json<T: DeserializeOwned>(&self, target: &str, limit: Duration) -> Result<T, UpstreamError> {
        let response = self.send("GET", target, limit).await?;
        if !response.status().is_success() {
            return Err(Self::refusal(response, limit).await);
        }
        let body = Self::whole(response, Self::MAX_JSON, limit).await?;
        serde_json::from_slice(&body).map_err(|e| UpstreamError::Unexpected(e.to_string()))
    }

    /// Reads a whole body of at most `max` bytes within `limit`.
    ///
    /// # Errors
    /// See [`UpstreamError`].
    pub async fn whole(response: Response<UpstreamBody>, max: usize, limit: Duration) -> Result<Bytes, UpstreamError> {
        let mut body = response.into_body();
        let read = async {
            let mut all = BytesMut::new();
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame?.into_data() {
                    if all.len() + data.len() > max {
                        return Err(UpstreamError::TooLarge(max));
                    }
                    all.extend_from_slice(&data);
                }
            }
            Ok(all.freeze())
        };
        timeout(limit, read).await.map_err(|_| UpstreamError::Timeout(limit))?
    }

    /// An error status with Docker's message.
    pub async fn refusal(response: Response<UpstreamBody>, limit: Duration) -> UpstreamError {
        #[derive(serde::Deserialize)]
        struct Message {
            message: String,
        }
        let status = response.status().as_u16();
        let body = Self::whole(response, Self::MAX_ERROR, limit).await.unwrap_or_default();
        let message = serde_json::from_slice::<Message>(&body).map(|m| m.message).unwrap_or_default();
        UpstreamError::Status { status, message: message.chars().filter(|c| !c.is_control()).take(500).collect() }
    }
}
