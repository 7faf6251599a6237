//! The decision core: pure, with time passed in.
//!
//! [`decide`] looks at the [`State`] and one [`Event`] and says what should
//! happen, as [`Effect`]s. Nothing here reads a clock, a socket or a file. The
//! driver applies the effects to the state, commits them to the journal, and
//! only then carries out the commands among them; what comes of a command
//! returns as a further event.
//!
//! To add a reason not to act, add a gate to `gates`. To add a remediation,
//! add a verb to the policy and what it means for a container to `acting`.

mod acting;
mod alerts;
mod budget;
mod edges;
mod event;
mod gates;
pub mod ladder;
mod model;
mod operator;
mod overview;
mod reason;
mod release;
mod state;
mod storm;
pub mod target;
mod topology;
mod turn;
pub(crate) mod verifying;

pub use edges::{Edge, Edges};
pub use event::{
    AlertLook, AlertStatus, CallOutcome, Command, Effect, Event, NextLevel, Note, NoteKind, Page, PageKind, Probe,
    Seen, Sli, Snapshot, Source, Tri,
};
pub use model::{
    Action, ActionStatus, Alert, AlertKey, Decision, Health, Incident, Judgement, Outcome, Phase, RunState, Status,
    Suppression, TargetRef, Trace, Verdict, Verification, Workload, fingerprint_of,
};
pub use operator::{Freeze, OperatorCommand, Order, possible};
pub use overview::{BudgetView, GlobalBudget, HeldView, LastAction, LeaseView, Overview, Role, TargetView};
pub use reason::Reason;
pub use release::{Release, ReleaseOrder, Unreleasable, release};
pub use state::{Ended, MEMORY, RECOVERY, Recovery, Scope, State};
pub use topology::Topology;
use turn::Turn;

use crate::timestamp::Timestamp;

/// What should happen, now that `event` has.
///
/// Total and deterministic: the same state, event and time always give the same
/// effects, in the order in which they are to be applied and recorded.
pub fn decide(state: &State, event: Event, now: Timestamp) -> Vec<Effect> {
    let mut turn = Turn::new(state, now);
    match event {
        Event::Boot => turn.on_boot(),
        Event::Alert { alert, source, received_at, trace } => turn.on_alert(alert, source, received_at, trace),
        Event::Snapshot(snapshot) => turn.on_snapshot(&snapshot),
        Event::Resolved { incident, seen } => turn.on_resolved(&incident, &seen),
        Event::Returned { action, outcome, evidence } => turn.on_returned(&action, outcome, evidence),
        Event::Inspected { action, found, replicas } => turn.on_inspected(&action, found, replicas),
        Event::Probed { incident, probe } => turn.on_probed(&incident, probe),
        Event::Ordered(order) => turn.on_order(&order),
        Event::Frozen { freeze, by } => turn.on_freeze(freeze, &by),
        Event::Released(order) => turn.on_release(&order),
        Event::Topology(topology) => turn.on_topology(topology),
        Event::Calls(calls) => turn.on_calls(&calls),
        Event::Stopped { target, at } => turn.on_stopped(&target, at),
        Event::Found { incident, alert, text, evidence } => turn.on_found(&incident, &alert, &text, evidence),
        Event::Tick => turn.on_tick(),
    }
    turn.finish()
}
