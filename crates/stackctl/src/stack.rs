//! The stack as a whole: compose file, variables and recorded state together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::compose::{ComposeFile, Service};
use crate::docker::{Compose, Container};
use crate::dotenv::{self, Vars};
use crate::exec;
use crate::progress::{Progress, Step};
use crate::site::Site;
use crate::state::{LeftOut, State};

/// What the healing loop needs; dependencies come along by themselves.
pub const CORE: &[&str] = &[
    "transaction-api",
    "docker-guard",
    "alert-bot",
    "prometheus",
    "alertmanager",
    "blackbox-exporter",
    "notification-receiver",
    "gateway",
];

/// How long services may take to become healthy after they were started.
const HEALTHY: Duration = Duration::from_secs(180);

/// Everything that is known without asking Docker.
#[derive(Clone, Debug)]
pub struct Stack {
    /// Folders.
    pub site: Site,
    /// `docker-compose.yml`.
    pub file: ComposeFile,
    /// `.env` and the environment.
    pub vars: Vars,
    /// What `up` decided.
    pub state: State,
}

impl Stack {
    /// Reads compose file, variables and state.
    pub fn open(site: &Site) -> Result<Self> {
        Ok(Self {
            file: ComposeFile::load(&site.root.join("docker-compose.yml"))?,
            vars: dotenv::load(&site.root)?,
            state: State::load(&site.state),
            site: site.clone(),
        })
    }

    /// Like [`Stack::open`]; where `up` recorded nothing, because plain `docker compose` started the
    /// stack, its containers say what is part of it.
    pub async fn attach(site: &Site) -> Result<Self> {
        let mut stack = Self::open(site)?;
        if stack.state.services.is_empty() {
            let containers = stack.compose().containers().await?;
            stack.adopt(&containers);
        }
        Ok(stack)
    }

    fn adopt(&mut self, containers: &[Container]) {
        if containers.is_empty() {
            return;
        }
        let (here, absent): (Vec<&Service>, Vec<&Service>) =
            self.file.services.iter().partition(|s| containers.iter().any(|c| c.service == s.name));
        let left = |service: &&Service| LeftOut {
            service: service.name.clone(),
            reason: "it was not started".into(),
            stand_in: None,
        };
        self.state.left_out = absent.iter().filter(|service| service.profiles.is_empty()).map(left).collect();
        self.state.services = here.iter().map(|service| service.name.clone()).collect();
        self.state.profiles = here.iter().flat_map(|service| service.profiles.clone()).collect();
    }

    /// `docker compose` with what was recorded.
    pub fn compose(&self) -> Compose {
        Compose::new(&self.site, &self.state)
    }

    /// The image name of one of our own programs.
    pub fn own_image(&self, program: &str) -> Result<String> {
        let service = self.file.services.iter().find(|service| service.builds.as_deref() == Some(program));
        let service = service.ok_or_else(|| anyhow!("no service runs {program}"))?;
        Ok(dotenv::expand(&service.image, &self.vars))
    }

    /// The port that a service's container port is published on.
    pub fn port(&self, service: &str, container: u16) -> Option<u16> {
        let service = self.file.service(service)?;
        let published = service.ports.iter().find(|port| port.container == container)?;
        let moved = published.variable.as_ref().and_then(|variable| self.state.port(variable));
        moved.or_else(|| dotenv::expand(&published.host, &self.vars).parse().ok())
    }

    /// Base address of a service's first published port, for requests from this machine.
    pub fn url(&self, service: &str) -> Result<String> {
        let (_, port) = self.first_port(service)?;
        Ok(address(port, "/"))
    }

    /// The same as people write it down.
    pub fn shown_address(&self, service: &str) -> Result<String> {
        let (container, port) = self.first_port(service)?;
        let raw = ADDRESSES.iter().any(|(_, name, inside, path)| (*name, *inside, *path) == (service, container, ""));
        Ok(address(port, if raw { "" } else { "/" }))
    }

    /// Inside and outside.
    fn first_port(&self, service: &str) -> Result<(u16, u16)> {
        let first = self.file.service(service).and_then(|service| service.ports.first());
        let container = first.ok_or_else(|| anyhow!("{service} publishes no port"))?.container;
        let port = self.port(service, container).ok_or_else(|| anyhow!("{service} has no port"))?;
        Ok((container, port))
    }

