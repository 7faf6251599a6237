//! Messages to people, over the wire: the real notifier on a real journal, and
//! the receiver that checks what Slack, mail programs and a webhook's owner would.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use alert_bot::{
    engine::{Alert, Effect, Event, Incident, OperatorCommand, Order, PageKind, Scope, Source, State, Status, decide},
    journal::Journal,
    metrics::Metrics,
    notify::{self, MailSettings, Mailer, Notifier, Receivers, Security, Slack, Webhook},
    policy::Policy,
    timestamp::Timestamp,
};
use axum::http::StatusCode;
use clap::Parser;
use serde_json::Value;
use telemetry::{Runtime, config::Secret};

use crate::support::client;

const SECRET: &str = "shared";

/// A receiver on free ports.
struct Inbox {
    http: SocketAddr,
    mail: SocketAddr,
    rt: Runtime,
}

impl Inbox {
    async fn start() -> Self {
        let args =
            ["receiver", "--listen-addr", "127.0.0.1:0", "--smtp-addr", "127.0.0.1:0", "--webhook-secret", SECRET];
        let config = notification_receiver::Config::try_parse_from(args).unwrap();
        let rt = Runtime::for_test();
        let app = notification_receiver::App::build(config, rt.clone()).await.unwrap();
        let (http, mail) = app.addresses().unwrap();
        tokio::spawn(app.run());
        Self { http, mail, rt }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    async fn get(&self, path: &str) -> Value {
        client().get(self.url(path)).send().await.unwrap().json().await.unwrap()
    }

    /// Threads of a channel: the title of each message, changes marked.
    async fn threads(&self, channel: &str) -> Vec<Vec<String>> {
        let answer = self.get(&format!("/v1/threads?channel={channel}")).await;
        let title = |n: &Value| {
            let edits = n["edits"].as_u64().unwrap();
            let mark = if edits > 0 { format!(" (changed {edits}x)") } else { String::new() };
            format!("{}{mark}", n["title"].as_str().unwrap())
        };
        let thread = |t: &Value| t.as_array().unwrap().iter().map(title).collect();
        answer["threads"].as_array().unwrap().iter().map(thread).collect()
    }

    async fn assert_clean(&self) {
        let found = self.get("/v1/violations").await;
        assert_eq!(found["total"], 0, "{found:#}");
        let all = self.get("/v1/notifications").await;
        for notification in all["notifications"].as_array().unwrap() {
            assert!(notification.get("repeats").is_none(), "came twice: {notification:#}");
        }
    }

    fn receivers(&self) -> Receivers {
        let mail = MailSettings {
            server: self.mail.to_string(),
            security: Security::None,
            authorities: None,
            login: None,
            from: "alert-bot@selfheal.local".to_owned(),
            to: "Öncall <oncall@selfheal.local>, second@selfheal.local".to_owned(),
        };
        Receivers {
            slack: Some(Slack::Bot {
                api: self.url("/api"),
                token: Secret::new("xoxb-test"),
                channel: "#alerts-platform".to_owned(),
            }),
            mail: Some(Mailer::new(&mail, Duration::from_secs(5)).unwrap()),
            webhook: Some(Webhook { url: Secret::new(self.url("/webhook")), secret: Some(Secret::new(SECRET)) }),
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.rt.shutdown.cancel();
    }
}

/// The engine and its journal, without a driver: time goes as the test says.
struct Bot {
    state: State,
    journal: Journal,
    now: Timestamp,
    file: tempfile::TempDir,
    rt: Runtime,
    metrics: Metrics,
}

const POLICY: &str = "version: 1
mode: auto
escalation:
  - {after: 0s, to: [slack]}
  - {after: 5m, to: [email, slack]}
  - {after: 15m, to: [webhook], severity: critical}
rules:
  - name: people
    match: {alertname: [Disk, Flood]}
    leave_to_people: somebody must look
";

impl Bot {
    async fn start(policy: &str) -> Self {
        let file = tempfile::tempdir().unwrap();
        let journal = Journal::open(&file.path().join("journal.db")).await.unwrap();
        let scope = Scope { project: "test".to_owned(), own_id: None };
        let state = State::new(Arc::new(Policy::parse(policy).unwrap()), scope);
        let rt = Runtime::for_test();
        let metrics = Metrics::new(&rt.registry).unwrap();
        // Near the present: a signature must not be old.
        Self { state, journal, now: Timestamp::now(), file, rt, metrics }
    }

    async fn happens(&mut self, event: Event) {
        let effects = decide(&self.state, event, self.now);
        for effect in &effects {
            self.state.apply(effect);
        }
        self.journal.commit(Arc::new(effects), Vec::new(), self.now).await.unwrap();
    }

    async fn alert(&mut self, name: &str, service: &str, status: Status) {
        let labels =
            [("alertname", name), ("service", service), ("severity", "critical"), ("instance", "<!channel> & co")];
        let labels: BTreeMap<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let annotations = [
            ("summary", "the disk of <b>öre</b> is full\u{1b}[31m"),
            ("description", &"long ".repeat(2000)),
            ("runbook_url", "http://runbook.local/Disk"),
            ("dashboard_url", "javascript:alert(1)"),
        ];
        let alert = Alert {
            status,
            fingerprint: format!("{name}-{service}"),
            starts_at: Some(Timestamp::from_millis(1_767_225_600_000)),
            labels,
            annotations: annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            generator_url: None,
        };
        self.happens(Event::Alert { alert, source: Source::Webhook, received_at: self.now, trace: None }).await;
    }

    async fn wait(&mut self, secs: u64) {
        self.now = self.now.plus(Duration::from_secs(secs));
        self.happens(Event::Tick).await;
    }

    /// The process ends and starts again on the same journal.
    async fn restart(&mut self) {
        let before = self.state.durable();
        let (policy, scope) = (self.state.policy.clone(), self.state.scope.clone());
        self.journal = Journal::open(&self.file.path().join("journal.db")).await.unwrap();
        self.state = self.journal.load(policy, scope, self.now).await.unwrap();
        assert!(self.state.durable() == before, "what was read back is not what was remembered");
        self.happens(Event::Boot).await;
    }

    fn notifier(&self, receivers: Receivers) -> Notifier {
        let client = notify::client(None).unwrap();
        let gather = Duration::from_secs(2);
        Notifier::new(self.journal.clone(), self.metrics.clone(), receivers, client, "http://localhost:5000/", gather)
            .without_spacing()
    }

    fn incident(&self) -> &Incident {
        self.state.open().next().unwrap()
    }

    fn metric(&self, series: &str) -> f64 {
        let text = String::from_utf8(self.rt.registry.encode(None).1).unwrap();
        text.lines().find_map(|l| l.strip_prefix(series)).unwrap_or("0").trim().parse().unwrap()
    }
}

#[tokio::test]
async fn a_ladder_is_climbed_in_one_thread_until_somebody_takes_over() {
    let inbox = Inbox::start().await;
    let mut bot = Bot::start(POLICY).await;
    bot.alert("Disk", "lake", Status::Firing).await;
    let notifier = bot.notifier(inbox.receivers());
    assert_eq!(notifier.tick(bot.now).await, 0, "others may come");
    bot.wait(2).await;
    assert_eq!(notifier.tick(bot.now).await, 1);
    assert_eq!(notifier.tick(bot.now).await, 0, "once");
    let head = ":rotating_light: Disk on lake: needs people: The policy leaves this alert to people.";
    assert_eq!(inbox.threads("slack").await, [[head]]);

    // A restart repeats nothing, and the ladder goes on from where it was.
    bot.restart().await;
    let notifier = bot.notifier(inbox.receivers());
    bot.wait(200).await;
    assert_eq!(notifier.tick(bot.now).await, 0);
    bot.wait(100).await;
    bot.wait(2).await;
    assert_eq!(notifier.tick(bot.now).await, 2, "a second level, by two ways");
    assert_eq!(inbox.threads("slack").await, [[format!("{head} (changed 1x)"), head.to_owned()]]);
    assert_eq!(inbox.threads("email").await, [["[selfheal] Disk on lake"]]);

    let order = Order {
        incident: bot.incident().id.clone(),
        command: OperatorCommand::TakeOver,
        by: "ana".to_owned(),
        note: None,
    };
    bot.happens(Event::Ordered(order)).await;
    bot.wait(2).await;
    assert_eq!(notifier.tick(bot.now).await, 2, "whoever was told is told, and nobody else");
    bot.wait(3600).await;
    bot.wait(2).await;
    assert_eq!(notifier.tick(bot.now).await, 0, "the ladder has ended");
    bot.alert("Disk", "lake", Status::Resolved).await;
    bot.wait(60).await;
    assert_eq!(notifier.tick(bot.now).await, 2);

    let slack = inbox.threads("slack").await;
    assert_eq!(slack.len(), 1, "{slack:#?}");
    assert_eq!(
        slack[0],
        [
            ":white_check_mark: Disk on lake: over (changed 3x)",
            head,
            ":wrench: Disk on lake: taken over by ana",
            ":white_check_mark: Disk on lake: over",
        ]
    );
    let mails = inbox.threads("email").await;
    assert_eq!(mails, [["[selfheal] Disk on lake", "Re: [selfheal] Disk on lake", "Re: [selfheal] Disk on lake"]]);
    assert!(inbox.threads("webhook").await.is_empty());
    inbox.assert_clean().await;
    assert_eq!(bot.metric(r#"alertbot_escalations_total{level="2",receiver="email",result="delivered"}"#), 1.0);
    assert_eq!(bot.metric(r#"alertbot_escalations_total{level="update",receiver="slack",result="delivered"}"#), 2.0);
}

#[tokio::test]
async fn all_levels_reach_the_webhook_signed_and_the_flood_is_one_message() {
    let inbox = Inbox::start().await;
    let mut bot = Bot::start(POLICY).await;
    let notifier = bot.notifier(inbox.receivers());
    for i in 0..30 {
        bot.alert("Flood", &format!("service-{i:02}"), Status::Firing).await;
    }
    bot.wait(2).await;
    assert_eq!(notifier.tick(bot.now).await, 1);
    let slack = inbox.threads("slack").await;
    assert_eq!(slack, [[":rotating_light: 30 of 30 incidents need people: Flood on service-00 and others"]]);
    bot.wait(900).await;
    bot.wait(60).await;
    assert_eq!(notifier.tick(bot.now).await, 3, "mail, the thread, and the pager: {:#?}", inbox.threads("slack").await);
    let webhook = inbox.get("/v1/notifications?channel=webhook").await;
    assert_eq!(webhook["total"], 1);
    let document: Value =
        serde_json::from_str(webhook["notifications"][0]["raw"].as_str().unwrap()).unwrap_or_default();
    // Thirty incidents are more than the receiver keeps as they came.
    assert!(document.is_null() || document["incidents"].as_array().unwrap().len() == 30);
    for i in 0..30 {
        bot.alert("Flood", &format!("service-{i:02}"), Status::Resolved).await;
    }
    bot.wait(60).await;
    for _ in 0..100 {
        if notifier.tick(bot.now).await == 0 {
            break;
        }
    }
    let slack = inbox.threads("slack").await;
    assert_eq!(slack.len(), 1, "one cause, one thread: {slack:#?}");
    assert!(slack[0][0].starts_with(":white_check_mark: 30 incidents, all over"), "{}", slack[0][0]);
    inbox.assert_clean().await;
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_again_and_the_others_do_not_wait() {
    let inbox = Inbox::start().await;
    // In front of the real one: says no three times, then loses one answer.
    let (fails, upstream) = (Arc::new(AtomicU32::new(0)), inbox.url(""));
    let counter = fails.clone();
    let proxy = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let (fails, upstream) = (counter.clone(), upstream.clone());
        async move {
            let n = fails.fetch_add(1, Ordering::SeqCst);
            if n < 3 {
                return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")]);
            }
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let forward = client().request(parts.method, format!("{upstream}{}", parts.uri)).headers(parts.headers);
            let answer = forward.body(body).send().await.unwrap();
            assert!(answer.status().is_success());
            let status = if n == 3 { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
            (status, [("retry-after", "0")])
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, proxy).await });

    let policy = POLICY.replace("to: [slack]}", "to: [webhook, email]}");
    let mut bot = Bot::start(&policy).await;
    let url = Secret::new(format!("http://{address}/webhook"));
    let webhook = Some(Webhook { url, secret: Some(Secret::new(SECRET)) });
    let notifier = bot.notifier(Receivers { webhook, ..inbox.receivers() });
    bot.alert("Disk", "lake", Status::Firing).await;
    bot.wait(2).await;
    assert_eq!(notifier.tick(bot.now).await, 1, "the mail");
    assert_eq!(inbox.threads("email").await.len(), 1);
    bot.wait(6).await;
    assert_eq!(notifier.tick(bot.now).await, 0);
    assert_eq!(fails.load(Ordering::SeqCst), 1, "as long as it was told to wait");
    for _ in 0..20 {
        bot.wait(7).await;
        notifier.tick(bot.now).await;
    }
    assert_eq!(fails.load(Ordering::SeqCst), 5, "taken, the answer lost, sent again, and no more");
    assert_eq!(inbox.threads("webhook").await.len(), 1, "the receiver knows it by its key");
    inbox.assert_clean().await;
    assert_eq!(bot.metric(r#"alertbot_escalations_total{level="1",receiver="webhook",result="failed"}"#), 4.0);
}

#[tokio::test]
async fn an_incoming_webhook_gets_one_message_for_each_state() {
    let inbox = Inbox::start().await;
    let mut bot = Bot::start(&POLICY.replace("after: 5m", "after: 14m")).await;
    let hook = || Receivers { slack: Some(Slack::Hook(Secret::new(inbox.url("/slack")))), ..Receivers::default() };
    let notifier = bot.notifier(hook());
    bot.alert("Disk", "lake", Status::Firing).await;
    for _ in 0..30 {
        bot.wait(5).await;
        bot.alert("Disk", "lake", Status::Firing).await;
        notifier.tick(bot.now).await;
    }
    assert_eq!(inbox.threads("slack").await.len(), 1, "repeats are no news");
    // Nobody but Slack is set up, so the later levels come here too; before that it is over.
    bot.alert("Disk", "lake", Status::Resolved).await;
    bot.wait(60).await;
    assert_eq!(notifier.tick(bot.now).await, 1);
    assert_eq!(notifier.tick(bot.now).await, 0);
    assert_eq!(inbox.threads("slack").await.len(), 2);
    inbox.assert_clean().await;
}

#[tokio::test]
async fn somebody_deletes_the_thread() {
    let inbox = Inbox::start().await;
    let mut bot = Bot::start(POLICY).await;
    let notifier = bot.notifier(Receivers { slack: inbox.receivers().slack, ..Receivers::default() });
    bot.alert("Disk", "lake", Status::Firing).await;
    bot.wait(2).await;
    assert_eq!(notifier.tick(bot.now).await, 1);
    client().delete(inbox.url("/v1/notifications")).send().await.unwrap();
    bot.alert("Disk", "lake", Status::Resolved).await;
    bot.wait(60).await;
    assert_eq!(notifier.tick(bot.now).await, 1);
    assert_eq!(inbox.threads("slack").await, [[":white_check_mark: Disk on lake: over"]]);
    inbox.assert_clean().await;
}

#[tokio::test]
async fn what_comes_and_goes_is_heard_of_less_and_less() {
    let mut bot = Bot::start(POLICY).await;
    let mut calls = Vec::new();
    let begin = bot.now;
    // Five minutes on, five minutes off, for a day.
    for i in 0..144 {
        for status in [Status::Firing, Status::Resolved] {
            let alert = Alert {
                status,
                fingerprint: "flap".to_owned(),
                starts_at: Some(begin.plus(Duration::from_secs(600 * i))),
                labels: [("alertname", "Disk"), ("service", "lake"), ("severity", "warning")]
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .into(),
                annotations: BTreeMap::new(),
                generator_url: None,
            };
            let event = Event::Alert { alert, source: Source::Webhook, received_at: bot.now, trace: None };
            for event in [event, Event::Tick] {
                let effects = decide(&bot.state, event, bot.now);
                for effect in &effects {
                    bot.state.apply(effect);
                    if let Effect::Page(page) = effect
                        && page.kind == PageKind::Call
                        && page.levels == 1
                    {
                        calls.push(bot.now.since(begin).as_secs() / 60);
                    }
                }
            }
            bot.now = bot.now.plus(Duration::from_secs(300));
        }
    }
    assert_eq!(calls, [0, 10, 30, 70, 150, 310, 550, 790, 1030, 1270]);
}
