//! Whether what was seen is what a scenario expects. Pure: times come in as durations since the first
//! break step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::containers::{Lives, changes};
use super::schema::{ActionExpected, ActionWanted, Expect, IncidentExpected, Scenario, only_looks};
use super::step::Step;
use crate::incident::Incident;
use crate::layout::duration;
use crate::load;

/// What was seen while a scenario ran.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The expected alert fired.
    pub alert_at: Option<Duration>,
    /// Actions that were done for new incidents, in the order in which they were seen.
    pub actions: Vec<Acted>,
    /// The last verdict on each service on which something was done.
    pub verdicts: BTreeMap<String, Verdict>,
    /// All break steps were carried out.
    pub broken_at: Option<Duration>,
    /// The SLI became good (and stayed so) after it had reason to be bad.
    pub sli_good_at: Option<Duration>,
    /// It was bad at this time.
    pub sli_bad_at: Option<Duration>,
    /// Its last value.
    pub sli: Option<f64>,
    /// Incidents that were opened meanwhile.
    pub incidents: Vec<Incident>,
    /// When each was seen first, by id.
    pub opened: BTreeMap<String, Duration>,
    /// The bot froze itself, and why.
    pub frozen: Option<String>,
}

/// An action that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acted {
    /// When it was seen.
    pub at: Duration,
    /// `restart`, `start` …
    pub verb: String,
    /// Compose service.
    pub service: String,
}

/// What was found out about a repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// When it was seen.
    pub at: Duration,
    /// `healed`, `not_healed`, `unverified`.
    pub text: String,
}

/// What was found at the end.
#[derive(Clone, Debug, Default)]
pub struct Aftermath {
    /// Services that are not healthy.
    pub unhealthy: BTreeSet<String>,
    /// Restarts by Docker's own policy, by service.
    pub restarts: BTreeMap<String, u64>,
    /// Containers before, as the scenario itself left them.
    pub before: Lives,
    /// Containers when everything was over, before the clean-up.
    pub after: Lives,
    /// Starts that Docker reported and the scenario did not order, by service; absent if it could not be asked.
    pub starts: Option<BTreeMap<String, u32>>,
    /// Messages of the bot to people; absent if they could not be counted.
    pub pages: Option<usize>,
    /// What the background load saw.
    pub load: Option<load::Report>,
    /// Transactions that were acknowledged, and those of them that cannot be found.
    pub transactions: Option<(usize, Vec<String>)>,
}

/// One expectation with its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was expected.
    pub what: String,
    /// Whether it was so.
    pub passed: bool,
    /// What was seen.
    pub detail: String,
}

/// The result of one scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Name of the file.
    pub name: String,
    /// Title.
    pub title: String,
    /// First break step to alert.
    pub detected_seconds: Option<f64>,
    /// First break step to action.
    pub acted_seconds: Option<f64>,
    /// First break step to verdict.
    pub verified_seconds: Option<f64>,
    /// The verdict.
    pub verdict: Option<String>,
    /// Why nothing was done, where that was expected.
    pub reasons: Vec<String>,
    /// The background load.
    pub load: Option<load::Report>,
    /// Each expectation.
    pub checks: Vec<Check>,
}

impl Report {
    /// All expectations were met.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}

impl Seen {
    /// How often this was done.
    fn count(&self, wanted: &ActionWanted) -> usize {
        self.actions.iter().filter(|acted| acted.verb == wanted.verb && acted.service == wanted.target).count()
    }

    /// When this was done first.
    fn first(&self, wanted: &ActionWanted) -> Option<Duration> {
        let done = self.actions.iter().filter(|acted| acted.verb == wanted.verb && acted.service == wanted.target);
        done.map(|acted| acted.at).min()
    }

    fn pending(&self) -> bool {
        self.incidents.iter().any(Incident::is_pending)
    }
}

impl IncidentExpected {
    fn concerns(&self, incident: &Incident) -> bool {
        incident.alertname == self.alert && self.service.as_deref().is_none_or(|service| service == incident.service())
    }

