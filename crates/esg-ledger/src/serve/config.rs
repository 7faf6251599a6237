//! Settings of the service.

use std::{collections::HashSet, net::SocketAddr, path::PathBuf};

use telemetry::config::{Common, ConfigError, Duration, Secret, Service, secret};

use crate::{batch::Limits, cli::read_verifier, ingest::Policy, log::Place, note::VerifierKey};

/// Configuration of the ledger's service.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// What all services share.
    #[command(flatten)]
    pub common: Common,
    /// Listener for the log and for entries.
    #[arg(long, env = "LISTEN_ADDR", default_value = "0.0.0.0:8011")]
    pub listen_addr: SocketAddr,
    /// The log's directory.
    #[arg(long, env = "LEDGER_DIR", default_value = "/var/lib/esg-ledger/log")]
    pub dir: PathBuf,
    /// State, lock and key; beside the log if not given.
    #[arg(long, env = "LEDGER_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Origin of the log that is made if there is none.
    #[arg(long, env = "LEDGER_ORIGIN", default_value = "self-healing-plant.example/esg")]
    pub origin: String,
    /// Factor table (JSON) for a log that is made; the built-in one if not given.
    #[arg(long, env = "LEDGER_FACTORS_FILE")]
    pub factors_file: Option<PathBuf>,
    /// Token that appending needs.
    #[arg(long, env = "LEDGER_TOKEN", hide_env_values = true)]
    pub token: Option<Secret>,
    /// File with the token.
    #[arg(long, env = "LEDGER_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Machines that may send, one a line; any if not given.
    #[arg(long, env = "LEDGER_MACHINES_FILE")]
    pub machines_file: Option<PathBuf>,
    /// A reading may be this much ahead of the clock.
    #[arg(long, env = "LEDGER_MAX_AHEAD", default_value = "5m")]
    pub max_ahead: Duration,
    /// A reading may be this old.
    #[arg(long, env = "LEDGER_MAX_AGE", default_value = "31days")]
    pub max_age: Duration,
    /// A machine that is silent for longer has a gap.
    #[arg(long, env = "LEDGER_SILENCE", default_value = "60s")]
    pub silence: Duration,
    /// A heartbeat is written this often.
    #[arg(long, env = "LEDGER_HEARTBEAT", default_value = "5m")]
    pub heartbeat: Duration,
    /// A batch waits this long for company.
    #[arg(long, env = "LEDGER_BATCH_WINDOW", default_value = "20ms")]
    pub batch_window: Duration,
    /// The witness; none if empty.
    #[arg(long, env = "LEDGER_WITNESS_URL", default_value = "")]
    pub witness_url: String,
    /// The witness's verifier key, or a file that holds it. Without it the witness is asked once, at the first start.
    #[arg(long, env = "LEDGER_WITNESS_KEY", default_value = "")]
    pub witness_key: String,
    /// The witness is asked this often at most.
    #[arg(long, env = "LEDGER_WITNESS_INTERVAL", default_value = "5s")]
    pub witness_interval: Duration,
    /// The service verifies its own log this often; never if 0s.
    #[arg(long, env = "LEDGER_VERIFY_INTERVAL", default_value = "5m")]
    pub verify_interval: Duration,
}

impl Config {
    /// Where the log is.
    pub fn place(&self) -> Place {
        let mut place = Place::beside(&self.dir);
        if let Some(state) = &self.state_dir {
            place.key_file = state.join("signing-key");
            place.state.clone_from(state);
        }
        place
    }

    /// What is accepted.
    ///
    /// # Errors
    /// Names the variable.
    pub fn policy(&self) -> Result<Policy, ConfigError> {
        let machines = self.machines_file.as_ref().map(|path| {
            let text = std::fs::read_to_string(path).map_err(|e| {
                ConfigError::new("LEDGER_MACHINES_FILE", format!("cannot read {}: {e}", path.display()))
            })?;
            Ok(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect::<HashSet<_>>())
        });
        let us = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        Ok(Policy { max_ahead_us: us(self.max_ahead), max_age_us: us(self.max_age), machines: machines.transpose()? })
    }

    /// How batches are made.
    pub fn limits(&self) -> Limits {
        Limits { window: *self.batch_window, heartbeat: *self.heartbeat, silence: *self.silence, ..Limits::default() }
    }

    /// The token.
    ///
    /// # Errors
    /// Names the variable.
    pub fn token(&self) -> Result<Secret, ConfigError> {
        secret("LEDGER_TOKEN", self.token.as_ref(), self.token_file.as_deref())
    }

    /// The witness's key, if it is known by configuration.
    ///
    /// # Errors
    /// Names the variable.
    pub fn witness_key(&self) -> Result<Option<VerifierKey>, ConfigError> {
        if self.witness_key.is_empty() {
            return Ok(None);
        }
        read_verifier(&self.witness_key).map(Some).map_err(|e| ConfigError::new("LEDGER_WITNESS_KEY", e))
    }
}

impl Service for Config {
    fn common(&self) -> &Common {
        &self.common
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.token()?;
        self.policy()?;
        if !self.witness_url.is_empty() && !self.witness_url.starts_with("http://") {
            return Err(ConfigError::new("LEDGER_WITNESS_URL", "must start with http://"));
        }
        if self.silence.as_micros() == 0 || self.heartbeat.as_micros() == 0 {
            return Err(ConfigError::new("LEDGER_SILENCE", "silence and heartbeat must be longer than nothing"));
        }
        Ok(())
    }
}
