//! What was left half made, and what becomes of it.
//!
//! Everything there is to know stands in the daemon: the labels of a new container
//! name the old one whose place and name it takes, and the old one is removed last.
//! So both being there is the mark of something unfinished, and whether the new
//! one was ever started tells which way it goes on: forward, or back.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    decide::{Policy, may_heal},
    facts::{Container, ContainerId},
};

/// Compose's number of a container within its service.
pub(super) const NUMBER_LABEL: &str = "com.docker.compose.container-number";

/// A container in a list of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who it is.
    pub container: Container,
    /// It was started at least once.
    pub started: bool,
    /// Compose's number of it within the service.
    pub number: u32,
}

impl Entry {
    /// Reads an entry of Docker's list.
    pub fn read(listed: &Value) -> Option<Self> {
        let labels: HashMap<String, String> = serde_json::from_value(listed.get("Labels")?.clone()).unwrap_or_default();
        let name = listed.get("Names").and_then(|n| n.get(0)).and_then(Value::as_str).unwrap_or_default();
        Some(Self {
            container: Container::new(listed.get("Id")?.as_str()?, name, &labels)?,
            started: listed.get("State").and_then(Value::as_str) != Some("created"),
            number: labels.get(NUMBER_LABEL).and_then(|n| n.parse().ok()).unwrap_or(1),
        })
    }
}

/// What is to be done about something unfinished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// The new one was started: it gets the name, the old one goes.
    Finish {
        /// Stays.
        new: Entry,
        /// Goes.
        old: Entry,
    },
    /// The new one was never started: it goes, the old one gets its name back and runs.
    RollBack {
        /// Goes.
        new: Entry,
        /// Stays.
        old: Entry,
    },
    /// A replica that was made and never started: nobody was told of it.
    Discard(Entry),
}

impl Repair {
    /// The service that it is about.
    pub fn service_key(&self) -> &str {
        match self {
            Self::Finish { old, .. } | Self::RollBack { old, .. } => old.container.service_key(),
            Self::Discard(entry) => entry.container.service_key(),
        }
    }
}

/// What is unfinished among a project's containers. Labels alone give no right over
/// another container: both must be ones that may be healed, of one service.
pub fn repairs(entries: &[Entry], policy: &Policy) -> Vec<Repair> {
    let ours = |e: &&Entry| e.container.project == policy.project && may_heal(&e.container, policy).is_ok();
    let mut found = Vec::new();
    for new in entries.iter().filter(ours) {
        let old = entries.iter().filter(ours).find(|old| replaces(&new.container, &old.container));
        match old {
            Some(old) if new.started => found.push(Repair::Finish { new: new.clone(), old: old.clone() }),
            Some(old) => found.push(Repair::RollBack { new: new.clone(), old: old.clone() }),
            None if new.container.replica_of.is_some() && !new.started => found.push(Repair::Discard(new.clone())),
            None => {}
        }
    }
    found
}

fn replaces(new: &Container, old: &Container) -> bool {
    new.replaces.as_ref() == Some(&old.id) && new.id != old.id && new.service_key() == old.service_key()
}

/// Containers that are not shown while something is unfinished, so that a service never
/// seems to be there twice: the new one until it is started, from then on the old one;
/// a replica until it is started.
pub fn hidden(entries: &[Entry]) -> Vec<ContainerId> {
    let mut hidden = Vec::new();
    for new in entries {
        match entries.iter().find(|old| replaces(&new.container, &old.container)) {
            Some(old) if new.started => hidden.push(old.container.id.clone()),
            Some(_) => hidden.push(new.container.id.clone()),
            None if new.container.replica_of.is_some() && !new.started => hidden.push(new.container.id.clone()),
            None => {}
        }
    }
    hidden
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::policy::{VersionRange, facts::*};

    fn policy() -> Policy {
        Policy {
            project: Some("stack".to_owned()),
            own_id: None,
            protected_services: BTreeSet::new(),
            max_stop_seconds: 60,
            versions: VersionRange::GUARD,
        }
    }

    fn entry(digit: char, name: &str, state: &str, labels: &[(&str, &str)]) -> Entry {
        let mut all = json!({PROJECT_LABEL: "stack", SERVICE_LABEL: "web", "selfheal.enable": "true"});
        for (key, value) in labels {
            all[*key] = (*value).into();
        }
        let id = digit.to_string().repeat(64);
        Entry::read(&json!({"Id": id, "Names": [format!("/{name}")], "State": state, "Labels": all})).unwrap()
    }

    fn ids(repairs: &[Repair]) -> Vec<String> {
        let digit = |e: &Entry| e.container.id.as_str()[..1].to_owned();
        repairs
            .iter()
            .map(|repair| match repair {
                Repair::Finish { new, old } => format!("finish {}>{}", digit(old), digit(new)),
                Repair::RollBack { new, old } => format!("back {}<{}", digit(old), digit(new)),
                Repair::Discard(entry) => format!("discard {}", digit(entry)),
            })
            .collect()
    }

    #[test]
    fn a_start_decides_which_way_it_goes_on() {
        let of_a = "a".repeat(64);
        let labels = [(REPLACES_LABEL, of_a.as_str()), (NAME_LABEL, "web-1")];
        let old = entry('a', "web-1", "running", &[]);
        let new = |state| entry('b', "web-1.new-aaaaaaaaaaaa", state, &labels);
        let told = |all: &[Entry]| {
            let hidden: String = hidden(all).iter().map(|id| &id.as_str()[..1]).collect();
            (ids(&repairs(all, &policy())), hidden)
        };
        assert_eq!(told(std::slice::from_ref(&old)), (vec![], String::new()));
        assert_eq!(told(&[old.clone(), new("created")]), (vec!["back a<b".to_owned()], "b".to_owned()));
        for state in ["running", "exited", "paused", "restarting", "dead"] {
            assert_eq!(told(&[old.clone(), new(state)]), (vec!["finish a>b".to_owned()], "a".to_owned()));
        }
        // Once the old one is gone the label is history.
        assert_eq!(told(&[new("running")]), (vec![], String::new()));
        assert_eq!(told(&[new("created")]), (vec![], String::new()));
        assert_eq!(new("created").container.takes_name.as_deref(), Some("web-1"));
    }

    #[test]
    fn replicas_that_never_started_go() {
        let labels = [(REPLICA_OF_LABEL, "x")];
        let started = entry('b', "web-2", "exited", &labels);
        let never = entry('c', "web-3", "created", &labels);
        assert_eq!(ids(&repairs(&[started.clone(), never.clone()], &policy())), ["discard c"]);
        assert_eq!(hidden(&[started, never.clone()]), [never.container.id]);
    }

    #[test]
    fn a_label_gives_no_right_over_others() {
        let of_a = "a".repeat(64);
        let labels = [(REPLACES_LABEL, of_a.as_str())];
        let new = entry('b', "x", "running", &labels);
        for foreign in [
            entry('a', "y", "running", &[(PROJECT_LABEL, "other")]),
            entry('a', "y", "running", &[(SERVICE_LABEL, "db")]),
            entry('a', "y", "running", &[("selfheal.protect", "true")]),
            entry('a', "y", "running", &[("selfheal.enable", "false")]),
        ] {
            assert_eq!(repairs(&[foreign, new.clone()], &policy()), []);
        }
        let own = entry('b', "x", "running", &[(REPLACES_LABEL, &"b".repeat(64))]);
        assert_eq!(repairs(&[own], &policy()), []);
    }
}
