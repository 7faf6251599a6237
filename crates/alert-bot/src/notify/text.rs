//! What people read about an incident. Pure: the incident and its timeline in,
//! words out; how Slack, a mail or a webhook shows them is theirs.
//!
//! Alert labels and annotations are written by whoever can send an alert: they
//! are cut, stripped of control characters, and escaped by the medium.

use serde::Serialize;
use serde_json::Value;

use crate::{
    engine::{Incident, NextLevel, Outcome, Phase, Reason},
    journal::read::Entry,
    timestamp::Timestamp,
};

/// All that a message about one incident is made of.
#[derive(Debug)]
pub struct Story {
    /// As it is now.
    pub incident: Incident,
    /// Its timeline, oldest first.
    pub timeline: Vec<Entry>,
    /// Other alerts that burn about the same service.
    pub also: Vec<String>,
    /// Why people are called now; otherwise the timeline says it.
    pub why: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// Somebody must do something.
    Bad,
    /// Somebody or something is at it.
    Busy,
    /// It is over.
    Good,
}

/// A message about one incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Text {
    /// Its id.
    pub incident: String,
    /// The same for all messages about it: mail programs make threads by it.
    pub subject: String,
    /// How it stands.
    pub state: String,
    /// How bad that is.
    pub tone: Tone,
    /// What burns, in the alert's own words.
    pub what: String,
    /// Name and value: since when, where.
    pub facts: Vec<(&'static str, String)>,
    /// What was done and what came of it, oldest first.
    pub tried: Vec<String>,
    /// What was found out.
    pub found: Vec<String>,
    /// Why people are told.
    pub why: String,
    /// What happens next, and who does it.
    pub next: String,
    /// Name and address.
    pub links: Vec<(&'static str, String)>,
    /// Changes when, and only when, there is something new to tell.
    pub said: String,
}

const MAX_WORDS: usize = 600;
const MAX_VALUE: usize = 120;
const MAX_TRIED: usize = 8;
const MAX_FOUND: usize = 5;

/// Writes the message.
pub fn compose(story: &Story, next: Option<&NextLevel>, console: &str) -> Text {
    let i = &story.incident;
    let place = i.service().or_else(|| i.target.as_ref().map(|t| t.name.clone()));
    let name = word(i.alert.name());
    let subject = place.as_ref().map_or_else(|| name.clone(), |place| format!("{name} on {}", word(place)));
    let (state, tone) = state(i);
    let tried = tried(&story.timeline);
    let said = format!("{state}|{}|{}", tried.len(), tried.last().map_or("", String::as_str));
    Text {
        incident: i.id.clone(),
        subject,
        tone,
        what: what(i),
        facts: facts(i, &story.also),
        found: found(&story.timeline),
        why: why(story),
        next: what_next(i, next),
        links: links(i, console),
        tried,
        state,
        said,
    }
}

fn state(i: &Incident) -> (String, Tone) {
    let verb = || i.decision.as_ref().map_or_else(String::new, |d| words(&d.text, MAX_VALUE));
    match (i.phase, i.outcome) {
        (Phase::Closed, outcome) => {
            let text = match outcome {
                Some(Outcome::Healed) => "healed, with proof",
                Some(Outcome::NotHealed) => "over; the repair had not helped",
                Some(Outcome::Unverified) => "over; whether the repair helped is not known",
                Some(Outcome::Silenced) => "silenced in Alertmanager",
                Some(Outcome::Expired) => "not heard of any more",
                Some(Outcome::Covered) => "healed under another incident",
                Some(Outcome::ClosedByOperator) => "closed by a person",
                _ => "over",
            };
            (text.to_owned(), Tone::Good)
        }
        (Phase::Acting, _) => (format!("the bot acts: {}", verb()), Tone::Busy),
        (Phase::Verifying, _) => ("the bot has acted and looks whether it helped".to_owned(), Tone::Busy),
        _ if i.taken_over.is_some() => {
            (format!("taken over by {}", word(i.taken_over.as_deref().unwrap_or_default())), Tone::Busy)
        }
        (Phase::Escalated, _) => ("needs people".to_owned(), Tone::Bad),
        (Phase::Waiting, _) => {
            let reason = i.decision.as_ref().and_then(|d| d.reason).map(Reason::explain);
            (reason.map_or_else(|| "waits".to_owned(), |why| format!("needs people: {why}")), Tone::Bad)
        }
    }
}

fn what(i: &Incident) -> String {
    let annotation = |name: &str| i.alert.annotations.get(name).map(|text| words(text, MAX_WORDS));
    let both: Vec<_> = [annotation("summary"), annotation("description")].into_iter().flatten().collect();
    if both.is_empty() { format!("{} is firing.", word(i.alert.name())) } else { both.join("\n") }
}

fn facts(i: &Incident, also: &[String]) -> Vec<(&'static str, String)> {
    let label = |name: &str| i.alert.labels.get(name).map(|v| word(v)).filter(|v| !v.is_empty());
    let closed = i.closed_at.map(moment);
    let also: Vec<_> = also.iter().map(|name| word(name)).collect();
    [
        ("Severity", label("severity")),
        ("Burns since", Some(moment(i.starts_at))),
        ("Over since", closed),
        ("Service", i.service().map(|s| word(&s))),
        ("Container", i.target.as_ref().map(|t| word(&t.name))),
        ("Instance", label("instance")),
        ("Team", label("team")),
        ("Also burning there", Some(also.join(", ")).filter(|a| !a.is_empty())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

/// Results and verdicts, told in the timeline's own words.
fn tried(timeline: &[Entry]) -> Vec<String> {
    let mut tried: Vec<String> = Vec::new();
    for entry in timeline {
        let text = words(&entry.text, MAX_WORDS / 2);
        match entry.kind.as_str() {
            "intent" => tried.push(format!("{} {text}", clock(entry.at))),
            // Of one action: the result, then the verdict, on the line of its intent.
            "result" | "verdict" => match tried.last_mut() {
                Some(line) => {
                    line.push_str(" → ");
                    line.push_str(text.split_once(": ").map_or(text.as_str(), |(head, rest)| {
                        if entry.kind == "result" {
                            rest
                        } else if rest.is_empty() {
                            head
                        } else {
                            &text
                        }
                    }));
                }
                None => tried.push(format!("{} {text}", clock(entry.at))),
            },
            "operator" => tried.push(format!("{} {text}", clock(entry.at))),
            _ => {}
        }
    }
    if tried.len() > MAX_TRIED {
        let left_out = tried.len() - MAX_TRIED;
        tried.drain(..left_out);
        tried.insert(0, format!("… {left_out} earlier"));
    }
    tried
}

/// Findings of diagnoses: the newest evidence speaks.
fn found(timeline: &[Entry]) -> Vec<String> {
    let evidence = timeline.iter().rev().filter(|e| e.kind == "evidence");
    let findings = evidence.filter_map(|e| e.data.get("findings")?.as_array().filter(|f| !f.is_empty())).next();
    let line = |finding: &Value| {
        let text = |key: &str| match &finding[key] {
            Value::String(text) => words(text, MAX_VALUE * 2),
            Value::Null => String::new(),
            other => words(&other.to_string(), MAX_VALUE),
        };
        let (what, value, unit, detail) = (text("what"), text("value"), text("unit"), text("detail"));
        let measured = format!("{what}: {value} {unit}");
        let line = if detail.is_empty() { measured } else { format!("{} ({detail})", measured.trim_end()) };
        line.trim_end().to_owned()
    };
    findings.into_iter().flatten().take(MAX_FOUND).map(line).collect()
}

fn why(story: &Story) -> String {
    let closed = story.incident.phase == Phase::Closed;
    let kind = if closed { "closed" } else { "escalated" };
    let said = story.timeline.iter().rev().find(|e| e.kind == kind).map(|e| words(&e.text, MAX_WORDS));
    let decided = || story.incident.decision.as_ref().map(|d| words(&d.text, MAX_WORDS));
    let called = story.why.as_ref().filter(|_| !closed).map(|why| words(why, MAX_WORDS));
    called.or(said).or_else(decided).unwrap_or_default()
}

fn what_next(i: &Incident, next: Option<&NextLevel>) -> String {
    let mut text = match i.phase {
        Phase::Closed => return "Nothing: it is over.".to_owned(),
        _ if i.taken_over.is_some() => return "It is in their hands: the bot does nothing more about it.".to_owned(),
        Phase::Acting | Phase::Verifying => "The bot goes on and tells what came of it.".to_owned(),
        Phase::Waiting if i.decision.as_ref().is_some_and(|d| d.reason == Some(Reason::AwaitingApproval)) => {
            "Approve or reject the step in the console.".to_owned()
        }
        Phase::Waiting => match i.next_at {
            Some(at) => format!("The bot looks again at {}; until then it is for people.", clock(at)),
            None => "The bot waits for people.".to_owned(),
        },
        Phase::Escalated => "The bot does nothing more about it by itself.".to_owned(),
    };
    if let Some(next) = next {
        let who: Vec<_> = next.to.iter().map(|r| r.as_str()).collect();
        text.push_str(&format!(" Unless somebody takes over, {} is told at {}.", who.join(" and "), clock(next.at)));
    }
    text
}

fn links(i: &Incident, console: &str) -> Vec<(&'static str, String)> {
    let annotation = |name: &str| i.alert.annotations.get(name).filter(|url| is_link(url)).cloned();
    let incident = (!console.is_empty()).then(|| format!("{}/incidents/{}", console.trim_end_matches('/'), i.id));
    [("Incident", incident), ("Runbook", annotation("runbook_url")), ("Dashboard", annotation("dashboard_url"))]
        .into_iter()
        .filter_map(|(name, url)| Some((name, url?)))
        .collect()
}

/// A plain web address and nothing around it.
fn is_link(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    text.len() <= 2000
        && rest.is_some_and(|rest| !rest.is_empty())
        && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '<' | '>' | '"' | '\'' | '|' | '\\' | '`'))
}

impl Text {
    /// One line: what, where, and how it stands.
    pub fn headline(&self) -> String {
        format!("{}: {}", self.subject, self.state)
    }

    /// As plain text, whole.
    pub fn plain(&self) -> String {
        let mut out = format!("{}\n\n{}\n", self.headline(), self.what);
        for (name, value) in &self.facts {
            out.push_str(&format!("\n{name}: {value}"));
        }
        out.push_str("\n\nTried:\n");
        if self.tried.is_empty() {
            out.push_str("  nothing\n");
        }
        for line in &self.tried {
            out.push_str(&format!("  {line}\n"));
        }
        if !self.found.is_empty() {
            out.push_str("\nFound:\n");
            for line in &self.found {
                out.push_str(&format!("  {line}\n"));
            }
        }
        if !self.why.is_empty() {
            out.push_str(&format!("\nWhy: {}\n", self.why));
        }
        out.push_str(&format!("\nNext: {}\n", self.next));
        for (name, url) in &self.links {
            out.push_str(&format!("\n{name}: {url}"));
        }
        out.push('\n');
        out
    }
}

/// One line about several incidents.
pub fn headline(texts: &[Text]) -> String {
    match texts {
        [] => String::new(),
        [one] => one.headline(),
        many => {
            let open = many.iter().filter(|t| t.tone != Tone::Good).count();
            let first = &many[0].subject;
            match open {
                0 => format!("{} incidents, all over: {first} and others", many.len()),
                open => format!("{open} of {} incidents need people: {first} and others", many.len()),
            }
        }
    }
}

/// The subject of a thread about several incidents; it never changes.
pub fn subject(texts: &[Text]) -> String {
    match texts {
        [] => String::new(),
        [one] => one.subject.clone(),
        many => format!("{} and {} more", many[0].subject, many.len() - 1),
    }
}

/// Text from outside on several lines at most: cut, and without what a terminal
/// or a reader's eye could be deceived by.
fn words(text: &str, max: usize) -> String {
    let mut out: String = text
        .trim()
        .chars()
        .map(|c| if c == '\t' || c == '\r' { ' ' } else { c })
        .filter(|c| {
            (!c.is_control() || *c == '\n')
                && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        })
        .take(max + 1)
        .collect();
    if out.chars().count() > max {
        out.pop();
        out.push('…');
    }
    out
}

/// The same on one line, for values.
fn word(text: &str) -> String {
    words(&text.replace('\n', " "), MAX_VALUE)
}

fn clock(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(11..19).map_or_else(|| text.clone(), |time| format!("{time} UTC"))
}

fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..19)) {
        (Some(day), Some(time)) => format!("{day} {time} UTC"),
        _ => text,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::policy::Receiver;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(1_782_900_000_000).plus(Duration::from_secs(secs))
    }

    /// An incident that burns; `change` says how it stands.
    pub(in crate::notify) fn incident(change: impl FnOnce(&mut Value)) -> Incident {
        let mut doc = json!({
            "id": "0123456789abcdef",
            "alert": {
                "status": "firing",
                "fingerprint": "f",
                "starts_at": at(0),
                "labels": {
                    "alertname": "HighErrorRate", "severity": "critical", "service": "transaction-api",
                    "team": "payments", "instance": "transaction-api:9464",
                },
                "annotations": {
                    "summary": "transaction-api answers 31% of requests with a server error",
                    "description": "More than 10 % of the requests failed over 1m.",
                    "runbook_url": "http://localhost:3000/runbooks/HighErrorRate.md",
                    "dashboard_url": "http://localhost:3000/grafana/d/transaction-api",
                },
                "generator_url": null,
            },
            "starts_at": at(0), "manual": false, "opened_at": at(5), "updated_at": at(5), "last_seen": at(5),
            "missing_since": null, "alert_active": true, "suppressed": null, "rule": null, "policy": "p",
            "phase": "escalated", "step": 0, "next_at": null,
            "target": {"id": "c0ffee", "name": "selfheal-transaction-api-1", "service": "transaction-api"},
            "decision": null, "action": null, "verification": null, "verdict": "not_healed",
            "escalated_at": at(160), "outcome": null, "closed_at": null, "trace": null,
        });
        change(&mut doc);
        serde_json::from_value(doc).unwrap()
    }

    fn entry(secs: u64, kind: &str, text: &str, data: Value) -> Entry {
        Entry {
            seq: 1,
            at: at(secs),
            incident: None,
            kind: kind.to_owned(),
            reason: None,
            alertname: String::new(),
            target: None,
            text: text.to_owned(),
            data,
            hash: String::new(),
        }
    }

    pub(in crate::notify) fn timeline() -> Vec<Entry> {
        let findings = json!({"findings": [
            {"what": "sessions waiting for a lock", "value": 14, "unit": "sessions", "detail": "oldest 212 s"},
            {"what": "idle in transaction", "value": 1, "unit": "session", "detail": null},
        ]});
        vec![
            entry(5, "opened", "HighErrorRate is firing", json!({})),
            entry(6, "decision", "restart selfheal-transaction-api-1", json!({})),
            entry(6, "intent", "restart selfheal-transaction-api-1 (rule high-error-rate, step 1)", json!({})),
            entry(
                8,
                "result",
                "restart selfheal-transaction-api-1: done; the backend reports that it was done",
                json!({}),
            ),
            entry(10, "probe", "the SLI is 0.31, it must be below 0.1", json!({})),
            entry(158, "verdict", "not_healed: the SLI is 0.31, it must be below 0.1", json!({})),
            entry(159, "evidence", "what the database waits for", findings),
            entry(160, "escalated", "not_healed: the SLI is 0.31, it must be below 0.1", json!({})),
        ]
    }

    pub(in crate::notify) fn text(incident: Incident, next: Option<&NextLevel>) -> Text {
        let also = vec!["HighLatency".to_owned()];
        compose(&Story { incident, timeline: timeline(), also, why: None }, next, "http://localhost:5000/")
    }

    #[test]
    fn what_where_tried_and_next() {
        let next = NextLevel { at: at(460), to: vec![Receiver::Email, Receiver::Webhook] };
        insta::assert_snapshot!("needs_people", text(incident(|_| {}), Some(&next)).plain());
    }

    #[test]
    fn a_restored_service_is_told_with_its_outcome() {
        let healed = incident(|doc| {
            doc["phase"] = json!("closed");
            doc["outcome"] = json!("not_healed");
            doc["closed_at"] = json!(at(900));
        });
        insta::assert_snapshot!("over", text(healed, None).plain());
    }

    #[test]
    fn how_it_stands_in_one_line() {
        let decision = |reason: &str| json!({"reason": reason, "text": "because", "at": at(6), "step": 0});
        let states: Vec<_> = [
            incident(|_| {}),
            incident(|d| d["taken_over"] = json!("ana\u{202e}\n<b>")),
            incident(|d| {
                d["phase"] = json!("waiting");
                d["decision"] = decision("awaiting_approval");
            }),
            incident(|d| {
                d["phase"] = json!("acting");
                d["decision"] = decision("hold");
            }),
            incident(|d| d["phase"] = json!("verifying")),
            incident(|d| {
                d["phase"] = json!("closed");
                d["outcome"] = json!("healed");
            }),
        ]
        .map(|i| text(i, None))
        .iter()
        .map(|t| format!("{:?}: {} | {}", t.tone, t.state, t.next))
        .collect();
        insta::assert_snapshot!("states", states.join("\n"));
    }

    #[test]
    fn text_from_outside_is_cut_and_cannot_deceive() {
        let hostile = incident(|doc| {
            doc["alert"]["labels"]["alertname"] = json!("A\u{1b}[31m\u{202e}\n\u{200b}B".repeat(100));
            doc["alert"]["annotations"]["summary"] = json!("x".repeat(10_000));
            doc["alert"]["annotations"]["runbook_url"] = json!("javascript:alert(1)");
            doc["alert"]["annotations"]["dashboard_url"] = json!("http://x/\"><script>");
        });
        let text = text(hostile, None);
        assert!(text.subject.chars().count() < 300 && !text.subject.contains(['\u{1b}', '\u{202e}', '\n', '\u{200b}']));
        assert!(text.what.chars().count() < 1300, "{}", text.what.len());
        assert_eq!(text.links.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["Incident"]);
    }

    #[test]
    fn the_same_state_says_the_same_and_a_new_attempt_does_not() {
        let one = text(incident(|_| {}), None);
        let later = text(incident(|d| d["updated_at"] = json!(at(400))), None);
        assert_eq!(one.said, later.said);
        let mut more = timeline();
        more.push(entry(300, "intent", "stop_start x", json!({})));
        let story = Story { incident: incident(|_| {}), timeline: more, also: Vec::new(), why: None };
        assert_ne!(compose(&story, None, "").said, one.said);
    }
}