    /// What is wrong with an incident that it concerns.
    fn fault(&self, incident: &Incident, seen: &Seen) -> Option<String> {
        let reasons = incident.reasons();
        if !self.reason.is_empty() && !reasons.iter().any(|reason| self.reason.has(reason)) {
            return Some(if reasons.is_empty() { "no reason was given".into() } else { reasons.join(", ") });
        }
        if !self.outcome.is_empty() && !incident.outcome.as_deref().is_some_and(|outcome| self.outcome.has(outcome)) {
            return Some(incident.outcome.clone().unwrap_or_else(|| format!("it is {}", incident.state)));
        }
        let findings = incident.findings();
        let there = |kind: &String| findings.iter().any(|finding| finding.split(' ').next() == Some(kind));
        if let Some(missing) = self.findings.0.iter().find(|kind| !there(kind)) {
            return Some(format!("{missing} is not among {} findings", findings.len()));
        }
        let opened = seen.opened.get(&incident.id).copied().unwrap_or_default();
        if self.within.is_some_and(|limit| opened > limit.0) {
            return Some(format!("opened after {}", duration(opened)));
        }
        let since = opened.saturating_sub(seen.broken_at.unwrap_or_default());
        if self.after_break.is_some_and(|limit| since > limit.0) {
            return Some(format!("opened {} after the last break step", duration(since)));
        }
        None
    }

    /// Whether it is so, and what was seen.
    fn judge(&self, seen: &Seen) -> (bool, String) {
        let concerned: Vec<&Incident> = seen.incidents.iter().filter(|incident| self.concerns(incident)).collect();
        let faults: Vec<String> = concerned.iter().filter_map(|incident| self.fault(incident, seen)).collect();
        if let Some(fault) = faults.first() {
            return (false, fault.clone());
        }
        if concerned.is_empty() {
            return (!self.required, "there is no such incident".into());
        }
        let mut told: Vec<String> = Vec::new();
        let mut tell = |text: String| {
            if !told.contains(&text) {
                told.push(text);
            }
        };
        for incident in concerned {
            if !self.reason.is_empty() {
                incident.reasons().into_iter().filter(|reason| self.reason.has(reason)).for_each(|r| tell(r.into()));
            }
            if !self.findings.is_empty() {
                incident.findings().into_iter().for_each(&mut tell);
            }
            tell(incident.outcome.clone().unwrap_or_else(|| incident.state.clone()));
            if let Some(opened) = seen.opened.get(&incident.id).filter(|_| self.within.or(self.after_break).is_some()) {
                tell(format!("opened after {}", duration(*opened)));
            }
        }
        (true, told.join(", "))
    }

