//! The compose file is as hardened as it claims: read service by service, exceptions named with their reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;
use stackctl::compose::{ComposeFile, Service, text_of};
use stackctl::dotenv;

/// May run as root, and why.
const ROOT: &[(&str, &str)] = &[
    ("secrets", "gives files to the uids that read them"),
    ("volumes", "gives folders to the uids that write them"),
    ("docker-guard", "the socket belongs to root; `./stack up` sets another uid where the socket's group may be used"),
    ("cadvisor", "reads the cgroups and disks of every container"),
];

/// May add capabilities.
const CAPABILITIES: &[(&str, &str)] =
    &[("secrets", "CHOWN, FOWNER, DAC_OVERRIDE, without a network"), ("volumes", "CHOWN, without a network")];

/// Have no health check.
const NO_HEALTH_CHECK: &[(&str, &str)] = &[
    ("secrets", "ends by itself"),
    ("volumes", "ends by itself"),
    ("otel-collector", "its image holds nothing that could ask; Prometheus probes it from outside"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn file() -> ComposeFile {
    ComposeFile::load(&root().join("docker-compose.yml")).unwrap()
}

fn excused(list: &[(&str, &str)], service: &Service) -> bool {
    list.iter().any(|(name, _)| *name == service.name)
}

/// Calls `fault` for each service and fails with all the names and reasons at once.
fn check(fault: impl Fn(&Service, &Value) -> Option<String>) {
    let file = file();
    let faults: Vec<String> = file
        .services
        .iter()
        .filter_map(|service| {
            let body = &file.document["services"][service.name.as_str()];
            fault(service, body).map(|why| format!("{}: {why}", service.name))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn texts(value: &Value) -> Vec<String> {
    value.as_sequence().into_iter().flatten().filter_map(text_of).collect()
}

fn need(good: bool, why: &str) -> Option<String> {
    (!good).then(|| why.to_owned())
}

#[test]
fn nobody_is_root_without_a_reason() {
    check(|service, body| {
        let user = body.get("user").and_then(text_of).unwrap_or_default();
        let user = dotenv::expand(&user, &dotenv::Vars::new());
        let root = ["", "0", "root"].contains(&user.split(':').next().unwrap_or_default());
        need(!root || excused(ROOT, service), "runs as root")
    });
}

#[test]
fn root_file_systems_are_read_only() {
    check(|_, body| need(body["read_only"] == Value::Bool(true), "read_only is not set"));
}

#[test]
fn capabilities_are_dropped() {
    check(|service, body| {
        let dropped = texts(&body["cap_drop"]).iter().any(|cap| cap == "ALL");
        let added = body.get("cap_add").is_some() && !excused(CAPABILITIES, service);
        need(dropped && !added && body.get("privileged").is_none(), "keeps or adds capabilities")
    });
}

#[test]
fn privileges_cannot_be_gained() {
    check(|_, body| {
        need(texts(&body["security_opt"]).iter().any(|o| o == "no-new-privileges:true"), "no-new-privileges is not set")
    });
}

#[test]
fn memory_cpu_and_processes_are_limited() {
    check(|_, body| {
        let missing: Vec<&str> =
            ["mem_limit", "cpus", "pids_limit"].into_iter().filter(|key| body.get(*key).is_none()).collect();
        need(missing.is_empty(), &missing.join(", "))
    });
}

#[test]
fn logs_are_rotated() {
    check(|_, body| need(body["logging"]["options"]["max-size"].is_string(), "its log may grow without end"));
}

#[test]
fn health_is_checked() {
    check(|service, body| {
        need(body.get("healthcheck").is_some() || excused(NO_HEALTH_CHECK, service), "no health check")
    });
}

#[test]
fn services_come_back_and_one_shots_do_not() {
    check(|service, body| {
        let wanted = if service.one_shot { "no" } else { "unless-stopped" };
        need(body["restart"].as_str() == Some(wanted), "its restart policy is another")
    });
}

#[test]
fn ports_are_on_loopback_and_movable() {
    check(|service, body| {
        let open = texts(&body["ports"]).iter().any(|port| !port.starts_with("127.0.0.1:"));
        let fixed = service.ports.iter().any(|port| port.variable.is_none());
        need(!open && !fixed, "publishes a port beyond loopback, or one that no variable moves")
    });
}

#[test]
fn only_the_guard_sees_the_docker_socket() {
    check(|service, body| {
        let mounts = body["volumes"].as_sequence().into_iter().flatten();
        let socket = mounts.map(|m| serde_yaml_ng::to_string(m).unwrap()).any(|mount| mount.contains("docker.sock"));
        need(!socket || service.name == "docker-guard", "mounts the Docker socket")
    });
}

#[test]
fn host_namespaces_are_not_shared() {
    check(|_, body| {
        let host = |key: &str| body.get(key).and_then(text_of).is_some_and(|value| value == "host");
        need(!["network_mode", "pid", "ipc", "userns_mode", "uts"].into_iter().any(host), "shares a namespace")
    });
}

#[test]
fn secrets_are_in_no_environment() {
    check(|_, body| {
        let environment = body.get("environment").and_then(Value::as_mapping);
        let names: Vec<String> = environment
            .into_iter()
            .flatten()
            .filter_map(|(name, _)| text_of(name))
            .filter(|name| ["PASSWORD", "SECRET", "TOKEN"].iter().any(|word| name.contains(word)))
            .filter(|name| !name.ends_with("_FILE"))
            .collect();
        need(names.is_empty(), &names.join(", "))
    });
}

#[test]
fn every_image_is_pinned_in_one_file() {
    let vars = dotenv::parse(&std::fs::read_to_string(root().join(".env")).unwrap());
    check(|service, _| {
        let variable = dotenv::variable(&service.image)?;
        let Some(value) = vars.get(&variable) else { return Some(format!("{variable} is not in .env")) };
        if variable == "STACK_VERSION" {
            return need(service.builds.is_some(), "nothing builds it");
        }
        let tag = value.rsplit_once(':').map_or("", |(_, tag)| tag);
        need(!tag.is_empty() && tag != "latest" && !tag.contains('/'), &format!("{value} is not pinned"))
    });
}

#[test]
fn healing_and_protection_exclude_each_other_and_leave_nobody_out() {
    let protected: BTreeSet<&str> =
        ["docker-guard", "alert-bot", "alert-bot-standby", "prometheus", "alertmanager"].into();
    check(|service, _| {
        if service.one_shot {
            return None;
        }
        let label = |name: &str| service.labels.get(name).is_some_and(|value| value == "true");
        let (heal, protect) = (label("selfheal.enable"), label("selfheal.protect"));
        need(heal != protect && protect == protected.contains(service.name.as_str()), "its healing labels are wrong")
    });
}

#[test]
fn nothing_needs_what_may_be_left_out() {
    let left_out = ["grafana", "tempo", "cadvisor"].map(str::to_owned).into();
    assert_eq!(file().broken_by(&left_out), []);
}

#[test]
fn every_port_of_the_product_is_there() {
    let vars = dotenv::parse(&std::fs::read_to_string(root().join(".env")).unwrap());
    let wanted = ComposeFile::wanted_ports(&file().services, &vars);
    let product: BTreeMap<&str, u16> = [
        ("GRAFANA_PORT", 3000),
        ("PROMETHEUS_PORT", 9090),
        ("ALERTMANAGER_PORT", 9093),
        ("LOKI_PORT", 3100),
        ("TEMPO_PORT", 3200),
        ("JAEGER_PORT", 16686),
        ("OTLP_GRPC_PORT", 4317),
        ("OTLP_HTTP_PORT", 4318),
        ("MQTT_PORT", 1883),
        ("ALERT_BOT_PORT", 5000),
        ("ALERT_BOT_STANDBY_PORT", 5001),
        ("TRANSACTION_API_PORT", 8000),
        ("TELEMETRY_GENERATOR_PORT", 8001),
        ("DRIFT_INFERENCE_PORT", 8002),
        ("ESG_LEDGER_PORT", 8011),
        ("ESG_WITNESS_PORT", 8012),
        ("GATEWAY_PORT", 8080),
        ("RECEIVER_PORT", 8025),
    ]
    .into();
    let found: BTreeMap<&str, u16> = wanted.iter().map(|(name, port)| (name.as_str(), *port)).collect();
    assert_eq!(found, product);
}

#[test]
fn networks_that_need_no_way_out_have_none() {
    let file = file();
    let networks = file.document["networks"].as_mapping().unwrap();
    for (name, body) in networks {
        let internal = body.get("internal").and_then(Value::as_bool).unwrap_or(false);
        assert_eq!(internal, text_of(name).unwrap() != "edge", "{name:?}");
    }
}
