//! What the API shows.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    engine::{
        Action, Freeze, GlobalBudget, Incident, Judgement, LeaseView, Overview, Phase, Reason, Release, TargetView,
    },
    journal::{audit::Report, read::Entry},
    timestamp::Timestamp,
};

/// One incident in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct IncidentSummary {
    /// Its id.
    pub id: String,
    /// The alert's name.
    pub alertname: String,
    /// The alert's severity label.
    pub severity: Option<String>,
    /// What the alert says for people.
    pub summary: Option<String>,
    /// The service that is meant.
    pub service: Option<String>,
    /// The container, once it was looked up.
    pub target: Option<String>,
    /// waiting, acting, verifying, escalated, closed.
    pub state: &'static str,
    /// How it ended: healed, not_healed, unverified, resolved, silenced, expired, covered, closed_by_operator.
    pub outcome: Option<&'static str>,
    /// What the last verification found.
    pub verdict: Option<&'static str>,
    /// The last decision: `act`, or the code of the reason why not.
    pub decision: Option<String>,
    /// That decision, for people.
    pub decision_text: Option<String>,
    /// The rule of the policy.
    pub rule: Option<String>,
    /// The step that is on, where the rule has any.
    pub step: Option<StepView>,
    /// What it waits for, for people; nothing once it is closed.
    pub waits_for: Option<String>,
    /// The incident that is its cause, where the bot takes another for it.
    pub cause: Option<CauseView>,
    /// Who has taken it over.
    pub taken_over: Option<String>,
    /// How often a person had it tried again.
    pub round: u32,
    /// When the alert began to burn.
    #[schema(value_type = String, format = DateTime)]
    pub starts_at: Timestamp,
    /// When the incident was opened.
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: Timestamp,
    /// When it was closed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub closed_at: Option<Timestamp>,
    /// When people were told.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub escalated_at: Option<Timestamp>,
    /// When the decision will be looked at again by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_at: Option<Timestamp>,
    /// Its trace.
    pub trace_id: Option<String>,
}

/// A step of a rule.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StepView {
    /// From 1.
    pub number: usize,
    /// How many the rule has.
    pub of: usize,
    /// What it does.
    pub action: &'static str,
}

/// The incident that another is a symptom of.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CauseView {
    /// Its id.
    pub incident: String,
    /// Its alert, once it was looked up.
    pub alertname: Option<String>,
    /// Its service.
    pub service: Option<String>,
    /// Its container, once that was looked up.
    pub target: Option<String>,
}

impl CauseView {
    /// With what is known of that incident.
    pub fn fill(&mut self, cause: &Incident) {
        self.alertname = Some(cause.alert.name().to_owned());
        self.service = cause.service();
        self.target = cause.target.as_ref().map(|t| t.name.clone());
    }
}

/// What an incident waits for, in a few words.
fn waits_for(i: &Incident) -> Option<String> {
    let target = i.target.as_ref().map_or("the container", |t| t.name.as_str());
    let decided = i.decision.as_ref();
    Some(match i.phase {
        Phase::Closed => return None,
        Phase::Acting => {
            let verb = i.current_step().map_or("the action", |s| s.action.as_str());
            format!("the result of {} on {target}", verb.replace('_', " "))
        }
        Phase::Verifying => match i.verification.as_ref().and_then(|v| v.judgement.as_ref()) {
            None => "the first look at container, alert and SLI".to_owned(),
            Some(Judgement::Good) => "everything to stay good for long enough".to_owned(),
            Some(Judgement::Bad(why) | Judgement::Unknown(why)) => format!("proof: {why}"),
        },
        Phase::Escalated => match &i.taken_over {
            Some(by) => format!("{by}, who has taken it over"),
            None => "people".to_owned(),
        },
        Phase::Waiting => match decided.map(|d| (d.reason, &d.text)) {
            None | Some((None, _)) => "a look at its container".to_owned(),
            Some((Some(Reason::AwaitingApproval), _)) => "approval".to_owned(),
            Some((Some(Reason::NoPolicy | Reason::LeftToPeople), _)) => "people".to_owned(),
            Some((Some(_), text)) if i.next_at.is_some() => format!("its time: {text}"),
            Some((Some(_), text)) => format!("a change: {text}"),
        },
    })
}

