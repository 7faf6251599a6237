//! Healing on real Docker, with the proof from the real Prometheus and the alert
//! in the real Alertmanager.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::support::{
    Container, PATIENCE, Setting, Signal, alertmanager_alert, alertmanager_post, docker, kinds, lines, quick_policy,
    unique, write_sample,
};

const SECOND: Duration = Duration::from_secs(1);

/// A metric's name that no other test has.
fn metric() -> String {
    unique("abt_sli").replace('-', "_")
}

#[tokio::test]
async fn a_missed_alert_is_adopted_healed_once_and_proven() {
    let (alertname, sli) = (unique("Errors"), metric());
    let setting = Setting::new(&quick_policy(&alertname, "api", &sli, ""));
    let api = Container::healable(&setting.project, "api");
    let _signal = Signal::steady(&sli, 0.0);
    let labels = json!({ "alertname": alertname, "service": "api" });
    // It burns before the bot starts: only Alertmanager's list can tell.
    alertmanager_alert(&labels, false).await;
    let bot = setting.start().await;
    let acting = bot.api.until(&alertname, |i| i["state"] == "verifying").await;
    let told: Vec<_> = kinds(&acting).into_iter().filter(|kind| kind != "evidence").collect();
    assert_eq!(told[..4], ["adopted", "decision", "intent", "result"]);
    // As long as the alert burns, nothing is healed.
    tokio::time::sleep(4 * SECOND).await;
    assert_eq!(bot.api.incident(&alertname).await.unwrap()["state"], "verifying");
    alertmanager_alert(&labels, true).await;
    let closed = bot.api.until(&alertname, |i| i["state"] == "closed").await;
    assert_eq!((&closed["outcome"], &closed["verdict"]), (&json!("healed"), &json!("healed")), "{closed:#}");
    assert_eq!(closed["verification"]["judgement"]["is"], "good");
    assert_eq!(closed["actions"][0]["status"], "done");
    assert_eq!(api.starts(), 2, "started once, restarted once");
    assert_eq!(bot.metric("alertbot_incidents_total{outcome=\"healed\"}"), 1.0);
    assert_eq!(bot.metric("alertbot_actions_total{result=\"done\",verb=\"restart\"}"), 1.0);
    assert_eq!(bot.metric(&format!("alertbot_budget_remaining{{target=\"{}\"}}", api.0)), 2.0);
    assert_eq!(bot.api.get("/v1/audit/verify").await["intact"], true);
    bot.stop().await;
}

#[tokio::test]
async fn a_person_s_call_restarts_the_rules_own_target_once() {
    let (alertname, sli) = (unique("Errors"), metric());
    let setting = Setting::new(&quick_policy(&alertname, "api", &sli, ""));
    let api = Container::healable(&setting.project, "api");
    let _signal = Signal::steady(&sli, 0.0);
    let bot = setting.start().await;
    for _ in 0..3 {
        bot.api.fire(json!({ "alertname": alertname, "severity": "critical" })).await;
    }
    let closed = bot.api.until(&alertname, |i| i["state"] == "closed").await;
    assert_eq!(closed["outcome"], "healed", "{closed:#}");
    // Again, now that it is healed: a new incident, which the cooldown holds back.
    bot.api.fire(json!({ "alertname": alertname, "severity": "critical" })).await;
    bot.api.until(&alertname, |i| i["decision"] == "cooldown").await;
    assert_eq!(api.starts(), 2);
}

#[tokio::test]
async fn what_is_down_is_started() {
    let (alertname, sli) = (unique("Down"), metric());
    let setting = Setting::new(&quick_policy(&alertname, "api", &sli, ""));
    let api = Container::healable(&setting.project, "api");
    docker(&["kill", &api.0]);
    let _signal = Signal::steady(&sli, 0.0);
    let bot = setting.start().await;
    bot.api.fire(json!({ "alertname": alertname })).await;
    let closed = bot.api.until(&alertname, |i| i["state"] == "closed").await;
    assert_eq!(closed["outcome"], "healed", "{closed:#}");
    assert_eq!(closed["actions"][0]["verb"], "start");
    assert!(api.running());
}

