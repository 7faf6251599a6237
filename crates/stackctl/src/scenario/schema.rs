//! What a scenario file may say. Strict: an unknown key or a wrong value is an error with its line.

use std::fmt::{self, Formatter};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::load::{Mix, Request};

/// One failure: how it is caused, and what must follow.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Format; 1.
    #[serde(deserialize_with = "version")]
    pub version: u32,
    /// The file's name without extension; filled in by [`load`].
    #[serde(skip)]
    pub name: String,
    /// One line.
    pub title: String,
    /// A few sentences.
    pub description: String,
    /// A load that runs all the time.
    pub load: Option<Load>,
    /// How it is broken, in order.
    #[serde(rename = "break", deserialize_with = "steps")]
    pub steps: Vec<Step>,
    /// What must follow.
    pub expect: Expect,
    /// What is done at the end in any case.
    #[serde(default, deserialize_with = "steps")]
    pub cleanup: Vec<Step>,
}

/// The background load on the transaction API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Requests a second.
    #[serde(deserialize_with = "rate")]
    pub rate: f64,
    /// `GET /a=8,POST /b=2`.
    #[serde(deserialize_with = "mix")]
    pub mix: Mix,
    /// Statuses that may come, with `refused`, `timeout` and `broken` for answers that never came.
    pub allow: Vec<Status>,
}

/// A status code, or the way an answer failed to come.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Status {
    /// HTTP status.
    Code(u16),
    /// `refused`, `timeout`, `broken`.
    Word(String),
}

impl Status {
    /// As the load counts it.
    pub fn matches(&self, counted: &str) -> bool {
        match self {
            Self::Code(code) => counted.parse() == Ok(*code),
            Self::Word(word) => counted == word,
        }
    }
}

/// One thing that is done to the stack.
#[derive(Clone, Debug)]
pub enum Step {
    /// Requests to the transaction API, one after the other.
    Http {
        /// What is asked for.
        request: Request,
        /// How often.
        times: u32,
        /// Pause between two.
        every: Duration,
    },
    /// A fault of the transaction API: the body of its `PUT /faults`.
    Fault(serde_json::Value),
    /// `docker VERB` on a service's container.
    Docker {
        /// `kill`, `stop`, `start`, `pause`, `unpause`, `restart`.
        verb: String,
        /// Compose service.
        service: String,
    },
    /// Nothing, for a while.
    Wait(Duration),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepText {
    http: Option<HttpText>,
    fault: Option<serde_json::Value>,
    kill: Option<String>,
    stop: Option<String>,
    start: Option<String>,
    pause: Option<String>,
    unpause: Option<String>,
    wait: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpText {
    #[serde(deserialize_with = "request")]
    request: Request,
    #[serde(default = "once")]
    times: u32,
    every: Option<Span>,
}

fn once() -> u32 {
    1
}

impl TryFrom<StepText> for Step {
    type Error = String;

    fn try_from(text: StepText) -> Result<Self, String> {
        let docker = |verb: &str, service: Option<String>| {
            service.map(|service| Self::Docker { verb: verb.to_owned(), service })
        };
        let mut given = Vec::new();
        if let Some(http) = text.http {
            given.push(Self::Http {
                request: http.request,
                times: http.times,
                every: http.every.map_or(Duration::ZERO, |span| span.0),
            });
        }
        given.extend(text.fault.map(Self::Fault));
        given.extend(docker("kill", text.kill));
        given.extend(docker("stop", text.stop));
        given.extend(docker("start", text.start));
        given.extend(docker("pause", text.pause));
        given.extend(docker("unpause", text.unpause));
        given.extend(text.wait.map(|span| Self::Wait(span.0)));
        match (given.pop(), given.is_empty()) {
            (Some(step), true) => Ok(step),
            _ => Err("is not exactly one of http, fault, kill, stop, start, pause, unpause, wait".into()),
        }
    }
}

/// What must follow.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// An alert that must fire; absent where none is asked for.
    pub alert: Option<AlertExpected>,
    /// What the alert-bot must do.
    pub action: ActionExpected,
    /// The service level that must be good in the end.
    pub sli: SliExpected,
    /// Services that must be healthy in the end.
    #[serde(default)]
    pub recovered: Vec<String>,
    /// Services that Docker must not have restarted by itself meanwhile.
    #[serde(default)]
    pub no_crash_loop: Vec<String>,
    /// Every transaction that was answered 201 must be found afterwards.
    #[serde(default)]
    pub keep_transactions: bool,
    /// Everything must be over within this time after the first break step.
    pub within: Span,
}

/// An alert that must fire.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertExpected {
    /// Its name.
    pub name: String,
    /// Its `service` label.
    pub service: String,
    /// After the first break step.
    pub within: Span,
}

