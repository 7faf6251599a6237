//! Every endpoint of the published Docker Engine API (1.41 to 1.55), plus those
//! that the daemon serves without publishing them, and who may use it.
//!
//! The few that are open are the allow-list; three of them, below `/selfheal`,
//! are the guard's own and no daemon's. The others are listed so that a
//! refusal can say *why*; what is not listed at all is refused as unknown.

use super::reason::Reason;

/// Who may use an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone inside the guard's networks.
    Read,
    /// The bearer of the token, on containers that opted in.
    Heal,
    /// Nobody.
    Denied(Reason),
}

/// What a request wants: the `verb` of metrics and audit lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // the names say it
pub enum Verb {
    Ping,
    Version,
    Events,
    Networks,
    List,
    Inspect,
    Logs,
    Stats,
    Restart,
    Start,
    Stop,
    Create,
    Change,
    Exec,
    Attach,
    Files,
    Remove,
    Image,
    Network,
    Volume,
    Swarm,
    Plugin,
    System,
    Unknown,
    Recreate,
    Replicate,
    RemoveReplica,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 27] = [
        Self::Ping,
        Self::Version,
        Self::Events,
        Self::Networks,
        Self::List,
        Self::Inspect,
        Self::Logs,
        Self::Stats,
        Self::Restart,
        Self::Start,
        Self::Stop,
        Self::Create,
        Self::Change,
        Self::Exec,
        Self::Attach,
        Self::Files,
        Self::Remove,
        Self::Image,
        Self::Network,
        Self::Volume,
        Self::Swarm,
        Self::Plugin,
        Self::System,
        Self::Unknown,
        Self::Recreate,
        Self::Replicate,
        Self::RemoveReplica,
    ];

    /// The name in metrics and audit lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Version => "version",
            Self::Events => "events",
            Self::Networks => "networks",
            Self::List => "list",
            Self::Inspect => "inspect",
            Self::Logs => "logs",
            Self::Stats => "stats",
            Self::Restart => "restart",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Create => "create",
            Self::Change => "change",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::Files => "files",
            Self::Remove => "remove",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Swarm => "swarm",
            Self::Plugin => "plugin",
            Self::System => "system",
            Self::Unknown => "unknown",
            Self::Recreate => "recreate",
            Self::Replicate => "replicate",
            Self::RemoveReplica => "remove_replica",
        }
    }

    /// Changes something, so needs the token.
    pub fn heals(self) -> bool {
        matches!(self, Self::Restart | Self::Start | Self::Stop) || self.makes()
    }

    /// One of the guard's own operations: it makes or removes a container.
    pub fn makes(self) -> bool {
        matches!(self, Self::Recreate | Self::Replicate | Self::RemoveReplica)
    }

    /// Takes as long as somebody else likes: a reader that stays, or a container that is to stop.
    pub fn lasts(self) -> bool {
        self.heals() || matches!(self, Self::Events | Self::Logs | Self::Stats)
    }
}

/// One method and path template.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// Method.
    pub method: &'static str,
    /// Path without the version: `{x}` is one segment, `{x*}` one or more.
    pub template: &'static str,
    /// What it does.
    pub verb: Verb,
    /// Who may.
    pub access: Access,
}

const fn read(method: &'static str, template: &'static str, verb: Verb) -> Endpoint {
    Endpoint { method, template, verb, access: Access::Read }
}

const fn heal(template: &'static str, verb: Verb) -> Endpoint {
    Endpoint { method: "POST", template, verb, access: Access::Heal }
}

const fn own(method: &'static str, template: &'static str, verb: Verb) -> Endpoint {
    Endpoint { method, template, verb, access: Access::Heal }
}

const fn deny(method: &'static str, template: &'static str, verb: Verb, reason: Reason) -> Endpoint {
    Endpoint { method, template, verb, access: Access::Denied(reason) }
}

