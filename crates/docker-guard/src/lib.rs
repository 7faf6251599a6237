//! docker-guard: the only container of the stack that sees the Docker socket.
//!
//! A reverse proxy with an allow-list of method and path template. Reading is
//! open to everyone inside the guard's networks and limited to the stack's own
//! containers; restart, start and stop need a token and a container that opted
//! in. Everything else is refused, with a reason, and every call is audited.
//!
//! | module | what |
//! |---|---|
//! | [`policy`] | the decision: pure, total, property-tested |
//! | [`server`] | the proxy: carries decisions out |
//! | [`operate`] | the guard's own operations: a container made anew, a replica more, one less |
//! | [`answer`] | what becomes of the daemon's answers: redaction, filtering |
//! | [`upstream`], [`daemon`], [`identity`] | the daemon, its versions, the guard's own container |
//! | [`stream`] | long answers: back-pressure and ends |
//! | [`collector`] | container metrics |
//! | [`audit`], [`metrics`] | who did what; how often |
//!
//! Invariants: nothing a client sends goes upstream as it came; a container
//! of another project cannot be told from one that does not exist; healing
//! goes to the full id whose labels were checked; what is made is a copy, and has no
//! right that the original lacks; an operation that was cut off is finished or undone.

pub mod answer;
pub mod audit;
pub mod collector;
pub mod config;
pub mod daemon;
pub mod identity;
pub mod metrics;
pub mod operate;
pub mod policy;
pub mod server;
pub mod stream;
pub mod upstream;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
pub use config::Config;
use telemetry::Runtime;
use tokio::net::TcpListener;

use crate::{collector::Collector, server::Guard};

/// A guard that listens and does not yet serve.
pub struct App {
    guard: Arc<Guard>,
    listener: TcpListener,
    config: Config,
    rt: Runtime,
}

impl App {
    /// Binds the listener and registers metrics and readiness. A daemon that is
    /// down makes the guard not ready, no more.
    ///
    /// # Errors
    /// The address is taken, or the token cannot be read.
    pub async fn build(config: Config, rt: Runtime) -> anyhow::Result<Self> {
        let guard = Arc::new(Guard::new(&config, &rt)?);
        let ready = guard.clone();
        rt.readiness.register("docker", move || {
            let guard = ready.clone();
            async move { guard.daemon.ready().await }
        });
        let listener = TcpListener::bind(config.listen_addr)
            .await
            .with_context(|| format!("LISTEN_ADDR: cannot listen on {}", config.listen_addr))?;
        Ok(Self { guard, listener, config, rt })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The listener has no address.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves and collects until shutdown.
    ///
    /// # Errors
    /// The server failed.
    pub async fn run(self) -> anyhow::Result<()> {
        let Self { guard, listener, config, rt } = self;
        let grace: Duration = *config.common.shutdown_grace;
        let collector = Collector::new(guard.clone(), *config.healthy_after);
        let repairing = tokio::spawn(operate::keep_whole(guard.clone(), rt.shutdown.clone()));
        let collecting =
            tokio::spawn(collector.run(*config.collect_interval, *config.stats_interval, rt.shutdown.clone()));
        let served = server::serve(guard, listener, config.max_connections, rt.shutdown.clone(), grace).await;
        collecting.abort();
        repairing.abort();
        served
    }
}

/// Runs the guard until shutdown.
///
/// # Errors
/// It could not start, or the server failed.
pub async fn run(config: Config, rt: Runtime) -> anyhow::Result<()> {
    App::build(config, rt).await?.run().await
}
