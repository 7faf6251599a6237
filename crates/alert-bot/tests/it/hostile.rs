//! Whatever an attacker or a broken sender may post, against the real process: each has its status, the log
//! stays lines of JSON that no terminal obeys, and the bot works on.

use std::{fs::File, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    process::Process,
    support::{POLICY, Setting, TOKEN},
};

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: usize = 4 * 1024 * 1024;

/// Text that a shell, a path, a template, a query, a page, a terminal or a C string would stumble over.
const EVIL: [&str; 16] = [
    "$(touch /tmp/owned)`id`; rm -rf / && echo ${IFS}",
    "' OR 1=1; DROP TABLE incidents; --",
    "../../v1.41/containers/json?all=1#",
    "/%2e%2e/%2e%2e/etc/passwd",
    "-v /:/host --privileged",
    "{{ printf \"%s\" .Values }} {{service}} ${jndi:ldap://x} #{7*7} <%= 7*7 %>",
    "web\"} or vector(0) #",
    "web\",job=~\".*",
    "<script>alert(1)</script>\"><img src=x onerror=alert(1)>",
    "a\r\nX-Injected: 1\r\n\r\n{\"level\":\"error\"}\n",
    "\u{1b}[2J\u{1b}]0;owned\u{7}\u{1b}P\u{8}\u{8}",
    "\u{9b}31m\u{9d}0;owned\u{9c}\u{7f}\u{85}",
    "\u{202e}gnp.exe\u{2066}\u{2028}\u{2029}\u{feff}",
    "nul\0byte",
    "%s%n%x{0}{}",
    "\u{1f4a5}e\u{301}\u{fffd}\u{10ffff}",
];

