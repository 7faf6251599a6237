//! The source documents: strict keys, positions in errors.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::names::SpanRef;
use crate::span::Span;
use crate::speed::BySpeed;
use crate::{Error, Source};

/// Parses a document.
pub fn parse<T: DeserializeOwned>(source: &Source) -> Result<T, Error> {
    serde_yaml_ng::from_str(&source.text).map_err(|error| {
        let line = error.location().map_or(1, |place| place.line());
        let message = error.to_string();
        // The parser repeats the position at the end of its message; the line is already ours.
        let message = message.split(" at line ").next().unwrap_or(&message);
        Error::at(source, line, message)
    })
}

/// The version every document starts with; any other number is refused.
#[derive(Clone, Copy, Debug)]
pub struct Version1;

impl<'de> Deserialize<'de> for Version1 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            1 => Ok(Self),
            other => Err(serde::de::Error::custom(format!("version {other} is not known, this is version 1"))),
        }
    }
}

/// `prometheus/rules-src/speeds.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeedsFile {
    /// Version of the form.
    pub version: Version1,
    /// Bases of the links in annotations.
    pub links: Links,
    /// Named durations.
    pub durations: BTreeMap<String, BySpeed<Span>>,
    /// Named numbers.
    #[serde(default)]
    pub numbers: BTreeMap<String, BySpeed<f64>>,
    /// How long each of sloth's windows really is.
    pub slo_windows: SloWindows,
}

/// Bases of the links that every alert carries.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Links {
    /// Prefix of `/NAME.md`.
    pub runbooks: String,
    /// Prefix of `/UID`.
    pub dashboards: String,
}

/// Real length of each window that sloth's metric names speak of.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SloWindows {
    /// `…ratio_rate5m`
    #[serde(rename = "5m")]
    pub m5: BySpeed<Span>,
    /// `…ratio_rate30m`
    #[serde(rename = "30m")]
    pub m30: BySpeed<Span>,
    /// `…ratio_rate1h`
    #[serde(rename = "1h")]
    pub h1: BySpeed<Span>,
    /// `…ratio_rate2h`
    #[serde(rename = "2h")]
    pub h2: BySpeed<Span>,
    /// `…ratio_rate6h`
    #[serde(rename = "6h")]
    pub h6: BySpeed<Span>,
    /// `…ratio_rate1d`
    #[serde(rename = "1d")]
    pub d1: BySpeed<Span>,
    /// `…ratio_rate3d`
    #[serde(rename = "3d")]
    pub d3: BySpeed<Span>,
    /// `…ratio_rate30d`, the period of the budget
    #[serde(rename = "30d")]
    pub d30: BySpeed<Span>,
}

/// A source of recording and alerting rules.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// Version of the form.
    pub version: Version1,
    /// Rule groups, evaluated in order inside each.
    pub groups: Vec<GroupSource>,
}

impl RuleFile {
    /// The alerts of the file.
    pub fn alerts(&self) -> impl Iterator<Item = &AlertSource> {
        self.groups.iter().flat_map(|group| &group.rules).filter_map(|rule| match rule {
            RuleSource::Alert(alert) => Some(alert.as_ref()),
            RuleSource::Record(_) => None,
        })
    }
}

/// One group.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSource {
    /// Unique in its file.
    pub name: String,
    /// How often the group is evaluated.
    pub interval: BySpeed<SpanRef>,
    /// Rules in evaluation order.
    pub rules: Vec<RuleSource>,
}

/// A recording rule or an alert.
#[derive(Debug)]
pub enum RuleSource {
    /// `record:`
    Record(RecordSource),
    /// `alert:`
    Alert(Box<AlertSource>),
}