    fn what(&self) -> String {
        let mut parts = Vec::new();
        if !self.reason.is_empty() {
            parts.push(format!("is held with {}", self.reason));
        }
        if !self.outcome.is_empty() {
            parts.push(format!("ends {}", self.outcome));
        }
        if !self.findings.is_empty() {
            parts.push(format!("tells of {}", self.findings.0.join(" and ")));
        }
        if let Some(limit) = self.within {
            parts.push(format!("is opened within {}", duration(limit.0)));
        }
        if let Some(limit) = self.after_break {
            parts.push(format!("is opened within {} after the last break step", duration(limit.0)));
        }
        if parts.is_empty() {
            parts.push("is opened".into());
        }
        let of = self.service.as_ref().map(|service| format!(" of {service}")).unwrap_or_default();
        let perhaps = if self.required { "" } else { " (if there is one)" };
        format!("{}{of}{perhaps} {}", self.alert, parts.join(", "))
    }
}

/// True when waiting longer cannot change the result.
pub fn settled(expect: &Expect, seen: &Seen, now: Duration) -> bool {
    let alert = expect.alert.is_none() || seen.alert_at.is_some();
    let action = match &expect.action {
        ActionExpected::None => true,
        ActionExpected::Any => !seen.pending(),
        ActionExpected::Do(wanted) => {
            let done = wanted.iter().all(|wanted| {
                let proven = wanted.verdict.is_none() || seen.verdicts.contains_key(&wanted.target);
                proven && seen.count(wanted) >= usize::try_from(wanted.times.least).unwrap_or(usize::MAX)
            });
            done && !seen.pending()
        }
    };
    let incidents = expect.incidents.iter().all(|wanted| wanted.judge(seen).0);
    let frozen = expect.freeze.is_none() || seen.frozen.is_some();
    let watched = expect.watch.map_or(Duration::ZERO, |watch| watch.0);
    let long_enough = seen.broken_at.is_some_and(|broken| now >= broken + watched);
    alert && action && incidents && frozen && long_enough && seen.sli_good_at.is_some()
}

/// Compares.
pub fn judge(scenario: &Scenario, seen: &Seen, after: &Aftermath) -> Report {
    let expect = &scenario.expect;
    let mut checks = Vec::new();
    let mut check = |what: String, passed: bool, detail: String| checks.push(Check { what, passed, detail });

    if let Some(alert) = &expect.alert {
        let what = format!("{} of {} fires within {}", alert.name, alert.service, duration(alert.within.0));
        check(what, in_time(seen.alert_at, alert.within.0), at(seen.alert_at));
    }
    actions(expect, seen, &mut check);
    for wanted in &expect.incidents {
        let (passed, detail) = wanted.judge(seen);
        check(wanted.what(), passed, detail);
    }
    if let Some(only) = &expect.only {
        let allowed = |name: &str| {
            only.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == pattern,
            })
        };
        let others = listed(
            seen.incidents
                .iter()
                .filter(|i| !allowed(&i.alertname))
                .map(|i| format!("{} of {}", i.alertname, i.service())),
        );
        let what = if only.is_empty() {
            "no incident is opened".to_owned()
        } else {
            format!("no incident but of {} is opened", only.join(", "))
        };
        check(what, others.is_none(), others.unwrap_or_else(|| format!("{} opened", seen.incidents.len())));
    }
    if let Some(kind) = &expect.freeze {
        let found = seen.frozen.clone();
        check(
            format!("the bot freezes itself: {kind}"),
            found.as_ref() == Some(kind),
            found.unwrap_or_else(|| "it does not".into()),
        );
    }
    if let Some(wanted) = expect.pages {
        let detail = after.pages.map_or_else(|| "they could not be counted".into(), |pages| format!("{pages} sent"));
        check(format!("messages to people: {wanted}"), after.pages.is_some_and(|pages| wanted.holds(pages)), detail);
    }
    let sli = seen.sli.map_or_else(|| "no data".into(), |value| format!("now {value:.3}"));
    check(
        format!("the SLI is good within {}", duration(expect.sli.within.0)),
        in_time(seen.sli_good_at, expect.sli.within.0),
        format!("{}, {sli}", at(seen.sli_good_at)),
    );
    if expect.sli.always {
        check("the SLI is never bad".into(), seen.sli_bad_at.is_none(), at(seen.sli_bad_at));
    }
    // What the policy leaves to people stays open until its alert ends, which may take hours (error budgets).
    let open = listed(seen.incidents.iter().filter(|i| i.is_pending()).map(|i| i.alertname.clone()));
    let opened = format!(
        "{} opened{}",
        seen.incidents.len(),
        open.as_ref().map_or(String::new(), |open| format!(", open: {open}"))
    );
    check("no incident is still being dealt with".into(), open.is_none(), opened);
    untouched(scenario, seen, after, &mut check);

    if let (Some(load), Some(report)) = (&scenario.load, &after.load) {
        let strange = listed(
            report
                .statuses
                .iter()
                .filter(|(status, _)| !load.allow.iter().any(|allowed| allowed.matches(status)))
                .map(|(status, count)| format!("{status} × {count}")),
        );
        let all = listed(report.statuses.iter().map(|(status, count)| format!("{status} × {count}")));
        let what = "the load saw allowed answers only".to_owned();
        check(what, strange.is_none(), strange.or(all).unwrap_or_else(|| "no answer at all".into()));
    }
    if let Some((acknowledged, lost)) = &after.transactions {
        let detail = match lost.as_slice() {
            [] => format!("{acknowledged} acknowledged, all found"),
            [first, ..] => format!("{} of {acknowledged} are gone, such as {first}", lost.len()),
        };
        // Without a single one, nothing was proven.
        check("no acknowledged transaction is lost".into(), lost.is_empty() && *acknowledged > 0, detail);
    }
    for service in &expect.recovered {
        let well = !after.unhealthy.contains(service);
        check(format!("{service} is healthy"), well, if well { "yes" } else { "no" }.into());
    }
    for service in &expect.no_crash_loop {
        let restarts = after.restarts.get(service).copied().unwrap_or(0);
        check(format!("{service} did not crash"), restarts == 0, format!("{restarts} restarts by Docker"));
    }
    report(scenario, seen, after, checks)
}

