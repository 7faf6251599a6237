//! The compose file as it is written: which services, images, ports and dependencies there are.
//! Read directly, so that it works before Docker does and shows which variable sets what.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde_yaml_ng::Value;

use crate::dotenv::{self, Vars};

/// A compose file, services in the order of the file.
#[derive(Clone, Debug)]
pub struct ComposeFile {
    /// The services.
    pub services: Vec<Service>,
    /// The whole document with merge keys applied.
    pub document: Value,
}

/// One service of the file.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// `image:` as written.
    pub image: String,
    /// The value of the build argument `SERVICE`, or the service's name, when it has a `build:`.
    pub builds: Option<String>,
    /// Published ports.
    pub ports: Vec<Published>,
    /// Services it needs, with the condition; optional ones are marked.
    pub depends_on: BTreeMap<String, Dependency>,
    /// Profiles; empty means always on.
    pub profiles: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// True for a container that does its work and ends.
    pub one_shot: bool,
}

/// A `depends_on` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// `service_started`, `service_healthy` or `service_completed_successfully`.
    pub condition: String,
    /// False with `required: false`.
    pub required: bool,
}

/// A published port, `127.0.0.1:${VARIABLE:-default}:container`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The variable that moves it, if there is one.
    pub variable: Option<String>,
    /// The host part as written.
    pub host: String,
    /// Port inside the container.
    pub container: u16,
}

impl ComposeFile {
    /// Reads and parses a file.
    pub fn load(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", file.display()))
    }

    /// Parses the text of a compose file.
    pub fn parse(text: &str) -> Result<Self> {
        let mut document: Value = serde_yaml_ng::from_str(text)?;
        // One round merges one level: what is merged in may hold a merge key itself.
        loop {
            let before = document.clone();
            document.apply_merge()?;
            if document == before {
                break;
            }
        }
        let listed =
            document.get("services").and_then(Value::as_mapping).ok_or_else(|| anyhow!("there is no `services`"))?;
        let mut services = Vec::new();
        for (name, body) in listed {
            let name = text_of(name).ok_or_else(|| anyhow!("a service has no name"))?;
            services.push(service(name, body)?);
        }
        let ends: BTreeSet<String> = services
            .iter()
            .flat_map(|s| s.depends_on.iter())
            .filter(|(_, dep)| dep.condition == "service_completed_successfully")
            .map(|(name, _)| name.clone())
            .collect();
        for service in &mut services {
            service.one_shot = ends.contains(&service.name);
        }
        Ok(Self { services, document })
    }

    /// A service by name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// The named services and everything they need, in the order of the file.
    pub fn closure<'a>(&'a self, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a Service> {
        let mut wanted: BTreeSet<&str> = BTreeSet::new();
        let mut queue: Vec<&str> = names.into_iter().collect();
        while let Some(name) = queue.pop() {
            if let Some(service) = self.service(name)
                && wanted.insert(&service.name)
            {
                queue.extend(service.depends_on.iter().filter(|(_, dep)| dep.required).map(|(name, _)| name.as_str()));
            }
        }
        self.services.iter().filter(|service| wanted.contains(service.name.as_str())).collect()
    }

    /// Services that cannot run without one that is left out.
    pub fn broken_by(&self, left_out: &BTreeSet<String>) -> Vec<(String, String)> {
        self.services
            .iter()
            .filter(|service| !left_out.contains(&service.name))
            .flat_map(|service| {
                let needs = service.depends_on.iter().filter(|(name, dep)| dep.required && left_out.contains(*name));
                needs.map(|(name, _)| (service.name.clone(), name.clone()))
            })
            .collect()
    }

    /// Every port variable with the port it asks for.
    pub fn wanted_ports<'a>(services: impl IntoIterator<Item = &'a Service>, vars: &Vars) -> BTreeMap<String, u16> {
        let ports = services.into_iter().flat_map(|service| &service.ports);
        ports
            .filter_map(|port| {
                let wanted = dotenv::expand(&port.host, vars).parse().ok()?;
                Some((port.variable.clone()?, wanted))
            })
            .collect()
    }
}

fn service(name: String, body: &Value) -> Result<Service> {
    let builds = body.get("build").map(|build| {
        let args = build.get("args");
        let named = args.and_then(|args| match args {
            Value::Sequence(list) => {
                list.iter().filter_map(Value::as_str).find_map(|arg| arg.strip_prefix("SERVICE=")).map(str::to_owned)
            }
            other => other.get("SERVICE").and_then(text_of),
        });
        named.unwrap_or_else(|| name.clone())
    });
    let ports = match body.get("ports") {
        Some(Value::Sequence(list)) => list.iter().map(published).collect::<Result<_>>()?,
        _ => Vec::new(),
    };
    let profiles = match body.get("profiles") {
        Some(Value::Sequence(list)) => list.iter().filter_map(text_of).collect(),
        _ => Vec::new(),
    };
    Ok(Service {
        image: body.get("image").and_then(text_of).unwrap_or_default(),
        depends_on: depends_on(body.get("depends_on")),
        labels: labels(body.get("labels")),
        one_shot: false,
        builds,
        ports,
        profiles,
        name,
    })
}

