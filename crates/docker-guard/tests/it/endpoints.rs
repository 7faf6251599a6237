//! Every endpoint of the Docker Engine API: allowed or denied, and why.

use std::collections::{BTreeSet, HashMap};

use docker_guard::policy::{
    Access, ApiVersion, CATALOG, Container, Decision, HeaderFacts, PROJECT_LABEL, Plan, Policy, Reason, Request, Token,
    VersionRange, decide,
};

const TABLE: &str = include_str!("engine_api.txt");

struct Row {
    method: &'static str,
    template: &'static str,
    /// `None`: one of the guard's own.
    versions: Option<std::ops::RangeInclusive<u16>>,
    access: &'static str,
}

fn rows() -> Vec<Row> {
    let row = |line: &'static str| {
        let [method, template, versions, access] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("not a row: {line}");
        };
        let range = |(first, last): (&str, &str)| first.parse().unwrap()..=last.parse().unwrap();
        let versions = (versions != "own").then(|| range(versions.split_once('-').unwrap()));
        Row { method, template, versions, access }
    };
    TABLE.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(row).collect()
}

pub fn policy() -> Policy {
    Policy {
        project: Some("stack".to_owned()),
        own_id: None,
        protected_services: BTreeSet::from(["prometheus".to_owned()]),
        max_stop_seconds: 60,
        versions: VersionRange::GUARD,
    }
}

pub fn container(labels: &[(&str, &str)]) -> Container {
    let mut all = HashMap::from([(PROJECT_LABEL.to_owned(), "stack".to_owned())]);
    all.extend(labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    Container::new(&"ab".repeat(32), "/web", &all).unwrap()
}

pub fn managed() -> Container {
    container(&[("selfheal.enable", "true"), ("com.docker.compose.service", "web")])
}

/// One that the guard made.
pub fn replica() -> Container {
    let of = "cd".repeat(32);
    container(&[("selfheal.enable", "true"), ("com.docker.compose.service", "web"), ("selfheal.replica-of", &of)])
}

/// A container on which an endpoint may be used by the bearer of the token.
fn fit_for(row: &Row) -> Container {
    if row.template == "/selfheal/containers/{id}" { replica() } else { managed() }
}

pub fn request<'a>(method: &'a str, target: &'a str, token: Token) -> Request<'a> {
    Request { method, target, headers: HeaderFacts::default(), token }
}

/// `allowed`, or the reason code of the refusal.
pub fn outcome(request: &Request<'_>, container: Option<&Container>, policy: &Policy) -> String {
    match decide(request, container, policy) {
        Decision::Allow(_) => "allowed".to_owned(),
        Decision::Deny(denied) => denied.reason.code().to_owned(),
    }
}

#[test]
fn every_published_endpoint_is_open_or_shut_as_the_table_says() {
    let policy = policy();
    for row in rows() {
        let fit = fit_for(&row);
        let path = row.template.replace("{id}", "web").replace("{name}", "web");
        for minor in 41..=55 {
            // An endpoint of a version that does not have it is no more open than where it exists.
            let target = format!("/v1.{minor}{path}");
            let with = |token| outcome(&request(row.method, &target, token), Some(&fit), &policy);
            let told = [with(Token::Right), with(Token::Wrong), with(Token::Absent)];
            let expected = match row.access {
                "token" if row.versions.is_none() => ["unknown_endpoint", "token_wrong", "token_missing"],
                "anyone" => ["allowed"; 3],
                "token" => ["allowed", "token_wrong", "token_missing"],
                reason => [reason; 3],
            };
            assert_eq!(told, expected, "{} {target} ({:?})", row.method, row.versions);
        }
        let unversioned = outcome(&request(row.method, &path, Token::Right), Some(&fit), &policy);
        let expected = if matches!(row.access, "anyone" | "token") { "allowed" } else { row.access };
        assert_eq!(unversioned, expected, "{} {path}", row.method);
    }
}

#[test]
fn the_table_is_whole() {
    let rows = rows();
    assert_eq!(
        rows.len(),
        108 + 9 + 3,
        "rows: as many as the published documents name, those that are not published, our own"
    );
    for endpoint in CATALOG.iter().filter(|e| !matches!(e.access, Access::Denied(_))) {
        assert!(
            rows.iter().any(|r| (r.method, r.template) == (endpoint.method, endpoint.template)),
            "{endpoint:?} is open and no documented endpoint"
        );
    }
}

#[test]
fn other_methods_on_the_same_paths_are_shut() {
    let (policy, rows) = (policy(), rows());
    for row in &rows {
        let fit = fit_for(row);
        let path = row.template.replace("{id}", "web").replace("{name}", "web");
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "Post"] {
            let open = rows
                .iter()
                .any(|r| r.method == method && r.template == row.template && matches!(r.access, "anyone" | "token"));
            let told = outcome(&request(method, &path, Token::Right), Some(&fit), &policy);
            assert_eq!(told == "allowed", open, "{method} {path}: {told}");
        }
    }
}

