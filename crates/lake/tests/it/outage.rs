//! The way to a real endpoint is cut and mended; a server that only answers 503.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use lake::{
    Batch, Cursor, Lake, LakeError, Observer, Operation, Outcome, Settings,
    store::{Backend, S3},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::support::{NOON_US, drain, readings, s3, s3_settings};

/// A TCP proxy that can be cut.
struct Proxy {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Proxy {
    async fn start(address: &str, target: String) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            // Dropped with the task: cutting ends the connections too.
            let mut connections = JoinSet::new();
            while let Ok((mut inward, _)) = listener.accept().await {
                let target = target.clone();
                connections.spawn(async move {
                    if let Ok(mut outward) = TcpStream::connect(target).await {
                        let _ = copy_bidirectional(&mut inward, &mut outward).await;
                    }
                });
            }
        });
        Self { address, task }
    }

    async fn cut(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

/// Starts a server that treats each connection alike.
async fn server<F, Fut>(handle: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handle(stream));
        }
    });
    address
}

#[derive(Default)]
struct Log(Mutex<Vec<(Operation, Outcome)>>);

impl Observer for Log {
    fn request(&self, operation: Operation, outcome: Outcome, _: Duration) {
        self.0.lock().unwrap().push((operation, outcome));
    }
}

#[tokio::test]
async fn an_outage_shows_within_seconds_and_the_same_batch_goes_through_afterwards() {
    let direct = s3_settings();
    let target = direct.endpoint.trim_start_matches("http://").to_owned();
    let proxy = Proxy::start("127.0.0.1:0", target.clone()).await;
    let lake = s3(&S3 { endpoint: format!("http://{}", proxy.address), ..direct.clone() });
    let mut cursor = Cursor::starting_at(NOON_US);

    lake.write(&Batch::new(&readings("b", 1..=5)).unwrap(), NOON_US + 1).await.unwrap();
    assert_eq!(drain(&lake, &mut cursor).await.len(), 1);

    let address = proxy.cut().await;
    let batch = Batch::new(&readings("b", 6..=10)).unwrap();
    let started = Instant::now();
    for _ in 0..3 {
        assert!(lake.write(&batch, NOON_US + 2).await.unwrap_err().is_unavailable());
        assert!(lake.manifests_after(&cursor, 5).await.unwrap_err().is_unavailable());
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());

    let _proxy = Proxy::start(&address.to_string(), target).await;
    lake.write(&batch, NOON_US + 3).await.unwrap();
    let got = drain(&lake, &mut cursor).await;
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].as_ref().unwrap().readings.len(), 10);
}

#[tokio::test]
async fn a_503_is_unavailable_and_observed_as_such() {
    let address = server(|mut stream| async move {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {
            let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
            if stream.write_all(answer).await.is_err() {
                break;
            }
        }
    })
    .await;
    let log = Arc::new(Log::default());
    let backend = Backend::S3(S3 { endpoint: format!("http://{address}"), ..s3_settings() });
    let lake = Lake::open(&Settings { backend }, log.clone()).unwrap();
    let error = lake.manifests_after(&Cursor::starting_at(0), 5).await.unwrap_err();
    assert!(matches!(error, LakeError::Unavailable { status: Some(503), .. }), "{error:?}");
    assert!(lake.fetch("00001769864400000000-b.json").await.unwrap_err().is_unavailable());
    assert_eq!(
        *log.0.lock().unwrap(),
        [(Operation::List, Outcome::Unavailable), (Operation::Get, Outcome::Unavailable)]
    );
}

#[tokio::test]
async fn an_https_endpoint_is_spoken_to_in_tls() {
    let (send, mut first) = tokio::sync::mpsc::channel(8);
    let address = server(move |mut stream| {
        let send = send.clone();
        async move {
            let mut hello = [0; 3];
            if stream.read_exact(&mut hello).await.is_ok() {
                let _ = send.send(hello).await;
            }
        }
    })
    .await;
    let backend = Backend::S3(S3 { endpoint: format!("https://{address}"), ..s3_settings() });
    let lake = Lake::open(&Settings { backend }, Arc::new(Log::default())).unwrap();
    let error = lake.manifests_after(&Cursor::starting_at(0), 5).await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    // A handshake record of TLS, and no word of HTTP.
    assert_eq!(first.recv().await.map(|hello| (hello[0], hello[1])), Some((0x16, 0x03)));
}

#[tokio::test]
async fn a_server_that_hangs_or_cuts_the_answer_is_unavailable_within_the_limit() {
    let hung = server(|stream| async move {
        let _held = stream;
        std::future::pending().await
    })
    .await;
    let cutting = server(|mut stream| async move {
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).await.unwrap_or(0);
        // The client asks for the missing rest by range: no answer to that either.
        if !String::from_utf8_lossy(&buffer[..n]).to_ascii_lowercase().contains("\r\nrange:") {
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 5000\r\netag: \"x\"\r\n\
                        last-modified: Sat, 31 Jan 2026 13:00:00 GMT\r\n\r\n{";
            let _ = stream.write_all(head.as_bytes()).await;
        }
    })
    .await;
    for address in [hung, cutting] {
        let lake = s3(&S3 { endpoint: format!("http://{address}"), ..s3_settings() });
        let started = Instant::now();
        let error = lake.fetch("00001769864400000000-b.json").await.unwrap_err();
        assert!(error.is_unavailable(), "{error:?}");
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    }
}
