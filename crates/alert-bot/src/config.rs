//! Settings, each field naming its variable.

use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf};

use crate::notify::{self, MailSettings, Mailer, Receivers, Security, Slack, Webhook};
use sqlx::postgres::PgConnectOptions;
use telemetry::config::{Common, ConfigError, Duration, Secret, Service, optional_secret, secret};

use crate::http::access::{Networks, ReadAccess};

/// A lease must outlast a flush to a slow disk, and an incident must not wait long for the other bot.
const LEASE: RangeInclusive<u64> = 1..=60;

/// A shorter one could be tried out.
const SHORTEST_OPERATOR_TOKEN: usize = 16;

/// The bot's settings.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "alert-bot", version, about = "Heals containers when alerts fire, and proves it")]
pub struct Config {
    /// What every service has.
    #[command(flatten)]
    pub common: Common,
    /// Listener for the webhook, the API and the page.
    #[arg(long, env = "LISTEN_ADDR", default_value = "0.0.0.0:5000")]
    pub listen: SocketAddr,
    /// The policy document; followed while running.
    #[arg(long, env = "POLICY_FILE", default_value = "/etc/alert-bot/policy.yaml")]
    pub policy_file: PathBuf,
    /// The journal, a SQLite file.
    #[arg(long, env = "JOURNAL_PATH", default_value = "/var/lib/alert-bot/journal.db")]
    pub journal_file: PathBuf,
    /// This bot's name among those that share the journal; empty: the host's name.
    #[arg(long = "bot-name", env = "BOT_NAME", default_value = "")]
    pub name: String,
    /// How long the right to act lasts unless it is renewed: after that time without a sign of life of the bot that
    /// acts, another one on the same journal takes over.
    #[arg(long, env = "LEASE_TIME", default_value = "10s")]
    pub lease_time: Duration,
    /// Compose project whose containers may be healed.
    #[arg(long, env = "TARGET_PROJECT", default_value = "selfheal")]
    pub project: String,

    /// The way to Docker: `tcp://docker-guard:2375`, or `unix:///…` for tests.
    #[arg(long, env = "DOCKER_HOST", default_value = "tcp://docker-guard:2375")]
    pub docker_host: String,
    /// The guard's token for what changes something.
    #[arg(long, env = "GUARD_TOKEN")]
    pub guard_token: Option<Secret>,
    /// File with the guard's token.
    #[arg(long, env = "GUARD_TOKEN_FILE")]
    pub guard_token_file: Option<PathBuf>,

    /// Measures the SLI.
    #[arg(long, env = "PROMETHEUS_URL", default_value = "http://prometheus:9090")]
    pub prometheus_url: String,
    /// Knows which alerts burn.
    #[arg(long, env = "ALERTMANAGER_URL", default_value = "http://alertmanager:9093")]
    pub alertmanager_url: String,
    /// How often Alertmanager's list is read.
    #[arg(long, env = "RECONCILE_INTERVAL", default_value = "60s")]
    pub reconcile_interval: Duration,

    /// Jaeger, with the path that it is served under, where it keeps the traces; empty: only the service graph in
    /// Prometheus, which Tempo makes, tells who calls whom.
    #[arg(long, env = "JAEGER_URL", default_value = "")]
    pub jaeger_url: String,
    /// How often it is asked who calls whom, as traces show it; 0s: never.
    #[arg(long, env = "TRACES_INTERVAL", default_value = "60s")]
    pub traces_interval: Duration,

    /// How often the audit's chain is verified.
    #[arg(long, env = "AUDIT_INTERVAL", default_value = "10m")]
    pub audit_interval: Duration,