    /// Services that the active profiles include and that are not left out.
    pub fn selected(&self) -> Vec<&Service> {
        let on = |service: &&Service| {
            (service.profiles.is_empty() || service.profiles.iter().any(|p| self.state.profiles.contains(p)))
                && !self.state.is_left_out(&service.name)
        };
        self.file.services.iter().filter(on).collect()
    }

    /// A service that exists, or an error with the names of those that do.
    pub fn known(&self, service: &str) -> Result<&Service> {
        self.file.service(service).ok_or_else(|| {
            let names: Vec<&str> = self.file.services.iter().map(|service| service.name.as_str()).collect();
            anyhow!("there is no service called {service}; there are {}", names.join(", "))
        })
    }
}

/// Addresses for people, in the order of interest: title, service, port, path; no path where HTTP is not spoken.
pub const ADDRESSES: &[(&str, &str, u16, &str)] = &[
    ("Grafana", "grafana", 3000, "/"),
    ("Transaction API", "transaction-api", 8000, "/"),
    ("Alert-bot", "alert-bot", 5000, "/"),
    ("Prometheus", "prometheus", 9090, "/"),
    ("Alertmanager", "alertmanager", 9093, "/"),
    ("Notifications", "notification-receiver", 8025, "/"),
    ("Gateway to all", "gateway", 8080, "/"),
    ("Jaeger", "jaeger", 16686, "/jaeger/"),
    ("Tempo", "tempo", 3200, "/"),
    ("Loki", "loki", 3100, "/"),
    ("Telemetry generator", "telemetry-generator", 8001, "/metrics"),
    ("Drift inference", "drift-inference", 8002, "/"),
    ("ESG ledger", "esg-ledger", 8011, "/v1/ledger"),
    ("OTLP gRPC", "otel-collector", 4317, ""),
    ("MQTT broker", "mosquitto", 1883, ""),
];

/// A port as people write it down.
pub fn address(port: u16, path: &str) -> String {
    match path {
        "" => format!("127.0.0.1:{port}"),
        "/" => format!("http://127.0.0.1:{port}"),
        path => format!("http://127.0.0.1:{port}{path}"),
    }
}

/// What the containers of some services are at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Healthy, running without a health check, or ended well.
    pub ready: BTreeSet<String>,
    /// On the way.
    pub waiting: BTreeSet<String>,
    /// Ended badly or going round in circles, with the reason.
    pub broken: BTreeMap<String, String>,
}

/// Judges containers against the services that are meant to run.
pub fn readiness(services: &[&Service], containers: &[Container]) -> Readiness {
    let mut result = Readiness::default();
    for service in services {
        let name = service.name.clone();
        let Some(container) = containers.iter().find(|container| container.service == name) else {
            result.waiting.insert(name);
            continue;
        };
        let done = service.one_shot && container.state == "exited";
        if container.is_well() && !service.one_shot || done && container.exit_code == 0 {
            result.ready.insert(name);
        } else if done || container.state == "dead" {
            result.broken.insert(name, format!("ended with {}", container.exit_code));
        } else if container.restarts >= 5 {
            result
                .broken
                .insert(name, format!("restarted {} times, last exit {}", container.restarts, container.exit_code));
        } else {
            result.waiting.insert(name);
        }
    }
    result
}

