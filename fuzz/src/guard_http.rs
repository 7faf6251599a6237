//! Whatever comes on a connection, before the guard's real server. Behind it a daemon is played that
//! knows one managed container and says yes to everything: what reaches it is what got through.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, Once, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use docker_guard::{Config, server::Guard};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    runtime::Runtime,
    time::{sleep, timeout},
};

const TOKEN: &str = "fuzz-token-0123456789";

/// Longer than anything that a request may lead to. Time is virtual: it passes when nothing else can.
const QUIET: Duration = Duration::from_secs(300);

/// Set when a task panicked, which a server survives and a test must not.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// What reached the daemon, and whether it was asked for with the token.
#[derive(Default)]
struct Heard {
    lines: Vec<String>,
    entitled: bool,
}

/// A guard with its daemon.
pub struct GuardHttp {
    runtime: Runtime,
    guard: Arc<Guard>,
    heard: Arc<Mutex<Heard>>,
    _folder: TempDir,
}

impl GuardHttp {
    /// Starts both.
    ///
    /// # Panics
    /// When that is not possible.
    #[expect(clippy::new_without_default, reason = "it does more than a default may")]
    pub fn new() -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                PANICKED.store(true, Ordering::SeqCst);
                before(panic);
            }));
        });
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("docker.sock");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
        let heard = Arc::<Mutex<Heard>>::default();
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(&socket).expect("a socket")
        };
        let notes = heard.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(daemon(stream, notes.clone()));
            }
        });
        Self { guard: guard(&socket), runtime, heard, _folder: folder }
    }

    /// Sends bytes on a connection of their own, reads the answer, and waits until nothing is under way.
    ///
    /// # Panics
    /// When the guard panics, answers with something that is not HTTP, or lets through what it must not.
    pub fn send(&self, bytes: &[u8]) {
        let token = TOKEN.as_bytes();
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).entitled =
            bytes.windows(token.len()).any(|w| w == token);
        let answer = self.runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(64 * 1024);
            let peer = SocketAddr::from(([127, 0, 0, 1], 1));
            let serving = tokio::spawn(docker_guard::server::serve_connection(self.guard.clone(), peer, server));
            let _ = timeout(Duration::from_secs(1), client.write_all(bytes)).await;
            let mut answer = Vec::new();
            // What waits for more is ended by the guard's own limits; a stream lasts, and is left.
            let _ = timeout(Duration::from_secs(100), client.read_to_end(&mut answer)).await;
            drop(client);
            sleep(QUIET).await;
            assert!(serving.is_finished(), "a connection that nobody holds any more is still served");
            answer
        });
        assert!(!PANICKED.load(Ordering::SeqCst), "a task panicked");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(&answer));
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let entitled = heard.entitled;
        for line in heard.lines.drain(..) {
            assert!(known(&line), "{line} reached the daemon");
            // A change that nobody is entitled to is a finding by itself.
            assert!(line.starts_with("GET ") || line.starts_with("HEAD ") || entitled, "{line} without the token");
        }
    }
}

/// The same with one guard for all calls.
///
/// # Panics
/// See [`GuardHttp::send`].
pub fn guard_http(bytes: &[u8]) {
    static WORLD: OnceLock<GuardHttp> = OnceLock::new();
    WORLD.get_or_init(GuardHttp::new).send(bytes);
}

fn guard(socket: &Path) -> Arc<Guard> {
    let socket = socket.to_string_lossy().into_owned();
    let args = ["docker-guard", "--project", "stack", "--token", TOKEN, "--docker-socket", &socket];
    let config = Config::try_parse_from(args).expect("a configuration");
    Arc::new(Guard::new(&config, &telemetry::Runtime::for_test()).expect("a guard"))
}

/// Answers one request with yes.
async fn daemon(mut stream: UnixStream, heard: Arc<Mutex<Heard>>) {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    while !complete(&request) {
        match stream.read(&mut piece).await {
            Ok(n @ 1..) => request.extend_from_slice(&piece[..n]),
            _ => return,
        }
    }
    let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
    let (id, new) = ("ab".repeat(32), "cd".repeat(32));
    let body = if line.contains("/version ") {
        r#"{"Version":"28.0.0","ApiVersion":"1.50","MinAPIVersion":"1.24","Os":"linux","Arch":"amd64"}"#.to_owned()
    } else if line.starts_with("POST") {
        format!(r#"{{"Id":"{new}"}}"#)
    } else if line.contains("/containers/json") || line.contains("/images/json") || line.contains("/networks?") {
        "[]".to_owned()
    } else if line.contains("/images/") {
        r#"{"Id":"sha256:11","Config":{}}"#.to_owned()
    } else {
        // The one that was asked for by name is a replica, so that there is something to remove.
        let replica = if line.contains("replica") { r#","selfheal.replica-of":"web""# } else { "" };
        format!(
            r#"{{"Id":"{id}","Name":"/web","Image":"sha256:11","State":{{"Status":"running"}},"HostConfig":{{"NetworkMode":"none"}},"Mounts":[],"NetworkSettings":{{"Networks":{{}}}},"Config":{{"Image":"x/web:1","Labels":{{"com.docker.compose.project":"stack","com.docker.compose.service":"web","selfheal.enable":"true"{replica}}}}}}}"#
        )
    };
    heard.lock().unwrap_or_else(PoisonError::into_inner).lines.push(line);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

/// Whether a request is there with its body, whose length the guard always tells.
fn complete(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    request.len() >= end + 4 + length
}

/// What may be sent to a daemon, with the looking up that the guard does for itself.
fn known(line: &str) -> bool {
    let Some((method, rest)) = line.split_once(' ') else { return false };
    let Some(target) = rest.strip_suffix(" HTTP/1.1") else { return false };
    let path = target.split('?').next().unwrap_or_default();
    let segments: Vec<_> = path.split('/').skip(1).collect();
    if segments == ["version"] {
        return method == "GET";
    }
    let Some(version) = segments.first().and_then(|s| s.strip_prefix("v1.")) else { return false };
    let plain = |s: &str| !s.starts_with('.') && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    let whole = |s: &str| s.len() == 64 && s.bytes().all(|b| b.is_ascii_hexdigit());
    version.parse::<u16>().is_ok()
        && match (method, &segments[1..]) {
            ("GET" | "HEAD", ["_ping"]) => true,
            ("GET", ["version" | "events" | "networks"] | ["containers", "json"] | ["images", "json"]) => true,
            ("GET", ["containers", reference, "json"]) => plain(reference),
            ("GET", ["containers", id, "logs" | "stats"]) => whole(id),
            ("GET", ["images", name @ .., "json"]) => name.iter().all(|n| plain(&n.replace([':', '@'], ""))),
            ("POST", ["containers", "create"]) => true,
            ("POST", ["containers", id, "restart" | "start" | "stop" | "rename"]) => whole(id),
            ("DELETE", ["containers", id]) => whole(id),
            _ => false,
        }
}
