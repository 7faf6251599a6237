//! Who depends on whom: what tells a cause from its symptoms.

use std::collections::{BTreeMap, BTreeSet};

use super::target::Candidate;

/// The services of the project and what each needs to work.
///
/// Read from the containers themselves, so it is never older than they are: compose writes
/// `depends_on` into a label, and `selfheal.depends-on` adds what compose does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Every container of the project.
    pub containers: Vec<Candidate>,
    needs: BTreeMap<String, BTreeSet<String>>,
}

impl Topology {
    /// Of all containers that can be seen, those of `project`.
    pub fn new(containers: Vec<Candidate>, project: &str) -> Self {
        let mut containers: Vec<_> = containers.into_iter().filter(|c| c.project.as_deref() == Some(project)).collect();
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for container in &containers {
            // An alert may name the service by either of its labels.
            for service in &container.services {
                needs.entry(service.clone()).or_default().extend(container.depends_on.iter().cloned());
            }
        }
        Self { containers, needs }
    }

    /// What `service` needs directly.
    pub fn needs(&self, service: &str) -> impl Iterator<Item = &str> {
        self.needs.get(service).into_iter().flatten().map(String::as_str)
    }

    /// Everything that `service` needs, directly or through others; never itself, also where
    /// services need each other in a ring.
    pub fn ancestors(&self, service: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut next: Vec<&str> = self.needs(service).collect();
        while let Some(one) = next.pop() {
            if one != service && found.insert(one) {
                next.extend(self.needs(one));
            }
        }
        found
    }

    /// How many replicas were made of a container.
    pub fn replicas(&self, id: &str) -> usize {
        self.containers.iter().filter(|c| c.replica_of.as_deref() == Some(id)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::RunState, *};

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

    #[test]
    fn ancestors_reach_through_others_and_stop_in_a_ring() {
        let topology = Topology::new(
            vec![
                container("web", &["api"]),
                container("api", &["db", "cache"]),
                container("db", &[]),
                container("ring-a", &["ring-b"]),
                container("ring-b", &["ring-a"]),
                Candidate { project: Some("other".to_owned()), ..container("alien", &["db"]) },
            ],
            "p",
        );
        assert_eq!(topology.ancestors("web"), BTreeSet::from(["api", "cache", "db"]));
        assert_eq!(topology.ancestors("ring-a"), BTreeSet::from(["ring-b"]));
        assert!(topology.ancestors("db").is_empty());
    }
}
