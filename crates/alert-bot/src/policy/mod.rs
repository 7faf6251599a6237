//! The policy: which alert leads to which repair, within which limits.
//!
//! [`Policy`] is what the engine works with: every value present, checked, and
//! within bounds. `document` is the YAML that people write; [`reload`] keeps
//! the running policy in step with the file.

mod document;
mod hook;
mod maintenance;
mod period;
pub mod reload;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

pub use document::PolicyError;
pub use hook::Hook;
pub use maintenance::Window;
pub use period::Period;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Services that are never touched, whatever a policy or a label says: the bot
/// itself, its way to Docker, and the two that it is judged by.
pub const ALWAYS_DENIED: [&str; 4] = ["alert-bot", "docker-guard", "prometheus", "alertmanager"];

/// No window of a budget is longer than this: the engine forgets older actions.
pub const LONGEST_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// A whole policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Whether decisions are carried out.
    pub mode: Mode,
    /// Limits over all targets together.
    pub limits: Limits,
    /// When so much burns at once that nothing is acted on.
    pub storm: Storm,
    /// A service that was just healed explains what depends on it for this long.
    pub settle: Period,
    /// When nothing is acted on.
    pub maintenance: Vec<Window>,
    /// Services never touched, on top of [`ALWAYS_DENIED`].
    pub deny: Vec<String>,
    /// Who is told when the bot is at its end, and after how long who else.
    pub escalation: Vec<Level>,
    /// In the order of the document; the first that matches counts.
    pub rules: Vec<Arc<Rule>>,
    /// The first 12 hex digits of the document's SHA-256.
    pub digest: String,
}

/// What happens to decisions; later ones allow less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Carry out what was decided.
    Auto,
    /// Carry it out once a person has approved it.
    Approve,
    /// Decide and record, touch nothing.
    Observe,
}

/// When so much burns at once that restarts would not help.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Storm {
    /// More than this share of the services that may be healed …
    pub share: f64,
    /// … and at least so many …
    pub at_least: usize,
    /// … began to burn within this time:
    pub within: Period,
    /// nothing is acted on for so long.
    pub freeze: Period,
}

/// Limits over all targets together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// At most this many actions …
    pub actions: u32,
    /// … within this time …
    pub window: Period,
    /// … and this many at once.
    pub concurrent: u32,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Unique within the policy.
    pub name: String,
    /// Label → allowed values; all labels must match.
    pub matches: BTreeMap<String, Vec<String>>,
    /// Mode of this rule alone; the stricter of it and the policy's counts.
    pub mode: Mode,
    /// While its alert burns, it is the cause of what burns among the services that depend on its.
    #[serde(default)]
    pub explains_dependents: bool,
    /// What to do.
    pub plan: Plan,
    /// This rule's own ladder instead of the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation: Option<Vec<Level>>,
}

/// One level of the escalation ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// So long after the first.
    pub after: Period,
    /// Who is told.
    pub to: Vec<Receiver>,
    /// Of alerts with one of these severities only; none named: of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub severity: Vec<String>,
}

/// A way to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Receiver {
    /// A channel of Slack.
    Slack,
    /// Mail.
    Email,
    /// An HTTP endpoint of one's own: a pager, a ticket system.
    Webhook,
}

impl Receiver {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Slack, Self::Email, Self::Webhook];

    /// As written in policies, metrics and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Email => "email",
            Self::Webhook => "webhook",
        }
    }
}

/// The ladder of a policy that names none: everybody at once.
pub fn default_escalation() -> Vec<Level> {
    vec![Level { after: Period::from_secs(0), to: Receiver::ALL.to_vec(), severity: Vec::new() }]
}

/// What a rule wants done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// Repair.
    Heal(Box<Heal>),
    /// An incident is opened, and left to people for this reason.
    LeaveToPeople(String),
    /// No incident, for this reason.
    Ignore(String),
}

/// How to repair, within which limits, and how to tell that it worked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heal {
    /// Which service.
    pub target: Selector,
    /// The alert must have fired for this long.
    pub hold: Period,
    /// A container started more recently than this is left alone.
    pub min_age: Period,
    /// In order; the next one is taken when one did not heal.
    pub steps: Vec<Step>,
    /// Limits per target.
    pub budget: Budget,
    /// The proof.
    pub verify: Verify,
}

/// Where the service's name comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// Always this service.
    Service(String),
    /// The value of an alert's label, or the default where the label is missing.
    Label {
        /// The label's name.
        label: String,
        /// Meant when the alert has no such label.
        default: Option<String>,
    },
}

/// One remediation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What to do.
    pub action: Verb,
    /// After this time without an answer the outcome is unknown.
    pub timeout: Period,
    /// How long the container may take to stop before it is killed.
    pub stop_timeout: Period,
    /// `scale_out` makes no more than so many beside the first.
    #[serde(default = "one")]
    pub max_replicas: usize,
    /// What `webhook` calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Hook>,
}

fn one() -> usize {
    1
}

/// What can be done to a container, or on its behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Restart it; one that is down is started.
    Restart,
    /// Start it if it is down; not applicable to one that runs.
    Start,
    /// Stop it, and start it when it has stopped; one that is down is started.
    StopStart,
    /// Put a new container in its place, alike but for its id.
    Recreate,
    /// The same, with the last image that ran healthy before the present one.
    RollBack,
    /// Run a further replica beside it.
    ScaleOut,
    /// Remove a replica that was made for it.
    ScaleIn,
    /// Call an address that the policy names: what heals is elsewhere.
    Webhook,
    /// Look only: its state and its last log lines go to the incident.
    Diagnose,
    /// Look only: what the database waits for goes to the incident.
    SqlDiagnosis,
}

