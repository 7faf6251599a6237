//! A target gets its budget back: by the API, the command and the console, and for good.

use std::{process::Command, sync::Arc, time::Duration};

use alert_bot::{
    engine::{Action, Effect},
    journal::Journal,
    observe::Prometheus,
    timestamp::Timestamp,
};
use serde_json::{Value, json};

use crate::{
    api::{Browser, alone},
    support::{Bot, Container, OPERATOR, POLICY, Setting, env, unique, until, write_sample},
};

/// As many actions on `target` as its rule allows, just now.
async fn used_up(setting: &Setting, target: &str) {
    let policy = alert_bot::policy::Policy::parse(POLICY).unwrap();
    let budget = policy.rules.iter().find(|r| r.name == "api").unwrap().heal().unwrap().budget.actions;
    let now = Timestamp::now();
    let action = |n: u32| -> Action {
        serde_json::from_value(json!({
            "id": format!("i-0-{n}"), "incident": "i", "key": { "fingerprint": "f", "starts_at": now }, "rule": "api",
            "step": 0, "attempt": n, "verb": "restart", "timeout_ms": 1, "stop_timeout_ms": 1,
            "target": { "id": target, "name": target, "service": "api" }, "started_before": null, "intended_at": now,
            "unknown_since": null, "next_inspect": null, "finished_at": now, "status": "done", "error": null,
        }))
        .unwrap()
    };
    let effects = (1..=budget).map(|n| Effect::PutAction(Box::new(action(n)))).collect();
    Journal::open(&setting.journal()).await.unwrap().commit(Arc::new(effects), Vec::new(), now).await.unwrap();
}

async fn left(bot: &Bot, target: &str, wanted: f64) {
    let series = format!("alertbot_budget_remaining{{target=\"{target}\"}}");
    let text =
        async || bot.api.client.get(format!("{}/metrics", bot.api.url)).send().await.unwrap().text().await.unwrap();
    until(&format!("{wanted} left of {target}"), async || {
        let text = text().await;
        let value =
            text.lines().find_map(|l| l.strip_prefix(series.as_str())).map(|v| v.trim().parse::<f64>().unwrap());
        (value == Some(wanted)).then_some(())
    })
    .await;
}

async fn order(bot: &Bot, target: &str, body: &Value) -> (u16, Value) {
    let request = bot.api.client.post(format!("{}/v1/targets/{target}/release", bot.api.url)).bearer_auth(OPERATOR);
    let answer = request.json(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_given_back_once_with_a_reason_and_for_good() {
    let setting = alone(POLICY);
    used_up(&setting, "p-api-1").await;
    let bot = setting.start().await;
    left(&bot, "p-api-1", 0.0).await;
    for (target, body, status) in [
        ("p-api-1", json!({}), 422),
        ("p-api-1", json!({ "reason": " " }), 422),
        ("p-api-1", json!({ "reason": "x".repeat(501) }), 422),
        ("p-api-1", json!({ "reason": "x", "all": true }), 422),
        ("p-api-1", json!({ "reason": "x", "global": "yes" }), 422),
        ("p-other-1", json!({ "reason": "x" }), 404),
        ("..%2F..%2Fetc", json!({ "reason": "x" }), 404),
    ] {
        assert_eq!(order(&bot, target, &body).await.0, status, "{target} {body}");
    }
    let (status, told) = order(&bot, "p-api-1", &json!({ "reason": "a loose cable", "by": "Mira" })).await;
    assert_eq!((status, &told["targets"], &told["global_actions"]), (200, &json!(["p-api-1"]), &json!(0)));
    let actions = told["actions"].as_f64().unwrap();
    assert!(actions > 0.0);
    left(&bot, "p-api-1", actions).await;
    assert_eq!(bot.metric("alertbot_releases_total{budget=\"target\"}"), 1.0);
    assert_eq!(bot.metric("alertbot_releases_total{budget=\"global\"}"), 0.0);
    let audit = bot.api.get("/v1/audit?kind=operator&verify").await;
    let line = &audit["entries"][0];
    assert_eq!(line["text"], "the budget of p-api-1 given back by Mira: a loose cable");
    assert_eq!((&line["target"], &audit["report"]["intact"]), (&json!("p-api-1"), &json!(true)));
    let limits = bot.api.get("/v1/targets").await["limits"].clone();
    assert!(limits["left"].as_u64() < limits["actions"].as_u64(), "{limits}");
    bot.stop().await;

    // The next start knows it too, and the command asks for the rest.
    let bot = setting.start().await;
    left(&bot, "p-api-1", actions).await;
    let command = async |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alert-bot"));
        command.args(["release"]).args(args).args(["--url", &bot.api.url, "--operator-token", OPERATOR]);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    };
    let output = command(&["p-api-1", "--reason", "the same cable", "--global"]).await;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        shown.trim(),
        format!(
            "p-api-1: 0 actions do not count any more, {actions} towards the budget over all targets; the breaker is closed"
        )
    );
    let limits = bot.api.get("/v1/targets").await["limits"].clone();
    assert_eq!(limits["left"], limits["actions"]);
    let output = command(&["nothing", "--reason", "x"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("target"), "{output:?}");
}

#[tokio::test]
async fn the_console_shows_what_is_held_and_gives_it_back() {
    let setting = Setting::new(POLICY).with("prometheus-url", "http://127.0.0.1:9");
    let setting = setting.with("alertmanager-url", "http://127.0.0.1:9");
    let container = Container::healable(&setting.project, "api");
    used_up(&setting, &container.0).await;
    let bot = setting.start().await;
    let target = until("the target is told", async || {
        let list = bot.api.get("/v1/targets").await["targets"].as_array().unwrap().clone();
        list.into_iter().find(|t| t["name"] == container.0.as_str())
    })
    .await;
    assert_eq!((&target["budget"]["left"], &target["held"]["reason"]), (&json!(0), &json!("target_budget_exhausted")));
    let mut browser = Browser::new(&bot.api.url);
    let page = browser.text("/targets").await;
    assert!(page.contains("the budget is used up") && !page.contains("Give the budget back"), "{page}");
    browser.log_in().await;
    let csrf = browser.csrf("/targets").await;
    let path = format!("/targets/{}/release", container.0);
    let page = browser.text("/targets").await;
    assert!(page.contains(&format!("action=\"{path}\"")), "{page}");
    assert_eq!(browser.post(&path, &[("reason", "seen")]).await.status(), 403);
    assert_eq!(browser.post(&path, &[("csrf", csrf.as_str())]).await.status(), 422);
    let answer = browser.post(&path, &[("csrf", csrf.as_str()), ("reason", "seen"), ("global", "true")]).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()), (303, "/targets"));
    let page = browser.text("/targets").await;
    assert!(page.contains("closed: given back") && !page.contains("Give the budget back"), "{page}");
    let line = bot.api.get("/v1/audit?kind=operator").await["entries"][0].clone();
    assert!(line["text"].as_str().unwrap().contains("given back by Mira Roth: seen"), "{line}");
}

