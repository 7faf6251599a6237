//! What the guard knows about its daemon and about itself.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    config::Config,
    identity,
    policy::{ApiVersion, Container, ContainerId, Entry, Inspect, Policy, REPLACES_LABEL, VersionRange, append},
    upstream::{Upstream, UpstreamError},
};

/// Looking up a version or a container takes the daemon milliseconds.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

/// The daemon, and what was learnt from it.
pub struct Daemon {
    /// The socket.
    pub upstream: Upstream,
    own_container: Option<String>,
    fixed_project: bool,
    known: RwLock<Arc<Known>>,
}

/// A state of knowledge.
#[derive(Clone, Debug)]
pub struct Known {
    /// `None` until the daemon has told its versions.
    pub versions: Option<VersionRange>,
    /// What decisions are made by.
    pub policy: Policy,
}

#[derive(Deserialize)]
struct Version {
    #[serde(rename = "ApiVersion")]
    api: String,
    #[serde(rename = "MinAPIVersion", default)]
    min: Option<String>,
}

impl Daemon {
    /// Nothing is asked yet: see [`Daemon::learn`].
    pub fn new(config: &Config) -> Self {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let found = identity::own_id(&mountinfo).map(|id| id.to_string());
        Self {
            upstream: Upstream::new(config.docker_socket.clone()),
            own_container: config.container.clone().or(found),
            fixed_project: config.project.is_some(),
            known: RwLock::new(Arc::new(Known {
                versions: None,
                policy: Policy {
                    project: config.project.clone(),
                    own_id: None,
                    protected_services: config.protected(),
                    max_stop_seconds: u32::try_from(config.max_stop.as_secs()).unwrap_or(u32::MAX),
                    versions: VersionRange::GUARD,
                },
            })),
        }
    }

    /// The present state of knowledge.
    pub fn known(&self) -> Arc<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the daemon for its versions and for the guard's own container.
    /// Cheap enough to be repeated: the daemon may have been replaced by a newer one.
    ///
    /// # Errors
    /// The daemon cannot be reached or cannot be used.
    pub async fn learn(&self) -> Result<Arc<Known>, UpstreamError> {
        let version: Version = self.upstream.json("/version", LOOKUP_LIMIT).await?;
        let versions = usable(&version)?;
        let mut known = (*self.known()).clone();
        known.versions = Some(versions);
        known.policy.versions = versions;
        if known.policy.own_id.is_none()
            && let Some(own) = &self.own_container
        {
            match self.find(own, versions.max).await? {
                Some(own) => {
                    if !self.fixed_project {
                        known.policy.project = own.project;
                    }
                    known.policy.own_id = Some(own.id);
                }
                None => tracing::warn!(container = %own, "the guard's own container is not known to the daemon"),
            }
        }
        let known = Arc::new(known);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known.clone();
        Ok(known)
    }

    /// Looks a container up by a reference that [`crate::policy::route`] accepted.
    ///
    /// # Errors
    /// The daemon cannot be reached or gave no usable answer; that there is no
    /// such container is an answer.
    pub async fn find(&self, reference: &str, version: ApiVersion) -> Result<Option<Container>, UpstreamError> {
        let target = format!("/v{version}/containers/{reference}/json");
        match self.upstream.json::<Inspect>(&target, LOOKUP_LIMIT).await {
            Ok(inspect) => inspect
                .facts()
                .map(Some)
                .ok_or_else(|| UpstreamError::Unexpected("the container's id is not one".to_owned())),
            // Docker answers 404, or 400/500 where a short id fits several.
            Err(UpstreamError::Status { status: 404, .. }) => Ok(None),
            Err(UpstreamError::Status { message, .. }) if message.contains("ultiple IDs found") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The container that was made in the place of the one with this id, which is gone.
    ///
    /// # Errors
    /// As [`Daemon::find`].
    pub async fn successor(&self, id: &ContainerId, version: ApiVersion) -> Result<Option<Container>, UpstreamError> {
        let filters = serde_json::json!({"label": {format!("{REPLACES_LABEL}={id}"): true}}).to_string();
        let mut query = String::new();
        append(&mut query, "all", "1");
        append(&mut query, "filters", &filters);
        let listed: Vec<Value> =
            self.upstream.json(&format!("/v{version}/containers/json{query}"), LOOKUP_LIMIT).await?;
        let mut made = listed.iter().filter_map(Entry::read).map(|e| e.container);
        // Held to here as well, should the daemon not understand the filter.
        Ok(made.find(|c| c.replaces.as_ref() == Some(id)))
    }

    /// Says in words what keeps the guard from working.
    ///
    /// # Errors
    /// That.
    pub async fn ready(&self) -> Result<(), String> {
        let known = self.learn().await.map_err(|e| e.to_string())?;
        match (&known.policy.project, &self.own_container) {
            (Some(_), _) => Ok(()),
            (None, Some(own)) => Err(format!("container {own} belongs to no compose project; set GUARD_PROJECT")),
            (None, None) => Err("does not run in a container; set GUARD_PROJECT".to_owned()),
        }
    }

    /// The guard's own container's id, once known.
    pub fn own_id(&self) -> Option<ContainerId> {
        self.known().policy.own_id.clone()
    }
}

fn usable(version: &Version) -> Result<VersionRange, UpstreamError> {
    let unexpected = |what: String| UpstreamError::Unexpected(what);
    let parse = |v: &str| v.parse::<ApiVersion>().map_err(|()| unexpected(format!("API version '{v}'")));
    let max = parse(&version.api)?;
    let min = version.min.as_deref().map_or(Ok(max), parse)?;
    VersionRange::GUARD.intersect(VersionRange { min, max }).ok_or_else(|| {
        let guard = VersionRange::GUARD;
        unexpected(format!("the daemon speaks API {min} to {max}, docker-guard {} to {}", guard.min, guard.max))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_both_speak_are_used() {
        let version = |min: Option<&str>, api: &str| {
            usable(&Version { api: api.to_owned(), min: min.map(ToOwned::to_owned) })
                .map(|r| (r.min.0, r.max.0))
                .map_err(|e| e.to_string())
        };
        assert_eq!(version(Some("1.12"), "1.41"), Ok((41, 41)));
        assert_eq!(version(Some("1.24"), "1.50"), Ok((41, 50)));
        assert_eq!(version(Some("1.44"), "1.53"), Ok((44, 53)));
        assert_eq!(version(None, "1.45"), Ok((45, 45)));
        assert!(version(Some("1.12"), "1.40").unwrap_err().contains("docker-guard 1.41 to 1.55"));
        assert!(version(Some("1.12"), "two").is_err());
    }
}
