//! Writes a journal with a history such as a busy day leaves behind: for looking at the console.
//!
//! `cargo run -p alert-bot --example seed_journal -- JOURNAL POLICY`

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use alert_bot::{
    engine::{Action, Effect, Incident, Note, NoteKind, Reason},
    journal::Journal,
    policy::Policy,
    timestamp::Timestamp,
};
use anyhow::Context;
use serde_json::{Value, json};

const MINUTE: u64 = 60;

/// One incident in the making.
struct Story {
    policy: Arc<Policy>,
    id: String,
    alert: &'static str,
    service: &'static str,
    summary: &'static str,
    severity: &'static str,
    start: Timestamp,
    at: Timestamp,
    target: Option<String>,
    actions: usize,
    effects: Vec<Effect>,
}

impl Story {
    fn new(
        policy: &Arc<Policy>,
        minutes_ago: u64,
        alert: &'static str,
        service: &'static str,
        severity: &'static str,
        summary: &'static str,
    ) -> Self {
        let start = Timestamp::now().minus(Duration::from_secs(minutes_ago * MINUTE));
        let id = format!("{:016x}", u64::try_from(start.millis()).unwrap_or(0).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut story = Self {
            policy: policy.clone(),
            id,
            alert,
            service,
            summary,
            severity,
            start,
            at: start,
            target: None,
            actions: 0,
            effects: Vec::new(),
        };
        story.after(5).note(NoteKind::Opened, None, "the alert fires", json!({}));
        story
    }

    /// Time passes.
    fn after(&mut self, seconds: u64) -> &mut Self {
        self.at = self.at.plus(Duration::from_secs(seconds));
        self
    }

    fn note(&mut self, kind: NoteKind, reason: Option<Reason>, text: &str, data: Value) -> &mut Self {
        self.effects.push(Effect::Note(Box::new(Note {
            at: self.at,
            incident: Some(self.id.clone()),
            kind,
            reason,
            alert: self.alert.to_owned(),
            target: self.target.clone(),
            text: text.to_owned(),
            data,
        })));
        self
    }

    fn refuse(&mut self, reason: Reason, text: &str) -> &mut Self {
        self.note(NoteKind::Decision, Some(reason), text, json!({ "step": 0 }))
    }

    /// Intent, last words, result.
    fn act(&mut self, verb: &str, logs: &[&str]) -> anyhow::Result<&mut Self> {
        let name = format!("selfheal-{}-1", self.service);
        self.target = Some(name.clone());
        self.actions += 1;
        let id = format!("{}-{}-1", self.id, self.actions - 1);
        let rule = self.rule();
        let text = format!("{verb} {name} (rule {rule}, step {})", self.actions);
        self.note(NoteKind::Decision, None, &text, json!({}));
        self.note(NoteKind::Intent, None, &text, json!({ "action": id, "verb": verb, "attempt": 1 }));
        let intended = self.at;
        self.after(1).note(NoteKind::Evidence, None, &format!("seen before {verb} of {name}"), json!({ "logs": logs }));
        self.after(3);
        let action: Action = serde_json::from_value(json!({
            "id": id, "incident": self.id, "key": { "fingerprint": self.id, "starts_at": self.start }, "rule": rule,
            "step": self.actions - 1, "attempt": 1, "verb": verb, "timeout_ms": 30_000, "stop_timeout_ms": 10_000,
            "target": { "id": "4f1c0ffee", "name": name, "service": self.service },
            "started_before": self.start.minus(Duration::from_secs(86_400)), "intended_at": intended,
            "unknown_since": null, "next_inspect": null, "finished_at": self.at, "status": "done", "error": null,
        }))?;
        self.effects.push(Effect::PutAction(Box::new(action)));
        let text = format!("{verb} {name}: done; the backend reports that it was done");
        Ok(self.note(NoteKind::Result, None, &text, json!({ "action": id, "status": "done" })))
    }

    /// The indicator, bad until `good_after` seconds from the beginning.
    fn curve(&mut self, query: &str, bad: f64, good: f64, good_after: i64) -> &mut Self {
        let start = self.start.millis() / 1000;
        let end = self.at.millis() / 1000;
        let mut value = good;
        let points: Vec<_> = (start - 180..=end)
            .step_by(5)
            .map(|t| {
                let aim = if (start - 25..start + good_after).contains(&t) { bad } else { good };
                // A little noise from the time itself: the same at every run would look drawn.
                let noise = 1.0 + f64::from(i32::try_from((t * 7919) % 21).unwrap_or(0) - 10) / 70.0;
                value += (aim - value) * 0.5;
                json!([t, value * noise])
            })
            .collect();
        let data = json!({ "sli": { "query": query, "points": points } });
        self.note(NoteKind::Evidence, None, "the indicator from before the alert until the verdict", data)
    }

    fn rule(&self) -> String {
        let labels = BTreeMap::from([("alertname".to_owned(), self.alert.to_owned())]);
        self.policy.rule_for(&labels).map_or_else(String::new, |r| r.name.clone())
    }

    fn close(mut self, outcome: &str, verdict: Option<&str>, cause: Option<&str>, why: &str) -> anyhow::Result<Self> {
        let mut labels = BTreeMap::from([
            ("alertname".to_owned(), self.alert.to_owned()),
            ("severity".to_owned(), self.severity.to_owned()),
            ("team".to_owned(), "platform".to_owned()),
        ]);
        if !self.service.is_empty() {
            labels.insert("service".to_owned(), self.service.to_owned());
        }
        let rule = self.policy.rule_for(&labels).cloned();
        let last = self.effects.iter().rev().find_map(|e| match e {
            Effect::Note(n) if n.kind == NoteKind::Decision => Some((n.reason, n.text.clone(), n.at)),
            _ => None,
        });
        self.note(NoteKind::Closed, None, why, json!({ "outcome": outcome, "starts_at": self.start }));
        let incident: Incident = serde_json::from_value(json!({
            "id": self.id,
            "alert": {
                "status": "firing", "fingerprint": self.id, "starts_at": self.start, "labels": labels,
                "annotations": { "summary": self.summary, "runbook_url": format!("docs/runbooks/{}.md", self.alert) },
                "generator_url": "http://localhost:9090/graph",
            },
            "starts_at": self.start, "manual": false, "opened_at": self.start.plus(Duration::from_secs(5)),
            "updated_at": self.at, "last_seen": self.at, "missing_since": null, "alert_active": false,
            "suppressed": null, "rule": rule, "policy": self.policy.digest, "phase": "closed",
            "step": self.actions.saturating_sub(1), "next_at": null,
            "target": self.target.as_ref().map(|name| json!({ "id": "4f1c0ffee", "name": name, "service": self.service })),
            "decision": last.map(|(reason, text, at)| json!({ "reason": reason, "text": text, "at": at, "step": 0 })),
            "action": null, "verification": null, "verdict": verdict, "escalated_at": null, "outcome": outcome,
            "closed_at": self.at, "cause": cause,
            "trace": { "trace_id": format!("{}{}", self.id, self.id), "traceparent": "" },
        }))?;
        self.effects.push(Effect::Put(Box::new(incident)));
        Ok(self)
    }
}

fn stories(policy: &Arc<Policy>) -> anyhow::Result<Vec<Story>> {
    let new = |ago, alert, service, severity, summary| Story::new(policy, ago, alert, service, severity, summary);
    let mut all = Vec::new();

    let mut s =
        new(2_900, "AccuracyLow", "drift-inference", "warning", "The model is right less often than it should be.");
    s.after(1).refuse(
        Reason::LeftToPeople,
        "the service works, its model does not fit the data any more; that needs retraining",
    );
    s.after(5_400);
    all.push(s.close("resolved", None, None, "the alert has ended")?);

    let mut s = new(1_700, "ServiceDown", "payment-api", "critical", "payment-api is down.");
    s.after(1)
        .act("start", &["2026-07-01T03:12:44Z INFO listening", "2026-07-01T03:19:02Z ERROR killed by a person"])?;
    s.after(44).curve("container_up{service=\"payment-api\"}", 0.0, 1.0, 22);
    s.note(NoteKind::Verdict, None, "healed: everything was good for 20s", json!({}));
    all.push(s.close("healed", Some("healed"), None, "repaired, and proven")?);

    let mut s = new(1_200, "HighLatency", "inventory-api", "warning", "Requests take 0.9 s on average.");
    s.after(2).act(
        "restart",
        &[
            "WARN pool timed out while waiting for an open connection",
            "WARN pool timed out while waiting for an open connection",
        ],
    )?;
    s.after(60).note(NoteKind::Evidence, None, "what the database waits for", json!({ "findings": [
        { "what": "Waits for a lock", "value": 187.4, "unit": "s", "detail": "pid 4711: UPDATE stock SET reserved = reserved + 1" },
        { "what": "Idle in transaction", "value": 1, "unit": "session", "detail": "pid 4702 of inventory-api holds 3 locks since 03:02:11" },
        { "what": "Slowest statement", "value": 2.31, "unit": "s mean", "detail": "SELECT * FROM stock WHERE sku = $1 FOR UPDATE" },
    ] }));
    s.after(90).curve("service:http_latency_mean:seconds{service=\"inventory-api\"}", 0.9, 0.05, 600);
    s.note(NoteKind::Verdict, None, "not_healed: the SLI is 0.91, it must be below 0.2", json!({}));
    s.note(
        NoteKind::Escalated,
        None,
        "not_healed: the SLI is 0.91, it must be below 0.2",
        json!({ "about": "selfheal-inventory-api-1" }),
    );
    s.after(1_800).note(
        NoteKind::Operator,
        None,
        "take_over by Mira Roth: terminating pid 4702",
        json!({ "command": "take_over", "by": "Mira Roth" }),
    );
    s.after(400);
    all.push(s.close("not_healed", Some("not_healed"), None, "the alert has ended")?);

    let mut s = new(700, "PostgresDown", "postgres", "critical", "PostgreSQL does not answer.");
    s.after(10).act("start", &["LOG:  received immediate shutdown request", "LOG:  database system is shut down"])?;
    s.after(50).curve("pg_up", 0.0, 1.0, 30);
    s.note(NoteKind::Verdict, None, "healed: everything was good for 20s", json!({}));
    let cause = s.id.clone();
    all.push(s.close("healed", Some("healed"), None, "repaired, and proven")?);

    let mut s = new(699, "HighErrorRate", "transaction-api", "critical", "71 % of requests fail.");
    s.after(1).refuse(Reason::CauseElsewhere, "postgres burns, and transaction-api depends on it");
    s.after(70);
    all.push(s.close("covered", None, Some(&cause), "its cause was healed")?);

    let mut s = new(430, "ContainerUnhealthy", "notification-worker", "warning", "The health check fails.");
    s.after(20).act(
        "restart",
        &["INFO consumed order.paid", "ERROR channel closed by the broker", "ERROR channel closed by the broker"],
    )?;
    s.after(140).note(NoteKind::Verdict, None, "unverified: the SLI cannot be measured: no answer in time", json!({}));
    s.note(NoteKind::Escalated, None, "unverified: the SLI cannot be measured: no answer in time", json!({}));
    s.after(120);
    all.push(s.close("unverified", Some("unverified"), None, "the alert has ended meanwhile")?);

    let mut s = new(240, "MachineOverheating", "", "warning", "press-07 runs at 92 °C.");
    s.after(1)
        .refuse(Reason::LeftToPeople, "a machine of the plant is in trouble, not a container; somebody must go there");
    s.after(900).note(
        NoteKind::Operator,
        None,
        "close by Jonas Adler: coolant refilled",
        json!({ "command": "close", "by": "Jonas Adler" }),
    );
    all.push(s.close("closed_by_operator", None, None, "closed by Jonas Adler")?);

    let mut s = new(35, "HighErrorRate", "transaction-api", "critical", "38 % of requests fail for two minutes.");
    s.after(1).refuse(Reason::TooYoung, "started 12 s ago; the rule waits for 30 s");
    s.after(18).act(
        "restart",
        &[
            "2026-07-01T11:02:40.114Z INFO  POST /transactions 201 in 4 ms",
            "2026-07-01T11:02:41.377Z ERROR connection pool is poisoned: 16 of 16 connections unusable",
            "2026-07-01T11:02:41.378Z ERROR POST /transactions 500 in 1 ms trace_id=6f2a9c41d07be3558a14c0de9b7f2231",
            "2026-07-01T11:02:41.952Z ERROR POST /transactions 500 in 1 ms trace_id=1c9be0734da84c0f8d2f3b6a5e907712",
            "2026-07-01T11:02:42.003Z WARN  cache: serving the list from memory, 14 s old",
        ],
    )?;
    s.after(2).note(
        NoteKind::Probe,
        None,
        "its health check has not passed yet",
        json!({ "judgement": { "is": "bad", "because": "its health check has not passed yet" } }),
    );
    s.after(24).note(
        NoteKind::Probe,
        None,
        "container, alert and SLI are good",
        json!({ "judgement": { "is": "good" } }),
    );
    s.after(22).curve("service:http_errors:ratio{service=\"transaction-api\"}", 0.38, 0.004, 40);
    s.note(
        NoteKind::Verdict,
        None,
        "healed: everything was good for 20s",
        json!({ "good_since": s.at.minus(Duration::from_secs(22)) }),
    );
    all.push(s.close("healed", Some("healed"), None, "repaired, and proven")?);
    Ok(all)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, journal, policy] = args.as_slice() else { anyhow::bail!("seed_journal JOURNAL POLICY") };
    let policy = std::fs::read_to_string(policy).context("the policy")?;
    let policy = Policy::parse(&policy).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    let stories = stories(&Arc::new(policy))?;
    let journal = Journal::open(Path::new(journal)).await?;
    for story in stories {
        let at = story.at;
        journal.commit(Arc::new(story.effects), Vec::new(), at).await?;
    }
    Ok(())
}
