//! What is done for an allowed call: one request that goes upstream, or one of the guard's own operations.

use super::{
    decide::{Call, ContainerCall, HealVerb},
    facts::{Container, PROJECT_LABEL},
    image::ImageChoice,
    query::{Filters, append},
    version::ApiVersion,
};

/// How the daemon's answer becomes the guard's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `OK`, with the negotiated API version in a header.
    Ping,
    /// Version fields that clients need, versions narrowed to what the guard speaks.
    Version,
    /// A list, of which only this project's containers are kept.
    Containers,
    /// A list, of which only this project's networks are kept.
    Networks,
    /// One container, without the values of its environment.
    Inspect,
    /// A stream of JSON lines, of which only this project's containers' are kept.
    Events,
    /// A stream, passed on as it comes.
    Stream,
    /// No content, or the daemon's reason for refusing.
    Done {
        /// How long the daemon may rightly take, in seconds.
        seconds: u32,
    },
}

/// What is done for an allowed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// One request for the daemon.
    Forward(Forward),
    /// Several, on the container that was checked; what they are depends on how that one was made.
    Operate(Operation),
}

/// An operation of the guard's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Put a new container in the place of this one.
    Recreate {
        /// How long it may take to stop; the container's own setting if nobody says.
        stop_seconds: Option<u32>,
        /// From this image instead of its own.
        image: Option<ImageChoice>,
    },
    /// This container is the one that stands in the place of the one that was named.
    AlreadyRecreated,
    /// Make a further copy of this one.
    Replicate,
    /// Stop and remove this replica.
    RemoveReplica {
        /// How long it may take to stop; the container's own setting if nobody says.
        stop_seconds: Option<u32>,
    },
}

/// A request for the daemon, made only of checked parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// `GET`, `HEAD` or `POST`.
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// What to make of the answer.
    pub answer: Answer,
}

/// How long Docker lets a container stop when nobody says; compose files may
/// say more, so twice that is granted.
const DEFAULT_STOP_SECONDS: u32 = 20;

/// Writes the request. `container` is the one that was checked, for calls that name one.
pub(super) fn plan(
    method: &'static str,
    call: &Call,
    container: Option<&Container>,
    project: &str,
    version: ApiVersion,
) -> Forward {
    let own = |filters: &Filters| filters.clone().with("label", format!("{PROJECT_LABEL}={project}"));
    let mut query = String::new();
    let flag = |query: &mut String, key: &str, value: Option<bool>| {
        if let Some(value) = value {
            append(query, key, if value { "1" } else { "0" });
        }
    };
    let id = container.map_or("", |c| c.id.as_str());
    let (path, answer) = match call {
        Call::Ping => ("/_ping".to_owned(), Answer::Ping),
        Call::Version => ("/version".to_owned(), Answer::Version),
        Call::Networks { filters } => {
            append(&mut query, "filters", &own(filters).to_json());
            ("/networks".to_owned(), Answer::Networks)
        }
        Call::List { all, limit, filters } => {
            flag(&mut query, "all", Some(*all));
            if let Some(limit) = limit {
                append(&mut query, "limit", &limit.to_string());
            }
            append(&mut query, "filters", &own(filters).to_json());
            ("/containers/json".to_owned(), Answer::Containers)
        }
        Call::Events { since, until, filters } => {
            for (key, value) in [("since", since), ("until", until)] {
                if let Some(value) = value {
                    append(&mut query, key, value);
                }
            }
            append(&mut query, "filters", &own(filters).with("type", "container".to_owned()).to_json());
            ("/events".to_owned(), Answer::Events)
        }
        Call::Container { call, .. } => match call {
            // Operations are planned otherwise; should one come here, it reads and changes nothing.
            ContainerCall::Inspect
            | ContainerCall::Recreate { .. }
            | ContainerCall::Replicate
            | ContainerCall::RemoveReplica { .. } => (format!("/containers/{id}/json"), Answer::Inspect),
            ContainerCall::Logs { follow, stdout, stderr, timestamps, since, until, tail } => {
                for (key, value) in
                    [("follow", follow), ("stdout", stdout), ("stderr", stderr), ("timestamps", timestamps)]
                {
                    flag(&mut query, key, *value);
                }
                for (key, value) in [("since", since), ("until", until), ("tail", tail)] {
                    if let Some(value) = value {
                        append(&mut query, key, value);
                    }
                }
                (format!("/containers/{id}/logs"), Answer::Stream)
            }
            ContainerCall::Stats { stream, one_shot } => {
                flag(&mut query, "stream", *stream);
                flag(&mut query, "one-shot", *one_shot);
                (format!("/containers/{id}/stats"), Answer::Stream)
            }
            ContainerCall::Heal { verb, t } => {
                if let Some(t) = t {
                    append(&mut query, "t", &t.to_string());
                }
                let action = match verb {
                    HealVerb::Restart => "restart",
                    HealVerb::Start => "start",
                    HealVerb::Stop => "stop",
                };
                (format!("/containers/{id}/{action}"), Answer::Done { seconds: t.unwrap_or(DEFAULT_STOP_SECONDS) })
            }
        },
    };
    Forward { method, target: format!("/v{version}{path}{query}"), answer }
}
