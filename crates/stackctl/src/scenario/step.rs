//! What a scenario does to the stack, one thing a step.

use std::collections::BTreeMap;
use std::fmt::{self, Formatter};
use std::time::Duration;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::plant::{Damage, MachineFault};
use super::value::{Span, one_of, request, scalar};
use crate::layout::duration;
use crate::load::Request;

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
        /// `kill`, `stop`, `start`, `pause`, `unpause`.
        verb: String,
        /// Compose service.
        service: String,
    },
    /// Nothing, for a while.
    Wait(Duration),
    /// Alerts that no rule made.
    PostAlerts(Alerts),
    /// A service's container, made anew with something changed.
    Deploy(Deploy),
    /// A service's container, made anew as the compose file says.
    Redeploy(String),
    /// A session in Postgres that holds what it did.
    Sql(Sql),
    /// SIGKILL to the alert-bot at a certain moment.
    KillBot(KillBot),
    /// The operator's switch: nothing is acted on.
    Freeze {
        /// Shown to people.
        why: String,
        /// It ends by itself then.
        lasting: Duration,
    },
    /// The switch back.
    Unfreeze,
    /// A fault of a machine of the fleet.
    MachineFault(MachineFault),
    /// A machine without faults and orders again.
    MendMachine(String),
    /// A bit turned over in a volume.
    Damage(Damage),
    /// The volume as it was.
    UndoDamage(String),
    /// An order to drift-inference, with the token that changes models and breaks the lake.
    Inference(Order),
    /// Some steps, several times.
    Repeat {
        /// How often.
        times: u32,
        /// In order.
        steps: Vec<Step>,
    },
}

/// Alerts that no rule made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    /// To whom.
    #[serde(default, deserialize_with = "receiver")]
    pub to: Receiver,
    /// Whether they burn or have ended.
    #[serde(default, deserialize_with = "alert_state")]
    pub state: AlertState,
    /// Labels of each.
    pub labels: BTreeMap<String, String>,
    /// One alert for each, as its label `service`.
    #[serde(default)]
    pub services: Vec<String>,
    /// They end by themselves then.
    #[serde(default = "ten_minutes")]
    pub lasting: Span,
}

impl Alerts {
    /// The labels of each alert.
    pub fn each(&self) -> Vec<BTreeMap<String, String>> {
        if self.services.is_empty() {
            return vec![self.labels.clone()];
        }
        let labels = |service: &String| {
            let mut labels = self.labels.clone();
            labels.insert("service".into(), service.clone());
            labels
        };
        self.services.iter().map(labels).collect()
    }

    fn name(&self) -> &str {
        self.labels.get("alertname").map_or("an alert", String::as_str)
    }
}

/// Who gets an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Receiver {
    /// Alertmanager's API: from there it goes its usual way.
    #[default]
    Alertmanager,
    /// The alert-bot's webhook, in the short form that a person types.
    AlertBot,
}

/// Whether an alert burns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlertState {
    /// It does.
    #[default]
    Firing,
    /// It has ended.
    Resolved,
}

/// A service's container, made anew.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// Compose service.
    pub service: String,
    /// Variables of a new image, made from the one that runs.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Labels of the new container.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A session in Postgres.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sql {
    /// Executed in a transaction that stays open, idle.
    pub statement: String,
    /// For so long; then it is rolled back.
    pub hold: Span,
}

/// An order to a service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What is asked for.
    #[serde(deserialize_with = "request")]
    pub request: Request,
    /// JSON of the request; absent for none.
    pub body: Option<serde_json::Value>,
}

/// SIGKILL to an alert-bot when an incident of this scenario has come so far.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillBot {
    /// State of the incident.
    #[serde(deserialize_with = "moment")]
    pub when: Moment,
    /// It must come so far within this time.
    pub within: Span,
    /// Of two bots the one that acts, whichever that is; otherwise the service `alert-bot`.
    #[serde(default)]
    pub leader: bool,
}

/// How far an incident has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The intent is written, the result is not.
    Acting,
    /// The action is done, the proof is awaited.
    Verifying,
}

impl Moment {
    /// As the bot calls it.
    pub fn state(self) -> &'static str {
        match self {
            Self::Acting => "acting",
            Self::Verifying => "verifying",
        }
    }
}

