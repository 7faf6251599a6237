//! Docker behind the real docker-guard, each test with a guard of its own.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use alert_bot::backend::{Backend, docker::DockerBackend};
use telemetry::config::Secret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    backend::{Wanted, World, conformance, until},
    support::{docker, env, unique},
};

const TOKEN: &str = "a-token-of-the-tests";

/// docker-guard, as a process.
struct DockerWorld {
    project: String,
    guard: Child,
    address: SocketAddr,
}

/// Built beside this test by `cargo test --workspace`; for this crate alone: `cargo build -p docker-guard`.
fn guard_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("TEST_DOCKER_GUARD") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("docker-guard");
    assert!(path.exists(), "run `cargo build -p docker-guard` first, or set TEST_DOCKER_GUARD");
    path
}

fn free_address() -> SocketAddr {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl DockerWorld {
    async fn start() -> Self {
        let project = unique("abt");
        let (address, admin) = (free_address(), free_address());
        let guard = Command::new(guard_binary())
            .args(["--listen-addr", &address.to_string(), "--admin-addr", &admin.to_string()])
            .args(["--project", &project, "--token", TOKEN, "--shutdown-grace", "1s", "--log-level", "warn"])
            .stdout(Stdio::null())
            .spawn()
            .expect("docker-guard starts");
        let world = Self { project, guard, address };
        until("the guard answers", || async { world.backend().ping().await.is_ok() }).await;
        world
    }

    fn client(address: SocketAddr) -> Arc<dyn Backend> {
        Arc::new(DockerBackend::new(&format!("tcp://{address}"), Some(Secret::new(TOKEN))).unwrap())
    }
}

impl Drop for DockerWorld {
    fn drop(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let label = format!("label=com.docker.compose.project={}", self.project);
        let listed = Command::new("docker").args(["ps", "-aq", "--filter", &label]).output();
        for id in String::from_utf8_lossy(&listed.map(|o| o.stdout).unwrap_or_default()).lines() {
            let _ = Command::new("docker").args(["rm", "-f", "-v", id]).output();
        }
    }
}

#[async_trait::async_trait]
impl World for DockerWorld {
    fn backend(&self) -> Arc<dyn Backend> {
        Self::client(self.address)
    }

    async fn unanswered(&self) -> Arc<dyn Backend> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let guard = self.address;
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(swallow(client, guard));
            }
        });
        Self::client(address)
    }

    fn absent(&self) -> Arc<dyn Backend> {
        Self::client(free_address())
    }

    fn project(&self) -> String {
        self.project.clone()
    }

    async fn deploy(&self, wanted: &Wanted) -> String {
        let Wanted { service, enabled, protected, depends_on, checked, script } = wanted.clone();
        let name = unique(&format!("{}-{service}", self.project));
        let mut labels = vec![
            format!("com.docker.compose.project={}", self.project),
            format!("com.docker.compose.service={service}"),
            format!("selfheal.enable={enabled}"),
        ];
        if protected {
            labels.push("selfheal.protect=true".to_owned());
        }
        if !depends_on.is_empty() {
            let conditions: Vec<_> = depends_on.iter().map(|d| format!("{d}:service_healthy:false")).collect();
            labels.push(format!(
                "com.docker.compose.depends_on=setup:service_completed_successfully:false,{}",
                conditions.join(",")
            ));
        }
        let mut args = vec!["run", "-d", "--name", &name, "--entrypoint", "/bin/sh"];
        for label in &labels {
            args.extend(["--label", label]);
        }
        if checked {
            args.extend(["--health-cmd", "true", "--health-interval", "1s"]);
        }
        let image = env("TEST_BASE_IMAGE");
        let usual = "echo started; trap 'exit 0' TERM; while :; do sleep 0.2; done";
        args.extend([image.as_str(), "-c", script.unwrap_or(usual)]);
        docker(&args)
    }

    async fn crash(&self, id: &str) {
        docker(&["kill", id]);
    }

    async fn running(&self, service: &str) -> usize {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = format!("label=com.docker.compose.service={service}");
        docker(&["ps", "-q", "--no-trunc", "--filter", &project, "--filter", &service]).lines().count()
    }

    fn nobody(&self) -> String {
        "0f".repeat(32)
    }
}

/// Passes a connection on, until something is to be changed: from then on the client hears nothing.
async fn swallow(client: TcpStream, guard: SocketAddr) -> Option<()> {
    let guard = TcpStream::connect(guard).await.ok()?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_guard, mut to_guard) = guard.into_split();
    let (mute, mut muted) = tokio::sync::watch::channel(false);
    let forth = async move {
        let mut piece = vec![0; 65536];
        while let Ok(n @ 1..) = from_client.read(&mut piece).await {
            if piece.starts_with(b"POST ") || piece.starts_with(b"DELETE ") {
                mute.send_replace(true);
            }
            to_guard.write_all(&piece[..n]).await.ok()?;
        }
        // What was asked for is done, whether or not the client waits for it.
        tokio::time::sleep(Duration::from_secs(60)).await;
        Some(())
    };
    let back = async move {
        let mut piece = vec![0; 65536];
        while let Ok(n @ 1..) = from_guard.read(&mut piece).await {
            if !*muted.borrow_and_update() {
                to_client.write_all(&piece[..n]).await.ok()?;
            }
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        Some(())
    };
    tokio::join!(forth, back).0
}

conformance!(DockerWorld::start());
