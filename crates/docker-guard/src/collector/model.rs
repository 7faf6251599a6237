//! Docker's answers as figures; pure.

use std::{collections::HashMap, net::IpAddr};

use bollard::models::{
    ContainerInspectResponse, ContainerMemoryStats, ContainerStateStatusEnum, ContainerStatsResponse, HealthStatusEnum,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::policy::Container;

/// What a health check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Docker's words
pub enum Health {
    Healthy,
    Unhealthy,
    Starting,
}

impl Health {
    /// 1, 0 or 0.5.
    pub fn value(self) -> f64 {
        match self {
            Self::Healthy => 1.0,
            Self::Unhealthy => 0.0,
            Self::Starting => 0.5,
        }
    }
}

/// The state of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Who it is.
    pub container: Container,
    /// Runs, and is neither paused nor between two restarts.
    pub up: bool,
    /// What its health check says while it runs; `None` without one.
    pub health: Option<Health>,
    /// Restarts by its restart policy since it was created or last started by hand.
    pub restarts: i64,
    /// Exit code of the last run; 0 while it runs.
    pub exit_code: i64,
    /// The kernel killed one of its processes for want of memory, in this or the last run.
    pub oom_killed: bool,
    /// Start of this or the last run, in Unix seconds; `None` if it never ran.
    pub started_at: Option<f64>,
    /// Memory limit in bytes; 0 is none.
    pub memory_limit: u64,
    /// Its addresses, to recognise it as a caller.
    pub addresses: Vec<IpAddr>,
    /// Its image, as it was asked for.
    pub image: String,
    /// The image's id, with `sha256:`.
    pub image_id: String,
}

/// Reads a container's state. `None` if the answer lacks an id.
pub fn state(inspect: ContainerInspectResponse) -> Option<State> {
    let config = inspect.config.unwrap_or_default();
    let labels = config.labels.unwrap_or_default();
    let container = Container::new(inspect.id.as_deref()?, inspect.name.as_deref().unwrap_or_default(), &labels)?;
    let state = inspect.state.unwrap_or_default();
    let up = state.status == Some(ContainerStateStatusEnum::RUNNING);
    let health = state.health.and_then(|h| h.status).and_then(|status| match status {
        HealthStatusEnum::HEALTHY => Some(Health::Healthy),
        HealthStatusEnum::UNHEALTHY => Some(Health::Unhealthy),
        HealthStatusEnum::STARTING => Some(Health::Starting),
        _ => None,
    });
    let networks = inspect.network_settings.and_then(|n| n.networks).unwrap_or_default();
    Some(State {
        container,
        up,
        // Docker keeps the last word of a container that no longer runs.
        health: health.filter(|_| up),
        restarts: inspect.restart_count.unwrap_or(0),
        exit_code: state.exit_code.unwrap_or(0),
        oom_killed: state.oom_killed.unwrap_or(false),
        started_at: state.started_at.as_deref().and_then(unix_seconds),
        memory_limit: inspect.host_config.and_then(|h| h.memory).and_then(|m| u64::try_from(m).ok()).unwrap_or(0),
        addresses: networks.values().filter_map(|n| n.ip_address.as_deref()?.parse().ok()).collect(),
        image: config.image.unwrap_or_default(),
        image_id: inspect.image.unwrap_or_default(),
    })
}

/// Docker writes year 1 for "never".
fn unix_seconds(rfc3339: &str) -> Option<f64> {
    let time = OffsetDateTime::parse(rfc3339, &Rfc3339).ok()?;
    // Nanoseconds since 1970 fit a double to well under a microsecond.
    (time.unix_timestamp() > 0).then(|| time.unix_timestamp_nanos() as f64 / 1e9)
}

/// What a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time since it started, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Memory that cannot be had back without swapping, in bytes.
    pub working_set: Option<u64>,
    /// Bytes received since it started, all interfaces.
    pub received: Option<u64>,
    /// Bytes sent since it started, all interfaces.
    pub transmitted: Option<u64>,
}

/// Reads a container's usage.
pub fn usage(stats: &ContainerStatsResponse) -> Usage {
    let cpu = stats.cpu_stats.as_ref().and_then(|c| c.cpu_usage.as_ref()).and_then(|u| u.total_usage);
    let sum = |field: fn(&bollard::models::ContainerNetworkStats) -> Option<u64>| {
        stats.networks.as_ref().map(|all| all.values().filter_map(field).sum())
    };
    Usage {
        cpu_seconds: cpu.map(|ns| ns as f64 / 1e9),
        working_set: stats.memory_stats.as_ref().and_then(working_set),
        received: sum(|n| n.rx_bytes),
        transmitted: sum(|n| n.tx_bytes),
    }
}

