//! Requests that no Docker client sends, byte by byte.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::stage::{Guard, Stage, TOKEN, WAITS};

/// Sends bytes and reads what comes until the guard closes or is silent.
async fn raw(guard: &Guard, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(guard.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(Ok(n @ 1..)) = tokio::time::timeout(Duration::from_millis(700), stream.read(&mut piece)).await {
        answer.extend_from_slice(&piece[..n]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn tricks_on_the_wire_reach_nothing() {
    let mut stage = Stage::new();
    let web = stage.run("web", &[("selfheal.enable", "true")], WAITS).await;
    let guard = stage.guard(&[]).await;
    let before = stage.started_at(&web).await;
    let auth = format!("Host: g\r\nAuthorization: Bearer {TOKEN}\r\n");
    let restart = format!("POST /containers/{web}/restart?t=1");

    for (request, expected) in [
        // One path written so that two readers could disagree.
        (format!("POST /containers/x/../{web}/restart HTTP/1.1\r\n{auth}\r\n"), "malformed_path"),
        (format!("POST /containers/x/%2e%2e/{web}/restart HTTP/1.1\r\n{auth}\r\n"), "malformed_path"),
        (format!("POST //containers/{web}/restart HTTP/1.1\r\n{auth}\r\n"), "malformed_path"),
        (format!("POST /containers/{web}%2frestart HTTP/1.1\r\n{auth}\r\n"), "malformed_path"),
        (format!("POST /containers/{web}/restart/ HTTP/1.1\r\n{auth}\r\n"), "malformed_path"),
        (format!("POST /containers/{web};x/restart HTTP/1.1\r\n{auth}\r\n"), "malformed_path"),
        (format!("POST http://docker/containers/{web}/restart HTTP/1.1\r\n{auth}\r\n"), "absolute_form"),
        (format!("CONNECT docker:2375 HTTP/1.1\r\n{auth}\r\n"), "malformed_path"),
        (format!("OPTIONS * HTTP/1.1\r\n{auth}\r\n"), "malformed_path"),
        // Bodies and upgrades.
        (format!("{restart} HTTP/1.1\r\n{auth}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "body_not_allowed"),
        (format!("{restart} HTTP/1.1\r\n{auth}Content-Length: 2\r\n\r\n{{}}"), "body_not_allowed"),
        (format!("{restart} HTTP/1.1\r\n{auth}Upgrade: tcp\r\nConnection: Upgrade\r\n\r\n"), "upgrade_not_allowed"),
        (format!("{restart} HTTP/1.1\r\n{auth}Expect: 100-continue\r\n\r\n"), "upgrade_not_allowed"),
        (format!("POST /session HTTP/1.1\r\n{auth}Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n"), "manages_images"),
        // Two headers where one counts.
        (format!("{restart} HTTP/1.1\r\n{auth}Authorization: Bearer {TOKEN}\r\n\r\n"), "bad_headers"),
        (format!("{restart} HTTP/1.1\r\n{auth}Host: other\r\n\r\n"), "bad_headers"),
    ] {
        let answer = raw(&guard, request.as_bytes()).await;
        assert!(answer.contains(&format!(r#""reason":"{expected}""#)), "{request}\n{answer}");
    }
    // What is not HTTP/1 at all, or too much of it, hyper refuses by itself.
    for request in [
        format!("{restart} HTTP/1.1\r\n{auth}Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello"),
        format!("{restart} HTTP/1.1\r\n{auth}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{restart} HTTP/1.1\r\n{auth}Content-Length : 0\r\n\r\n"),
        format!("{restart} HTTP/1.1\r\n{auth}X: a\r\n folded\r\n\r\n"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        format!("{restart} HTTP/1.1\r\n{auth}X: {}\r\n\r\n", "a".repeat(40_000)),
        format!("{restart} HTTP/1.1\r\n{auth}{}\r\n", "X: a\r\n".repeat(200)),
        format!("GET /{} HTTP/1.1\r\n{auth}\r\n", "a".repeat(70_000)),
        "\u{16}\u{3}\u{1}".repeat(50),
    ] {
        let answer = raw(&guard, request.as_bytes()).await;
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(refused, "{}\n{answer}", request.chars().take(60).collect::<String>());
    }
    assert_eq!(stage.started_at(&web).await, before, "nothing got through");

    // A refused request takes what follows it on the connection down with it.
    let smuggled = format!("GET /containers/json%20 HTTP/1.1\r\nHost: g\r\n\r\n{restart} HTTP/1.1\r\n{auth}\r\n");
    let answer = raw(&guard, smuggled.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert_eq!(stage.started_at(&web).await, before);

    // The same request as it should be does go through.
    let plain = format!("{restart} HTTP/1.1\r\n{auth}Content-Length: 0\r\nConnection: close\r\n\r\n");
    raw(&guard, plain.as_bytes()).await;
    crate::stage::until("restarted", || async { stage.started_at(&web).await != before }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_read_far_enough_for_its_sender_to_see_the_answer() {
    let stage = Stage::new();
    let guard = stage.guard(&[]).await;
    let client = reqwest::Client::new();
    let url = format!("http://{}/v1.41/containers/create?name=x", guard.address);
    let answer = client.post(url).body("x".repeat(900_000)).send().await.unwrap();
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert!(answer.text().await.unwrap().contains("creates_containers"));
}