    /// What Alertmanager sends as bearer token, or as password of basic authentication.
    #[arg(long, env = "WEBHOOK_TOKEN")]
    pub webhook_token: Option<Secret>,
    /// File with it.
    #[arg(long, env = "WEBHOOK_TOKEN_FILE")]
    pub webhook_token_file: Option<PathBuf>,
    /// User name of basic authentication.
    #[arg(long, env = "WEBHOOK_USER", default_value = "alertmanager")]
    pub webhook_user: String,
    /// What opens everything that changes something, and the console.
    #[arg(long, env = "OPERATOR_TOKEN", hide_env_values = true)]
    pub operator_token: Option<Secret>,
    /// File with it.
    #[arg(long, env = "OPERATOR_TOKEN_FILE")]
    pub operator_token_file: Option<PathBuf>,
    /// Who may read without a token: `loopback`, `networks` (loopback and TRUSTED_NETWORKS), or `token`: nobody.
    #[arg(long, env = "READ_ACCESS", default_value = "loopback")]
    pub read_access: ReadAccess,
    /// Networks such as `10.0.0.0/8`, separated by commas; `docker-host` is where a published port's connections
    /// come from: the container's default gateway.
    #[arg(long, env = "TRUSTED_NETWORKS", default_value = "")]
    pub trusted_networks: Networks,
    /// How long a login to the console lasts.
    #[arg(long, env = "SESSION_TIME", default_value = "12h")]
    pub session_time: Duration,
    /// Largest notification, in bytes.
    #[arg(long, env = "WEBHOOK_MAX_BYTES", default_value_t = 16 * 1024 * 1024)]
    pub webhook_max_bytes: usize,

    /// Host of the PostgreSQL that the step `sql_diagnosis` asks; empty: none.
    #[arg(long, env = "DIAGNOSIS_PGHOST", default_value = "")]
    pub diagnosis_host: String,
    /// Its database.
    #[arg(long, env = "DIAGNOSIS_PGDATABASE", default_value = "transactions")]
    pub diagnosis_database: String,
    /// A role that may read the statistics of all sessions (`pg_monitor`), and nothing more.
    #[arg(long, env = "DIAGNOSIS_PGUSER", default_value = "exporter")]
    pub diagnosis_user: String,
    /// Its password.
    #[arg(long, env = "DIAGNOSIS_PGPASSWORD")]
    pub diagnosis_password: Option<Secret>,
    /// File with it.
    #[arg(long, env = "DIAGNOSIS_PGPASSWORD_FILE")]
    pub diagnosis_password_file: Option<PathBuf>,

    /// Where actions are annotated; empty: nowhere.
    #[arg(long, env = "GRAFANA_URL", default_value = "")]
    pub grafana_url: String,
    /// User for it; empty: the password is a service account's token.
    #[arg(long, env = "GRAFANA_USER", default_value = "admin")]
    pub grafana_user: String,
    /// Password or token.
    #[arg(long, env = "GRAFANA_PASSWORD")]
    pub grafana_password: Option<Secret>,
    /// File with it.
    #[arg(long, env = "GRAFANA_PASSWORD_FILE")]
    pub grafana_password_file: Option<PathBuf>,

    /// Messages to people.
    #[command(flatten)]
    pub notify: Notify,
}

impl Config {
    /// The token that a notification must carry.
    pub fn webhook_token(&self) -> Result<Secret, ConfigError> {
        secret("WEBHOOK_TOKEN", self.webhook_token.as_ref(), self.webhook_token_file.as_deref())
    }

    /// The token of operators.
    pub fn operator_token(&self) -> Result<Secret, ConfigError> {
        secret("OPERATOR_TOKEN", self.operator_token.as_ref(), self.operator_token_file.as_deref())
    }

    /// This bot's name: in a container the host's name is the container's id, the same after a restart.
    pub fn name(&self) -> String {
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
        let given = Some(self.name.trim().to_owned());
        given.into_iter().chain(host()).find(|name| !name.is_empty()).unwrap_or_else(|| "alert-bot".to_owned())
    }

    /// The guard's token; a socket needs none.
    pub fn guard_token(&self) -> Result<Option<Secret>, ConfigError> {
        optional_secret("GUARD_TOKEN", self.guard_token.as_ref(), self.guard_token_file.as_ref())
    }

