//! What a scenario file may say. Strict: an unknown key or a wrong value is an error with its line.

use std::collections::BTreeMap;
use std::fmt::{self, Formatter};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::parameters::{self, Given, Parameters};
use super::step::{Step, steps};
use super::value::{AnyOf, Count, Span, mix, rate, scalar, unknown, words};
use crate::load::Mix;

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
    /// Why it is run by name only; filled in by [`load`].
    #[serde(skip)]
    pub by_name_only: Option<String>,
    /// One line.
    pub title: String,
    /// A few sentences.
    pub description: String,
    /// The compose profile that must be on.
    pub profile: Option<String>,
    /// Values that a run may change, such as how long something lasts.
    #[serde(default)]
    pub parameters: Parameters,
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
    /// Where it enters.
    #[serde(default)]
    pub to: Door,
    /// Requests under way at once at most.
    #[serde(default = "thirty_two")]
    pub concurrency: usize,
    /// It ends after this time; absent where it lasts as long as the scenario.
    pub lasting: Option<Span>,
    /// Requests a second.
    #[serde(deserialize_with = "rate")]
    pub rate: f64,
    /// `GET /a=8,POST /b=2`.
    #[serde(deserialize_with = "mix")]
    pub mix: Mix,
    /// Statuses that may come, with `refused`, `timeout` and `broken` for answers that never came.
    pub allow: Vec<Status>,
}

/// Where a load enters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    /// The container that compose started.
    #[default]
    TransactionApi,
    /// The gateway, which spreads it over the replicas.
    Gateway,
}

fn thirty_two() -> usize {
    32
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

/// What must follow.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// An alert that must fire; absent where none is asked for.
    pub alert: Option<AlertExpected>,
    /// What the alert-bot must do.
    pub action: ActionExpected,
    /// What must be known of single incidents: why nothing was done, how it ended, what was found.
    #[serde(default)]
    pub incidents: Vec<IncidentExpected>,
    /// Alerts that may open an incident, `*` at the end for any; absent where any may.
    pub only: Option<Vec<String>>,
    /// The freeze that the bot must have put on itself.
    #[serde(default, deserialize_with = "freeze")]
    pub freeze: Option<String>,
    /// Messages of the bot to people.
    pub pages: Option<Count>,
    /// The service level that must be good in the end.
    pub sli: SliExpected,
    /// Services that must be healthy in the end.
    #[serde(default)]
    pub recovered: Vec<String>,
    /// Services that Docker must not have restarted by itself meanwhile.
    #[serde(default)]
    pub no_crash_loop: Vec<String>,
    /// Services that may be started or made anew by somebody else than the scenario and the bot.
    #[serde(default)]
    pub may_change: Vec<String>,
    /// Every transaction that was answered 201 must be found afterwards.
    #[serde(default)]
    pub keep_transactions: bool,
    /// It is watched for so long after the last break step, whatever is seen: what must not happen needs time
    /// in which it could.
    pub watch: Option<Span>,
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
    /// These, and nothing else.
    Do(Vec<ActionWanted>),
}

impl ActionExpected {
    /// The actions that are asked for.
    pub fn wanted(&self) -> &[ActionWanted] {
        match self {
            Self::Do(wanted) => wanted,
            Self::None | Self::Any => &[],
        }
    }
}

/// One action, as often as said.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionWanted {
    /// `restart`, `start` …
    #[serde(deserialize_with = "verb")]
    pub verb: String,
    /// Compose service.
    pub target: String,
    /// How often.
    #[serde(default = "once")]
    pub times: Count,
    /// The first one, after the first break step.
    pub within: Span,
    /// `healed`, `not_healed`, `unverified`; absent where nothing is to be proven.
    #[serde(default, deserialize_with = "verdict")]
    pub verdict: Option<String>,
}

fn once() -> Count {
    Count::exactly(1)
}