#[test]
fn healing_needs_a_managed_unprotected_container_of_the_project() {
    let policy = Policy { own_id: Some(managed().id), ..policy() };
    let other = Container { id: docker_guard::policy::ContainerId::parse(&"cd".repeat(32)).unwrap(), ..managed() };
    let cases = [
        (Some(other.clone()), "allowed"),
        (None, "no_such_container"),
        (Some(managed()), "guard_itself"),
        (Some(Container { enabled: false, ..other.clone() }), "not_managed"),
        (Some(Container { protected: true, ..other.clone() }), "protected"),
        (Some(Container { protected: true, enabled: false, ..other.clone() }), "protected"),
        (Some(Container { service: "prometheus".to_owned(), ..other.clone() }), "protected"),
        // A label of our own cannot dress up what compose calls it.
        (Some(Container { compose_service: Some("prometheus".to_owned()), ..other.clone() }), "protected"),
        (Some(Container { project: Some("other".to_owned()), ..other.clone() }), "no_such_container"),
        (Some(Container { project: None, ..other.clone() }), "no_such_container"),
        // Docker found it by a prefix that is no name of it.
        (Some(Container { name: "web-2".to_owned(), ..other.clone() }), "no_such_container"),
    ];
    for (method, target) in [
        ("POST", "/v1.41/containers/web/restart"),
        ("POST", "/v1.41/containers/web/start"),
        ("POST", "/v1.41/containers/web/stop"),
        ("POST", "/selfheal/containers/web/recreate"),
        ("POST", "/selfheal/containers/web/replicate"),
        ("DELETE", "/selfheal/containers/web"),
    ] {
        for (container, expected) in cases.clone() {
            let of = (method == "DELETE").then(|| "x".to_owned());
            let container = container.map(|c| Container { replica_of: of, ..c });
            let told = outcome(&request(method, target, Token::Right), container.as_ref(), &policy);
            assert_eq!(told, expected, "{method} {target} {container:?}");
        }
    }
    // Removed is only what was made here; a copy is copied from the original.
    let policy = Policy { own_id: None, ..policy };
    let told = |method, target, container: Container| {
        outcome(&request(method, target, Token::Right), Some(&container), &policy)
    };
    assert_eq!(told("DELETE", "/selfheal/containers/web", managed()), "not_a_replica");
    assert_eq!(told("POST", "/selfheal/containers/web/replicate", replica()), "not_replicable");
    // Reading is open for all of the project's, the guard's own and protected ones included.
    for read in ["json", "logs", "stats"] {
        let target = format!("/containers/web/{read}");
        let told = |c: &Container| outcome(&request("GET", &target, Token::Absent), Some(c), &policy);
        assert_eq!(told(&managed()), "allowed");
        assert_eq!(told(&Container { protected: true, enabled: false, ..other.clone() }), "allowed");
        assert_eq!(told(&Container { project: None, ..other.clone() }), "no_such_container");
    }
}

