//! The decision.

use std::collections::BTreeSet;

use super::{
    catalog::{self, Access, Verb},
    facts::{Container, ContainerId},
    image::ImageChoice,
    path::{self, Request, Token},
    plan::{Operation, Plan, plan},
    query::{BadQuery, Filters, Query},
    reason::Reason,
    version::{ApiVersion, VersionRange},
};

/// What the guard holds to.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The compose project whose containers exist for callers; nothing exists while it is unknown.
    pub project: Option<String>,
    /// The guard's own container, if it runs in one.
    pub own_id: Option<ContainerId>,
    /// Services that are never touched, whatever their labels say.
    pub protected_services: BTreeSet<String>,
    /// Longest stop time-out that a caller may ask for, in seconds.
    pub max_stop_seconds: u32,
    /// API versions that guard and daemon both speak.
    pub versions: VersionRange,
}

/// A healing action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum HealVerb {
    Restart,
    Start,
    Stop,
}

/// An allowed endpoint with its parameters read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // fields are named like Docker's parameters
pub enum Call {
    Ping,
    Version,
    Networks { filters: Filters },
    List { all: bool, limit: Option<u32>, filters: Filters },
    Events { since: Option<String>, until: Option<String>, filters: Filters },
    Container { reference: String, call: ContainerCall },
}

/// What is wanted of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // fields are named like Docker's parameters
pub enum ContainerCall {
    Inspect,
    Logs {
        follow: Option<bool>,
        stdout: Option<bool>,
        stderr: Option<bool>,
        timestamps: Option<bool>,
        since: Option<String>,
        until: Option<String>,
        tail: Option<String>,
    },
    Stats {
        stream: Option<bool>,
        one_shot: Option<bool>,
    },
    Heal {
        verb: HealVerb,
        t: Option<u32>,
    },
    Recreate {
        t: Option<u32>,
        image: Option<ImageChoice>,
    },
    Replicate,
    RemoveReplica {
        t: Option<u32>,
    },
}

/// A well-formed request for an open endpoint by a caller who may use it.
/// Whether the container may be touched is not yet decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What it does.
    pub verb: Verb,
    /// Method.
    pub method: &'static str,
    /// API version to use upstream.
    pub version: ApiVersion,
    /// Endpoint and parameters.
    pub call: Call,
}

impl Route {
    /// The container that must be looked up before [`decide`] can say yes.
    pub fn container(&self) -> Option<&str> {
        match &self.call {
            Call::Container { reference, .. } => Some(reference),
            _ => None,
        }
    }
}

/// Yes: with the request to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// What it does.
    pub verb: Verb,
    /// Why it may.
    pub reason: Reason,
    /// What goes upstream.
    pub plan: Plan,
}

/// No.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// What it wanted.
    pub verb: Verb,
    /// Why not.
    pub reason: Reason,
    /// What exactly, where the reason alone leaves that open.
    pub detail: Option<String>,
}

impl Denied {
    /// A refusal whose reason says it all.
    pub fn new(verb: Verb, reason: Reason) -> Self {
        Self { verb, reason, detail: None }
    }

    /// The sentence for a person.
    pub fn sentence(&self) -> String {
        match &self.detail {
            Some(detail) => format!("{}: {detail}", self.reason.sentence()),
            None => self.reason.sentence().to_owned(),
        }
    }
}

/// The answer to "may it?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow(Allowed),
    /// No.
    Deny(Denied),
}