/// Limits per target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// At most this many actions …
    pub actions: u32,
    /// … within this time.
    pub window: Period,
    /// Time between two actions; doubled for every further one within the window …
    pub cooldown: Period,
    /// … up to this.
    pub cooldown_max: Period,
}

/// What counts as proof.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verify {
    /// PromQL; `{{service}}` and `{{container}}` are replaced.
    pub sli: String,
    /// When a sample of the SLI is good.
    pub good: Good,
    /// PromQL of series that must be fresh and not 0, where the SLI's own
    /// samples cannot say how old they are.
    pub heartbeat: Option<String>,
    /// Everything must be good for this long …
    pub stable_for: Period,
    /// … at the latest this long after the action.
    pub within: Period,
    /// Time between two looks.
    pub every: Period,
    /// A sample older than this proves nothing.
    pub max_age: Period,
}

/// When a sample is good. NaN is not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Good {
    /// Less than this.
    Below(f64),
    /// More than this.
    Above(f64),
}

impl Good {
    /// Whether `value` is good.
    pub fn accepts(self, value: f64) -> bool {
        match self {
            Self::Below(limit) => value < limit,
            Self::Above(limit) => value > limit,
        }
    }
}

impl fmt::Display for Good {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(limit) => write!(f, "below {limit}"),
            Self::Above(limit) => write!(f, "above {limit}"),
        }
    }
}

impl Verb {
    /// Whether the same container runs afterwards, from the beginning.
    pub const fn starts_again(self) -> bool {
        matches!(self, Self::Restart | Self::Start | Self::StopStart)
    }

    /// Whether another container stands in the place of the target afterwards.
    pub const fn replaces(self) -> bool {
        matches!(self, Self::Recreate | Self::RollBack)
    }

    /// Whether it changes how many replicas there are.
    pub const fn scales(self) -> bool {
        matches!(self, Self::ScaleOut | Self::ScaleIn)
    }

    /// Whether the containers tell afterwards whether it was done.
    pub const fn leaves_a_trace(self) -> bool {
        self.changes() && !matches!(self, Self::Webhook)
    }

    /// Whether it changes something: only then it is counted, braked and proven.
    pub const fn changes(self) -> bool {
        !matches!(self, Self::Diagnose | Self::SqlDiagnosis)
    }

    /// As written in policies, metrics and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Start => "start",
            Self::StopStart => "stop_start",
            Self::Recreate => "recreate",
            Self::RollBack => "roll_back",
            Self::ScaleOut => "scale_out",
            Self::ScaleIn => "scale_in",
            Self::Webhook => "webhook",
            Self::Diagnose => "diagnose",
            Self::SqlDiagnosis => "sql_diagnosis",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Mode {
    /// As written in policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Approve => "approve",
            Self::Observe => "observe",
        }
    }

    /// The one of the two that allows less.
    pub fn stricter(self, other: Self) -> Self {
        self.max(other)
    }
}

impl Selector {
    /// The service meant by an alert with these labels.
    pub fn service(&self, labels: &BTreeMap<String, String>) -> Option<String> {
        match self {
            Self::Service(name) => Some(name.clone()),
            Self::Label { label, default } => labels.get(label).filter(|v| !v.is_empty()).or(default.as_ref()).cloned(),
        }
    }
}

impl Rule {
    /// Whether the rule is meant for an alert with these labels.
    pub fn applies(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches.iter().all(|(name, values)| labels.get(name).is_some_and(|v| values.contains(v)))
    }

    /// The repair, if the rule wants one.
    pub fn heal(&self) -> Option<&Heal> {
        match &self.plan {
            Plan::Heal(heal) => Some(heal),
            Plan::LeaveToPeople(_) | Plan::Ignore(_) => None,
        }
    }
}

impl Policy {
    /// Reads and checks a whole document.
    ///
    /// # Errors
    /// Every fault found, each with its line. A document whose shape is wrong
    /// yields the first fault only: what follows could not be told apart.
    pub fn parse(text: &str) -> Result<Self, Vec<PolicyError>> {
        document::parse(text)
    }

    /// Who is told of an incident under this rule, and when.
    pub fn ladder(&self, rule: Option<&Rule>, severity: Option<&str>) -> Vec<Level> {
        let ladder = rule.and_then(|r| r.escalation.as_ref()).unwrap_or(&self.escalation);
        let meant = |level: &&Level| {
            level.severity.is_empty() || severity.is_some_and(|s| level.severity.iter().any(|wanted| wanted == s))
        };
        ladder.iter().filter(meant).cloned().collect()
    }

    /// The first rule meant for an alert with these labels.
    pub fn rule_for(&self, labels: &BTreeMap<String, String>) -> Option<&Arc<Rule>> {
        self.rules.iter().find(|rule| rule.applies(labels))
    }

    /// Whether a service or container of this name is never touched.
    pub fn denies(&self, name: &str) -> bool {
        ALWAYS_DENIED.contains(&name) || self.deny.iter().any(|d| d == name)
    }

    /// A policy that does nothing: what a test starts from.
    pub fn empty() -> Self {
        Self {
            mode: Mode::Auto,
            limits: Limits { actions: 10, window: Period::from_secs(600), concurrent: 2 },
            storm: Storm { share: 0.3, at_least: 4, within: Period::from_secs(120), freeze: Period::from_secs(600) },
            settle: Period::from_secs(60),
            maintenance: Vec::new(),
            deny: Vec::new(),
            escalation: default_escalation(),
            rules: Vec::new(),
            digest: digest(""),
        }
    }
}

/// A service's name as compose and Docker allow it. Nothing else reaches a
/// query or an API path: labels are written by whoever can send an alert.
pub fn is_service_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 63
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(6).map(|b| format!("{b:02x}")).collect()
}
