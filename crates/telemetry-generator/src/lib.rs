//! telemetry-generator: a fleet of industrial machines.
//!
//! [`thermal`] and [`machine`] are the physics, [`fleet`] puts machines, sensors, [`faults`]
//! and [`gaps`] together, [`output`] is what they make, all of it without a clock. [`posted`]
//! takes the readings of real machines the same way, and [`sparkplug`] hears those that report by MQTT.
//! [`mod@forecast`] is the command that replays a file through the forecaster that each machine carries;
//! [`command`] is what the commands share. [`service`] gives it one and carries the
//! readings through the [`outbox`] to the lake; [`account`] makes records of them, which
//! [`evidence`] carries to the ledger; [`exposition`] renders the fleet at each scrape.

pub mod account;
pub mod codes;
pub mod command;
pub mod config;
pub mod evidence;
pub mod exposition;
pub mod faults;
pub mod fleet;
pub mod forecast;
pub mod gaps;
pub mod http;
pub mod machine;
pub mod metrics;
pub mod outbox;
pub mod output;
pub mod posted;
pub mod service;
pub mod simulate;
pub mod sparkplug;
pub mod state_file;
pub mod thermal;

use std::sync::Arc;

use anyhow::Context;
use lake::{Batch, Lake};
use telemetry::Runtime;
use tokio::net::TcpListener;

use crate::{
    config::Config,
    evidence::Evidence,
    exposition::FleetCollector,
    fleet::Fleet,
    metrics::{EvidenceMetrics, Metrics},
    outbox::{Outbox, queue::Queue},
    service::{App, LakeHealth, Shared, now_us, report, run_clock, run_writer},
    sparkplug::Sparkplug,
    state_file::StateDir,
};

/// Runs the service until `rt.shutdown`.
///
/// # Errors
/// The listener or the settings are unusable. A lake that is away is no error.
pub async fn run(config: Config, rt: Runtime) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.listen_addr)
        .await
        .with_context(|| format!("LISTEN_ADDR: cannot listen on {}", config.listen_addr))?;
    serve(config, listener, rt).await
}

/// Like [`run`], on a listener that is there already.
///
/// # Errors
/// As [`run`].
pub async fn serve(config: Config, listener: TcpListener, rt: Runtime) -> anyhow::Result<()> {
    let app = build(&config, &rt)?;
    let token = config.token()?;
    let router = http::router(app.clone(), token, &rt.registry);
    let clock = tokio::spawn(run_clock(app.clone(), *config.tick_interval, rt.shutdown.clone()));
    // The writer's last flush must end before the process does.
    let flush_limit = config.common.shutdown_grace.mul_f64(0.5);
    let writer = tokio::spawn(run_writer(app.clone(), *config.write_interval, flush_limit, rt.shutdown.clone()));
    let carrier = tokio::spawn(evidence::run(app.clone(), rt.shutdown.clone()));
    let listener_of_plants = tokio::spawn(sparkplug::run(app.clone(), rt.shutdown.clone()));
    tracing::info!(machines = config.machines, listen = %listener.local_addr()?, "fleet is running");
    telemetry::http::serve(listener, router, rt.shutdown.clone(), *config.common.shutdown_grace).await?;
    clock.await?;
    listener_of_plants.await?;
    carrier.await?;
    // Nothing is measured any more.
    evidence::finish(&app, config.common.shutdown_grace.mul_f64(0.3)).await;
    writer.await?;
    Ok(())
}

fn build(config: &Config, rt: &Runtime) -> anyhow::Result<Arc<App>> {
    let metrics = Metrics::new(&rt.registry)?;
    let lake = Lake::open(&config.lake.settings()?, Arc::new(metrics.clone()))?;
    let state = StateDir::open(&config.state_dir);
    let now = now_us();
    let boot_id = uuid::Uuid::new_v4().to_string();
    let period_us = i64::try_from(config.tick_interval.as_micros())?;
    let mut fleet = Fleet::new(config.machines, config.seed, &boot_id, period_us, now);
    let mut outbox = Outbox::<Batch>::new(config.buffer_readings);
    if let Some(state) = &state {
        report(&fleet.restore(&state.load(), now));
        let unwritten = outbox.push(state.take_unwritten());
        report(&fleet.lost(&unwritten));
    }
    let evidence = match config.ledger.open()? {
        None => None,
        Some((target, factors)) => {
            fleet.keep_accounts(i64::try_from(config.ledger.interval.as_micros())?);
            let dir = state.as_ref().map(|state| state.folder("ledger-queue"));
            let queue = Queue::open(dir.as_deref(), config.ledger.queue_entries).unwrap_or_else(|error| {
                tracing::error!(%error, "the queue to the ledger cannot be kept on the disk");
                Queue::in_memory(config.ledger.queue_entries)
            });
            Some(Evidence::new(factors, target, queue, EvidenceMetrics::new(&rt.registry)?))
        }
    };
    let sparkplug = match config.sparkplug.open()? {
        None => None,
        Some(broker) => Some(Sparkplug::new(broker, &config.sparkplug, &rt.registry)?),
    };
    let fleet = Arc::new(Shared::new(fleet));
    rt.registry.register(Box::new(FleetCollector::new(fleet.clone())?))?;
    Ok(Arc::new(App {
        fleet,
        outbox: Shared::new(outbox),
        lake_health: Shared::new(LakeHealth::default()),
        lake,
        metrics,
        state,
        saving: Shared::default(),
        evidence,
        sparkplug,
    }))
}
