//! What the bot is told about the world: Prometheus, Alertmanager, and traces.
//!
//! Nothing here decides. An answer that did not come is passed on as such.

pub mod alertmanager;
pub mod jaeger;
pub mod prometheus;

use std::{collections::BTreeMap, time::Duration};

pub use alertmanager::Alertmanager;
pub use jaeger::Jaeger;
pub use prometheus::Prometheus;

use crate::{
    engine::{Probe, Sli, Tri, Workload},
    policy::Verify,
    timestamp::Timestamp,
};

/// A client without spans of its own: a proof takes dozens of looks, and the span of the whole
/// verification says all that they would.
fn quiet_client(limit: Duration) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .timeout(limit)
        .connect_timeout(limit)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
}

/// All eyes.
#[derive(Clone)]
pub struct Observer {
    /// Measures.
    pub prometheus: Prometheus,
    /// Knows which alerts burn and which are kept back.
    pub alertmanager: Alertmanager,
    /// Keeps the traces, where it is not Tempo.
    pub jaeger: Option<Jaeger>,
}

/// What a look is about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The alert's labels.
    pub labels: BTreeMap<String, String>,
    /// Its fingerprint.
    pub fingerprint: String,
    /// The target's service.
    pub service: String,
    /// The target's container.
    pub container: String,
    /// What counts as proof.
    pub verify: Verify,
}

impl Observer {
    /// Alert and SLI at one time; the container was looked at by the caller.
    pub async fn probe(&self, subject: &Subject, container: Result<Option<Workload>, String>) -> Probe {
        let (rule, listed, sli) = tokio::join!(
            self.prometheus.alert_fires(&subject.labels, &subject.service),
            self.alertmanager.fires(subject),
            self.sli(subject),
        );
        Probe { container, firing: firing(rule, listed), sli }
    }

    /// Who called whom within `window`, as (caller, called): by the service graph that Tempo makes of traces and
    /// Prometheus keeps, and by Jaeger.
    ///
    /// # Errors
    /// Nobody has answered.
    pub async fn calls(&self, window: Duration) -> Result<Vec<(String, String)>, String> {
        let jaeger = async {
            match &self.jaeger {
                Some(jaeger) => jaeger.calls(window).await,
                None => Err("nobody else keeps traces".to_owned()),
            }
        };
        match tokio::join!(self.prometheus.calls(window), jaeger) {
            (Err(why), Err(also)) => Err(format!("Prometheus: {why}; Jaeger: {also}")),
            (graph, traces) => Ok(graph.into_iter().chain(traces).flatten().collect()),
        }
    }

    /// The SLI over a time, with the query that was asked.
    ///
    /// # Errors
    /// Prometheus did not answer.
    pub async fn curve(
        &self,
        subject: &Subject,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<(String, Vec<(f64, Option<f64>)>), String> {
        let query = fill(&subject.verify.sli, subject);
        let points = self.prometheus.range(&query, from, to, subject.verify.good).await?;
        Ok((query, points))
    }

    async fn sli(&self, subject: &Subject) -> Sli {
        let fill = |query: &str| fill(query, subject);
        let heartbeat = subject.verify.heartbeat.as_deref().map(fill);
        self.prometheus.sli(&fill(&subject.verify.sli), heartbeat.as_deref(), subject.verify.good).await
    }
}

/// Prometheus is the source; Alertmanager is heard where Prometheus has no such
/// rule (Loki's ruler, a person). That Alertmanager alone has nothing proves
/// nothing: what nobody refreshes expires there.
fn firing(rule: Tri, listed: Tri) -> Tri {
    match (rule, listed) {
        (Tri::Yes, _) | (_, Tri::Yes) => Tri::Yes,
        (Tri::Unknown(why), _) => Tri::Unknown(why),
        (Tri::No, _) => Tri::No,
    }
}

/// Puts the target's names into a query. Both are names that Docker and the
/// policy accept; the escaping is for the case that this ever changes.
fn fill(query: &str, subject: &Subject) -> String {
    let quote = |text: &str| text.replace('\\', r"\\").replace('"', r#"\""#);
    let mut out = String::with_capacity(query.len());
    let mut rest = query;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((name, tail)) = after.split_once("}}") else {
            out.push_str("{{");
            rest = after;
            continue;
        };
        match name.trim() {
            "service" => out.push_str(&quote(&subject.service)),
            "container" => out.push_str(&quote(&subject.container)),
            other => out.push_str(&format!("{{{{{other}}}}}")),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Good, Period};

    fn subject(service: &str) -> Subject {
        Subject {
            labels: BTreeMap::new(),
            fingerprint: "f".to_owned(),
            service: service.to_owned(),
            container: "selfheal-api-1".to_owned(),
            verify: Verify {
                sli: "x".to_owned(),
                good: Good::Above(0.0),
                heartbeat: None,
                stable_for: Period::from_secs(1),
                within: Period::from_secs(2),
                every: Period::from_secs(1),
                max_age: Period::from_secs(30),
            },
        }
    }

    #[test]
    fn names_are_put_in_and_cannot_break_out() {
        let query = r#"r{service="{{service}}",name="{{ container }}"} > {{"#;
        assert_eq!(fill(query, &subject("api")), r#"r{service="api",name="selfheal-api-1"} > {{"#);
        assert_eq!(fill(r#"r{s="{{service}}"}"#, &subject("a\"} or vector(1")), r#"r{s="a\"} or vector(1"}"#);
    }

    #[test]
    fn silence_of_alertmanager_proves_nothing_without_prometheus() {
        let unknown = || Tri::Unknown("down".to_owned());
        assert_eq!(firing(unknown(), Tri::No), unknown());
        assert_eq!(firing(unknown(), Tri::Yes), Tri::Yes);
        assert_eq!(firing(Tri::No, unknown()), Tri::No);
        assert_eq!(firing(Tri::No, Tri::Yes), Tri::Yes);
    }
}
