use super::*;

const HEAD: &str = "version: 1\nmode: auto\n";

fn faults(text: &str) -> Vec<String> {
    Policy::parse(text).unwrap_err().iter().map(ToString::to_string).collect()
}

fn rule(rest: &str) -> String {
    format!("{HEAD}rules:\n  - name: r\n    match: {{alertname: A}}\n{rest}")
}

const HEAL: &str =
    "    target: {service: api}\n    steps: [{action: restart}]\n    verify: {sli: 'x{s=\"{{service}}\"}', below: 1}\n";

#[test]
fn a_rule_gets_its_defaults() {
    let policy = Policy::parse(&rule(HEAL)).unwrap();
    let heal = policy.rules[0].heal().unwrap();
    assert_eq!(heal.budget.actions, 3);
    assert_eq!(heal.verify.stable_for, Period::from_secs(20));
    assert_eq!(heal.min_age, Period::from_secs(30));
    let document =
        format!("{HEAD}defaults: {{min_age: 5s, stable_for: 1s}}\n{}", rule(HEAL).strip_prefix(HEAD).unwrap());
    let policy = Policy::parse(&document).unwrap();
    let heal = policy.rules[0].heal().unwrap();
    assert_eq!((heal.min_age, heal.verify.stable_for), (Period::from_secs(5), Period::from_secs(1)));
}

#[test]
fn unknown_keys_and_wrong_types_are_named_with_their_line() {
    for (text, at, says) in [
        (rule(&HEAL.replace("steps", "stpes")), "line 7:", "stpes"),
        (rule(&HEAL.replace("restart", "reboot")), "line 7:", "reboot"),
        (rule(&format!("{HEAL}    hold: 10\n")), "line 9:", "duration"),
        (rule(HEAL).replace("mode: auto", "mode: maybe"), "line 2:", "maybe"),
        (rule(HEAL).replace("mode: auto", "mode: auto\nmode: auto"), "line 3:", "mode"),
        ("version: 1\nmode: [".to_owned(), "line", ""),
        (String::new(), "", ""),
    ] {
        let faults = faults(&text);
        assert!(faults[0].starts_with(at) && faults[0].contains(says), "{faults:?} in\n{text}");
    }
}

#[test]
fn every_fault_is_named_at_once() {
    let text = format!(
        "{HEAD}limits: {{actions: 0, window: 48h, concurrent: 0}}
rules:
  - name: one
    match: {{alertname: A}}
{HEAL}  - name: two
    match: {{alertname: A, severity: critical}}
    leave_to_people: ''
  - name: three
    match: {{alertname: B}}
    leave_to_people: because
    steps: [{{action: start}}]
  - name: four
    match: {{alertname: C}}
    target: {{label: service, service: x}}
    steps: [{{action: start}}]
    verify: {{sli: 'x{{{{namespace}}}}', below: 1, above: 2}}
"
    );
    let faults = faults(&text);
    for says in [
        "limits.actions",
        "limits.concurrent",
        "window 2days",
        "leave_to_people needs the reason",
        "rule 'three' needs exactly one of",
        "target needs either service, or label",
        "exactly one of below and above",
    ] {
        assert!(faults.iter().any(|f| f.contains(says)), "no '{says}' in {faults:#?}");
    }
}

#[test]
fn a_rule_behind_one_that_takes_all_is_refused() {
    let text =
        format!("{}  - name: late\n    match: {{alertname: [A], severity: critical}}\n    ignore: x\n", rule(HEAL));
    assert!(faults(&text)[0].contains("'late' is never reached: 'r' takes all its alerts"));
    let text = format!("{}  - name: late\n    match: {{alertname: [A, B]}}\n    ignore: x\n", rule(HEAL));
    assert!(Policy::parse(&text).is_ok());
}

#[test]
fn an_expression_needs_a_heartbeat_and_a_heartbeat_must_be_plain() {
    let with = |sli: &str, more: &str| {
        rule(&HEAL.replace("x{s=\"{{service}}\"}", sli).replace("below: 1", &format!("below: 1{more}")))
    };
    assert!(faults(&with("rate(x[1m])", ""))[0].contains("needs a heartbeat"));
    assert!(Policy::parse(&with("rate(x[1m])", ", heartbeat: up")).is_ok());
    assert!(faults(&with("rate(x[1m])", ", heartbeat: up == 1"))[0].contains("must be a metric's name"));
    assert!(Policy::parse(&with("service:http_errors:ratio", "")).is_ok());
}

#[test]
fn what_protects_the_bot_cannot_be_named_as_a_target() {
    for name in ALWAYS_DENIED {
        assert!(faults(&rule(&HEAL.replace("service: api", &format!("service: {name}"))))[0].contains("never touched"));
    }
}

