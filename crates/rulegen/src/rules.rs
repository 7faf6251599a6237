//! From rule sources to the rule files of one speed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use crate::document::{AlertSource, GroupSource, RecordSource, RuleFile, RuleSource};
use crate::names::{Context, Names, SpanRef};
use crate::span::Span;
use crate::speed::{BySpeed, Speed};
use crate::{Error, Project, SPEEDS, Source, slo};

/// Value of `service` or `team` in a source: the series that fires carries the label itself.
pub const FROM_SERIES: &str = "@series";
/// Value of `team` in a source: whoever owns the service according to `slo/`.
const FROM_OWNER: &str = "@owner";
/// Team of a service that has no file in `slo/`.
const DEFAULT_TEAM: &str = "platform";

#[derive(Clone, Debug, Serialize)]
pub(crate) struct GroupOut {
    pub name: String,
    pub interval: String,
    pub rules: Vec<RuleOut>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct RuleOut {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    pub expr: String,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_firing_for: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// One generated rule file.
#[derive(Debug)]
struct FileOut {
    path: String,
    sources: Vec<String>,
    groups: Vec<GroupOut>,
}

/// An alert as the tests need it: what is static, what comes from the series.
#[derive(Clone, Debug)]
pub(crate) struct CompiledAlert {
    pub pending: Option<Span>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub team_by_owner: bool,
}

/// All rules of one speed.
#[derive(Debug)]
pub(crate) struct Compiled {
    files: Vec<FileOut>,
    pub alerts: BTreeMap<String, CompiledAlert>,
    pub names: Names,
    owners: BTreeMap<String, String>,
}

impl Compiled {
    pub fn new(project: &Project, speed: Speed) -> Result<Self, Error> {
        let mut compiled = Self {
            files: Vec::new(),
            alerts: BTreeMap::new(),
            names: names(project, speed)?,
            owners: owners(project)?,
        };
        for (source, document) in &project.prometheus {
            let path = format!("prometheus/rules/{}/{}.yaml", speed.name(), source.stem());
            compiled.add_file(project, speed, source, document, path)?;
        }
        for (source, document) in &project.loki {
            let path = format!("loki/rules/{}/{}.yaml", speed.name(), source.stem());
            compiled.add_file(project, speed, source, document, path)?;
        }
        compiled.files.push(FileOut {
            path: format!("prometheus/rules/{}/slo.yaml", speed.name()),
            sources: project.slos.iter().map(|(source, _)| source.path.clone()).collect(),
            groups: slo::groups(project, &compiled.names, speed)?,
        });
        Ok(compiled)
    }

    /// Generated files: path and text.
    pub fn files(&self) -> impl Iterator<Item = (String, String)> {
        self.files.iter().map(|file| {
            let text = document(&file.sources, &BTreeMap::from([("groups", &file.groups)]));
            (file.path.clone(), text)
        })
    }

    /// The team of a service.
    pub fn owner(&self, service: &str) -> &str {
        self.owners.get(service).map_or(DEFAULT_TEAM, String::as_str)
    }

    fn add_file(
        &mut self,
        project: &Project,
        speed: Speed,
        source: &Source,
        document: &RuleFile,
        path: String,
    ) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        let mut groups = Vec::new();
        for group in &document.groups {
            if !seen.insert(&group.name) {
                let message = format!("there are two groups called `{}`", group.name);
                return Err(Error::within(source, &format!("name: {}", group.name), "", message));
            }
            groups.push(self.group(project, speed, source, group)?);
        }
        self.files.push(FileOut { path, sources: vec![source.path.clone()], groups });
        Ok(())
    }

    fn group(
        &mut self,
        project: &Project,
        speed: Speed,
        source: &Source,
        group: &GroupSource,
    ) -> Result<GroupOut, Error> {
        let anchor = format!("name: {}", group.name);
        let interval = self.span(source, &anchor, "interval", &group.interval, speed)?;
        let mut rules = Vec::new();
        for rule in &group.rules {
            rules.push(match rule {
                RuleSource::Record(record) => self.record(source, record)?,
                RuleSource::Alert(alert) => self.alert(project, speed, source, alert)?,
            });
        }
        Ok(GroupOut { name: group.name.clone(), interval: interval.to_string(), rules })
    }

    fn record(&self, source: &Source, rule: &RecordSource) -> Result<RuleOut, Error> {
        let anchor = format!("record: {}", rule.record);
        Ok(RuleOut {
            record: Some(rule.record.clone()),
            expr: self.expand(source, &anchor, &rule.expr, Context::Expression)?,
            labels: rule.labels.clone(),
            ..RuleOut::default()
        })
    }

    fn alert(
        &mut self,
        project: &Project,
        speed: Speed,
        source: &Source,
        rule: &AlertSource,
    ) -> Result<RuleOut, Error> {
        let anchor = format!("alert: {}", rule.alert);
        let span = |field: &Option<BySpeed<SpanRef>>, key: &str| {
            field.as_ref().map(|reference| self.span(source, &anchor, key, reference, speed)).transpose()
        };
        let pending = span(&rule.pending, "for:")?;
        let keep_firing_for = span(&rule.keep_firing_for, "keep_firing_for:")?;

        let links = &project.speeds.1.links;
        let mut dashboard_url = format!("{}/{}", links.dashboards, rule.dashboard);
        for (index, (name, value)) in rule.variables.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            // Writing to a String cannot fail.
            let _ = write!(dashboard_url, "{separator}var-{name}={value}");
        }
        let mut annotations = BTreeMap::new();
        for (key, text) in [
            ("summary", rule.summary.as_str()),
            ("description", rule.description.as_str()),
            ("runbook_url", &format!("{}/{}.md", links.runbooks, rule.alert)),
            ("dashboard_url", &dashboard_url),
        ] {
            check_template(text).map_err(|(needle, message)| Error::within(source, &anchor, &needle, message))?;
            let text = self.expand(source, &anchor, text.trim(), Context::Template)?;
            annotations.insert(key.to_owned(), text);
        }

        let mut labels = rule.labels.clone();
        labels.insert("severity".to_owned(), rule.severity.clone());
        if rule.service != FROM_SERIES {
            labels.insert("service".to_owned(), rule.service.clone());
        }
        let team_by_owner = rule.team == FROM_OWNER;
        if team_by_owner {
            let team =
                if rule.service == FROM_SERIES { self.owner_template() } else { self.owner(&rule.service).to_owned() };
            labels.insert("team".to_owned(), team);
        } else if rule.team != FROM_SERIES {
            labels.insert("team".to_owned(), rule.team.clone());
        }

        let compiled =
            CompiledAlert { pending, labels: labels.clone(), annotations: annotations.clone(), team_by_owner };
        if self.alerts.insert(rule.alert.clone(), compiled).is_some() {
            let message = format!("there are two alerts called `{}`", rule.alert);
            return Err(Error::within(source, &anchor, "", message));
        }
        Ok(RuleOut {
            alert: Some(rule.alert.clone()),
            expr: self.expand(source, &anchor, &rule.expr, Context::Expression)?,
            pending: pending.map(|span| span.to_string()),
            keep_firing_for: keep_firing_for.map(|span| span.to_string()),
            labels,
            annotations,
            record: None,
        })
    }

