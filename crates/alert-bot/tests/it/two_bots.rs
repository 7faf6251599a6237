//! Two real processes on one journal: one acts, the other stands by, and takes over.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, routing::post};
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    api::alone,
    process::{Hold, Process, holding_proxy},
    support::{Api, Container, OPERATOR, PATIENCE, Setting, Signal, quick_policy, unique, until},
};

const SECOND: Duration = Duration::from_secs(1);
const LEAVE: &str = "version: 1
mode: auto
rules: [{name: disk, match: {alertname: [Disk, Disc]}, leave_to_people: no container is at fault}]
";

/// Short, and long enough for a machine that has other things to do.
const SHORT: &str = "4s";
/// Longer than any test waits.
const LONG: &str = "60s";

/// The same journal and policy, under another name.
fn named(setting: &Setting, name: &str, lease: &str) -> Setting {
    let setting = Setting { dir: setting.dir.clone(), project: setting.project.clone(), extra: setting.extra.clone() };
    setting.with("bot-name", name).with("lease-time", lease)
}

async fn lease(bot: &Api, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until(what, async || Some(bot.get("/v1/targets").await["lease"].clone()).filter(&wanted)).await
}

async fn stands_by(bot: &Api, holder: &str) {
    lease(bot, "stands by", |l| l["role"] == "standby" && l["holder"] == holder).await;
    let (method, path) = (reqwest::Method::PUT, "/v1/freeze");
    let request = bot.client.request(method, format!("{}{path}", bot.url)).bearer_auth(OPERATOR);
    let answer = request.json(&json!({ "frozen": true, "why": "a deploy" })).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["type"], "/v1/reasons#not_leader");
    assert!(problem["detail"].as_str().unwrap().contains(holder), "{problem}");
    assert_eq!(leader(bot).await, "0");
}

async fn acts(bot: &Api, name: &str) -> Value {
    let lease = lease(bot, "acts", |l| l["role"] == "active").await;
    assert_eq!((&lease["holder"], &lease["name"]), (&json!(name), &json!(name)));
    assert_eq!(leader(bot).await, "1");
    lease
}

/// Stops it where it is, but not while it writes: what stops with SQLite's lock in its hand keeps everybody from
/// writing until it goes on or dies, which no lease can change.
async fn stopped(setting: &Setting, bot: &Process) {
    let options = SqliteConnectOptions::new().filename(setting.journal()).busy_timeout(2 * SECOND);
    let mut journal = SqliteConnection::connect_with(&options).await.unwrap();
    for _ in 0..10 {
        bot.signal("STOP");
        if sqlx::query("BEGIN IMMEDIATE").execute(&mut journal).await.is_ok() {
            sqlx::query("ROLLBACK").execute(&mut journal).await.unwrap();
            return;
        }
        bot.signal("CONT");
        tokio::time::sleep(SECOND / 20).await;
    }
    panic!("it was writing ten times out of ten");
}

