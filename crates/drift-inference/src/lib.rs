//! drift-inference: predicts failures from machine readings and watches itself doing it.
//!
//! [`ingest`] pulls readings from the lake; [`pipeline`] turns them into [`features`], scores
//! them with the [`model`], judges predictions when the [`truth`] arrives, and keeps sliding
//! [`window`]s for accuracy and for the distance from the frozen [`profile`]; what a feature does beyond what the
//! others explain is held against the fleet's own past ([`unexplained`]). The API scores
//! with the same model. The lake may be away: predictions go on, and `/health` says so. When drift or low
//! accuracy lasts, [`retrain`] trains a challenger in the background and lets it serve if it is better.
//!
//! Without any server, [`cli`] compares anybody's tables: [`table`] reads them, [`collect`] summarises
//! them, [`score`] judges and [`report`] shows.

pub mod cli;
pub mod clock;
pub mod collect;
pub mod config;
pub mod distribution;
pub mod features;
pub mod http;
pub mod ingest;
pub mod lake_faults;
pub mod metrics;
pub mod model;
pub mod pipeline;
pub mod profile;
pub mod registry;
pub mod report;
pub mod retrain;
pub mod score;
pub mod state_file;
pub mod table;
pub mod train;
pub mod truth;
pub mod unexplained;
pub mod window;

use std::sync::{Arc, Mutex};

use anyhow::Context;
use lake::{Lake, Settings, store::Backend};
use telemetry::Runtime;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::now_us,
    config::Config,
    ingest::{App, Ingest, LakeHealth},
    lake_faults::Faults,
    metrics::Metrics,
    pipeline::Pipeline,
    registry::Registry,
    retrain::Retrain,
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
    let mut settings = config.lake.settings()?;
    let lake_faults = match config.breakable_lake()? {
        Some(target) => Some(break_lake(&mut settings, target, rt.shutdown.clone()).await?),
        None => None,
    };
    let lake = Lake::open(&settings, Arc::new(metrics.clone()))?;
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
        lake_faults,
        retrain: Retrain::new(config.retrain_settings(), lake.clone(), rt.shutdown.clone()),
    });
    let ingest = Ingest::new(app.clone(), lake, &config, now_us());
    let router = http::router(app.clone(), &rt.registry);
    let watch = tokio::spawn(retrain::run(app.clone(), *config.pull_interval));
    let pull = tokio::spawn(ingest::run(ingest, *config.pull_interval, rt.shutdown.clone()));
    tracing::info!(model = model.version, listen = %listener.local_addr()?, "serving predictions");
    telemetry::http::serve(listener, router, rt.shutdown.clone(), *config.common.shutdown_grace).await?;
    pull.await?;
    watch.await?;
    app.retrain.finish().await;
    Ok(())
}

/// Puts the proxy that breaks the lake on demand before it.
async fn break_lake(settings: &mut Settings, target: String, shutdown: CancellationToken) -> anyhow::Result<Faults> {
    let (listener, address) = lake_faults::listen().await.context("LAKE_FAULTS: no port on loopback")?;
    if let Backend::S3(s3) = &mut settings.backend {
        s3.endpoint = format!("http://{address}");
    }
    let faults = Faults::default();
    tokio::spawn(lake_faults::run(listener, target, faults.clone(), shutdown));
    Ok(faults)
}