fn report(scenario: &Scenario, seen: &Seen, after: &Aftermath, checks: Vec<Check>) -> Report {
    let expect = &scenario.expect;
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    let proven = expect.action.wanted().iter().find_map(|wanted| seen.verdicts.get(&wanted.target));
    let asked = expect.incidents.iter().flat_map(|wanted| {
        let concerned = seen.incidents.iter().filter(|incident| wanted.concerns(incident));
        let given = concerned.flat_map(Incident::reasons).filter(|reason| wanted.reason.has(reason));
        given.map(str::to_owned).collect::<Vec<_>>()
    });
    Report {
        name: scenario.name.clone(),
        title: scenario.title.clone(),
        detected_seconds: seconds(seen.alert_at),
        acted_seconds: seconds(seen.actions.first().map(|acted| acted.at)),
        verified_seconds: seconds(proven.map(|verdict| verdict.at)),
        verdict: proven.map(|verdict| verdict.text.clone()),
        reasons: asked.fold(Vec::new(), |mut list, reason| {
            if !list.contains(&reason) {
                list.push(reason);
            }
            list
        }),
        load: after.load.clone(),
        checks,
    }
}

fn actions(expect: &Expect, seen: &Seen, check: &mut impl FnMut(String, bool, String)) {
    let all = listed(seen.actions.iter().map(|acted| format!("{} {}", acted.verb, acted.service)));
    let all = all.unwrap_or_else(|| "nothing".to_owned());
    match &expect.action {
        // To look is not to act.
        ActionExpected::None => {
            check("no action is taken".into(), seen.actions.iter().all(|acted| only_looks(&acted.verb)), all);
        }
        ActionExpected::Any => {}
        ActionExpected::Do(wanted) => {
            let names = wanted.iter().map(|w| format!("{} {}, {}", w.verb, w.target, w.times)).collect::<Vec<_>>();
            let right = wanted.iter().all(|wanted| wanted.times.holds(seen.count(wanted)));
            let expected = |acted: &Acted| wanted.iter().any(|w| w.verb == acted.verb && w.target == acted.service);
            let nothing_else = seen.actions.iter().all(|acted| expected(acted) || only_looks(&acted.verb));
            check(format!("{} and nothing else", names.join("; ")), right && nothing_else, all);
            for wanted in wanted {
                let first = seen.first(wanted);
                let what = format!("{} {} comes within {}", wanted.verb, wanted.target, duration(wanted.within.0));
                // What may also never happen is not late.
                let excused = first.is_none() && wanted.times.least == 0;
                check(what, excused || in_time(first, wanted.within.0), at(first));
                if let Some(verdict) = &wanted.verdict {
                    let found = seen.verdicts.get(&wanted.target);
                    let text = found.map_or("no verdict", |found| found.text.as_str());
                    let detail = format!("{text} {}", at(found.map(|found| found.at)));
                    check(format!("the verdict on {} is {verdict}", wanted.target), text == verdict, detail);
                }
            }
        }
    }
}

