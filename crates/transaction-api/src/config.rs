//! Configuration, one struct a concern, each field naming its variable.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use sqlx::{ConnectOptions, postgres::PgConnectOptions};
use telemetry::config::{Common, ConfigError, Duration, Secret, Service, optional_secret};

use crate::{gateway::Latency, pseudonym::Pseudonyms};

/// All settings of the service.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "transaction-api", version, about)]
pub struct Config {
    /// What every service has.
    #[command(flatten)]
    pub common: Common,
    /// `LISTEN_ADDR`: the service's own listener.
    #[arg(long, env = "LISTEN_ADDR", default_value = "0.0.0.0:8000")]
    pub listen: SocketAddr,
    /// Postgres.
    #[command(flatten)]
    pub postgres: PostgresConfig,
    /// Redis and the cache of the list.
    #[command(flatten)]
    pub cache: CacheConfig,
    /// The simulated payment gateway.
    #[command(flatten)]
    pub gateway: GatewayConfig,
    /// Fault injection.
    #[command(flatten)]
    pub faults: FaultConfig,
    /// `USER_HASH_KEY`: key of the pseudonyms in the logs. Without it no user is logged at all.
    #[arg(long, env = "USER_HASH_KEY", hide_env_values = true)]
    pub user_hash_key: Option<Secret>,
    /// `USER_HASH_KEY_FILE`: file with that key.
    #[arg(long, env = "USER_HASH_KEY_FILE")]
    pub user_hash_key_file: Option<PathBuf>,
    /// `THERMAL_ZONES`: where to look for a CPU thermal zone before the temperature is modelled.
    #[arg(long, env = "THERMAL_ZONES", default_value = "/sys/class/thermal")]
    pub thermal_zones: PathBuf,
}

/// Where Postgres is. `DATABASE_URL` stands in for all of the `PG*` variables.
#[derive(clap::Args, Clone, Debug)]
pub struct PostgresConfig {
    /// `DATABASE_URL`: `postgres://user:password@host:port/database`.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<Secret>,
    /// `PGHOST`
    #[arg(long, env = "PGHOST", default_value = "localhost")]
    pub pg_host: String,
    /// `PGPORT`
    #[arg(long, env = "PGPORT", default_value_t = 5432)]
    pub pg_port: u16,
    /// `PGUSER`
    #[arg(long, env = "PGUSER", default_value = "app")]
    pub pg_user: String,
    /// `PGDATABASE`
    #[arg(long, env = "PGDATABASE", default_value = "transactions")]
    pub pg_database: String,
    /// `DB_PASSWORD`
    #[arg(long, env = "DB_PASSWORD", hide_env_values = true)]
    pub db_password: Option<Secret>,
    /// `DB_PASSWORD_FILE`
    #[arg(long, env = "DB_PASSWORD_FILE")]
    pub db_password_file: Option<PathBuf>,
    /// `DB_POOL_SIZE`: connections at most.
    #[arg(long, env = "DB_POOL_SIZE", default_value_t = 16)]
    pub db_pool_size: u32,
    /// `DB_ACQUIRE_TIMEOUT`: how long a request waits for a connection before it answers 503.
    #[arg(long, env = "DB_ACQUIRE_TIMEOUT", default_value = "1s")]
    pub db_acquire_timeout: Duration,
    /// `DB_QUERY_TIMEOUT`: how long a statement may take before it is given up.
    #[arg(long, env = "DB_QUERY_TIMEOUT", default_value = "3s")]
    pub db_query_timeout: Duration,
}

impl PostgresConfig {
    /// What a connection is opened with.
    ///
    /// # Errors
    /// Names the variable that is wrong.
    pub fn options(&self) -> Result<PgConnectOptions, ConfigError> {
        let options = match &self.database_url {
            Some(url) => {
                // The cause may quote the URL, and with it the password.
                let wrong = || ConfigError::new("DATABASE_URL", "is not a postgres:// URL");
                if !["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme)) {
                    return Err(wrong());
                }
                PgConnectOptions::from_str(url.expose()).map_err(|_| wrong())?
            }
            None => {
                let options = PgConnectOptions::new_without_pgpass()
                    .host(&self.pg_host)
                    .port(self.pg_port)
                    .username(&self.pg_user)
                    .database(&self.pg_database);
                match optional_secret("DB_PASSWORD", self.db_password.as_ref(), self.db_password_file.as_ref())? {
                    Some(password) => options.password(password.expose()),
                    None => options,
                }
            }
        };
        Ok(options
            .application_name("transaction-api")
            // The server gives up a little before the client does, so that the
            // connection stays usable.
            .options([("statement_timeout", self.db_query_timeout.as_millis().saturating_mul(9) / 10)])
            // Statements are measured and traced by the repository; values never enter a log.
            .disable_statement_logging())
    }
}

