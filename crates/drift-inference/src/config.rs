//! Settings of the process.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use lake::config::LakeArgs;
use telemetry::config::{Common, ConfigError, Duration, Secret, Service, secret};

use crate::model::{BUILT_IN, Model};

/// Configuration of drift-inference.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "drift-inference", version, about = "Inference over machine readings, with accuracy and drift")]
pub struct Config {
    /// What all services share.
    #[command(flatten)]
    pub common: Common,
    /// Listener for the API.
    #[arg(long, env = "LISTEN_ADDR", default_value = "0.0.0.0:8002")]
    pub listen_addr: SocketAddr,
    /// The lake is asked for new readings this often.
    #[arg(long, env = "PULL_INTERVAL", default_value = "5s")]
    pub pull_interval: Duration,
    /// A failure counts as foreseen if it comes within this time. Short by default, so that a
    /// demonstration sees its accuracy; must be the horizon that the model was trained for.
    #[arg(long, env = "LABEL_HORIZON", default_value = "2m")]
    pub label_horizon: Duration,
    /// Accuracy is that of the predictions judged within this time.
    #[arg(long, env = "ACCURACY_WINDOW", default_value = "5m")]
    pub accuracy_window: Duration,
    /// The mean of each feature is that of the readings within this time.
    #[arg(long, env = "DRIFT_WINDOW", default_value = "5m")]
    pub drift_window: Duration,
    /// Fewer judged predictions than this say nothing about accuracy.
    #[arg(long, env = "ACCURACY_MIN_LABELS", default_value_t = 30)]
    pub accuracy_min_labels: u64,
    /// A first start goes back this far into the lake's history.
    #[arg(long, env = "LOOKBACK", default_value = "15m")]
    pub lookback: Duration,
    /// After a longer absence, what lies before is skipped.
    #[arg(long, env = "MAX_CATCH_UP", default_value = "24h")]
    pub max_catch_up: Duration,
    /// Model document; the built-in one if not set.
    #[arg(long, env = "MODEL_FILE")]
    pub model_file: Option<PathBuf>,
    /// Bearer token of what changes which model serves; without it nobody can by the API.
    #[arg(long, env = "MODELS_TOKEN", hide_env_values = true)]
    pub models_token: Option<Secret>,
    /// File with that token.
    #[arg(long, env = "MODELS_TOKEN_FILE")]
    pub models_token_file: Option<PathBuf>,
    /// Folder for the cursor.
    #[arg(long, env = "STATE_DIR", default_value = "/var/lib/drift-inference")]
    pub state_dir: PathBuf,
    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
}

impl Config {
    /// The model to serve.
    ///
    /// # Errors
    /// Names the variable.
    pub fn model(&self) -> Result<Arc<Model>, ConfigError> {
        let model = self.model_file.as_deref().map_or_else(|| Model::parse(BUILT_IN), Model::load);
        model.map(Arc::new).map_err(|e| ConfigError::new("MODEL_FILE", e))
    }
}

impl Config {
    /// The token of what changes which model serves, if there is one.
    ///
    /// # Errors
    /// Names the variable.
    pub fn models_token(&self) -> Result<Option<Secret>, ConfigError> {
        if self.models_token.is_none() && self.models_token_file.is_none() {
            return Ok(None);
        }
        secret("MODELS_TOKEN", self.models_token.as_ref(), self.models_token_file.as_deref()).map(Some)
    }
}

impl Service for Config {
    fn common(&self) -> &Common {
        &self.common
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let second = std::time::Duration::from_secs(1);
        let day = 86_400 * second;
        for (name, value, low) in [
            ("PULL_INTERVAL", self.pull_interval, second / 10),
            ("LABEL_HORIZON", self.label_horizon, second),
            ("ACCURACY_WINDOW", self.accuracy_window, 10 * second),
            ("DRIFT_WINDOW", self.drift_window, 10 * second),
            ("LOOKBACK", self.lookback, second),
            ("MAX_CATCH_UP", self.max_catch_up, 60 * second),
        ] {
            if *value < low || *value > 30 * day {
                let low = Duration(low);
                return Err(ConfigError::new(name, format!("{value} is not between {low} and 30days")));
            }
        }
        let model = self.model()?;
        let trained = model.horizon_seconds;
        if (trained - self.label_horizon.as_secs_f64()).abs() > 0.5 {
            let reason = format!("the model foresees {trained} s, not {}", self.label_horizon);
            return Err(ConfigError::new("LABEL_HORIZON", reason));
        }
        self.models_token()?;
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
        assert_eq!(check(&["--pull-interval", "1ms"]), "PULL_INTERVAL: 1ms is not between 100ms and 30days");
        assert_eq!(check(&["--label-horizon", "30m"]), "LABEL_HORIZON: the model foresees 120 s, not 30m");
        assert!(check(&["--model-file", "/nonexistent"]).starts_with("MODEL_FILE: "));
        assert!(check(&["--models-token", ""]).starts_with("MODELS_TOKEN"));
        assert!(check(&["--lake-endpoint", "x"]).starts_with("LAKE_ENDPOINT: "));
    }
}
