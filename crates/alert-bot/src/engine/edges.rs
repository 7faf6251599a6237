//! Who calls whom, as traces show it: needs that no label names.
//!
//! Such a need is learned when it is seen for the first time and kept for a while after it was seen last, in the
//! journal: what burns calls nobody, and that is when it must be known. It counts beside what the containers
//! themselves say, and never against it: of services that call each other in a circle none is the other's cause,
//! unless a label says so.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    event::{Effect, NoteKind},
    state::State,
    turn::Turn,
};
use crate::timestamp::Timestamp;

/// A call that was not seen for this long is forgotten.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// That it was seen again is written down so often.
const REFRESH: Duration = Duration::from_secs(3600);

/// One service calls another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The caller.
    pub client: String,
    /// The one that is called.
    pub server: String,
    /// When it was seen first.
    pub since: Timestamp,
    /// When it was seen last, to the hour.
    pub seen: Timestamp,
}

/// Learned calls by caller, then by the one that is called.
pub type Edges = BTreeMap<String, BTreeMap<String, Edge>>;

impl State {
    /// Everything that `service` needs, directly or through others; never itself.
    pub(super) fn ancestors(&self, service: &str) -> BTreeSet<&str> {
        let declared = self.topology.ancestors(service);
        if self.edges.is_empty() {
            return declared;
        }
        let reached = self.reached(service);
        let learned = reached.iter().filter(|one| !declared.contains(*one) && !self.reached(one).contains(service));
        learned.copied().chain(declared.iter().copied()).collect()
    }

    /// The same, by declared and learned needs alike, circles included.
    fn reached(&self, service: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut next: Vec<&str> = self.direct(service).collect();
        while let Some(one) = next.pop() {
            if one != service && found.insert(one) {
                next.extend(self.direct(one));
            }
        }
        found
    }

    fn direct(&self, service: &str) -> impl Iterator<Item = &str> {
        let learned = self.edges.get(service).into_iter().flat_map(|servers| servers.keys().map(String::as_str));
        self.topology.needs(service).chain(learned)
    }

    /// What was learned of the shortest way from a service to what it needs; nothing where labels name all of it.
    pub(super) fn learned_between(&self, service: &str, needed: &str) -> Vec<&Edge> {
        if self.topology.ancestors(service).contains(needed) {
            return Vec::new();
        }
        // By whom each was reached first.
        let mut by: BTreeMap<&str, &str> = BTreeMap::new();
        let mut next = VecDeque::from([service]);
        while let Some(one) = next.pop_front() {
            for other in self.direct(one) {
                if other != service && !by.contains_key(other) {
                    by.insert(other, one);
                    next.push_back(other);
                }
            }
        }
        let mut way = Vec::new();
        let mut at = needed;
        while let Some(before) = by.get(at) {
            let declared = self.topology.needs(before).any(|n| n == at);
            way.extend(self.edges.get(*before).and_then(|e| e.get(at)).filter(|_| !declared));
            at = before;
        }
        way.reverse();
        way
    }

    /// Calls that traces have shown, sorted.
    pub fn edges(&self) -> impl Iterator<Item = &Edge> {
        self.edges.values().flat_map(BTreeMap::values)
    }

    /// Needs that the containers themselves name, counted by service.
    pub fn declared_edges(&self) -> usize {
        let needs = |c: &super::target::Candidate| c.depends_on.len();
        self.topology.containers.iter().map(needs).sum()
    }

    pub(super) fn learn(&mut self, edge: &Edge) {
        self.edges.entry(edge.client.clone()).or_default().insert(edge.server.clone(), edge.clone());
    }

    pub(super) fn unlearn(&mut self, client: &str, server: &str) {
        if let Some(servers) = self.edges.get_mut(client) {
            servers.remove(server);
            if servers.is_empty() {
                self.edges.remove(client);
            }
        }
    }
}

