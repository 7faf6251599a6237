//! The YAML that people write, and every check on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{
    Budget, Good, Heal, Hook, LONGEST_WINDOW, Level, Limits, Mode, Period, Plan, Policy, Receiver, Rule, Selector,
    Step, Storm, Verb, Verify, Window, is_service_name, maintenance::WindowDoc,
};
use crate::engine::RECOVERY;

/// The version of the document's format.
const VERSION: u64 = 1;

/// One fault in a policy document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PolicyError {
    /// Counted from 1; 0 where no place can be named.
    pub line: u64,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { write!(f, "{}", self.message) } else { write!(f, "line {}: {}", self.line, self.message) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyDoc {
    version: Spanned<u64>,
    mode: Mode,
    limits: Option<Spanned<LimitsDoc>>,
    storm: Option<Spanned<StormDoc>>,
    settle: Option<Spanned<Period>>,
    #[serde(default)]
    maintenance: Vec<Spanned<WindowDoc>>,
    #[serde(default)]
    deny: Vec<Spanned<String>>,
    escalation: Option<Spanned<Vec<LevelDoc>>>,
    #[serde(default)]
    defaults: DefaultsDoc,
    rules: Spanned<Vec<Spanned<RuleDoc>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsDoc {
    actions: u32,
    window: Period,
    concurrent: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelDoc {
    after: Period,
    to: Vec<Receiver>,
    severity: Option<OneOrMany>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StormDoc {
    share: f64,
    at_least: Option<usize>,
    within: Period,
    freeze: Period,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultsDoc {
    hold: Option<Period>,
    min_age: Option<Period>,
    budget: Option<Spanned<BudgetDoc>>,
    stable_for: Option<Period>,
    within: Option<Period>,
    every: Option<Period>,
    max_age: Option<Period>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleDoc {
    name: Spanned<String>,
    r#match: Spanned<BTreeMap<String, OneOrMany>>,
    mode: Option<Mode>,
    leave_to_people: Option<Spanned<String>>,
    ignore: Option<Spanned<String>>,
    explains_dependents: Option<bool>,
    target: Option<Spanned<TargetDoc>>,
    hold: Option<Period>,
    min_age: Option<Period>,
    steps: Option<Spanned<Vec<StepDoc>>>,
    budget: Option<Spanned<BudgetDoc>>,
    verify: Option<Spanned<VerifyDoc>>,
    escalation: Option<Spanned<Vec<LevelDoc>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetDoc {
    service: Option<String>,
    label: Option<String>,
    default: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepDoc {
    action: Verb,
    timeout: Option<Period>,
    stop_timeout: Option<Period>,
    max_replicas: Option<usize>,
    url: Option<String>,
    token_file: Option<String>,
    body: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetDoc {
    actions: u32,
    window: Period,
    cooldown: Period,
    cooldown_max: Option<Period>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifyDoc {
    sli: Spanned<String>,
    below: Option<f64>,
    above: Option<f64>,
    heartbeat: Option<Spanned<String>>,
    stable_for: Option<Period>,
    within: Option<Period>,
    every: Option<Period>,
    max_age: Option<Period>,
}

/// Collects faults, so that one run names them all.
#[derive(Default)]
struct Faults(Vec<PolicyError>);

impl Faults {
    fn add(&mut self, line: u64, message: impl Into<String>) {
        self.0.push(PolicyError { line, message: message.into() });
    }

    fn check(&mut self, ok: bool, line: u64, message: impl FnOnce() -> String) {
        if !ok {
            self.add(line, message());
        }
    }
}

fn line<T>(at: &Spanned<T>) -> u64 {
    at.referenced.line()
}

pub(super) fn parse(text: &str) -> Result<Policy, Vec<PolicyError>> {
    let doc: PolicyDoc = serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        vec![PolicyError {
            line: error.location().map_or(0, |l| l.line()),
            message: error.to_string().lines().next().unwrap_or("not a policy").to_owned(),
        }]
    })?;
    let mut faults = Faults::default();
    faults.check(doc.version.value == VERSION, line(&doc.version), || {
        format!("version {} is not known; this program reads version {VERSION}", doc.version.value)
    });
    for name in &doc.deny {
        faults.check(is_service_name(&name.value), line(name), || format!("'{}' is not a service name", name.value));
    }
    faults.check(!doc.rules.value.is_empty(), line(&doc.rules), || "a policy needs at least one rule".to_owned());
    let limits = limits(doc.limits.as_ref(), &mut faults);
    let settle = doc.settle.as_ref().map_or(Policy::empty().settle, |s| s.value);
    faults.check(settle.get() <= RECOVERY, doc.settle.as_ref().map_or(0, line), || {
        format!("settle {settle} must be at most {}", Period(RECOVERY))
    });
    let mut policy = Policy {
        mode: doc.mode,
        limits,
        storm: storm(doc.storm.as_ref(), &mut faults),
        settle,
        maintenance: maintenance(&doc.maintenance, &mut faults),
        deny: doc.deny.iter().map(|d| d.value.clone()).collect(),
        escalation: doc.escalation.as_ref().map_or_else(super::default_escalation, |e| escalation(e, &mut faults)),
        rules: Vec::new(),
        digest: super::digest(text),
    };
    let mut names = BTreeSet::new();
    for spanned in &doc.rules.value {
        let Some(rule) = rule(spanned, &doc.defaults, &policy, &mut faults) else { continue };
        faults.check(names.insert(rule.name.clone()), line(&spanned.value.name), || {
            format!("there is another rule named '{}'", rule.name)
        });
        // A rule behind one that takes all its alerts would never be asked.
        if let Some(earlier) = policy.rules.iter().find(|earlier| covers(earlier, &rule)) {
            faults.add(
                line(&spanned.value.r#match),
                format!("rule '{}' is never reached: '{}' takes all its alerts", rule.name, earlier.name),
            );
        }
        policy.rules.push(Arc::new(rule));
    }
    if faults.0.is_empty() {
        Ok(policy)
    } else {
        faults.0.sort_by_key(|f| f.line);
        Err(faults.0)
    }
}

fn covers(earlier: &Rule, later: &Rule) -> bool {
    earlier
        .matches
        .iter()
        .all(|(label, values)| later.matches.get(label).is_some_and(|v| v.iter().all(|v| values.contains(v))))
}

fn limits(doc: Option<&Spanned<LimitsDoc>>, faults: &mut Faults) -> Limits {
    let Some(doc) = doc else { return Policy::empty().limits };
    let at = line(doc);
    faults.check(doc.value.actions > 0, at, || "limits.actions must be at least 1".to_owned());
    faults.check(doc.value.concurrent > 0, at, || "limits.concurrent must be at least 1".to_owned());
    check_window(doc.value.window, at, faults);
    Limits { actions: doc.value.actions, window: doc.value.window, concurrent: doc.value.concurrent }
}

fn storm(doc: Option<&Spanned<StormDoc>>, faults: &mut Faults) -> Storm {
    let usual = Policy::empty().storm;
    let Some(doc) = doc else { return usual };
    let (at, doc) = (line(doc), &doc.value);
    faults.check(doc.share > 0.0 && doc.share <= 1.0, at, || "storm.share must be above 0 and at most 1".to_owned());
    let at_least = doc.at_least.unwrap_or(usual.at_least);
    faults.check(at_least >= 2, at, || "storm.at_least must be at least 2: one service is no storm".to_owned());
    faults.check(!doc.within.get().is_zero() && !doc.freeze.get().is_zero(), at, || {
        "storm.within and storm.freeze must be more than 0".to_owned()
    });
    Storm { share: doc.share, at_least, within: doc.within, freeze: doc.freeze }
}

fn maintenance(docs: &[Spanned<WindowDoc>], faults: &mut Faults) -> Vec<Window> {
    let mut windows = Vec::new();
    for doc in docs {
        match doc.value.read() {
            Ok(window) => windows.push(window),
            Err(why) => faults.add(line(doc), why),
        }
    }
    windows
}

fn check_window(window: Period, at: u64, faults: &mut Faults) {
    faults.check(!window.get().is_zero() && window.get() <= LONGEST_WINDOW, at, || {
        format!("window {window} must be more than 0 and at most {}", Period(LONGEST_WINDOW))
    });
}

fn rule(at: &Spanned<RuleDoc>, defaults: &DefaultsDoc, policy: &Policy, faults: &mut Faults) -> Option<Rule> {
    let doc = &at.value;
    let name = &doc.name.value;
    faults.check(is_service_name(name), line(&doc.name), || {
        format!("'{name}' is not a rule name: letters, digits, '-', '_' and '.'")
    });
    let matches = matches(&doc.r#match, faults);
    let healing = doc.target.is_some() || doc.steps.is_some() || doc.verify.is_some();
    let plan = match (&doc.leave_to_people, &doc.ignore, healing) {
        (Some(because), None, false) => because_plan(because, "leave_to_people", Plan::LeaveToPeople, faults)?,
        (None, Some(because), false) => because_plan(because, "ignore", Plan::Ignore, faults)?,
        (None, None, true) => Plan::Heal(Box::new(heal(at, defaults, policy, faults)?)),
        _ => {
            faults.add(
                line(at),
                format!(
                    "rule '{name}' needs exactly one of: target with steps and verify; \
                     leave_to_people; ignore"
                ),
            );
            return None;
        }
    };
    let escalation = doc.escalation.as_ref().map(|e| escalation(e, faults));
    // What is worth healing is worth waiting for.
    let explains_dependents = doc.explains_dependents.unwrap_or(matches!(plan, Plan::Heal(_)));
    let mode = doc.mode.unwrap_or(Mode::Auto);
    Some(Rule { name: name.clone(), matches, mode, explains_dependents, plan, escalation })
}

fn escalation(doc: &Spanned<Vec<LevelDoc>>, faults: &mut Faults) -> Vec<Level> {
    let at = line(doc);
    let levels = &doc.value;
    // Whoever is told later would be told of something that nobody knows of yet.
    let first = levels.first().is_some_and(|level| level.after.get().is_zero() && level.severity.is_none());
    faults.check(first, at, || "escalation needs a first level with after: 0s and of any severity".to_owned());
    faults.check(levels.windows(2).all(|pair| pair[0].after < pair[1].after), at, || {
        "each level of escalation must come after the one before it".to_owned()
    });
    faults.check(levels.iter().all(|level| !level.to.is_empty()), at, || {
        "each level of escalation needs somebody in to".to_owned()
    });
    faults.check(levels.iter().all(|level| level.after.get() <= LONGEST_WINDOW), at, || {
        format!("a level of escalation must come within {}", Period(LONGEST_WINDOW))
    });
    let severities = |level: &LevelDoc| match &level.severity {
        None => Vec::new(),
        Some(OneOrMany::One(severity)) => vec![severity.clone()],
        Some(OneOrMany::Many(severities)) => severities.clone(),
    };
    levels.iter().map(|level| Level { after: level.after, to: level.to.clone(), severity: severities(level) }).collect()
}

fn because_plan(
    because: &Spanned<String>,
    key: &str,
    plan: impl FnOnce(String) -> Plan,
    faults: &mut Faults,
) -> Option<Plan> {
    let text = because.value.trim();
    if text.is_empty() {
        faults.add(line(because), format!("{key} needs the reason as its text"));
        return None;
    }
    Some(plan(text.to_owned()))
}

fn matches(doc: &Spanned<BTreeMap<String, OneOrMany>>, faults: &mut Faults) -> BTreeMap<String, Vec<String>> {
    faults.check(doc.value.contains_key("alertname"), line(doc), || "match must name an alertname".to_owned());
    doc.value
        .iter()
        .map(|(label, values)| {
            let values = match values {
                OneOrMany::One(value) => vec![value.clone()],
                OneOrMany::Many(values) => values.clone(),
            };
            faults.check(!values.is_empty() && values.iter().all(|v| !v.is_empty()), line(doc), || {
                format!("match.{label} needs at least one value, and no empty one")
            });
            (label.clone(), values)
        })
        .collect()
}

fn heal(at: &Spanned<RuleDoc>, defaults: &DefaultsDoc, policy: &Policy, faults: &mut Faults) -> Option<Heal> {
    let doc = &at.value;
    let name = &doc.name.value;
    let (Some(target), Some(steps), Some(verify)) = (&doc.target, &doc.steps, &doc.verify) else {
        faults.add(line(at), format!("rule '{name}' needs target, steps and verify: no repair without proof"));
        return None;
    };
    faults.check(!steps.value.is_empty(), line(steps), || "steps must not be empty".to_owned());
    for step in &steps.value {
        let sensible = step.max_replicas.is_none_or(|n| step.action == Verb::ScaleOut && (1..=5).contains(&n));
        faults.check(sensible, line(steps), || "max_replicas is 1 to 5, and for scale_out only".to_owned());
    }
    let hooks: Vec<_> = steps.value.iter().map(|step| hook(step, line(steps), faults)).collect();
    let target = selector(target, policy, faults);
    let verify = self::verify(verify, defaults, faults);
    let budget = budget(doc.budget.as_ref().or(defaults.budget.as_ref()), faults);
    Some(Heal {
        target: target?,
        hold: doc.hold.or(defaults.hold).unwrap_or(Period::from_secs(0)),
        min_age: doc.min_age.or(defaults.min_age).unwrap_or(Period::from_secs(30)),
        steps: steps
            .value
            .iter()
            .zip(hooks)
            .map(|(step, webhook)| Step {
                action: step.action,
                timeout: step.timeout.unwrap_or(Period::from_secs(30)),
                stop_timeout: step.stop_timeout.unwrap_or(Period::from_secs(10)),
                max_replicas: step.max_replicas.unwrap_or(1),
                webhook,
            })
            .collect(),
        budget,
        verify: verify?,
    })
}

fn hook(step: &StepDoc, at: u64, faults: &mut Faults) -> Option<Hook> {
    match (step.action, &step.url) {
        (Verb::Webhook, Some(url)) => match Hook::read(url, step.token_file.as_deref(), step.body.as_ref()) {
            Ok(hook) => return Some(hook),
            Err(wrong) => wrong.into_iter().for_each(|why| faults.add(at, format!("webhook: {why}"))),
        },
        (Verb::Webhook, None) => faults.add(at, "webhook needs a url"),
        _ => faults.check(step.url.is_none() && step.token_file.is_none() && step.body.is_none(), at, || {
            "url, token_file and body are for webhook only".to_owned()
        }),
    }
    None
}

fn selector(doc: &Spanned<TargetDoc>, policy: &Policy, faults: &mut Faults) -> Option<Selector> {
    let at = line(doc);
    let TargetDoc { service, label, default } = &doc.value;
    for name in [service, default].into_iter().flatten() {
        faults.check(is_service_name(name), at, || format!("'{name}' is not a service name"));
        faults.check(!policy.denies(name), at, || format!("'{name}' is denied: it is never touched"));
    }
    match (service, label, default) {
        (Some(service), None, None) => Some(Selector::Service(service.clone())),
        (None, Some(label), default) if !label.is_empty() => {
            Some(Selector::Label { label: label.clone(), default: default.clone() })
        }
        _ => {
            faults.add(at, "target needs either service, or label and perhaps default");
            None
        }
    }
}

fn budget(doc: Option<&Spanned<BudgetDoc>>, faults: &mut Faults) -> Budget {
    let Some(doc) = doc else {
        return Budget {
            actions: 3,
            window: Period::from_secs(30 * 60),
            cooldown: Period::from_secs(60),
            cooldown_max: Period::from_secs(10 * 60),
        };
    };
    let at = line(doc);
    let doc = &doc.value;
    faults.check(doc.actions > 0, at, || "budget.actions must be at least 1".to_owned());
    check_window(doc.window, at, faults);
    let cooldown_max = doc.cooldown_max.unwrap_or(Period::from_secs(10 * 60).max(doc.cooldown));
    faults.check(cooldown_max >= doc.cooldown, at, || "budget.cooldown_max is less than cooldown".to_owned());
    Budget { actions: doc.actions, window: doc.window, cooldown: doc.cooldown, cooldown_max }
}

fn verify(doc: &Spanned<VerifyDoc>, defaults: &DefaultsDoc, faults: &mut Faults) -> Option<Verify> {
    let at = line(doc);
    let verify = &doc.value;
    let good = match (verify.below, verify.above) {
        (Some(limit), None) => Good::Below(limit),
        (None, Some(limit)) => Good::Above(limit),
        _ => {
            faults.add(at, "verify needs exactly one of below and above");
            return None;
        }
    };
    for query in std::iter::once(&verify.sli).chain(&verify.heartbeat) {
        faults.check(!query.value.trim().is_empty(), line(query), || "a query must not be empty".to_owned());
        for placeholder in placeholders(&query.value) {
            faults.check(matches!(placeholder, "service" | "container"), line(query), || {
                format!("{{{{{placeholder}}}}} is not known; there are {{{{service}}}} and {{{{container}}}}")
            });
        }
    }
    // `timestamp()` of an expression is the time of evaluation: it would call stale data fresh.
    faults.check(verify.heartbeat.is_some() || is_plain_selector(&verify.sli.value), line(&verify.sli), || {
        "an SLI that is an expression needs a heartbeat: its own samples cannot say how old they are".to_owned()
    });
    if let Some(heartbeat) = &verify.heartbeat {
        faults.check(is_plain_selector(&heartbeat.value), line(heartbeat), || {
            "a heartbeat must be a metric's name, perhaps with matchers".to_owned()
        });
    }
    let stable_for = verify.stable_for.or(defaults.stable_for).unwrap_or(Period::from_secs(20));
    let within = verify.within.or(defaults.within).unwrap_or(Period::from_secs(150));
    let every = verify.every.or(defaults.every).unwrap_or(Period::from_secs(2));
    faults.check(stable_for < within, at, || format!("stable_for {stable_for} must be less than within {within}"));
    faults.check(!every.get().is_zero() && every < within, at, || {
        format!("every {every} must be more than 0 and less than within {within}")
    });
    Some(Verify {
        sli: verify.sli.value.trim().to_owned(),
        good,
        heartbeat: verify.heartbeat.as_ref().map(|h| h.value.trim().to_owned()),
        stable_for,
        within,
        every,
        max_age: verify.max_age.or(defaults.max_age).unwrap_or(Period::from_secs(30)),
    })
}

fn placeholders(query: &str) -> impl Iterator<Item = &str> {
    query.split("{{").skip(1).filter_map(|rest| rest.split_once("}}").map(|(name, _)| name.trim()))
}

/// A metric's name, perhaps with matchers: the only form whose `timestamp()` is
/// that of the stored sample.
fn is_plain_selector(query: &str) -> bool {
    let query = query.trim();
    let (name, matchers) = query.find('{').map_or((query, ""), |i| query.split_at(i));
    let name_ok = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'));
    name_ok && (matchers.is_empty() || (matchers.ends_with('}') && !matchers.contains(['(', '['])))
}
