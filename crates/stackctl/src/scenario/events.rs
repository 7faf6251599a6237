//! What Docker reports while a scenario runs: how often each service was started, by whomever.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::docker::docker;

/// Follows `docker events` until dropped. The daemon keeps only the last few hundred events, which the health
/// checks of a stack fill within a minute: asking afterwards would be too late.
pub struct Events {
    child: Mutex<Child>,
    starts: Arc<Mutex<BTreeMap<String, u32>>>,
    /// Starts that the scenario ordered itself.
    own: Mutex<BTreeMap<String, u32>>,
}

impl Events {
    /// Begins to follow a project's containers.
    pub fn follow(project: &str) -> Result<Self> {
        let label = format!("label=com.docker.compose.project={project}");
        let mut command =
            docker(["events", "--filter", "type=container", "--filter", "event=start", "--filter", &label, "--format"]);
        command.arg("{{json .}}").stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().context("cannot follow docker events")?;
        let out = child.stdout.take().context("docker events has no output")?;
        let starts: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
        let counted = starts.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(out).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(service) = started(&line) {
                    *counted.lock().unwrap_or_else(PoisonError::into_inner).entry(service).or_default() += 1;
                }
            }
        });
        Ok(Self { child: Mutex::new(child), starts, own: Mutex::default() })
    }

    /// The scenario starts this one itself.
    pub fn own(&self, service: &str) {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner).entry(service.to_owned()).or_default() += 1;
    }

    /// Starts by others, by service; `None` when the events ended in between.
    pub fn starts(&self) -> Option<BTreeMap<String, u32>> {
        let ended = self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait();
        if !matches!(ended, Ok(None)) {
            return None;
        }
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (service, count) in own.iter() {
            if let Some(seen) = starts.get_mut(service) {
                *seen = seen.saturating_sub(*count);
            }
        }
        Some(starts)
    }
}

/// The service whose container was started, if that is what the line says.
fn started(line: &str) -> Option<String> {
    let event: Value = serde_json::from_str(line).ok()?;
    let service = event["Actor"]["Attributes"]["com.docker.compose.service"].as_str()?;
    (event["Action"] == "start").then(|| service.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_reports() {
        let line = |action: &str| {
            format!(
                r#"{{"status":"{action}","id":"ab","Type":"container","Action":"{action}","Actor":{{"ID":"ab",
                "Attributes":{{"com.docker.compose.service":"redis","name":"selfheal-redis-1"}}}},"time":1}}"#
            )
            .replace('\n', "")
        };
        assert_eq!(started(&line("start")).as_deref(), Some("redis"));
        assert_eq!(started(&line("die")), None);
        assert_eq!(started("not json"), None);
        assert_eq!(started(r#"{"Action":"start","Actor":{"Attributes":{}}}"#), None);
    }
}