async fn leader(bot: &Api) -> String {
    let text = bot.client.get(format!("{}/metrics", bot.url)).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("alertbot_leader "));
    line.unwrap_or_else(|| panic!("no alertbot_leader in\n{text}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_acts_and_the_other_takes_over() {
    let setting = alone(LEAVE);
    let a = Process::start(&named(&setting, "a", SHORT), None).await;
    acts(&a.api, "a").await;
    let b = Process::start(&named(&setting, "b", SHORT), None).await;
    stands_by(&b.api, "a").await;

    // What the one that stands by takes is on disk, and the other one finds it.
    b.api.fire(json!({ "alertname": "Disk" })).await;
    a.api.until("Disk", |i| i["decision"] == "left_to_people").await;
    let seen = b.api.until("Disk", |i| i["decision"] == "left_to_people").await;
    let id = seen["id"].as_str().unwrap();
    let order = b.api.client.post(format!("{}/v1/incidents/{id}/take-over", b.api.url)).bearer_auth(OPERATOR);
    let refused: Value = order.send().await.unwrap().json().await.unwrap();
    assert_eq!((&refused["status"], &refused["type"]), (&json!(503), &json!("/v1/reasons#not_leader")));
    let page = b.api.client.get(&b.api.url).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("This bot stands by"), "{page}");

    // Stopped, not dead: it does not know that its lease runs out.
    stopped(&setting, &a).await;
    acts(&b.api, "b").await;
    b.api.fire(json!({ "alertname": "Disc" })).await;
    b.api.until("Disc", |i| i["decision"] == "left_to_people").await;
    a.signal("CONT");
    stands_by(&a.api, "b").await;
    for alertname in ["Disk", "Disc"] {
        let incident = a.api.incident(alertname).await.unwrap();
        let opened = crate::support::kinds(&incident).iter().filter(|k| *k == "opened").count();
        assert_eq!(opened, 1, "{incident:#}");
    }

    let audit = b.api.get("/v1/audit/verify").await;
    assert_eq!(audit["intact"], true, "{audit}");
    let record = b.api.get("/v1/audit?limit=100").await.to_string();
    assert!(record.contains("took over from a"), "{record}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_starts_again_does_not_wait_and_who_ends_in_order_gives_way() {
    let setting = alone(LEAVE);
    let mut b = Process::start(&named(&setting, "b", LONG), None).await;
    acts(&b.api, "b").await;
    let a = Process::start(&named(&setting, "a", LONG), None).await;
    stands_by(&a.api, "b").await;
    // Killed, and started again under its name: its own lease does not keep it waiting.
    b.kill();
    let b = Process::start(&named(&setting, "b", LONG), None).await;
    acts(&b.api, "b").await;
    stands_by(&a.api, "b").await;
    // Ended in order, it gives the lease back.
    b.signal("TERM");
    acts(&a.api, "a").await;
    let record = a.api.get("/v1/audit?limit=100").await.to_string();
    assert!(record.contains("took over from b"), "{record}");
    assert_eq!(a.api.get("/v1/audit/verify").await["intact"], true);
}

/// A receiver of messages that keeps what it gets.
async fn receiver() -> (String, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = heard.clone();
    let router = Router::new().route(
        "/",
        post(move |body: String| async move {
            told.lock().unwrap().push(body);
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, heard)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Killed,
    Stopped,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_over_in_the_middle_of_an_action_does_nothing_twice() {
    for (hold, end) in [(Hold::Request, End::Killed), (Hold::Answer, End::Killed), (Hold::Answer, End::Stopped)] {
        let (alertname, disk, sli) = (unique("Errors"), unique("Disk"), unique("abt_sli").replace('-', "_"));
        let (proxy, mut held) = holding_proxy(hold).await;
        let (url, heard) = receiver().await;
        let people = format!("  - {{name: disk, match: {{alertname: {disk}}}, leave_to_people: it is full}}\n");
        let setting = Setting::new(&quick_policy(&alertname, "api", &sli, &people)).with("notify-webhook-url", &url);
        let api = Container::healable(&setting.project, "api");
        let _signal = Signal::steady(&sli, 0.0);
        let mut a = Process::start(&named(&setting, "a", SHORT).with("docker-host", &proxy), None).await;
        let calls = || heard.lock().unwrap().iter().filter(|body| body.contains(&disk)).count();
        // People are called by the one; the other must not call them again.
        a.api.fire(json!({ "alertname": disk, "severity": "critical" })).await;
        until(&format!("{hold:?}, {end:?}: people are called"), async || (calls() > 0).then_some(())).await;
        a.api.fire(json!({ "alertname": alertname })).await;
        tokio::time::timeout(PATIENCE, held.recv()).await.expect("a restart").unwrap();
        // Not before: on a busy machine it might take over for another reason.
        let b = Process::start(&named(&setting, "b", SHORT), None).await;
        match end {
            End::Killed => a.kill(),
            End::Stopped => stopped(&setting, &a).await,
        }
        acts(&b.api, "b").await;
        let closed = b.api.until(&alertname, |i| i["state"] == "closed").await;
        if end == End::Stopped {
            a.signal("CONT");
            stands_by(&a.api, "b").await;
        }
        assert_eq!(closed["outcome"], "healed", "{hold:?}, {end:?}: {closed:#}");
        assert_eq!(api.starts(), 2, "{hold:?}, {end:?}: started once, restarted once");
        let attempts = closed["actions"].as_array().unwrap().len();
        assert_eq!(attempts, if hold == Hold::Request { 2 } else { 1 }, "{hold:?}, {end:?}: {closed:#}");
        let verdicts = crate::support::lines(&closed, "verdict").len();
        assert_eq!(verdicts, 1, "{hold:?}, {end:?}: {closed:#}");
        assert_eq!(calls(), 1, "{hold:?}, {end:?}: {:?}", heard.lock().unwrap());
        assert_eq!(b.api.get("/v1/audit/verify").await["intact"], true);
    }
}
