//! Configuration from arguments and environment variables.
//!
//! A service derives one struct with clap, each field naming its variable, and
//! flattens [`Common`] into it. Wrong configuration stops the start with exit
//! code 64 (`EX_USAGE` of sysexits.h) and one line that names the variable.

use std::{
    ffi::OsString,
    fmt,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The exit code for wrong configuration.
pub const EXIT_CONFIG: u8 = 64;

/// What is wrong with which variable.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: {reason}")]
pub struct ConfigError {
    variable: String,
    reason: String,
}

impl ConfigError {
    /// `variable` is the environment variable as the operator knows it.
    pub fn new(variable: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self { variable: variable.into(), reason: reason.to_string() }
    }
}

/// A configuration that [`crate::run`] can start a service with.
pub trait Service: Send + 'static {
    /// The part that all services share.
    fn common(&self) -> &Common;
    /// Checks what one field alone cannot say; secrets are read here too.
    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// Settings that every service has.
#[derive(clap::Args, Clone, Debug)]
pub struct Common {
    /// Listener for `/livez`, `/readyz` and `/metrics`.
    #[arg(long, env = "ADMIN_ADDR", default_value = "0.0.0.0:9464")]
    pub admin_addr: SocketAddr,
    /// How long requests under way may take after SIGTERM.
    #[arg(long, env = "SHUTDOWN_GRACE", default_value = "10s")]
    pub shutdown_grace: Duration,
    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetryConfig,
    /// Check the configuration and exit: 0 valid, 64 not.
    #[arg(long)]
    pub check_config: bool,
    /// Ask the running service's `/readyz` and exit: 0 ready, 1 not.
    #[arg(long)]
    pub healthcheck: bool,
}

/// Where logs and traces go. The `OTEL_*` variables keep their standard meaning.
#[derive(clap::Args, Clone, Debug)]
pub struct TelemetryConfig {
    /// Log filter, e.g. `info` or `info,sqlx=debug`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// OTLP gRPC endpoint with its scheme, e.g. `http://otel-collector:4317`; empty exports nothing.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", default_value = "")]
    pub otlp_endpoint: String,
    /// Share of new traces that are kept, 0 to 1; a caller's decision wins.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value_t = 1.0)]
    pub sample_ratio: f64,
    /// Switches traces and OTLP logs off; logs on stdout stay.
    #[arg(long, env = "OTEL_SDK_DISABLED", default_value_t = false, action = clap::ArgAction::Set)]
    pub sdk_disabled: bool,
}

impl TelemetryConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(ConfigError::new(
                "OTEL_TRACES_SAMPLER_ARG",
                format!("{} is not between 0 and 1", self.sample_ratio),
            ));
        }
        if !self.otlp_endpoint.is_empty() && !self.otlp_endpoint.starts_with("http://") {
            // Without a scheme the exporter would silently assume https.
            return Err(ConfigError::new(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("'{}' must start with http://", self.otlp_endpoint),
            ));
        }
        let filter = self.log_level.parse::<tracing_subscriber::filter::Targets>();
        filter.map_err(|e| ConfigError::new("LOG_LEVEL", e))?;
        Ok(())
    }
}

/// A length of time with its unit: `250ms`, `10s`, `2m`. A bare number is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

