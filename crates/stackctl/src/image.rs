//! Which way an image is obtained: the decision, apart from carrying it out.

use std::collections::BTreeSet;

use crate::compose::Service;
use crate::dotenv::{self, Vars};

/// An image of somebody else that services need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The variable that names it in the compose file.
    pub variable: String,
    /// The pinned name with tag.
    pub pinned: String,
    /// Services that run it.
    pub services: Vec<String>,
}

/// What is known about an image at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The pinned name is in Docker's store.
    pub pinned_here: bool,
    /// The tag of the local recipe, if there is a recipe.
    pub local: Option<String>,
    /// That tag is in Docker's store.
    pub local_here: bool,
    /// The registry can be reached; `None` before anybody asked.
    pub registry: Option<bool>,
    /// A pull was tried and failed.
    pub pull_failed: Option<String>,
    /// A build was tried and failed.
    pub build_failed: Option<String>,
}

/// The next thing to do for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Use the pinned image, which is present.
    Pinned,
    /// Use the local image with this tag, which is present.
    Local(String),
    /// Find out whether the registry answers.
    AskRegistry,
    /// Pull the pinned image.
    Pull,
    /// Build the local recipe into this tag.
    Build(String),
    /// Go without it, for this reason.
    LeaveOut(String),
}

/// Decides by the order: present, local, pull, build, leave out. What failed is not tried again.
pub fn next(known: &Known) -> Way {
    if known.pinned_here {
        return Way::Pinned;
    }
    if let (Some(tag), true) = (&known.local, known.local_here) {
        return Way::Local(tag.clone());
    }
    if known.pull_failed.is_none() {
        match known.registry {
            None => return Way::AskRegistry,
            Some(true) => return Way::Pull,
            Some(false) => {}
        }
    }
    match (&known.local, &known.build_failed) {
        (Some(tag), None) => Way::Build(tag.clone()),
        (Some(_), Some(why)) => Way::LeaveOut(format!("its local build failed ({why})")),
        (None, _) => Way::LeaveOut(match &known.pull_failed {
            Some(why) => format!("its image cannot be pulled ({why}) and no package registry carries it"),
            None => "no image registry can be reached and no package registry carries it".into(),
        }),
    }
}

/// The images of other people that these services need, each once.
pub fn wanted<'a>(services: impl IntoIterator<Item = &'a Service>, vars: &Vars) -> Vec<Wanted> {
    let mut found: Vec<Wanted> = Vec::new();
    for service in services.into_iter().filter(|service| service.builds.is_none()) {
        let Some(variable) = dotenv::variable(&service.image).filter(|name| name.ends_with("_IMAGE")) else { continue };
        match found.iter_mut().find(|image| image.variable == variable) {
            Some(image) => image.services.push(service.name.clone()),
            None => found.push(Wanted {
                variable,
                pinned: dotenv::expand(&service.image, vars),
                services: vec![service.name.clone()],
            }),
        }
    }
    found
}

/// Programs of our own: image name as compose resolves it, and program.
pub type Programs = Vec<(String, String)>;

/// Our own programs that these services run.
pub fn own<'a>(services: impl IntoIterator<Item = &'a Service>, vars: &Vars) -> Programs {
    let built = services.into_iter().filter_map(|service| {
        let program = service.builds.clone()?;
        Some((dotenv::expand(&service.image, vars), program))
    });
    built.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The same in two parts: what a service named in `core` runs, and what only others do.
pub fn own_of_core(services: &[&Service], core: &[String], vars: &Vars) -> (Programs, Programs) {
    let first = own(services.iter().copied().filter(|service| core.contains(&service.name)), vars);
    let rest = own(services.iter().copied(), vars).into_iter().filter(|program| !first.contains(program)).collect();
    (first, rest)
}

/// The registry host of an image name, as Docker reads it.
pub fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains('.') || host.contains(':') || host == "localhost" => host,
        _ => "registry-1.docker.io",
    }
}

/// What stands in for a service that is left out.
pub fn stand_in(service: &str) -> Option<&'static str> {
    match service {
        "tempo" => Some("Jaeger takes the traces"),
        "cadvisor" => Some("docker-guard exports the container metrics"),
        "grafana" => Some("Prometheus, Alertmanager, Jaeger and the alert-bot's pages show the data"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::ComposeFile;

    fn known() -> Known {
        Known { local: Some("selfheal/local-redis:1".into()), ..Known::default() }
    }

    #[test]
    fn takes_the_first_way_that_works() {
        let tag = || "selfheal/local-redis:1".to_owned();
        let ways = [
            next(&Known { pinned_here: true, local_here: true, ..known() }),
            next(&Known { local_here: true, ..known() }),
            next(&known()),
            next(&Known { registry: Some(true), ..known() }),
            next(&Known { registry: Some(false), ..known() }),
            next(&Known { registry: Some(true), pull_failed: Some("not found".into()), ..known() }),
        ];
        assert_eq!(
            ways,
            [Way::Pinned, Way::Local(tag()), Way::AskRegistry, Way::Pull, Way::Build(tag()), Way::Build(tag())]
        );
    }

    #[test]
    fn says_why_it_goes_without() {
        let reasons = [
            next(&Known { registry: Some(false), ..Known::default() }),
            next(&Known { registry: Some(true), pull_failed: Some("not found".into()), ..Known::default() }),
            next(&Known { registry: Some(false), build_failed: Some("no space".into()), ..known() }),
        ];
        insta::assert_debug_snapshot!(reasons);
    }

    #[test]
    fn each_image_once_with_its_services() {
        let file = ComposeFile::parse(
            "services:\n  a: {image: '${X_IMAGE}'}\n  b: {image: '${X_IMAGE}'}\n  c: {image: 'selfheal/c:${V}', build: .}\n",
        )
        .unwrap();
        let vars = dotenv::parse("X_IMAGE=redis:8\nV=1");
        assert_eq!(
            wanted(&file.services, &vars),
            [Wanted { variable: "X_IMAGE".into(), pinned: "redis:8".into(), services: vec!["a".into(), "b".into()] }]
        );
        assert_eq!(own(&file.services, &vars), [("selfheal/c:1".to_owned(), "c".to_owned())]);
    }

    #[test]
    fn registries_by_image_name() {
        let hosts = ["redis:8", "grafana/loki:3", "ghcr.io/google/cadvisor:v1", "localhost:5000/x"].map(registry);
        assert_eq!(hosts, ["registry-1.docker.io", "registry-1.docker.io", "ghcr.io", "localhost:5000"]);
    }
}
