//! Intake: who may, what is understood, what becomes of it.

use std::time::Duration;

use serde_json::json;
use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::support::{Setting, TOKEN, unique};

const LEAVE: &str = "version: 1
mode: auto
rules:
  - name: disk
    match: {alertname: Disk}
    leave_to_people: no container is at fault
  - name: dog
    match: {alertname: Watchdog}
    ignore: it fires always
";

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn only_who_knows_the_token_is_heard() {
    let bot = Setting::new(LEAVE).start().await;
    let url = format!("{}/webhook", bot.api.url);
    let body = || json!({ "alerts": [] }).to_string();
    let send = |request: reqwest::RequestBuilder| async move { request.body(body()).send().await.unwrap() };
    let post = || bot.api.client.post(&url);
    assert_eq!(send(post()).await.status(), 401);
    assert_eq!(send(post().bearer_auth("wrong")).await.status(), 401);
    assert_eq!(send(post().basic_auth("alertmanager", Some("wrong"))).await.status(), 401);
    let refused = send(post()).await;
    assert!(refused.headers().contains_key("www-authenticate"));
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    assert_eq!(send(post().bearer_auth(TOKEN)).await.status(), 202);
    assert_eq!(send(post().basic_auth("alertmanager", Some(TOKEN))).await.status(), 202);
    assert!(bot.metric("alertbot_webhooks_total{result=\"unauthorized\"}") >= 4.0);
}

#[tokio::test]
async fn what_is_not_understood_is_refused_named_kept_and_counted() {
    let setting = Setting::new(LEAVE).with("webhook-max-bytes", "100000");
    let bot = setting.start().await;
    let hostile: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"{".to_vec(),
        b"\xff\xfe\x00".to_vec(),
        b"[]".to_vec(),
        br#"{"version":"3","alerts":[]}"#.to_vec(),
        br#"{"alerts":[{"status":"firing","labels":{"severity":"critical"}}]}"#.to_vec(),
        br#"{"alerts":[{"status":"firing","labels":{"alertname":7}}]}"#.to_vec(),
        format!(r#"{{"alerts":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000)).into_bytes(),
    ];
    let count = hostile.len();
    for body in hostile {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let (status, answer) = bot.api.post(body).await;
        assert_eq!(status, 400, "{shown}: {answer}");
        assert!(answer["errors"][0]["field"].is_string(), "{answer}");
    }
    assert_eq!(bot.api.post(vec![b' '; 100_001]).await.0, 413);
    assert_eq!(bot.metric("alertbot_webhooks_total{result=\"malformed\"}"), count as f64 + 1.0);
    let options = SqliteConnectOptions::new().filename(setting.journal());
    let mut raw = SqliteConnection::connect_with(&options).await.unwrap();
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM quarantine").fetch_one(&mut raw).await.unwrap();
    assert_eq!(kept, count as i64);
    assert_eq!(bot.api.get("/v1/incidents").await["incidents"], json!([]));
}

#[tokio::test]
async fn a_repeat_changes_nothing_and_an_end_closes() {
    let bot = Setting::new(LEAVE).start().await;
    for _ in 0..3 {
        bot.api.fire(json!({ "alertname": "Disk", "severity": "critical" })).await;
    }
    let open = bot.api.until("Disk", |i| i["decision"] == "left_to_people").await;
    assert_eq!(open["decision_text"], "no container is at fault");
    assert_eq!(open["refusal"]["code"], "left_to_people");
    assert_eq!(bot.api.get("/v1/incidents").await["incidents"].as_array().unwrap().len(), 1);
    let body =
        json!({ "alerts": [{ "status": "resolved", "labels": { "alertname": "Disk", "severity": "critical" } }] });
    assert_eq!(bot.api.post(body.to_string()).await.0, 202);
    let closed = bot.api.until("Disk", |i| i["state"] == "closed").await;
    assert_eq!(closed["outcome"], "resolved");
    assert_eq!(
        crate::support::kinds(&closed),
        ["opened", "decision", "escalated", "closed"],
        "it is critical: people hear"
    );
}