    /// A label template that names the owner of whatever service the series has.
    fn owner_template(&self) -> String {
        let mut by_team: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (service, team) in &self.owners {
            if team != DEFAULT_TEAM {
                by_team.entry(team).or_default().push(service);
            }
        }
        let mut template = String::new();
        for (index, (team, services)) in by_team.iter().enumerate() {
            let word = if index == 0 { "if" } else { "else if" };
            let list = services.iter().map(|service| format!("{service:?}")).collect::<Vec<_>>();
            let _ = write!(template, "{{{{ {word} eq $labels.service {} }}}}{team}", list.join(" "));
        }
        if by_team.is_empty() {
            return DEFAULT_TEAM.to_owned();
        }
        let _ = write!(template, "{{{{ else }}}}{DEFAULT_TEAM}{{{{ end }}}}");
        template
    }

    fn span(
        &self,
        source: &Source,
        anchor: &str,
        key: &str,
        reference: &BySpeed<SpanRef>,
        speed: Speed,
    ) -> Result<Span, Error> {
        self.names.span(reference.at(speed)).map_err(|message| Error::within(source, anchor, key, message))
    }

    fn expand(&self, source: &Source, anchor: &str, text: &str, context: Context) -> Result<String, Error> {
        self.names
            .expand(text.trim(), context)
            .map_err(|(needle, message)| Error::within(source, anchor, &needle, message))
    }
}

/// Writes a generated document with the header that says so.
pub(crate) fn document<T: Serialize>(sources: &[String], content: &T) -> String {
    let sources = match sources {
        [one] => one.clone(),
        many => many.join(",\n#   "),
    };
    let body = serde_yaml_ng::to_string(content).unwrap_or_default();
    format!(
        "# Generated by `cargo run -p rulegen` from {sources}\n# with the names of {SPEEDS}. Do not edit: edit the source.\n{body}"
    )
}

fn names(project: &Project, speed: Speed) -> Result<Names, Error> {
    let (source, document) = &project.speeds;
    let mut names = Names::default();
    for (name, value) in &document.durations {
        names.set(name, value.at(speed));
    }
    for (name, value) in &document.numbers {
        if document.durations.contains_key(name) {
            let message = format!("`{name}` is a duration and a number");
            return Err(Error::within(source, "numbers:", &format!("{name}:"), message));
        }
        names.set(name, value.at(speed));
    }
    Ok(names)
}

fn owners(project: &Project) -> Result<BTreeMap<String, String>, Error> {
    let mut owners = BTreeMap::new();
    for (source, file) in &project.slos {
        if owners.insert(file.service.clone(), file.team.clone()).is_some() {
            let message = format!("service `{}` has two files", file.service);
            return Err(Error::within(source, &format!("service: {}", file.service), "", message));
        }
    }
    Ok(owners)
}

/// Annotations may use `{{ $labels.NAME }}` and `{{ $value … }}`: nothing that could fail at the
/// moment when somebody needs to read it.
fn check_template(text: &str) -> Result<(), (String, String)> {
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let after = &rest[start + 2..];
        let Some(end) = after.find("}}") else {
            return Err(("{{".to_owned(), "`{{` is never closed".to_owned()));
        };
        let action = after[..end].trim();
        let allowed = action.starts_with("$labels.")
            || action.starts_with("$value")
            || (action.starts_with("printf ") && action.ends_with(" $value"));
        if !allowed {
            let message = format!(
                "`{{{{ {action} }}}}`: only $labels.NAME, $value with a function, and printf of $value are allowed"
            );
            return Err((action.to_owned(), message));
        }
        rest = &after[end + 2..];
    }
    Ok(())
}
