//! Whether what was seen is what a scenario expects. Pure: times come in as durations since the first
//! break step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::schema::{ActionExpected, ActionWanted, Expect, Scenario, Span};
use crate::incident::Incident;
use crate::layout::duration;
use crate::load;

/// What was seen while a scenario ran.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The expected alert fired.
    pub alert_at: Option<Duration>,
    /// The first action was done.
    pub acted_at: Option<Duration>,
    /// The verdict on the expected target came.
    pub verdict_at: Option<Duration>,
    /// The verdict.
    pub verdict: Option<String>,
    /// All break steps were carried out.
    pub broken_at: Option<Duration>,
    /// The SLI became good (and stayed so) after it had reason to be bad.
    pub sli_good_at: Option<Duration>,
    /// Its last value.
    pub sli: Option<f64>,
    /// Incidents that were opened meanwhile.
    pub incidents: Vec<Incident>,
}

/// What was found at the end.
#[derive(Clone, Debug, Default)]
pub struct Aftermath {
    /// Services that are not healthy.
    pub unhealthy: BTreeSet<String>,
    /// Restarts by Docker's own policy, by service.
    pub restarts: BTreeMap<String, u64>,
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
#[derive(Clone, Debug, PartialEq, Serialize)]
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

/// Actions that were done for new incidents, as `verb service`.
fn actions(seen: &Seen) -> Vec<String> {
    let of = |incident: &Incident| -> Vec<String> {
        incident.done().map(|action| format!("{} {}", action.verb, incident.service())).collect()
    };
    seen.incidents.iter().flat_map(of).collect()
}

/// True when waiting longer cannot change the result.
pub fn settled(expect: &Expect, seen: &Seen) -> bool {
    let alert = expect.alert.is_none() || seen.alert_at.is_some();
    let action = match &expect.action {
        ActionExpected::None => true,
        ActionExpected::Any => !seen.incidents.iter().any(Incident::is_pending),
        ActionExpected::Do(_) => seen.verdict_at.is_some() && !seen.incidents.iter().any(Incident::is_pending),
    };
    alert && action && seen.broken_at.is_some() && seen.sli_good_at.is_some()
}

/// Compares.
pub fn judge(scenario: &Scenario, seen: &Seen, after: &Aftermath) -> Report {
    let expect = &scenario.expect;
    let mut checks = Vec::new();
    let mut check = |what: String, passed: bool, detail: String| checks.push(Check { what, passed, detail });
    let at =
        |time: Option<Duration>| time.map_or_else(|| "never".to_owned(), |time| format!("after {}", duration(time)));
    let in_time = |time: Option<Duration>, limit: Duration| time.is_some_and(|time| time <= limit);

    if let Some(alert) = &expect.alert {
        let what = format!("{} fires within {}", alert.name, duration(alert.within.0));
        check(what, in_time(seen.alert_at, alert.within.0), at(seen.alert_at));
    }
    let done = actions(seen);
    let listed = if done.is_empty() { "nothing".to_owned() } else { done.join(", ") };
    match &expect.action {
        ActionExpected::None => check("no action is taken".into(), done.is_empty(), listed),
        ActionExpected::Any => {}
        ActionExpected::Do(ActionWanted { verb, target, times, within: Span(within), verdict }) => {
            let times = usize::try_from(*times).unwrap_or(usize::MAX);
            let wanted = format!("{verb} {target}");
            let right = done.iter().filter(|action| **action == wanted).count();
            let what = format!("{wanted}, {times} × and nothing else");
            check(what, right == times && done.len() == times, listed);
            check(
                format!("the action comes within {}", duration(*within)),
                in_time(seen.acted_at, *within),
                at(seen.acted_at),
            );
            let found = seen.verdict.clone().unwrap_or_else(|| "no verdict".into());
            check(format!("the verdict is {verdict}"), found == *verdict, format!("{found} {}", at(seen.verdict_at)));
        }
    }
    let sli = seen.sli.map_or_else(|| "no data".into(), |value| format!("now {value:.3}"));
    check(
        format!("the SLI is good within {}", duration(expect.sli.within.0)),
        in_time(seen.sli_good_at, expect.sli.within.0),
        format!("{}, {sli}", at(seen.sli_good_at)),
    );
    // What the policy leaves to people stays open until its alert ends, which may take hours (error budgets).
    let open: Vec<&str> = seen.incidents.iter().filter(|i| i.is_pending()).map(|i| i.alertname.as_str()).collect();
    let opened = format!(
        "{} opened{}",
        seen.incidents.len(),
        if open.is_empty() { String::new() } else { format!(", open: {}", open.join(", ")) }
    );
    check("no incident is still being dealt with".into(), open.is_empty(), opened);

    if let (Some(load), Some(report)) = (&scenario.load, &after.load) {
        let strange: Vec<String> = report
            .statuses
            .iter()
            .filter(|(status, _)| !load.allow.iter().any(|allowed| allowed.matches(status)))
            .map(|(status, count)| format!("{status} × {count}"))
            .collect();
        let all: Vec<String> = report.statuses.iter().map(|(status, count)| format!("{status} × {count}")).collect();
        let what = "the load saw allowed answers only".to_owned();
        check(what, strange.is_empty(), if strange.is_empty() { all.join(", ") } else { strange.join(", ") });
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
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    Report {
        name: scenario.name.clone(),
        title: scenario.title.clone(),
        detected_seconds: seconds(seen.alert_at),
        acted_seconds: seconds(seen.acted_at),
        verified_seconds: seconds(seen.verdict_at),
        verdict: seen.verdict.clone(),
        load: after.load.clone(),
        checks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::Action;
    use crate::scenario::schema;

    fn scenario(action: &str) -> Scenario {
        let text = format!(
            "version: 1\ntitle: t\ndescription: d\nload: {{rate: 5, mix: /x, allow: [200, refused]}}\nbreak: [{{wait: 1s}}]\n\
             expect:\n  alert: {{name: A, service: s, within: 30s}}\n  action: {action}\n  \
             sli: {{query: q, below: 0.1, within: 2m}}\n  recovered: [s]\n  no_crash_loop: [s]\n  keep_transactions: true\n  within: 3m\n"
        );
        schema::parse("x", &text).unwrap()
    }

    fn restart() -> Scenario {
        scenario("{verb: restart, target: s, within: 60s, verdict: healed}")
    }

    fn closed(actions: &[&str]) -> Incident {
        let action = |verb: &&str| Action { verb: (*verb).into(), target: "s-1".into(), status: "done".into() };
        Incident {
            service: Some("s".into()),
            state: "closed".into(),
            actions: actions.iter().map(action).collect(),
            ..Incident::default()
        }
    }

    fn good() -> (Seen, Aftermath) {
        let s = |seconds| Some(Duration::from_secs(seconds));
        let seen = Seen {
            alert_at: s(20),
            acted_at: s(22),
            verdict_at: s(60),
            verdict: Some("healed".into()),
            broken_at: s(1),
            sli_good_at: s(50),
            sli: Some(0.0),
            incidents: vec![closed(&["restart"])],
        };
        let load =
            load::Report { statuses: BTreeMap::from([("200".into(), 9), ("refused".into(), 1)]), ..Default::default() };
        (seen, Aftermath { load: Some(load), transactions: Some((3, Vec::new())), ..Aftermath::default() })
    }

    fn failures(scenario: &Scenario, seen: &Seen, after: &Aftermath) -> Vec<String> {
        let report = judge(scenario, seen, after);
        report.checks.into_iter().filter(|c| !c.passed).map(|c| format!("{}: {}", c.what, c.detail)).collect()
    }

    #[test]
    fn a_good_run_passes() {
        let (seen, after) = good();
        let report = judge(&restart(), &seen, &after);
        assert!(report.passed() && settled(&restart().expect, &seen));
        insta::assert_json_snapshot!(report);
    }

    #[test]
    fn each_deviation_fails_with_its_reason() {
        type Change = Box<dyn Fn(&mut Seen, &mut Aftermath)>;
        let cases: Vec<Change> = vec![
            Box::new(|seen, _| seen.alert_at = Some(Duration::from_secs(31))),
            Box::new(|seen, _| seen.alert_at = None),
            Box::new(|seen, _| seen.incidents = vec![closed(&["restart", "restart"])]),
            Box::new(|seen, _| seen.incidents = vec![closed(&["start"])]),
            Box::new(|seen, _| seen.incidents[0].state = "verifying".into()),
            Box::new(|seen, _| seen.verdict = Some("unverified".into())),
            Box::new(|seen, _| seen.sli_good_at = None),
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
        assert!(!failures(&scenario("none"), &seen, &after).is_empty());
        assert!(failures(&scenario("any"), &seen, &after).is_empty());
    }

    #[test]
    fn an_open_incident_keeps_the_run_going() {
        let (mut seen, _) = good();
        seen.incidents.push(Incident { state: "waiting".into(), ..Incident::default() });
        assert!(!settled(&restart().expect, &seen));
    }
}
