//! drift-inference: predicts failures from machine readings and watches itself doing it.
//!
//! [`ingest`] pulls readings from the lake; [`pipeline`] turns them into [`features`], scores
//! them with the [`model`], judges predictions when the [`truth`] arrives, and keeps sliding
//! [`window`]s for accuracy and for the distance from the frozen [`profile`]. The API scores
//! with the same model. The lake may be away: predictions go on, and `/health` says so.
//!
//! Without any server, [`cli`] compares anybody's tables: [`table`] reads them, [`collect`] summarises
//! them, [`score`] judges and [`report`] shows.

pub mod cli;
pub mod clock;
pub mod collect;
pub mod config;
pub mod cursor_file;
pub mod distribution;
pub mod features;
pub mod http;
pub mod ingest;
pub mod metrics;
pub mod model;
pub mod pipeline;
pub mod profile;
pub mod registry;
pub mod report;
pub mod score;
pub mod table;
pub mod train;
pub mod truth;
pub mod window;

use std::sync::{Arc, Mutex};

use anyhow::Context;
use lake::Lake;
use telemetry::Runtime;
use tokio::net::TcpListener;

use crate::{
    clock::now_us,
    config::Config,
    ingest::{App, Ingest, LakeHealth},
    metrics::Metrics,
    pipeline::Pipeline,
    registry::Registry,
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
    let model = config.model()?;
    let metrics = Metrics::new(&rt.registry, &model)?;
    let lake = Lake::open(&config.lake.settings()?, Arc::new(metrics.clone()))?;
    let pipeline = Pipeline::new(model.clone(), *config.label_horizon, *config.accuracy_window, *config.drift_window);
    let app = Arc::new(App {
        pipeline: Mutex::new(pipeline),
        health: Mutex::new(LakeHealth::default()),
        metrics,
        min_labels: config.accuracy_min_labels,
        registry: Registry::new(lake.clone()),
        history: Mutex::default(),
        first_model: model.clone(),
        horizon_seconds: config.label_horizon.as_secs_f64(),
        models_token: config.models_token()?,
    });
    let ingest = Ingest::new(app.clone(), lake, &config, now_us());
    let router = http::router(app, &rt.registry);
    let pull = tokio::spawn(ingest::run(ingest, *config.pull_interval, rt.shutdown.clone()));
    tracing::info!(model = model.version, listen = %listener.local_addr()?, "serving predictions");
    telemetry::http::serve(listener, router, rt.shutdown.clone(), *config.common.shutdown_grace).await?;
    pull.await?;
    Ok(())
}
