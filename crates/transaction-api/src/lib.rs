//! Transactions on Postgres with a simulated payment gateway.
//!
//! The way of a payment is in [`create`], the way of a list in [`cache`]; what a
//! client sees of both is in [`http`].

pub mod cache;
pub mod config;
pub mod create;
pub mod cursor;
pub mod db;
pub mod deaf;
pub mod error;
pub mod faults;
pub mod gateway;
pub mod http;
pub mod idempotency;
pub mod metrics;
pub mod money;
pub mod pseudonym;
pub mod thermal;
pub mod transaction;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use telemetry::{Runtime, config::Secret, metrics::Registry};
use tokio::net::TcpListener;

use crate::{
    cache::{ListCache, Remote, Ttl},
    config::Config,
    db::{Database, Writer},
    faults::{Faults, Hooks},
    gateway::Gateway,
    metrics::{Metrics, PoolCollector},
    pseudonym::Pseudonyms,
};

/// Idempotency keys are honoured for this long.
const KEEP_KEYS: Duration = Duration::from_secs(24 * 3600);
const PURGE_EVERY: Duration = Duration::from_secs(600);
const FAULT_TICK: Duration = Duration::from_millis(200);
const THERMAL_TICK: Duration = Duration::from_secs(1);

/// What the handlers work with.
pub struct App {
    /// Postgres.
    pub db: Arc<Database>,
    /// Stores transactions.
    pub writer: Writer,
    /// The cache of the list.
    pub cache: Arc<ListCache>,
    /// The payment gateway.
    pub gateway: Gateway,
    /// Injected faults.
    pub faults: Arc<Faults>,
    /// The service's metrics.
    pub metrics: Metrics,
    registry: Registry,
    pseudonyms: Option<Pseudonyms>,
    faults_token: Option<Secret>,
    fault_max_ttl: Duration,
    started: Instant,
}

impl App {
    /// Puts the service together. Opens no connection: Postgres and Redis may be down.
    ///
    /// # Errors
    /// A setting is wrong.
    pub fn build(config: &Config, rt: &Runtime, hooks: Hooks) -> anyhow::Result<Arc<Self>> {
        let metrics = Metrics::new(&rt.registry)?;
        let pool_size = config.postgres.db_pool_size;
        let db = Arc::new(Database::new(
            config.postgres.options()?,
            pool_size,
            *config.postgres.db_acquire_timeout,
            *config.postgres.db_query_timeout,
            metrics.db.clone(),
        ));
        rt.registry.register(Box::new(PoolCollector::new(db.pool().clone())?))?;
        // Few lanes make large batches; reads keep the greater part of the pool.
        let lanes = (pool_size / 4).clamp(1, 4) as usize;
        let writer = Writer::start(&db, lanes);

        let cache_config = &config.cache;
        let remote = cache_config
            .redis_client()?
            .map(|client| {
                Remote::new(client, &cache_config.cache_prefix, *cache_config.redis_timeout, metrics.cache.clone())
            })
            .transpose()?;
        let ttl = Ttl {
            local: *cache_config.cache_local_ttl,
            remote: *cache_config.cache_ttl,
            stale: *cache_config.cache_stale_ttl,
        };
        let cache = Arc::new(ListCache::new(remote, ttl, metrics.cache.clone()));

        let checked = db.clone();
        rt.readiness.register("postgres", move || {
            let db = checked.clone();
            async move { db.check().await.map_err(|_| "cannot be used".to_owned()) }
        });
        Ok(Arc::new(Self {
            writer,
            cache,
            gateway: Gateway {
                latency: config.gateway.gateway_latency,
                decline_ratio: config.gateway.gateway_decline_ratio,
                duration: metrics.gateway_duration.clone(),
                voids: metrics.gateway_voids.clone(),
            },
            faults: Arc::new(Faults::new(hooks, metrics.faults.clone())),
            registry: rt.registry.clone(),
            pseudonyms: config.pseudonyms()?,
            faults_token: config.faults.token()?,
            fault_max_ttl: *config.faults.fault_max_ttl,
            started: Instant::now(),
            db,
            metrics,
        }))
    }

    /// What goes on beside the requests. Ends when dropped.
    async fn background(self: Arc<Self>, config: Config) {
        let probing = async {
            match self.cache.remote() {
                Some(remote) => remote.clone().keep_probing().await,
                None => std::future::pending().await,
            }
        };
        let faults = async {
            let mut tick = tokio::time::interval(FAULT_TICK);
            loop {
                tick.tick().await;
                self.faults.tick();
            }
        };
        let purging = async {
            let mut tick = tokio::time::interval(PURGE_EVERY);
            loop {
                tick.tick().await;
                // The next time is soon enough if Postgres is down.
                while let Ok(1000..) = self.db.purge_keys(KEEP_KEYS).await {}
            }
        };
        tokio::join!(
            probing,
            self.cache.clone().tell_remote(),
            faults,
            purging,
            measure_temperature(&self.metrics, &config.thermal_zones)
        );
    }
}

async fn measure_temperature(metrics: &Metrics, zones: &std::path::Path) {
    let zone = thermal::find_zone(zones);
    for (source, used) in [("thermal_zone", zone.is_some()), ("model", zone.is_none())] {
        metrics.temperature_source.with_label_values(&[source]).set(used.into());
    }
    let processors = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    let mut model = thermal::Model::default();
    let mut before = (Instant::now(), thermal::cpu_seconds().unwrap_or_default());
    let mut tick = tokio::time::interval(THERMAL_TICK);
    loop {
        tick.tick().await;
        let now = (Instant::now(), thermal::cpu_seconds().unwrap_or(before.1));
        let elapsed = now.0 - before.0;
        if !elapsed.is_zero() {
            model = model.step((now.1 - before.1) / elapsed.as_secs_f64() / processors, elapsed);
            before = now;
        }
        let measured = zone.as_deref().and_then(thermal::read_zone);
        metrics.temperature.set(measured.unwrap_or_else(|| model.celsius()));
    }
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// It cannot listen.
pub async fn run(config: Config, rt: Runtime) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("LISTEN_ADDR: cannot listen on {}", config.listen))?;
    serve(listener, config, rt, Hooks::default()).await
}

/// Like [`run`], on a listener and with hooks of the caller's.
///
/// # Errors
/// A setting is wrong, or the listener fails.
pub async fn serve(listener: TcpListener, config: Config, rt: Runtime, hooks: Hooks) -> anyhow::Result<()> {
    let app = App::build(&config, &rt, hooks)?;
    let router = http::router(&app);
    let grace = *config.common.shutdown_grace;
    let own = listener.local_addr()?;
    rt.readiness.register("listener", move || deaf::answers(own));
    let background = tokio::spawn(app.clone().background(config));
    tracing::info!(listen = %own, "serving");
    let served = telemetry::http::serve(listener, router, rt.shutdown.clone(), grace).await;
    background.abort();
    // Connections that hang must not hold up the end.
    let _ = tokio::time::timeout(Duration::from_secs(2), app.db.close()).await;
    Ok(served?)
}