// Not `untagged`: that would lose the name and the line of a wrong key.
impl<'de> Deserialize<'de> for RuleSource {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let rule = AnyRule::deserialize(deserializer)?;
        match (rule.record, rule.alert) {
            (Some(record), None) => {
                for (key, present) in [
                    ("for", rule.pending.is_some()),
                    ("keep_firing_for", rule.keep_firing_for.is_some()),
                    ("severity", rule.severity.is_some()),
                    ("team", rule.team.is_some()),
                    ("service", rule.service.is_some()),
                    ("summary", rule.summary.is_some()),
                    ("description", rule.description.is_some()),
                    ("dashboard", rule.dashboard.is_some()),
                    ("variables", !rule.variables.is_empty()),
                ] {
                    if present {
                        return Err(D::Error::custom(format!(
                            "`{key}` belongs to alerts, `{record}` is a recording rule"
                        )));
                    }
                }
                Ok(Self::Record(RecordSource { record, expr: rule.expr, labels: rule.labels }))
            }
            (None, Some(alert)) => {
                let need = |field: Option<String>, key: &str| {
                    field.ok_or_else(|| D::Error::custom(format!("alert `{alert}` has no `{key}`")))
                };
                Ok(Self::Alert(Box::new(AlertSource {
                    severity: match need(rule.severity, "severity")?.as_str() {
                        known @ ("critical" | "warning" | "info" | "none") => known.to_owned(),
                        other => {
                            return Err(D::Error::custom(format!(
                                "severity `{other}` of `{alert}` is none of critical, warning, info, none"
                            )));
                        }
                    },
                    team: need(rule.team, "team")?,
                    service: need(rule.service, "service")?,
                    summary: need(rule.summary, "summary")?,
                    description: need(rule.description, "description")?,
                    dashboard: need(rule.dashboard, "dashboard")?,
                    expr: rule.expr,
                    pending: rule.pending,
                    keep_firing_for: rule.keep_firing_for,
                    labels: rule.labels,
                    variables: rule.variables,
                    alert,
                })))
            }
            _ => Err(D::Error::custom("a rule has either `record` or `alert`")),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyRule {
    record: Option<String>,
    alert: Option<String>,
    expr: String,
    #[serde(rename = "for")]
    pending: Option<BySpeed<SpanRef>>,
    keep_firing_for: Option<BySpeed<SpanRef>>,
    severity: Option<String>,
    team: Option<String>,
    service: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    summary: Option<String>,
    description: Option<String>,
    dashboard: Option<String>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
}

/// A recording rule.
#[derive(Debug)]
pub struct RecordSource {
    /// Name of the recorded series.
    pub record: String,
    /// Expression with `$names`.
    pub expr: String,
    /// Labels to add.
    pub labels: BTreeMap<String, String>,
}

/// An alert. The runbook is `NAME.md`.
#[derive(Debug)]
pub struct AlertSource {
    /// Name, unique in the project.
    pub alert: String,
    /// Expression with `$names`.
    pub expr: String,
    /// How long the condition must hold.
    pub pending: Option<BySpeed<SpanRef>>,
    /// How long it goes on firing after the condition has gone.
    pub keep_firing_for: Option<BySpeed<SpanRef>>,
    /// `critical`, `warning`, `info` or `none`.
    pub severity: String,
    /// A team, `@series` (the series has the label) or `@owner` (by the service's SLO file).
    pub team: String,
    /// A service, or `@series`.
    pub service: String,
    /// Further labels.
    pub labels: BTreeMap<String, String>,
    /// One line.
    pub summary: String,
    /// What it means and what to look at first.
    pub description: String,
    /// Uid of the dashboard to open.
    pub dashboard: String,
    /// Dashboard variables to set in the link.
    pub variables: BTreeMap<String, String>,
}

/// `slo/SERVICE.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SloFile {
    /// Version of the form.
    pub version: Version1,
    /// The service that promises.
    pub service: String,
    /// Who answers for it.
    pub team: String,
    /// The promises; may be empty where a service only has an owner.
    pub slos: Vec<SloSource>,
}

/// One objective.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SloSource {
    /// Unique in its service.
    pub name: String,
    /// What the user is promised, in words.
    pub description: String,
    /// Percent of events that must be good, below 100.
    pub objective: f64,
    /// The indicator.
    pub sli: SliSource,
}

/// Bad and all events, each a rate over `$window`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliSource {
    /// Rate of bad events; may be empty while nothing bad ever happened.
    pub errors: String,
    /// Rate of all events.
    pub total: String,
}
