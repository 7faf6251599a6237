//! The proof: container, alert and SLI, good for long enough, or not.

use serde_json::json;

use super::{
    event::{Ask, Command, Effect, NoteKind, Probe, Sli, Tri},
    model::{Health, Incident, Judgement, Outcome, Phase, RunState, Verdict, Verification},
    turn::Turn,
};
use crate::{policy::Verify, timestamp::Timestamp};

/// At least so many looks in a row must be good, however much time the clock claims.
const GOOD_LOOKS: u32 = 3;

/// What one look means.
///
/// Bad outweighs unknown, unknown outweighs good: what could not be measured is
/// never good, and an empty or stale answer is not a measurement.
pub fn judge(probe: &Probe, verify: &Verify, since: Timestamp, now: Timestamp) -> Judgement {
    let findings = [container(probe), alert(probe), sli(probe, verify, since, now)];
    let mut worst = Judgement::Good;
    for finding in findings {
        match (&worst, &finding) {
            (_, Judgement::Bad(_)) => return finding,
            (Judgement::Good, Judgement::Unknown(_)) => worst = finding,
            _ => {}
        }
    }
    worst
}

fn container(probe: &Probe) -> Judgement {
    match &probe.container {
        Err(why) => Judgement::Unknown(format!("the container cannot be inspected: {why}")),
        Ok(None) => Judgement::Bad("the container is gone".to_owned()),
        Ok(Some(w)) => match (w.state, w.health) {
            (RunState::Running, None | Some(Health::Healthy)) => Judgement::Good,
            (RunState::Running, Some(Health::Starting)) => {
                Judgement::Bad("its health check has not passed yet".to_owned())
            }
            (RunState::Running, Some(Health::Unhealthy)) => Judgement::Bad("its health check fails".to_owned()),
            _ => Judgement::Bad("the container does not run".to_owned()),
        },
    }
}

fn alert(probe: &Probe) -> Judgement {
    match &probe.firing {
        Tri::No => Judgement::Good,
        Tri::Yes => Judgement::Bad("the alert still fires".to_owned()),
        Tri::Unknown(why) => Judgement::Unknown(format!("whether the alert fires is not known: {why}")),
    }
}

fn sli(probe: &Probe, verify: &Verify, since: Timestamp, now: Timestamp) -> Judgement {
    match &probe.sli {
        Sli::Unavailable(why) => Judgement::Unknown(format!("the SLI cannot be measured: {why}")),
        Sli::Empty(what) => Judgement::Unknown(format!("the SLI has no data: {what}")),
        Sli::Silent(what) => Judgement::Bad(format!("the target does not report: {what}")),
        Sli::Value { value, good, age_ms } => {
            let age = std::time::Duration::from_millis(*age_ms);
            if age > verify.max_age.get() {
                Judgement::Unknown(format!("the newest sample is {:.0} s old", age.as_secs_f64()))
            } else if age > now.since(since) {
                Judgement::Unknown("no sample since the action yet".to_owned())
            } else if *good {
                Judgement::Good
            } else {
                Judgement::Bad(format!("the SLI is {value}, it must be {}", verify.good))
            }
        }
    }
}