#[tokio::test]
async fn every_alert_has_its_answer_to_why_not() {
    let bot = Setting::new(LEAVE).start().await;
    bot.api.fire(json!({ "alertname": "Unheard" })).await;
    bot.api.fire(json!({ "alertname": "Watchdog" })).await;
    bot.api.until("Unheard", |i| i["decision"] == "no_policy").await;
    assert!(bot.api.incident("Watchdog").await.is_none());
    let why = bot.api.get("/v1/decisions?alert=Unheard").await;
    assert_eq!(why["decisions"][0]["reason"], "no_policy");
    assert_eq!(why["policy"]["plan"], "none");
    let why = bot.api.get("/v1/decisions?alert=Watchdog").await;
    assert_eq!(why["policy"]["rules"][0]["because"], "it fires always");
    let reasons = bot.api.get("/v1/reasons").await;
    assert!(reasons.as_array().unwrap().iter().any(|r| r["code"] == "no_policy"));
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_is_said_so_and_nothing_is_lost() {
    let setting = Setting::new(LEAVE);
    let bot = setting.start().await;
    assert_eq!(bot.api.post(json!({ "alerts": [] }).to_string()).await.0, 202);
    let options = SqliteConnectOptions::new().filename(setting.journal());
    let mut thief = SqliteConnection::connect_with(&options).await.unwrap();
    thief.execute("BEGIN IMMEDIATE").await.unwrap();
    let body = json!({ "alerts": [{ "status": "firing", "labels": { "alertname": "Disk" } }] }).to_string();
    let (status, answer) = bot.api.post(body.clone()).await;
    assert_eq!(status, 503, "{answer}");
    thief.execute("ROLLBACK").await.unwrap();
    // The sender repeats; the bot has recovered by itself.
    assert_eq!(bot.api.post(body).await.0, 202);
    bot.api.until("Disk", |i| i["decision"] == "left_to_people").await;
    assert_eq!(bot.api.get("/v1/incidents").await["incidents"].as_array().unwrap().len(), 1);
    assert!(bot.metric("alertbot_webhooks_total{result=\"unavailable\"}") >= 1.0);
}

#[tokio::test]
async fn ten_thousand_alerts_in_one_notification() {
    // Alertmanager lists none of them, and would have them closed.
    let bot = Setting::new(LEAVE).with("alertmanager-url", "http://127.0.0.1:9").start().await;
    let alerts: Vec<_> = (0..10_000)
        .map(|i| {
            json!({
                "status": "firing",
                "labels": { "alertname": "Disk", "severity": "critical", "instance": format!("host-{i}") },
                "annotations": { "summary": "the disk is almost full", "runbook_url": "docs/runbooks/DiskAlmostFull.md" },
                "startsAt": "2026-07-01T10:00:00Z",
                "fingerprint": format!("{i:016x}"),
            })
        })
        .collect();
    let (status, answer) = bot.api.post(json!({ "version": "4", "alerts": alerts }).to_string()).await;
    assert_eq!((status, &answer["accepted"]), (202, &json!(10_000)));
    // The others do not wait behind it.
    bot.api.fire(json!({ "alertname": "Unheard" })).await;
    bot.api.until("Unheard", |i| i["decision"] == "no_policy").await;
    assert_eq!(bot.metric("alertbot_refusals_total{reason=\"left_to_people\"}"), 10_000.0);
    let page = bot.api.get("/v1/incidents?state=open&limit=2").await;
    let next = page["next_cursor"].as_str().unwrap();
    let second = bot.api.get(&format!("/v1/incidents?state=open&limit=2&cursor={next}")).await;
    assert_ne!(page["incidents"][1]["id"], second["incidents"][0]["id"]);
    assert_eq!(bot.api.get("/v1/audit/verify").await["intact"], true);
}

#[tokio::test]
async fn labels_are_text_and_nothing_else() {
    let bot = Setting::new(LEAVE).start().await;
    let evil = "<script>alert(1)</script>$(reboot)`id`../../etc\u{1b}[2J\"'{{service}}";
    bot.api.fire(json!({ "alertname": evil, "service": evil, evil: evil })).await;
    let found = bot.api.until(evil, |i| i["decision"] == "no_policy").await;
    assert_eq!(found["labels"]["service"], evil);
    for path in ["/".to_owned(), format!("/incidents/{}", found["id"].as_str().unwrap())] {
        let answer = bot.api.client.get(format!("{}{path}", bot.api.url)).send().await.unwrap();
        assert!(answer.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
        let page = answer.text().await.unwrap();
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>") && !page.contains('\u{1b}'), "{page}");
    }
}

#[tokio::test]
async fn wrong_questions_are_answered_with_what_is_wrong() {
    let bot = Setting::new(LEAVE).start().await;
    for path in [
        "/v1/incidents?state=burning",
        "/v1/incidents?limit=0",
        "/v1/incidents?limit=many",
        "/v1/incidents?cursor=x",
        "/v1/incidents?colour=red",
        "/v1/audit?limit=501",
    ] {
        assert_eq!(bot.api.status_of(path).await, 400, "{path}");
    }
    assert_eq!(bot.api.status_of("/v1/incidents/nothing").await, 404);
    let openapi = bot.api.get("/openapi.json").await;
    for path in [
        "/webhook",
        "/v1/incidents",
        "/v1/incidents/{id}",
        "/v1/decisions",
        "/v1/policy",
        "/v1/audit/verify",
        "/health",
    ] {
        assert!(openapi["paths"][path].is_object(), "{path}");
    }
}

#[tokio::test]
async fn the_policy_follows_its_file_and_the_last_good_one_stays() {
    let setting = Setting::new(LEAVE);
    let bot = setting.start().await;
    let before = bot.api.get("/v1/policy").await["digest"].clone();
    std::fs::write(setting.policy_file(), LEAVE.replace("leave_to_people", "leave_to_poeple")).unwrap();
    let rejected = loop {
        let policy = bot.api.get("/v1/policy").await;
        if policy["rejected"].is_object() {
            break policy;
        }
        tokio::time::sleep(SECOND / 5).await;
    };
    assert_eq!(rejected["digest"], before);
    let error = rejected["rejected"]["errors"][0].as_str().unwrap();
    assert!(error.starts_with("line 6:") && error.contains("leave_to_poeple"), "{error}");
    let name = unique("reloaded");
    std::fs::write(setting.policy_file(), LEAVE.replace("name: disk", &format!("name: {name}"))).unwrap();
    while bot.api.get("/v1/policy").await["digest"] == before {
        tokio::time::sleep(SECOND / 5).await;
    }
    bot.api.fire(json!({ "alertname": "Disk" })).await;
    bot.api.until("Disk", |i| i["rule"] == name).await;
    bot.stop().await;
}