/// All endpoints; the first match counts.
pub const CATALOG: &[Endpoint] = &[
    // --- open to everyone inside -------------------------------------------
    read("GET", "/_ping", Verb::Ping),
    read("HEAD", "/_ping", Verb::Ping),
    read("GET", "/version", Verb::Version),
    read("GET", "/events", Verb::Events),
    read("GET", "/networks", Verb::Networks),
    read("GET", "/containers/json", Verb::List),
    read("GET", "/containers/{id}/json", Verb::Inspect),
    read("GET", "/containers/{id}/logs", Verb::Logs),
    read("GET", "/containers/{id}/stats", Verb::Stats),
    // --- open to the bearer of the token, on managed containers -------------
    heal("/containers/{id}/restart", Verb::Restart),
    heal("/containers/{id}/start", Verb::Start),
    heal("/containers/{id}/stop", Verb::Stop),
    // --- the guard's own operations, for the same bearer ----------------------
    own("POST", "/selfheal/containers/{id}/recreate", Verb::Recreate),
    own("POST", "/selfheal/containers/{id}/replicate", Verb::Replicate),
    own("DELETE", "/selfheal/containers/{id}", Verb::RemoveReplica),
    // --- containers -----------------------------------------------------------
    deny("POST", "/containers/create", Verb::Create, Reason::CreatesContainers),
    deny("POST", "/containers/prune", Verb::Remove, Reason::Removes),
    deny("DELETE", "/containers/{id*}", Verb::Remove, Reason::Removes),
    deny("POST", "/containers/{id*}/kill", Verb::Change, Reason::ChangesContainers),
    deny("POST", "/containers/{id*}/pause", Verb::Change, Reason::ChangesContainers),
    deny("POST", "/containers/{id*}/unpause", Verb::Change, Reason::ChangesContainers),
    deny("POST", "/containers/{id*}/rename", Verb::Change, Reason::ChangesContainers),
    deny("POST", "/containers/{id*}/update", Verb::Change, Reason::ChangesContainers),
    deny("POST", "/containers/{id*}/resize", Verb::Attach, Reason::RunsCommands),
    deny("POST", "/containers/{id*}/wait", Verb::Attach, Reason::UnknownEndpoint),
    deny("POST", "/containers/{id*}/attach", Verb::Attach, Reason::RunsCommands),
    deny("GET", "/containers/{id*}/attach/ws", Verb::Attach, Reason::RunsCommands),
    deny("POST", "/containers/{id*}/exec", Verb::Exec, Reason::RunsCommands),
    deny("POST", "/exec/{id*}/start", Verb::Exec, Reason::RunsCommands),
    deny("POST", "/exec/{id*}/resize", Verb::Exec, Reason::RunsCommands),
    deny("GET", "/exec/{id*}/json", Verb::Exec, Reason::RunsCommands),
    deny("GET", "/containers/{id*}/archive", Verb::Files, Reason::TouchesFiles),
    deny("HEAD", "/containers/{id*}/archive", Verb::Files, Reason::TouchesFiles),
    deny("PUT", "/containers/{id*}/archive", Verb::Files, Reason::TouchesFiles),
    deny("GET", "/containers/{id*}/changes", Verb::Files, Reason::TouchesFiles),
    deny("GET", "/containers/{id*}/export", Verb::Files, Reason::TouchesFiles),
    // Command lines carry passwords.
    deny("GET", "/containers/{id*}/top", Verb::System, Reason::UnknownEndpoint),
    deny("GET", "/containers/{id*}/checkpoints", Verb::Files, Reason::TouchesFiles),
    deny("POST", "/containers/{id*}/checkpoints", Verb::Files, Reason::TouchesFiles),
    // --- images and builds --------------------------------------------------------
    deny("POST", "/build", Verb::Image, Reason::ManagesImages),
    deny("POST", "/build/prune", Verb::Remove, Reason::Removes),
    deny("POST", "/build/cancel", Verb::Image, Reason::ManagesImages),
    deny("POST", "/session", Verb::Image, Reason::ManagesImages),
    deny("POST", "/grpc", Verb::Image, Reason::ManagesImages),
    deny("POST", "/commit", Verb::Image, Reason::ManagesImages),
    deny("POST", "/auth", Verb::Image, Reason::ManagesImages),
    deny("GET", "/images/json", Verb::Image, Reason::ManagesImages),
    deny("GET", "/images/search", Verb::Image, Reason::ManagesImages),
    deny("GET", "/images/get", Verb::Image, Reason::ManagesImages),
    deny("POST", "/images/create", Verb::Image, Reason::ManagesImages),
    deny("POST", "/images/load", Verb::Image, Reason::ManagesImages),
    deny("POST", "/images/prune", Verb::Remove, Reason::Removes),
    deny("GET", "/images/{name*}/get", Verb::Image, Reason::ManagesImages),
    deny("GET", "/images/{name*}/history", Verb::Image, Reason::ManagesImages),
    deny("GET", "/images/{name*}/json", Verb::Image, Reason::ManagesImages),
    deny("GET", "/images/{name*}/attestations", Verb::Image, Reason::ManagesImages),
    deny("POST", "/images/{name*}/push", Verb::Image, Reason::ManagesImages),
    deny("POST", "/images/{name*}/tag", Verb::Image, Reason::ManagesImages),
    deny("DELETE", "/images/{name*}", Verb::Remove, Reason::Removes),
    deny("GET", "/distribution/{name*}/json", Verb::Image, Reason::ManagesImages),
    // --- networks ------------------------------------------------------------------
    deny("POST", "/networks/create", Verb::Network, Reason::ManagesNetworks),
    deny("POST", "/networks/prune", Verb::Remove, Reason::Removes),
    deny("GET", "/networks/{id*}", Verb::Network, Reason::ManagesNetworks),
    deny("DELETE", "/networks/{id*}", Verb::Remove, Reason::Removes),
    deny("POST", "/networks/{id*}/connect", Verb::Network, Reason::ManagesNetworks),
    deny("POST", "/networks/{id*}/disconnect", Verb::Network, Reason::ManagesNetworks),
    // --- volumes --------------------------------------------------------------------
    deny("GET", "/volumes", Verb::Volume, Reason::ManagesVolumes),
    deny("POST", "/volumes/create", Verb::Volume, Reason::ManagesVolumes),
    deny("POST", "/volumes/prune", Verb::Remove, Reason::Removes),
    deny("GET", "/volumes/{name*}", Verb::Volume, Reason::ManagesVolumes),
    deny("PUT", "/volumes/{name*}", Verb::Volume, Reason::ManagesVolumes),
    deny("DELETE", "/volumes/{name*}", Verb::Remove, Reason::Removes),
    // --- swarm ----------------------------------------------------------------------
    deny("GET", "/swarm", Verb::Swarm, Reason::ManagesSwarm),
    deny("POST", "/swarm/init", Verb::Swarm, Reason::ManagesSwarm),
    deny("POST", "/swarm/join", Verb::Swarm, Reason::ManagesSwarm),
    deny("POST", "/swarm/leave", Verb::Swarm, Reason::ManagesSwarm),
    deny("POST", "/swarm/unlock", Verb::Swarm, Reason::ManagesSwarm),
    deny("POST", "/swarm/update", Verb::Swarm, Reason::ManagesSwarm),
    deny("GET", "/swarm/unlockkey", Verb::Swarm, Reason::ManagesSwarm),
    deny("GET", "/nodes", Verb::Swarm, Reason::ManagesSwarm),
    deny("GET", "/nodes/{id}", Verb::Swarm, Reason::ManagesSwarm),
    deny("DELETE", "/nodes/{id}", Verb::Swarm, Reason::ManagesSwarm),
    deny("POST", "/nodes/{id}/update", Verb::Swarm, Reason::ManagesSwarm),
    deny("GET", "/services", Verb::Swarm, Reason::ManagesSwarm),
    deny("POST", "/services/create", Verb::Swarm, Reason::ManagesSwarm),
    deny("GET", "/services/{id}", Verb::Swarm, Reason::ManagesSwarm),
    deny("DELETE", "/services/{id}", Verb::Swarm, Reason::ManagesSwarm),
    deny("POST", "/services/{id}/update", Verb::Swarm, Reason::ManagesSwarm),
    deny("GET", "/services/{id}/logs", Verb::Swarm, Reason::ManagesSwarm),
    deny("GET", "/tasks", Verb::Swarm, Reason::ManagesSwarm),
    deny("GET", "/tasks/{id}", Verb::Swarm, Reason::ManagesSwarm),
    deny("GET", "/tasks/{id}/logs", Verb::Swarm, Reason::ManagesSwarm),
    deny("GET", "/secrets", Verb::Swarm, Reason::ManagesSwarm),
    deny("POST", "/secrets/create", Verb::Swarm, Reason::ManagesSwarm),
    deny("GET", "/secrets/{id}", Verb::Swarm, Reason::ManagesSwarm),
    deny("DELETE", "/secrets/{id}", Verb::Swarm, Reason::ManagesSwarm),
    deny("POST", "/secrets/{id}/update", Verb::Swarm, Reason::ManagesSwarm),
    deny("GET", "/configs", Verb::Swarm, Reason::ManagesSwarm),
    deny("POST", "/configs/create", Verb::Swarm, Reason::ManagesSwarm),
    deny("GET", "/configs/{id}", Verb::Swarm, Reason::ManagesSwarm),
    deny("DELETE", "/configs/{id}", Verb::Swarm, Reason::ManagesSwarm),
    deny("POST", "/configs/{id}/update", Verb::Swarm, Reason::ManagesSwarm),
    // --- plugins --------------------------------------------------------------------
    deny("GET", "/plugins", Verb::Plugin, Reason::ManagesPlugins),
    deny("GET", "/plugins/privileges", Verb::Plugin, Reason::ManagesPlugins),
    deny("POST", "/plugins/pull", Verb::Plugin, Reason::ManagesPlugins),
    deny("POST", "/plugins/create", Verb::Plugin, Reason::ManagesPlugins),
    deny("GET", "/plugins/{name*}/json", Verb::Plugin, Reason::ManagesPlugins),
    deny("DELETE", "/plugins/{name*}", Verb::Plugin, Reason::ManagesPlugins),
    deny("POST", "/plugins/{name*}/enable", Verb::Plugin, Reason::ManagesPlugins),
    deny("POST", "/plugins/{name*}/disable", Verb::Plugin, Reason::ManagesPlugins),
    deny("POST", "/plugins/{name*}/push", Verb::Plugin, Reason::ManagesPlugins),
    deny("POST", "/plugins/{name*}/set", Verb::Plugin, Reason::ManagesPlugins),
    deny("POST", "/plugins/{name*}/upgrade", Verb::Plugin, Reason::ManagesPlugins),
    // --- the daemon -------------------------------------------------------------------
    deny("GET", "/info", Verb::System, Reason::DaemonSettings),
    deny("GET", "/system/df", Verb::System, Reason::DaemonSettings),
    deny("GET", "/debug/{name*}", Verb::System, Reason::DaemonSettings),
];

