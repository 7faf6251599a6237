//! The lake's faults on demand, at the network: a proxy on loopback between the S3 client and the lake.
//!
//! The client under test is the real one, and so is the lake behind it: what they see is a server that answers
//! 503, is slow, or whose connections break in the middle of an object. Each fault has a time to live; none is kept
//! over a restart. While none is active, bytes pass through as they are.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

/// How long a fault may last.
pub const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
/// The longest delay of an answer.
pub const MAX_DELAY: Duration = Duration::from_secs(60);
/// A request's head is no larger.
const MAX_HEAD: usize = 64 << 10;
const BUFFER: usize = 16 << 10;
const REFUSAL: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>SlowDown</Code>\
                       <Message>a fault that was ordered</Message></Error>";

/// What is wrong with the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It answers 503.
    Unavailable,
    /// Each answer comes late.
    Slow,
    /// The connection breaks in the middle of an answer.
    Cut,
    /// The connection breaks in the middle of what is being written.
    HalfWritten,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unavailable, Self::Slow, Self::Cut, Self::HalfWritten];

    /// The value of the metric's label `fault`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "lake_unavailable",
            Self::Slow => "lake_slow",
            Self::Cut => "lake_cut",
            Self::HalfWritten => "lake_half_written",
        }
    }
}

/// A fault with its measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// What is wrong.
    pub kind: Kind,
    /// Share of connections that it befalls, 0 to 1.
    pub ratio: f64,
    /// Delay of each answer, of [`Kind::Slow`].
    pub delay: Duration,
    /// Bytes that still pass, of [`Kind::Cut`] and [`Kind::HalfWritten`].
    pub bytes: u64,
}

/// The fault that is switched on, if any. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Switch>);

#[derive(Debug)]
struct Switch {
    state: Mutex<State>,
    /// Connections end when it changes.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    active: Option<(Fault, Instant)>,
    /// Shares add up until they make a whole connection: no chance is involved.
    due: f64,
}

impl State {
    fn active(&self, now: Instant) -> Option<(Fault, Instant)> {
        self.active.filter(|(_, until)| now < *until)
    }

    /// What befalls the next connection.
    fn next(&mut self, now: Instant) -> Option<Fault> {
        let (fault, _) = self.active(now)?;
        self.due += fault.ratio;
        if self.due < 1.0 - 1e-9 {
            return None;
        }
        self.due -= 1.0;
        Some(fault)
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self(Arc::new(Switch { state: Mutex::default(), changes: watch::Sender::new(0) }))
    }
}

impl Faults {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Switches a fault on, in the place of the one before; connections that are open end.
    pub fn put(&self, fault: Fault, ttl: Duration) {
        *self.state() = State { active: Some((fault, Instant::now() + ttl)), due: 0.0 };
        self.0.changes.send_modify(|n| *n += 1);
    }

    /// Switches it off.
    pub fn clear(&self) {
        *self.state() = State::default();
        self.0.changes.send_modify(|n| *n += 1);
    }

    /// The fault that is on, and for how long.
    pub fn active(&self) -> Option<(Fault, Duration)> {
        let now = Instant::now();
        self.state().active(now).map(|(fault, until)| (fault, until.duration_since(now)))
    }
}

/// Proxies connections to `target` (`host:port`) until the shutdown.
pub async fn run(listener: TcpListener, target: String, faults: Faults, shutdown: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(connection(client, target.clone(), faults.clone()));
                }
            }
        }
    }
}

/// Opens the proxy on loopback.
///
/// # Errors
/// There is no port.
pub async fn listen() -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// One connection. Whatever breaks is seen by the client as a connection that breaks.
async fn connection(client: TcpStream, target: String, faults: Faults) {
    let mut changes = faults.0.changes.subscribe();
    let fault = faults.state().next(Instant::now());
    let serve = async {
        if let Some(Fault { kind: Kind::Unavailable, .. }) = fault {
            return refuse(client).await;
        }
        let server = TcpStream::connect(&target).await?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let none = u64::MAX;
        let (upward, downward, delay) = match fault {
            Some(Fault { kind: Kind::Cut, bytes, .. }) => (none, bytes, Duration::ZERO),
            Some(Fault { kind: Kind::HalfWritten, bytes, .. }) => (bytes, none, Duration::ZERO),
            Some(Fault { kind: Kind::Slow, delay, .. }) => (none, none, delay),
            Some(Fault { kind: Kind::Unavailable, .. }) | None => (none, none, Duration::ZERO),
        };
        let asked = tokio::sync::Notify::new();
        tokio::select! {
            result = pass(from_client, to_server, upward, || asked.notify_one()) => result,
            result = answer(from_server, to_client, downward, delay, &asked) => result,
        }
    };
    // What a fault befell goes on after it only by a connection of its own.
    let over = async {
        match fault.and_then(|_| faults.active()) {
            Some((_, left)) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = serve => {}
        _ = changes.changed() => {}
        () = over => {}
    }
}

/// Passes bytes on until the end, or until so many have passed; says so before each.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, limit: u64, passing: impl Fn()) -> std::io::Result<()> {
    let (mut buffer, mut passed) = (vec![0; BUFFER], 0u64);
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            // The other direction may still have something to say.
            to.shutdown().await?;
            return std::future::pending().await;
        }
        passing();
        let room = usize::try_from(limit - passed).unwrap_or(usize::MAX).min(read);
        to.write_all(&buffer[..room]).await?;
        passed += room as u64;
        if passed >= limit {
            return Ok(());
        }
    }
}

