//! `/cache`: what it does, and forgetting it.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;

/// Figures since the start of the process.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stats {
    /// `redis`, `redis_down` (memory alone for now) or `memory` (no Redis configured).
    pub backend: &'static str,
    /// Lists answered from memory or Redis.
    pub hits: u64,
    /// Lists read from Postgres.
    pub misses: u64,
    /// Hits among hits and misses; `null` before the first.
    pub hit_ratio: Option<f64>,
    /// Lists that waited for another request's read.
    pub coalesced: u64,
    /// Lists answered from an old copy because Postgres could not be read.
    pub stale: u64,
    /// Calls to Redis that failed.
    pub errors: u64,
    /// Pages in this process's memory.
    pub local_pages: usize,
    /// How long a list in Redis counts as fresh.
    pub ttl_seconds: f64,
    /// How long a list in memory counts as fresh.
    pub local_ttl_seconds: f64,
}

/// What was cleared.
#[derive(Debug, Serialize, ToSchema)]
pub struct Cleared {
    /// Always: this process remembers no list any more.
    pub local: bool,
    /// Whether Redis forgot too. If not, it is told as soon as it answers again.
    pub redis: bool,
}

/// What the cache does.
#[utoipa::path(get, path = "/cache/stats", tag = "cache", operation_id = "cache_stats",
    responses((status = 200, description = "Figures since the start", body = Stats)))]
pub async fn stats(State(app): State<Arc<App>>) -> Json<Stats> {
    let metrics = app.cache.metrics();
    let (hits, misses) = (metrics.hits.get(), metrics.misses.get());
    let asked = hits + misses;
    Json(Stats {
        backend: match app.cache.remote() {
            None => "memory",
            Some(remote) if remote.is_up() => "redis",
            Some(_) => "redis_down",
        },
        hits,
        misses,
        hit_ratio: (asked > 0).then(|| hits as f64 / asked as f64),
        coalesced: metrics.coalesced.get(),
        stale: metrics.stale.get(),
        errors: metrics.errors.get(),
        local_pages: app.cache.local_pages(),
        ttl_seconds: app.cache.ttl().remote.as_secs_f64(),
        local_ttl_seconds: app.cache.ttl().local.as_secs_f64(),
    })
}

/// Forgets all lists, old copies included.
#[utoipa::path(post, path = "/cache/clear", tag = "cache", operation_id = "clear_cache",
    responses((status = 200, description = "Forgotten", body = Cleared)))]
pub async fn clear(State(app): State<Arc<App>>) -> Json<Cleared> {
    let redis = app.cache.clear().await;
    tracing::info!(redis, "cache cleared");
    Json(Cleared { local: true, redis })
}
