//! Alerts come, repeat, end, get silenced, and vanish.

use std::time::Duration;

use serde_json::json;

use super::{
    event::{Effect, NoteKind, Snapshot, Source},
    model::{Alert, AlertKey, Incident, Outcome, Phase, Status, Suppression, Trace},
    turn::Turn,
};
use crate::{policy::Plan, timestamp::Timestamp};

/// An alert that Alertmanager has not listed for this long is over. Longer than
/// one list: Alertmanager starts empty and is refilled by Prometheus.
const GONE_AFTER: Duration = Duration::from_secs(55);

impl Turn<'_> {
    pub(super) fn on_alert(&mut self, alert: Alert, source: Source, received_at: Timestamp, trace: Option<Trace>) {
        let open = self.state.newest(&alert.fingerprint).cloned();
        match alert.status {
            Status::Firing => self.on_firing(alert, source, received_at, trace, open),
            Status::Resolved => self.on_ended(&alert, open),
        }
    }

    fn on_firing(
        &mut self,
        alert: Alert,
        source: Source,
        received_at: Timestamp,
        trace: Option<Trace>,
        open: Option<Incident>,
    ) {
        if let Some(open) = open {
            match alert.starts_at {
                // A repeat by hand is about what is open; an older occurrence is old news.
                None => return self.heard_again(open),
                Some(at) if at <= open.starts_at => {
                    if at == open.starts_at {
                        self.heard_again(open);
                    }
                    return;
                }
                // The end of the earlier occurrence was missed.
                Some(_) => self.end(open, "the alert fires anew: the earlier occurrence is over"),
            }
        }
        let manual = alert.starts_at.is_none();
        let starts_at = alert.starts_at.unwrap_or(received_at);
        let key = AlertKey { fingerprint: alert.fingerprint.clone(), starts_at };
        let ended = self.state.ended.get(&key);
        if ended.is_some_and(|e| !e.may_reopen) {
            return;
        }
        let rule = self.state.policy.rule_for(&alert.labels).cloned();
        if matches!(rule.as_ref().map(|r| &r.plan), Some(Plan::Ignore(_))) {
            return;
        }
        let incident = Incident {
            id: key.incident_id(),
            starts_at,
            manual,
            opened_at: self.now,
            updated_at: self.now,
            last_seen: self.now,
            missing_since: None,
            alert_active: true,
            suppressed: None,
            rule,
            policy: self.state.policy.digest.clone(),
            phase: Phase::Waiting,
            step: 0,
            next_at: None,
            target: None,
            cause: None,
            round: 0,
            approved: None,
            taken_over: None,
            decision: None,
            action: None,
            verification: None,
            verdict: None,
            escalated_at: None,
            outcome: None,
            closed_at: None,
            trace,
            alert,
        };
        let kind = match (ended, source) {
            (Some(_), _) => NoteKind::Reopened,
            (None, Source::Webhook) => NoteKind::Opened,
            (None, Source::Reconcile) => NoteKind::Adopted,
        };
        let text = format!("{} is firing since {starts_at}", incident.alert.name());
        let data = json!({
            "labels": incident.alert.labels,
            "rule": incident.rule.as_ref().map(|r| &r.name),
            "policy": incident.policy,
            "manual": manual,
        });
        self.note(&incident, kind, None, text, data);
        self.put(incident.clone());
        self.brake(&incident);
        self.evaluate(incident);
    }

    fn heard_again(&mut self, mut incident: Incident) {
        let news = incident.manual || incident.missing_since.is_some() || !incident.alert_active;
        incident.last_seen = self.now;
        if !news {
            return self.push(Effect::Heard(incident.id, self.now));
        }
        incident.missing_since = None;
        incident.alert_active = true;
        self.put(incident);
    }

    fn on_ended(&mut self, alert: &Alert, open: Option<Incident>) {
        match (open, alert.starts_at) {
            // An older occurrence has ended: that says nothing about the open one.
            (Some(open), Some(at)) if at < open.starts_at => {
                self.remember_end(AlertKey { fingerprint: alert.fingerprint.clone(), starts_at: at });
            }
            (Some(open), _) => self.end(open, "the alert has ended"),
            // The end came before the beginning, which may still come.
            (None, Some(at)) => {
                self.remember_end(AlertKey { fingerprint: alert.fingerprint.clone(), starts_at: at });
            }
            (None, None) => {}
        }
    }

    fn remember_end(&mut self, key: AlertKey) {
        if !self.state.ended.contains_key(&key) {
            self.push(Effect::Ended(key, self.now));
        }
    }

    /// The alert is over. What is under way on its target is still seen through.
    fn end(&mut self, mut incident: Incident, why: &str) {
        let news = incident.alert_active;
        incident.alert_active = false;
        match incident.phase {
            Phase::Waiting | Phase::Escalated => match incident.verdict {
                Some(verdict) => self.close(incident, verdict.outcome(), why),
                None => match incident.cause.clone() {
                    Some(cause) => {
                        self.close(incident, Outcome::Covered, &format!("{why}, with its cause, incident {cause}"))
                    }
                    None => self.close(incident, Outcome::Resolved, why),
                },
            },
            Phase::Acting | Phase::Verifying if news => {
                self.note(&incident, NoteKind::AlertEnded, None, why, json!({}));
                self.put(incident);
            }
            Phase::Acting | Phase::Verifying | Phase::Closed => {}
        }
    }

    /// What Alertmanager lists, against what is open. Missed alerts are adopted
    /// through [`super::Event::Alert`], which the driver sends for each.
    pub(super) fn on_snapshot(&mut self, snapshot: &Snapshot) {
        let state = self.state;
        for incident in state.open.values().filter(|i| !i.manual) {
            match snapshot.alerts.get(&incident.alert.fingerprint) {
                None => self.missing(incident.clone(), snapshot.asked_at),
                Some(status) => self.listed(incident.clone(), status.suppressed.clone()),
            }
        }
    }

    fn missing(&mut self, mut incident: Incident, asked_at: Option<Timestamp>) {
        if asked_at.is_none_or(|asked| incident.last_seen >= asked) || !incident.alert_active {
            return;
        }
        match incident.missing_since {
            None => {
                incident.missing_since = Some(self.now);
                self.put(incident);
            }
            Some(since) if self.now.since(since) >= GONE_AFTER => {
                self.end(incident, "Alertmanager does not know the alert any more");
            }
            Some(_) => {}
        }
    }

    fn listed(&mut self, mut incident: Incident, suppressed: Option<Suppression>) {
        if incident.missing_since.is_none() && incident.suppressed == suppressed {
            return;
        }
        incident.missing_since = None;
        if self.silence(&mut incident, suppressed) {
            return;
        }
        self.put(incident.clone());
        self.evaluate(incident);
    }

    /// Takes over what Alertmanager says; a silenced incident on which nothing is
    /// under way is closed, because its end will never be sent.
    pub(super) fn silence(&mut self, incident: &mut Incident, suppressed: Option<Suppression>) -> bool {
        let silenced = matches!(suppressed, Some(Suppression::Silenced(_)));
        incident.suppressed = suppressed;
        if silenced && matches!(incident.phase, Phase::Waiting | Phase::Escalated) {
            let outcome = incident.verdict.map_or(Outcome::Silenced, |v| v.outcome());
            self.close(incident.clone(), outcome, "the alert was silenced in Alertmanager");
            return true;
        }
        false
    }
}
