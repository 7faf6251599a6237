//! A [`Snapshot`] as metrics. Built anew at each scrape, so that a container
//! that is gone leaves no series behind.

use std::sync::Arc;

use prometheus::{
    core::{Collector, Desc},
    proto::{Metric, MetricFamily, MetricType},
};
use telemetry::metrics::sample;

use super::snapshot::{Observed, Snapshot};

type Value = fn(&Observed) -> Option<f64>;

struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    value: Value,
}

const fn gauge(name: &'static str, help: &'static str, value: Value) -> Family {
    Family { name, help, kind: MetricType::GAUGE, value }
}

const fn counter(name: &'static str, help: &'static str, value: Value) -> Family {
    Family { name, help, kind: MetricType::COUNTER, value }
}

fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

/// Byte counts are far below 2^53, where doubles stop being exact.
#[allow(clippy::cast_precision_loss)]
fn bytes(value: u64) -> f64 {
    value as f64
}

const FAMILIES: &[Family] = &[
    gauge("container_up", "1 if the container runs, 0 if it does not. One-shot containers have none.", |o| {
        (!o.state.container.oneshot).then(|| flag(o.state.up))
    }),
    gauge("container_managed", "1 if the container opted in to healing and is not protected, else 0.", |o| {
        Some(flag(o.state.container.enabled && !o.state.container.protected))
    }),
    gauge("container_health_status", "Health check: 1 healthy, 0.5 starting, 0 unhealthy; absent without one.", |o| {
        o.state.health.map(super::model::Health::value)
    }),
    gauge("container_restart_count", "Restarts by the restart policy since the container was created.", |o| {
        Some(o.state.restarts as f64)
    }),
    gauge("container_exit_code", "Exit code of the last run; 0 while the container runs.", |o| {
        Some(o.state.exit_code as f64)
    }),
    gauge("container_oom_killed", "1 if the present or last run met an out-of-memory kill, else 0.", |o| {
        Some(flag(o.state.oom_killed))
    }),
    counter("container_oom_events_total", "Out-of-memory kills reported while docker-guard watched.", |o| {
        Some(bytes(o.oom_events))
    }),
    gauge("container_start_time_seconds", "Start of the present or last run, in Unix seconds.", |o| o.state.started_at),
    counter("container_cpu_usage_seconds_total", "CPU time used since the container started, in seconds.", |o| {
        o.usage?.cpu_seconds
    }),
    gauge("container_memory_working_set_bytes", "Memory in use without reclaimable file cache, in bytes.", |o| {
        o.usage?.working_set.map(bytes)
    }),
    gauge("container_spec_memory_limit_bytes", "Memory limit in bytes; 0 is none.", |o| {
        Some(bytes(o.state.memory_limit))
    }),
    counter("container_network_receive_bytes_total", "Bytes received since the container started.", |o| {
        o.usage?.received.map(bytes)
    }),
    counter("container_network_transmit_bytes_total", "Bytes sent since the container started.", |o| {
        o.usage?.transmitted.map(bytes)
    }),
];

/// Exports a snapshot.
pub struct Exporter {
    snapshot: Arc<Snapshot>,
    descriptions: Vec<Desc>,
}

impl Exporter {
    /// For a registry.
    ///
    /// # Errors
    /// None that a test does not find: names and labels are constants.
    pub fn new(snapshot: Arc<Snapshot>) -> Result<Self, prometheus::Error> {
        let labels = || vec!["name".to_owned(), "service".to_owned()];
        let descriptions = FAMILIES
            .iter()
            .map(|f| Desc::new(f.name.to_owned(), f.help.to_owned(), labels(), std::collections::HashMap::new()))
            .collect::<Result<_, _>>()?;
        Ok(Self { snapshot, descriptions })
    }
}

impl Collector for Exporter {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let containers = self.snapshot.shown();
        FAMILIES
            .iter()
            .map(|family| {
                let metrics = containers.iter().filter_map(|o| Some(metric(family.kind, o, (family.value)(o)?)));
                let mut told = MetricFamily::default();
                told.set_name(family.name.to_owned());
                told.set_help(family.help.to_owned());
                told.set_field_type(family.kind);
                told.set_metric(metrics.collect());
                told
            })
            .filter(|family| !family.get_metric().is_empty())
            .collect()
    }
}

fn metric(kind: MetricType, observed: &Observed, value: f64) -> Metric {
    let container = &observed.state.container;
    sample(kind, [("name", container.lasting_name()), ("service", container.service.as_str())], value)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use telemetry::metrics::Registry;

    use super::*;
    use crate::{
        collector::model::{Health, State, Usage},
        policy::Container,
    };

    fn state(digit: &str, name: &str, labels: &[(&str, &str)], up: bool) -> State {
        let labels: HashMap<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        State {
            container: Container::new(&digit.repeat(64), name, &labels).unwrap(),
            up,
            health: up.then_some(Health::Healthy),
            restarts: 2,
            exit_code: if up { 0 } else { 137 },
            oom_killed: !up,
            started_at: Some(1_700_000_000.25),
            memory_limit: 0,
            addresses: vec![],
            image: "x/web:1".to_owned(),
            image_id: format!("sha256:{}", "11".repeat(32)),
        }
    }

    #[test]
    fn stopped_containers_are_zero_and_removed_ones_are_gone() {
        let snapshot = Arc::new(Snapshot::default());
        let registry = Registry::new("test", "0").unwrap();
        registry.register(Box::new(Exporter::new(snapshot.clone()).unwrap())).unwrap();
        let text = || {
            let text = String::from_utf8(registry.encode(None).1).unwrap();
            text.lines().filter(|l| l.starts_with("container_")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(text(), "");

        let web = state("a", "/web", &[("selfheal.enable", "true"), ("selfheal.service", "shop")], true);
        let id = web.container.id.clone();
        snapshot.put(web);
        snapshot.put(state("b", "/secrets", &[("selfheal.oneshot", "true")], false));
        snapshot.put_usage(
            &id,
            Usage { cpu_seconds: Some(1.5), working_set: Some(4096), received: None, transmitted: None },
        );
        snapshot.out_of_memory(&id);
        insta::assert_snapshot!("running", text());

        snapshot.put(state("a", "/web", &[("selfheal.enable", "true"), ("selfheal.service", "shop")], false));
        insta::assert_snapshot!("stopped", text());

        snapshot.retain(|kept| *kept != id);
        assert!(!text().contains("web"));
        assert!(text().contains(r#"container_exit_code{name="secrets",service="secrets"} 137"#));
        assert!(!text().contains("container_up"), "a one-shot container does not count as down");
    }
}