#[tokio::test]
async fn without_prometheus_nothing_is_ever_called_healed() {
    let (alertname, sli) = (unique("Errors"), metric());
    let setting = Setting::new(&quick_policy(&alertname, "api", &sli, "")).with("prometheus-url", "http://127.0.0.1:9");
    let _api = Container::healable(&setting.project, "api");
    let bot = setting.start().await;
    bot.api.fire(json!({ "alertname": alertname })).await;
    let told = bot.api.until(&alertname, |i| i["state"] == "escalated").await;
    assert_eq!(told["verdict"], "unverified", "{told:#}");
    assert_eq!(bot.metric("alertbot_verdicts_total{verdict=\"healed\"}"), 0.0);
}

#[tokio::test]
async fn a_stale_or_missing_sample_proves_nothing() {
    let (stale, missing) = (unique("Stale"), unique("Missing"));
    let (stale_sli, missing_sli) = (metric(), metric());
    let second = format!(
        "  - name: second
    match: {{alertname: {missing}}}
    target: {{service: db}}
    steps: [{{action: restart, timeout: 10s, stop_timeout: 1s}}]
    verify: {{sli: {missing_sli}, below: 0.5}}
"
    );
    let setting = Setting::new(&quick_policy(&stale, "api", &stale_sli, &second));
    let _containers = [Container::healable(&setting.project, "api"), Container::healable(&setting.project, "db")];
    // Good, and a minute old: Prometheus answers with it all the same.
    write_sample(&stale_sli, &[], 0.0, 60 * SECOND).await;
    let bot = setting.start().await;
    for alertname in [&stale, &missing] {
        bot.api.fire(json!({ "alertname": alertname })).await;
    }
    for (alertname, says) in [(&stale, "old"), (&missing, "no data")] {
        let told = bot.api.until(alertname, |i| i["state"] == "escalated").await;
        assert_eq!(told["verdict"], "unverified", "{told:#}");
        let verdict = lines(&told, "verdict")[0]["text"].as_str().unwrap().to_owned();
        assert!(verdict.contains(says), "{verdict}");
    }
}

#[tokio::test]
async fn what_does_not_heal_goes_to_people_with_what_was_tried() {
    let (alertname, sli) = (unique("Errors"), metric());
    let received: Arc<Mutex<Vec<Value>>> = Arc::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let inbox = received.clone();
    let receiver = axum::Router::new().route(
        "/hook",
        axum::routing::post(move |axum::Json(body): axum::Json<Value>| async move {
            let mut inbox = inbox.lock().await;
            inbox.push(body);
            // The first attempt fails: it must come again.
            if inbox.len() == 1 { StatusCode::BAD_GATEWAY } else { StatusCode::OK }
        }),
    );
    tokio::spawn(async move { axum::serve(listener, receiver).await });
    let setting = Setting::new(&quick_policy(&alertname, "api", &sli, ""))
        .with("notify-webhook-url", &format!("http://{address}/hook"));
    let api = Container::healable(&setting.project, "api");
    let _signal = Signal::steady(&sli, 0.9);
    let bot = setting.start().await;
    bot.api.fire(json!({ "alertname": alertname })).await;
    let told = bot.api.until(&alertname, |i| i["state"] == "escalated").await;
    assert_eq!(told["verdict"], "not_healed", "{told:#}");
    assert!(lines(&told, "verdict")[0]["text"].as_str().unwrap().contains("the SLI is 0.9"));
    assert_eq!(api.starts(), 2, "tried once, not again and again");
    for _ in 0..100 {
        if received.lock().await.len() >= 2 {
            break;
        }
        tokio::time::sleep(SECOND / 10).await;
    }
    let received = received.lock().await.clone();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0]["key"], received[1]["key"]);
    assert!(received[1]["text"].as_str().unwrap().contains(&api.0), "{received:?}");
}

