//! Configuration: one field a variable.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf};

use telemetry::config::{self, Common, ConfigError, Duration, Secret};

/// docker-guard lets the stack see its own containers and heal those that opted in.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "docker-guard", version)]
pub struct Config {
    /// Settings that every service has.
    #[command(flatten)]
    pub common: Common,
    /// Where Docker clients connect, plain HTTP; never publish it.
    #[arg(long, env = "LISTEN_ADDR", default_value = "0.0.0.0:2375")]
    pub listen_addr: SocketAddr,
    /// The daemon's socket.
    #[arg(long, env = "DOCKER_SOCKET", default_value = "/var/run/docker.sock")]
    pub docker_socket: PathBuf,
    /// The compose project whose containers are visible; default: that of the guard's own container.
    #[arg(long, env = "GUARD_PROJECT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub project: Option<String>,
    /// The guard's own container, by name or id; default: found out from `/proc`.
    #[arg(long, env = "GUARD_CONTAINER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub container: Option<String>,
    /// The token that whatever changes something needs.
    #[arg(long, env = "GUARD_TOKEN", hide_env_values = true)]
    pub token: Option<Secret>,
    /// A file that holds the token.
    #[arg(long, env = "GUARD_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Services that are never touched, whatever their labels say; comma-separated.
    #[arg(
        long,
        env = "GUARD_PROTECTED_SERVICES",
        value_delimiter = ',',
        default_value = "docker-guard,alert-bot,prometheus,alertmanager"
    )]
    pub protected_services: Vec<String>,
    /// Longest stop time-out that a caller may ask for.
    #[arg(long, env = "GUARD_MAX_STOP", default_value = "60s")]
    pub max_stop: Duration,
    /// Replicas that a service may have beside its own containers.
    #[arg(long, env = "GUARD_MAX_REPLICAS", default_value_t = 2)]
    pub max_replicas: u32,
    /// An image is remembered as good once a container of it has been healthy for so long.
    #[arg(long, env = "GUARD_HEALTHY_AFTER", default_value = "60s")]
    pub healthy_after: Duration,
    /// Short requests under way at a time.
    #[arg(long, env = "GUARD_MAX_REQUESTS", default_value_t = 64)]
    pub max_requests: usize,
    /// Streams (events, logs, stats) open at a time.
    #[arg(long, env = "GUARD_MAX_STREAMS", default_value_t = 32)]
    pub max_streams: usize,
    /// Connections open at a time.
    #[arg(long, env = "GUARD_MAX_CONNECTIONS", default_value_t = 256)]
    pub max_connections: usize,
    /// A stream on which nothing happened for so long is ended.
    #[arg(long, env = "GUARD_STREAM_IDLE", default_value = "30m")]
    pub stream_idle: Duration,
    /// A stream is ended after so long; clients connect again.
    #[arg(long, env = "GUARD_STREAM_LIFETIME", default_value = "6h")]
    pub stream_lifetime: Duration,
    /// How often the containers' state is read; events are seen at once in between.
    #[arg(long, env = "COLLECT_INTERVAL", default_value = "5s")]
    pub collect_interval: Duration,
    /// How often CPU, memory and network usage are read.
    #[arg(long, env = "STATS_INTERVAL", default_value = "10s")]
    pub stats_interval: Duration,
}

impl config::Service for Config {
    fn common(&self) -> &Common {
        &self.common
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let token = self.secret()?;
        if token.expose().len() < 16 {
            return Err(ConfigError::new("GUARD_TOKEN", "is shorter than 16 characters"));
        }
        if self.max_stop.as_secs() == 0 || self.max_stop.as_secs() > 600 {
            return Err(ConfigError::new("GUARD_MAX_STOP", "is not between 1s and 10m"));
        }
        for (variable, value) in [
            ("GUARD_MAX_REQUESTS", self.max_requests),
            ("GUARD_MAX_STREAMS", self.max_streams),
            ("GUARD_MAX_CONNECTIONS", self.max_connections),
        ] {
            if !(1..=100_000).contains(&value) {
                return Err(ConfigError::new(variable, "is not between 1 and 100000"));
            }
        }
        for (variable, value) in [
            ("COLLECT_INTERVAL", self.collect_interval),
            ("STATS_INTERVAL", self.stats_interval),
            ("GUARD_STREAM_IDLE", self.stream_idle),
            ("GUARD_STREAM_LIFETIME", self.stream_lifetime),
        ] {
            if value.as_millis() < 100 {
                return Err(ConfigError::new(variable, "is shorter than 100ms"));
            }
        }
        Ok(())
    }
}

impl Config {
    /// The token, from `GUARD_TOKEN` or `GUARD_TOKEN_FILE`.
    ///
    /// # Errors
    /// Neither, both, unreadable or empty.
    pub fn secret(&self) -> Result<Secret, ConfigError> {
        config::secret("GUARD_TOKEN", self.token.as_ref(), self.token_file.as_deref())
    }

    /// `GUARD_PROTECTED_SERVICES` as a set.
    pub fn protected(&self) -> BTreeSet<String> {
        self.protected_services.iter().map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()
    }
}