/// The service graph as Prometheus has it from the Collector's exposition.
async fn called(client: &str, server: &str, times: f64, age: Duration) {
    let labels = [("client", client), ("server", server), ("connection_type", ""), ("failed", "false")];
    write_sample("traces_service_graph_request_total", &labels, times, age).await;
}

/// The first that a target is known to call.
async fn a_call(bot: &Bot, what: &str) -> Value {
    until(what, async || {
        let list = bot.api.get("/v1/targets").await["targets"].as_array().unwrap().clone();
        list.iter().find_map(|t| t["calls"].as_array().unwrap().first().cloned())
    })
    .await
}

#[tokio::test]
async fn who_calls_whom_is_learned_from_traces() {
    let (shop, till) = (unique("shop"), unique("till"));
    for (times, age) in [(1.0, 90), (5.0, 30)] {
        called(&shop, &till, times, Duration::from_secs(age)).await;
        called("user", &shop, times, Duration::from_secs(age)).await;
        // Nobody has called since.
        called(&till, &shop, 7.0, Duration::from_secs(age)).await;
    }
    let prometheus = Prometheus::new(&env("TEST_PROMETHEUS_URL")).unwrap();
    let calls = prometheus.calls(Duration::from_secs(600)).await.unwrap();
    let ours: Vec<_> = calls.iter().filter(|(a, b)| *a == shop || *b == shop).collect();
    assert_eq!(ours.len(), 2, "{ours:?}");
    assert!(calls.contains(&(shop.clone(), till.clone())));

    let setting = Setting::new(POLICY).with("alertmanager-url", "http://127.0.0.1:9").with("traces-interval", "1s");
    let _containers = [&shop, &till].map(|service| Container::healable(&setting.project, service));
    let bot = setting.start().await;
    let edge = a_call(&bot, "who calls whom is learned").await;
    assert_eq!((&edge["client"], &edge["server"]), (&json!(shop), &json!(till)));
    until("it is counted", async || (bot.metric("alertbot_topology_edges{source=\"traces\"}") == 1.0).then_some(()))
        .await;
    let line = bot.api.get("/v1/audit?kind=system").await["entries"][0].clone();
    assert_eq!(line["text"], format!("traces show that {shop} calls {till}"));
    bot.stop().await;
    // Known from the beginning, though nobody can be asked.
    let bot = setting.with("prometheus-url", "http://127.0.0.1:9").start().await;
    let again = a_call(&bot, "it is still known").await;
    assert_eq!(again["since"], edge["since"]);
}