impl Turn<'_> {
    /// These calls were seen just now, as (caller, called).
    pub(super) fn on_calls(&mut self, calls: &[(String, String)]) {
        let state = self.state;
        let service = |name: &str| state.topology.containers.iter().any(|c| c.services.iter().any(|s| s == name));
        // Names come from whoever sends spans: only those that are services of the project count.
        let calls: BTreeSet<_> = calls.iter().filter(|(a, b)| a != b && service(a) && service(b)).collect();
        for (client, server) in &calls {
            let known = state.edges.get(client).and_then(|servers| servers.get(server));
            match known {
                Some(edge) if self.now.since(edge.seen) < REFRESH => {}
                Some(edge) => self.push(Effect::Edge(Box::new(Edge { seen: self.now, ..edge.clone() }))),
                None => {
                    let (client, server) = (client.clone(), server.clone());
                    let text = format!("traces show that {client} calls {server}");
                    let edge = Edge { client, server, since: self.now, seen: self.now };
                    self.system(NoteKind::System, text, json!({ "edge": edge }));
                    self.push(Effect::Edge(Box::new(edge)));
                }
            }
        }
        for edge in state.edges() {
            let seen = calls.iter().any(|(a, b)| *a == edge.client && *b == edge.server);
            if !seen && self.now.since(edge.seen) >= KEPT {
                let text = format!("{} was not seen to call {} any more", edge.client, edge.server);
                self.system(NoteKind::System, text, json!({ "edge": edge }));
                self.push(Effect::EdgeGone(edge.client.clone(), edge.server.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Event, RunState, Scope, Topology, decide, target::Candidate},
        *,
    };
    use crate::policy::Policy;

    fn container(service: &str, needs: &[&str]) -> Candidate {
        Candidate {
            id: format!("id-{service}"),
            name: format!("p-{service}-1"),
            services: vec![service.to_owned()],
            project: Some("p".to_owned()),
            enabled: true,
            protected: false,
            state: RunState::Running,
            depends_on: needs.iter().map(|s| (*s).to_owned()).collect(),
            image: "image".to_owned(),
            replica_of: None,
        }
    }

    fn state() -> State {
        let policy = "version: 1\nmode: auto\nrules:\n  - {name: x, match: {alertname: X}, leave_to_people: yes}\n";
        let scope = Scope { project: "p".to_owned(), own_id: None };
        let mut state = State::new(std::sync::Arc::new(Policy::parse(policy).unwrap()), scope);
        let containers = vec![
            container("web", &["api"]),
            container("api", &["db"]),
            container("db", &[]),
            container("pay", &[]),
            container("mail", &[]),
        ];
        state.apply(&Effect::Topology(Box::new(Topology::new(containers, "p"))));
        state
    }

    fn see(state: &mut State, calls: &[(&str, &str)], hours: u64) -> Vec<Effect> {
        let calls = calls.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let now = Timestamp::from_millis(0).plus(Duration::from_secs(hours * 3600));
        let effects = decide(state, Event::Calls(calls), now);
        effects.iter().for_each(|e| state.apply(e));
        effects
    }

    #[test]
    fn what_traces_show_counts_beside_what_labels_say() {
        let mut state = state();
        see(&mut state, &[("api", "pay"), ("pay", "mail"), ("user", "web"), ("web", "web")], 0);
        assert_eq!(state.edges().count(), 2, "services of the project, and two of them");
        assert_eq!(state.ancestors("web"), BTreeSet::from(["api", "db", "mail", "pay"]));
        assert_eq!(state.ancestors("mail"), BTreeSet::new());
        let between = |a, b| {
            let way = state.learned_between(a, b);
            way.into_iter().map(|e| format!("{}>{}", e.client, e.server)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(between("web", "mail"), "api>pay pay>mail");
        assert_eq!(between("web", "db"), "");
        assert_eq!(between("db", "web"), "");
    }

    #[test]
    fn in_a_circle_nobody_is_the_cause_but_by_a_label() {
        let mut state = state();
        see(&mut state, &[("pay", "mail"), ("mail", "pay"), ("db", "web")], 0);
        assert!(state.ancestors("pay").is_empty() && state.ancestors("mail").is_empty());
        // db calls web, which needs it by its labels: that stays as it is.
        assert_eq!(state.ancestors("web"), BTreeSet::from(["api", "db"]));
        assert!(state.ancestors("db").is_empty());
    }

    #[test]
    fn it_is_written_down_once_refreshed_now_and_then_and_forgotten_in_the_end() {
        let mut state = state();
        let of = |effects: Vec<Effect>| effects.iter().filter(|e| e.durable()).count();
        let calls = [("api", "pay")];
        assert_eq!(of(see(&mut state, &calls, 0)), 2, "the edge and a line of the record");
        assert_eq!(of(see(&mut state, &calls, 0)), 0);
        assert_eq!(of(see(&mut state, &calls, 2)), 1, "seen again");
        assert_eq!(state.edges().next().map(|e| (e.since.millis(), e.seen.millis())), Some((0, 7_200_000)));
        assert_eq!(of(see(&mut state, &[], 25)), 0, "kept while it may be burning");
        assert_eq!(of(see(&mut state, &[], 26)), 2);
        assert_eq!(state.edges().count(), 0);
    }
}
