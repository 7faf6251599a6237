//! The API: who may do what, in pages, live, and as documented.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use alert_bot::{
    engine::{Effect, Note, NoteKind, Outcome, Phase},
    journal::{
        Journal,
        read::{Cursor, Filter, StateFilter},
    },
    timestamp::Timestamp,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    model,
    support::{Bot, OPERATOR, PATIENCE, POLICY, Setting, TOKEN},
};

const SECOND: Duration = Duration::from_secs(1);

/// Nothing outside answers: what the API says does not depend on it.
pub fn alone(policy: &str) -> Setting {
    Setting::new(policy)
        .with("prometheus-url", "http://127.0.0.1:9")
        .with("alertmanager-url", "http://127.0.0.1:9")
        .with("docker-host", "tcp://127.0.0.1:9")
}

/// What a request carries.
#[derive(Clone, Debug)]
enum With {
    Nothing,
    Wrong,
    Webhook,
    Operator,
    Session { cookie: String, csrf: Option<String> },
}

impl With {
    fn on(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match self {
            Self::Nothing => request,
            Self::Wrong => request.bearer_auth("wrong"),
            Self::Webhook => request.bearer_auth(TOKEN),
            Self::Operator => request.bearer_auth(OPERATOR),
            Self::Session { cookie, csrf } => {
                let request = request.header("cookie", cookie);
                match csrf {
                    Some(csrf) => request.header("x-csrf-token", csrf),
                    None => request,
                }
            }
        }
    }
}

/// A browser, as far as cookies and forms go.
pub struct Browser {
    client: reqwest::Client,
    base: String,
    pub cookies: Vec<(String, String)>,
}

impl Browser {
    pub fn new(base: &str) -> Self {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { client, base: base.to_owned(), cookies: Vec::new() }
    }

