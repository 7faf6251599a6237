//! Whatever comes on a connection, before the guard's real server. Behind it a daemon is played that
//! knows one managed container and says yes to everything: what reaches it is what got through.
#![no_main]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::Parser;
use docker_guard::{Config, server::Guard};
use libfuzzer_sys::fuzz_target;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    runtime::Runtime,
};

const TOKEN: &str = "fuzz-token-0123456789";

struct World {
    runtime: Runtime,
    guard: Arc<Guard>,
    /// What reached the daemon.
    heard: Arc<Mutex<Vec<String>>>,
    /// Whether the token was in what was sent.
    entitled: Arc<AtomicBool>,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let socket = std::env::temp_dir().join(format!("guard-http-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&socket);
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let entitled = Arc::new(AtomicBool::new(false));
        let _inside = runtime.enter();
        let listener = UnixListener::bind(&socket).expect("a socket");
        let (notes, rights) = (heard.clone(), entitled.clone());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(daemon(stream, notes.clone(), rights.clone()));
            }
        });
        let socket = socket.to_string_lossy().into_owned();
        let args = ["docker-guard", "--project", "stack", "--token", TOKEN, "--docker-socket", &socket];
        let config = Config::try_parse_from(args).expect("a configuration");
        let guard = Arc::new(Guard::new(&config, &telemetry::Runtime::for_test()).expect("a guard"));
        World { runtime, guard, heard, entitled }
    })
}

async fn daemon(mut stream: UnixStream, heard: Arc<Mutex<Vec<String>>>, entitled: Arc<AtomicBool>) {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(n @ 1..) => request.extend_from_slice(&piece[..n]),
            _ => return,
        }
    }
    let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
    // A change that nobody is entitled to is a finding by itself.
    assert!(line.starts_with("GET ") || line.starts_with("HEAD ") || entitled.load(Ordering::SeqCst), "{line}");
    let id = "ab".repeat(32);
    let body = if line.contains("/version ") {
        r#"{"Version":"28.0.0","ApiVersion":"1.50","MinAPIVersion":"1.24","Os":"linux","Arch":"amd64"}"#.to_owned()
    } else if line.contains("/containers/json") || line.contains("/images/json") || line.contains("/networks?") {
        "[]".to_owned()
    } else if line.contains("/images/") {
        r#"{"Id":"sha256:11","Config":{}}"#.to_owned()
    } else {
        format!(
            r#"{{"Id":"{id}","Name":"/web","Image":"sha256:11","State":{{"Status":"running"}},"HostConfig":{{"NetworkMode":"none"}},"Mounts":[],"NetworkSettings":{{"Networks":{{}}}},"Config":{{"Image":"x/web:1","Labels":{{"com.docker.compose.project":"stack","selfheal.enable":"true"}}}}}}"#
        )
    };
    heard.lock().expect("notes").push(line);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

/// What may be sent to a daemon, beside the looking up that the guard does for itself.
fn known(line: &str) -> bool {
    let Some((method, rest)) = line.split_once(' ') else { return false };
    let Some(target) = rest.strip_suffix(" HTTP/1.1") else { return false };
    let path = target.split('?').next().unwrap_or_default();
    let segments: Vec<_> = path.split('/').skip(1).collect();
    if segments == ["version"] {
        return method == "GET";
    }
    let Some(version) = segments[0].strip_prefix("v1.") else { return false };
    let plain = |s: &str| !s.starts_with('.') && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    let whole = |s: &str| s.len() == 64 && s.bytes().all(|b| b.is_ascii_hexdigit());
    version.parse::<u16>().is_ok()
        && match (method, &segments[1..]) {
            ("GET" | "HEAD", ["_ping"]) => true,
            ("GET", ["version" | "events" | "networks"] | ["containers", "json"] | ["images", "json"]) => true,
            ("GET", ["containers", reference, "json"]) => plain(reference),
            ("GET", ["containers", id, "logs" | "stats"]) => whole(id),
            ("GET", ["images", name @ .., "json"]) => name.iter().all(|n| plain(n) || n.contains(':')),
            ("POST", ["containers", "create"]) => true,
            ("POST", ["containers", id, "restart" | "start" | "stop" | "rename"]) => whole(id),
            ("DELETE", ["containers", id]) => whole(id),
            _ => false,
        }
}

fuzz_target!(|bytes: &[u8]| {
    let world = world();
    let token = TOKEN.as_bytes();
    world.entitled.store(bytes.windows(token.len()).any(|w| w == token), Ordering::SeqCst);
    let answer = world.runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let serving = tokio::spawn(docker_guard::server::serve_connection(world.guard.clone(), peer, server));
        let _ = client.write_all(bytes).await;
        let _ = client.shutdown().await;
        let mut answer = Vec::new();
        // A stream lasts; what matters has come by then.
        let read = client.read_to_end(&mut answer);
        let _ = tokio::time::timeout(std::time::Duration::from_millis(200), read).await;
        drop(client);
        if let Err(error) = serving.await {
            std::panic::resume_unwind(error.into_panic());
        }
        answer
    });
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(&answer));
    for line in world.heard.lock().expect("notes").drain(..) {
        assert!(known(&line), "{line} reached the daemon");
    }
});
