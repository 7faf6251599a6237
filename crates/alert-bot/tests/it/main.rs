//! Integration tests on the real components: SQLite files, Docker, Prometheus,
//! Alertmanager, and the real binary.

#![allow(missing_docs, clippy::unwrap_used)]

mod api;
mod api_cli;
mod api_console;
mod backend;
mod backend_docker;
mod causes;
mod heal;
mod hostile;
mod journal;
mod model;
mod notify;
mod process;
mod release;
mod support;
mod two_bots;
mod webhook;
