//! Measurements, each with its age.

use std::{collections::BTreeMap, time::Duration};

use reqwest::Client;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    engine::{Sli, Tri},
    policy::Good,
    timestamp::Timestamp,
};

/// A query that takes longer is as good as none.
const LIMIT: Duration = Duration::from_secs(4);
/// A rule that was not evaluated for this long says nothing about now.
const RULE_MAX_AGE: Duration = Duration::from_secs(90);

/// Points of a curve at most.
const POINTS: f64 = 240.0;

/// A client of Prometheus' HTTP API.
#[derive(Clone)]
pub struct Prometheus {
    client: Client,
    base: String,
}

#[derive(Deserialize)]
struct Answer<T> {
    status: String,
    error: Option<String>,
    data: Option<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueryData {
    result_type: String,
    result: Value,
}

/// One sample: when it was evaluated by Prometheus' clock, and its value.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    evaluated_at: f64,
    value: f64,
}

#[derive(Deserialize)]
struct RulesData {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    interval: f64,
    rules: Vec<AlertRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlertRule {
    name: String,
    #[serde(default)]
    health: String,
    last_evaluation: Option<String>,
    #[serde(default)]
    alerts: Vec<ActiveAlert>,
}

#[derive(Deserialize)]
struct ActiveAlert {
    labels: BTreeMap<String, String>,
    state: String,
}

impl Prometheus {
    /// `base` without a trailing slash, e.g. `http://prometheus:9090`.
    ///
    /// # Errors
    /// The HTTP client could not be built.
    pub fn new(base: &str) -> Result<Self, reqwest::Error> {
        Ok(Self { client: super::quiet_client(LIMIT)?, base: base.trim_end_matches('/').to_owned() })
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<(), String> {
        let answer = self.client.get(format!("{}/-/ready", self.base)).send().await.map_err(reason)?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("answers {}", answer.status())) }
    }

    async fn ask<T: for<'de> Deserialize<'de>>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, String> {
        let url = format!("{}{path}", self.base);
        let answer = self.client.get(url).query(query).send().await.map_err(reason)?;
        let status = answer.status();
        let body: Answer<T> =
            answer.json().await.map_err(|e| format!("answered {status} and no JSON of the expected shape: {e}"))?;
        match body.data {
            Some(data) if body.status == "success" => Ok(data),
            _ => Err(body.error.unwrap_or_else(|| format!("answered {status}"))),
        }
    }

    async fn instant(&self, query: &str) -> Result<Vec<Sample>, String> {
        let data: QueryData = self.ask("/api/v1/query", &[("query", query)]).await?;
        samples(&data.result_type, &data.result)
    }

