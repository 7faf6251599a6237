//! Configuration: one field a variable.

use std::{net::SocketAddr, path::PathBuf};

use telemetry::config::{Common, ConfigError, Secret, Service, optional_secret};

/// notification-receiver shows the notifications that would have left the machine.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "notification-receiver", version)]
pub struct Config {
    /// Settings that every service has.
    #[command(flatten)]
    pub common: Common,
    /// Page, API, Slack and webhook intake.
    #[arg(long, env = "LISTEN_ADDR", default_value = "0.0.0.0:8025")]
    pub listen_addr: SocketAddr,
    /// Mail intake, plain SMTP.
    #[arg(long, env = "SMTP_ADDR", default_value = "0.0.0.0:1025")]
    pub smtp_addr: SocketAddr,
    /// How many notifications are kept; the oldest go first.
    #[arg(long, env = "RECEIVER_KEEP", default_value_t = 500)]
    pub keep: usize,
    /// How many bytes of notifications are kept.
    #[arg(long, env = "RECEIVER_KEEP_BYTES", default_value_t = 16 * 1024 * 1024)]
    pub keep_bytes: usize,
    /// Longest accepted message in bytes, by mail or HTTP.
    #[arg(long, env = "RECEIVER_MAX_BODY", default_value_t = 2 * 1024 * 1024)]
    pub max_body: usize,
    /// What signs the alert-bot's webhooks; without it signatures are not checked.
    #[arg(long, env = "RECEIVER_WEBHOOK_SECRET")]
    pub webhook_secret: Option<Secret>,
    /// File with it.
    #[arg(long, env = "RECEIVER_WEBHOOK_SECRET_FILE")]
    pub webhook_secret_file: Option<PathBuf>,
}

impl Config {
    /// What signs the alert-bot's webhooks.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn webhook_secret(&self) -> Result<Option<Secret>, ConfigError> {
        optional_secret("RECEIVER_WEBHOOK_SECRET", self.webhook_secret.as_ref(), self.webhook_secret_file.as_ref())
    }
}

impl Service for Config {
    fn common(&self) -> &Common {
        &self.common
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.webhook_secret()?;
        for (variable, value, least) in [
            ("RECEIVER_KEEP", self.keep, 1),
            ("RECEIVER_KEEP_BYTES", self.keep_bytes, 64 * 1024),
            ("RECEIVER_MAX_BODY", self.max_body, 1024),
        ] {
            if value < least {
                return Err(ConfigError::new(variable, format!("must be at least {least}")));
            }
        }
        Ok(())
    }
}
