//! A service's life: configure, start, run until told to stop, flush, exit.

use std::{
    future::Future,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::{Readiness, admin, config, metrics::Registry};

/// A flush of logs and traces may take this long at exit, no longer.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// What a running service is handed.
#[derive(Clone)]
pub struct Runtime {
    /// The process's one metrics registry.
    pub registry: Registry,
    /// What must work for the service to be ready.
    pub readiness: Readiness,
    /// Cancelled at SIGTERM or SIGINT.
    pub shutdown: CancellationToken,
}

impl Runtime {
    /// A runtime without global state, for services started inside a test.
    pub fn for_test() -> Self {
        Self::new("test", "0").unwrap_or_else(|e| panic!("an empty registry takes its first metrics: {e}"))
    }

    fn new(service: &str, version: &str) -> Result<Self, prometheus::Error> {
        Ok(Self {
            registry: Registry::new(service, version)?,
            readiness: Readiness::default(),
            shutdown: CancellationToken::new(),
        })
    }
}

/// Loads the configuration and runs the service until it ends.
///
/// Exit codes: 0 ended as asked, 1 failed (logged once), 64 wrong configuration.
pub fn run<C, F, Fut>(service: &'static str, version: &'static str, main: F) -> ExitCode
where
    C: config::Service + clap::Parser,
    F: FnOnce(C, Runtime) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    run_with(service, version, config::load::<C>(service), main)
}

/// Like [`run`], for a program that has parsed its own command line.
pub fn run_with<C, F, Fut>(service: &'static str, version: &'static str, config: C, main: F) -> ExitCode
where
    C: config::Service,
    F: FnOnce(C, Runtime) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let common = config.common().clone();
    if common.healthcheck {
        return healthcheck(common.admin_addr);
    }
    if let Err(error) = config::validate(&config) {
        config::refuse(service, &error);
    }
    if common.check_config {
        println!("{service}: configuration is valid");
        return ExitCode::SUCCESS;
    }
    // Two workers at least: a flush may block one.
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{service}: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        let guard = match crate::init(&common.telemetry, service, version) {
            Ok(guard) => guard,
            Err(error) => {
                eprintln!("{service}: cannot start telemetry: {error:#}");
                return ExitCode::FAILURE;
            }
        };
        let result = supervise(&common, service, version, |rt| main(config, rt)).await;
        let code = match result {
            Ok(()) => {
                tracing::info!("stopped");
                ExitCode::SUCCESS
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "service failed");
                ExitCode::FAILURE
            }
        };
        guard.shutdown(FLUSH_LIMIT).await;
        code
    })
}

async fn supervise<F, Fut>(
    common: &config::Common,
    service: &'static str,
    version: &'static str,
    main: F,
) -> anyhow::Result<()>
where
    F: FnOnce(Runtime) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let rt = Runtime::new(service, version)?;
    let listener = tokio::net::TcpListener::bind(common.admin_addr)
        .await
        .with_context(|| format!("ADMIN_ADDR: cannot listen on {}", common.admin_addr))?;
    let admin = tokio::spawn(admin::serve(listener, rt.clone()));
    tokio::spawn(stop_on_signal(rt.shutdown.clone()));
    tracing::info!(version, admin = %common.admin_addr, "starting");
    let result = main(rt).await;
    admin.abort();
    result
}

async fn stop_on_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("cannot listen for signals");
        return;
    };
    let name = tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    };
    tracing::info!(signal = name, "stopping");
    shutdown.cancel();
}

/// Asks `/readyz` on loopback without starting anything: the image's health check.
fn healthcheck(admin: SocketAddr) -> ExitCode {
    let ask = || -> std::io::Result<String> {
        let limit = Duration::from_secs(4);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, admin.port()));
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) => {
            println!("{}", answer.rsplit("\r\n\r\n").next().unwrap_or_default());
            if answer.starts_with("HTTP/1.1 200") { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("no answer on the admin listener: {error}");
            ExitCode::FAILURE
        }
    }
}