/// Nothing but what was meant was started, stopped or made anew, and that as often as said.
fn untouched(scenario: &Scenario, seen: &Seen, after: &Aftermath, check: &mut impl FnMut(String, bool, String)) {
    let expect = &scenario.expect;
    let mut meant: BTreeSet<&str> = expect.may_change.iter().map(String::as_str).collect();
    match &expect.action {
        ActionExpected::Any => meant.extend(seen.actions.iter().map(|acted| acted.service.as_str())),
        other => meant.extend(other.wanted().iter().filter(|w| !only_looks(&w.verb)).map(|w| w.target.as_str())),
    }
    let touched = listed(
        changes(&after.before, &after.after)
            .into_iter()
            .filter(|(service, _)| !meant.contains(service.as_str()))
            .map(|(service, what)| format!("{service} {what}")),
    );
    let count = after.before.values().map(Vec::len).sum::<usize>();
    let all = format!("{count} containers looked at");
    check("nothing else was touched".into(), touched.is_none() && count > 0, touched.unwrap_or(all));

    let steps: Vec<&Step> = scenario.steps.iter().flat_map(Step::flat).collect();
    for wanted in expect.action.wanted() {
        // A container that ends again and again is started by Docker itself as well.
        let deployed = steps.iter().any(|step| matches!(step, Step::Deploy(deploy) if deploy.service == wanted.target));
        if let (true, Some(times), false) =
            (["restart", "start", "stop_start"].contains(&wanted.verb.as_str()), wanted.times.exact(), deployed)
        {
            let starts = after.starts.as_ref().map(|starts| starts.get(&wanted.target).copied().unwrap_or(0));
            let detail =
                starts.map_or_else(|| "its events could not be followed".into(), |starts| format!("{starts} ×"));
            check(format!("Docker started {} {times} ×", wanted.target), starts == Some(times), detail);
        }
    }
}

fn at(time: Option<Duration>) -> String {
    time.map_or_else(|| "never".to_owned(), |time| format!("after {}", duration(time)))
}

fn in_time(time: Option<Duration>, limit: Duration) -> bool {
    time.is_some_and(|time| time <= limit)
}

