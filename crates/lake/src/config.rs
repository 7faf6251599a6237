//! The lake's settings as a service's arguments and environment variables.

use std::path::PathBuf;

use telemetry::config::{ConfigError, Duration, Secret, secret};

use crate::store::{Backend, S3, Settings};

/// Where the lake is; flatten it into a service's configuration.
#[derive(clap::Args, Clone, Debug)]
pub struct LakeArgs {
    /// S3 endpoint with its scheme; path-style requests.
    #[arg(long, env = "LAKE_ENDPOINT", default_value = "http://lake:7070")]
    pub lake_endpoint: String,
    /// Bucket; made on the first write if absent.
    #[arg(long, env = "LAKE_BUCKET", default_value = "lake")]
    pub lake_bucket: String,
    /// Region that requests are signed for.
    #[arg(long, env = "LAKE_REGION", default_value = "us-east-1")]
    pub lake_region: String,
    /// Access key.
    #[arg(long, env = "LAKE_ACCESS_KEY", hide_env_values = true)]
    pub lake_access_key: Option<Secret>,
    /// File with the access key.
    #[arg(long, env = "LAKE_ACCESS_KEY_FILE")]
    pub lake_access_key_file: Option<PathBuf>,
    /// Secret key.
    #[arg(long, env = "LAKE_SECRET_KEY", hide_env_values = true)]
    pub lake_secret_key: Option<Secret>,
    /// File with the secret key.
    #[arg(long, env = "LAKE_SECRET_KEY_FILE")]
    pub lake_secret_key_file: Option<PathBuf>,
    /// Limit for making a connection.
    #[arg(long, env = "LAKE_CONNECT_TIMEOUT", default_value = "1s")]
    pub lake_connect_timeout: Duration,
    /// Limit for one request, retries apart; an outage must show within seconds.
    #[arg(long, env = "LAKE_REQUEST_TIMEOUT", default_value = "3s")]
    pub lake_request_timeout: Duration,
    /// Retries of one request.
    #[arg(long, env = "LAKE_MAX_RETRIES", default_value_t = 1)]
    pub lake_max_retries: usize,
    /// A local folder instead of S3, for trying out and for offline work.
    #[arg(long, env = "LAKE_DIR")]
    pub lake_dir: Option<PathBuf>,
}

impl LakeArgs {
    /// Checks everything and reads the keys.
    ///
    /// # Errors
    /// Names the variable.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        if let Some(dir) = &self.lake_dir {
            return Ok(Settings { backend: Backend::Folder(dir.clone()) });
        }
        let endpoint = self.lake_endpoint.trim_end_matches('/');
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(ConfigError::new("LAKE_ENDPOINT", format!("'{endpoint}' must start with http:// or https://")));
        }
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        if !(3..=63).contains(&self.lake_bucket.len()) || !self.lake_bucket.bytes().all(valid) {
            let reason = format!("'{}' is not a bucket name (3 to 63 of a-z 0-9 - .)", self.lake_bucket);
            return Err(ConfigError::new("LAKE_BUCKET", reason));
        }
        for (name, limit) in
            [("LAKE_CONNECT_TIMEOUT", &self.lake_connect_timeout), ("LAKE_REQUEST_TIMEOUT", &self.lake_request_timeout)]
        {
            if limit.is_zero() {
                return Err(ConfigError::new(name, "must be more than zero"));
            }
        }
        if self.lake_max_retries > 10 {
            return Err(ConfigError::new("LAKE_MAX_RETRIES", "must be at most 10"));
        }
        Ok(Settings {
            backend: Backend::S3(S3 {
                endpoint: endpoint.to_owned(),
                bucket: self.lake_bucket.clone(),
                region: self.lake_region.clone(),
                access_key: secret(
                    "LAKE_ACCESS_KEY",
                    self.lake_access_key.as_ref(),
                    self.lake_access_key_file.as_deref(),
                )?,
                secret_key: secret(
                    "LAKE_SECRET_KEY",
                    self.lake_secret_key.as_ref(),
                    self.lake_secret_key_file.as_deref(),
                )?,
                connect_timeout: *self.lake_connect_timeout,
                request_timeout: *self.lake_request_timeout,
                max_retries: self.lake_max_retries,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        lake: LakeArgs,
    }

    fn check(args: &[&str]) -> Result<Settings, String> {
        let keys = ["x", "--lake-access-key", "a", "--lake-secret-key", "b"];
        Cli::parse_from(keys.iter().chain(args)).lake.settings().map_err(|e| e.to_string())
    }

    #[test]
    fn each_fault_names_its_variable() {
        check(&[]).unwrap();
        check(&["--lake-dir", "/tmp/x"]).unwrap();
        for (args, variable) in [
            (["--lake-endpoint", "lake:7070"], "LAKE_ENDPOINT"),
            (["--lake-bucket", "No Bucket"], "LAKE_BUCKET"),
            (["--lake-request-timeout", "0s"], "LAKE_REQUEST_TIMEOUT"),
            (["--lake-max-retries", "99"], "LAKE_MAX_RETRIES"),
        ] {
            let error = check(&args).map(drop).unwrap_err();
            assert!(error.starts_with(variable), "{error}");
        }
    }
}