/// What the alert-bot must do.
#[derive(Clone, Debug)]
pub enum ActionExpected {
    /// Nothing at all.
    None,
    /// Whatever it finds right; the outage is ended by the scenario itself.
    Any,
    /// This.
    Do(ActionWanted),
}

/// One action, as often as said, and nothing else.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionWanted {
    /// `restart` or `start`.
    pub verb: String,
    /// Compose service.
    pub target: String,
    /// How often, exactly.
    #[serde(default = "once")]
    pub times: u32,
    /// After the first break step.
    pub within: Span,
    /// `healed`, `not_healed`, `unverified`.
    #[serde(deserialize_with = "verdict")]
    pub verdict: String,
}

impl<'de> Deserialize<'de> for ActionExpected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Action;
        impl<'de> Visitor<'de> for Action {
            type Value = ActionExpected;

            fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
                formatter.write_str("none, any, or a mapping with verb and target")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<ActionExpected, E> {
                match word {
                    "none" => Ok(ActionExpected::None),
                    "any" => Ok(ActionExpected::Any),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ActionExpected, A::Error> {
                ActionWanted::deserialize(MapAccessDeserializer::new(map)).map(ActionExpected::Do)
            }
        }
        deserializer.deserialize_any(Action)
    }
}

/// The service level that must be good in the end.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliExpected {
    /// PromQL with one result.
    pub query: String,
    /// Good while below.
    pub below: f64,
    /// After the first break step.
    pub within: Span,
}

/// A duration with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, |text| {
            humantime::parse_duration(text).map(Self).map_err(|error| format!("duration {text:?}: {error}"))
        })
    }
}

fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    scalar(deserializer, |text| match text {
        "1" => Ok(1),
        other => Err(format!("version {other} is not known, only 1")),
    })
}

fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    scalar(deserializer, |text| match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1000.0 => Ok(rate),
        _ => Err(format!("rate {text} is not between 0 and 1000 a second")),
    })
}

fn mix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mix, D::Error> {
    scalar(deserializer, |text| Mix::parse(text).map_err(|error| error.to_string()))
}

fn request<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Request, D::Error> {
    scalar(deserializer, |text| Request::parse(text).map_err(|error| error.to_string()))
}

fn verdict<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    scalar(deserializer, |text| match text {
        "healed" | "not_healed" | "unverified" => Ok(text.to_owned()),
        _ => Err(format!("verdict {text:?} is not healed, not_healed or unverified")),
    })
}

/// A scalar that is checked while it is read: only then does the error carry its line.
fn scalar<'de, D, T, F>(deserializer: D, check: F) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    F: Fn(&str) -> Result<T, String>,
{
    struct Scalar<F>(F);
    impl<T, F: Fn(&str) -> Result<T, String>> Visitor<'_> for Scalar<F> {
        type Value = T;

        fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
            formatter.write_str("a scalar")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            (self.0)(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Scalar(check))
}

/// Steps one by one, so that the error of one says which.
fn steps<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Step>, D::Error> {
    struct Steps;
    impl<'de> Visitor<'de> for Steps {
        type Value = Vec<Step>;

        fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list of steps")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Step>, A::Error> {
            let mut steps = Vec::new();
            while let Some(text) = list.next_element::<StepText>()? {
                let number = steps.len() + 1;
                steps.push(Step::try_from(text).map_err(|why| de::Error::custom(format!("step {number} {why}")))?);
            }
            Ok(steps)
        }
    }
    deserializer.deserialize_seq(Steps)
}

