//! The service on a real Postgres and a real Redis, in this process on a free port.
#![allow(missing_docs, clippy::unwrap_used)]

mod bad_input;
mod cache;
mod faults;
mod happy;
mod idempotency;
mod loss;
mod openapi;
mod paging;
mod process;
mod proxy;
mod schema;
mod support;