impl Step {
    /// The services that a step names.
    pub fn services(&self) -> Vec<&str> {
        match self {
            Self::Docker { service, .. } | Self::Redeploy(service) => vec![service],
            Self::Deploy(deploy) => vec![&deploy.service],
            Self::KillBot(kill) if kill.leader => vec!["alert-bot", "alert-bot-standby"],
            Self::KillBot(_) => vec!["alert-bot"],
            Self::Repeat { steps, .. } => steps.iter().flat_map(Self::services).collect(),
            Self::PostAlerts(alerts) => alerts.services.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// The step, or the steps that it repeats.
    pub fn flat(&self) -> Vec<&Self> {
        match self {
            Self::Repeat { steps, .. } => steps.iter().flat_map(Self::flat).collect(),
            step => vec![step],
        }
    }

    /// For people.
    pub fn describe(&self) -> String {
        match self {
            Self::Http { request, times, .. } => format!("sent {} {} × {times}", request.method, request.path),
            Self::Fault(fault) => format!("fault: {fault}"),
            Self::Docker { verb, service } => format!("docker {verb} {service}"),
            Self::Wait(span) => format!("waited {}", duration(*span)),
            Self::PostAlerts(alerts) => {
                let verb = if alerts.state == AlertState::Firing { "posted" } else { "ended" };
                let to = if alerts.to == Receiver::AlertBot { "to the bot" } else { "to Alertmanager" };
                format!("{verb} {} × {} {to}", alerts.name(), alerts.each().len())
            }
            Self::Deploy(deploy) => {
                let changes: Vec<String> =
                    deploy.env.iter().chain(&deploy.labels).map(|(name, value)| format!("{name}={value}")).collect();
                format!("deployed {} with {}", deploy.service, changes.join(", "))
            }
            Self::Redeploy(service) => format!("deployed {service} as it was"),
            Self::Sql(sql) => format!("a session holds for {}: {}", duration(sql.hold.0), sql.statement),
            Self::KillBot(kill) if kill.leader => {
                format!("killed the alert-bot that acts, while {}", kill.when.state())
            }
            Self::KillBot(kill) => format!("killed the alert-bot while {}", kill.when.state()),
            Self::Freeze { why, .. } => format!("froze the alert-bot: {why}"),
            Self::Unfreeze => "unfroze the alert-bot".into(),
            Self::MachineFault(fault) => format!("fault of {}: {}", fault.machine, fault.fault),
            Self::MendMachine(machine) => format!("mended {machine}"),
            Self::Damage(damage) => format!("turned a bit over in volume {}, byte {}", damage.volume, damage.at),
            Self::UndoDamage(volume) => format!("put volume {volume} right"),
            Self::Inference(order) => format!("ordered {} {}", order.request.method, order.request.path),
            Self::Repeat { times, steps } => {
                let each: Vec<String> = steps.iter().map(Self::describe).collect();
                format!("{times} × ({})", each.join("; "))
            }
        }
    }
}

const KEYS: &str = "http, fault, kill, stop, start, pause, unpause, wait, post_alerts, deploy, redeploy, sql, kill_bot, \
                    freeze, unfreeze, inference, machine_fault, mend_machine, damage, undo_damage, repeat";

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
    post_alerts: Option<Alerts>,
    deploy: Option<Deploy>,
    redeploy: Option<String>,
    sql: Option<Sql>,
    kill_bot: Option<KillBot>,
    freeze: Option<FreezeText>,
    unfreeze: Option<bool>,
    machine_fault: Option<MachineFault>,
    mend_machine: Option<String>,
    damage: Option<Damage>,
    undo_damage: Option<String>,
    inference: Option<Order>,
    repeat: Option<RepeatText>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FreezeText {
    why: String,
    #[serde(default = "ten_minutes")]
    lasting: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RepeatText {
    #[serde(deserialize_with = "times")]
    times: u32,
    #[serde(deserialize_with = "steps")]
    steps: Vec<Step>,
}

fn once() -> u32 {
    1
}

fn ten_minutes() -> Span {
    Span(Duration::from_secs(600))
}

fn times<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    scalar(deserializer, |text| match text.parse() {
        Ok(times @ 1..=1000) => Ok(times),
        _ => Err(format!("times {text} is not between 1 and 1000")),
    })
}

fn receiver<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Receiver, D::Error> {
    one_of(deserializer, "receiver", &[("alertmanager", Receiver::Alertmanager), ("alert-bot", Receiver::AlertBot)])
}

fn alert_state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AlertState, D::Error> {
    one_of(deserializer, "state", &[("firing", AlertState::Firing), ("resolved", AlertState::Resolved)])
}

fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
    one_of(deserializer, "moment", &[("acting", Moment::Acting), ("verifying", Moment::Verifying)])
}

impl TryFrom<StepText> for Step {
    type Error = String;

    fn try_from(text: StepText) -> Result<Self, String> {
        let docker = |verb: &str, service: Option<String>| {
            service.map(|service| Self::Docker { verb: verb.to_owned(), service })
        };
        if let Some(alerts) = &text.post_alerts
            && !alerts.labels.contains_key("alertname")
        {
            return Err("posts alerts without the label alertname".into());
        }
        if let Some(deploy) = &text.deploy
            && deploy.env.is_empty()
            && deploy.labels.is_empty()
        {
            return Err("deploys what is there already: env or labels must say what is new".into());
        }
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
        given.extend(text.post_alerts.map(Self::PostAlerts));
        given.extend(text.deploy.map(Self::Deploy));
        given.extend(text.redeploy.map(Self::Redeploy));
        given.extend(text.sql.map(Self::Sql));
        given.extend(text.kill_bot.map(Self::KillBot));
        given.extend(text.freeze.map(|freeze| Self::Freeze { why: freeze.why, lasting: freeze.lasting.0 }));
        given.extend(text.unfreeze.filter(|yes| *yes).map(|_| Self::Unfreeze));
        given.extend(text.machine_fault.map(Self::MachineFault));
        given.extend(text.mend_machine.map(Self::MendMachine));
        given.extend(text.damage.map(Self::Damage));
        given.extend(text.undo_damage.map(Self::UndoDamage));
        given.extend(text.inference.map(Self::Inference));
        given.extend(text.repeat.map(|repeat| Self::Repeat { times: repeat.times, steps: repeat.steps }));
        match (given.pop(), given.is_empty()) {
            (Some(step), true) => Ok(step),
            _ => Err(format!("is not exactly one of {KEYS}")),
        }
    }
}

/// Steps one by one, so that the error of one says which.
pub fn steps<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Step>, D::Error> {
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