/// Waits until all these services are ready; shows how far it is, and the log of what fails.
pub async fn wait_ready(compose: &Compose, services: &[&Service], step: &Step, progress: &Progress) -> Result<()> {
    let deadline = Instant::now() + HEALTHY;
    loop {
        let now = readiness(services, &compose.containers().await?);
        let names = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
        step.detail(&format!("{} of {} healthy; waiting for {}", now.ready.len(), services.len(), names(&now.waiting)));
        if now.waiting.is_empty() && now.broken.is_empty() {
            return Ok(());
        }
        let late = Instant::now() >= deadline;
        if !now.broken.is_empty() || late {
            let mut failed = now.broken.clone();
            if late {
                failed.extend(now.waiting.into_iter().map(|name| (name, "not healthy in time".to_owned())));
            }
            for (service, why) in &failed {
                progress.line(format!("{service}: {why}; its log ends with:\n{}", tail(compose, service).await));
            }
            bail!("not ready: {}", failed.keys().cloned().collect::<Vec<_>>().join(", "));
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
}

/// Shows the log of every container that has ended badly or is unhealthy.
pub async fn explain(compose: &Compose, services: &[&Service], progress: &Progress) {
    let Ok(containers) = compose.containers().await else { return };
    let broken = readiness(services, &containers).broken;
    for container in containers {
        let why = match broken.get(&container.service) {
            Some(why) => why.clone(),
            None if container.health == "unhealthy" => "unhealthy".to_owned(),
            None => continue,
        };
        let tail = tail(compose, &container.service).await;
        progress.line(format!("{}: {why}; its log ends with:\n{tail}", container.service));
    }
}

async fn tail(compose: &Compose, service: &str) -> String {
    let logs = compose.command(["logs", "--no-color", "--no-log-prefix", "--tail", "8", service]);
    let text =
        exec::capture(logs, Duration::from_secs(20)).await.map(|out| out.stdout + &out.stderr).unwrap_or_default();
    // Compose clears lines that nobody sees.
    console::strip_ansi_codes(&text).lines().map(|line| format!("  | {line}\n")).collect()
}

/// `./stack restart SERVICE`.
pub async fn restart(site: &Site, service: &str) -> Result<()> {
    site.prepare()?;
    let stack = Stack::open(site)?;
    let service = stack.known(service)?;
    let compose = stack.compose();
    let progress = Progress::new();
    let step = progress.step(format!("restart {}", service.name));
    exec::stdout(compose.command(["restart", &service.name]), Duration::from_secs(120)).await?;
    wait_ready(&compose, &[service], &step, &progress).await.context("restarted, but")?;
    step.done("healthy");
    Ok(())
}

/// `./stack logs SERVICE`.
pub async fn logs(site: &Site, service: &str, follow: bool, tail: u32) -> Result<u8> {
    let stack = Stack::open(site)?;
    let tail = tail.to_string();
    let mut args = vec!["logs", "--no-log-prefix", "--tail", &tail];
    if follow {
        args.push("--follow");
    }
    args.push(&stack.known(service)?.name);
    let code = exec::inherit(stack.compose().command(args)).await?;
    Ok(u8::try_from(code).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(service: &str, state: &str, health: &str) -> Container {
        Container { service: service.into(), state: state.into(), health: health.into(), ..Container::default() }
    }

    #[test]
    fn a_stack_that_plain_compose_started_is_what_its_containers_are() {
        let text = "services:\n  a: {image: x}\n  b: {image: x}\n  c: {image: x, profiles: [extra]}\n  d: {image: x, profiles: [other]}\n";
        let mut stack = Stack {
            site: Site { root: "/".into(), cache: "/".into(), state: "/".into(), project: "p".into(), debug: false },
            file: ComposeFile::parse(text).unwrap(),
            vars: Vars::new(),
            state: State::default(),
        };
        stack.adopt(&[container("a", "running", ""), container("c", "running", "")]);
        let names: Vec<&str> = stack.selected().iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
        assert!(stack.state.is_left_out("b") && !stack.state.is_left_out("d"));
    }

    #[test]
    fn judges_containers() {
        let names = ["ok", "no-check", "starting", "absent", "looping"];
        let mut services: Vec<Service> =
            names.iter().map(|name| Service { name: (*name).into(), ..Service::default() }).collect();
        for name in ["done", "failed"] {
            services.push(Service { name: name.into(), one_shot: true, ..Service::default() });
        }
        let services: Vec<&Service> = services.iter().collect();
        let containers = [
            container("ok", "running", "healthy"),
            container("no-check", "running", ""),
            container("starting", "running", "starting"),
            Container { restarts: 5, ..container("looping", "restarting", "") },
            container("done", "exited", ""),
            Container { exit_code: 2, ..container("failed", "exited", "") },
        ];
        insta::assert_debug_snapshot!(readiness(&services, &containers));
    }
}
