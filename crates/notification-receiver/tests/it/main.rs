//! The receiver over its real sockets: HTTP, SMTP, and a real Alertmanager in front of it.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod alertmanager;
mod http;
mod mail;

use std::net::SocketAddr;

use clap::Parser;
use notification_receiver::{App, Config};
use serde_json::Value;
use telemetry::Runtime;

/// A receiver on free ports.
pub(crate) struct TestApp {
    pub(crate) http: SocketAddr,
    pub(crate) mail: SocketAddr,
    rt: Runtime,
}

impl TestApp {
    pub(crate) async fn start(args: &[&str]) -> Self {
        let fixed = ["notification-receiver", "--listen-addr", "127.0.0.1:0", "--smtp-addr", "127.0.0.1:0"];
        let config = Config::try_parse_from(fixed.iter().chain(args)).unwrap();
        let rt = Runtime::for_test();
        let app = App::build(config, rt.clone()).await.unwrap();
        let (http, mail) = app.addresses().unwrap();
        tokio::spawn(app.run());
        Self { http, mail, rt }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
        let answer = reqwest::Client::new().post(self.url(path)).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let answer = reqwest::get(self.url(path)).await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    pub(crate) fn metric(&self, series: &str) -> String {
        let text = String::from_utf8(self.rt.registry.encode(None).1).unwrap();
        text.lines().find_map(|l| l.strip_prefix(series)).unwrap_or_default().trim().to_owned()
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.rt.shutdown.cancel();
    }
}