/// Parses one file's text.
pub fn parse(name: &str, text: &str) -> Result<Scenario, serde_yaml_ng::Error> {
    let mut scenario: Scenario = serde_yaml_ng::from_str(text)?;
    scenario.name = name.to_owned();
    Ok(scenario)
}

/// Reads all scenarios of a folder, by name. `known` says whether a service exists.
pub fn load(dir: &Path, known: impl Fn(&str) -> bool) -> Result<Vec<Scenario>> {
    let mut scenarios = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        let (Some(name), Some("yaml")) = (path.file_stem(), path.extension().and_then(|e| e.to_str())) else {
            continue;
        };
        let text = std::fs::read_to_string(&path)?;
        let file = format!("scenarios/{}.yaml", name.to_string_lossy());
        let scenario = parse(&name.to_string_lossy(), &text).with_context(|| file.clone())?;
        if let Some(service) = services(&scenario).find(|service| !known(service)) {
            bail!("{file}: there is no service called {service}");
        }
        scenarios.push(scenario);
    }
    scenarios.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(scenarios)
}

fn services(scenario: &Scenario) -> impl Iterator<Item = &str> {
    let steps = scenario.steps.iter().chain(&scenario.cleanup).filter_map(|step| match step {
        Step::Docker { service, .. } => Some(service.as_str()),
        _ => None,
    });
    let target = match &scenario.expect.action {
        ActionExpected::Do(wanted) => Some(wanted.target.as_str()),
        _ => None,
    };
    let listed = scenario.expect.recovered.iter().chain(&scenario.expect.no_crash_loop).map(String::as_str);
    steps.chain(target).chain(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
version: 1
title: Errors
description: The API fails.
load: {rate: 5, mix: 'GET /transactions=1', allow: [200, 503, refused]}
break:
  - fault: {fault: error_rate, ratio: 0.9, ttl: 5m}
  - http: {request: GET /error, times: 3, every: 200ms}
  - kill: redis
  - wait: 20s
expect:
  alert: {name: HighErrorRate, service: transaction-api, within: 60s}
  action: {verb: restart, target: transaction-api, within: 90s, verdict: healed}
  sli: {query: x, below: 0.1, within: 3m}
  recovered: [transaction-api]
  within: 5m
cleanup:
  - start: redis
";

    #[test]
    fn reads_everything() {
        insta::assert_debug_snapshot!(parse("errors", GOOD).unwrap());
    }

    #[test]
    fn action_may_be_a_word() {
        let with = |action: &str| {
            let text = GOOD.replace("{verb: restart, target: transaction-api, within: 90s, verdict: healed}", action);
            parse("x", &text)
        };
        assert!(matches!(with("none").unwrap().expect.action, ActionExpected::None));
        assert!(matches!(with("any").unwrap().expect.action, ActionExpected::Any));
        assert!(with("maybe").is_err());
    }

    #[test]
    fn errors_name_the_line() {
        let broken = [
            ("title: Errors", "titel: Errors"),
            ("version: 1", "version: 2"),
            ("rate: 5", "rate: -5"),
            ("GET /transactions=1", "FETCH /x"),
            ("request: GET /error", "request: error"),
            ("wait: 20s", "wait: 20"),
            ("kill: redis", "explode: redis"),
            ("  - kill: redis", "  - {kill: redis, start: redis}"),
            ("verdict: healed", "verdict: fine"),
            ("within: 5m", "within: soon"),
            ("below: 0.1", "below: low"),
        ];
        let errors: Vec<String> = broken
            .into_iter()
            .map(|(from, to)| {
                assert!(GOOD.contains(from), "{from}");
                parse("x", &GOOD.replacen(from, to, 1)).unwrap_err().to_string()
            })
            .collect();
        insta::assert_snapshot!(errors.join("\n"));
    }

    #[test]
    fn an_unknown_service_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.yaml"), GOOD).unwrap();
        assert_eq!(load(dir.path(), |_| true).unwrap().len(), 1);
        let error = load(dir.path(), |service| service != "redis").unwrap_err().to_string();
        assert_eq!(error, "scenarios/x.yaml: there is no service called redis");
    }
}
