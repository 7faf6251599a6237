//! What may be asked of Docker: pure decisions, no I/O.
//!
//! [`route`] reads a request as it was sent; [`decide`] says yes or no, given
//! what the daemon knows about the container that the request names. A yes
//! carries a [`Plan`]: the one request that goes upstream, *built here from
//! checked parts*. Nothing that a client sent is ever passed on as it came.

mod catalog;
mod decide;
mod facts;
mod path;
mod plan;
mod query;
mod reason;
mod version;

pub use catalog::{Access, CATALOG, Endpoint, Verb};
pub use decide::{Allowed, Call, ContainerCall, Decision, Denied, HealVerb, Policy, Route, decide, route};
pub(crate) use facts::Inspect;
pub use facts::{Container, ContainerId, PROJECT_LABEL};
pub use path::{HeaderFacts, Request, Token};
pub use plan::{Answer, Plan};
pub use query::Filters;
pub use reason::Reason;
pub use version::{ApiVersion, VersionRange};