/// What must be known of each new incident of an alert.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncidentExpected {
    /// The alert's name.
    pub alert: String,
    /// The service that is meant; absent for any.
    pub service: Option<String>,
    /// Codes of reasons, one of which was given for not acting.
    #[serde(default, deserialize_with = "reason")]
    pub reason: AnyOf,
    /// How it ended, one of these. Not said of one that is open.
    #[serde(default, deserialize_with = "outcome")]
    pub outcome: AnyOf,
    /// Kinds of findings of a diagnosis, each of which is on it.
    #[serde(default, deserialize_with = "findings")]
    pub findings: AnyOf,
    /// False: such an incident need not be opened.
    #[serde(default = "yes")]
    pub required: bool,
    /// It is opened within this time after the first break step.
    pub within: Option<Span>,
    /// It is opened within this time after the last break step.
    pub after_break: Option<Span>,
}

fn yes() -> bool {
    true
}

/// Codes of reasons not to act, as the bot gives them.
const REASONS: &[(&str, ())] = &[
    ("no_policy", ()),
    ("left_to_people", ()),
    ("observe_mode", ()),
    ("silenced", ()),
    ("inhibited", ()),
    ("muted", ()),
    ("alert_gone", ()),
    ("hold", ()),
    ("already_done", ()),
    ("empty_selector", ()),
    ("invalid_target", ()),
    ("no_target", ()),
    ("ambiguous_target", ()),
    ("other_project", ()),
    ("not_opted_in", ()),
    ("protected", ()),
    ("denied", ()),
    ("too_young", ()),
    ("just_stopped", ()),
    ("never_started", ()),
    ("target_changing", ()),
    ("not_applicable", ()),
    ("target_busy", ()),
    ("cooldown", ()),
    ("target_budget_exhausted", ()),
    ("global_budget_exhausted", ()),
    ("concurrency_limit", ()),
    ("backend_unavailable", ()),
    ("backend_refused", ()),
    ("action_failed", ()),
    ("frozen", ()),
    ("storm", ()),
    ("maintenance", ()),
    ("cause_elsewhere", ()),
    ("awaiting_approval", ()),
    ("rejected", ()),
    ("taken_over", ()),
    ("not_leader", ()),
    ("crash_loop", ()),
    ("manual_stop", ()),
];

/// What a diagnosis of the database finds.
const FINDINGS: &[(&str, ())] =
    &[("blocked", ()), ("idle_in_transaction", ()), ("long_running", ()), ("connections", ()), ("slow_statement", ())];

/// How an incident ends.
const OUTCOMES: &[(&str, ())] = &[
    ("healed", ()),
    ("not_healed", ()),
    ("unverified", ()),
    ("resolved", ()),
    ("silenced", ()),
    ("expired", ()),
    ("covered", ()),
];

/// What the bot can do. Those that only look are not counted where nothing may be done.
const VERBS: &[(&str, ())] = &[
    ("restart", ()),
    ("start", ()),
    ("stop_start", ()),
    ("recreate", ()),
    ("scale_out", ()),
    ("scale_in", ()),
    ("roll_back", ()),
    ("diagnose", ()),
    ("sql_diagnosis", ()),
    ("webhook", ()),
];

/// True for an action that changes nothing.
pub fn only_looks(verb: &str) -> bool {
    ["diagnose", "sql_diagnosis", "webhook"].contains(&verb)
}

fn known(what: &str, text: &str, known: &[(&str, ())]) -> Result<(), String> {
    match known.iter().any(|(word, ())| *word == text) {
        true => Ok(()),
        false => Err(unknown(what, text, known)),
    }
}

fn reason<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AnyOf, D::Error> {
    words(deserializer, |word| known("reason", word, REASONS))
}

fn findings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AnyOf, D::Error> {
    words(deserializer, |word| known("finding", word, FINDINGS))
}

fn outcome<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AnyOf, D::Error> {
    words(deserializer, |word| known("outcome", word, OUTCOMES))
}