    pub fn cookie(&self) -> String {
        self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ")
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> reqwest::Response {
        let answer = request.header("cookie", self.cookie()).send().await.unwrap();
        for set in answer.headers().get_all("set-cookie") {
            let set = set.to_str().unwrap();
            assert!(
                set.contains("; HttpOnly") && set.contains("; SameSite=Strict") && set.contains("; Path=/"),
                "{set}"
            );
            let (name, rest) = set.split_once('=').unwrap();
            self.cookies.retain(|(n, _)| n != name);
            let value = rest.split(';').next().unwrap();
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        answer
    }

    pub async fn get(&mut self, path: &str) -> reqwest::Response {
        self.send(self.client.get(format!("{}{path}", self.base))).await
    }

    pub async fn text(&mut self, path: &str) -> String {
        let answer = self.get(path).await;
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, 200, "{path}: {text}");
        text
    }

    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> reqwest::Response {
        let body = fields.iter().map(|(n, v)| format!("{n}={}", encoded(v))).collect::<Vec<_>>().join("&");
        let request = self.client.post(format!("{}{path}", self.base));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        self.send(request).await
    }

    /// The token in a page's forms.
    pub async fn csrf(&mut self, path: &str) -> String {
        let page = self.text(path).await;
        let at = page.find("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("no form in {page}"));
        page[at + 19..].split('"').next().unwrap().to_owned()
    }

    pub async fn log_in(&mut self) {
        let csrf = self.csrf("/login").await;
        let fields = [("csrf", csrf.as_str()), ("name", "Mira Roth"), ("token", OPERATOR), ("next", "/targets")];
        let answer = self.post("/login", &fields).await;
        assert_eq!(
            (answer.status(), &answer.headers()["location"]),
            (StatusCode::SEE_OTHER, &"/targets".parse().unwrap())
        );
    }
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

async fn ask(bot: &Bot, with: &With, method: &str, path: &str, body: Option<&Value>) -> reqwest::Response {
    let request = bot.api.client.request(method.parse::<Method>().unwrap(), format!("{}{path}", bot.api.url));
    let request = match body {
        Some(body) => request.json(body),
        None => request,
    };
    with.on(request).send().await.unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Need {
    Nobody,
    Intake,
    Reading,
    Operator,
}

/// Method, path as documented, path as asked, body, who may, status if one may.
type Route<'a> = (&'a str, &'a str, &'a str, Option<&'a Value>, Need, u16);

#[tokio::test]
async fn every_route_opens_to_whom_it_should_and_to_nobody_else() {
    let closed = alone(POLICY).with("read-access", "token").start().await;
    let open = alone(POLICY).start().await;
    let freeze = json!({ "frozen": false });
    let simulate = json!({ "payload": { "alerts": [] } });
    let alerts = json!({ "alerts": [] });
    let release = json!({ "reason": "looked at it" });
    let routes: [Route; 17] = [
        ("post", "/webhook", "/webhook", Some(&alerts), Need::Intake, 202),
        ("get", "/v1/incidents", "/v1/incidents", None, Need::Reading, 200),
        ("get", "/v1/incidents/{id}", "/v1/incidents/none", None, Need::Reading, 404),
        ("post", "/v1/incidents/{id}/{command}", "/v1/incidents/none/approve", None, Need::Operator, 404),
        ("get", "/v1/decisions", "/v1/decisions?alert=Disk", None, Need::Reading, 200),
        ("get", "/v1/reasons", "/v1/reasons", None, Need::Reading, 200),
        ("get", "/v1/policy", "/v1/policy", None, Need::Reading, 200),
        ("post", "/v1/policy/simulate", "/v1/policy/simulate", Some(&simulate), Need::Reading, 200),
        ("get", "/v1/freeze", "/v1/freeze", None, Need::Reading, 200),
        ("put", "/v1/freeze", "/v1/freeze", Some(&freeze), Need::Operator, 200),
        ("get", "/v1/targets", "/v1/targets", None, Need::Reading, 200),
        ("post", "/v1/targets/{service}/release", "/v1/targets/none/release", Some(&release), Need::Operator, 404),
        ("get", "/v1/audit", "/v1/audit", None, Need::Reading, 200),
        ("get", "/v1/audit/verify", "/v1/audit/verify", None, Need::Reading, 200),
        ("get", "/v1/events", "/v1/events", None, Need::Reading, 200),
        ("get", "/health", "/health", None, Need::Nobody, 503),
        ("get", "/openapi.json", "/openapi.json", None, Need::Nobody, 200),
    ];
    // Nothing that the document promises is left out here.
    let document = closed.api.get("/openapi.json").await;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            assert!(routes.iter().any(|r| r.0 == method && r.1 == path), "{method} {path} is not in the table");
        }
    }
    let mut browser = Browser::new(&closed.api.url);
    browser.log_in().await;
    let csrf = browser.csrf("/").await;
    let session = |csrf: Option<&str>| With::Session { cookie: browser.cookie(), csrf: csrf.map(str::to_owned) };
    let forged = With::Session { cookie: "alert-bot-session=e30.AAAA".to_owned(), csrf: Some(csrf.clone()) };
    let visitors: [(&str, With); 8] = [
        ("nobody", With::Nothing),
        ("wrong", With::Wrong),
        ("webhook", With::Webhook),
        ("operator", With::Operator),
        ("session", session(None)),
        ("session and csrf", session(Some(&csrf))),
        ("session and another's csrf", session(Some("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"))),
        ("forged session", forged),
    ];
    for (method, _, path, body, need, good) in routes {
        let method = method.to_uppercase();
        for (who, with) in &visitors {
            let expected = match (need, *who) {
                (Need::Nobody, _) => good,
                (Need::Intake, "webhook") => good,
                (Need::Intake, _) => 401,
                (_, "operator" | "session and csrf") => good,
                (_, "webhook") => 403,
                (_, "nobody" | "wrong" | "forged session") => 401,
                (Need::Reading, "session" | "session and another's csrf") => good,
                (Need::Operator, "session" | "session and another's csrf") => 403,
                other => unreachable!("{other:?}"),
            };
            let answer = ask(&closed, with, &method, path, body).await;
            assert_eq!(answer.status().as_u16(), expected, "{who}: {method} {path}");
            if matches!(expected, 401 | 403) {
                assert_eq!(answer.headers()["content-type"], "application/problem+json", "{who}: {method} {path}");
            }
            if *who != "nobody" && *who != "wrong" && *who != "webhook" {
                continue;
            }
            // From loopback reading is free, unless somebody presents a token that is not the operator's.
            let expected = match (need, *who) {
                (Need::Reading, "nobody") => good,
                (Need::Operator, "nobody") => 401,
                _ => expected,
            };
            let answer = ask(&open, with, &method, path, body).await;
            assert_eq!(answer.status().as_u16(), expected, "open, {who}: {method} {path}");
        }
    }
}

#[tokio::test]
async fn a_page_from_elsewhere_cannot_read_under_its_own_name() {
    let bot = alone(POLICY).start().await;
    let under = |host: &'static str| {
        let request = bot.api.client.get(format!("{}/v1/incidents", bot.api.url)).header("host", host);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(under("localhost:5000").await, 200);
    assert_eq!(under("alert-bot:5000").await, 200);
    assert_eq!(under("rebound.example:5000").await, 401);
}

#[tokio::test]
async fn a_trusted_network_reads_and_changes_nothing() {
    let bot = alone(POLICY).with("read-access", "networks").with("trusted-networks", "198.51.100.0/24").start().await;
    // Loopback counts always; here it stands for itself.
    assert_eq!(ask(&bot, &With::Nothing, "GET", "/v1/incidents", None).await.status(), 200);
    let freeze = json!({ "frozen": true, "why": "test" });
    assert_eq!(ask(&bot, &With::Nothing, "PUT", "/v1/freeze", Some(&freeze)).await.status(), 401);
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let bot = alone(POLICY).start().await;
    let field = |answer: Value| answer["errors"][0]["field"].as_str().unwrap_or_default().to_owned();
    for (path, named) in [
        ("/v1/incidents?since=yesterday", "since"),
        ("/v1/incidents?state=burning", "state"),
        ("/v1/incidents?cursor=x", "cursor"),
        ("/v1/decisions?reason=mood", "reason"),
        ("/v1/decisions?since=x", "since"),
        ("/v1/audit?limit=0", "limit"),
    ] {
        let answer = ask(&bot, &With::Operator, "GET", path, None).await;
        assert_eq!(answer.status(), 400, "{path}");
        assert_eq!(field(answer.json().await.unwrap()), named, "{path}");
    }
    for (body, status, named) in [
        (json!({ "frozen": true }), 422, "why"),
        (json!({ "frozen": true, "why": "x", "until": "2020-01-01T00:00:00Z" }), 422, "until"),
        (json!({ "frozen": true, "why": "x", "until": "soon" }), 422, "until"),
        (json!({ "frozen": "yes", "why": "x" }), 422, "frozen"),
        (json!({ "why": "x" }), 422, "frozen"),
        (json!({ "frozen": true, "why": "x", "reason": "y" }), 422, "reason"),
        (json!({ "frozen": true, "why": "x".repeat(501) }), 422, "why"),
    ] {
        let answer = ask(&bot, &With::Operator, "PUT", "/v1/freeze", Some(&body)).await;
        assert_eq!(answer.status(), status, "{body}");
        assert_eq!(field(answer.json().await.unwrap()), named, "{body}");
    }
    let wrong = json!({ "policy": "version: 1\nmode: auto\nrules: []\n", "payload": { "alerts": [] } });
    let answer = ask(&bot, &With::Operator, "POST", "/v1/policy/simulate", Some(&wrong)).await;
    assert_eq!(answer.status(), 422);
    let told: Value = answer.json().await.unwrap();
    assert_eq!(told["errors"][0]["field"], "policy");
    assert!(told["errors"][0]["detail"].as_str().unwrap().starts_with("line 3: "), "{told}");
    let wrong = json!({ "payload": { "alerts": [{ "status": "burning", "labels": { "alertname": "A" } }] } });
    let answer = ask(&bot, &With::Operator, "POST", "/v1/policy/simulate", Some(&wrong)).await;
    assert_eq!(field(answer.json().await.unwrap()), "payload.alerts[0].status");
}

#[tokio::test]
async fn a_simulation_says_what_the_command_says() {
    let bot = alone(POLICY).start().await;
    let payload = json!({ "alerts": [
        { "status": "firing", "labels": { "alertname": "Errors" } },
        { "status": "firing", "labels": { "alertname": "Disk" } },
    ] });
    let body = json!({ "payload": payload });
    let told: Value = ask(&bot, &With::Nothing, "POST", "/v1/policy/simulate", Some(&body)).await.json().await.unwrap();
    let policy = Arc::new(alert_bot::policy::Policy::parse(POLICY).unwrap());
    let project = told[0]["target"]["project"].as_str().unwrap();
    let said = alert_bot::cli::decisions(policy, payload.to_string().as_bytes(), project, Timestamp::now()).unwrap();
    assert_eq!(told, json!(said));
    assert_eq!((&told[0]["decision"], &told[1]["reason"]), (&json!("look_up_and_act"), &json!("left_to_people")));
    // Nothing has happened.
    assert_eq!(bot.api.get("/v1/incidents").await["incidents"], json!([]));
}

#[tokio::test]
async fn operators_order_and_the_record_names_them() {
    let bot = alone(POLICY).start().await;
    bot.api.fire(json!({ "alertname": "Disk" })).await;
    let found = bot.api.until("Disk", |i| i["decision"] == "left_to_people").await;
    let id = found["id"].as_str().unwrap();
    assert_eq!(found["possible"], json!(["take-over", "close"]));
    let order = |command: &str, body: Option<Value>| {
        let path = format!("/v1/incidents/{id}/{command}");
        let bot = &bot;
        async move {
            let answer = ask(bot, &With::Operator, "POST", &path, body.as_ref()).await;
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        }
    };
    let (status, told) = order("approve", None).await;
    assert_eq!(status, 409);
    assert!(told["detail"].as_str().unwrap().contains("does not wait for approval"), "{told}");
    assert_eq!(order("burn", None).await.0, 404);
    assert_eq!(order("close", Some(json!({ "why": "x" }))).await.0, 422);
    let (status, told) = order("take-over", Some(json!({ "by": "Mira", "note": "I know this disk" }))).await;
    assert_eq!((status, &told["taken_over"], &told["state"]), (200, &json!("Mira"), &json!("escalated")));
    assert_eq!(order("take-over", None).await.0, 409);
    let (status, told) = order("close", None).await;
    assert_eq!((status, &told["outcome"]), (200, &json!("closed_by_operator")));
    assert_eq!(order("close", None).await.0, 409);
    let after = bot.api.get(&format!("/v1/incidents/{id}")).await;
    let said: Vec<_> = crate::support::lines(&after, "operator").iter().map(|l| l["text"].clone()).collect();
    assert_eq!(said, ["take_over by Mira: I know this disk", "close by operator"]);
    assert_eq!(bot.api.get("/v1/audit/verify").await["intact"], true);
    assert_eq!(bot.api.get("/v1/audit?verify=1").await["report"]["intact"], true);
}

#[tokio::test]
async fn a_freeze_is_set_shown_and_lifted() {
    let bot = alone(POLICY).start().await;
    assert_eq!(bot.api.get("/v1/freeze").await["frozen"], false);
    let until = Timestamp::now().plus(60 * SECOND);
    let body = json!({ "frozen": true, "why": "a deploy", "until": until, "by": "Mira" });
    let told: Value = ask(&bot, &With::Operator, "PUT", "/v1/freeze", Some(&body)).await.json().await.unwrap();
    assert_eq!((&told["frozen"], &told["by"], &told["why"]), (&json!(true), &json!("Mira"), &json!("a deploy")));
    let shown = bot.api.get("/v1/freeze").await;
    assert_eq!((&shown["until"], &shown["storm"]), (&json!(until), &json!(false)));
    assert_eq!(bot.api.get("/v1/targets").await["freeze"]["frozen"], true);
    bot.api.fire(json!({ "alertname": "Errors" })).await;
    bot.api.until("Errors", |i| i["decision"] == "frozen").await;
    let body = json!({ "frozen": false });
    let told: Value = ask(&bot, &With::Operator, "PUT", "/v1/freeze", Some(&body)).await.json().await.unwrap();
    assert_eq!(told["frozen"], false);
    bot.api.until("Errors", |i| i["decision"] == "backend_unavailable").await;
    let why = bot.api.get("/v1/decisions?alert=Errors&reason=frozen").await;
    assert_eq!(why["decisions"].as_array().unwrap().len(), 1);
}

/// Reads server-sent events one at a time.
struct Events {
    answer: reqwest::Response,
    buffer: String,
}

#[derive(Debug, Default)]
struct Heard {
    event: String,
    id: Option<String>,
    data: String,
}

impl Events {
    async fn open(bot: &Bot, last: Option<&str>) -> Self {
        let request = bot.api.client.get(format!("{}/v1/events", bot.api.url));
        let request = match last {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { answer, buffer: String::new() }
    }

    async fn next(&mut self) -> Option<Heard> {
        loop {
            if let Some(end) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..end + 2).collect();
                let mut heard = Heard::default();
                for line in block.lines() {
                    match line.split_once(": ").or_else(|| line.split_once(':')) {
                        Some(("event", v)) => heard.event = v.to_owned(),
                        Some(("id", v)) => heard.id = Some(v.to_owned()),
                        Some(("data", v)) => heard.data.push_str(v),
                        _ => {}
                    }
                }
                return Some(heard);
            }
            let chunk = self.answer.chunk().await.ok()??;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next one that is about an incident or a freeze, and the last id up to it.
    async fn news(&mut self, last: &mut Option<String>) -> (String, Value) {
        let wait = async {
            loop {
                let heard = self.next().await.expect("the feed goes on");
                if heard.id.is_some() {
                    last.clone_from(&heard.id);
                }
                if heard.event != "ping" {
                    return (heard.event, serde_json::from_str(&heard.data).unwrap());
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("news in time")
    }
}

#[tokio::test]
async fn changes_are_told_as_they_come_and_what_was_missed_is_told_later() {
    let bot = alone(POLICY).start().await;
    let mut last = None;
    let mut events = Events::open(&bot, None).await;
    bot.api.fire(json!({ "alertname": "Disk", "instance": "a" })).await;
    let (kind, data) = events.news(&mut last).await;
    assert_eq!((kind.as_str(), &data["incident"]["alertname"]), ("incident", &json!("Disk")));
    let id = data["incident"]["id"].clone();
    // Up to an id: then the connection is lost.
    while last.is_none() {
        events.news(&mut last).await;
    }
    bot.api.until("Disk", |i| i["decision"] == "left_to_people").await;
    while bot.api.get("/v1/audit?limit=1").await["entries"][0]["seq"].as_i64()
        != last.as_deref().and_then(|l| l.parse().ok())
    {
        events.news(&mut last).await;
    }
    drop(events);
    let freeze = json!({ "frozen": true, "why": "test" });
    bot.api.fire(json!({ "alertname": "Disk", "instance": "b" })).await;
    bot.api.fire(json!({ "alertname": "Unheard" })).await;
    bot.api.until("Unheard", |i| i["decision"] == "no_policy").await;
    let mut again = Events::open(&bot, last.as_deref()).await;
    let mut missed = BTreeSet::new();
    for _ in 0..2 {
        let (kind, data) = again.news(&mut last).await;
        assert_eq!(kind, "incident");
        assert_ne!(data["incident"]["id"], id, "what was heard before is not told again");
        missed.insert(data["incident"]["alertname"].as_str().unwrap().to_owned());
    }
    assert_eq!(missed.iter().map(String::as_str).collect::<Vec<_>>(), ["Disk", "Unheard"]);
    ask(&bot, &With::Operator, "PUT", "/v1/freeze", Some(&freeze)).await;
    while again.news(&mut last).await.0 != "freeze" {}
    let request = bot.api.client.get(format!("{}/v1/events", bot.api.url)).header("last-event-id", "x");
    assert_eq!(request.send().await.unwrap().status(), 400);
    // Whoever comes with an id of another journal's reads everything again.
    let mut other = Events::open(&bot, Some("999999")).await;
    assert_eq!(other.news(&mut last).await.0, "reset");
    // A stop does not wait for listeners.
    bot.stop().await;
    while again.next().await.is_some() {}
}

#[tokio::test]
async fn pages_of_a_list_have_each_incident_once() {
    let bot = alone(POLICY).start().await;
    let alerts: Vec<_> = (0..23)
        .map(|i| {
            let service = if i % 3 == 0 { "one" } else { "two" };
            json!({ "status": "firing", "labels": { "alertname": "Disk", "instance": i.to_string(), "service": service } })
        })
        .collect();
    assert_eq!(bot.api.post(json!({ "alerts": alerts }).to_string()).await.0, 202);
    loop {
        let list = bot.api.get("/v1/incidents?limit=100").await;
        let list = list["incidents"].as_array().unwrap();
        if list.len() == 23 && list.iter().all(|i| i["decision"] == "left_to_people") {
            break;
        }
        tokio::time::sleep(SECOND / 10).await;
    }
    for (filter, count) in [
        ("", 23),
        ("&state=open", 23),
        ("&state=waiting&service=one", 8),
        ("&service=two", 15),
        ("&since=1h", 23),
        ("&since=2100-01-01T00:00:00Z", 0),
        ("&state=healed", 0),
    ] {
        let mut seen = BTreeSet::new();
        let mut cursor = String::new();
        loop {
            let page = bot.api.get(&format!("/v1/incidents?limit=5{filter}{cursor}")).await;
            let list = page["incidents"].as_array().unwrap();
            assert!(list.len() <= 5);
            for incident in list {
                assert!(seen.insert(incident["id"].to_string()), "{filter}: twice");
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen.len(), count, "{filter}");
    }
}

#[tokio::test]
async fn no_list_scans_or_sorts_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&dir.path().join("journal.db")).await.unwrap();
    let states = [
        None,
        Some(StateFilter::Open),
        Some(StateFilter::Phase(Phase::Waiting)),
        Some(StateFilter::Phase(Phase::Closed)),
        Some(StateFilter::Outcome(Outcome::Healed)),
    ];
    let cursor = Cursor { opened_at: Timestamp::from_millis(5), id: "x".to_owned() };
    for state in states {
        for service in [None, Some("api".to_owned())] {
            for since in [None, Some(Timestamp::from_millis(1))] {
                for after in [None, Some(cursor.clone())] {
                    let filter = Filter { state, service: service.clone(), since, after, limit: 50 };
                    let plan = journal.plan(&filter).await.unwrap().join("; ");
                    assert!(plan.contains("USING INDEX") && !plan.contains("TEMP B-TREE"), "{filter:?}: {plan}");
                    // Every column that narrows the list down is part of the index that is read.
                    assert_eq!(plan.contains("service=?"), service.is_some(), "{filter:?}: {plan}");
                    let state = matches!(state, Some(StateFilter::Phase(_)));
                    assert_eq!(plan.contains("state=?"), state, "{filter:?}: {plan}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_document_describes_every_answer() {
    let bot = alone(POLICY).start().await;
    let document = bot.api.get("/openapi.json").await;
    let mut references = Vec::new();
    fn walk(value: &Value, references: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    references.push(reference.clone());
                }
                map.values().for_each(|v| walk(v, references));
            }
            Value::Array(list) => list.iter().for_each(|v| walk(v, references)),
            _ => {}
        }
    }
    walk(&document, &mut references);
    assert!(references.len() > 10);
    for reference in references {
        assert!(document.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
    }
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(operation["summary"].is_string(), "{method} {path} says nothing of itself");
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|k| k.starts_with('2')), "{method} {path}");
            if path.starts_with("/v1/") && path != "/v1/reasons" {
                assert!(answers.contains_key("401"), "{method} {path} does not say that it may want a token");
            }
        }
    }
}

/// A line of the record.
pub fn line(incident: &str, kind: NoteKind, text: &str, data: Value) -> Effect {
    Effect::Note(Box::new(Note {
        at: Timestamp::now(),
        incident: Some(incident.to_owned()),
        kind,
        reason: None,
        alert: "Errors".to_owned(),
        target: Some("p-api-1".to_owned()),
        text: text.to_owned(),
        data,
    }))
}

#[tokio::test]
async fn a_journal_that_is_only_looked_at_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    let journal = Journal::open(&path).await.unwrap();
    let (turns, _, now) = model::history(1, 100);
    journal.commit(Arc::new(turns.concat()), Vec::new(), now).await.unwrap();
    let looked = Journal::look(&path).await.unwrap();
    assert_eq!(looked.head().await.unwrap(), journal.head().await.unwrap());
    assert!(looked.commit(Arc::new(Vec::new()), Vec::new(), now).await.is_err());
    assert!(Journal::look(&dir.path().join("none.db")).await.is_err());
}