/// Reads a request: is it well-formed, on the allow-list, and is the caller one who may ask?
///
/// # Errors
/// The refusal.
pub fn route(request: &Request<'_>, policy: &Policy) -> Result<Route, Denied> {
    let target = path::parse(request.target).map_err(|reason| Denied::new(Verb::Unknown, reason))?;
    let found = catalog::find(request.method, &target.segments);
    let verb = found.map_or(Verb::Unknown, |(endpoint, _)| endpoint.verb);
    let deny = |reason| Denied::new(verb, reason);

    // What the endpoint is comes first: `docker exec` shall be told that
    // commands are not run here, not that its request has a body.
    let (endpoint, captured) = found.ok_or_else(|| deny(Reason::UnknownEndpoint))?;
    if let Access::Denied(reason) = endpoint.access {
        return Err(deny(reason));
    }
    if request.headers.ambiguous {
        return Err(deny(Reason::BadHeaders));
    }
    if request.headers.upgrade {
        return Err(deny(Reason::UpgradeNotAllowed));
    }
    if request.headers.body {
        return Err(deny(Reason::BodyNotAllowed));
    }
    if endpoint.access == Access::Heal {
        match request.token {
            Token::Absent => return Err(deny(Reason::TokenMissing)),
            Token::Wrong => return Err(deny(Reason::TokenWrong)),
            Token::Right => {}
        }
    }
    if verb.makes() && target.version.is_some() {
        // These are no endpoints of Docker's, whose versions they would have.
        return Err(deny(Reason::UnknownEndpoint));
    }
    let version = target.version.unwrap_or(policy.versions.max);
    // A ping is how clients find out which version to use, so any will do for it.
    let version = if verb == Verb::Ping { policy.versions.max } else { version };
    if !policy.versions.contains(version) {
        let VersionRange { min, max } = policy.versions;
        let detail = if version > max {
            format!("client version {version} is too new. Maximum supported API version is {max}")
        } else {
            format!("client version {version} is too old. Minimum supported API version is {min}")
        };
        return Err(Denied { verb, reason: Reason::UnsupportedVersion, detail: Some(detail) });
    }
    let reference = match captured {
        None => "",
        Some(reference) if is_reference(reference) => reference,
        Some(_) => return Err(deny(Reason::NoSuchContainer)),
    };
    let call = read_call(verb, reference, target.query, policy).map_err(|detail| Denied {
        verb,
        reason: Reason::BadQuery,
        detail: Some(detail),
    })?;
    Ok(Route { verb, method: endpoint.method, version, call })
}

/// Says whether a request may go on, and as what.
///
/// `container` is what the daemon knows about the container that the request
/// names, `None` if there is none. Containers of other projects are treated
/// exactly like ones that do not exist.
pub fn decide(request: &Request<'_>, container: Option<&Container>, policy: &Policy) -> Decision {
    match route(request, policy).and_then(|route| judge(&route, container, policy)) {
        Ok(allowed) => Decision::Allow(allowed),
        Err(denied) => Decision::Deny(denied),
    }
}

fn judge(route: &Route, container: Option<&Container>, policy: &Policy) -> Result<Allowed, Denied> {
    let deny = |reason| Denied::new(route.verb, reason);
    let open = matches!(route.call, Call::Ping | Call::Version);
    let project = match &policy.project {
        Some(project) => project.as_str(),
        None if open => "",
        None => return Err(deny(Reason::NotReady)),
    };
    let container = match route.container() {
        None => None,
        Some(reference) => {
            // Who asks again for what was done already, perhaps because the answer was lost, is told so.
            let succeeded = |c: &Container| {
                route.verb == Verb::Recreate && c.replaces.as_ref().is_some_and(|old| old.as_str() == reference)
            };
            let visible =
                |c: &&Container| c.project.as_deref() == Some(project) && (c.is_named_by(reference) || succeeded(c));
            let container = container
                .filter(visible)
                .ok_or_else(|| Denied { detail: Some(reference.to_owned()), ..deny(Reason::NoSuchContainer) })?;
            Some(container)
        }
    };
    let mut reason = Reason::ReadOnly;
    if let (true, Some(container)) = (route.verb.heals(), container) {
        may_heal(container, policy).map_err(deny)?;
        match (route.verb, &container.replica_of) {
            (Verb::RemoveReplica, None) => return Err(deny(Reason::NotAReplica)),
            (Verb::Replicate, Some(of)) => {
                let detail = Some(format!("it is a replica itself, of {of}"));
                return Err(Denied { detail, ..deny(Reason::NotReplicable) });
            }
            _ => {}
        }
        reason = Reason::ManagedTarget;
    }
    let plan = match operation(route, container) {
        Some(operation) => Plan::Operate(operation),
        None => Plan::Forward(plan(route.method, &route.call, container, project, route.version)),
    };
    Ok(Allowed { verb: route.verb, reason, plan })
}

