//! What holds for every request, however odd.

use std::collections::HashMap;

use docker_guard::policy::{
    Container, ContainerId, Decision, HeaderFacts, Operation, PROJECT_LABEL, Plan, Policy, Reason, Request, Token,
    decide,
};
use proptest::{prelude::*, sample::select};

use crate::endpoints::policy;

const TABLE: &str = include_str!("engine_api.txt");

fn methods() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => select(vec!["GET", "POST", "POST", "DELETE"]).prop_map(ToOwned::to_owned),
        2 => select(vec!["HEAD", "PUT", "PATCH", "OPTIONS", "CONNECT"]).prop_map(ToOwned::to_owned),
        1 => "[A-Za-z]{1,8}",
    ]
}

/// Paths of the API, some of them bent, and some that are noise.
fn targets() -> impl Strategy<Value = String> {
    let templates: Vec<&str> = TABLE
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|l| l.split_whitespace().nth(1).unwrap())
        .collect();
    let open = vec![
        "/containers/{id}/restart",
        "/containers/{id}/stop",
        "/containers/{id}/start",
        "/containers/{id}/json",
        "/selfheal/containers/{id}/recreate",
        "/selfheal/containers/{id}",
    ];
    let template = prop_oneof![1 => select(templates), 3 => select(open)];
    let reference = prop_oneof![
        8 => Just("web".to_owned()),
        2 => Just("ab".repeat(32)),
        1 => Just("cd".repeat(32)),
        1 => "[a-f0-9]{1,64}",
        1 => "[ -~]{0,20}",
        1 => select(vec!["..", ".", "%2e%2e", "a%2fb", "a/b", "../..", "web/../web", "-web", ""]).prop_map(ToOwned::to_owned),
    ];
    let version = prop_oneof![
        3 => Just(String::new()),
        1 => (38_u16..60).prop_map(|v| format!("/v1.{v}")),
        3 => (41_u16..56).prop_map(|v| format!("/v1.{v}")),
        1 => "/v[0-9.]{0,6}",
    ];
    let query = prop_oneof![
        4 => Just(String::new()),
        3 => "\\?t=[1-5]?[0-9]",
        1 => "\\?t=-?[0-9]{0,4}",
        1 => "\\?(all|size|t|limit|follow|signal|filters|tail|since)=[ -~]{0,12}(&[a-z]{1,5}=[0-9]{0,3})?",
        1 => "\\?(image|t)=[a-z0-9:@/._%-]{0,20}",
        1 => "\\?[ -~]{0,30}",
    ];
    // One change somewhere: a byte put in, taken out, doubled.
    let bend = prop_oneof![
        8 => Just(None),
        1 => (any::<prop::sample::Index>(), prop_oneof![Just("/"), Just("."), Just("%"), Just("//"), Just("\\"), Just(";"), Just("?"), Just("#"), Just("\u{e9}")]).prop_map(Some),
    ];
    let bent = (version, template, reference, query, bend).prop_map(|(version, template, reference, query, bend)| {
        let mut target =
            format!("{version}{}{query}", template.replace("{id}", &reference).replace("{name}", &reference));
        if let Some((at, what)) = bend {
            let at = at.index(target.len() + 1);
            let at = (at..=target.len()).find(|i| target.is_char_boundary(*i)).unwrap();
            target.insert_str(at, what);
        }
        target
    });
    prop_oneof![8 => bent, 1 => "\\PC{0,40}", 1 => "/[ -~]{0,40}"]
}

fn containers() -> impl Strategy<Value = Option<Container>> {
    let id = prop_oneof![4 => Just("ab".repeat(32)), 1 => "[0-9a-f]{64}"];
    let name = prop_oneof![4 => Just("web".to_owned()), 1 => "[a-z]{1,8}"];
    let project =
        select(vec![Some("stack"), Some("stack"), Some("stack"), Some("stack"), Some("stack"), Some("other"), None]);
    let label = |values: Vec<Option<&'static str>>| select(values);
    let enable = label(vec![Some("true"), Some("true"), Some("true"), Some("true"), Some("True"), None]);
    let protect = label(vec![None, None, None, None, Some("true"), Some("false"), Some("yes")]);
    let service = label(vec![None, Some("web"), Some("web"), Some("prometheus")]);
    let replica = label(vec![None, Some("x")]);
    let replaces = prop_oneof![4 => Just(None), 1 => Just(Some("cd".repeat(32)))];
    let container = (id, name, project, enable, protect, service, replica, replaces).prop_map(
        |(id, name, project, enable, protect, service, replica, replaces)| {
            let labels: HashMap<String, String> = [
                (PROJECT_LABEL, project),
                ("selfheal.enable", enable),
                ("selfheal.protect", protect),
                ("com.docker.compose.service", service),
                ("selfheal.replica-of", replica),
                ("selfheal.replaces", replaces.as_deref()),
            ]
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
            .collect();
            Container::new(&id, &name, &labels).unwrap()
        },
    );
    proptest::option::weighted(0.9, container)
}

fn header_facts() -> impl Strategy<Value = HeaderFacts> {
    let rarely = || proptest::bool::weighted(0.05);
    (rarely(), rarely(), rarely()).prop_map(|(body, upgrade, ambiguous)| HeaderFacts { body, upgrade, ambiguous })
}

