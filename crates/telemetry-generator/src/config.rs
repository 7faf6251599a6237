//! Settings of the process.

use std::{net::SocketAddr, path::PathBuf};

use lake::config::LakeArgs;
use telemetry::config::{Common, ConfigError, Duration, Secret, Service, optional_secret};

/// Most machines in one process.
pub const MAX_MACHINES: usize = 100_000;

/// Configuration of telemetry-generator.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "telemetry-generator", version, about = "A fleet of industrial machines: physics, metrics, readings")]
pub struct Config {
    /// What all services share.
    #[command(flatten)]
    pub common: Common,
    /// Listener for the API.
    #[arg(long, env = "LISTEN_ADDR", default_value = "0.0.0.0:8001")]
    pub listen_addr: SocketAddr,
    /// Machines in the fleet.
    #[arg(long, env = "MACHINES", default_value_t = 5)]
    pub machines: usize,
    /// Seed of the fleet: the same seed makes the same machines.
    #[arg(long, env = "SEED", default_value_t = 42)]
    pub seed: u64,
    /// A reading of each machine is due this often.
    #[arg(long, env = "TICK_INTERVAL", default_value = "1s")]
    pub tick_interval: Duration,
    /// Readings go to the lake this often.
    #[arg(long, env = "WRITE_INTERVAL", default_value = "15s")]
    pub write_interval: Duration,
    /// Readings kept while the lake is down; the oldest beyond are lost and counted as a gap.
    #[arg(long, env = "BUFFER_READINGS", default_value_t = 50_000)]
    pub buffer_readings: usize,
    /// Folder for what outlives the process: energy meters, readings not handed over.
    #[arg(long, env = "STATE_DIR", default_value = "/var/lib/telemetry-generator")]
    pub state_dir: PathBuf,
    /// Token for what changes something (faults, machines, loads, posted readings); without it nothing can be changed.
    #[arg(long, env = "OPERATOR_TOKEN", hide_env_values = true)]
    pub operator_token: Option<Secret>,
    /// File with the token.
    #[arg(long, env = "OPERATOR_TOKEN_FILE")]
    pub operator_token_file: Option<PathBuf>,
    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
}

impl Config {
    /// The operator's token, if faults are allowed.
    ///
    /// # Errors
    /// Names the variable.
    pub fn token(&self) -> Result<Option<Secret>, ConfigError> {
        optional_secret("OPERATOR_TOKEN", self.operator_token.as_ref(), self.operator_token_file.as_ref())
    }
}

impl Service for Config {
    fn common(&self) -> &Common {
        &self.common
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=MAX_MACHINES).contains(&self.machines) {
            return Err(ConfigError::new("MACHINES", format!("{} is not between 1 and {MAX_MACHINES}", self.machines)));
        }
        let (tick, write) = (self.tick_interval.as_secs_f64(), self.write_interval.as_secs_f64());
        if !(0.05..=60.0).contains(&tick) {
            return Err(ConfigError::new("TICK_INTERVAL", "must be between 50ms and 60s"));
        }
        if !(tick..=3_600.0).contains(&write) {
            return Err(ConfigError::new("WRITE_INTERVAL", "must be between TICK_INTERVAL and 1h"));
        }
        if self.buffer_readings < self.machines {
            return Err(ConfigError::new("BUFFER_READINGS", "must hold one reading of each machine at least"));
        }
        self.token()?;
        self.lake.settings()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn check(args: &[&str]) -> String {
        let keys = ["x", "--lake-access-key", "a", "--lake-secret-key", "b"];
        let config = Config::parse_from(keys.iter().chain(args));
        config.validate().map_err(|e| e.to_string()).err().unwrap_or_default()
    }

    #[test]
    fn each_fault_names_its_variable() {
        assert_eq!(check(&[]), "");
        assert_eq!(check(&["--machines", "0"]), "MACHINES: 0 is not between 1 and 100000");
        assert!(check(&["--tick-interval", "1ms"]).starts_with("TICK_INTERVAL: "));
        assert!(check(&["--write-interval", "500ms"]).starts_with("WRITE_INTERVAL: "));
        assert!(check(&["--buffer-readings", "1"]).starts_with("BUFFER_READINGS: "));
        assert!(check(&["--operator-token-file", "/nonexistent"]).starts_with("OPERATOR_TOKEN_FILE: "));
        assert!(check(&["--lake-bucket", "B"]).starts_with("LAKE_BUCKET: "));
    }
}