    /// The database that `sql_diagnosis` asks.
    pub fn diagnosis(&self) -> Result<Option<PgConnectOptions>, ConfigError> {
        if self.diagnosis_host.is_empty() {
            return Ok(None);
        }
        let password =
            secret("DIAGNOSIS_PGPASSWORD", self.diagnosis_password.as_ref(), self.diagnosis_password_file.as_deref())?;
        Ok(Some(
            PgConnectOptions::new_without_pgpass()
                .host(&self.diagnosis_host)
                .database(&self.diagnosis_database)
                .username(&self.diagnosis_user)
                .password(password.expose())
                .options([("statement_timeout", "3s"), ("lock_timeout", "1s")]),
        ))
    }

    /// Grafana's password.
    pub fn grafana_password(&self) -> Result<Option<Secret>, ConfigError> {
        optional_secret("GRAFANA_PASSWORD", self.grafana_password.as_ref(), self.grafana_password_file.as_ref())
    }
}

/// Who is told when the bot is at its end. Nobody set up: it is logged.
#[derive(clap::Args, Clone, Debug)]
pub struct Notify {
    /// Where people see incidents: the links in messages begin with it.
    #[arg(long, env = "CONSOLE_URL", default_value = "http://localhost:5000")]
    pub console_url: String,
    /// How long a call waits for others, to be one message with them.
    #[arg(long = "notify-gather", env = "NOTIFY_GATHER", default_value = "2s")]
    pub gather: Duration,
    /// PEM file of certificate authorities to trust beside the public ones.
    #[arg(long = "notify-ca-file", env = "NOTIFY_CA_FILE")]
    pub ca_file: Option<PathBuf>,

    /// Slack's Web API, or what speaks like it.
    #[arg(long = "notify-slack-api-url", env = "NOTIFY_SLACK_API_URL", default_value = "https://slack.com/api")]
    pub slack_api_url: String,
    /// A Slack bot's token; needs the channel.
    #[arg(long = "notify-slack-token", env = "NOTIFY_SLACK_TOKEN")]
    pub slack_token: Option<Secret>,
    /// File with it.
    #[arg(long = "notify-slack-token-file", env = "NOTIFY_SLACK_TOKEN_FILE")]
    pub slack_token_file: Option<PathBuf>,
    /// The channel, by name or id.
    #[arg(long = "notify-slack-channel", env = "NOTIFY_SLACK_CHANNEL", default_value = "")]
    pub slack_channel: String,
    /// Instead of a token: an incoming webhook's address. No threads then.
    #[arg(long = "notify-slack-webhook-url", env = "NOTIFY_SLACK_WEBHOOK_URL")]
    pub slack_webhook_url: Option<Secret>,
    /// File with it.
    #[arg(long = "notify-slack-webhook-url-file", env = "NOTIFY_SLACK_WEBHOOK_URL_FILE")]
    pub slack_webhook_url_file: Option<PathBuf>,

    /// Mail server, `HOST:PORT`; empty: no mail.
    #[arg(long = "notify-smtp-addr", env = "NOTIFY_SMTP_ADDR", default_value = "")]
    pub smtp_addr: String,
    /// How the connection to it is protected.
    #[arg(long = "notify-smtp-security", env = "NOTIFY_SMTP_SECURITY", default_value = "none")]
    pub smtp_security: Security,
    /// User name there; empty: no login.
    #[arg(long = "notify-smtp-username", env = "NOTIFY_SMTP_USERNAME", default_value = "")]
    pub smtp_username: String,
    /// Its password.
    #[arg(long = "notify-smtp-password", env = "NOTIFY_SMTP_PASSWORD")]
    pub smtp_password: Option<Secret>,
    /// File with it.
    #[arg(long = "notify-smtp-password-file", env = "NOTIFY_SMTP_PASSWORD_FILE")]
    pub smtp_password_file: Option<PathBuf>,
    /// Sender of mails.
    #[arg(long = "notify-mail-from", env = "NOTIFY_MAIL_FROM", default_value = "alert-bot@selfheal.local")]
    pub mail_from: String,
    /// Recipients, separated by commas.
    #[arg(long = "notify-mail-to", env = "NOTIFY_MAIL_TO", default_value = "oncall@selfheal.local")]
    pub mail_to: String,