fn alert(rest: &str) -> Vec<u8> {
    format!(r#"{{"alerts":[{{"status":"firing",{rest}}}]}}"#).into_bytes()
}

fn nested(before: &str, depth: usize, after: &str) -> Vec<u8> {
    format!("{before}{}{}{after}", "[".repeat(depth), "]".repeat(depth)).into_bytes()
}

/// What is not a notification, each with the field that the answer has to name.
fn malformed() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let many = |n: usize| {
        let labels: Vec<String> = (0..n).map(|i| format!(r#""l{i}":"x""#)).collect();
        alert(&format!(r#""labels":{{"alertname":"A",{}}}"#, labels.join(",")))
    };
    let long = "x".repeat(16 * 1024 + 1);
    let alertname = r#""labels":{"alertname":"A"}"#;
    let megabyte = "\u{9b}a\u{1b}[2J".repeat(128 * 1024);
    let thousands = r#"{"status":"firing","labels":{"alertname":"A"}},"#.repeat(50_000);
    vec![
        ("nothing", vec![], "body"),
        ("spaces", vec![b' '; 1000], "body"),
        ("half of it", br#"{"version":"4","alerts":[{"sta"#.to_vec(), "body"),
        ("two documents", br#"{"alerts":[]}{"alerts":[]}"#.to_vec(), "body"),
        ("a key twice", br#"{"alerts":[],"alerts":[]}"#.to_vec(), "body"),
        ("a list", b"[]".to_vec(), "body"),
        ("null", b"null".to_vec(), "body"),
        ("a word", b"\"alerts\"".to_vec(), "body"),
        ("a number", b"1e999".to_vec(), "body"),
        ("a form", b"alerts=%5B%5D&status=firing".to_vec(), "body"),
        (
            "XML",
            b"<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><a>&b;</a>".to_vec(),
            "body",
        ),
        ("YAML", b"alerts:\n  - !!python/object/apply:os.system [id]\n".to_vec(), "body"),
        ("gzip", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b, 4, 0], "body"),
        ("zeros", vec![0; 4096], "body"),
        ("not UTF-8", b"\xff\xfe\x00".to_vec(), "body"),
        (
            "Latin-1 in a label",
            alert("\"labels\":{\"alertname\":\"\u{0}\"}").iter().map(|b| if *b == 0 { 0xe9 } else { *b }).collect(),
            "body",
        ),
        (
            "overlong UTF-8",
            b"{\"alerts\":[{\"status\":\"firing\",\"labels\":{\"alertname\":\"\xc0\xaf\"}}]}".to_vec(),
            "body",
        ),
        ("UTF-16", r#"{"alerts":[]}"#.encode_utf16().flat_map(u16::to_le_bytes).collect(), "body"),
        ("a byte order mark", "\u{feff}{\"alerts\":[]}".as_bytes().to_vec(), "body"),
        ("half a surrogate pair", alert(r#""labels":{"alertname":"\ud800"}"#), "body"),
        ("a raw escape", alert("\"labels\":{\"alertname\":\"\u{1b}[2J\"}"), "body"),
        ("deep", nested(r#"{"alerts":"#, 100_000, "}"), "body"),
        ("deep and open", nested(r#"{"alerts":[],"x":"#, 100_000, ""), "body"),
        ("deep objects", r#"{"a":"#.repeat(100_000).into_bytes(), "body"),
        ("deep labels", nested(r#"{"alerts":[{"status":"firing","labels":{"alertname":"#, 5_000, "}}]}"), "body"),
        ("version 3", br#"{"version":"3","alerts":[]}"#.to_vec(), "version"),
        ("version 5", br#"{"version":"5","alerts":[]}"#.to_vec(), "version"),
        ("a number as version", br#"{"version":4,"alerts":[]}"#.to_vec(), "body"),
        ("no version at all", br#"{"version":"","alerts":[]}"#.to_vec(), "version"),
        ("a terminal's version", json!({ "version": EVIL[11], "alerts": [] }).to_string().into_bytes(), "version"),
        ("a long version", json!({ "version": &megabyte, "alerts": [] }).to_string().into_bytes(), "version"),
        ("no alerts", br#"{"version":"4"}"#.to_vec(), "body"),
        ("alerts are null", br#"{"alerts":null}"#.to_vec(), "body"),
        ("alerts are a word", json!({ "alerts": &megabyte }).to_string().into_bytes(), "body"),
        ("alerts are words", json!({ "alerts": [EVIL[11]] }).to_string().into_bytes(), "body"),
        ("alerts are keyed", br#"{"alerts":{"0":{}}}"#.to_vec(), "body"),
        ("no status", format!(r#"{{"alerts":[{{{alertname}}}]}}"#).into_bytes(), "body"),
        (
            "a status of its own",
            format!(r#"{{"alerts":[{{"status":"\u001b[2J",{alertname}}}]}}"#).into_bytes(),
            "alerts[0].status",
        ),
        (
            "the second is wrong",
            br#"{"alerts":[{"status":"firing","labels":{"alertname":"A"}},{"status":"firing"}]}"#.to_vec(),
            "alerts[1].labels.alertname",
        ),
        ("no labels", alert(r#""annotations":{}"#), "alerts[0].labels.alertname"),
        ("no name", alert(r#""labels":{"severity":"critical"}"#), "alerts[0].labels.alertname"),
        ("an empty name", alert(r#""labels":{"alertname":""}"#), "alerts[0].labels.alertname"),
        ("a number as name", alert(r#""labels":{"alertname":7}"#), "body"),
        ("labels in a list", alert(r#""labels":[["alertname","A"]]"#), "body"),
        ("too many labels", many(128), "alerts[0].labels"),
        ("a long label", alert(&format!(r#""labels":{{"alertname":"A","x":"{long}"}}"#)), "alerts[0].labels"),
        ("a long label's name", alert(&format!(r#""labels":{{"alertname":"A","{long}":"x"}}"#)), "alerts[0].labels"),
        (
            "a long annotation",
            alert(&format!(r#"{alertname},"annotations":{{"x":"{long}"}}"#)),
            "alerts[0].annotations",
        ),
        ("no time", alert(&format!(r#"{alertname},"startsAt":"soon""#)), "alerts[0].startsAt"),
        ("no day", alert(&format!(r#"{alertname},"startsAt":"2026-02-30T00:00:00Z""#)), "alerts[0].startsAt"),
        ("seconds", alert(&format!(r#"{alertname},"startsAt":1700000000"#)), "body"),
        ("a path as fingerprint", alert(&format!(r#"{alertname},"fingerprint":"../x""#)), "alerts[0].fingerprint"),
        (
            "a long fingerprint",
            alert(&format!(r#"{alertname},"fingerprint":"{}""#, "a".repeat(65))),
            "alerts[0].fingerprint",
        ),
        ("less than nothing cut off", br#"{"alerts":[],"truncatedAlerts":-1}"#.to_vec(), "body"),
        ("more than there can be cut off", br#"{"alerts":[],"truncatedAlerts":1e30}"#.to_vec(), "body"),
        (
            "50,001 alerts",
            format!(r#"{{"alerts":[{thousands}{{"status":"firing","labels":{{"alertname":"A"}}}}]}}"#).into_bytes(),
            "alerts",
        ),
    ]
}

/// One request as bytes; the status line of what comes back, or nothing.
async fn raw(address: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(request).await;
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(10 * SECOND, stream.read(&mut answer)).await;
    let read = read.expect("an answer or an end").unwrap_or(0);
    String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned()
}

/// A line of the log, held to what any of them must be.
fn log_line(line: &str) -> Value {
    assert!(
        line.len() < 8 * 1024,
        "{} bytes in one line: {}…",
        line.len(),
        &line.chars().take(200).collect::<String>()
    );
    let odd = line
        .chars()
        .find(|c| c.is_control() || ('\u{2028}'..='\u{202e}').contains(c) || ('\u{2066}'..='\u{2069}').contains(c));
    assert_eq!(odd, None, "{}", line.escape_debug());
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

#[tokio::test]
async fn whatever_is_posted_is_refused_or_text() {
    // Neither is asked: what is tried here must not get that far. Docker is, for what there is to heal.
    let nowhere = "http://127.0.0.1:9";
    let setting = Setting::new(POLICY)
        .with("webhook-max-bytes", &LIMIT.to_string())
        .with("prometheus-url", nowhere)
        .with("alertmanager-url", nowhere);
    let log = setting.dir.path().join("log");
    let mut bot = Process::start_writing(&setting, None, Stdio::from(File::create(&log).unwrap())).await;
    let address = bot.api.url.trim_start_matches("http://").to_owned();

    let refused = malformed();
    for (what, body, field) in &refused {
        let (status, problem) = bot.api.post(body.clone()).await;
        assert_eq!((status, problem["errors"][0]["field"].as_str()), (400, Some(*field)), "{what}: {problem}");
        assert!(problem.to_string().len() < 2048, "{what}: an answer of {} bytes", problem.to_string().len());
    }
    assert_eq!(bot.api.get("/v1/incidents").await["incidents"], json!([]), "nothing of it was taken up");

    // What a machine adds is not looked at, however deep it goes.
    assert_eq!(bot.api.post(nested(r#"{"alerts":[],"x":"#, 100_000, "}")).await.0, 202);
    assert_eq!(bot.api.post(vec![b' '; LIMIT + 1]).await.0, 413);
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let body = r#"{"alerts":[]}"#;
    for (request, statuses) in [
        (
            format!("POST /webhook HTTP/1.1\r\nHost: b\r\n{bearer}Content-Length: {}\r\n\r\n", usize::MAX),
            &["413", "400", "431"][..],
        ),
        (
            format!("POST /webhook HTTP/1.1\r\nHost: b\r\n{bearer}Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde"),
            &["400"],
        ),
        (format!("POST /webhook HTTP/1.1\r\nHost: b\r\n{bearer}Content-Length: -1\r\n\r\n"), &["400"]),
        (format!("POST /webhook HTTP/1.1\r\nHost: b\r\n{bearer}Transfer-Encoding: chunked\r\n\r\nzz\r\n"), &["400"]),
        (format!("POST /webhook HTTP/1.1\r\nHost: b\r\nX: {}\r\n\r\n", "x".repeat(1024 * 1024)), &["431"]),
        (format!("POST /{} HTTP/1.1\r\nHost: b\r\n\r\n", "x".repeat(70_000)), &["414", "404"]),
        ("POST /webhook\r\n\r\n".to_owned(), &["400"]),
        ("\u{1b}[2J\u{9b}\0\r\n\r\n".to_owned(), &["400"]),
        (format!("GET /webhook HTTP/1.1\r\nHost: b\r\n{bearer}\r\n"), &["405"]),
        (format!("POST /webhook/../v1/freeze HTTP/1.1\r\nHost: b\r\n{bearer}Content-Length: 0\r\n\r\n"), &["404"]),
        (format!("POST /webhook HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\n\r\n{body}", body.len()), &["401"]),
        (
            format!(
                "POST /webhook HTTP/1.1\r\nHost: b\r\nAuthorization: Basic {}\r\nContent-Length: 0\r\n\r\n",
                "=".repeat(9000)
            ),
            &["401"],
        ),
    ] {
        let line = raw(&address, request.as_bytes()).await;
        let shown: String = request.chars().take(120).collect();
        assert!(statuses.iter().any(|s| line.contains(&format!(" {s} "))), "{shown:?}: {line:?}");
    }
    let refused_header = raw(
        &address,
        b"POST /webhook HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer \xff\xfe\r\nContent-Length: 0\r\n\r\n",
    );
    assert!(refused_header.await.contains(" 401 "));

    // What is well formed is text, in every place where text can be.
    for (i, evil) in EVIL.iter().enumerate() {
        let alerts = json!([
            { "status": "firing", "labels": { "alertname": evil, "service": evil, *evil: evil, "severity": evil },
              "annotations": { "summary": evil, *evil: evil }, "generatorURL": evil,
              "startsAt": "2026-07-01T10:00:00Z", "endsAt": evil, "unknown": evil },
            { "status": "firing", "labels": { "alertname": "Errors", "service": evil } },
            { "status": "resolved", "labels": { "alertname": format!("{evil}{i}") }, "startsAt": "9999-12-31T23:59:59Z" },
        ]);
        let body = json!({ "version": "4", "receiver": evil, "groupKey": evil, "status": evil, "groupLabels": { *evil: evil },
            "externalURL": evil, "truncatedAlerts": 0, "alerts": alerts });
        let (status, answer) = bot.api.post(body.to_string()).await;
        assert_eq!((status, &answer["accepted"]), (202, &json!(3)), "{evil:?}");
        let found = bot.api.until(evil, |i| i["decision"] == "no_policy").await;
        assert_eq!(found["labels"]["service"], *evil);
    }
    let list = bot.api.get("/v1/incidents?limit=500").await;
    let targets: Vec<_> = list["incidents"].as_array().unwrap().iter().filter(|i| i["alertname"] == "Errors").collect();
    assert_eq!(targets.len(), EVIL.len());
    for incident in targets {
        let id = incident["id"].as_str().unwrap();
        let whole = bot.api.get(&format!("/v1/incidents/{id}")).await;
        assert_eq!(whole["actions"], json!([]), "{whole:#}");
        assert_eq!(whole["decision"], "invalid_target", "{whole:#}");
    }

    // It is unharmed: what is right is still taken up, and the record is whole.
    bot.api.fire(json!({ "alertname": "Disk" })).await;
    bot.api.until("Disk", |i| i["decision"] == "left_to_people").await;
    assert_eq!(bot.api.get("/v1/audit/verify").await["intact"], true);
    assert_eq!(bot.api.status_of("/health").await, 200);
    assert!(!bot.dead());
    bot.kill();

    let text = std::fs::read_to_string(&log).expect("the log is UTF-8");
    let lines: Vec<Value> = text.split_terminator('\n').map(log_line).collect();
    let told = lines.iter().filter(|l| l["message"] == "a notification was not understood").count();
    assert_eq!(told, refused.len(), "one line each");
    assert!(lines.iter().all(|l| l["level"] != "error" || l["message"] != "panicked"), "{text}");
    assert!(!text.contains("panicked") && !text.contains(TOKEN), "{text}");
}
