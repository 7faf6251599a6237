//! The `docker` and `docker compose` command lines, with this stack's files and variables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use crate::dotenv::Vars;
use crate::exec;
use crate::site::Site;
use crate::state::State;

/// Enough for any question to a daemon that is well.
const QUESTION: Duration = Duration::from_secs(60);

/// `docker ARGS`.
pub fn docker<I, S>(args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    exec::command("docker", args)
}

/// The server's version, or why it does not answer.
pub async fn server_version() -> Result<String> {
    let output = exec::capture(docker(["version", "--format", "{{.Server.Version}}"]), Duration::from_secs(15)).await?;
    anyhow::ensure!(output.ok(), "{}", output.last_line());
    Ok(output.stdout.trim().to_owned())
}

/// The compose plugin's version.
pub async fn compose_version() -> Result<String> {
    let text = exec::stdout(docker(["compose", "version", "--short"]), QUESTION).await?;
    Ok(text.trim().to_owned())
}

/// True when the image is in Docker's store.
pub async fn has_image(name: &str) -> bool {
    match exec::capture(docker(["image", "inspect", "--format", "{{.Id}}", name]), QUESTION).await {
        Ok(output) => output.ok(),
        Err(_) => false,
    }
}

/// `docker inspect` of some containers as JSON.
pub async fn inspect(ids: &[String]) -> Result<Vec<Value>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut args = vec!["inspect".to_owned()];
    args.extend(ids.iter().cloned());
    let text = exec::stdout(docker(args), QUESTION).await?;
    Ok(serde_json::from_str(&text)?)
}

/// `docker compose` for one project: file, variables and profiles set.
#[derive(Clone, Debug)]
pub struct Compose {
    root: PathBuf,
    file: PathBuf,
    project: String,
    vars: Vars,
}

/// A container as `docker compose ps` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Full id.
    pub id: String,
    /// Container name.
    pub name: String,
    /// Compose service.
    pub service: String,
    /// `running`, `exited`, `paused` …
    pub state: String,
    /// `healthy`, `unhealthy`, `starting`, or empty without a health check.
    pub health: String,
    /// Exit code of an ended one.
    pub exit_code: i64,
    /// When it was started last, RFC 3339.
    pub started_at: String,
    /// Restarts by Docker's own policy.
    pub restarts: u64,
    /// Host ports.
    pub ports: BTreeSet<u16>,
}

impl Container {
    /// Running, and healthy if it can say so.
    pub fn is_well(&self) -> bool {
        self.state == "running" && (self.health.is_empty() || self.health == "healthy")
    }
}

impl Compose {
    /// The stack itself, with what `up` recorded.
    pub fn new(site: &Site, state: &State) -> Self {
        Self {
            root: site.root.clone(),
            file: site.root.join("docker-compose.yml"),
            project: site.project.clone(),
            vars: state.environment(),
        }
    }

    /// Another compose file of the work tree, such as the one of the integration tests.
    pub fn other(root: &Path, file: PathBuf, project: &str, vars: Vars) -> Self {
        Self { root: root.to_path_buf(), file, project: project.to_owned(), vars }
    }

    /// `docker compose ARGS`.
    pub fn command<I, S>(&self, args: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        let mut command = docker(["compose", "--project-name", &self.project, "--file"]);
        command.arg(&self.file).arg("--project-directory").arg(self.file.parent().unwrap_or(&self.root));
        command.arg("--env-file").arg(self.root.join(".env")).args(args);
        command.current_dir(&self.root).envs(&self.vars);
        // One look in log files and on terminals: stackctl draws the progress itself.
        command.env("COMPOSE_ANSI", "never").env("COMPOSE_PROGRESS", "plain").env("BUILDKIT_PROGRESS", "plain");
        command
    }

    /// All containers of the project, stopped ones too.
    pub async fn containers(&self) -> Result<Vec<Container>> {
        let label = format!("label=com.docker.compose.project={}", self.project);
        let ids = exec::stdout(docker(["ps", "--all", "--quiet", "--no-trunc", "--filter", &label]), QUESTION).await?;
        let ids: Vec<String> = ids.lines().map(str::to_owned).collect();
        // A container may go away between the two calls: ask again once.
        let found = match inspect(&ids).await {
            Ok(found) => found,
            Err(_) => {
                let ids = exec::stdout(docker(["ps", "-aq", "--no-trunc", "--filter", &label]), QUESTION).await?;
                inspect(&ids.lines().map(str::to_owned).collect::<Vec<_>>()).await?
            }
        };
        let mut containers = found.into_iter().map(container).collect::<Result<Vec<_>>>()?;
        containers.sort_by(|a, b| a.service.cmp(&b.service));
        Ok(containers)
    }

    /// The container of one service.
    pub async fn container(&self, service: &str) -> Result<Option<Container>> {
        Ok(self.containers().await?.into_iter().find(|c| c.service == service))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    name: String,
    restart_count: u64,
    state: InspectedState,
    config: InspectedConfig,
    network_settings: InspectedNetwork,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    status: String,
    exit_code: i64,
    started_at: String,
    health: Option<InspectedHealth>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedHealth {
    status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedConfig {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedNetwork {
    #[serde(default)]
    ports: Option<BTreeMap<String, Option<Vec<InspectedPort>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedPort {
    host_port: String,
}

fn container(value: Value) -> Result<Container> {
    let found: Inspected = serde_json::from_value(value).context("docker inspect answered something unexpected")?;
    let ports = found.network_settings.ports.unwrap_or_default();
    let health = found.state.health.map(|health| health.status).filter(|status| status != "none");
    Ok(Container {
        id: found.id,
        name: found.name.trim_start_matches('/').to_owned(),
        service: found.config.labels.get("com.docker.compose.service").cloned().unwrap_or_default(),
        state: found.state.status,
        health: health.unwrap_or_default(),
        exit_code: found.state.exit_code,
        started_at: found.state.started_at,
        restarts: found.restart_count,
        ports: ports.into_values().flatten().flatten().filter_map(|port| port.host_port.parse().ok()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_inspect_says() {
        let value = serde_json::json!({
            "Id": "abc", "Name": "/selfheal-redis-1", "RestartCount": 2,
            "State": {"Status": "running", "ExitCode": 0, "StartedAt": "2026-01-01T00:00:00Z",
                      "Health": {"Status": "starting"}},
            "Config": {"Labels": {"com.docker.compose.service": "redis"}},
            "NetworkSettings": {"Ports": {"6379/tcp": [{"HostIp": "127.0.0.1", "HostPort": "6379"}], "1/tcp": null}}
        });
        let container = container(value).unwrap();
        assert!(!container.is_well());
        assert_eq!((container.service.as_str(), container.restarts), ("redis", 2));
        assert_eq!(container.ports, BTreeSet::from([6379]));
    }
}