    /// The SLI now, with the age of the oldest sample that it rests on.
    ///
    /// An instant query carries the time of evaluation, not of the sample: for up
    /// to five minutes Prometheus answers with the last value of a series that
    /// nobody writes any more. `timestamp()` tells the truth for plain selectors;
    /// of an expression it is the time of evaluation, and there the heartbeat's
    /// series stand for it.
    pub async fn sli(&self, query: &str, heartbeat: Option<&str>, good: Good) -> Sli {
        let age_query = format!("timestamp({query})");
        let beat = async {
            match heartbeat {
                Some(heartbeat) => {
                    let age_query = format!("timestamp({heartbeat})");
                    tokio::try_join!(self.instant(heartbeat), self.instant(&age_query)).map(Some)
                }
                None => Ok(None),
            }
        };
        let (values, mut ages, beats) = match tokio::try_join!(self.instant(query), self.instant(&age_query), beat) {
            Ok(answers) => answers,
            Err(why) => return Sli::Unavailable(why),
        };
        if let (Some((beats, beat_ages)), Some(heartbeat)) = (beats, heartbeat) {
            if beats.is_empty() || beat_ages.is_empty() {
                return Sli::Empty(format!("no series for the heartbeat {heartbeat}"));
            }
            if beats.iter().any(|b| b.value == 0.0 || b.value.is_nan()) {
                return Sli::Silent(format!("{heartbeat} is 0"));
            }
            ages.extend(beat_ages);
        }
        // NaN (0 / 0: no traffic) is no measurement either.
        let worst = values.iter().copied().map(|s| s.value).reduce(|a, b| worse(good, a, b));
        let Some(worst) = worst.filter(|w| !w.is_nan()) else {
            return Sli::Empty(format!("no value for {query}"));
        };
        let age = ages
            .iter()
            .map(|s| s.evaluated_at - s.value)
            .fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))));
        match age {
            None => Sli::Empty(format!("no timestamp for {query}")),
            Some(age) if age.is_nan() => Sli::Empty(format!("no timestamp for {query}")),
            Some(age) => {
                let age_ms = Duration::try_from_secs_f64(age.max(0.0)).unwrap_or(Duration::MAX).as_millis();
                Sli::Value {
                    value: worst,
                    good: good.accepts(worst),
                    age_ms: u64::try_from(age_ms).unwrap_or(u64::MAX),
                }
            }
        }
    }

    /// Who called whom within `window`, as (caller, called): the edges of the service graph that is made of traces.
    /// Whoever leaves a message in a queue needs the queue, and not whoever takes it out.
    ///
    /// # Errors
    /// There was no answer, or none of the expected shape.
    pub async fn calls(&self, window: Duration) -> Result<Vec<(String, String)>, String> {
        let seconds = window.as_secs();
        let query = format!(
            "sum by (client, server) (increase(traces_service_graph_request_total{{client!=\"\",server!=\"\",\
             connection_type!=\"messaging_system\"}}[{seconds}s])) > 0"
        );
        let data: QueryData = self.ask("/api/v1/query", &[("query", &query)]).await?;
        calls(&data.result_type, &data.result)
    }

    /// A query over a time in at most `POINTS` steps: seconds since the epoch and the worst value
    /// of all series, `None` where it is not a number.
    ///
    /// # Errors
    /// There was no answer, or none of the expected shape.
    pub async fn range(
        &self,
        query: &str,
        from: Timestamp,
        to: Timestamp,
        good: Good,
    ) -> Result<Vec<(f64, Option<f64>)>, String> {
        let span = to.since(from);
        let step = (span.as_secs_f64() / POINTS).max(1.0);
        let seconds = |t: Timestamp| format!("{}", t.millis() as f64 / 1000.0);
        let (start, end, step) = (seconds(from), seconds(to), format!("{step}"));
        let asked = [("query", query), ("start", &start), ("end", &end), ("step", &step)];
        let data: QueryData = self.ask("/api/v1/query_range", &asked).await?;
        let mut worst: BTreeMap<i64, Option<f64>> = BTreeMap::new();
        for series in data.result.as_array().into_iter().flatten() {
            for pair in series.get("values").and_then(Value::as_array).into_iter().flatten() {
                let at = pair.get(0).and_then(Value::as_f64);
                let value = pair.get(1).and_then(Value::as_str).and_then(|v| v.parse::<f64>().ok());
                let (Some(at), Some(value)) = (at, value) else {
                    return Err("answered with samples of an unknown shape".to_owned());
                };
                let value = Some(value).filter(|v| v.is_finite());
                let known = worst.entry((at * 1000.0) as i64).or_insert(value);
                *known = match (*known, value) {
                    (Some(a), Some(b)) => Some(worse(good, a, b)),
                    (a, b) => a.or(b),
                };
            }
        }
        Ok(worst.into_iter().map(|(at, value)| (at as f64 / 1000.0, value)).collect())
    }

    /// Whether the rule that made this alert says that it fires, for this service.
    ///
    /// By the rules' own state rather than by `ALERTS`: it tells an alert that is
    /// not firing from a rule that does not exist, fails, or was not evaluated.
    /// Where there is no such rule the answer is no: the alert has another source.
    pub async fn alert_fires(&self, labels: &BTreeMap<String, String>, service: &str) -> Tri {
        let name = labels.get("alertname").map_or("", String::as_str);
        let data: RulesData = match self.ask("/api/v1/rules", &[("type", "alert"), ("rule_name[]", name)]).await {
            Ok(data) => data,
            Err(why) => return Tri::Unknown(why),
        };
        let now = Timestamp::now();
        let mut unknown = None;
        for (group, rule) in data.groups.iter().flat_map(|g| g.rules.iter().map(move |r| (g, r))) {
            if rule.name != name {
                continue;
            }
            if rule.alerts.iter().any(|a| a.state == "firing" && same_alert(&a.labels, labels, service)) {
                return Tri::Yes;
            }
            let limit = RULE_MAX_AGE.max(Duration::try_from_secs_f64(group.interval * 3.0).unwrap_or(RULE_MAX_AGE));
            let evaluated = rule.last_evaluation.as_deref().and_then(Timestamp::parse);
            if rule.health == "err" {
                unknown = Some(format!("rule {name} fails"));
            } else if evaluated.is_none_or(|at| now.since(at) > limit) {
                unknown = Some(format!("rule {name} was not evaluated lately"));
            }
        }
        unknown.map_or(Tri::No, Tri::Unknown)
    }
}