    /// One's own endpoint; none: it is not told.
    #[arg(long = "notify-webhook-url", env = "NOTIFY_WEBHOOK_URL")]
    pub webhook_url: Option<Secret>,
    /// File with it.
    #[arg(long = "notify-webhook-url-file", env = "NOTIFY_WEBHOOK_URL_FILE")]
    pub webhook_url_file: Option<PathBuf>,
    /// Signs what is posted there.
    #[arg(long = "notify-webhook-secret", env = "NOTIFY_WEBHOOK_SECRET")]
    pub webhook_secret: Option<Secret>,
    /// File with it.
    #[arg(long = "notify-webhook-secret-file", env = "NOTIFY_WEBHOOK_SECRET_FILE")]
    pub webhook_secret_file: Option<PathBuf>,
}

impl Notify {
    /// Everyone who is set up.
    ///
    /// # Errors
    /// The setting that is wrong.
    pub fn receivers(&self) -> Result<Receivers, ConfigError> {
        Ok(Receivers { slack: self.slack()?, mail: self.mail()?, webhook: self.webhook()? })
    }

    /// The client that reaches them.
    ///
    /// # Errors
    /// The authorities cannot be read.
    pub fn client(&self) -> Result<reqwest::Client, ConfigError> {
        notify::client(self.ca_file.as_deref()).map_err(|e| ConfigError::new("NOTIFY_CA_FILE", e))
    }

    fn slack(&self) -> Result<Option<Slack>, ConfigError> {
        let token = optional_secret("NOTIFY_SLACK_TOKEN", self.slack_token.as_ref(), self.slack_token_file.as_ref())?;
        let hook = optional_secret(
            "NOTIFY_SLACK_WEBHOOK_URL",
            self.slack_webhook_url.as_ref(),
            self.slack_webhook_url_file.as_ref(),
        )?;
        match (token, hook) {
            (Some(_), Some(_)) => {
                Err(ConfigError::new("NOTIFY_SLACK_WEBHOOK_URL", "is not used with NOTIFY_SLACK_TOKEN"))
            }
            (Some(_), None) if self.slack_channel.is_empty() => {
                Err(ConfigError::new("NOTIFY_SLACK_CHANNEL", "is required with NOTIFY_SLACK_TOKEN"))
            }
            (Some(token), None) => {
                web_address("NOTIFY_SLACK_API_URL", &self.slack_api_url)?;
                let (api, channel) = (self.slack_api_url.clone(), self.slack_channel.clone());
                Ok(Some(Slack::Bot { api, token, channel }))
            }
            (None, Some(hook)) => {
                web_address("NOTIFY_SLACK_WEBHOOK_URL", hook.expose())?;
                Ok(Some(Slack::Hook(hook)))
            }
            (None, None) => Ok(None),
        }
    }

    fn mail(&self) -> Result<Option<Mailer>, ConfigError> {
        if self.smtp_addr.is_empty() {
            return Ok(None);
        }
        let password =
            optional_secret("NOTIFY_SMTP_PASSWORD", self.smtp_password.as_ref(), self.smtp_password_file.as_ref())?;
        let login = match (self.smtp_username.as_str(), password) {
            ("", _) => None,
            (_, None) => return Err(ConfigError::new("NOTIFY_SMTP_PASSWORD", "is required with NOTIFY_SMTP_USERNAME")),
            (_, Some(_)) if self.smtp_security == Security::None => {
                return Err(ConfigError::new("NOTIFY_SMTP_SECURITY", "a password is sent over tls or starttls only"));
            }
            (name, Some(password)) => Some((name.to_owned(), password)),
        };
        let settings = MailSettings {
            server: self.smtp_addr.clone(),
            security: self.smtp_security,
            authorities: self.ca_file.clone(),
            login,
            from: self.mail_from.clone(),
            to: self.mail_to.clone(),
        };
        Mailer::new(&settings, notify::LIMIT).map(Some).map_err(|(variable, why)| ConfigError::new(variable, why))
    }