impl Endpoint {
    /// Whether method and segments fit; the captured `{id}` if there is one.
    pub(super) fn matches<'a>(&self, method: &str, segments: &[&'a str]) -> Option<Option<&'a str>> {
        if method != self.method {
            return None;
        }
        let mut template = self.template.split('/').skip(1);
        let mut segments = segments;
        let mut captured = None;
        while let Some(part) = template.next() {
            let (&first, rest) = segments.split_first()?;
            if part.ends_with("*}") {
                // One or more: leave as many as the template still needs.
                let left = template.clone().count();
                segments = segments.get(segments.len().checked_sub(left)?.max(1)..)?;
                continue;
            }
            if part.starts_with('{') {
                captured = Some(first);
            } else if part != first {
                return None;
            }
            segments = rest;
        }
        segments.is_empty().then_some(captured)
    }
}

/// The endpoint that a method and path belong to.
pub(super) fn find<'a>(method: &str, segments: &[&'a str]) -> Option<(&'static Endpoint, Option<&'a str>)> {
    CATALOG.iter().find_map(|endpoint| endpoint.matches(method, segments).map(|captured| (endpoint, captured)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(method: &str, path: &str) -> Option<&'static str> {
        let segments: Vec<_> = path.split('/').skip(1).collect();
        find(method, &segments).map(|(endpoint, _)| endpoint.template)
    }

    #[test]
    fn templates_match_whole_paths() {
        assert_eq!(template("GET", "/containers/json"), Some("/containers/json"));
        assert_eq!(template("GET", "/containers/a/json"), Some("/containers/{id}/json"));
        assert_eq!(template("GET", "/containers/a/b/json"), None);
        assert_eq!(template("GET", "/containers/a/json/b"), None);
        assert_eq!(template("GET", "/containers"), None);
        assert_eq!(template("POST", "/containers/a/json"), None);
        assert_eq!(template("get", "/containers/json"), None);
        assert_eq!(template("GET", "/images/r.io/a/b:1/json"), Some("/images/{name*}/json"));
        assert_eq!(template("GET", "/images/a/b"), None);
        assert_eq!(template("DELETE", "/images/r.io/a/b:1"), Some("/images/{name*}"));
        assert_eq!(template("DELETE", "/images"), None);
    }

    #[test]
    fn only_these_are_open() {
        let open: Vec<_> = CATALOG
            .iter()
            .filter(|e| !matches!(e.access, Access::Denied(_)))
            .map(|e| format!("{} {}", e.method, e.template))
            .collect();
        assert_eq!(
            open,
            [
                "GET /_ping",
                "HEAD /_ping",
                "GET /version",
                "GET /events",
                "GET /networks",
                "GET /containers/json",
                "GET /containers/{id}/json",
                "GET /containers/{id}/logs",
                "GET /containers/{id}/stats",
                "POST /containers/{id}/restart",
                "POST /containers/{id}/start",
                "POST /containers/{id}/stop",
                "POST /selfheal/containers/{id}/recreate",
                "POST /selfheal/containers/{id}/replicate",
                "DELETE /selfheal/containers/{id}",
            ]
        );
    }

    #[test]
    fn only_healing_endpoints_heal_and_all_of_them_name_one_container() {
        for endpoint in CATALOG {
            assert_eq!(endpoint.verb.heals(), endpoint.access == Access::Heal, "{endpoint:?}");
            assert_eq!(endpoint.verb.makes(), endpoint.template.starts_with("/selfheal/"), "{endpoint:?}");
            if endpoint.access == Access::Heal {
                assert_eq!(endpoint.method == "DELETE", endpoint.verb == Verb::RemoveReplica);
                assert!(endpoint.template.contains("/containers/{id}"));
            }
        }
    }
}