/// An alert of the rule is the one that is meant if no label of the two
/// contradicts and it is about the target, as far as it says so: a manual alert
/// carries few labels.
fn same_alert(active: &BTreeMap<String, String>, meant: &BTreeMap<String, String>, service: &str) -> bool {
    let agrees = meant.iter().all(|(name, value)| active.get(name).is_none_or(|v| v == value));
    agrees && active.get("service").is_none_or(|s| s == service)
}

/// The one of two values that is further from good; NaN only if both are.
fn worse(good: Good, a: f64, b: f64) -> f64 {
    match good {
        Good::Below(_) => a.max(b),
        Good::Above(_) => a.min(b),
    }
}

/// The pairs of an instant vector with the labels `client` and `server`.
fn calls(kind: &str, result: &Value) -> Result<Vec<(String, String)>, String> {
    if kind != "vector" {
        return Err(format!("the query gives a {kind}, not a vector"));
    }
    let name = |series: &Value, label: &str| Some(series.get("metric")?.get(label)?.as_str()?.to_owned());
    let pair = |series: &Value| Some((name(series, "client")?, name(series, "server")?));
    let pairs: Option<Vec<_>> = result.as_array().and_then(|all| all.iter().map(pair).collect());
    pairs.ok_or_else(|| "answered with calls of an unknown shape".to_owned())
}

fn samples(kind: &str, result: &Value) -> Result<Vec<Sample>, String> {
    let sample = |pair: &Value| {
        let evaluated_at = pair.get(0)?.as_f64()?;
        // "NaN", "+Inf" and "-Inf" are values too.
        let value = pair.get(1)?.as_str()?.parse().ok()?;
        Some(Sample { evaluated_at, value })
    };
    let parsed: Option<Vec<_>> = match kind {
        "vector" => result.as_array().and_then(|all| all.iter().map(|s| sample(s.get("value")?)).collect()),
        "scalar" => sample(result).map(|s| vec![s]),
        other => return Err(format!("the query gives a {other}, not a vector")),
    };
    parsed.ok_or_else(|| "answered with samples of an unknown shape".to_owned())
}

/// The innermost cause: the outer ones only repeat the address.
pub(super) fn reason(error: reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_timeout() { "no answer in time".to_owned() } else { cause.to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn samples_are_read_with_their_special_values() {
        let vector = json!([{"metric": {}, "value": [1.5, "0.25"]}, {"metric": {}, "value": [1.5, "NaN"]}]);
        let read = samples("vector", &vector).unwrap();
        assert_eq!(read[0], Sample { evaluated_at: 1.5, value: 0.25 });
        assert!(read[1].value.is_nan());
        assert!(samples("scalar", &json!([1, "+Inf"])).unwrap()[0].value.is_infinite());
        assert!(samples("matrix", &json!([])).is_err());
        assert!(samples("vector", &json!([{"value": [1]}])).is_err());
    }

    #[test]
    fn a_manual_alert_means_the_rules_alert_of_its_target() {
        let set = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let active = set(&[("alertname", "A"), ("service", "api"), ("severity", "critical")]);
        assert!(same_alert(&active, &set(&[("alertname", "A")]), "api"));
        assert!(same_alert(&active, &set(&[("alertname", "A"), ("monitor", "external")]), "api"));
        assert!(!same_alert(&active, &set(&[("alertname", "A")]), "other"));
        assert!(!same_alert(&active, &set(&[("severity", "warning")]), "api"));
    }
}
