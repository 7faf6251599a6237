//! Questions to the running stack over HTTP on loopback.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use reqwest::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::incident::Incident;
use crate::stack::Stack;

/// A question to a component that is well takes far less.
const LIMIT: Duration = Duration::from_secs(10);

/// HTTP client with the addresses of one stack.
#[derive(Clone, Debug)]
pub struct Api {
    http: Client,
    stack: Stack,
}

/// One result of an instant query.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Labels, `__name__` included.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// An alert as Prometheus sees it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Alert {
    /// Labels with `alertname`.
    pub labels: BTreeMap<String, String>,
    /// `pending` or `firing`.
    pub state: String,
    /// RFC 3339.
    #[serde(rename = "activeAt")]
    pub active_at: Option<String>,
}

impl Alert {
    /// A label or nothing.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// A scrape target.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Target {
    /// Labels after relabelling.
    pub labels: BTreeMap<String, String>,
    /// `up`, `down` or `unknown`.
    pub health: String,
    /// Why it is down.
    #[serde(rename = "lastError", default)]
    pub last_error: String,
}

/// A rule with its health.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Rule {
    /// Name of the alert or record.
    pub name: String,
    /// `ok`, `err` or `unknown`.
    pub health: String,
    /// Why not.
    #[serde(rename = "lastError", default)]
    pub last_error: String,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

impl Api {
    /// A client for this stack.
    pub fn new(stack: &Stack) -> Result<Self> {
        // Requests stay on this machine: a proxy from the environment must not see them.
        let http = Client::builder().timeout(LIMIT).no_proxy().build()?;
        Ok(Self { http, stack: stack.clone() })
    }

    /// The client itself.
    pub fn http(&self) -> &Client {
        &self.http
    }

    /// Base address of a service.
    pub fn url(&self, service: &str) -> Result<String> {
        self.stack.url(service)
    }

    /// The alert-bots of this stack, the usual one first.
    pub fn bots(&self) -> Vec<&'static str> {
        let runs = |bot: &&str| *bot == "alert-bot" || self.stack.state.services.iter().any(|service| service == bot);
        ["alert-bot", "alert-bot-standby"].into_iter().filter(runs).collect()
    }

    /// GETs JSON from a service. Of two alert-bots the second is asked where the first is gone: both show the same.
    pub async fn get<T: DeserializeOwned>(&self, service: &str, path: &str, query: &[(&str, &str)]) -> Result<T> {
        let answer = self.get_from(service, path, query).await;
        match self.bots().get(1).filter(|_| service == "alert-bot" && answer.is_err()) {
            Some(other) => self.get_from(other, path, query).await.or(answer),
            None => answer,
        }
    }

    async fn get_from<T: DeserializeOwned>(&self, service: &str, path: &str, query: &[(&str, &str)]) -> Result<T> {
        let url = format!("{}{path}", self.url(service)?);
        let response = self.http.get(&url).query(query).send().await.map_err(|error| offline(service, &error))?;
        let status = response.status();
        if !status.is_success() {
            let body = response.text().await.unwrap_or_default();
            bail!("{service} answered {status} to {path}: {}", console::truncate_str(body.trim(), 200, "…"));
        }
        response.json().await.with_context(|| format!("{service} answered {path} with something unexpected"))
    }

    /// The status code of a GET.
    pub async fn status(&self, service: &str, path: &str) -> Result<u16> {
        let url = format!("{}{path}", self.url(service)?);
        Ok(self.http.get(url).send().await.map_err(|error| offline(service, &error))?.status().as_u16())
    }

    /// An instant query.
    pub async fn query(&self, promql: &str) -> Result<Vec<Sample>> {
        let answer: Answer<Value> = self.get("prometheus", "/api/v1/query", &[("query", promql)]).await?;
        samples(&answer.data)
    }

    /// The value of a query with one result; `None` without data.
    pub async fn value(&self, promql: &str) -> Result<Option<f64>> {
        Ok(self.query(promql).await?.first().map(|sample| sample.value))
    }

    /// Pending and firing alerts.
    pub async fn alerts(&self) -> Result<Vec<Alert>> {
        #[derive(Deserialize)]
        struct Alerts {
            alerts: Vec<Alert>,
        }
        Ok(self.get::<Answer<Alerts>>("prometheus", "/api/v1/alerts", &[]).await?.data.alerts)
    }

    /// Active scrape targets.
    pub async fn targets(&self) -> Result<Vec<Target>> {
        #[derive(Deserialize)]
        struct Targets {
            #[serde(rename = "activeTargets")]
            active: Vec<Target>,
        }
        let query = [("state", "active")];
        Ok(self.get::<Answer<Targets>>("prometheus", "/api/v1/targets", &query).await?.data.active)
    }

    /// All rules.
    pub async fn rules(&self) -> Result<Vec<Rule>> {
        #[derive(Deserialize)]
        struct Groups {
            groups: Vec<Group>,
        }
        #[derive(Deserialize)]
        struct Group {
            rules: Vec<Rule>,
        }
        let answer: Answer<Groups> = self.get("prometheus", "/api/v1/rules", &[]).await?;
        Ok(answer.data.groups.into_iter().flat_map(|group| group.rules).collect())
    }

    /// The alert-bot's newest incidents, without their actions.
    pub async fn incidents(&self, limit: usize) -> Result<Vec<Incident>> {
        #[derive(Deserialize)]
        struct Page {
            incidents: Vec<Incident>,
        }
        let limit = limit.to_string();
        Ok(self.get::<Page>("alert-bot", "/v1/incidents", &[("limit", limit.as_str())]).await?.incidents)
    }

    /// One incident with its actions.
    pub async fn incident(&self, id: &str) -> Result<Incident> {
        self.get("alert-bot", &format!("/v1/incidents/{id}"), &[]).await
    }

    /// The newest incidents that `wanted` accepts, with their actions.
    pub async fn incidents_in_detail(&self, limit: usize, wanted: impl Fn(&str) -> bool) -> Result<Vec<Incident>> {
        let listed = self.incidents(limit).await?;
        let asked = listed.iter().filter(|incident| wanted(&incident.id)).map(|incident| self.incident(&incident.id));
        futures::future::try_join_all(asked).await
    }

    /// Lines of a LogQL query over the last `minutes`.
    pub async fn log_lines(&self, logql: &str, minutes: u64) -> Result<Vec<String>> {
        let start = (time::OffsetDateTime::now_utc() - Duration::from_secs(minutes * 60)).unix_timestamp_nanos();
        let start = start.to_string();
        let query = [("query", logql), ("limit", "100"), ("start", start.as_str())];
        let answer: Answer<Value> = self.get("loki", "/loki/api/v1/query_range", &query).await?;
        let streams = answer.data["result"].as_array().cloned().unwrap_or_default();
        let values = streams.iter().filter_map(|stream| stream["values"].as_array()).flatten();
        Ok(values.filter_map(|value| value[1].as_str()).map(str::to_owned).collect())
    }

    /// Names of the services that have spans of a trace, from whichever trace store runs.
    pub async fn trace_services(&self, trace_id: &str) -> Result<Vec<String>> {
        let mut names = if !self.stack.state.is_left_out("tempo") {
            let trace: Value = self.get("tempo", &format!("/api/traces/{trace_id}"), &[]).await?;
            tempo_services(&trace)
        } else {
            let trace: Value = self.get("jaeger", &format!("/jaeger/api/traces/{trace_id}"), &[]).await?;
            jaeger_services(&trace)
        };
        names.sort();
        names.dedup();
        Ok(names)
    }
}