fn verb<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    scalar(deserializer, |text| known("verb", text, VERBS).map(|()| text.to_owned()))
}

fn verdict<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let verdicts = &[("healed", ()), ("not_healed", ()), ("unverified", ())];
    scalar(deserializer, |text| known("verdict", text, verdicts).map(|()| Some(text.to_owned())))
}

fn freeze<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    scalar(deserializer, |text| known("freeze", text, &[("storm", ())]).map(|()| Some(text.to_owned())))
}

impl<'de> Deserialize<'de> for ActionExpected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Action;
        impl<'de> Visitor<'de> for Action {
            type Value = ActionExpected;

            fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
                formatter.write_str("none, any, a mapping with verb and target, or a list of those")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<ActionExpected, E> {
                match word {
                    "none" => Ok(ActionExpected::None),
                    "any" => Ok(ActionExpected::Any),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ActionExpected, A::Error> {
                ActionWanted::deserialize(MapAccessDeserializer::new(map)).map(|one| ActionExpected::Do(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ActionExpected, A::Error> {
                let mut wanted = Vec::new();
                while let Some(one) = list.next_element()? {
                    wanted.push(one);
                }
                match wanted.is_empty() {
                    true => Err(de::Error::custom("an empty list of actions: write none")),
                    false => Ok(ActionExpected::Do(wanted)),
                }
            }
        }
        deserializer.deserialize_any(Action)
    }
}

/// The service level that must be good in the end.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "SliText")]
pub struct SliExpected {
    /// PromQL with one result.
    pub query: String,
    /// When it is good.
    pub good: Good,
    /// After the first break step.
    pub within: Span,
    /// It must never be bad.
    pub always: bool,
}

/// When a value is good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Good {
    /// Below this.
    Below(f64),
    /// Above this.
    Above(f64),
}

impl Good {
    /// Whether this value is.
    pub fn is(self, value: f64) -> bool {
        match self {
            Self::Below(limit) => value < limit,
            Self::Above(limit) => value > limit,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SliText {
    query: String,
    below: Option<f64>,
    above: Option<f64>,
    within: Span,
    #[serde(default)]
    always: bool,
}

impl TryFrom<SliText> for SliExpected {
    type Error = String;

    fn try_from(text: SliText) -> Result<Self, String> {
        let good = match (text.below, text.above) {
            (Some(limit), None) => Good::Below(limit),
            (None, Some(limit)) => Good::Above(limit),
            _ => return Err("the SLI has not exactly one of below and above".into()),
        };
        Ok(Self { query: text.query, good, within: text.within, always: text.always })
    }
}

fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    scalar(deserializer, |text| match text {
        "1" => Ok(1),
        other => Err(format!("version {other} is not known, only 1")),
    })
}

/// Parses one file's text, with these parameters.
pub fn parse(name: &str, text: &str, given: &Given) -> Result<Scenario> {
    let text = parameters::put_in(text, &parameters::declared(text)?, given)?;
    let mut scenario: Scenario = serde_yaml_ng::from_str(&text)?;
    scenario.name = name.to_owned();
    Ok(scenario)
}

/// Scenarios that `--all` leaves out: a name and the reason a line.
const BY_NAME_ONLY: &str = "by-name-only.txt";

/// Reads all scenarios of a folder, by name. `known` says whether a service exists.
pub fn load(dir: &Path, given: &Given, known: impl Fn(&str) -> bool) -> Result<Vec<Scenario>> {
    let mut scenarios = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        let (Some(name), Some("yaml")) = (path.file_stem(), path.extension().and_then(|e| e.to_str())) else {
            continue;
        };
        let text = std::fs::read_to_string(&path)?;
        let file = format!("scenarios/{}.yaml", name.to_string_lossy());
        let scenario = parse(&name.to_string_lossy(), &text, given).with_context(|| file.clone())?;
        if let Some(service) = services(&scenario).find(|service| !known(service)) {
            bail!("{file}: there is no service called {service}");
        }
        scenarios.push(scenario);
    }
    scenarios.sort_by(|a, b| a.name.cmp(&b.name));
    let listed = std::fs::read_to_string(dir.join(BY_NAME_ONLY)).unwrap_or_default();
    for (name, why) in by_name_only(&listed)? {
        let scenario = scenarios.iter_mut().find(|scenario| scenario.name == name);
        scenario.with_context(|| format!("{BY_NAME_ONLY}: there is no scenario called {name}"))?.by_name_only =
            Some(why);
    }
    Ok(scenarios)
}

fn by_name_only(text: &str) -> Result<BTreeMap<String, String>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, why) =
                line.split_once(": ").with_context(|| format!("{BY_NAME_ONLY}: {line:?} is not NAME: WHY"))?;
            Ok((name.trim().to_owned(), why.trim().to_owned()))
        })
        .collect()
}