impl From<&Incident> for IncidentSummary {
    fn from(i: &Incident) -> Self {
        Self {
            id: i.id.clone(),
            alertname: i.alert.name().to_owned(),
            severity: i.alert.labels.get("severity").cloned(),
            summary: i.alert.annotations.get("summary").or_else(|| i.alert.annotations.get("description")).cloned(),
            service: i.service(),
            target: i.target.as_ref().map(|t| t.name.clone()),
            state: i.phase.as_str(),
            outcome: i.outcome.map(|o| o.as_str()),
            verdict: i.verdict.map(|v| v.as_str()),
            decision: i.decision.as_ref().map(|d| d.reason.map_or("act", Reason::as_str).to_owned()),
            decision_text: i.decision.as_ref().map(|d| d.text.clone()),
            rule: i.rule.as_ref().map(|r| r.name.clone()),
            step: i.current_step().map(|step| StepView {
                number: i.step + 1,
                of: i.rule.as_ref().and_then(|r| r.heal()).map_or(0, |h| h.steps.len()),
                action: step.action.as_str(),
            }),
            waits_for: waits_for(i),
            cause: i.cause.as_ref().map(|id| CauseView {
                incident: id.clone(),
                alertname: None,
                service: None,
                target: None,
            }),
            taken_over: i.taken_over.clone(),
            round: i.round,
            starts_at: i.starts_at,
            opened_at: i.opened_at,
            closed_at: i.closed_at,
            escalated_at: i.escalated_at,
            next_at: i.next_at,
            trace_id: i.trace.as_ref().map(|t| t.trace_id.clone()),
        }
    }
}

/// A page of incidents.
#[derive(Debug, Serialize, ToSchema)]
pub struct IncidentPage {
    /// Newest first.
    pub incidents: Vec<IncidentSummary>,
    /// For `?cursor=`, if there are more.
    pub next_cursor: Option<String>,
}

/// One action.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActionView {
    /// Its id.
    pub id: String,
    /// What was done: restart, start, stop_start, recreate, scale_out, scale_in, roll_back, ….
    pub verb: &'static str,
    /// The container.
    pub target: String,
    /// Which step of the rule, from 1.
    pub step: usize,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// intended, unknown, done, unanswered, not_performed.
    pub status: &'static str,
    /// The container's start before the action.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_before: Option<Timestamp>,
    /// When the intent was written.
    #[schema(value_type = String, format = DateTime)]
    pub intended_at: Timestamp,
    /// When the result was written.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// What went wrong.
    pub error: Option<String>,
}

impl From<&Action> for ActionView {
    fn from(a: &Action) -> Self {
        Self {
            id: a.id.clone(),
            verb: a.verb.as_str(),
            target: a.target.name.clone(),
            step: a.step + 1,
            attempt: a.attempt,
            status: a.status.as_str(),
            started_before: a.started_before,
            intended_at: a.intended_at,
            finished_at: a.finished_at,
            error: a.error.clone(),
        }
    }
}

/// A reason not to act.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReasonView {
    /// The code.
    pub code: &'static str,
    /// What it means.
    pub text: &'static str,
}

impl From<Reason> for ReasonView {
    fn from(reason: Reason) -> Self {
        Self { code: reason.as_str(), text: reason.explain() }
    }
}