#[test]
fn names_are_names() {
    for good in ["api", "transaction-api", "a.b_c-1"] {
        assert!(is_service_name(good), "{good}");
    }
    for bad in ["", "-a", "a b", "a/b", "../a", "a\n", "ä", "{{x}}", &"a".repeat(64)] {
        assert!(!is_service_name(bad), "{bad}");
    }
}

#[test]
fn a_rule_survives_being_written_down_with_its_incident() {
    let policy = Policy::parse(&rule(HEAL)).unwrap();
    let text = serde_json::to_string(&policy.rules[0]).unwrap();
    assert_eq!(serde_json::from_str::<Rule>(&text).unwrap(), *policy.rules[0]);
}

#[test]
fn a_ladder_begins_at_once_and_rises() {
    let with = |ladder: &str| format!("{HEAD}escalation: {ladder}\n{}", rule(HEAL).strip_prefix(HEAD).unwrap());
    let policy = Policy::parse(&with("[{after: 0s, to: [slack]}, {after: 5m, to: [email, webhook]}]")).unwrap();
    assert_eq!(policy.escalation[1].to, [Receiver::Email, Receiver::Webhook]);
    assert_eq!(policy.ladder(Some(&policy.rules[0]), None), policy.escalation);
    assert_eq!(Policy::parse(&rule(HEAL)).unwrap().escalation, default_escalation());
    let strict = "[{after: 0s, to: [slack]}, {after: 5m, to: [email], severity: critical}]";
    let policy = Policy::parse(&with(strict)).unwrap();
    let levels = |severity| policy.ladder(None, severity).len();
    assert_eq!((levels(Some("critical")), levels(Some("warning")), levels(None)), (2, 1, 1));
    for (ladder, says) in [
        ("[{after: 0s, to: [slack], severity: critical}]", "of any severity"),
        ("[]", "first level with after: 0s"),
        ("[{after: 1m, to: [slack]}]", "first level with after: 0s"),
        ("[{after: 0s, to: [slack]}, {after: 0s, to: [email]}]", "come after the one before it"),
        ("[{after: 0s, to: []}]", "needs somebody"),
        ("[{after: 0s, to: [slack]}, {after: 25h, to: [email]}]", "come within 1day"),
        ("[{after: 0s, to: [pigeon]}]", "pigeon"),
        ("[{after: 0s, to: [slack], cc: me}]", "cc"),
    ] {
        let faults = faults(&with(ladder));
        assert!(faults[0].starts_with("line 3:") && faults[0].contains(says), "{ladder}: {faults:?}");
    }
    let own = rule(&format!("{HEAL}    escalation: [{{after: 0s, to: [webhook]}}]\n"));
    let policy = Policy::parse(&own).unwrap();
    let text = serde_json::to_string(&policy.rules[0]).unwrap();
    let kept: Rule = serde_json::from_str(&text).unwrap();
    assert_eq!(policy.ladder(Some(&kept), None)[0].to, [Receiver::Webhook]);
}

#[test]
fn only_what_the_policy_names_can_be_called() {
    let step = |step: &str| rule(&HEAL.replace("[{action: restart}]", step));
    let policy = Policy::parse(&step(
        "[{action: webhook, url: 'https://x.example/a', token_file: /t, timeout: 3s, body: {a: ['{{alert}}', 1]}}]",
    ))
    .unwrap();
    let step_read = &policy.rules[0].heal().unwrap().steps[0];
    let hook = step_read.webhook.as_ref().unwrap();
    assert_eq!((step_read.action, step_read.timeout), (Verb::Webhook, Period::from_secs(3)));
    assert_eq!(hook.message("i", "A", "t"), serde_json::json!({ "a": ["A", 1] }));
    // It stays with the incident as it was.
    let kept = serde_json::to_string(&*policy.rules[0]).unwrap();
    assert_eq!(serde_json::from_str::<Rule>(&kept).unwrap(), *policy.rules[0]);
    for (wrong, says) in [
        ("[{action: webhook}]", "needs a url"),
        ("[{action: webhook, url: 'x'}]", "url"),
        ("[{action: webhook, url: 'http://{{target}}/'}]", ""),
        ("[{action: webhook, url: 'http://x/', body: '{{labels}}'}]", "labels"),
        ("[{action: restart, url: 'http://x/'}]", "for webhook only"),
        ("[{action: diagnose, body: {}}]", "for webhook only"),
    ] {
        let faults = faults(&step(wrong));
        assert!(faults[0].starts_with("line 7:") && faults[0].contains(says), "{wrong}: {faults:?}");
    }
}
