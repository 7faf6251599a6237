//! docker-guard: the only container of the stack that sees the Docker socket.
//!
//! A reverse proxy with an allow-list of method and path template. Reading is
//! open to everyone inside the guard's networks and limited to the stack's own
//! containers; restart, start and stop need a token and a container that opted
//! in. Everything else is refused, with a reason, and every call is audited.

pub mod policy;