/// Redis and what is kept in it.
#[derive(clap::Args, Clone, Debug)]
pub struct CacheConfig {
    /// `REDIS_ADDR`: `host:port`; empty works without Redis.
    #[arg(long, env = "REDIS_ADDR", default_value = "")]
    pub redis_addr: String,
    /// `REDIS_PASSWORD`
    #[arg(long, env = "REDIS_PASSWORD", hide_env_values = true)]
    pub redis_password: Option<Secret>,
    /// `REDIS_PASSWORD_FILE`
    #[arg(long, env = "REDIS_PASSWORD_FILE")]
    pub redis_password_file: Option<PathBuf>,
    /// `REDIS_TIMEOUT`: how long a request waits for Redis before it goes on without.
    #[arg(long, env = "REDIS_TIMEOUT", default_value = "50ms")]
    pub redis_timeout: Duration,
    /// `CACHE_PREFIX`: start of the keys in Redis.
    #[arg(long, env = "CACHE_PREFIX", default_value = "transactions")]
    pub cache_prefix: String,
    /// `CACHE_TTL`: how long a list in Redis counts as fresh.
    #[arg(long, env = "CACHE_TTL", default_value = "5s")]
    pub cache_ttl: Duration,
    /// `CACHE_LOCAL_TTL`: how long a list in this process's memory counts as fresh; with several
    /// processes the longest time that one may not know of another's transactions.
    #[arg(long, env = "CACHE_LOCAL_TTL", default_value = "500ms")]
    pub cache_local_ttl: Duration,
    /// `CACHE_STALE_TTL`: how long an old list may stand in while Postgres is down.
    #[arg(long, env = "CACHE_STALE_TTL", default_value = "10m")]
    pub cache_stale_ttl: Duration,
}

impl CacheConfig {
    /// How Redis is reached; `None` without Redis.
    ///
    /// # Errors
    /// Names the variable that is wrong.
    pub fn redis_client(&self) -> Result<Option<redis::Client>, ConfigError> {
        if self.redis_addr.is_empty() {
            return Ok(None);
        }
        let password =
            optional_secret("REDIS_PASSWORD", self.redis_password.as_ref(), self.redis_password_file.as_ref())?;
        let wrong = |_| ConfigError::new("REDIS_ADDR", format!("'{}' is not host:port", self.redis_addr));
        if !self.redis_addr.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        {
            return Err(wrong(()));
        }
        let mut settings = redis::RedisConnectionInfo::default();
        if let Some(password) = password {
            settings = settings.set_password(password.expose());
        }
        let info = redis::IntoConnectionInfo::into_connection_info(format!("redis://{}", self.redis_addr))
            .map_err(|_| wrong(()))?
            .set_redis_settings(settings);
        redis::Client::open(info).map(Some).map_err(|_| wrong(()))
    }
}

/// The simulated payment gateway.
#[derive(clap::Args, Clone, Debug)]
pub struct GatewayConfig {
    /// `GATEWAY_LATENCY`: a range such as `50ms..200ms`, or one value.
    #[arg(long, env = "GATEWAY_LATENCY", default_value = "50ms..200ms")]
    pub gateway_latency: Latency,
    /// `GATEWAY_DECLINE_RATIO`: share of payments that are declined, 0 to 1.
    #[arg(long, env = "GATEWAY_DECLINE_RATIO", default_value_t = 0.05)]
    pub gateway_decline_ratio: f64,
}

/// Fault injection.
#[derive(clap::Args, Clone, Debug)]
pub struct FaultConfig {
    /// `FAULTS_TOKEN`: bearer token of `/faults`; without it nobody can inject a fault.
    #[arg(long, env = "FAULTS_TOKEN", hide_env_values = true)]
    pub faults_token: Option<Secret>,
    /// `FAULTS_TOKEN_FILE`
    #[arg(long, env = "FAULTS_TOKEN_FILE")]
    pub faults_token_file: Option<PathBuf>,
    /// `FAULT_MAX_TTL`: the longest time to live of a fault.
    #[arg(long, env = "FAULT_MAX_TTL", default_value = "15m")]
    pub fault_max_ttl: Duration,
}

