//! The service's metrics, declared in one place and passed in.

use std::time::Duration;

use prometheus::{
    core::{Collector, Desc},
    proto::MetricFamily,
};
use sqlx::PgPool;
use telemetry::metrics::{
    Error, Gauge, GaugeVec, Histogram, HistogramVec, HttpMetrics, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    LATENCY_BUCKETS, Registry,
};

use crate::{db::Query, error::Exception, transaction::Status};

/// Everything but what the `telemetry` crate counts by itself.
#[derive(Clone)]
pub struct Metrics {
    /// `http_*`
    pub http: HttpMetrics,
    /// `transactions_total{outcome}`
    pub transactions: IntCounterVec,
    /// `payment_gateway_duration_seconds`
    pub gateway_duration: Histogram,
    /// `payment_gateway_voids_total`
    pub gateway_voids: IntCounter,
    /// `app_exceptions_total{type}`
    pub exceptions: IntCounterVec,
    /// `app_temperature_celsius`
    pub temperature: Gauge,
    /// `app_temperature_source_info{source}`
    pub temperature_source: IntGaugeVec,
    /// `fault_active{fault}`
    pub faults: IntGaugeVec,
    /// `db_*`
    pub db: DbMetrics,
    /// `cache_*`
    pub cache: CacheMetrics,
    /// `*_health_check_duration_seconds`
    pub health: HealthMetrics,
}

/// `outcome` of `transactions_total` where the gateway broke: nothing is stored then.
pub const GATEWAY_ERROR: &str = "gateway_error";

impl Metrics {
    /// Registers all of them, with every label set that an alert could wait for at zero.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        let metrics = Self {
            http: HttpMetrics::new(registry)?,
            transactions: registry.counter_vec(
                "transactions_total",
                "Payments by outcome; declined ones are business failures and stored, gateway errors are not.",
                &["outcome"],
            )?,
            gateway_duration: registry.histogram(
                "payment_gateway_duration_seconds",
                "Time of an authorisation at the payment gateway, in seconds.",
                LATENCY_BUCKETS,
            )?,
            gateway_voids: registry.counter(
                "payment_gateway_voids_total",
                "Authorisations given back because the transaction could not be stored.",
            )?,
            exceptions: registry.counter_vec(
                "app_exceptions_total",
                "Requests that failed by an error of the service, by type of error.",
                &["type"],
            )?,
            temperature: registry.gauge(
                "app_temperature_celsius",
                "Temperature of the processor: a CPU thermal zone, or modelled from this process's load.",
            )?,
            temperature_source: registry.int_gauge_vec(
                "app_temperature_source_info",
                "Where app_temperature_celsius comes from; 1 for the source in use.",
                &["source"],
            )?,
            faults: registry.int_gauge_vec("fault_active", "Injected faults; 1 while active.", &["fault"])?,
            db: DbMetrics::new(registry)?,
            cache: CacheMetrics::new(registry)?,
            health: HealthMetrics::new(registry)?,
        };
        for outcome in Status::ALL.map(Status::as_str).into_iter().chain([GATEWAY_ERROR]) {
            metrics.transactions.with_label_values(&[outcome]);
        }
        for exception in Exception::ALL {
            metrics.exceptions.with_label_values(&[exception.as_str()]);
        }
        Ok(metrics)
    }
}

/// Pool and statements.
#[derive(Clone)]
pub struct DbMetrics {
    /// `db_query_duration_seconds{query}`
    pub duration: HistogramVec,
    /// `db_query_success_total{query}`
    pub success: IntCounterVec,
    /// `db_query_errors_total{query}`
    pub errors: IntCounterVec,
    /// `db_pool_acquire_seconds`
    pub acquire: Histogram,
    /// `db_pool_timeouts_total`
    pub timeouts: IntCounter,
    /// `db_insert_batch_rows`
    pub batch: Histogram,
}