/// Passes answers on, the first bytes after each request late.
async fn answer(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    limit: u64,
    delay: Duration,
    asked: &tokio::sync::Notify,
) -> std::io::Result<()> {
    let (mut buffer, mut passed) = (vec![0; BUFFER], 0u64);
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let first = !delay.is_zero() && tokio::time::timeout(Duration::ZERO, asked.notified()).await.is_ok();
        if first {
            tokio::time::sleep(delay).await;
        }
        let room = usize::try_from(limit - passed).unwrap_or(usize::MAX).min(read);
        to.write_all(&buffer[..room]).await?;
        passed += room as u64;
        if passed >= limit {
            return Ok(());
        }
    }
}

/// Takes a request whole, as a server does that is up and overloaded, and answers 503.
async fn refuse(mut client: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let body = loop {
        let read = client.read(&mut buffer).await?;
        if read == 0 || head.len() > MAX_HEAD {
            return Ok(());
        }
        head.extend_from_slice(&buffer[..read]);
        if let Some(end) = head.windows(4).position(|w| w == b"\r\n\r\n") {
            let announced = content_length(&head[..end]);
            break announced.saturating_sub((head.len() - end - 4) as u64);
        }
    };
    let mut left = body;
    while left > 0 {
        let read = client.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        left = left.saturating_sub(read as u64);
    }
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{REFUSAL}",
        REFUSAL.len()
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}

/// The body's length that a request's head announces; 0 without one.
fn content_length(head: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(head);
    let lines = text.split("\r\n").filter_map(|line| line.split_once(':'));
    let announced = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    announced.filter_map(|(_, value)| value.trim().parse().ok()).next().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: Kind, ratio: f64) -> Fault {
        Fault { kind, ratio, delay: Duration::from_secs(2), bytes: 10 }
    }

    /// A server that answers each line with `answer`, and says what it was sent when the connection ends.
    async fn server(answer: &'static [u8]) -> (String, tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let (tell, heard) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let (mut all, mut buffer) = (Vec::new(), [0; 1_024]);
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        all.extend_from_slice(&buffer[..read]);
                        if all.ends_with(b"\n") && stream.write_all(answer).await.is_err() {
                            break;
                        }
                    }
                    let _ = tell.send(all);
                });
            }
        });
        (target, heard)
    }

    async fn proxy(target: String) -> (SocketAddr, Faults) {
        let (listener, address) = listen().await.unwrap();
        let faults = Faults::default();
        tokio::spawn(run(listener, target, faults.clone(), CancellationToken::new()));
        (address, faults)
    }

    async fn ask(address: SocketAddr, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_millis(300), stream.read_to_end(&mut answer)).await;
        answer
    }

    #[tokio::test]
    async fn each_fault_is_what_it_says() {
        let (target, mut heard) = server(b"an answer of some length").await;
        let (address, faults) = proxy(target).await;
        assert_eq!(ask(address, b"hello\n").await, b"an answer of some length");
        assert_eq!(heard.recv().await.unwrap(), b"hello\n");

        faults.put(fault(Kind::Unavailable, 1.0), Duration::from_secs(60));
        let refused = ask(address, b"PUT /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").await;
        assert!(refused.starts_with(b"HTTP/1.1 503 ") && refused.ends_with(b"</Error>"));

        faults.put(fault(Kind::Cut, 1.0), Duration::from_secs(60));
        assert_eq!(ask(address, b"hello\n").await, b"an answer ", "ten bytes and no more");
        heard.recv().await.unwrap();

        faults.put(fault(Kind::HalfWritten, 1.0), Duration::from_secs(60));
        assert_eq!(ask(address, b"a request of some length\n").await, b"");
        assert_eq!(heard.recv().await.unwrap(), b"a request ", "half of it arrived");

        faults.put(fault(Kind::Slow, 1.0), Duration::from_secs(60));
        assert_eq!(ask(address, b"hello\n").await, b"", "it takes two seconds");
        faults.clear();
        assert_eq!(ask(address, b"hello\n").await, b"an answer of some length");
    }

    #[tokio::test]
    async fn a_connection_that_is_open_ends_when_a_fault_begins() {
        let (target, _heard) = server(b"answer").await;
        let (address, faults) = proxy(target).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"hello\n").await.unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).await.unwrap();
        faults.put(fault(Kind::Unavailable, 1.0), Duration::from_secs(60));
        assert_eq!(stream.read(&mut answer).await.unwrap_or(0), 0);
    }

    #[test]
    fn shares_add_up_and_the_time_to_live_ends() {
        let mut state =
            State { active: Some((fault(Kind::Cut, 0.3), Instant::now() + Duration::from_secs(9))), due: 0.0 };
        let hits = (0..100).filter(|_| state.next(Instant::now()).is_some()).count();
        assert_eq!(hits, 30);
        let later = Instant::now() + Duration::from_secs(10);
        assert_eq!((state.next(later), state.active(later)), (None, None));
        assert_eq!(content_length(b"PUT / HTTP/1.1\r\ncontent-length: 12"), 12);
        assert_eq!(content_length(b"GET / HTTP/1.1"), 0);
    }
}