fn published(value: &Value) -> Result<Published> {
    if let Some(text) = text_of(value) {
        // Variables may hold colons (`${X:-1}`), so the container's port is split off from the right.
        let (rest, container) = text.rsplit_once(':').ok_or_else(|| anyhow!("port {text:?} is not published"))?;
        let container = container.split('/').next().unwrap_or(container);
        let host = match rest.find("${") {
            Some(start) => &rest[start..],
            None => rest.rsplit(':').next().unwrap_or(rest),
        };
        return Ok(Published {
            variable: dotenv::variable(host),
            host: host.to_owned(),
            container: container.parse().with_context(|| format!("port {text:?}"))?,
        });
    }
    let field = |name: &str| value.get(name).and_then(text_of);
    let host = field("published").unwrap_or_default();
    Ok(Published {
        variable: dotenv::variable(&host),
        host,
        container: field("target").unwrap_or_default().parse().context("a port has no `target`")?,
    })
}

fn depends_on(value: Option<&Value>) -> BTreeMap<String, Dependency> {
    let plain = || Dependency { condition: "service_started".into(), required: true };
    match value {
        Some(Value::Sequence(list)) => list.iter().filter_map(text_of).map(|name| (name, plain())).collect(),
        Some(Value::Mapping(map)) => map
            .iter()
            .filter_map(|(name, body)| {
                let condition = body.get("condition").and_then(text_of).unwrap_or_else(|| plain().condition);
                let required = body.get("required").and_then(Value::as_bool).unwrap_or(true);
                Some((text_of(name)?, Dependency { condition, required }))
            })
            .collect(),
        _ => BTreeMap::new(),
    }
}

fn labels(value: Option<&Value>) -> BTreeMap<String, String> {
    match value {
        Some(Value::Sequence(list)) => list
            .iter()
            .filter_map(text_of)
            .filter_map(|label| label.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
            .collect(),
        Some(Value::Mapping(map)) => {
            map.iter().filter_map(|(name, value)| Some((text_of(name)?, text_of(value)?))).collect()
        }
        _ => BTreeMap::new(),
    }
}

/// A scalar as text.
pub fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"
x-base: &base
  restart: unless-stopped
  labels: {selfheal.enable: "true"}
x-store: &store
  <<: *base
  read_only: true
services:
  secrets:
    image: selfheal/stackctl:${STACK_VERSION}
    build: {context: ., args: {SERVICE: stackctl}}
  postgres:
    <<: *store
    image: ${POSTGRES_IMAGE}
    depends_on: {secrets: {condition: service_completed_successfully}}
  transaction-api:
    <<: *base
    image: selfheal/transaction-api:${STACK_VERSION}
    build: {context: .}
    ports: ["127.0.0.1:${TRANSACTION_API_PORT:-8000}:8000"]
    depends_on:
      postgres: {condition: service_healthy}
      tempo: {condition: service_started, required: false}
  tempo:
    image: ${TEMPO_IMAGE}
    ports:
      - "127.0.0.1:3200:3200/tcp"
      - {target: 4317, published: "${OTLP_PORT:-4317}", host_ip: 127.0.0.1}
  viewer:
    image: x
    profiles: [extra]
    depends_on: [tempo]
"#;

    #[test]
    fn reads_images_ports_and_dependencies() {
        let file = ComposeFile::parse(SAMPLE).unwrap();
        insta::assert_debug_snapshot!(file.services);
    }

    #[test]
    fn closure_takes_what_is_required_only() {
        let file = ComposeFile::parse(SAMPLE).unwrap();
        let names: Vec<_> = file.closure(["transaction-api"]).iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["secrets", "postgres", "transaction-api"]);
    }

    #[test]
    fn says_who_cannot_run_without_what() {
        let file = ComposeFile::parse(SAMPLE).unwrap();
        let broken = file.broken_by(&BTreeSet::from(["tempo".to_owned()]));
        assert_eq!(broken, [("viewer".to_owned(), "tempo".to_owned())]);
    }

    #[test]
    fn ports_come_from_the_environment_then_the_default() {
        let file = ComposeFile::parse(SAMPLE).unwrap();
        let vars = dotenv::parse("OTLP_PORT=5317");
        let wanted = ComposeFile::wanted_ports(&file.services, &vars);
        assert_eq!(wanted, BTreeMap::from([("OTLP_PORT".into(), 5317), ("TRANSACTION_API_PORT".into(), 8000)]));
    }

    #[test]
    fn merge_keys_reach_the_labels() {
        let file = ComposeFile::parse(SAMPLE).unwrap();
        assert_eq!(file.service("postgres").unwrap().labels["selfheal.enable"], "true");
    }
}