impl DbMetrics {
    fn new(registry: &Registry) -> Result<Self, Error> {
        let metrics = Self {
            duration: registry.histogram_vec(
                "db_query_duration_seconds",
                "Time of a statement by its name, without the wait for a connection, in seconds.",
                &["query"],
                LATENCY_BUCKETS,
            )?,
            success: registry.counter_vec(
                "db_query_success_total",
                "Statements that succeeded, by name.",
                &["query"],
            )?,
            errors: registry.counter_vec("db_query_errors_total", "Statements that failed, by name.", &["query"])?,
            acquire: registry.histogram(
                "db_pool_acquire_seconds",
                "Time that a statement waited for a connection, in seconds.",
                LATENCY_BUCKETS,
            )?,
            timeouts: registry.counter("db_pool_timeouts_total", "Waits for a connection that ended without one.")?,
            batch: registry.histogram(
                "db_insert_batch_rows",
                "Transactions that were stored by one statement.",
                &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0],
            )?,
        };
        for query in Query::ALL {
            metrics.duration.with_label_values(&[query.name()]);
            metrics.success.with_label_values(&[query.name()]);
            metrics.errors.with_label_values(&[query.name()]);
        }
        Ok(metrics)
    }

    /// Counts one statement.
    pub fn observe(&self, query: Query, took: Duration, ok: bool) {
        let label = &[query.name()];
        self.duration.with_label_values(label).observe(took.as_secs_f64());
        if ok { &self.success } else { &self.errors }.with_label_values(label).inc();
    }
}

/// `db_pool_connections{state}` and `db_pool_max_connections`, read when scraped.
pub struct PoolCollector {
    pool: PgPool,
    connections: GaugeVec,
    max: Gauge,
}

impl PoolCollector {
    /// Watches `pool`.
    ///
    /// # Errors
    /// Never in practice: the names are valid.
    pub fn new(pool: PgPool) -> Result<Self, Error> {
        let connections = GaugeVec::new(
            prometheus::Opts::new("db_pool_connections", "Connections of the pool by state."),
            &["state"],
        )?;
        let max = Gauge::new("db_pool_max_connections", "Connections that the pool may open.")?;
        max.set(f64::from(pool.options().get_max_connections()));
        Ok(Self { pool, connections, max })
    }
}

impl Collector for PoolCollector {
    fn desc(&self) -> Vec<&Desc> {
        let mut all = self.connections.desc();
        all.extend(self.max.desc());
        all
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let idle = self.pool.num_idle();
        let in_use = (self.pool.size() as usize).saturating_sub(idle);
        self.connections.with_label_values(&["idle"]).set(idle as f64);
        self.connections.with_label_values(&["in_use"]).set(in_use as f64);
        let mut all = self.connections.collect();
        all.extend(self.max.collect());
        all
    }
}

/// The cache of the list.
#[derive(Clone)]
pub struct CacheMetrics {
    /// `cache_hits_total`
    pub hits: IntCounter,
    /// `cache_misses_total`
    pub misses: IntCounter,
    /// `cache_coalesced_total`
    pub coalesced: IntCounter,
    /// `cache_stale_total`
    pub stale: IntCounter,
    /// `cache_errors_total`
    pub errors: IntCounter,
    /// `cache_redis_up`
    pub redis_up: IntGauge,
}

impl CacheMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        Ok(Self {
            hits: registry.counter("cache_hits_total", "Lists answered from memory or Redis.")?,
            misses: registry.counter("cache_misses_total", "Lists that had to be read from Postgres.")?,
            coalesced: registry.counter(
                "cache_coalesced_total",
                "Lists that waited for another request's read instead of reading themselves.",
            )?,
            stale: registry
                .counter("cache_stale_total", "Lists answered from an old copy because Postgres could not be read.")?,
            errors: registry.counter("cache_errors_total", "Calls to Redis that failed or took too long.")?,
            redis_up: registry.int_gauge("cache_redis_up", "1 while Redis is in use, 0 while it is passed by.")?,
        })
    }
}

/// What `/health` measures.
#[derive(Clone)]
pub struct HealthMetrics {
    /// `database_health_check_duration_seconds`
    pub database: Histogram,
    /// `redis_health_check_duration_seconds`
    pub redis: Histogram,
    /// `system_health_check_duration_seconds`
    pub system: Histogram,
}

impl HealthMetrics {
    fn new(registry: &Registry) -> Result<Self, Error> {
        Ok(Self {
            database: registry.histogram(
                "database_health_check_duration_seconds",
                "Time of a health check of Postgres, in seconds.",
                LATENCY_BUCKETS,
            )?,
            redis: registry.histogram(
                "redis_health_check_duration_seconds",
                "Time of a health check of Redis, in seconds.",
                LATENCY_BUCKETS,
            )?,
            system: registry.histogram(
                "system_health_check_duration_seconds",
                "Time of all health checks together, in seconds.",
                LATENCY_BUCKETS,
            )?,
        })
    }
}