#[tokio::test]
async fn what_must_not_be_touched_is_not_and_the_reason_is_told() {
    let sli = metric();
    let alertname = unique("Errors");
    let setting =
        Setting::new(&quick_policy(&alertname, "api", &sli, "deny: [vault]\n").replace("min_age: 0s", "min_age: 1h"));
    let project = &setting.project;
    let containers = [
        Container::run(project, "guarded", &["selfheal.enable=true", "selfheal.protect=true"]),
        Container::run(project, "lone", &[]),
        Container::healable(project, "twin"),
        Container::healable(project, "twin"),
        Container::healable(&unique("other"), "foreign-to-us"),
        Container::healable(project, "young"),
        // By another label it would be healable.
        Container::run(project, "disguised", &["selfheal.enable=true", "com.docker.compose.service=prometheus"]),
    ];
    let bot = setting.start().await;
    let expected = [
        ("guarded", "protected"),
        ("lone", "not_opted_in"),
        ("twin", "ambiguous_target"),
        ("foreign-to-us", "other_project"),
        ("young", "too_young"),
        ("disguised", "denied"),
        ("vault", "denied"),
        ("prometheus", "denied"),
        ("alert-bot", "denied"),
        ("nobody", "no_target"),
        ("../../v1.41/containers", "invalid_target"),
    ];
    for (service, _) in expected {
        bot.api.fire(json!({ "alertname": alertname, "service": service })).await;
    }
    for (service, reason) in expected {
        let started = std::time::Instant::now();
        loop {
            let list = bot.api.get("/v1/incidents?limit=100").await;
            let found = list["incidents"].as_array().unwrap().iter().find(|i| i["service"] == service).cloned();
            if found.as_ref().is_some_and(|i| i["decision"] == reason) {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "{service}: {found:#?}");
            tokio::time::sleep(SECOND / 10).await;
        }
    }
    for container in &containers {
        assert_eq!(container.starts(), 1, "{}", container.0);
    }
    assert_eq!(bot.metric("alertbot_actions_total{result=\"done\",verb=\"restart\"}"), 0.0);
}

#[tokio::test]
async fn an_observing_policy_says_what_it_would_do() {
    let alertname = unique("Errors");
    let setting = Setting::new(&quick_policy(&alertname, "api", &metric(), "").replace("mode: auto", "mode: observe"));
    let api = Container::healable(&setting.project, "api");
    let bot = setting.start().await;
    bot.api.fire(json!({ "alertname": alertname })).await;
    let held = bot.api.until(&alertname, |i| i["decision"] == "observe_mode").await;
    assert!(held["decision_text"].as_str().unwrap().contains(&format!("would restart {}", api.0)));
    assert_eq!(api.starts(), 1);
}

#[tokio::test]
async fn a_silence_closes_and_its_end_opens_again() {
    let alertname = unique("Errors");
    let policy = quick_policy(&alertname, "api", &metric(), "").replace("target:", "hold: 1h\n    target:");
    let setting = Setting::new(&policy);
    let labels = json!({ "alertname": alertname, "service": "api" });
    alertmanager_alert(&labels, false).await;
    let bot = setting.start().await;
    bot.api.until(&alertname, |i| i["decision"] == "hold").await;
    let now = alert_bot::timestamp::Timestamp::now();
    let silence = json!({
        "matchers": [{ "name": "alertname", "value": alertname, "isRegex": false, "isEqual": true }],
        "startsAt": now, "endsAt": now.plus(4 * SECOND), "createdBy": "test", "comment": "test",
    });
    alertmanager_post("/api/v2/silences", &silence).await;
    let closed = bot.api.until(&alertname, |i| i["state"] == "closed").await;
    assert_eq!(closed["outcome"], "silenced");
    let again = bot.api.until(&alertname, |i| i["state"] == "waiting").await;
    assert_eq!(again["id"], closed["id"]);
    assert!(kinds(&again).contains(&"reopened".to_owned()));
    alertmanager_alert(&labels, true).await;
}

#[tokio::test]
async fn grafana_is_told_and_its_failure_heals_nobody_less() {
    let (alertname, sli) = (unique("Errors"), metric());
    let received: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let inbox = received.clone();
    // Takes the start, and fails at the end.
    let grafana = axum::Router::new().fallback(move |method: Method, uri: Uri, body: String| async move {
        inbox.lock().await.push((format!("{method} {uri}"), serde_json::from_str(&body).unwrap()));
        if method == "POST" { Ok(axum::Json(json!({ "id": 7 }))) } else { Err(StatusCode::INTERNAL_SERVER_ERROR) }
    });
    tokio::spawn(async move { axum::serve(listener, grafana).await });
    let setting = Setting::new(&quick_policy(&alertname, "api", &sli, ""))
        .with("grafana-url", &format!("http://{address}/grafana"))
        .with("grafana-password", "secret");
    let api = Container::healable(&setting.project, "api");
    let _signal = Signal::steady(&sli, 0.0);
    let bot = setting.start().await;
    bot.api.fire(json!({ "alertname": alertname })).await;
    let closed = bot.api.until(&alertname, |i| i["state"] == "closed").await;
    assert_eq!(closed["outcome"], "healed", "{closed:#}");
    let received = received.lock().await.clone();
    assert_eq!(received[0].0, "POST /grafana/api/annotations");
    assert_eq!(received[1].0, "PATCH /grafana/api/annotations/7");
    assert!(received[0].1["text"].as_str().unwrap().contains(&api.0), "{received:?}");
    assert!(received[1].1["timeEnd"].as_i64() > received[0].1["time"].as_i64());
    assert_eq!(bot.metric("alertbot_annotations_total{result=\"error\"}"), 1.0);
}

