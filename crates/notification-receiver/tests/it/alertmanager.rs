//! A real Alertmanager, the one that serves the other tests: its image is started once
//! more with a configuration that delivers here by all three channels.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::TestApp;

/// Removes its container, whatever happens.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", "-v", &self.0]).output();
    }
}

fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().expect("the docker CLI");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_alertmanager_delivers_by_all_channels() {
    // The container behind TEST_ALERTMANAGER_URL tells which image to use.
    let url = std::env::var("TEST_ALERTMANAGER_URL").expect("set TEST_ALERTMANAGER_URL, or run ./stack test");
    let port = url.trim_end_matches('/').rsplit(':').next().unwrap().to_owned();
    let id = docker(&["ps", "-q", "--filter", &format!("publish={port}")]);
    let image = docker(&["inspect", "-f", "{{.Image}}", id.lines().next().expect("a container behind the URL")]);

    let app = TestApp::start(&[]).await;
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listen.local_addr().unwrap().to_string();
    drop(listen);
    let config = json!({
        "route": {"receiver": "all", "group_wait": "0s", "group_interval": "10s"},
        "receivers": [{
            "name": "all",
            "webhook_configs": [{"url": app.url("/webhook")}],
            "slack_configs": [{"api_url": app.url("/slack"), "channel": "#ops"}],
            "email_configs": [{
                "to": "ops@stack.local", "from": "alerts@stack.local",
                "smarthost": app.mail.to_string(), "require_tls": false, "hello": "test",
            }],
        }],
    });
    let name = format!("receiver-test-{}-{}", std::process::id(), app.http.port());
    let container = Container(name.clone());
    // The configuration goes in as an argument: no file has to be readable by the container's user.
    let script = format!(
        "printf '%s' \"$0\" >/tmp/am.yml && exec /bin/alertmanager --config.file=/tmp/am.yml \
         --storage.path=/tmp/am --cluster.listen-address= --web.listen-address={address}"
    );
    docker(&[
        "run",
        "-d",
        "--name",
        &name,
        "--network",
        "host",
        "--tmpfs",
        "/tmp:mode=1777",
        "--entrypoint",
        "/bin/sh",
        &image,
        "-c",
        &script,
        &config.to_string(),
    ]);

    let client = reqwest::Client::new();
    let alert = json!([{
        "labels": {"alertname": "HighErrorRate", "severity": "critical", "service": "transaction-api"},
        "annotations": {"summary": "<b>too many errors</b>"},
    }]);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let posted = client.post(format!("http://{address}/api/v2/alerts")).json(&alert).send().await;
        if posted.is_ok_and(|answer| answer.status().is_success()) {
            break;
        }
        assert!(Instant::now() < deadline, "alertmanager did not start: {}", docker(&["logs", &name]));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for channel in ["webhook", "slack", "email"] {
        let notification = loop {
            let (_, found) = app.get(&format!("/v1/notifications?channel={channel}")).await;
            if found["total"] != 0 {
                break found["notifications"][0].clone();
            }
            assert!(Instant::now() < deadline, "nothing by {channel}: {}", docker(&["logs", &name]));
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let title = notification["title"].as_str().unwrap();
        assert!(title.starts_with("[FIRING:1]") && title.contains("HighErrorRate"), "{channel}: {notification}");
    }
    let page = reqwest::get(app.url("/")).await.unwrap().text().await.unwrap();
    assert!(!page.contains("<b>too many errors"), "escaped");
    drop(container);
}