fn services(scenario: &Scenario) -> impl Iterator<Item = &str> {
    let expect = &scenario.expect;
    let steps = scenario.steps.iter().chain(&scenario.cleanup).flat_map(Step::services);
    let targets = expect.action.wanted().iter().map(|wanted| wanted.target.as_str());
    let listed = [&expect.recovered, &expect.no_crash_loop, &expect.may_change];
    steps.chain(targets).chain(listed.into_iter().flatten().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
version: 1
title: Errors
description: The API fails for ${down}.
parameters:
  down: {default: 2m, quick: 20s}
load: {rate: 5, mix: 'GET /transactions=1', allow: [200, 503, refused]}
break:
  - fault: {fault: error_rate, ratio: 0.9, ttl: 5m}
  - http: {request: GET /error, times: 3, every: 200ms}
  - kill: redis
  - wait: ${down}
  - post_alerts: {labels: {alertname: HighErrorRate, severity: critical}, services: [redis, lake], lasting: 3m}
  - deploy: {service: drift-inference, env: {ADMIN_ADDR: nonsense}}
  - sql: {statement: LOCK TABLE transactions, hold: 40s}
  - kill_bot: {when: acting, within: 60s}
  - freeze: {why: a test}
  - repeat:
      times: 3
      steps:
        - stop: redis
        - start: redis
expect:
  alert: {name: HighErrorRate, service: transaction-api, within: 60s}
  action: {verb: restart, target: transaction-api, within: 90s, verdict: healed}
  incidents:
    - {alert: HighErrorRate, service: transaction-api, reason: [cause_elsewhere, inhibited], outcome: covered, required: false}
    - {alert: DatabaseSlow, findings: [blocked, idle_in_transaction], within: 2m, after_break: 60s}
  only: [HighErrorRate, ErrorBudget*]
  freeze: storm
  pages: 0..1
  sli: {query: x, below: 0.1, within: 3m}
  recovered: [transaction-api]
  watch: 30s
  within: 5m
cleanup:
  - redeploy: drift-inference
  - unfreeze: true
  - post_alerts: {state: resolved, to: alert-bot, labels: {alertname: HighErrorRate}}
  - start: redis
";

    fn good(text: &str) -> Result<Scenario> {
        parse("errors", text, &Given::quick())
    }

    #[test]
    fn reads_everything() {
        insta::assert_debug_snapshot!(good(GOOD).unwrap());
    }

    #[test]
    fn every_step_says_what_it_did() {
        let scenario = good(GOOD).unwrap();
        let told: Vec<String> = scenario.steps.iter().chain(&scenario.cleanup).map(Step::describe).collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn action_may_be_a_word_or_a_list() {
        let with = |action: &str| {
            let text = GOOD.replace("{verb: restart, target: transaction-api, within: 90s, verdict: healed}", action);
            good(&text)
        };
        assert!(matches!(with("none").unwrap().expect.action, ActionExpected::None));
        assert!(matches!(with("any").unwrap().expect.action, ActionExpected::Any));
        let two =
            with("[{verb: start, target: postgres, within: 60s}, {verb: sql_diagnosis, target: postgres, within: 1m}]");
        assert_eq!(two.unwrap().expect.action.wanted().len(), 2);
        for wrong in ["maybe", "[]", "{verb: delete, target: x, within: 1s}"] {
            assert!(with(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn errors_name_the_line() {
        let broken = [
            ("title: Errors", "titel: Errors"),
            ("version: 1", "version: 2"),
            ("rate: 5", "rate: -5"),
            ("GET /transactions=1", "FETCH /x"),
            ("request: GET /error", "request: error"),
            ("wait: ${down}", "wait: 20"),
            ("wait: ${down}", "wait: ${up}"),
            ("kill: redis", "explode: redis"),
            ("  - kill: redis", "  - {kill: redis, start: redis}"),
            ("alertname: HighErrorRate, severity", "name: HighErrorRate, severity"),
            (", env: {ADMIN_ADDR: nonsense}", ""),
            ("hold: 40s", "hold: long"),
            ("when: acting", "when: asleep"),
            ("times: 3\n", "times: 0\n"),
            ("verdict: healed", "verdict: fine"),
            ("verb: restart", "verb: delete"),
            ("[cause_elsewhere, inhibited]", "[elsewhere]"),
            ("outcome: covered", "outcome: gone"),
            ("[blocked, idle_in_transaction]", "[blocked, tired]"),
            ("freeze: storm", "freeze: ice"),
            ("pages: 0..1", "pages: some"),
            ("within: 5m", "within: soon"),
            ("below: 0.1", "below: low"),
            ("below: 0.1", "below: 0.1, above: 0.2"),
        ];
        let errors: Vec<String> = broken
            .into_iter()
            .map(|(from, to)| {
                assert!(GOOD.contains(from), "{from}");
                good(&GOOD.replacen(from, to, 1)).unwrap_err().to_string()
            })
            .collect();
        assert!(errors.iter().all(|error| error.contains("line ")), "{errors:?}");
        insta::assert_snapshot!(errors.join("\n"));
    }

    #[test]
    fn steps_on_the_plant_are_read() {
        let steps = "  - machine_fault: {machine: m-2, fault: {kind: sensor_gap, ttl: 40s}}
  - damage: {volume: esg-ledger, files: [a, b/c], at: 7}
  - mend_machine: m-2
  - undo_damage: esg-ledger
";
        let scenario = good(&GOOD.replacen("  - kill: redis\n", steps, 1)).unwrap();
        let told: Vec<String> = scenario.steps.iter().skip(2).take(4).map(Step::describe).collect();
        assert_eq!(
            told,
            [
                r#"fault of m-2: {"kind":"sensor_gap","ttl":"40s"}"#,
                "turned a bit over in volume esg-ledger, byte 7",
                "mended m-2",
                "put volume esg-ledger right",
            ]
        );
    }

    #[test]
    fn an_unknown_service_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.yaml"), GOOD).unwrap();
        let given = Given::default();
        assert_eq!(load(dir.path(), &given, |_| true).unwrap().len(), 1);
        let error = load(dir.path(), &given, |service| service != "lake").unwrap_err().to_string();
        assert_eq!(error, "scenarios/x.yaml: there is no service called lake");
    }

    #[test]
    fn some_are_run_by_name_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.yaml"), GOOD).unwrap();
        let list = |text: &str| {
            std::fs::write(dir.path().join(BY_NAME_ONLY), text).unwrap();
            load(dir.path(), &Given::default(), |_| true)
        };
        let scenarios = list("# NAME: WHY\n\nx: takes a day\n").unwrap();
        assert_eq!(scenarios[0].by_name_only.as_deref(), Some("takes a day"));
        assert!(list("y: is gone\n").unwrap_err().to_string().contains("no scenario called y"));
        assert!(list("x\n").unwrap_err().to_string().contains("is not NAME: WHY"));
    }
}