#[tokio::test]
async fn a_step_that_does_not_heal_is_followed_by_the_next() {
    let (alertname, sli) = (unique("Errors"), metric());
    let policy = quick_policy(&alertname, "api", &sli, "")
        .replace("steps: [", "steps: [{action: restart, timeout: 10s, stop_timeout: 1s}, ")
        .replace("target:", "budget: {actions: 3, window: 10m, cooldown: 1s}\n    target:");
    let setting = Setting::new(&policy);
    let api = Container::healable(&setting.project, "api");
    let signal = Signal::steady(&sli, 0.9);
    let bot = setting.start().await;
    bot.api.fire(json!({ "alertname": alertname })).await;
    bot.api.until(&alertname, |i| i["actions"].as_array().is_some_and(|a| a.len() == 2)).await;
    drop(signal);
    let _signal = Signal::steady(&sli, 0.1);
    let closed = bot.api.until(&alertname, |i| i["state"] == "closed").await;
    assert_eq!(closed["outcome"], "healed", "{closed:#}");
    assert_eq!(lines(&closed, "verdict").len(), 2);
    assert_eq!(api.starts(), 3);
}

#[tokio::test]
async fn a_call_elsewhere_is_made_once_and_proven() {
    type Heard = Arc<Mutex<Vec<(String, String, String)>>>;
    let heard = Heard::default();
    let told = heard.clone();
    let router = axum::Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: String| async move {
        let header = |name: &str| headers.get(name).map_or("", |v| v.to_str().unwrap()).to_owned();
        let proof = format!("{} {}", header("authorization"), header("idempotency-key"));
        told.lock().await.push((uri.path().to_owned(), proof, body));
        if uri.path() == "/silent" {
            std::future::pending::<()>().await;
        }
        StatusCode::ACCEPTED
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let (answered, silent, sli) = (unique("Answered"), unique("Silent"), metric());
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "a-token\n").unwrap();
    let rule = |name: &str, alertname: &str, service: &str, path: &str| {
        format!(
            "  - name: {name}
    match: {{alertname: {alertname}}}
    target: {{service: {service}}}
    steps:
      - action: webhook
        url: {base}/{path}
        token_file: {}
        timeout: 1s
        body: {{ref: '{{{{incident}}}}', what: '{{{{alert}}}} on {{{{target}}}}'}}
    verify: {{sli: {sli}, below: 0.5}}
",
            token.display()
        )
    };
    let rules = rule("answered", &answered, "api", "ok") + &rule("silent", &silent, "db", "silent");
    let setting = Setting::new(&quick_policy(&unique("Errors"), "api", &sli, &rules));
    let (api, db) = (Container::healable(&setting.project, "api"), Container::healable(&setting.project, "db"));
    let _signal = Signal::steady(&sli, 0.0);
    let bot = setting.start().await;
    for alertname in [&answered, &silent] {
        bot.api.fire(json!({ "alertname": alertname, "note": "x\", \"ref\": \"forged" })).await;
    }
    for (alertname, status, container) in [(&answered, "done", &api), (&silent, "unanswered", &db)] {
        let closed = bot.api.until(alertname, |i| i["state"] == "closed").await;
        assert_eq!(closed["outcome"], "healed", "{closed:#}");
        assert_eq!(closed["actions"][0]["status"], status, "{closed:#}");
        let calls: Vec<_> = heard.lock().await.iter().filter(|c| c.2.contains(alertname.as_str())).cloned().collect();
        assert_eq!(calls.len(), 1, "{calls:?}");
        let action = closed["actions"][0]["id"].as_str().unwrap();
        assert_eq!(calls[0].1, format!("Bearer a-token {action}"));
        let body: Value = serde_json::from_str(&calls[0].2).unwrap();
        assert_eq!(body, json!({ "ref": closed["id"], "what": format!("{alertname} on {}", container.0) }));
        assert_eq!(container.starts(), 1, "the container itself was not touched");
    }
    let evidence = bot.api.incident(&answered).await.unwrap().to_string();
    assert!(evidence.contains("HTTP status") && !evidence.contains("a-token"), "{evidence}");
}