/// Usage without the file cache that the kernel would give up first, as cAdvisor
/// and the kubelet count it.
///
/// cgroup v1 reports the whole subtree under `total_inactive_file` (its own
/// `inactive_file` is that of the one group only); v2 has only `inactive_file`,
/// which is hierarchical.
pub fn working_set(memory: &ContainerMemoryStats) -> Option<u64> {
    let usage = memory.usage?;
    let stat = |key: &str| memory.stats.as_ref().and_then(|s: &HashMap<String, u64>| s.get(key)).copied();
    let inactive = stat("total_inactive_file").or_else(|| stat("inactive_file")).unwrap_or(0);
    // The two numbers are not read at the same instant.
    Some(usage.saturating_sub(inactive))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::PROJECT_LABEL;

    fn inspected(state: serde_json::Value) -> State {
        let answer = json!({
            "Id": "cd".repeat(32), "Name": "/stack-redis-1", "RestartCount": 3, "State": state,
            "HostConfig": {"Memory": 1048576},
            "Config": {"Labels": {PROJECT_LABEL: "stack", "com.docker.compose.service": "redis"}},
            "NetworkSettings": {"Networks": {"data": {"IPAddress": "172.18.0.4"}, "none": {"IPAddress": ""}}},
        });
        super::state(serde_json::from_value(answer).unwrap()).unwrap()
    }

    #[test]
    fn a_running_container_is_up_and_has_its_health() {
        let state = inspected(json!({"Status": "running", "Running": true, "ExitCode": 0,
            "StartedAt": "2026-01-02T03:04:05.5Z", "Health": {"Status": "starting"}}));
        assert!(state.up);
        assert_eq!(state.health, Some(Health::Starting));
        assert_eq!((state.restarts, state.memory_limit), (3, 1_048_576));
        assert_eq!(state.started_at, Some(1_767_323_045.5));
        assert_eq!(state.addresses, ["172.18.0.4".parse::<IpAddr>().unwrap()]);
        assert_eq!(state.container.service, "redis");
    }

    #[test]
    fn what_does_not_run_is_down_and_has_no_health() {
        for status in ["created", "paused", "restarting", "exited", "dead"] {
            let state = inspected(json!({"Status": status, "Running": status == "paused", "ExitCode": 137,
                "OOMKilled": true, "StartedAt": "0001-01-01T00:00:00Z", "Health": {"Status": "unhealthy"}}));
            assert!(!state.up, "{status}");
            assert_eq!(state.health, None);
            assert_eq!((state.exit_code, state.oom_killed, state.started_at), (137, true, None));
        }
        // "none" and "" are how Docker says that there is no health check.
        for none in ["none", ""] {
            assert_eq!(inspected(json!({"Status": "running", "Health": {"Status": none}})).health, None);
        }
    }

    #[test]
    fn the_working_set_is_right_on_both_cgroup_versions() {
        let memory = |stats: serde_json::Value| {
            working_set(&serde_json::from_value(json!({"usage": 1000, "stats": stats})).unwrap())
        };
        assert_eq!(memory(json!({"inactive_file": 1, "total_inactive_file": 300})), Some(700), "v1");
        assert_eq!(memory(json!({"inactive_file": 300, "anon": 500})), Some(700), "v2");
        assert_eq!(memory(json!({"inactive_file": 2000})), Some(0));
        assert_eq!(memory(json!({})), Some(1000));
        assert_eq!(working_set(&ContainerMemoryStats::default()), None, "no memory cgroup");
    }

    #[test]
    fn usage_is_in_base_units_over_all_interfaces() {
        let stats = json!({
            "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000_u64}},
            "memory_stats": {},
            "networks": {"eth0": {"rx_bytes": 10, "tx_bytes": 1}, "eth1": {"rx_bytes": 5, "tx_bytes": 2}},
        });
        let usage = usage(&serde_json::from_value(stats).unwrap());
        assert_eq!(
            usage,
            Usage { cpu_seconds: Some(2.5), working_set: None, received: Some(15), transmitted: Some(3) }
        );
        assert_eq!(super::usage(&ContainerStatsResponse::default()), Usage::default());
    }
}
