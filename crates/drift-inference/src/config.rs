//! Settings of the process.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use lake::config::LakeArgs;
use telemetry::config::{Common, ConfigError, Duration, Secret, Service, secret};

use crate::{
    model::{BUILT_IN, Model},
    retrain::{Settings, policy::Limits},
};

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
    /// Train challengers by itself when drift or low accuracy lasts; otherwise only when asked.
    #[arg(long, env = "RETRAIN", default_value_t = true, action = clap::ArgAction::Set)]
    pub retrain: bool,
    /// Drift or low accuracy must have lasted this long.
    #[arg(long, env = "RETRAIN_AFTER", default_value = "10m")]
    pub retrain_after: Duration,
    /// Least time between the beginnings of two challenges; doubled by each challenger that lost in a row.
    #[arg(long, env = "RETRAIN_SPACING", default_value = "10m")]
    pub retrain_spacing: Duration,
    /// Challenges within 24 hours.
    #[arg(long, env = "RETRAIN_PER_DAY", default_value_t = 8)]
    pub retrain_per_day: u32,
    /// A challenger learns from the readings of this time.
    #[arg(long, env = "RETRAIN_WINDOW", default_value = "6h")]
    pub retrain_window: Duration,
    /// The newest of them are kept for judging it.
    #[arg(long, env = "RETRAIN_HOLDOUT", default_value = "5m")]
    pub retrain_holdout: Duration,
    /// Readings count half for each such time that they are older.
    #[arg(long, env = "RETRAIN_HALF_LIFE", default_value = "15m")]
    pub retrain_half_life: Duration,
    /// More rows than this are thinned out: 72 bytes each.
    #[arg(long, env = "RETRAIN_MAX_ROWS", default_value_t = 200_000)]
    pub retrain_max_rows: usize,
    /// Accuracy below this is low.
    #[arg(long, env = "ACCURACY_LINE", default_value_t = 0.8)]
    pub accuracy_line: f64,
    /// `POST /v1/models/recover` takes a champion away that was promoted within this time, and challenges an older one.
    #[arg(long, env = "ROLLBACK_WITHIN", default_value = "24h")]
    pub rollback_within: Duration,
    /// Folder for the cursor.
    #[arg(long, env = "STATE_DIR", default_value = "/var/lib/drift-inference")]
    pub state_dir: PathBuf,
    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
    /// Puts a proxy of its own between this process and the lake, which breaks it on demand.
    #[arg(long, env = "LAKE_FAULTS", default_value_t = false, action = clap::ArgAction::Set)]
    pub lake_faults: bool,
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

impl Config {
    /// Host and port of the lake, where its faults are wanted.
    ///
    /// # Errors
    /// Names the variable.
    pub fn breakable_lake(&self) -> Result<Option<String>, ConfigError> {
        if !self.lake_faults {
            return Ok(None);
        }
        let rest = self.lake.lake_endpoint.strip_prefix("http://").filter(|_| self.lake.lake_dir.is_none());
        let host = rest.map(|r| r.trim_end_matches('/')).filter(|r| !r.contains('/'));
        let reason = "needs a lake at http://HOST:PORT";
        let host = host.ok_or_else(|| ConfigError::new("LAKE_FAULTS", reason))?;
        Ok(Some(if host.contains(':') { host.to_owned() } else { format!("{host}:80") }))
    }

    /// What retraining goes by.
    pub fn retrain_settings(&self) -> Settings {
        let us = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        Settings {
            by_itself: self.retrain,
            limits: Limits {
                per_day: self.retrain_per_day,
                spacing_us: us(self.retrain_spacing),
                after_us: us(self.retrain_after),
                accuracy_line: self.accuracy_line,
                rollback_within_us: us(self.rollback_within),
            },
            window: *self.retrain_window,
            holdout: *self.retrain_holdout,
            half_life: *self.retrain_half_life,
            max_rows: self.retrain_max_rows,
            horizon: *self.label_horizon,
            drift_window: *self.drift_window,
            min_labels: self.accuracy_min_labels,
        }
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
            ("RETRAIN_AFTER", self.retrain_after, second),
            ("RETRAIN_SPACING", self.retrain_spacing, second),
            ("RETRAIN_WINDOW", self.retrain_window, 60 * second),
            ("RETRAIN_HOLDOUT", self.retrain_holdout, 10 * second),
            ("RETRAIN_HALF_LIFE", self.retrain_half_life, second),
            ("ROLLBACK_WITHIN", self.rollback_within, second),
        ] {
            if *value < low || *value > 30 * day {
                let low = Duration(low);
                return Err(ConfigError::new(name, format!("{value} is not between {low} and 30days")));
            }
        }
        if *self.retrain_window <= *self.retrain_holdout + *self.label_horizon {
            let reason = "must be longer than RETRAIN_HOLDOUT and LABEL_HORIZON together";
            return Err(ConfigError::new("RETRAIN_WINDOW", reason));
        }
        if !(1_000..=2_000_000).contains(&self.retrain_max_rows) {
            let reason = format!("{} is not between 1000 and 2000000", self.retrain_max_rows);
            return Err(ConfigError::new("RETRAIN_MAX_ROWS", reason));
        }
        if !(0.0..=1.0).contains(&self.accuracy_line) {
            return Err(ConfigError::new("ACCURACY_LINE", format!("{} is not between 0 and 1", self.accuracy_line)));
        }
        let model = self.model()?;
        let trained = model.horizon_seconds;
        if (trained - self.label_horizon.as_secs_f64()).abs() > 0.5 {
            let reason = format!("the model foresees {trained} s, not {}", self.label_horizon);
            return Err(ConfigError::new("LABEL_HORIZON", reason));
        }
        self.models_token()?;
        self.breakable_lake()?;
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
        assert!(check(&["--retrain-window", "5m"]).starts_with("RETRAIN_WINDOW: must be longer"));
        assert!(check(&["--retrain-max-rows", "9"]).starts_with("RETRAIN_MAX_ROWS: "));
        assert!(check(&["--accuracy-line", "80"]).starts_with("ACCURACY_LINE: "));
        assert_eq!(check(&["--lake-faults", "true"]), "");
        assert!(check(&["--lake-faults", "true", "--lake-dir", "/tmp"]).starts_with("LAKE_FAULTS: needs"));
        assert!(check(&["--models-token", ""]).starts_with("MODELS_TOKEN"));
        assert!(check(&["--lake-endpoint", "x"]).starts_with("LAKE_ENDPOINT: "));
    }
}