#[test]
fn what_goes_upstream_is_written_anew() {
    let (policy, managed) = (policy(), managed());
    let id = "ab".repeat(32);
    let plan = |method, target: &str| match decide(&request(method, target, Token::Right), Some(&managed), &policy) {
        Decision::Allow(allowed) => match allowed.plan {
            Plan::Forward(plan) => format!("{} {}", plan.method, plan.target),
            Plan::Operate(operation) => format!("{operation:?}"),
        },
        Decision::Deny(denied) => format!("{}: {}", denied.reason.code(), denied.sentence()),
    };
    let project = "com.docker.compose.project%3Dstack";
    let label = format!("%22label%22%3A%7B%22{project}%22%3Atrue%7D");
    for (method, target, expected) in [
        ("POST", "/v1.41/containers/web/restart?t=5", format!("POST /v1.41/containers/{id}/restart?t=5")),
        ("POST", "/containers/web/stop", format!("POST /v1.55/containers/{id}/stop")),
        ("POST", &format!("/v1.44/containers/{}/start", &id[..12]), format!("POST /v1.44/containers/{id}/start")),
        ("GET", "/v1.41/containers/json", format!("GET /v1.41/containers/json?all=0&filters=%7B{label}%7D")),
        (
            "GET",
            "/v1.41/containers/json?all=1&limit=3&filters=%7B%22status%22%3A%5B%22running%22%5D%7D",
            format!(
                "GET /v1.41/containers/json?all=1&limit=3&filters=%7B{label}%2C%22status%22%3A%7B%22running%22%3Atrue%7D%7D"
            ),
        ),
        ("GET", "/v1.41/networks", format!("GET /v1.41/networks?filters=%7B{label}%7D")),
        (
            "GET",
            "/v1.41/events?since=1700000000",
            format!(
                "GET /v1.41/events?since=1700000000&filters=%7B{label}%2C%22type%22%3A%7B%22container%22%3Atrue%7D%7D"
            ),
        ),
        (
            "GET",
            "/v1.41/containers/web/logs?stdout=1&stderr=true&follow=0&tail=all",
            format!("GET /v1.41/containers/{id}/logs?follow=0&stdout=1&stderr=1"),
        ),
        ("GET", "/v1.41/containers/web/stats?stream=false", format!("GET /v1.41/containers/{id}/stats?stream=0")),
        ("GET", "/v1.99/_ping", "GET /v1.55/_ping".to_owned()),
        (
            "POST",
            "/selfheal/containers/web/recreate?t=5&image=x%2Fweb:1",
            r#"Recreate { stop_seconds: Some(5), image: Some(Name("x/web:1")) }"#.to_owned(),
        ),
        (
            "POST",
            "/selfheal/containers/web/recreate?image=@previous",
            "Recreate { stop_seconds: None, image: Some(Previous) }".to_owned(),
        ),
        ("POST", "/selfheal/containers/web/replicate", "Replicate".to_owned()),
    ] {
        assert_eq!(plan(method, target), expected, "{method} {target}");
    }
}

