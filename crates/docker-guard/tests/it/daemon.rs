//! The daemon away, mute, or of another version.

use std::{os::unix::fs::symlink, path::PathBuf, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

use crate::stage::{Guard, Stage, TOKEN, WAITS, until};

fn real_socket() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    PathBuf::from(host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock"))
}

async fn ready(guard: &Guard) -> Result<(), String> {
    let report = guard.rt.readiness.check().await;
    report.checks.into_iter().find_map(|c| c.error).map_or(Ok(()), Err)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_the_guard_is_not_ready_and_recovers_by_itself() {
    let mut stage = Stage::new();
    let web = stage.run("web", &[("selfheal.enable", "true")], WAITS).await;
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let guard = stage.guard(&["--docker-socket", socket.to_str().unwrap()]).await;
    let restart = format!("/containers/{web}/restart?t=1");

    let away = async || {
        assert!(ready(&guard).await.unwrap_err().contains("cannot connect"), "not ready");
        for (method, path) in [("GET", "/_ping"), ("GET", "/containers/json"), ("POST", restart.as_str())] {
            let (status, problem) = guard.send(method, path, Some(TOKEN)).await;
            assert_eq!((status, problem["reason"].as_str()), (503, Some("daemon_unavailable")), "{method} {path}");
            assert!(!problem.to_string().contains("docker.sock"), "no internals");
        }
        // A refusal needs no daemon.
        assert_eq!(guard.send("POST", "/containers/create", Some(TOKEN)).await.0, 403);
        guard.metric_becomes("guard_daemon_up", "0").await;
    };
    away().await;

    symlink(real_socket(), &socket).unwrap();
    until("ready", || async { ready(&guard).await.is_ok() }).await;
    assert_eq!(guard.get("/containers/json").await.0, 200);
    guard.metric_becomes(&format!(r#"container_up{{name="{}",service="web"}}"#, stage.name("web")), "1").await;
    guard.metric_becomes("guard_daemon_up", "1").await;
    assert_eq!(guard.send("POST", &restart, Some(TOKEN)).await.0, 204);

    std::fs::remove_file(&socket).unwrap();
    away().await;
    symlink(real_socket(), &socket).unwrap();
    until("ready again", || async { ready(&guard).await.is_ok() }).await;
    assert_eq!(guard.get("/containers/json").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_knows_no_project_shows_nothing() {
    let mut stage = Stage::new();
    let web = stage.run("web", &[("selfheal.enable", "true")], WAITS).await;
    // Neither told its project nor in a container that belongs to one.
    let plain = stage.run_with("plain", &[], WAITS, Default::default()).await;
    let guard = Guard::start(&["--container", &plain]).await;
    assert!(ready(&guard).await.unwrap_err().contains("set GUARD_PROJECT"));
    for (method, path) in [
        ("GET", "/containers/json".to_owned()),
        ("GET", format!("/containers/{web}/json")),
        ("POST", format!("/containers/{web}/restart")),
    ] {
        let (status, problem) = guard.send(method, &path, Some(TOKEN)).await;
        assert_eq!((status, problem["reason"].as_str()), (503, Some("not_ready")), "{path}");
    }
    assert_eq!(guard.get("/_ping").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guards_own_container_tells_its_project() {
    let mut stage = Stage::new();
    let web = stage.run("web", &[], WAITS).await;
    let own = stage.run("docker-guard", &[], WAITS).await;
    let guard = Guard::start(&["--container", &own]).await;
    ready(&guard).await.unwrap();
    assert_eq!(guard.get(&format!("/containers/{web}/json")).await.0, 200);
}

/// A daemon that accepts and says nothing: only a fake can be made to.
#[tokio::test(flavor = "multi_thread")]
async fn a_mute_daemon_is_waited_for_only_so_long() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let mute = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let guard = Guard::start(&["--project", "p", "--docker-socket", socket.to_str().unwrap()]).await;
    let (status, problem) = guard.get("/containers/json").await;
    assert_eq!((status, problem["reason"].as_str()), (504, Some("daemon_timeout")));
    assert!(ready(&guard).await.is_err());
    mute.abort();
}

/// Engine 29 speaks no API below 1.44: a newer daemon than the tests have is played by a fake.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_daemon_is_spoken_to_in_its_own_version() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let fake = tokio::spawn(async move {
        let mut asked = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let n = stream.read(&mut head).await.unwrap();
            let line = String::from_utf8_lossy(&head[..n]).lines().next().unwrap_or_default().to_owned();
            let body = if line.contains("/version ") {
                r#"{"Version":"29.0.0","ApiVersion":"1.99","MinAPIVersion":"1.44","Os":"linux","Arch":"amd64"}"#
            } else {
                "[]"
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let last = line.contains("limit=7");
            asked.push(line);
            if last {
                break;
            }
        }
        asked
    });
    let guard =
        Guard::start(&["--project", "p", "--docker-socket", socket.to_str().unwrap(), "--collect-interval", "1h"])
            .await;
    until("ready", || async { ready(&guard).await.is_ok() }).await;
    let (_, version) = guard.get("/version").await;
    assert_eq!((version["ApiVersion"].as_str(), version["MinAPIVersion"].as_str()), (Some("1.55"), Some("1.44")));
    let (status, problem) = guard.get("/v1.43/containers/json").await;
    assert_eq!(status, 400);
    assert!(problem["message"].as_str().unwrap().contains("too old. Minimum supported API version is 1.44"));
    assert_eq!(guard.get("/v1.44/containers/json").await.0, 200);
    assert_eq!(guard.get("/containers/json?limit=7").await.0, 200);
    let asked = tokio::time::timeout(Duration::from_secs(5), fake).await.unwrap().unwrap();
    // The collector asks without a version, which every daemon answers in its newest.
    let old = |line: &String| line.starts_with("GET /v1.") && !["44", "55"].contains(&&line[8..10]);
    assert!(!asked.iter().any(old), "{asked:?}");
    assert!(asked.last().unwrap().starts_with("GET /v1.55/containers/json?"));
}
