//! The commands, as the real binary.

use std::{
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use alert_bot::{
    engine::{Effect, NoteKind},
    journal::Journal,
    timestamp::Timestamp,
};
use serde_json::{Value, json};

use crate::{
    api::{alone, line},
    support::{OPERATOR, POLICY},
};

const SECOND: Duration = Duration::from_secs(1);

async fn bot(args: &[&str]) -> Output {
    let args: Vec<_> = args.iter().map(|a| (*a).to_owned()).collect();
    let run = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alert-bot"));
        for variable in ["BOT_URL", "OPERATOR_TOKEN", "OPERATOR_TOKEN_FILE", "JOURNAL_PATH", "TARGET_PROJECT"] {
            command.env_remove(variable);
        }
        command.args(args).output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn incidents_and_freezes_from_the_command_line() {
    let running = alone(POLICY).with("read-access", "token").start().await;
    let url = running.api.url.clone();
    let token = format!("--operator-token={OPERATOR}");
    // One clear line, whatever is wrong.
    for (args, says) in [
        (vec!["incidents", "--url=http://127.0.0.1:9"], "http://127.0.0.1:9 does not answer"),
        (vec!["incidents", "--url", url.as_str()], "the bot wants the operator's token"),
        (vec!["incidents", "--url", url.as_str(), "--operator-token=wrong"], "the bot does not know this token"),
        (vec!["incidents", "nothing", "--url", url.as_str(), token.as_str()], "no such incident"),
        (vec!["incidents", "--state=burning", "--url", url.as_str(), token.as_str()], "state is neither"),
        (vec!["freeze", "--why= ", "--url", url.as_str(), token.as_str()], "why is required"),
    ] {
        let output = bot(&args).await;
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        assert!(
            error.starts_with("alert-bot: ") && error.contains(says) && error.lines().count() == 1,
            "{args:?}: {error}"
        );
    }
    for args in [vec!["freeze"], vec!["freeze", "--why=x", "--for=10"], vec!["incidents", "--colour=red"]] {
        let output = bot(&args).await;
        assert_eq!(output.status.code(), Some(64), "{args:?}: {}", text(&output.stderr));
        assert_eq!(text(&output.stderr).lines().count(), 1, "{args:?}");
    }
    let output = bot(&["incidents", "--url", &url, &token]).await;
    assert_eq!(text(&output.stdout), "no incidents\n");
    running.api.fire(json!({ "alertname": "Disk", "service": "a\u{1b}[2Jb" })).await;
    // The token's file is what the container has.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{OPERATOR}\n")).unwrap();
    let by_file = format!("--operator-token-file={}", file.path().display());
    let shown = loop {
        let output = bot(&["incidents", "--url", &url, &by_file]).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        let shown = text(&output.stdout);
        if shown.contains("Disk") {
            break shown;
        }
        tokio::time::sleep(SECOND / 10).await;
    };
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let output = bot(&["freeze", "--why=a deploy", "--for=1h", "--by=Mira", "--url", &url, &token]).await;
    assert!(text(&output.stdout).starts_with("frozen by Mira until "), "{}", text(&output.stdout));
    let output = bot(&["unfreeze", "--json", "--url", &url, &token]).await;
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["frozen"], false);
    let output = bot(&["incidents", "--json", "--url", &url, &token]).await;
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let id = told["incidents"][0]["id"].as_str().unwrap();
    let output = bot(&["incidents", id, "--url", &url, &token]).await;
    assert!(text(&output.stdout).starts_with("Disk on "), "{}", text(&output.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_is_verified_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    let journal = Journal::open(&path).await.unwrap();
    let lines: Vec<Effect> = (0..5).map(|n| line("x", NoteKind::System, &format!("line {n}"), json!({}))).collect();
    journal.commit(Arc::new(lines), Vec::new(), Timestamp::now()).await.unwrap();
    let file = format!("--journal={}", path.display());
    let output = bot(&["audit", "verify", &file]).await;
    assert!(output.status.success() && text(&output.stdout).starts_with("whole: 5 lines"), "{}", text(&output.stdout));
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut raw = <sqlx::SqliteConnection as sqlx::Connection>::connect_with(&options).await.unwrap();
    sqlx::query("UPDATE audit SET text = 'nothing' WHERE seq = 3").execute(&mut raw).await.unwrap();
    let output = bot(&["audit", "verify", &file]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).starts_with("CHANGED: line 3 was changed"), "{}", text(&output.stdout));
    let output = bot(&["audit", "verify", "--json", &file]).await;
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["intact"], false);
    let output = bot(&["audit", "verify", "--journal=/nowhere/journal.db"]).await;
    assert_eq!((output.status.code(), text(&output.stderr).lines().count()), (Some(1), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_is_decided_anew_under_another_policy() {
    let setting = alone(POLICY);
    let running = setting.start().await;
    for name in ["Disk", "Cache", "Errors", "Unheard"] {
        running.api.fire(json!({ "alertname": name, "service": name.to_lowercase() })).await;
    }
    running.api.until("Errors", |i| i["decision"] == "backend_unavailable").await;
    running.api.until("Unheard", |i| i["decision"] == "no_policy").await;
    running.api.until("Cache", |i| i["decision"] == "left_to_people").await;
    running.stop().await;
    let file = |name: &str, text: &str| {
        let path = setting.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let journal = format!("--journal={}", setting.journal().display());
    let replay = |policy: String| {
        let journal = journal.clone();
        async move {
            let output = bot(&["replay", "--policy", &policy, "--since=1h", &journal, "--json"]).await;
            assert!(output.status.success(), "{}", text(&output.stderr));
            serde_json::from_slice::<Value>(&output.stdout).unwrap()
        }
    };
    // Under the same policy nothing would have been different.
    let same = replay(file("same.yaml", POLICY)).await;
    assert_eq!((&same["incidents"], &same["same"]), (&json!(4), &json!(4)), "{same:#}");
    let other = POLICY.replace("alertname: Disk", "alertname: Unheard").replace(
        "    leave_to_people: it evicts by itself\n",
        "    target: {service: cache}\n    steps: [{action: restart}]\n    verify: {sli: up, above: 0.5}\n",
    );
    let other = file("other.yaml", &other);
    let told = replay(other.clone()).await;
    let different = told["different"].as_array().unwrap();
    let of = |alert: &str| {
        let d = different.iter().find(|d| d["alert"] == alert).unwrap_or_else(|| panic!("{alert} in {told:#}"));
        (d["old"]["reason"].clone(), d["new"]["reason"].clone(), d["new"]["actions"].clone(), d["assumed"].is_string())
    };
    assert_eq!(different.len(), 3, "{told:#}");
    assert_eq!(of("Disk"), (json!("left_to_people"), json!("no_policy"), json!([]), false));
    assert_eq!(of("Unheard"), (json!("no_policy"), json!("left_to_people"), json!([]), false));
    let (old, _, actions, assumed) = of("Cache");
    assert_eq!((old, actions, assumed), (json!("left_to_people"), json!(["restart"]), true));
    let output = bot(&["replay", "--policy", &other, &journal]).await;
    let shown = text(&output.stdout);
    assert!(shown.starts_with("4 incidents since ") && shown.contains("left_to_people -> restart"), "{shown}");
    assert_eq!(bot(&["replay", "--policy", &other, "--since=soon", &journal]).await.status.code(), Some(64));
    let broken = file("broken.yaml", "version: 1\nmode: auto\nrules: []\n");
    let output = bot(&["replay", "--policy", &broken, &journal]).await;
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("broken.yaml:3: "), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_and_simulations_are_for_people_and_for_programs() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.yaml");
    let payload = dir.path().join("payload.json");
    std::fs::write(&policy, POLICY).unwrap();
    std::fs::write(
        &payload,
        json!({ "alerts": [{ "status": "firing", "labels": { "alertname": "Errors" } }] }).to_string(),
    )
    .unwrap();
    let (policy, payload) = (policy.display().to_string(), payload.display().to_string());
    let output = bot(&["check", &policy, "--json"]).await;
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["valid"], true);
    let output = bot(&["simulate", "--policy", &policy, "--payload", &payload]).await;
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told[0]["decision"], "look_up_and_act");
    let output = bot(&["simulate", "--policy", &policy, "--payload", &payload, "--text"]).await;
    assert!(text(&output.stdout).starts_with("Errors  api  look up and act (restart)"), "{}", text(&output.stdout));
    let output = bot(&["check", &payload, "--json"]).await;
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["valid"], false);
}