fn policies() -> impl Strategy<Value = Policy> {
    let own = select(vec![None, None, Some("ab".repeat(32)), Some("cd".repeat(32))]);
    (own, proptest::bool::weighted(0.9)).prop_map(|(own, known)| {
        let mut policy = policy();
        policy.own_id = own.map(|id| ContainerId::parse(&id).unwrap());
        policy.project = policy.project.filter(|_| known);
        policy
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_allowed_had_every_right_and_nothing_foreign_goes_upstream(
        method in methods(),
        target in targets(),
        token in select(vec![Token::Right, Token::Right, Token::Wrong, Token::Absent]),
        headers in header_facts(),
        container in containers(),
        policy in policies(),
    ) {
        let request = Request { method: &method, target: &target, headers, token };
        let decision = decide(&request, container.as_ref(), &policy);
        prop_assert_eq!(&decision, &decide(&request, container.as_ref(), &policy), "a decision is a function");

        // A foreign container and none at all are the same to the caller.
        if container.as_ref().is_some_and(|c| c.project != policy.project || c.project.is_none()) {
            prop_assert_eq!(&decision, &decide(&request, None, &policy));
        }
        let allowed = match decision {
            Decision::Deny(denied) => {
                prop_assert!(denied.reason.status() >= 400);
                prop_assert!(!matches!(denied.reason, Reason::ReadOnly | Reason::ManagedTarget));
                return Ok(());
            }
            Decision::Allow(allowed) => allowed,
        };
        prop_assert_eq!(headers, HeaderFacts::default(), "no body, no upgrade, nothing ambiguous");
        let path = target.split('?').next().unwrap();
        prop_assert!(path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_.-".contains(&b)), "{}", path);
        prop_assert!(!path.contains("//") && !path.contains(".."));

        if allowed.verb.heals() {
            let container = container.as_ref().expect("checked container");
            prop_assert_eq!(token, Token::Right);
            prop_assert!(container.enabled && !container.protected);
            prop_assert_eq!(&container.project, &policy.project);
            prop_assert!(policy.project.is_some() && policy.own_id.as_ref() != Some(&container.id));
            prop_assert!(!policy.protected_services.contains(&container.service));
        }
        let forward = match allowed.plan {
            Plan::Forward(forward) => forward,
            Plan::Operate(operation) => {
                // Carried out on the container that was checked, with nothing but bounded parameters.
                prop_assert!(allowed.verb.makes());
                let replica = container.unwrap().replica_of.is_some();
                match operation {
                    Operation::Recreate { stop_seconds, .. } => {
                        prop_assert_eq!(&method, "POST");
                        prop_assert!(stop_seconds.is_none_or(|t| t <= policy.max_stop_seconds));
                    }
                    Operation::AlreadyRecreated => prop_assert_eq!(&method, "POST"),
                    Operation::Replicate => prop_assert!(method == "POST" && !replica),
                    Operation::RemoveReplica { stop_seconds } => {
                        prop_assert!(method == "DELETE" && replica);
                        prop_assert!(stop_seconds.is_none_or(|t| t <= policy.max_stop_seconds));
                    }
                }
                return Ok(());
            }
        };
        prop_assert!(!allowed.verb.makes());

        // Upstream goes a closed form: version, known path, full id, known parameters.
        let (upstream, query) = forward.target.split_once('?').unwrap_or((&forward.target, ""));
        let upstream: Vec<_> = upstream.split('/').skip(1).collect();
        prop_assert!(upstream[0].starts_with("v1."));
        match upstream[1..] {
            ["_ping" | "version" | "events" | "networks"] | ["containers", "json"] => {
                prop_assert!(!allowed.verb.heals());
            }
            ["containers", id, verb] => {
                let container = container.as_ref().expect("checked container");
                prop_assert_eq!(id, container.id.as_str());
                prop_assert_eq!(&container.project, &policy.project);
                prop_assert!(policy.project.is_some());
                prop_assert_eq!(matches!(verb, "restart" | "start" | "stop"), allowed.verb.heals());
                prop_assert!(allowed.verb.heals() || matches!(verb, "json" | "logs" | "stats"));
            }
            _ => prop_assert!(false, "unexpected upstream path {:?}", upstream),
        }
        prop_assert!(query.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~%=&".contains(&b)), "{}", query);

        if allowed.verb.heals() {
            prop_assert_eq!(&method, "POST");
            let seconds = query.strip_prefix("t=").map(|t| t.parse::<u32>().unwrap());
            prop_assert!(query.is_empty() || seconds.is_some_and(|t| t <= policy.max_stop_seconds));
        } else {
            prop_assert!(forward.method == "GET" || upstream[1] == "_ping");
        }
        // Lists are asked for with the project's label, whatever the caller filtered by.
        if matches!(upstream[1..], ["events" | "networks"] | ["containers", "json"]) {
            prop_assert!(query.contains("com.docker.compose.project%3Dstack%22%3Atrue"), "{}", query);
        }
    }
}

#[test]
fn the_generator_reaches_what_is_allowed() {
    // A property over requests that are all refused would say nothing.
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut made, mut healed, mut read) = (0, 0, 0);
    for _ in 0..8_000 {
        let mut next = || -> Option<(String, String, Option<Container>)> {
            Some((
                methods().new_tree(&mut runner).ok()?.current(),
                targets().new_tree(&mut runner).ok()?.current(),
                containers().new_tree(&mut runner).ok()?.current(),
            ))
        };
        let (method, target, container) = next().unwrap();
        let request =
            Request { method: &method, target: &target, headers: HeaderFacts::default(), token: Token::Right };
        if let Decision::Allow(allowed) = decide(&request, container.as_ref(), &policy()) {
            match allowed.verb {
                verb if verb.makes() => made += 1,
                verb if verb.heals() => healed += 1,
                _ => read += 1,
            }
        }
    }
    assert!(made > 10 && healed > 30 && read > 20, "allowed: {made} making, {healed} healing, {read} reading");
}
