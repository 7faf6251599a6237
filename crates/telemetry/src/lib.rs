//! What every service shares: start-up and life cycle, configuration, logs and
//! traces, metrics, the HTTP layer, health, and errors as `problem+json`.
//!
//! A service's `main` is one call:
//!
//! ```no_run
//! # use telemetry::{config, Runtime};
//! # #[derive(clap::Parser)] struct Config { #[command(flatten)] common: config::Common }
//! # impl config::Service for Config { fn common(&self) -> &config::Common { &self.common } }
//! fn main() -> std::process::ExitCode {
//!     telemetry::run("my-service", env!("CARGO_PKG_VERSION"), |config: Config, rt: Runtime| async move {
//!         rt.shutdown.cancelled().await;
//!         Ok(())
//!     })
//! }
//! ```
//!
//! Nothing outside this crate names `opentelemetry*`.

pub mod admin;
pub mod client;
pub mod config;
pub mod health;
pub mod http;
mod life;
mod logs;
pub mod metrics;
pub mod problem;
mod stdout;
pub mod trace;

pub use health::Readiness;
pub use life::{Runtime, run, run_with};
pub use logs::{Guard, init};
#[doc(hidden)]
pub use tracing as __tracing;

/// Many small, short-lived values are what spans, log records and requests are made of.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
