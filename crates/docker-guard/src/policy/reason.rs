//! Why a request was let through or not: a closed set, used in answers, in the
//! audit log and as a metric label.

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // `sentence` documents each
pub enum Reason {
    // allowed
    ReadOnly,
    ManagedTarget,
    // the request is not one that a Docker client sends
    MalformedPath,
    AbsoluteForm,
    BodyNotAllowed,
    UpgradeNotAllowed,
    BadHeaders,
    BadQuery,
    UnsupportedVersion,
    // the endpoint is for nobody
    CreatesContainers,
    ChangesContainers,
    RunsCommands,
    TouchesFiles,
    Removes,
    ManagesImages,
    ManagesNetworks,
    ManagesVolumes,
    ManagesSwarm,
    ManagesPlugins,
    DaemonSettings,
    UnknownEndpoint,
    // the caller has no right
    TokenMissing,
    TokenWrong,
    // the target is not one that may be touched
    NoSuchContainer,
    NotManaged,
    Protected,
    GuardItself,
    TargetBusy,
    HasDependants,
    NotRecreatable,
    NotReplicable,
    TooManyReplicas,
    TooPrivileged,
    NotAReplica,
    ImageNotProven,
    // it was allowed, but could not be done
    Busy,
    NotReady,
    DaemonUnavailable,
    DaemonTimeout,
    DaemonRefused,
    DaemonAnswer,
    RolledBack,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 42] = [
        Self::ReadOnly,
        Self::ManagedTarget,
        Self::MalformedPath,
        Self::AbsoluteForm,
        Self::BodyNotAllowed,
        Self::UpgradeNotAllowed,
        Self::BadHeaders,
        Self::BadQuery,
        Self::UnsupportedVersion,
        Self::CreatesContainers,
        Self::ChangesContainers,
        Self::RunsCommands,
        Self::TouchesFiles,
        Self::Removes,
        Self::ManagesImages,
        Self::ManagesNetworks,
        Self::ManagesVolumes,
        Self::ManagesSwarm,
        Self::ManagesPlugins,
        Self::DaemonSettings,
        Self::UnknownEndpoint,
        Self::TokenMissing,
        Self::TokenWrong,
        Self::NoSuchContainer,
        Self::NotManaged,
        Self::Protected,
        Self::GuardItself,
        Self::TargetBusy,
        Self::HasDependants,
        Self::NotRecreatable,
        Self::NotReplicable,
        Self::TooManyReplicas,
        Self::TooPrivileged,
        Self::NotAReplica,
        Self::ImageNotProven,
        Self::Busy,
        Self::NotReady,
        Self::DaemonUnavailable,
        Self::DaemonTimeout,
        Self::DaemonRefused,
        Self::DaemonAnswer,
        Self::RolledBack,
    ];

    /// The code: in answers, logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::ManagedTarget => "managed_target",
            Self::MalformedPath => "malformed_path",
            Self::AbsoluteForm => "absolute_form",
            Self::BodyNotAllowed => "body_not_allowed",
            Self::UpgradeNotAllowed => "upgrade_not_allowed",
            Self::BadHeaders => "bad_headers",
            Self::BadQuery => "bad_query",
            Self::UnsupportedVersion => "unsupported_version",
            Self::CreatesContainers => "creates_containers",
            Self::ChangesContainers => "changes_containers",
            Self::RunsCommands => "runs_commands",
            Self::TouchesFiles => "touches_files",
            Self::Removes => "removes",
            Self::ManagesImages => "manages_images",
            Self::ManagesNetworks => "manages_networks",
            Self::ManagesVolumes => "manages_volumes",
            Self::ManagesSwarm => "manages_swarm",
            Self::ManagesPlugins => "manages_plugins",
            Self::DaemonSettings => "daemon_settings",
            Self::UnknownEndpoint => "unknown_endpoint",
            Self::TokenMissing => "token_missing",
            Self::TokenWrong => "token_wrong",
            Self::NoSuchContainer => "no_such_container",
            Self::NotManaged => "not_managed",
            Self::Protected => "protected",
            Self::GuardItself => "guard_itself",
            Self::TargetBusy => "target_busy",
            Self::HasDependants => "has_dependants",
            Self::NotRecreatable => "not_recreatable",
            Self::NotReplicable => "not_replicable",
            Self::TooManyReplicas => "too_many_replicas",
            Self::TooPrivileged => "too_privileged",
            Self::NotAReplica => "not_a_replica",
            Self::ImageNotProven => "image_not_proven",
            Self::Busy => "busy",
            Self::NotReady => "not_ready",
            Self::DaemonUnavailable => "daemon_unavailable",
            Self::DaemonTimeout => "daemon_timeout",
            Self::DaemonRefused => "daemon_refused",
            Self::DaemonAnswer => "daemon_answer",
            Self::RolledBack => "rolled_back",
        }
    }

    /// The HTTP status of an answer that says no for this reason.
    pub fn status(self) -> u16 {
        match self {
            Self::ReadOnly | Self::ManagedTarget => 200,
            Self::MalformedPath
            | Self::AbsoluteForm
            | Self::BodyNotAllowed
            | Self::UpgradeNotAllowed
            | Self::BadHeaders
            | Self::BadQuery
            | Self::UnsupportedVersion => 400,
            Self::NoSuchContainer => 404,
            Self::DaemonRefused
            | Self::TargetBusy
            | Self::HasDependants
            | Self::NotRecreatable
            | Self::NotReplicable
            | Self::TooManyReplicas
            | Self::RolledBack => 409,
            Self::DaemonAnswer => 502,
            Self::Busy | Self::NotReady | Self::DaemonUnavailable => 503,
            Self::DaemonTimeout => 504,
            _ => 403,
        }
    }

    /// One sentence for a person.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::ReadOnly => "reading is open to everyone inside",
            Self::ManagedTarget => "the container opted in to healing and the token is right",
            Self::MalformedPath => "the path is not in its plain form: no escapes, dots or empty segments are accepted",
            Self::AbsoluteForm => "the request target must be a path, not a URL: this is no general proxy",
            Self::BodyNotAllowed => "no allowed request has a body",
            Self::UpgradeNotAllowed => "connection upgrades (attach, exec, sessions) are not passed on",
            Self::BadHeaders => "the headers are ambiguous",
            Self::BadQuery => "a query parameter is unknown, repeated, malformed or out of bounds",
            Self::UnsupportedVersion => "this API version cannot be used here",
            Self::CreatesContainers => {
                "creating containers is open to nobody; a managed one is made anew with POST /selfheal/containers/{id}/recreate"
            }
            Self::ChangesContainers => "containers are only restarted, started and stopped, and not changed otherwise",
            Self::RunsCommands => "running commands inside containers is open to nobody",
            Self::TouchesFiles => "files of containers are neither shown nor changed",
            Self::Removes => "removing anything is open to nobody",
            Self::ManagesImages => "images are out of reach",
            Self::ManagesNetworks => "of networks there is only the list of this project's",
            Self::ManagesVolumes => "volumes are out of reach",
            Self::ManagesSwarm => "swarms, their services, secrets and configs are out of reach",
            Self::ManagesPlugins => "plugins are out of reach",
            Self::DaemonSettings => "nothing is shown of the daemon but its version",
            Self::UnknownEndpoint => "this method and path are not on the allow-list",
            Self::TokenMissing => "changes need the guard's bearer token",
            Self::TokenWrong => "the bearer token is wrong",
            Self::NoSuchContainer => "No such container in this project",
            Self::NotManaged => "the container did not opt in: it lacks the label selfheal.enable=true",
            Self::Protected => "the container is protected: it is never touched from here",
            Self::GuardItself => "the guard does not touch its own container",
            Self::TargetBusy => "something else is being done to a container of this service",
            Self::HasDependants => "other containers live in this one's network and would lose it",
            Self::NotRecreatable => "the container cannot be made anew as it is",
            Self::NotReplicable => "the container cannot run twice",
            Self::TooManyReplicas => "the service has as many replicas as are allowed",
            Self::TooPrivileged => "the container has rights over the host: such a one is not made from here",
            Self::NotAReplica => "only replicas that were made here are removed",
            Self::ImageNotProven => "the image is not one that ran healthy in this service",
            Self::Busy => "too many requests are under way; try again shortly",
            Self::NotReady => "the guard does not know yet which project it guards",
            Self::DaemonUnavailable => "the Docker daemon cannot be reached",
            Self::DaemonTimeout => "the Docker daemon did not answer in time; whether it acted is unknown",
            Self::DaemonRefused => "the Docker daemon refused",
            Self::DaemonAnswer => "the Docker daemon gave an answer that cannot be used",
            Self::RolledBack => "the new container could not be started; the old one is back",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_distinct_snake_case_words() {
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|r| r.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        assert!(codes.iter().all(|c| c.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }

    #[test]
    fn every_refusal_has_an_error_status() {
        for reason in Reason::ALL {
            let allowed = matches!(reason, Reason::ReadOnly | Reason::ManagedTarget);
            assert_eq!(reason.status() < 400, allowed, "{reason:?}");
        }
    }
}
