//! The log-based alerts against a real Loki: lines are pushed, the rule's own expression is asked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rulegen::{Project, Speed};
use serde_json::{Value, json};

use crate::{read, root};

struct Loki {
    base: String,
    client: reqwest::Client,
    /// Marks this run's streams, so that runs do not see each other's lines.
    run: String,
}

impl Loki {
    fn new() -> Self {
        let base = std::env::var("TEST_LOKI_URL").expect("set TEST_LOKI_URL, or run ./stack test");
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        Self { base, client: reqwest::Client::new(), run: format!("t{nanos}") }
    }

    fn service(&self, name: &str) -> String {
        format!("{}-{name}", self.run)
    }

    /// Pushes lines the way the Collector does: by OTLP, with a severity.
    async fn push(&self, service: &str, severity: &str, lines: &[&str]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let records: Vec<Value> = (0_u128..)
            .zip(lines)
            .map(|(index, line)| {
                json!({
                    "timeUnixNano": (now - 1_000_000_000 + index).to_string(),
                    "severityText": severity,
                    "severityNumber": if severity == "ERROR" { 17 } else { 9 },
                    "body": {"stringValue": line},
                })
            })
            .collect();
        let body = json!({"resourceLogs": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": self.service(service)}}]},
            "scopeLogs": [{"logRecords": records}],
        }]});
        let response = self.client.post(format!("{}/otlp/v1/logs", self.base)).json(&body).send().await.unwrap();
        assert!(response.status().is_success(), "{}", response.text().await.unwrap());
    }

    /// Services of this run for which an alert's expression, as generated, is true now.
    async fn firing(&self, expr: &str) -> Vec<String> {
        let expr = expr.replace(r#"service_name=~".+""#, &format!(r#"service_name=~"{}-.+""#, self.run));
        let url = format!("{}/loki/api/v1/query", self.base);
        let response = self.client.get(url).query(&[("query", &expr)]).send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{expr}\n{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let series = answer["data"]["result"].as_array().unwrap();
        let mut names: Vec<String> = series
            .iter()
            .map(|s| s["metric"]["service_name"].as_str().unwrap_or_default().to_owned())
            .map(|name| name.trim_start_matches(&format!("{}-", self.run)).to_owned())
            .collect();
        names.sort();
        names
    }

    /// Asks until the answer is the expected one: what was pushed is visible after a moment.
    async fn expect(&self, alert: &str, expected: &[&str]) {
        let expr = generated_expr(alert);
        let mut seen = Vec::new();
        for _ in 0..50 {
            seen = self.firing(&expr).await;
            if seen == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("{alert}: expected {expected:?}, Loki says {seen:?} for\n{expr}");
    }
}

/// The expression of an alert in the demo rules.
fn generated_expr(alert: &str) -> String {
    let document: Value =
        serde_yaml_ng::from_str(&read(format!("loki/rules/{}/logs.yaml", Speed::Demo.name()))).unwrap();
    document["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .find(|rule| rule["alert"] == alert)
        .unwrap_or_else(|| panic!("no alert {alert}"))["expr"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn every_log_alert_has_a_test_below() {
    let project = Project::load(&root()).unwrap();
    let this = include_str!("loki.rs");
    for (_, file) in &project.loki {
        for alert in file.alerts() {
            assert!(this.matches(&format!("\"{}\"", alert.alert)).count() >= 1, "{} is not tested", alert.alert);
        }
    }
}

#[tokio::test]
async fn a_burst_of_errors_fires_and_a_few_do_not() {
    let loki = Loki::new();
    loki.push("burst", "ERROR", &["could not answer"; 21]).await;
    loki.push("few", "ERROR", &["could not answer"; 20]).await;
    loki.push("chatty", "INFO", &["answered"; 60]).await;
    loki.expect("LogErrorBurst", &["burst"]).await;
}

#[tokio::test]
async fn a_panic_fires_and_the_word_alone_does_not() {
    let loki = Loki::new();
    loki.push("rust", "ERROR", &["thread 'main' panicked at src/main.rs:1:1"]).await;
    loki.push("postgres", "ERROR", &["PANIC:  could not write to file"]).await;
    loki.push("calm", "INFO", &["no reason to panic"]).await;
    loki.expect("LogPanic", &["postgres", "rust"]).await;
}

#[tokio::test]
async fn an_address_fires_and_a_redacted_one_does_not() {
    let loki = Loki::new();
    loki.push("leak", "INFO", &["welcome jane.doe+x@mail.example.org"]).await;
    loki.push("redacted", "INFO", &["welcome ****", "user@localhost", "a @ b.c"]).await;
    loki.expect("PersonalDataInLogs", &["leak"]).await;
}

#[tokio::test]
async fn silence_fires_until_a_line_arrives() {
    let loki = Loki::new();
    loki.expect("LogsAbsent", &[""]).await;
    loki.push("alive", "INFO", &["here"]).await;
    loki.expect("LogsAbsent", &[]).await;
}