fn samples(data: &Value) -> Result<Vec<Sample>> {
    let number = |value: &Value| value[1].as_str().and_then(|text| text.parse::<f64>().ok());
    match data["resultType"].as_str() {
        Some("vector") => data["result"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|entry| {
                let value = number(&entry["value"]).ok_or_else(|| anyhow!("a sample has no value"))?;
                let labels = serde_json::from_value(entry["metric"].clone())?;
                Ok(Sample { labels, value })
            })
            .collect(),
        Some("scalar") => {
            let value = number(&data["result"]).ok_or_else(|| anyhow!("the scalar has no value"))?;
            Ok(vec![Sample { labels: BTreeMap::new(), value }])
        }
        other => bail!("unexpected result type {other:?}"),
    }
}

fn tempo_services(trace: &Value) -> Vec<String> {
    let batches = trace["batches"].as_array().or_else(|| trace["trace"]["resourceSpans"].as_array());
    let attributes = batches.into_iter().flatten().filter_map(|batch| batch["resource"]["attributes"].as_array());
    attributes
        .flatten()
        .filter(|attribute| attribute["key"] == "service.name")
        .filter_map(|attribute| attribute["value"]["stringValue"].as_str().map(str::to_owned))
        .collect()
}

fn jaeger_services(trace: &Value) -> Vec<String> {
    let processes = trace["data"].as_array().into_iter().flatten().filter_map(|entry| entry["processes"].as_object());
    processes.flat_map(|p| p.values()).filter_map(|p| p["serviceName"].as_str().map(str::to_owned)).collect()
}

fn offline(service: &str, error: &reqwest::Error) -> anyhow::Error {
    let why = if error.is_timeout() { "does not answer in time" } else { "cannot be reached" };
    anyhow!("{service} {why}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_vectors_and_scalars() {
        let vector = json!({"resultType": "vector", "result": [{"metric": {"job": "x"}, "value": [1.0, "NaN"]}]});
        let found = samples(&vector).unwrap();
        assert!(found[0].value.is_nan());
        assert_eq!(found[0].labels["job"], "x");
        let scalar = json!({"resultType": "scalar", "result": [1.0, "2.5"]});
        assert_eq!(samples(&scalar).unwrap()[0].value, 2.5);
        assert!(samples(&json!({"resultType": "matrix", "result": []})).is_err());
    }

    #[test]
    fn reads_services_of_both_trace_stores() {
        let tempo = json!({"batches": [{"resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "transaction-api"}}]}}]});
        let jaeger = json!({"data": [{"processes": {"p1": {"serviceName": "transaction-api"}}}]});
        assert_eq!(tempo_services(&tempo), ["transaction-api"]);
        assert_eq!(jaeger_services(&jaeger), ["transaction-api"]);
    }
}
