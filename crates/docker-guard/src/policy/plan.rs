//! The one request that goes upstream for an allowed call.

use super::{
    decide::{Call, ContainerCall, HealVerb},
    facts::{Container, PROJECT_LABEL},
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

/// A request for the daemon, made only of checked parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
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
) -> Plan {
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
            ContainerCall::Inspect => (format!("/containers/{id}/json"), Answer::Inspect),
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
    Plan { method, target: format!("/v{version}{path}{query}"), answer }
}