fn listed(items: impl Iterator<Item = String>) -> Option<String> {
    let items: Vec<String> = items.collect();
    (!items.is_empty()).then(|| items.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::incident::{Action, Entry};
    use crate::scenario::containers::Life;
    use crate::scenario::parameters::Given;
    use crate::scenario::schema;

    const BASE: &str = "version: 1\ntitle: t\ndescription: d\nload: {rate: 5, mix: /x, allow: [200, refused]}\nbreak: [{wait: 1s}]\n\
        expect:\n  alert: {name: A, service: s, within: 30s}\n  action: {verb: restart, target: s, within: 60s, verdict: healed}\n  \
        sli: {query: q, below: 0.1, within: 2m}\n  recovered: [s]\n  no_crash_loop: [s]\n  keep_transactions: true\n  within: 3m\n";

    const ACTION: &str = "{verb: restart, target: s, within: 60s, verdict: healed}";

    fn parsed(text: &str) -> Scenario {
        schema::parse("x", text, &Given::default()).unwrap()
    }

    fn restart() -> Scenario {
        parsed(BASE)
    }

    /// A scenario with another action and further expectations.
    fn with(action: &str, further: &str) -> Scenario {
        parsed(&BASE.replace(ACTION, action).replace("  within: 3m\n", &format!("{further}  within: 3m\n")))
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn incident(alert: &str, service: &str) -> Incident {
        Incident {
            id: format!("{alert}-{service}"),
            alertname: alert.into(),
            service: Some(service.into()),
            state: "closed".into(),
            ..Incident::default()
        }
    }

    fn held(alert: &str, service: &str, reason: &str) -> Incident {
        let decision = Entry { kind: "decision".into(), reason: Some(reason.into()), ..Entry::default() };
        Incident {
            state: "waiting".into(),
            decision: Some(reason.into()),
            timeline: vec![decision],
            ..incident(alert, service)
        }
    }

    fn acted(at: u64, verb: &str, service: &str) -> Acted {
        Acted { at: s(at), verb: verb.into(), service: service.into() }
    }

    fn stack(start_of_s: &str) -> Lives {
        let life =
            |id: &str, start: &str| vec![Life { id: id.into(), started_at: start.into(), state: "running".into() }];
        Lives::from([("s".into(), life("1", start_of_s)), ("other".into(), life("2", "0"))])
    }

    fn good() -> (Seen, Aftermath) {
        let done = Action { verb: "restart".into(), target: "s-1".into(), status: "done".into() };
        let seen = Seen {
            alert_at: Some(s(20)),
            actions: vec![acted(22, "restart", "s")],
            verdicts: BTreeMap::from([("s".into(), Verdict { at: s(60), text: "healed".into() })]),
            broken_at: Some(s(1)),
            sli_good_at: Some(s(50)),
            sli: Some(0.0),
            incidents: vec![Incident { actions: vec![done], outcome: Some("healed".into()), ..incident("A", "s") }],
            opened: BTreeMap::from([("A-s".into(), s(21))]),
            ..Seen::default()
        };
        let load =
            load::Report { statuses: BTreeMap::from([("200".into(), 9), ("refused".into(), 1)]), ..Default::default() };
        let after = Aftermath {
            before: stack("0"),
            after: stack("25"),
            starts: Some(BTreeMap::from([("s".into(), 1)])),
            load: Some(load),
            transactions: Some((3, Vec::new())),
            ..Aftermath::default()
        };
        (seen, after)
    }

    /// A run in which the bot did nothing.
    fn idle() -> (Seen, Aftermath) {
        let (mut seen, mut after) = good();
        (seen.actions, seen.incidents) = (Vec::new(), Vec::new());
        seen.verdicts.clear();
        after.after = after.before.clone();
        after.starts = Some(BTreeMap::new());
        (seen, after)
    }

    fn failures(scenario: &Scenario, seen: &Seen, after: &Aftermath) -> Vec<String> {
        let report = judge(scenario, seen, after);
        report.checks.into_iter().filter(|c| !c.passed).map(|c| format!("{}: {}", c.what, c.detail)).collect()
    }

    fn settles(scenario: &Scenario, seen: &Seen) -> bool {
        settled(&scenario.expect, seen, s(100))
    }

    #[test]
    fn a_good_run_passes() {
        let (seen, after) = good();
        let report = judge(&restart(), &seen, &after);
        assert!(report.passed() && settles(&restart(), &seen));
        insta::assert_json_snapshot!(report);
    }

    #[test]
    fn each_deviation_fails_with_its_reason() {
        type Change = Box<dyn Fn(&mut Seen, &mut Aftermath)>;
        let cases: Vec<Change> = vec![
            Box::new(|seen, _| seen.alert_at = Some(s(31))),
            Box::new(|seen, _| seen.alert_at = None),
            Box::new(|seen, _| seen.actions.push(acted(40, "restart", "s"))),
            Box::new(|seen, _| seen.actions = vec![acted(22, "start", "s")]),
            Box::new(|seen, _| seen.actions.push(acted(40, "restart", "other"))),
            Box::new(|seen, _| seen.actions[0].at = s(61)),
            Box::new(|seen, _| seen.incidents[0].state = "verifying".into()),
            Box::new(|seen, _| {
                seen.verdicts.insert("s".into(), Verdict { at: s(60), text: "unverified".into() });
            }),
            Box::new(|seen, _| seen.sli_good_at = None),
            Box::new(|_, after| after.after.get_mut("other").unwrap()[0].started_at = "9".into()),
            Box::new(|_, after| {
                after.after.remove("other");
            }),
            Box::new(|_, after| after.starts = Some(BTreeMap::from([("s".into(), 2)]))),
            Box::new(|_, after| after.starts = None),
            Box::new(|_, after| (after.before, after.after) = (Lives::new(), Lives::new())),
            Box::new(|_, after| after.transactions = Some((3, vec!["id-1".into()]))),
            Box::new(|_, after| after.transactions = Some((0, Vec::new()))),
            Box::new(|_, after| after.unhealthy = BTreeSet::from(["s".into()])),
            Box::new(|_, after| after.restarts = BTreeMap::from([("s".into(), 2)])),
            Box::new(|_, after| {
                if let Some(load) = &mut after.load {
                    load.statuses.insert("500".into(), 1);
                }
            }),
        ];
        let found: Vec<String> = cases
            .iter()
            .map(|change| {
                let (mut seen, mut after) = good();
                change(&mut seen, &mut after);
                failures(&restart(), &seen, &after).join(" | ")
            })
            .collect();
        assert!(found.iter().all(|text| !text.is_empty()));
        insta::assert_snapshot!(found.join("\n"));
    }

    #[test]
    fn none_means_none() {
        let (seen, after) = good();
        assert!(!failures(&with("none", ""), &seen, &after).is_empty());
        assert_eq!(failures(&with("any", ""), &seen, &after), Vec::<String>::new());
        let (mut seen, after) = idle();
        assert_eq!(failures(&with("none", ""), &seen, &after), Vec::<String>::new());
        // To look is not to act.
        seen.actions.push(acted(30, "sql_diagnosis", "s"));
        assert_eq!(failures(&with("none", ""), &seen, &after), Vec::<String>::new());
    }

    #[test]
    fn a_start_by_anybody_else_counts_even_where_nothing_was_to_be_done() {
        let (seen, mut after) = idle();
        after.after = stack("25");
        assert_eq!(failures(&with("none", ""), &seen, &after), ["nothing else was touched: s was started"]);
        assert_eq!(failures(&with("none", "  may_change: [s]\n"), &seen, &after), Vec::<String>::new());
    }

    #[test]
    fn a_number_of_actions_may_be_a_range() {
        let scenario = with("{verb: restart, target: s, times: 1..2, within: 60s}", "");
        let (mut seen, after) = good();
        for (times, passes) in [(1, true), (2, true), (3, false)] {
            seen.actions = vec![acted(22, "restart", "s"); times];
            assert_eq!(failures(&scenario, &seen, &after).is_empty(), passes, "{times}");
        }
        seen.actions.clear();
        assert!(!settles(&scenario, &seen));
    }

    #[test]
    fn several_actions_must_all_come() {
        let scenario =
            with("[{verb: restart, target: s, within: 60s}, {verb: sql_diagnosis, target: s, within: 60s}]", "");
        let (mut seen, after) = good();
        assert!(!settles(&scenario, &seen) && !failures(&scenario, &seen, &after).is_empty());
        seen.actions.push(acted(30, "sql_diagnosis", "s"));
        assert!(settles(&scenario, &seen));
        assert_eq!(failures(&scenario, &seen, &after), Vec::<String>::new());
    }

    #[test]
    fn inaction_must_have_the_reason_that_was_expected() {
        let scenario = with("none", "  incidents: [{alert: A, service: s, reason: [manual_stop, denied]}]\n");
        let (mut seen, after) = idle();
        assert!(!settles(&scenario, &seen));
        assert_eq!(
            failures(&scenario, &seen, &after),
            ["A of s is held with manual_stop or denied: there is no such incident"]
        );
        seen.incidents = vec![held("A", "other", "manual_stop")];
        assert!(!failures(&scenario, &seen, &after).is_empty());
        seen.incidents = vec![held("A", "s", "alert_gone")];
        assert_eq!(failures(&scenario, &seen, &after), ["A of s is held with manual_stop or denied: alert_gone"]);
        seen.incidents = vec![held("A", "s", "manual_stop")];
        assert!(settles(&scenario, &seen));
        let report = judge(&scenario, &seen, &after);
        assert!(report.passed());
        assert_eq!(report.reasons, ["manual_stop"]);
    }

    #[test]
    fn an_incident_that_need_not_be_is_still_judged() {
        let further = "  incidents: [{alert: B, outcome: [covered, resolved], required: false}]\n";
        let scenario = with(ACTION, further);
        let (mut seen, after) = good();
        assert_eq!(failures(&scenario, &seen, &after), Vec::<String>::new());
        seen.incidents.push(Incident { outcome: Some("healed".into()), ..incident("B", "x") });
        assert_eq!(failures(&scenario, &seen, &after), ["B (if there is one) ends covered or resolved: healed"]);
        seen.incidents[1].outcome = Some("covered".into());
        assert_eq!(failures(&scenario, &seen, &after), Vec::<String>::new());
    }

    #[test]
    fn incidents_are_opened_in_time_and_have_findings() {
        let further = "  incidents: [{alert: A, findings: [blocked, long_running], within: 30s, after_break: 20s}]\n";
        let (mut seen, after) = good();
        let evidence = |kinds: &[&str]| {
            let findings: Vec<_> = kinds.iter().map(|kind| json!({"what": kind, "value": 3, "unit": "s"})).collect();
            vec![Entry { kind: "evidence".into(), data: json!({"findings": findings}), ..Entry::default() }]
        };
        let scenario = with(ACTION, further);
        let mut check = |kinds: &[&str], opened: u64, broken: u64| {
            seen.incidents[0].timeline = evidence(kinds);
            seen.opened.insert("A-s".into(), s(opened));
            seen.broken_at = Some(s(broken));
            failures(&scenario, &seen, &after).join("")
        };
        let both = ["blocked", "connections", "long_running"];
        assert_eq!(check(&both, 21, 1), "");
        assert!(check(&both[..2], 21, 1).ends_with(": long_running is not among 2 findings"));
        assert!(check(&both, 31, 20).ends_with(": opened after 31s"));
        assert!(check(&both, 22, 1).ends_with(": opened 21s after the last break step"));
    }

    #[test]
    fn only_some_alerts_may_open_incidents() {
        let (mut seen, after) = idle();
        assert_eq!(failures(&with("none", "  only: []\n"), &seen, &after), Vec::<String>::new());
        seen.incidents =
            vec![held("ErrorBudgetBurn", "s", "left_to_people"), held("HighCPU", "host", "left_to_people")];
        assert_eq!(
            failures(&with("none", "  only: [\"ErrorBudget*\"]\n"), &seen, &after),
            ["no incident but of ErrorBudget* is opened: HighCPU of host"]
        );
    }

    #[test]
    fn a_storm_freezes_and_pages_once() {
        let scenario = with("none", "  freeze: storm\n  pages: 1\n");
        let (mut seen, mut after) = idle();
        assert!(!settles(&scenario, &seen));
        assert_eq!(failures(&scenario, &seen, &after).len(), 2);
        seen.frozen = Some("storm".into());
        assert!(settles(&scenario, &seen));
        for (pages, passes) in [(0, false), (1, true), (2, false)] {
            after.pages = Some(pages);
            assert_eq!(failures(&scenario, &seen, &after).is_empty(), passes, "{pages}");
        }
    }

    #[test]
    fn a_service_level_may_have_to_be_good_all_the_time() {
        let scenario = parsed(&BASE.replace("within: 2m}", "within: 2m, always: true}"));
        let (mut seen, after) = good();
        assert_eq!(failures(&scenario, &seen, &after), Vec::<String>::new());
        seen.sli_bad_at = Some(s(12));
        assert_eq!(failures(&scenario, &seen, &after), ["the SLI is never bad: after 12s"]);
    }

    #[test]
    fn an_open_incident_keeps_the_run_going() {
        let (mut seen, _) = good();
        seen.incidents.push(Incident { state: "waiting".into(), ..Incident::default() });
        assert!(!settles(&restart(), &seen));
    }

    #[test]
    fn what_must_not_happen_is_given_time_to_happen() {
        let scenario = with("none", "  watch: 60s\n");
        let (seen, _) = idle();
        let after = |seconds: u64| settled(&scenario.expect, &seen, s(seconds));
        // The last break step was over after one second.
        assert!(!after(60) && after(61));
    }
}
