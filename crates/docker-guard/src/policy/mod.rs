//! What may be asked of Docker: pure decisions, no I/O.
//!
//! [`route`] reads a request as it was sent; [`decide`] says yes or no, given
//! what the daemon knows about the container that the request names. A yes
//! carries a [`Plan`]: the one request that goes upstream, *built here from
//! checked parts*, or one of the guard's own operations. For those, [`blueprint`]
//! says what the new container is to be, and [`repairs`] what is to become of one
//! that was left half made. Nothing that a client sent is ever passed on as it came.

mod blueprint;
mod catalog;
mod decide;
mod facts;
mod image;
mod path;
mod plan;
mod query;
mod reason;
mod repair;
mod version;

pub use blueprint::{Blueprint, Make, Refusal, blueprint, next_number};
pub use catalog::{Access, CATALOG, Endpoint, Verb};
pub use decide::{Allowed, Call, ContainerCall, Decision, Denied, HealVerb, Policy, Route, decide, route};
pub(crate) use facts::Inspect;
pub use facts::{Container, ContainerId, PROJECT_LABEL, REPLACES_LABEL, REPLICA_OF_LABEL, SERVICE_LABEL};
pub(crate) use image::memory_tags;
pub use image::{ImageChoice, MEMORY_PREFIX, memory_tag, repository, same_repository};
pub use path::{HeaderFacts, Request, Token};
pub use plan::{Answer, Forward, Operation, Plan};
pub use query::Filters;
pub(crate) use query::append;
pub use reason::Reason;
pub use repair::{Entry, Repair, hidden, repairs};
pub use version::{ApiVersion, VersionRange};