impl FaultConfig {
    /// The token, if there is one.
    ///
    /// # Errors
    /// Names the variable that is wrong.
    pub fn token(&self) -> Result<Option<Secret>, ConfigError> {
        optional_secret("FAULTS_TOKEN", self.faults_token.as_ref(), self.faults_token_file.as_ref())
    }
}

impl Config {
    /// The maker of pseudonyms, if there is a key.
    ///
    /// # Errors
    /// Names the variable that is wrong.
    pub fn pseudonyms(&self) -> Result<Option<Pseudonyms>, ConfigError> {
        let file: Option<&Path> = self.user_hash_key_file.as_deref();
        let key = optional_secret("USER_HASH_KEY", self.user_hash_key.as_ref(), file.map(Path::to_owned).as_ref())?;
        Ok(key.and_then(|key| Pseudonyms::new(key.expose())))
    }
}

impl Service for Config {
    fn common(&self) -> &Common {
        &self.common
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let within =
            |variable, ok: bool, reason: &str| if ok { Ok(()) } else { Err(ConfigError::new(variable, reason)) };
        let seconds = |d: Duration| d.as_secs_f64();
        within("DB_POOL_SIZE", (2..=200).contains(&self.postgres.db_pool_size), "must be 2 to 200")?;
        within(
            "DB_ACQUIRE_TIMEOUT",
            (0.05..=30.0).contains(&seconds(self.postgres.db_acquire_timeout)),
            "must be 50ms to 30s",
        )?;
        within(
            "DB_QUERY_TIMEOUT",
            (0.1..=60.0).contains(&seconds(self.postgres.db_query_timeout)),
            "must be 100ms to 60s",
        )?;
        within("REDIS_TIMEOUT", (0.001..=2.0).contains(&seconds(self.cache.redis_timeout)), "must be 1ms to 2s")?;
        within("CACHE_PREFIX", !self.cache.cache_prefix.is_empty(), "is empty")?;
        within(
            "CACHE_LOCAL_TTL",
            self.cache.cache_local_ttl <= self.cache.cache_ttl,
            "must not be longer than CACHE_TTL",
        )?;
        within(
            "CACHE_STALE_TTL",
            self.cache.cache_ttl <= self.cache.cache_stale_ttl,
            "must not be shorter than CACHE_TTL",
        )?;
        within(
            "GATEWAY_DECLINE_RATIO",
            (0.0..=1.0).contains(&self.gateway.gateway_decline_ratio),
            "must be between 0 and 1",
        )?;
        within("FAULT_MAX_TTL", (1.0..=86_400.0).contains(&seconds(self.faults.fault_max_ttl)), "must be 1s to 24h")?;
        self.postgres.options()?;
        self.cache.redis_client()?;
        self.faults.token()?;
        self.pseudonyms()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&str]) -> Result<(), String> {
        let args = std::iter::once("transaction-api").chain(args.iter().copied()).map(Into::into);
        let config: Config = telemetry::config::parse(args).map_err(|e| e.unwrap_or_else(|e| e.to_string()))?;
        config.validate().map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_are_valid() {
        check(&[]).unwrap();
    }

    #[test]
    fn errors_name_the_variable() {
        for (args, variable) in [
            (&["--db-pool-size", "0"][..], "DB_POOL_SIZE"),
            (&["--db-pool-size", "many"], "DB_POOL_SIZE"),
            (&["--db-acquire-timeout", "5"], "DB_ACQUIRE_TIMEOUT"),
            (&["--database-url", "mysql://root:hunter2@db/x"], "DATABASE_URL"),
            (&["--db-password-file", "/nonexistent"], "DB_PASSWORD_FILE"),
            (&["--redis-addr", "redis"], "REDIS_ADDR"),
            (&["--redis-addr", "redis:99999"], "REDIS_ADDR"),
            (&["--redis-timeout", "10s"], "REDIS_TIMEOUT"),
            (&["--gateway-latency", "9..1"], "GATEWAY_LATENCY"),
            (&["--gateway-decline-ratio", "5"], "GATEWAY_DECLINE_RATIO"),
            (&["--faults-token", ""], "FAULTS_TOKEN"),
            (&["--fault-max-ttl", "0s"], "FAULT_MAX_TTL"),
            (&["--cache-local-ttl", "1h"], "CACHE_LOCAL_TTL"),
            (&["--cache-ttl", "1h"], "CACHE_STALE_TTL"),
            (&["--user-hash-key-file", "/nonexistent"], "USER_HASH_KEY_FILE"),
        ] {
            let error = check(args).expect_err(variable);
            assert!(error.starts_with(&format!("{variable}: ")), "{args:?}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
