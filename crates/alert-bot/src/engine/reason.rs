//! Why the bot did not act. Every refusal carries one of these codes.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $text:literal;)*) => {
        /// A closed set: the codes are metric labels and part of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason { $(#[doc = $text] #[serde(rename = $code)] $variant,)* }

        impl Reason {
            /// Every reason, for initialising metrics and for the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// What it means, for people.
            pub const fn explain(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    NoPolicy = "no_policy", "No rule of the policy is meant for this alert.";
    LeftToPeople = "left_to_people", "The policy leaves this alert to people.";
    ObserveMode = "observe_mode", "The policy only observes: it would have acted now.";
    Silenced = "silenced", "The alert is silenced in Alertmanager.";
    Inhibited = "inhibited", "Another alert inhibits this one in Alertmanager.";
    Muted = "muted", "The alert is muted by a time interval in Alertmanager.";
    AlertGone = "alert_gone", "Alertmanager does not know the alert any more.";
    TakenOver = "taken_over", "A person has taken the incident over.";
    Rejected = "rejected", "A person has rejected the step.";
    NotLeader = "not_leader", "This bot stands by: another one on the same journal acts.";
    Frozen = "frozen", "A person has frozen all actions.";
    Storm = "storm", "Too many services began to burn at once: the fault lies beneath them.";
    Maintenance = "maintenance", "A maintenance window of the policy is open.";
    CauseElsewhere = "cause_elsewhere", "A service that this one depends on burns, or has just recovered.";
    Hold = "hold", "The alert has not fired for the rule's hold time yet.";
    AlreadyDone = "already_done", "This step was already taken for this very alert.";
    EmptySelector = "empty_selector", "The alert does not say which service is meant, and the rule has no default.";
    InvalidTarget = "invalid_target", "What the alert's label says is not a service name.";
    NoTarget = "no_target", "No container of the project carries this service's name.";
    AmbiguousTarget = "ambiguous_target", "More than one container carries this service's name.";
    OtherProject = "other_project", "The service belongs to another project.";
    NotOptedIn = "not_opted_in", "The container does not carry selfheal.enable=true.";
    Protected = "protected", "The container carries selfheal.protect=true.";
    Denied = "denied", "The service is on the list of those that are never touched.";
    TooYoung = "too_young", "The container was started too recently.";
    JustStopped = "just_stopped", "The container stopped a moment ago: somebody may be restarting it.";
    ManualStop = "manual_stop", "A person has stopped the container: it is theirs to start.";
    CrashLoop = "crash_loop", "The container ends again and again by itself: one more start is the opposite of help.";
    NeverStarted = "never_started", "The container was created and never started: a deployment is under way.";
    TargetChanging = "target_changing", "Docker is changing the container at this moment.";
    NotApplicable = "not_applicable", "No step of the rule applies to the container as it is.";
    TargetBusy = "target_busy", "An action on this target is under way, or being verified.";
    Cooldown = "cooldown", "The last action on this target is too recent.";
    TargetBudget = "target_budget_exhausted", "This target's budget of actions is used up.";
    GlobalBudget = "global_budget_exhausted", "The budget of actions over all targets is used up.";
    Concurrency = "concurrency_limit", "As many actions as allowed are under way.";
    AwaitingApproval = "awaiting_approval", "The policy asks a person to approve this step.";
    BackendUnavailable = "backend_unavailable", "The way to Docker is not available.";
    BackendRefused = "backend_refused", "The guard refused the action.";
    ActionFailed = "action_failed", "The action could not be carried out.";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