impl Turn<'_> {
    pub(super) fn on_probed(&mut self, id: &str, probe: Probe) {
        self.push(Effect::Answered(Ask::Probe(id.to_owned())));
        let Some(mut incident) = self.state.open.get(id).cloned() else { return };
        let (Phase::Verifying, Some(mut v)) = (incident.phase, incident.verification.take()) else { return };
        let Some(verify) = incident.rule.as_ref().and_then(|r| r.heal()).map(|h| h.verify.clone()) else { return };
        let judgement = judge(&probe, &verify, v.since, self.now);
        self.keep_score(&mut v, &probe, &judgement);
        let news = v.judgement.as_ref().map(std::mem::discriminant) != Some(std::mem::discriminant(&judgement));
        v.next_at = self.now.plus(verify.every.get());
        v.last = Some(probe);
        v.judgement = Some(judgement.clone());
        let evidence = json!({ "judgement": judgement, "probe": v.last, "good_since": v.good_since });
        let long_enough = v.good_since.is_some_and(|since| self.now.since(since) >= verify.stable_for.get());
        let stable = long_enough && v.good_looks >= GOOD_LOOKS;
        let (good, late) = (v.good_since.is_some(), self.now >= v.deadline);
        incident.verification = Some(v);
        if news {
            let text = match &judgement {
                Judgement::Good => "container, alert and SLI are good".to_owned(),
                Judgement::Bad(why) | Judgement::Unknown(why) => why.clone(),
            };
            self.note(&incident, NoteKind::Probe, None, text, evidence.clone());
        }
        match (judgement, late) {
            _ if stable => {
                let text = format!("everything was good for {}", verify.stable_for);
                self.conclude(incident, Verdict::Healed, text, evidence);
            }
            // Good just now, not yet for long enough: see it through. It ends with
            // the first look that is not good.
            (Judgement::Good, _) if good => self.put(incident),
            (_, false) => self.put(incident),
            (Judgement::Bad(why), true) => self.conclude(incident, Verdict::NotHealed, why, evidence),
            (Judgement::Unknown(why), true) => self.conclude(incident, Verdict::Unverified, why, evidence),
            (Judgement::Good, true) => self.put(incident),
        }
    }

    /// Whoever was not there cannot say that it was good all the time.
    pub(super) fn begin_proof_anew(&mut self) {
        let state = self.state;
        for incident in state.open.values().filter(|i| i.phase == Phase::Verifying) {
            let mut incident = incident.clone();
            if let Some(v) = &mut incident.verification
                && v.good_since.is_some()
            {
                v.good_since = None;
                v.good_looks = 0;
                self.put(incident);
            }
        }
    }

    fn keep_score(&self, v: &mut Verification, probe: &Probe, judgement: &Judgement) {
        let started = probe.container.as_ref().ok().and_then(|c| c.as_ref()).and_then(|w| w.started_at);
        if *judgement != Judgement::Good {
            v.good_since = None;
            v.good_looks = 0;
        } else if v.good_since.is_none() || v.started_at != started {
            // Started again meanwhile: the good time before it was another process's.
            v.good_since = Some(self.now);
            v.good_looks = 1;
        } else {
            v.good_looks = v.good_looks.saturating_add(1);
        }
        v.started_at = started.or(v.started_at);
    }

    fn conclude(&mut self, mut incident: Incident, verdict: Verdict, why: String, evidence: serde_json::Value) {
        incident.verdict = Some(verdict);
        self.note(&incident, NoteKind::Verdict, None, format!("{verdict}: {why}"), evidence);
        self.push(Effect::Do(Command::Curve { incident: Box::new(incident.clone()) }));
        let steps = incident.rule.as_ref().and_then(|r| r.heal()).map_or(0, |h| h.steps.len());
        match verdict {
            Verdict::Healed => {
                let target = incident.target.as_ref().map(|t| t.name.clone());
                let id = incident.id.clone();
                self.close(incident, Outcome::Healed, "repaired, and proven");
                self.cover(target.as_deref(), &id);
            }
            // Blind, no further step is taken.
            Verdict::NotHealed if incident.alert_active && incident.step + 1 < steps => {
                incident.step += 1;
                incident.phase = Phase::Waiting;
                incident.next_at = Some(self.now);
                incident.action = None;
                let text = format!("step {} did not heal; trying step {}", incident.step, incident.step + 1);
                self.note(&incident, NoteKind::NextStep, None, text, json!({ "step": incident.step }));
                self.put(incident);
            }
            Verdict::NotHealed | Verdict::Unverified => {
                let text = format!("{verdict}: {why}");
                self.escalate(incident, &text);
            }
        }
    }

    /// Manual alerts that waited for the same target have nobody who would end them.
    fn cover(&mut self, target: Option<&str>, healed: &str) {
        let state = self.state;
        for other in state.open.values() {
            let same = other.target.as_ref().map(|t| t.name.as_str()) == target && target.is_some();
            if other.id != healed && other.manual && other.phase == Phase::Waiting && same {
                self.close(other.clone(), Outcome::Covered, &format!("the target was healed under {healed}"));
            }
        }
    }
}
