//! The console's pages and forms, without a browser.

use std::sync::Arc;

use alert_bot::engine::NoteKind;
use reqwest::StatusCode;
use serde_json::json;

use crate::{
    api::{Browser, alone, line},
    support::{Bot, OPERATOR, POLICY, Setting},
};

const PAGES: [&str; 6] = ["/", "/targets", "/policy", "/decisions", "/audit", "/decisions?alert=Disk"];

async fn disk(bot: &Bot) -> String {
    bot.api.fire(json!({ "alertname": "Disk" })).await;
    let found = bot.api.until("Disk", |i| i["decision"] == "left_to_people").await;
    found["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn pages_need_a_login_and_lead_back_to_where_one_was() {
    let bot = alone(POLICY).with("read-access", "token").start().await;
    let mut browser = Browser::new(&bot.api.url);
    for page in PAGES {
        let answer = browser.get(page).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{page}");
        assert!(answer.headers()["location"].to_str().unwrap().starts_with("/login?next=%2F"), "{page}");
    }
    let csrf = browser.csrf("/login?next=%2Faudit%3Fkind%3Dopened").await;
    for (fields, status) in [
        (vec![("name", "Mira"), ("token", OPERATOR)], StatusCode::FORBIDDEN),
        (vec![("csrf", "AAAA"), ("name", "Mira"), ("token", OPERATOR)], StatusCode::FORBIDDEN),
        (vec![("csrf", csrf.as_str()), ("name", "Mira"), ("token", "wrong")], StatusCode::UNAUTHORIZED),
        (vec![("csrf", csrf.as_str()), ("name", " "), ("token", OPERATOR)], StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        assert_eq!(browser.post("/login", &fields).await.status(), status, "{fields:?}");
        assert!(!browser.cookie().contains("alert-bot-session"), "{fields:?}");
    }
    let away = [("csrf", csrf.as_str()), ("name", "Mira"), ("token", OPERATOR), ("next", "//evil.example/")];
    let answer = browser.post("/login", &away).await;
    assert_eq!(answer.headers()["location"], "/");
    for page in PAGES {
        let text = browser.text(page).await;
        assert!(text.contains("Log out") && text.contains("Mira"), "{page}");
    }
    // Logged out, the cookie is worth nothing even if somebody kept it.
    let kept = browser.cookies.clone();
    let csrf = browser.csrf("/").await;
    assert_eq!(browser.post("/logout", &[("csrf", "x")]).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(browser.post("/logout", &[("csrf", csrf.as_str())]).await.status(), StatusCode::SEE_OTHER);
    browser.cookies = kept;
    assert_eq!(browser.get("/").await.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn forms_do_nothing_without_their_token_and_a_login() {
    let bot = alone(POLICY).start().await;
    let id = disk(&bot).await;
    let close = format!("/incidents/{id}/close");
    let freeze = [("frozen", "true"), ("why", "x"), ("for", "1h")];
    // From loopback one reads without a login, and changes nothing.
    let mut visitor = Browser::new(&bot.api.url);
    let csrf = visitor.csrf("/policy").await;
    for (path, fields) in [(close.as_str(), &[][..]), ("/freeze", &freeze[..])] {
        let with = [fields, &[("csrf", csrf.as_str())]].concat();
        assert_eq!(visitor.post(path, &with).await.status(), StatusCode::SEE_OTHER, "{path}: to the login");
    }
    assert_eq!(bot.api.get("/v1/freeze").await["frozen"], false);
    let mut browser = Browser::new(&bot.api.url);
    browser.log_in().await;
    // The token of a visitor's page is not the one of this session.
    for token in ["", csrf.as_str()] {
        for (path, fields) in
            [(close.as_str(), &[][..]), ("/freeze", &freeze[..]), ("/policy", &[("payload", "{}")][..])]
        {
            let with = [fields, &[("csrf", token)]].concat();
            assert_eq!(browser.post(path, &with).await.status(), StatusCode::FORBIDDEN, "{path}");
        }
    }
    assert_eq!(bot.api.get("/v1/freeze").await["frozen"], false);
    let csrf = browser.csrf(&format!("/incidents/{id}")).await;
    let with = [&freeze[..], &[("csrf", csrf.as_str()), ("back", "/targets")]].concat();
    let answer = browser.post("/freeze", &with).await;
    assert_eq!((answer.status(), answer.headers()["location"].to_str().unwrap()), (StatusCode::SEE_OTHER, "/targets"));
    let frozen = bot.api.get("/v1/freeze").await;
    assert_eq!((&frozen["by"], &frozen["why"]), (&json!("Mira Roth"), &json!("x")));
    assert!(frozen["until"].is_string());
    for page in PAGES {
        let text = browser.text(page).await;
        assert!(text.contains("Frozen by Mira Roth"), "{page}");
    }
    let answer = browser.post(&close, &[("csrf", csrf.as_str()), ("note", "seen to it")]).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let closed = bot.api.get(&format!("/v1/incidents/{id}")).await;
    assert_eq!(closed["outcome"], "closed_by_operator");
    let page = browser.text(&format!("/incidents/{id}")).await;
    assert!(page.contains("close by Mira Roth: seen to it"), "{page}");
    // A second time it is not possible any more, and the page says so.
    let answer = browser.post(&close, &[("csrf", csrf.as_str())]).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    assert!(answer.text().await.unwrap().contains("the incident is closed"));
}

#[tokio::test]
async fn a_form_sent_from_another_port_is_refused() {
    let bot = alone(POLICY).start().await;
    let mut browser = Browser::new(&bot.api.url);
    browser.log_in().await;
    let csrf = browser.csrf("/").await;
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    for (site, status) in [("same-site", 403), ("cross-site", 403), ("same-origin", 303), ("none", 303)] {
        let request = client.post(format!("{}/freeze", bot.api.url)).header("cookie", browser.cookie());
        let request =
            request.header("sec-fetch-site", site).header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body(format!("csrf={csrf}&frozen=false")).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{site}");
    }
}

#[tokio::test]
async fn what_an_alert_says_is_text_on_every_page() {
    let bot = alone(POLICY).start().await;
    let evil = "<img src=x onerror=alert(1)>$(reboot)\u{1b}[2J\u{202e}\"'--></script><script>alert(2)</script>";
    let body = json!({ "alerts": [{
        "status": "firing",
        "labels": { "alertname": evil, "service": evil, "severity": evil, "name": evil },
        "annotations": { "summary": evil, "description": evil },
        "generatorURL": "javascript:alert(3)",
    }] });
    assert_eq!(bot.api.post(body.to_string()).await.0, 202);
    let found = bot.api.until(evil, |i| i["decision"] == "no_policy").await;
    let id = found["id"].as_str().unwrap();
    let mut browser = Browser::new(&bot.api.url);
    let name: String = evil.bytes().map(|b| format!("%{b:02X}")).collect();
    let pages = PAGES.map(str::to_owned).into_iter().chain([
        format!("/incidents/{id}"),
        format!("/decisions?alert={name}"),
        format!("/?service={name}"),
    ]);
    for page in pages {
        let answer = browser.get(&page).await;
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        let text = answer.text().await.unwrap();
        for wrong in ["<img src=x", "<script>", "javascript:", "\u{1b}", "\u{202e}", " style=", " onclick="] {
            assert!(!text.contains(wrong), "{page}: {wrong}");
        }
        for tag in text.split("<script").skip(1) {
            assert!(tag.starts_with(" src=\"/assets/"), "{page}: a script of its own only");
        }
    }
}

#[tokio::test]
async fn under_a_proxy_s_path_every_link_stays_there() {
    let bot = alone(POLICY).start().await;
    let id = disk(&bot).await;
    for path in PAGES.map(str::to_owned).into_iter().chain([format!("/incidents/{id}"), "/login".to_owned()]) {
        let request = bot.api.client.get(format!("{}{path}", bot.api.url)).header("x-forwarded-prefix", "/bot");
        let text = request.send().await.unwrap().text().await.unwrap();
        for attribute in ["href=\"", "action=\"", "src=\"", "data-events=\""] {
            for link in text.split(attribute).skip(1).map(|l| l.split('"').next().unwrap()) {
                assert!(link.starts_with("/bot/") || link.starts_with('#'), "{path}: {attribute}{link}");
            }
        }
    }
}

#[tokio::test]
async fn the_simulator_works_without_a_login_and_names_faults() {
    let bot = alone(POLICY).start().await;
    let mut browser = Browser::new(&bot.api.url);
    let csrf = browser.csrf("/policy").await;
    let payload = r#"{"alerts":[{"status":"firing","labels":{"alertname":"Disk"}}]}"#;
    let answer = browser.post("/policy", &[("csrf", csrf.as_str()), ("payload", payload), ("policy", "")]).await;
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    assert!(text.contains("left_to_people") && text.contains("no container is at fault"), "{text}");
    let other = POLICY.replace("no container is at fault", "because").replace("alertname: Errors", "alertname: Disc");
    let answer =
        browser.post("/policy", &[("csrf", csrf.as_str()), ("payload", payload), ("policy", other.as_str())]).await;
    assert!(answer.text().await.unwrap().contains("because"));
    let wrong = "version: 1\nmode: auto\nrules: [{name: x}]\n";
    let answer = browser.post("/policy", &[("csrf", csrf.as_str()), ("payload", payload), ("policy", wrong)]).await;
    assert_eq!(answer.status(), 422);
    let text = answer.text().await.unwrap();
    assert!(text.contains("line 3") && text.contains("role=\"alert\""), "{text}");
}

/// An incident whose evidence is in the journal before the bot starts.
async fn with_evidence(setting: &Setting) -> String {
    let bot = setting.start().await;
    bot.api.fire(json!({ "alertname": "Errors", "service": "api" })).await;
    let found = bot.api.until("Errors", |i| i["decision"] == "backend_unavailable").await;
    bot.stop().await;
    let id = found["id"].as_str().unwrap().to_owned();
    let journal = alert_bot::journal::Journal::open(&setting.journal()).await.unwrap();
    let points: Vec<_> = (0..60).map(|n| json!([1_751_364_000 + n * 5, if n < 30 { 0.4 } else { 0.02 }])).collect();
    let effects = vec![
        line(&id, NoteKind::Evidence, "the container's last words", json!({ "logs": ["first", "<b>last</b>"] })),
        line(&id, NoteKind::Evidence, "the curve", json!({ "sli": { "query": "rate(errors[1m])", "points": points } })),
        line(
            &id,
            NoteKind::Evidence,
            "a look into the database",
            json!({ "findings": [
            { "what": "waits for a lock", "value": 12.5, "unit": "s", "detail": "pid 4711 holds it" }
        ], "traces_url": "http://localhost:3000/explore" }),
        ),
        line(
            &id,
            NoteKind::Evidence,
            "hostile",
            json!({ "traces_url": "javascript:alert(1)", "findings": "none", "sli": 1 }),
        ),
    ];
    journal.commit(Arc::new(effects), Vec::new(), alert_bot::timestamp::Timestamp::now()).await.unwrap();
    id
}

#[tokio::test]
async fn evidence_is_drawn_listed_and_can_be_read_aloud() {
    let setting = alone(POLICY);
    let id = with_evidence(&setting).await;
    let bot = setting.start().await;
    let mut browser = Browser::new(&bot.api.url);
    let page = browser.text(&format!("/incidents/{id}")).await;
    assert!(page.contains("role=\"img\"") && page.contains("<title id=") && page.contains("<desc id="), "{page}");
    assert!(page.contains("It must be below 0.5.") && page.contains("limit 0.5"), "{page}");
    assert!(page.contains("The same as a table") && page.contains("<th scope=\"col\">Value</th>"));
    assert!(page.contains("first\n&lt;b&gt;last&lt;/b&gt;"));
    assert!(page.contains("12.5 s") && page.contains("pid 4711 holds it"));
    assert!(page.contains("href=\"http://localhost:3000/explore\"") && !page.contains("href=\"javascript:"));
    // What it waits for, and why it does not act.
    assert!(page.contains("backend_unavailable") && page.contains("Steps of the rule"));
}
