//! Alertmanager's way to people, in virtual time: groups with group_wait,
//! group_interval and repeat_interval, the notification log that says what was
//! sent already, inhibition. After `dispatch/dispatch.go` and `notify/notify.go`
//! of Alertmanager 0.28; the inhibition rules are read from alertmanager.yml.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde::Deserialize;

use crate::day::Second;

pub type Labels = BTreeMap<String, String>;

/// Which alerts a route takes, and its times.
pub struct Route {
    pub severity: &'static str,
    /// Alert names; none: all.
    pub names: Option<Regex>,
    pub wait: Second,
    pub interval: Second,
    pub repeat: Second,
    /// Messages for each notification: e-mail and Slack are two.
    pub receivers: u64,
}

#[derive(Default)]
struct Group {
    next_flush: Second,
    /// Alert → still firing.
    alerts: BTreeMap<Labels, bool>,
    /// What was sent: firing, resolved, when.
    sent: Option<(BTreeSet<Labels>, BTreeSet<Labels>, Second)>,
}

pub struct Alertmanager {
    routes: Vec<Route>,
    groups: BTreeMap<(usize, Vec<String>), Group>,
    pub notifications: u64,
}

impl Alertmanager {
    pub fn new(routes: Vec<Route>) -> Self {
        Self { routes, groups: BTreeMap::new(), notifications: 0 }
    }

    /// `firing`: everything that Prometheus says burns; the inhibited among them.
    pub fn tick(&mut self, now: Second, firing: &BTreeSet<Labels>, inhibited: &BTreeSet<Labels>) {
        for labels in firing {
            let text = |name: &str| labels.get(name).cloned().unwrap_or_default();
            let fits = |r: &Route| {
                r.severity == text("severity") && r.names.as_ref().is_none_or(|n| n.is_match(&text("alertname")))
            };
            let Some(route) = self.routes.iter().position(fits) else { continue };
            let key = ["alertname", "service", "team", "severity"].map(text).to_vec();
            let wait = self.routes[route].wait;
            let group =
                self.groups.entry((route, key)).or_insert_with(|| Group { next_flush: now + wait, ..Group::default() });
            group.alerts.insert(labels.clone(), true);
        }
        let mut over = Vec::new();
        for (key, group) in &mut self.groups {
            for (labels, burns) in &mut group.alerts {
                *burns = firing.contains(labels);
            }
            if now < group.next_flush {
                continue;
            }
            let route = &self.routes[key.0];
            group.next_flush = now + route.interval;
            let seen = |burns: bool| -> BTreeSet<Labels> {
                let fitting = group.alerts.iter().filter(|(l, b)| **b == burns && !inhibited.contains(*l));
                fitting.map(|(l, _)| l.clone()).collect()
            };
            let (burning, resolved) = (seen(true), seen(false));
            let due = match &group.sent {
                None => !burning.is_empty(),
                Some((told, _, _)) if !burning.is_subset(told) => true,
                Some((told, _, _)) if burning.is_empty() => !told.is_empty(),
                Some((_, told, _)) if !resolved.is_subset(told) => true,
                Some((_, _, last)) => now - last >= route.repeat,
            };
            if due {
                self.notifications += route.receivers;
                group.sent = Some((burning, resolved, now));
            }
            group.alerts.retain(|_, burns| *burns);
            if group.alerts.is_empty() {
                over.push(key.clone());
            }
        }
        for key in over {
            self.groups.remove(&key);
        }
    }
}

#[derive(Deserialize)]
struct Document {
    inhibit_rules: Vec<RuleDocument>,
}

#[derive(Deserialize)]
struct RuleDocument {
    source_matchers: Vec<String>,
    target_matchers: Vec<String>,
    #[serde(default)]
    equal: Vec<String>,
}

struct Matcher {
    label: String,
    value: Regex,
    negated: bool,
}

impl Matcher {
    fn parse(text: &str) -> Self {
        let at = text.find(['=', '!']).unwrap_or_else(|| panic!("not a matcher: {text}"));
        let (label, rest) = text.split_at(at);
        let (operator, value) = ["=~", "!~", "!=", "="].iter().find_map(|o| Some((*o, rest.strip_prefix(o)?))).unwrap();
        let value = value.trim_matches('"');
        let value = if operator.ends_with('~') { value.to_owned() } else { regex::escape(value) };
        let value = Regex::new(&format!("^(?:{value})$")).unwrap();
        Self { label: label.trim().to_owned(), value, negated: operator.starts_with('!') }
    }

    fn fits(&self, labels: &Labels) -> bool {
        self.value.is_match(labels.get(&self.label).map_or("", String::as_str)) != self.negated
    }
}

/// The `inhibit_rules` of alertmanager.yml.
pub struct Inhibitions(Vec<(Vec<Matcher>, Vec<Matcher>, Vec<String>)>);

impl Inhibitions {
    pub fn parse(text: &str) -> Self {
        let document: Document = serde_saphyr::from_str(text).unwrap();
        let all = |texts: &[String]| texts.iter().map(|t| Matcher::parse(t)).collect();
        Self(
            document
                .inhibit_rules
                .into_iter()
                .map(|r| (all(&r.source_matchers), all(&r.target_matchers), r.equal))
                .collect(),
        )
    }

    pub fn inhibited(&self, firing: &BTreeSet<Labels>) -> BTreeSet<Labels> {
        let fits = |matchers: &[Matcher], labels: &Labels| matchers.iter().all(|m| m.fits(labels));
        let held_back = |target: &&Labels| {
            self.0.iter().any(|(sources, targets, equal)| {
                fits(targets, target)
                    && firing.iter().any(|source| {
                        source != *target
                            && fits(sources, source)
                            && equal.iter().all(|label| source.get(label) == target.get(label))
                            // What matches both sides does not silence its like.
                            && !(fits(targets, source) && fits(sources, target))
                    })
            })
        };
        firing.iter().filter(held_back).cloned().collect()
    }
}