/// The guard's own operation that a route asks for.
fn operation(route: &Route, container: Option<&Container>) -> Option<Operation> {
    let Call::Container { reference, call } = &route.call else { return None };
    let container = container?;
    Some(match call {
        ContainerCall::Recreate { .. } if !container.is_named_by(reference) => Operation::AlreadyRecreated,
        ContainerCall::Recreate { t, image } => Operation::Recreate { stop_seconds: *t, image: image.clone() },
        ContainerCall::Replicate => Operation::Replicate,
        ContainerCall::RemoveReplica { t } => Operation::RemoveReplica { stop_seconds: *t },
        _ => return None,
    })
}

/// Whether a container of the project may be restarted, started and stopped.
pub(super) fn may_heal(container: &Container, policy: &Policy) -> Result<(), Reason> {
    if policy.own_id.as_ref() == Some(&container.id) {
        return Err(Reason::GuardItself);
    }
    let named = |service: &str| policy.protected_services.contains(service);
    if container.protected || named(&container.service) || container.compose_service.as_deref().is_some_and(named) {
        return Err(Reason::Protected);
    }
    if !container.enabled {
        return Err(Reason::NotManaged);
    }
    Ok(())
}

/// What Docker accepts as a name or id.
pub(super) fn is_reference(reference: &str) -> bool {
    let mut bytes = reference.bytes();
    reference.len() <= 128
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn read_call(verb: Verb, reference: &str, query: &str, policy: &Policy) -> Result<Call, BadQuery> {
    let mut q = Query::parse(query)?;
    let container = |call| Call::Container { reference: reference.to_owned(), call };
    let mut heal = |verb| Ok::<_, BadQuery>(ContainerCall::Heal { verb, t: q.number("t", policy.max_stop_seconds)? });
    let call = match verb {
        Verb::Ping => Call::Ping,
        Verb::Version => Call::Version,
        Verb::Networks => Call::Networks { filters: q.filters(&["driver", "id", "label", "name", "scope", "type"])? },
        Verb::List => {
            // Sizes make the daemon walk the disk.
            q.never("size")?;
            Call::List {
                all: q.flag("all")?.unwrap_or(false),
                limit: q.number("limit", 10_000)?.filter(|n| *n > 0),
                filters: q.filters(&["exited", "health", "id", "label", "name", "network", "status"])?,
            }
        }
        Verb::Events => {
            let filters = q.filters(&["container", "event", "label", "type"])?;
            if filters.get("type").iter().any(|t| t != "container") {
                return Err("only events of type container are shown".to_owned());
            }
            Call::Events { since: q.time("since")?, until: q.time("until")?, filters }
        }
        Verb::Inspect => {
            q.never("size")?;
            container(ContainerCall::Inspect)
        }
        Verb::Logs => {
            // Details are environment variables and labels that log options name.
            q.never("details")?;
            container(ContainerCall::Logs {
                follow: q.flag("follow")?,
                stdout: q.flag("stdout")?,
                stderr: q.flag("stderr")?,
                timestamps: q.flag("timestamps")?,
                since: q.time("since")?,
                until: q.time("until")?,
                tail: q.tail()?,
            })
        }
        Verb::Stats => container(ContainerCall::Stats { stream: q.flag("stream")?, one_shot: q.flag("one-shot")? }),
        Verb::Restart => container(heal(HealVerb::Restart)?),
        Verb::Start => container(ContainerCall::Heal { verb: HealVerb::Start, t: None }),
        Verb::Stop => container(heal(HealVerb::Stop)?),
        Verb::Recreate => {
            container(ContainerCall::Recreate { t: q.number("t", policy.max_stop_seconds)?, image: q.image("image")? })
        }
        Verb::Replicate => container(ContainerCall::Replicate),
        Verb::RemoveReplica => container(ContainerCall::RemoveReplica { t: q.number("t", policy.max_stop_seconds)? }),
        // The catalogue opens no other verb; should it ever, it stays shut here.
        _ => return Err("the endpoint has no reader for its parameters".to_owned()),
    };
    q.done()?;
    Ok(call)
}
