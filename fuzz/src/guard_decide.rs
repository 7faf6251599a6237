//! The guard's decision about any request.

use std::collections::{BTreeSet, HashMap};

use docker_guard::policy::{
    Container, Decision, HeaderFacts, Operation, PROJECT_LABEL, Plan, Policy, Request, Token, VersionRange, decide,
};

/// The guard's decision about a request that is written as text: rights in the first line (`R`ight, `W`rong
/// or no token; `b`ody, `u`pgrade, `a`mbiguous), then method, target, and labels of the container.
///
/// # Panics
/// When something is allowed that nobody has a right to, or goes to the daemon in an unknown form.
pub fn guard_decide(bytes: &[u8]) {
    let mut lines = crate::text(bytes).split('\n');
    let (rights, method, target) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let token = match rights {
        r if r.contains('R') => Token::Right,
        r if r.contains('W') => Token::Wrong,
        _ => Token::Absent,
    };
    let headers =
        HeaderFacts { body: rights.contains('b'), upgrade: rights.contains('u'), ambiguous: rights.contains('a') };
    let labels: HashMap<String, String> =
        lines.filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let container = Container::new(&"ab".repeat(32), "/web", &labels);
    let policy = Policy {
        project: Some("stack".to_owned()),
        own_id: None,
        protected_services: BTreeSet::from(["prometheus".to_owned()]),
        max_stop_seconds: 60,
        versions: VersionRange::GUARD,
    };
    let request = Request { method, target, headers, token };
    let Decision::Allow(allowed) = decide(&request, container.as_ref(), &policy) else { return };

    assert_eq!(headers, HeaderFacts::default());
    let mut named = None;
    match allowed.plan {
        Plan::Forward(forward) => {
            let (path, query) = forward.target.split_once('?').unwrap_or((&forward.target, ""));
            assert!(query.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~%=&".contains(&b)), "{query}");
            let segments: Vec<_> = path.split('/').skip(1).collect();
            assert!(segments[0].starts_with("v1."), "{path}");
            match segments[1..] {
                ["_ping" | "version" | "events" | "networks"] | ["containers", "json"] => {}
                ["containers", id, "json" | "logs" | "stats"] => named = Some(id == "ab".repeat(32)),
                ["containers", id, "restart" | "start" | "stop"] => {
                    assert!(allowed.verb.heals() && method == "POST");
                    named = Some(id == "ab".repeat(32));
                }
                _ => panic!("{path} goes to the daemon"),
            }
        }
        Plan::Operate(operation) => {
            assert!(allowed.verb.makes() && allowed.verb.heals());
            named = Some(true);
            match operation {
                Operation::Recreate { stop_seconds, .. } => {
                    assert!(method == "POST" && stop_seconds.is_none_or(|t| t <= 60));
                }
                Operation::AlreadyRecreated => assert!(labels.contains_key("selfheal.replaces")),
                Operation::Replicate => assert!(!labels.contains_key("selfheal.replica-of")),
                Operation::RemoveReplica { stop_seconds } => {
                    assert!(method == "DELETE" && stop_seconds.is_none_or(|t| t <= 60));
                    assert!(labels.contains_key("selfheal.replica-of"));
                }
            }
        }
    }
    if let Some(exact) = named {
        assert!(exact, "the id that was checked");
        assert_eq!(labels.get(PROJECT_LABEL).map(String::as_str), Some("stack"));
    }
    if allowed.verb.heals() {
        assert_eq!(token, Token::Right);
        assert_eq!(labels.get("selfheal.enable").map(String::as_str), Some("true"));
        assert!(labels.get("selfheal.protect").is_none_or(|v| v == "false"));
        for name in ["selfheal.service", "com.docker.compose.service"] {
            assert!(labels.get(name).is_none_or(|s| s != "prometheus"));
        }
    }
}
