//! Settings of the process.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use lake::config::LakeArgs;
use telemetry::config::{Common, ConfigError, Duration, Secret, Service, optional_secret, secret};

use crate::{
    account::LONGEST_US,
    evidence::{Factors, Target},
    sparkplug::SparkplugArgs,
};

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
    /// The ledger.
    #[command(flatten)]
    pub ledger: LedgerArgs,
    /// Machines that report by MQTT.
    #[command(flatten)]
    pub sparkplug: SparkplugArgs,
}

/// The way to the ledger.
#[derive(clap::Args, Clone, Debug)]
pub struct LedgerArgs {
    /// Address of the ledger; empty sends nothing.
    #[arg(long = "ledger-url", env = "LEDGER_URL", default_value = "")]
    pub url: String,
    /// Token that appending needs.
    #[arg(long = "ledger-token", env = "LEDGER_TOKEN", hide_env_values = true)]
    pub token: Option<Secret>,
    /// File with the token.
    #[arg(long = "ledger-token-file", env = "LEDGER_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// An entry covers this much time; well below the ledger's LEDGER_SILENCE.
    #[arg(long = "ledger-interval", env = "LEDGER_INTERVAL", default_value = "15s")]
    pub interval: Duration,
    /// Region of the factors, for sites that LEDGER_REGIONS does not name.
    #[arg(long = "ledger-region", env = "LEDGER_REGION", default_value = "default")]
    pub region: String,
    /// Regions of single sites, as site-1=DE,site-2=FR.
    #[arg(long = "ledger-regions", env = "LEDGER_REGIONS", default_value = "")]
    pub regions: String,
    /// Factor table (JSON), the same as the ledger's; the built-in one if not given.
    #[arg(long = "ledger-factors-file", env = "LEDGER_FACTORS_FILE")]
    pub factors_file: Option<PathBuf>,
    /// Entries kept while the ledger is down; the oldest beyond are lost and counted.
    #[arg(long = "ledger-queue-entries", env = "LEDGER_QUEUE_ENTRIES", default_value_t = 50_000)]
    pub queue_entries: usize,
}

impl LedgerArgs {
    /// Where the ledger is and which factors hold; `None` without a ledger.
    ///
    /// # Errors
    /// Names the variable.
    pub fn open(&self) -> Result<Option<(Target, Factors)>, ConfigError> {
        if self.url.is_empty() {
            return Ok(None);
        }
        if !self.url.starts_with("http://") {
            return Err(ConfigError::new("LEDGER_URL", "must start with http://"));
        }
        let token = secret("LEDGER_TOKEN", self.token.as_ref(), self.token_file.as_deref())?;
        let target = Target::new(&self.url, token).map_err(|e| ConfigError::new("LEDGER_URL", e.to_string()))?;
        let mut by_site = BTreeMap::new();
        for pair in self.regions.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (site, region) = pair
                .split_once('=')
                .ok_or_else(|| ConfigError::new("LEDGER_REGIONS", format!("{pair:?} is not SITE=REGION")))?;
            by_site.insert(site.trim().to_owned(), region.trim().to_owned());
        }
        let table = esg_ledger::cli::read_factors(self.factors_file.as_deref(), crate::service::now_us())
            .map_err(|e| ConfigError::new("LEDGER_FACTORS_FILE", format!("{e:#}")))?;
        let factors =
            Factors::new(table, self.region.clone(), by_site).map_err(|e| ConfigError::new("LEDGER_REGION", e))?;
        Ok(Some((target, factors)))
    }
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
        let longest = LONGEST_US as f64 / 1e6;
        if !(tick..=longest).contains(&self.ledger.interval.as_secs_f64()) {
            return Err(ConfigError::new("LEDGER_INTERVAL", "must be between TICK_INTERVAL and 1h"));
        }
        if self.ledger.queue_entries == 0 {
            return Err(ConfigError::new("LEDGER_QUEUE_ENTRIES", "must be at least 1"));
        }
        self.token()?;
        self.lake.settings()?;
        self.ledger.open()?;
        self.sparkplug.open()?;
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
        let ledger = ["--ledger-url", "http://l", "--ledger-token", "t"];
        assert_eq!(check(&ledger), "");
        assert!(check(&["--ledger-url", "ftp://l"]).starts_with("LEDGER_URL: "));
        assert!(check(&["--ledger-url", "http://l"]).starts_with("LEDGER_TOKEN"));
        for (name, value, variable) in [
            ("--ledger-interval", "2h", "LEDGER_INTERVAL: "),
            ("--ledger-region", "XX", "LEDGER_REGION: "),
            ("--ledger-regions", "site-1", "LEDGER_REGIONS: "),
            ("--ledger-regions", "site-1=XX", "LEDGER_REGION: "),
            ("--ledger-factors-file", "/nonexistent", "LEDGER_FACTORS_FILE: "),
            ("--ledger-queue-entries", "0", "LEDGER_QUEUE_ENTRIES: "),
        ] {
            let said = check(&[&ledger[..], &[name, value]].concat());
            assert!(said.starts_with(variable), "{said}");
        }
        let mqtt = ["--mqtt-url", "mqtt://broker"];
        assert_eq!(check(&mqtt), "");
        for (more, variable) in [
            (["--mqtt-url", "tcp://broker"], "MQTT_URL: must start with mqtt://"),
            (["--mqtt-url", "mqtt://broker:port"], "MQTT_URL: its port"),
            (["--mqtt-url", "mqtt://user@broker"], "MQTT_URL: must be mqtt://HOST"),
            (["--mqtt-username", "host"], "MQTT_PASSWORD: "),
            (["--mqtt-password", "secret"], "MQTT_USERNAME: "),
            (["--sparkplug-host-id", "a/b"], "SPARKPLUG_HOST_ID: "),
            (["--sparkplug-period", "2h"], "SPARKPLUG_PERIOD: "),
        ] {
            let args = if more[0] == "--mqtt-url" { more.to_vec() } else { [&mqtt[..], &more].concat() };
            let said = check(&args);
            assert!(said.starts_with(variable), "{said}");
        }
    }
}
