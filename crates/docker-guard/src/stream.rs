//! Long answers: passed on as they come, with back-pressure and an end.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use telemetry::metrics::IntGauge;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{answer::EventFilter, upstream::UpstreamBody};

/// Body of every answer of the guard.
pub type Body = BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// When a stream ends although the daemon has more to say.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Nothing came for so long.
    pub idle: Duration,
    /// It has been open for so long.
    pub lifetime: Duration,
    /// The guard stops.
    pub shutdown: CancellationToken,
}

/// What a stream holds for as long as it is open.
pub struct Held {
    _permit: OwnedSemaphorePermit,
    open: IntGauge,
}

impl Held {
    /// Counts the stream as open.
    pub fn new(permit: OwnedSemaphorePermit, open: IntGauge) -> Self {
        open.inc();
        Self { _permit: permit, open }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// Passes an answer on. Nothing is read from the daemon before the client has
/// taken what came earlier: the back-pressure is that of the two sockets.
pub fn pass_on(body: UpstreamBody, filter: Option<EventFilter>, limits: Limits, held: Held) -> Body {
    let deadline = Instant::now() + limits.lifetime;
    let state = (body.into_data_stream(), filter, held);
    let frames = stream::unfold(Some(state), move |state| {
        let limits = limits.clone();
        async move {
            let (mut body, mut filter, held) = state?;
            loop {
                let end = deadline.min(Instant::now() + limits.idle);
                let data = tokio::select! {
                    biased;
                    () = limits.shutdown.cancelled() => return None,
                    () = tokio::time::sleep_until(end) => return None,
                    data = body.next() => data?,
                };
                let data = match (data, &mut filter) {
                    (Err(error), _) => return Some((Err(error.into()), None)),
                    (Ok(data), None) => data,
                    // What is no stream of events is cut off.
                    (Ok(data), Some(filter)) => filter.push(&data)?,
                };
                if !data.is_empty() {
                    return Some((Ok(Frame::data(data)), Some((body, filter, held))));
                }
            }
        }
    });
    boxed(frames)
}

fn boxed(
    frames: impl Stream<Item = Result<Frame<Bytes>, Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
) -> Body {
    // A boxed body must be Sync; the mutex is never contended, one task polls it.
    struct Shared<S>(std::sync::Mutex<S>);
    impl<S: Stream + Unpin> Stream for Shared<S> {
        type Item = S::Item;
        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
            self.0.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).poll_next_unpin(cx)
        }
    }
    BodyExt::boxed(StreamBody::new(Shared(std::sync::Mutex::new(Box::pin(frames)))))
}

/// A client's connection that fails once the client has taken nothing for a
/// while, so that one that reads no more cannot hold a stream open.
pub struct StallGuard<S> {
    inner: S,
    limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> StallGuard<S> {
    /// Wraps a connection.
    pub fn new(inner: S, limit: Duration) -> Self {
        Self { inner, limit, stalled: None }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.watch(cx, result)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(cx, result)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_cut_off() {
        let (client, server) = duplex(8);
        let mut server = StallGuard::new(server, Duration::from_secs(30));
        server.write_all(b"12345678").await.unwrap();
        let error = server.write_all(b"9").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(client);
    }
}