/// One incident with everything that is known about it.
#[derive(Debug, Serialize, ToSchema)]
pub struct IncidentDetail {
    /// As in the list.
    #[serde(flatten)]
    pub summary: IncidentSummary,
    /// Why the bot did not act, if that is the last decision.
    pub refusal: Option<ReasonView>,
    /// The alert's labels.
    pub labels: BTreeMap<String, String>,
    /// The alert's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Where the alert came from.
    pub generator_url: Option<String>,
    /// The rule as it was when the incident was opened.
    #[schema(value_type = Object)]
    pub rule_in_force: Value,
    /// Digest of the policy at that time.
    pub policy: String,
    /// What an operator may order now: approve, reject, take-over, retry, close.
    pub possible: Vec<&'static str>,
    /// What the proof rests on: the last look at container, alert and SLI.
    #[schema(value_type = Object)]
    pub verification: Value,
    /// Every action, oldest first.
    pub actions: Vec<ActionView>,
    /// Everything that was decided, done and seen, oldest first.
    pub timeline: Vec<Entry>,
}

/// Decisions on an alert, and what the policy in force would say now.
#[derive(Debug, Serialize, ToSchema)]
pub struct Decisions {
    /// What the policy in force says of an alert of this name.
    #[schema(value_type = Object)]
    pub policy: Value,
    /// Newest first.
    pub decisions: Vec<Entry>,
    /// For `?before=`, if there are more.
    pub next_before: Option<i64>,
}

/// Lines of the record.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditPage {
    /// Newest first.
    pub entries: Vec<Entry>,
    /// For `?before=`, if there are more.
    pub next_before: Option<i64>,
    /// With `?verify`: the check of the whole chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

/// Whether anything may be done.
#[derive(Debug, Serialize, ToSchema)]
pub struct FreezeView {
    /// Nothing starts.
    pub frozen: bool,
    /// Who has frozen it; `storm`: the bot itself, because too much burned at once.
    pub by: Option<String>,
    /// Why.
    pub why: Option<String>,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// When it ends by itself; without: when it is lifted.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// The bot has frozen itself.
    pub storm: bool,
}

impl From<Option<&Freeze>> for FreezeView {
    fn from(freeze: Option<&Freeze>) -> Self {
        Self {
            frozen: freeze.is_some(),
            by: freeze.map(|f| f.by.clone()),
            why: freeze.map(|f| f.why.clone()),
            since: freeze.map(|f| f.since),
            until: freeze.and_then(|f| f.until),
            storm: freeze.is_some_and(|f| f.storm),
        }
    }
}

/// What may be acted on, and what holds for all of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct TargetsView {
    /// Which of the bots on this journal acts: role (`active`, `standby`) and name of the one that was asked, holder
    /// and since when it acts.
    #[schema(value_type = Object)]
    pub lease: LeaseView,
    /// Whether everything is frozen.
    pub freeze: FreezeView,
    /// The maintenance window that is open.
    pub maintenance: Option<String>,
    /// What may still be done to all targets together: actions, left, window_seconds, and until when where that is
    /// nothing.
    #[schema(value_type = Object)]
    pub limits: GlobalBudget,
    /// Every container of the project: name, service, whether it runs, may be healed or is protected, what it depends
    /// on, what traces have shown it to call and since when, whether it burns, its budget (actions, left,
    /// window_seconds), why and until when nothing would be done to it (`held`), when an operator gave it its budget
    /// back, its last action.
    #[schema(value_type = Vec<Object>)]
    pub targets: Vec<TargetView>,
}

impl From<&Overview> for TargetsView {
    fn from(overview: &Overview) -> Self {
        Self {
            lease: overview.lease.clone(),
            freeze: FreezeView::from(overview.freeze.as_ref()),
            maintenance: overview.maintenance.clone(),
            limits: overview.limits,
            targets: overview.targets.clone(),
        }
    }
}

/// What does not count any more.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReleaseView {
    /// The containers that got their budget back.
    pub targets: Vec<String>,
    /// Actions that do not count towards their budgets any more.
    pub actions: usize,
    /// Actions that do not count towards the budget over all targets any more.
    pub global_actions: usize,
}

impl From<Release> for ReleaseView {
    fn from(release: Release) -> Self {
        Self { actions: release.actions.len(), global_actions: release.global.len(), targets: release.targets }
    }
}
