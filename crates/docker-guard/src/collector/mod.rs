//! What healing must know about each container and cAdvisor does not say:
//! read from the daemon, kept in a [`Snapshot`], exported by an [`Exporter`].

mod export;
mod model;
mod poll;
mod snapshot;

pub use export::Exporter;
pub use model::{Health, State, Usage, state, usage, working_set};
pub use poll::{Collector, EVENTS};
pub use snapshot::{Observed, Snapshot};
