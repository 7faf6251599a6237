//! `.stack/state.json`: what was decided at `up`, so that later commands and a second `up` agree.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::dotenv::Vars;

/// A published port that may have been moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// What `.env` or the environment asks for.
    pub wanted: u16,
    /// What is used.
    pub chosen: u16,
}

/// A service that is not started, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Compose service.
    pub service: String,
    /// One plain sentence.
    pub reason: String,
    /// What stands in for it, if anything does.
    pub stand_in: Option<String>,
}

/// Everything that `up` decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Format of this file.
    pub version: u32,
    /// Ports by variable name.
    pub ports: BTreeMap<String, Port>,
    /// Images that replace the pinned ones, by variable name.
    pub images: Vars,
    /// Further variables for compose (stand-ins).
    pub variables: Vars,
    /// Compose profiles that are on.
    pub profiles: Vec<String>,
    /// Services that are not started.
    pub left_out: Vec<LeftOut>,
    /// Services that were started, in compose order.
    pub services: Vec<String>,
    /// Content of the sources that the service images were built from by compose.
    pub sources: Option<String>,
    /// True after `up --only core`.
    pub only_core: bool,
}

impl State {
    /// Reads the file; an absent or unreadable one is an empty state.
    pub fn load(dir: &Path) -> Self {
        std::fs::read_to_string(dir.join("state.json"))
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default()
    }

    /// Writes the file at once or not at all, and `.stack/env` for use with plain `docker compose`.
    pub fn save(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        let json = serde_json::to_string_pretty(self)?;
        write(&dir.join("state.json"), &json)?;
        let mut env =
            String::from("# made by ./stack up; for docker compose --env-file .env --env-file .stack/env …\n");
        for (name, value) in self.environment() {
            env.push_str(&format!("{name}={value}\n"));
        }
        write(&dir.join("env"), &env)
    }

    /// The variables that compose gets over `.env`.
    pub fn environment(&self) -> Vars {
        let mut vars = self.variables.clone();
        vars.extend(self.images.clone());
        let moved = self.ports.iter().filter(|(_, port)| port.wanted != port.chosen);
        vars.extend(moved.map(|(name, port)| (name.clone(), port.chosen.to_string())));
        if !self.profiles.is_empty() {
            vars.insert("COMPOSE_PROFILES".into(), self.profiles.join(","));
        }
        vars
    }

    /// The port in use for a variable.
    pub fn port(&self, name: &str) -> Option<u16> {
        self.ports.get(name).map(|port| port.chosen)
    }

    /// True when the profile is on.
    pub fn has_profile(&self, profile: &str) -> bool {
        self.profiles.iter().any(|on| on == profile)
    }

    /// True when `up` left the service out.
    pub fn is_left_out(&self, service: &str) -> bool {
        self.left_out.iter().any(|left| left.service == service)
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    let part = file.with_extension("part");
    std::fs::write(&part, text).with_context(|| format!("cannot write {}", part.display()))?;
    std::fs::rename(&part, file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_round_trip_and_a_torn_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State { version: 1, ..State::default() };
        state.ports.insert("GRAFANA_PORT".into(), Port { wanted: 3000, chosen: 3001 });
        state.ports.insert("LOKI_PORT".into(), Port { wanted: 3100, chosen: 3100 });
        state.images.insert("REDIS_IMAGE".into(), "selfheal/local-redis:abc".into());
        state.profiles.push("jaeger".into());
        state.save(dir.path()).unwrap();
        assert_eq!(State::load(dir.path()), state);
        insta::assert_snapshot!(std::fs::read_to_string(dir.path().join("env")).unwrap());
        std::fs::write(dir.path().join("state.json"), "{\"version\":").unwrap();
        assert_eq!(State::load(dir.path()), State::default());
    }
}