#[test]
fn queries_are_held_to_what_is_known() {
    let (policy, managed) = (policy(), managed());
    let refused = |method, target: &str| match decide(&request(method, target, Token::Right), Some(&managed), &policy) {
        Decision::Allow(allowed) => panic!("{target} went through as {:?}", allowed.plan),
        Decision::Deny(denied) => (denied.reason, denied.detail.unwrap_or_default()),
    };
    for target in [
        "/containers/web/restart?t=61",
        "/containers/web/restart?t=-1",
        "/containers/web/restart?t=1&t=2",
        "/containers/web/restart?t=1;x=2",
        "/containers/web/restart?signal=SIGKILL",
        "/containers/web/stop?signal=SIGKILL",
        "/containers/web/start?detachKeys=a",
        "/containers/web/start?checkpoint=a",
        "/containers/web/start?t=1",
        "/selfheal/containers/web/recreate?t=61",
        "/selfheal/containers/web/recreate?image=",
        "/selfheal/containers/web/recreate?image=../x",
        "/selfheal/containers/web/recreate?image=x%20y",
        "/selfheal/containers/web/recreate?image=x%3Fy",
        "/selfheal/containers/web/recreate?image=x@sha256:00",
        "/selfheal/containers/web/recreate?name=x",
        "/selfheal/containers/web/replicate?t=1",
        "/selfheal/containers/web/replicate?image=x",
    ] {
        assert_eq!(refused("POST", target).0, Reason::BadQuery, "{target}");
    }
    for target in [
        "/containers/web/json?size=1",
        "/containers/json?size=1",
        "/containers/json?before=web",
        "/containers/json?filters=%7B%22volume%22%3A%5B%22x%22%5D%7D",
        "/containers/web/logs?details=1",
        "/containers/web/stats?x",
        "/events?filters=%7B%22type%22%3A%5B%22network%22%5D%7D",
        "/events?filters=%7B%22type%22%3A%5B%22container%22%2C%22network%22%5D%7D",
        "/version?x=1",
        "/_ping?x=1",
        "/networks?filters=1",
    ] {
        assert_eq!(refused("GET", target).0, Reason::BadQuery, "{target}");
    }
    assert_eq!(
        refused("GET", "/v1.56/containers/json"),
        (
            Reason::UnsupportedVersion,
            "client version 1.56 is too new. Maximum supported API version is 1.55".to_owned()
        )
    );
    let engine_29 = Policy { versions: VersionRange { min: ApiVersion(44), max: ApiVersion(53) }, ..policy.clone() };
    let told = outcome(&request("GET", "/v1.43/containers/json", Token::Absent), None, &engine_29);
    assert_eq!(told, "unsupported_version");
}

#[test]
fn who_asks_again_for_what_was_done_is_told_so() {
    let policy = policy();
    let old = "cd".repeat(32);
    let new = container(&[("selfheal.enable", "true"), ("selfheal.replaces", &old), ("selfheal.name", "web")]);
    let ask = |method, target: &str, container: &Container| match decide(
        &request(method, target, Token::Right),
        Some(container),
        &policy,
    ) {
        Decision::Allow(allowed) => format!("{:?}", allowed.plan),
        Decision::Deny(denied) => denied.reason.code().to_owned(),
    };
    let again = format!("/selfheal/containers/{old}/recreate");
    assert_eq!(ask("POST", &again, &new), "Operate(AlreadyRecreated)");
    // The same rights are needed, and only the whole id counts, and only for this.
    assert_eq!(ask("POST", &again, &Container { enabled: false, ..new.clone() }), "not_managed");
    assert_eq!(ask("POST", &again, &Container { project: None, ..new.clone() }), "no_such_container");
    assert_eq!(ask("POST", &format!("/selfheal/containers/{}/recreate", &old[..12]), &new), "no_such_container");
    assert_eq!(ask("POST", &format!("/selfheal/containers/{old}/replicate"), &new), "no_such_container");
    assert_eq!(ask("POST", &format!("/containers/{old}/restart"), &new), "no_such_container");
    assert!(ask("POST", "/selfheal/containers/web/recreate", &new).contains("Recreate {"));
}

#[test]
fn nothing_of_the_project_is_shown_before_it_is_known() {
    let policy = Policy { project: None, ..policy() };
    let orphan = Container { project: None, ..managed() };
    for (method, target) in [
        ("GET", "/containers/json"),
        ("GET", "/networks"),
        ("GET", "/events"),
        ("GET", "/containers/web/json"),
        ("POST", "/containers/web/restart"),
        ("POST", "/selfheal/containers/web/recreate"),
    ] {
        assert_eq!(outcome(&request(method, target, Token::Right), Some(&orphan), &policy), "not_ready", "{target}");
    }
    assert_eq!(outcome(&request("GET", "/version", Token::Absent), None, &policy), "allowed");
}
