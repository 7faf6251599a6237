//! What the bearer of the token may do, and to whom.

use std::sync::{Arc, Mutex, OnceLock};

use serde_json::Value;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context, prelude::*};

use crate::stage::{Stage, TOKEN, WAITS, until};

const MANAGED: &[(&str, &str)] = &[("selfheal.enable", "true")];

#[tokio::test(flavor = "multi_thread")]
async fn a_managed_container_is_restarted_stopped_and_started() {
    let mut stage = Stage::new();
    let web = stage.run("web", MANAGED, WAITS).await;
    let guard = stage.guard(&[]).await;
    let before = stage.started_at(&web).await;

    let (status, _) =
        guard.send("POST", &format!("/v1.41/containers/{}/restart?t=5", stage.name("web")), Some(TOKEN)).await;
    assert_eq!(status, 204);
    assert_ne!(stage.started_at(&web).await, before);
    assert!(stage.is_running(&web).await);

    let post = async |verb: &str| guard.send("POST", &format!("/containers/{web}/{verb}"), Some(TOKEN)).await.0;
    assert_eq!(post("start").await, 304, "it runs already");
    assert_eq!(post("stop?t=5").await, 204);
    assert!(!stage.is_running(&web).await);
    assert_eq!(post("stop?t=5").await, 304);
    assert_eq!(post("start").await, 204);
    assert!(stage.is_running(&web).await);
    let series = r#"guard_requests_total{decision="allowed",reason="managed_target",verb="stop"}"#;
    assert_eq!(guard.metric(series), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_touched_and_nobody_else_may() {
    let mut stage = Stage::new();
    let web = stage.run("web", MANAGED, WAITS).await;
    let plain = stage.run("plain", &[], WAITS).await;
    let off = stage.run("off", &[("selfheal.enable", "false")], WAITS).await;
    let protected = stage.run("protected", &[("selfheal.enable", "true"), ("selfheal.protect", "true")], WAITS).await;
    // Opted in by mistake: its name protects it all the same.
    let prometheus = stage.run("prometheus", MANAGED, WAITS).await;
    let own = stage.run("own", MANAGED, WAITS).await;
    let foreign = stage
        .run_with(
            "foreign",
            &[("com.docker.compose.project", "else"), ("selfheal.enable", "true")],
            WAITS,
            Default::default(),
        )
        .await;
    let guard = stage.guard(&["--container", &stage.name("own")]).await;
    let all = [&web, &plain, &off, &protected, &prometheus, &own, &foreign];
    let mut before = Vec::new();
    for id in all {
        before.push(stage.started_at(id).await);
    }

    for verb in ["restart", "stop", "start"] {
        for (id, token, status, reason) in [
            (&web, None, 403, "token_missing"),
            (&web, Some(""), 403, "token_missing"),
            (&web, Some("a-token-of-the-test"), 403, "token_wrong"),
            (&web, Some("a-token-of-the-testsX"), 403, "token_wrong"),
            (&foreign, None, 403, "token_missing"),
            (&plain, Some(TOKEN), 403, "not_managed"),
            (&off, Some(TOKEN), 403, "not_managed"),
            (&protected, Some(TOKEN), 403, "protected"),
            (&prometheus, Some(TOKEN), 403, "protected"),
            (&own, Some(TOKEN), 403, "guard_itself"),
            (&foreign, Some(TOKEN), 404, "no_such_container"),
        ] {
            let (told, problem) = guard.send("POST", &format!("/containers/{id}/{verb}"), token).await;
            assert_eq!((told, problem["reason"].as_str()), (status, Some(reason)), "{verb}: {problem}");
            // RFC 9457, and what Docker's own clients show.
            assert_eq!((problem["status"].as_u64(), problem["title"].is_string()), (Some(status.into()), true));
            assert!(problem["message"].as_str().unwrap().contains(problem["detail"].as_str().unwrap()));
            let series = format!(r#"guard_requests_total{{decision="denied",reason="{reason}",verb="{verb}"}}"#);
            assert_ne!(guard.metric(&series), "");
        }
    }
    for (id, before) in all.iter().zip(before) {
        assert_eq!(stage.started_at(id).await, before, "untouched");
        assert!(stage.is_running(id).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemons_own_refusal_is_told() {
    let mut stage = Stage::new();
    // Docker looks for the source of a mount at each start.
    let source = tempfile::tempdir().unwrap();
    let mount = bollard::models::Mount {
        typ: Some(bollard::models::MountType::BIND),
        source: Some(source.path().to_str().unwrap().to_owned()),
        target: Some("/x".to_owned()),
        ..Default::default()
    };
    let host = bollard::models::HostConfig { mounts: Some(vec![mount]), ..Default::default() };
    let project = stage.project.clone();
    let labels = [("com.docker.compose.project", project.as_str()), ("selfheal.enable", "true")];
    let id = stage.run_with("web", &labels, "true", host).await;
    until("it ends", || async { !stage.is_running(&id).await }).await;
    drop(source);
    let guard = stage.guard(&[]).await;
    let (status, problem) = guard.send("POST", &format!("/containers/{id}/start"), Some(TOKEN)).await;
    assert_eq!((status, problem["reason"].as_str()), (409, Some("daemon_refused")), "{problem}");
    assert!(problem["message"].as_str().unwrap().contains("bind source path does not exist"), "{problem}");
}

/// A client that hangs up in the middle does not undo what was begun.
#[tokio::test(flavor = "multi_thread")]
async fn an_action_outlives_its_caller() {
    let mut stage = Stage::new();
    let slow = "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.1; done";
    let web = stage.run("web", MANAGED, slow).await;
    let guard = stage.guard(&[]).await;
    let before = stage.started_at(&web).await;
    let path = format!("/containers/{web}/restart?t=10");
    let call = guard.send("POST", &path, Some(TOKEN));
    assert!(tokio::time::timeout(std::time::Duration::from_millis(300), call).await.is_err());
    until("restarted", || async { stage.started_at(&web).await != before && stage.is_running(&web).await }).await;
}

/// Collects audit lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<serde_json::Map<String, Value>>>>);

struct Fields(serde_json::Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields(serde_json::Map::new());
        event.record(&mut fields);
        if fields.0.contains_key("audit") {
            self.0.lock().unwrap().push(fields.0);
        }
    }
}

/// For the whole process: a subscriber of one thread alone would be missed by callsites
/// that another test's thread reaches first.
fn lines() -> &'static Lines {
    static LINES: OnceLock<Lines> = OnceLock::new();
    LINES.get_or_init(|| {
        let lines = Lines::default();
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines.clone())).unwrap();
        lines
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_leaves_one_line() {
    let lines = lines();
    let mut stage = Stage::new();
    stage.run("web", MANAGED, WAITS).await;
    stage.run_with("foreign", &[("com.docker.compose.project", "else")], WAITS, Default::default()).await;
    let guard = stage.guard(&[]).await;
    let (web, foreign) = (stage.name("web"), stage.name("foreign"));

    guard.get("/containers/json?limit=7777").await;
    guard.send("POST", &format!("/containers/{web}/restart?t=5"), Some(TOKEN)).await;
    guard.send("POST", &format!("/containers/{foreign}/restart"), Some(TOKEN)).await;
    guard.send("DELETE", &format!("/containers/{web}?force=1"), Some(TOKEN)).await;
    guard.get("/x%0a%22y").await;

    // Other tests leave theirs at the same time.
    let ours = |line: &&serde_json::Map<String, Value>| {
        let path = line["path"].as_str().unwrap();
        path.contains(&stage.project) || path.contains("7777") || path.contains("%0a%22")
    };
    let lines: Vec<_> = lines.0.lock().unwrap().iter().filter(ours).cloned().collect();
    let told = |key: &str| lines.iter().map(|l| l[key].to_string().replace('"', "")).collect::<Vec<_>>();
    assert_eq!(told("verb"), ["list", "restart", "restart", "remove", "unknown"]);
    assert_eq!(told("decision"), ["allowed", "allowed", "denied", "denied", "denied"]);
    assert_eq!(told("reason"), ["read_only", "managed_target", "no_such_container", "removes", "malformed_path"]);
    assert_eq!(told("status"), ["200", "204", "404", "403", "400"]);
    assert_eq!(told("container"), ["", &web, "", "", ""]);
    assert_eq!(told("service"), ["", "web", "", "", ""]);
    assert!(told("who").iter().all(|who| who.starts_with("127.0.0.1:")));
    assert!(!serde_json::to_string(&lines).unwrap().contains(TOKEN));
}