impl FromStr for Duration {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        humantime::parse_duration(s.trim())
            .map(Self)
            .map_err(|_| format!("'{s}' is not a duration with a unit, such as 250ms, 10s or 2m"))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Deref for Duration {
    type Target = std::time::Duration;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value, e.g. in a test.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }
    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(Self(s.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A secret from the variable `name` or from the file that `name_FILE` names.
///
/// The file's trailing line break is not part of the value. Neither given, both
/// given, an unreadable or an empty file is an error that names the variable.
pub fn secret(name: &str, inline: Option<&Secret>, file: Option<&Path>) -> Result<Secret, ConfigError> {
    match (inline, file) {
        (Some(_), Some(_)) => Err(ConfigError::new(name, format!("set {name} or {name}_FILE, not both"))),
        (Some(value), None) if value.expose().is_empty() => Err(ConfigError::new(name, "is empty")),
        (Some(value), None) => Ok(value.clone()),
        (None, Some(path)) => {
            let variable = format!("{name}_FILE");
            let text = std::fs::read_to_string(path)
                .map_err(|e| ConfigError::new(&variable, format!("cannot read {}: {e}", path.display())))?;
            let value = text.trim_end_matches(['\r', '\n']);
            if value.is_empty() {
                return Err(ConfigError::new(&variable, format!("{} is empty", path.display())));
            }
            Ok(Secret::new(value))
        }
        (None, None) => Err(ConfigError::new(name, format!("is required: set {name} or {name}_FILE"))),
    }
}

/// Like [`secret`], but neither given is `None`.
pub fn optional_secret(
    name: &str,
    inline: Option<&Secret>,
    file: Option<&PathBuf>,
) -> Result<Option<Secret>, ConfigError> {
    if inline.is_none() && file.is_none() {
        return Ok(None);
    }
    secret(name, inline, file.map(PathBuf::as_path)).map(Some)
}

/// Parses `args`, or says in one line what is wrong.
///
/// # Errors
/// `Err(Ok(text))` is an answer that was asked for (`--help`, `--version`),
/// `Err(Err(error))` a fault.
pub fn parse<C: clap::Parser>(args: impl IntoIterator<Item = OsString>) -> Result<C, Result<String, ConfigError>> {
    C::try_parse_from(args).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(error.render().to_string()),
        _ => Err(explain::<C>(&error)),
    })
}

/// Parses the process's arguments and environment; exits 64 with one line otherwise.
pub fn load<C: clap::Parser>(service: &str) -> C {
    match parse(std::env::args_os()) {
        Ok(config) => config,
        Err(Ok(text)) => {
            print!("{text}");
            std::process::exit(0)
        }
        Err(Err(error)) => refuse(service, &error),
    }
}

/// Prints the one line and exits 64.
pub fn refuse(service: &str, error: &ConfigError) -> ! {
    eprintln!("{service}: {error}");
    std::process::exit(EXIT_CONFIG.into())
}

/// [`Service::validate`] and what [`Common`] needs on top.
pub(crate) fn validate<C: Service>(config: &C) -> Result<(), ConfigError> {
    config.common().telemetry.validate()?;
    config.validate()
}

/// clap speaks of flags; the operator of a container knows variables.
fn explain<C: clap::Parser>(error: &clap::Error) -> ConfigError {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(s)) => Some(s.clone()),
        Some(ContextValue::Strings(many)) => Some(many.join(", ")),
        _ => None,
    };
    let arg = context(ContextKind::InvalidArg).unwrap_or_else(|| "arguments".to_owned());
    let flag = arg.split([' ', '=']).next().unwrap_or_default().trim_start_matches("--");
    let command = C::command();
    let variable = command
        .get_arguments()
        .find(|a| a.get_long() == Some(flag))
        .and_then(|a| a.get_env())
        .map_or_else(|| arg.clone(), |v| v.to_string_lossy().into_owned());
    let value = context(ContextKind::InvalidValue);
    let cause = std::error::Error::source(error).map(ToString::to_string);
    let reason = match (error.kind(), value, cause) {
        (ErrorKind::MissingRequiredArgument, ..) => "is required".to_owned(),
        (_, Some(value), Some(cause)) => format!("invalid value '{value}': {cause}"),
        (_, Some(value), None) => format!("invalid value '{value}'"),
        (_, None, Some(cause)) => cause,
        (kind, None, None) => kind.to_string(),
    };
    ConfigError::new(variable, reason.replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Config {
        #[command(flatten)]
        common: Common,
    }

    impl Service for Config {
        fn common(&self) -> &Common {
            &self.common
        }
    }

    fn check(args: &[&str]) -> Result<Config, String> {
        let args = std::iter::once("svc").chain(args.iter().copied()).map(OsString::from);
        let config: Config = parse(args).map_err(|e| e.unwrap_or_else(|e| e.to_string()))?;
        validate(&config).map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn defaults_are_valid() {
        let config = check(&[]).unwrap();
        assert_eq!(*config.common.shutdown_grace, std::time::Duration::from_secs(10));
    }

    #[test]
    fn errors_name_the_variable_and_the_value() {
        assert_eq!(
            check(&["--admin-addr", "nonsense"]).unwrap_err(),
            "ADMIN_ADDR: invalid value 'nonsense': invalid socket address syntax"
        );
        assert_eq!(
            check(&["--shutdown-grace", "10"]).unwrap_err(),
            "SHUTDOWN_GRACE: invalid value '10': '10' is not a duration with a unit, such as 250ms, 10s or 2m"
        );
        assert_eq!(
            check(&["--otlp-endpoint", "collector:4317"]).unwrap_err(),
            "OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317' must start with http://"
        );
        assert!(check(&["--sample-ratio", "2"]).unwrap_err().starts_with("OTEL_TRACES_SAMPLER_ARG: "));
        assert!(check(&["--log-level", "a=b=c"]).unwrap_err().starts_with("LOG_LEVEL: "));
        assert!(check(&["--unknown"]).unwrap_err().contains("--unknown"));
    }

    #[test]
    fn a_secret_comes_from_exactly_one_place_and_is_never_printed() {
        let dir = std::env::temp_dir().join(format!("secret-{}", std::process::id()));
        std::fs::write(&dir, "s3cr3t\n").unwrap();
        let inline = Secret::new("inline");
        assert_eq!(secret("X", None, Some(&dir)).unwrap().expose(), "s3cr3t");
        assert_eq!(secret("X", Some(&inline), None).unwrap(), inline);
        assert_eq!(format!("{inline:?}"), "Secret(…)");
        for (error, says) in [
            (secret("X", Some(&inline), Some(&dir)), "X: set X or X_FILE, not both"),
            (secret("X", None, None), "X: is required: set X or X_FILE"),
            (secret("X", Some(&Secret::new("")), None), "X: is empty"),
        ] {
            assert_eq!(error.unwrap_err().to_string(), says);
        }
        std::fs::write(&dir, "\n").unwrap();
        assert!(secret("X", None, Some(&dir)).unwrap_err().to_string().starts_with("X_FILE: "));
        std::fs::remove_file(&dir).unwrap();
        assert!(secret("X", None, Some(&dir)).unwrap_err().to_string().contains("cannot read"));
    }
}