    fn webhook(&self) -> Result<Option<Webhook>, ConfigError> {
        let url = optional_secret("NOTIFY_WEBHOOK_URL", self.webhook_url.as_ref(), self.webhook_url_file.as_ref())?;
        let secret =
            optional_secret("NOTIFY_WEBHOOK_SECRET", self.webhook_secret.as_ref(), self.webhook_secret_file.as_ref())?;
        let Some(url) = url else { return Ok(None) };
        web_address("NOTIFY_WEBHOOK_URL", url.expose())?;
        Ok(Some(Webhook { url, secret }))
    }
}

/// Without repeating it: it may carry a secret.
fn web_address(variable: &str, url: &str) -> Result<(), ConfigError> {
    if url.starts_with("https://") || url.starts_with("http://") {
        return Ok(());
    }
    Err(ConfigError::new(variable, "must start with http:// or https://"))
}

impl Service for Config {
    fn common(&self) -> &Common {
        &self.common
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let webhook = self.webhook_token()?;
        let operator = self.operator_token()?;
        if operator.expose().len() < SHORTEST_OPERATOR_TOKEN {
            return Err(ConfigError::new(
                "OPERATOR_TOKEN",
                format!("is shorter than {SHORTEST_OPERATOR_TOKEN} characters: it could be guessed"),
            ));
        }
        if operator == webhook {
            return Err(ConfigError::new(
                "OPERATOR_TOKEN",
                "is the same as WEBHOOK_TOKEN, which must open the intake only",
            ));
        }
        if self.read_access == ReadAccess::Networks && self.trusted_networks.0.is_empty() {
            return Err(ConfigError::new("TRUSTED_NETWORKS", "is required with READ_ACCESS=networks"));
        }
        if !LEASE.contains(&self.lease_time.as_secs()) {
            return Err(ConfigError::new("LEASE_TIME", format!("must be {}s to {}s", LEASE.start(), LEASE.end())));
        }
        self.guard_token()?;
        self.diagnosis()?;
        self.notify.receivers()?;
        self.notify.client()?;
        if !self.notify.console_url.is_empty() {
            web_address("CONSOLE_URL", &self.notify.console_url)?;
        }
        if self.grafana_password()?.is_none() && !self.grafana_url.is_empty() {
            return Err(ConfigError::new("GRAFANA_PASSWORD", "is required with GRAFANA_URL"));
        }
        for (variable, url) in [
            ("PROMETHEUS_URL", &self.prometheus_url),
            ("ALERTMANAGER_URL", &self.alertmanager_url),
            ("GRAFANA_URL", &self.grafana_url),
        ] {
            let optional = variable == "GRAFANA_URL" && url.is_empty();
            if !optional && !url.starts_with("http://") {
                return Err(ConfigError::new(variable, format!("'{url}' must start with http://")));
            }
        }
        if self.project.is_empty() {
            return Err(ConfigError::new("TARGET_PROJECT", "is empty"));
        }
        for (variable, interval) in
            [("RECONCILE_INTERVAL", self.reconcile_interval), ("AUDIT_INTERVAL", self.audit_interval)]
        {
            if interval.is_zero() {
                return Err(ConfigError::new(variable, "must be more than 0"));
            }
        }
        crate::backend::docker::DockerBackend::new(&self.docker_host, None)
            .map_err(|e| ConfigError::new("DOCKER_HOST", e))?;
        let text = std::fs::read_to_string(&self.policy_file)
            .map_err(|e| ConfigError::new("POLICY_FILE", format!("cannot read {}: {e}", self.policy_file.display())))?;
        crate::policy::Policy::parse(&text).map_err(|errors| {
            let list: Vec<_> = errors.iter().map(ToString::to_string).collect();
            ConfigError::new("POLICY_FILE", format!("{}: {}", self.policy_file.display(), list.join("; ")))
        })?;
        Ok(())
    }
}
