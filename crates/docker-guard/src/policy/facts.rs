//! What the daemon says about the container that a request names.

use std::{collections::HashMap, fmt};

use serde::Deserialize;

use super::decide::is_reference;

/// The label by which compose marks what belongs to a project.
pub const PROJECT_LABEL: &str = "com.docker.compose.project";
/// Compose's name of the service.
pub const SERVICE_LABEL: &str = "com.docker.compose.service";
/// On a replica: the id of the container that it is a further copy of.
pub const REPLICA_OF_LABEL: &str = "selfheal.replica-of";
/// On a container made anew: the id of the one whose place it takes.
pub const REPLACES_LABEL: &str = "selfheal.replaces";
/// Beside that: the name that it takes over.
pub const NAME_LABEL: &str = "selfheal.name";

/// A full container id: 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

impl ContainerId {
    /// `None` unless `id` is a full id.
    pub fn parse(id: &str) -> Option<Self> {
        (id.len() == 64 && is_lower_hex(id)).then(|| Self(id.to_owned()))
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve, as Docker shows them.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The facts that a decision needs. Labels and id of a container never change,
/// so what was true when they were read is true when the id is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Full id, the only name that goes upstream.
    pub id: ContainerId,
    /// Name without Docker's leading slash.
    pub name: String,
    /// Compose project, if it has one.
    pub project: Option<String>,
    /// Service name: `selfheal.service`, else compose's, else the container's name.
    pub service: String,
    /// Compose's own service name: the one that cannot be dressed up by a `selfheal.*` label.
    pub compose_service: Option<String>,
    /// `selfheal.enable` is exactly `true`.
    pub enabled: bool,
    /// `selfheal.protect` is there and is not `false`.
    pub protected: bool,
    /// Runs once and ends: `selfheal.oneshot=true` or a `compose run` container.
    pub oneshot: bool,
    /// A replica that was made here, of the container with this id.
    pub replica_of: Option<String>,
    /// Made anew in the place of this one.
    pub replaces: Option<ContainerId>,
    /// The name that it takes over from that one.
    pub takes_name: Option<String>,
}

impl Container {
    /// Reads the facts from id, name and labels as Docker gives them.
    /// `None` if the id is not a full one.
    pub fn new(id: &str, name: &str, labels: &HashMap<String, String>) -> Option<Self> {
        let label = |key: &str| labels.get(key).map(String::as_str);
        let name = name.trim_start_matches('/').to_owned();
        let compose_service = label(SERVICE_LABEL).map(ToOwned::to_owned);
        let service = label("selfheal.service")
            .filter(|s| !s.is_empty())
            .or(compose_service.as_deref())
            .unwrap_or(&name)
            .to_owned();
        Some(Self {
            id: ContainerId::parse(id)?,
            project: label(PROJECT_LABEL).map(ToOwned::to_owned),
            enabled: label("selfheal.enable") == Some("true"),
            // A misspelt value must not take protection away.
            protected: label("selfheal.protect").is_some_and(|v| v != "false"),
            oneshot: label("selfheal.oneshot") == Some("true")
                || label("com.docker.compose.oneoff").is_some_and(|v| v.eq_ignore_ascii_case("true")),
            replica_of: label(REPLICA_OF_LABEL).map(ToOwned::to_owned),
            replaces: label(REPLACES_LABEL).and_then(ContainerId::parse),
            takes_name: label(NAME_LABEL).filter(|n| is_reference(n)).map(ToOwned::to_owned),
            name,
            service,
            compose_service,
        })
    }

    /// Its name when all is done: while it is made it has another for a moment.
    pub fn lasting_name(&self) -> &str {
        let half_made = |taken: &&str| self.name.strip_prefix(taken).is_some_and(|rest| rest.starts_with(".new-"));
        self.takes_name.as_deref().filter(half_made).unwrap_or(&self.name)
    }

    /// What tells services apart when two calls must not meet.
    pub fn service_key(&self) -> &str {
        self.compose_service.as_deref().unwrap_or(&self.service)
    }

    /// Whether `reference` names this container beyond doubt. Docker itself
    /// takes any unique prefix of an id, so that a mistyped or vanished name
    /// could hit whatever container's id happens to begin with it.
    pub fn is_named_by(&self, reference: &str) -> bool {
        reference == self.name || (reference.len() >= 12 && is_lower_hex(reference) && self.id.0.starts_with(reference))
    }
}

/// The part of Docker's inspect answer that facts come from.
#[derive(Debug, Deserialize)]
pub(crate) struct Inspect {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "Config")]
    config: InspectConfig,
}

#[derive(Debug, Deserialize)]
struct InspectConfig {
    #[serde(rename = "Labels", default)]
    labels: Option<HashMap<String, String>>,
}

impl Inspect {
    pub(crate) fn facts(self) -> Option<Container> {
        Container::new(&self.id, &self.name, &self.config.labels.unwrap_or_default())
    }
}

pub(super) fn is_lower_hex(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(labels: &[(&str, &str)]) -> Container {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Container::new(&"ab".repeat(32), "/selfheal-redis-1", &labels).unwrap()
    }

    #[test]
    fn opting_in_is_exact_and_protection_is_generous() {
        assert!(container(&[("selfheal.enable", "true")]).enabled);
        for value in ["True", "1", "yes", "", " true"] {
            assert!(!container(&[("selfheal.enable", value)]).enabled, "{value}");
        }
        for value in ["true", "True", "1", "", "flase"] {
            assert!(container(&[("selfheal.protect", value)]).protected, "{value}");
        }
        assert!(!container(&[("selfheal.protect", "false")]).protected);
        assert!(!container(&[]).protected);
    }

    #[test]
    fn a_service_is_named_by_the_most_specific_label() {
        assert_eq!(container(&[]).service, "selfheal-redis-1");
        assert_eq!(container(&[(SERVICE_LABEL, "redis")]).service, "redis");
        assert_eq!(container(&[(SERVICE_LABEL, "redis"), ("selfheal.service", "cache")]).service, "cache");
    }

    #[test]
    fn only_the_name_and_long_prefixes_of_the_id_name_a_container() {
        let redis = container(&[]);
        for good in ["selfheal-redis-1", &"ab".repeat(32), &"ab".repeat(6)] {
            assert!(redis.is_named_by(good), "{good}");
        }
        for bad in ["", "a", "abababababa", "selfheal-redis", "/selfheal-redis-1", &"ba".repeat(32), &"AB".repeat(6)] {
            assert!(!redis.is_named_by(bad), "{bad}");
        }
    }

    #[test]
    fn an_id_is_whole_or_none() {
        assert!(ContainerId::parse(&"0f".repeat(32)).is_some());
        for bad in [String::new(), "0f".repeat(31), "0F".repeat(32), "0g".repeat(32)] {
            assert!(ContainerId::parse(&bad).is_none(), "{bad}");
        }
    }
}
