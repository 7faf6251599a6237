//! What a message says, whatever it came by; pure.

use mail_parser::{Address, MessageParser};
use serde::Serialize;
use serde_json::Value;

use crate::wire::{self, Violation};

/// What a message would have gone out by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the names say it
pub enum Channel {
    Slack,
    Webhook,
    Email,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 3] = [Self::Slack, Self::Webhook, Self::Email];

    /// Name in the API and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Webhook => "webhook",
            Self::Email => "email",
        }
    }
}

/// A label and its value, shown as a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Label.
    pub name: String,
    /// Value.
    pub value: String,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Draft {
    /// What it came by.
    pub channel: Channel,
    /// First line.
    pub title: String,
    /// The rest, as plain text.
    pub text: String,
    /// Sender, if the channel has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// Recipients, or the Slack channel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// Particulars.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
    /// The message as it came, cut at [`MAX_RAW`].
    pub raw: String,
    /// What its medium would refuse or show badly.
    pub violations: Vec<Violation>,
    /// It was not taken, because of them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
    /// What it can be referred to by: Slack's `ts`, a mail's Message-ID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub handle: String,
    /// Handles that it follows: its thread.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub follows: Vec<String>,
    /// What its sender calls it; a second one of the same key is the same message again.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Of a heartbeat only the last is kept: a beat a minute would push all else out.
    #[serde(skip)]
    pub heartbeat: bool,
}

/// So much of a message is kept as it came.
pub const MAX_RAW: usize = 64 * 1024;
/// So much of its text is shown.
const MAX_TEXT: usize = 16 * 1024;
const MAX_TITLE: usize = 300;
const MAX_FIELDS: usize = 64;

impl Draft {
    /// Says nothing yet.
    pub fn empty(channel: Channel) -> Self {
        Self {
            channel,
            title: String::new(),
            text: String::new(),
            from: String::new(),
            to: Vec::new(),
            fields: Vec::new(),
            raw: String::new(),
            violations: Vec::new(),
            refused: false,
            handle: String::new(),
            follows: Vec::new(),
            key: String::new(),
            heartbeat: false,
        }
    }

    /// What it costs to keep.
    pub fn bytes(&self) -> usize {
        let fields: usize = self.fields.iter().map(|f| f.name.len() + f.value.len()).sum();
        let to: usize = self.to.iter().map(String::len).sum();
        let violations: usize = self.violations.iter().map(|v| v.at.len() + v.what.len()).sum();
        let handles: usize = self.follows.iter().map(String::len).sum::<usize>() + self.handle.len() + self.key.len();
        256 + violations + handles + self.title.len() + self.text.len() + self.from.len() + self.raw.len() + fields + to
    }

    fn bounded(mut self) -> Self {
        cut(&mut self.title, MAX_TITLE);
        cut(&mut self.text, MAX_TEXT);
        cut(&mut self.from, MAX_TITLE);
        cut(&mut self.raw, MAX_RAW);
        self.to.truncate(MAX_FIELDS);
        self.to.iter_mut().for_each(|to| cut(to, MAX_TITLE));
        self.fields.truncate(MAX_FIELDS);
        for field in &mut self.fields {
            cut(&mut field.name, MAX_TITLE);
            cut(&mut field.value, MAX_TEXT / 8);
        }
        for violation in &mut self.violations {
            cut(&mut violation.at, MAX_TITLE);
            cut(&mut violation.what, MAX_TITLE);
        }
        self.follows.truncate(MAX_FIELDS);
        for handle in self.follows.iter_mut().chain([&mut self.handle, &mut self.key]) {
            cut(handle, MAX_TITLE);
        }
        self
    }

    /// What the channel it goes to is called in Slack's API.
    #[must_use]
    pub fn in_thread(mut self, handle: &str, follows: Option<&str>) -> Self {
        self.handle = handle.to_owned();
        self.follows = follows.map(ToOwned::to_owned).into_iter().collect();
        self
    }

    fn say(&mut self, text: &str) {
        let text = text.trim();
        if text.is_empty() || text == self.title {
            return;
        }
        if self.title.is_empty() {
            self.title = text.lines().next().unwrap_or_default().to_owned();
            if self.title == text {
                return;
            }
        }
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(text);
    }

    fn field(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.fields.push(Field { name: name.to_owned(), value: value.to_owned() });
        }
    }
}

fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        let end = (0..=max).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

/// Reads what Slack's incoming webhooks accept: `text`, `attachments`, Block Kit.
///
/// # Errors
/// The word that Slack answers with.
pub fn slack(body: &[u8]) -> Result<Draft, &'static str> {
    let payload: Value = serde_json::from_slice(body).map_err(|_| "invalid_payload")?;
    slack_message(&payload)
}

/// The same of a message that came by the Web API.
///
/// # Errors
/// The word that Slack answers with.
pub fn slack_message(payload: &Value) -> Result<Draft, &'static str> {
    let object = payload.as_object().ok_or("invalid_payload")?;
    let mut draft = Draft::empty(Channel::Slack);
    draft.from = text(payload, "username").to_owned();
    draft.to = Some(text(payload, "channel")).filter(|c| !c.is_empty()).map(ToOwned::to_owned).into_iter().collect();
    blocks(&mut draft, payload);
    draft.say(text(payload, "text"));
    for attachment in array(payload, "attachments") {
        for key in ["title", "pretext", "text"] {
            draft.say(text(attachment, key));
        }
        blocks(&mut draft, attachment);
        if draft.title.is_empty() {
            draft.say(text(attachment, "fallback"));
        }
        for field in array(attachment, "fields") {
            draft.field(text(field, "title"), text(field, "value"));
        }
        draft.field("link", text(attachment, "title_link"));
        draft.field("color", text(attachment, "color"));
        for action in array(attachment, "actions") {
            draft.field(text(action, "text"), text(action, "url"));
        }
    }
    if draft.title.is_empty() {
        let has_content = ["text", "attachments", "blocks"].iter().any(|k| object.contains_key(*k));
        return Err(if has_content { "no_text" } else { "invalid_payload" });
    }
    draft.raw = pretty(payload);
    draft.violations = wire::slack::violations(payload);
    draft.key = text(&payload["metadata"]["event_payload"], "key").to_owned();
    Ok(draft.bounded())
}

/// Block Kit, the parts that say something.
fn blocks(draft: &mut Draft, payload: &Value) {
    for block in array(payload, "blocks") {
        draft.say(text(&block["text"], "text"));
        for field in array(block, "fields") {
            draft.say(text(field, "text"));
        }
        for element in array(block, "elements") {
            draft.say(text(element, "text"));
            draft.field(text(&element["text"], "text"), text(element, "url"));
        }
    }
}

/// Reads any JSON object; of Alertmanager's webhook (version 4) it knows the parts.
///
/// # Errors
/// What is wrong with it.
pub fn webhook(body: &[u8]) -> Result<Draft, String> {
    signed_webhook(body, &wire::webhook::Headers::default(), None, 0)
}

/// The same, and what came with it is checked. `now` in seconds since the epoch.
///
/// # Errors
/// What is wrong with it.
pub fn signed_webhook(
    body: &[u8],
    headers: &wire::webhook::Headers,
    secret: Option<&str>,
    now: i64,
) -> Result<Draft, String> {
    let payload: Value = serde_json::from_slice(body).map_err(|e| format!("the body is not valid JSON: {e}"))?;
    if !payload.is_object() {
        return Err("the body is not a JSON object".to_owned());
    }
    let mut draft = Draft::empty(Channel::Webhook);
    if payload.get("alerts").is_some_and(Value::is_array) {
        alertmanager(&mut draft, &payload);
    } else {
        for key in ["title", "subject", "summary", "message", "text", "body"] {
            draft.say(text(&payload, key));
        }
        if draft.title.is_empty() {
            draft.title = "webhook".to_owned();
        }
    }
    draft.raw = pretty(&payload);
    if wire::webhook::is_ours(&payload) {
        draft.violations = wire::webhook::violations(&payload, body, headers, secret, now);
        // Its incidents are its thread.
        let incidents = array(&payload, "incidents").map(|i| format!("incident {}", text(i, "id")));
        draft.follows = incidents.collect();
    }
    draft.key = headers.key.clone().unwrap_or_default();
    Ok(draft.bounded())
}

fn alertmanager(draft: &mut Draft, payload: &Value) {
    let alerts: Vec<_> = array(payload, "alerts").collect();
    let firing = alerts.iter().filter(|a| text(a, "status") != "resolved").count();
    let name = ["groupLabels", "commonLabels"]
        .iter()
        .map(|key| text(&payload[*key], "alertname"))
        .chain(alerts.iter().map(|a| text(&a["labels"], "alertname")))
        .find(|name| !name.is_empty())
        .unwrap_or("alerts");
    draft.title = if firing > 0 { format!("[FIRING:{firing}] {name}") } else { format!("[RESOLVED] {name}") };
    draft.field("receiver", text(payload, "receiver"));
    draft.field("alertmanager", text(payload, "externalURL"));
    for key in ["commonLabels", "commonAnnotations"] {
        for (name, value) in payload[key].as_object().into_iter().flatten() {
            draft.field(name, value.as_str().unwrap_or_default());
        }
    }
    for alert in alerts.iter().take(20) {
        let labels = alert["labels"].as_object().into_iter().flatten();
        let labels: Vec<_> = labels.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
        let summary = text(&alert["annotations"], "summary");
        let line = format!("{} {} {summary}", text(alert, "status"), labels.join(" "));
        draft.text.push_str(line.trim());
        draft.text.push('\n');
    }
    if alerts.len() > 20 {
        draft.text.push_str(&format!("… and {} more\n", alerts.len() - 20));
    }
}

/// Reads a mail. The envelope says whom it really goes to; the headers what is shown.
pub fn email(envelope_from: &str, envelope_to: &[String], data: &[u8]) -> Draft {
    let mut draft = Draft::empty(Channel::Email);
    draft.raw = String::from_utf8_lossy(data).into_owned();
    draft.from = envelope_from.to_owned();
    draft.to = envelope_to.to_vec();
    if let Some(message) = MessageParser::default().parse(data) {
        draft.title = message.subject().unwrap_or_default().to_owned();
        // Of a mail in both forms the plain one; of HTML alone its text: markup is never shown as such.
        draft.text = message.body_text(0).map(|t| t.trim().to_owned()).unwrap_or_default();
        for (name, address) in [("From", message.from()), ("To", message.to()), ("Cc", message.cc())] {
            draft.field(name, &address.map(addresses).unwrap_or_default());
        }
        draft.field("Date", &message.date().map(mail_parser::DateTime::to_rfc3339).unwrap_or_default());
        draft.field("Message-ID", message.message_id().unwrap_or_default());
        if message.attachment_count() > 0 {
            draft.field("Attachments", &message.attachment_count().to_string());
        }
    }
    if draft.title.is_empty() {
        draft.title = "(no subject)".to_owned();
    }
    draft.violations = wire::mail::violations(data);
    draft.handle = wire::mail::message_id(data).unwrap_or_default();
    draft.follows = wire::mail::references(data);
    draft.key = draft.handle.clone();
    draft.bounded()
}

fn addresses(address: &Address<'_>) -> String {
    let one = |a: &mail_parser::Addr<'_>| match (a.name(), a.address()) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (None, Some(address)) => address.to_owned(),
        (Some(name), None) => name.to_owned(),
        (None, None) => String::new(),
    };
    address.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn array<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(value: Value) -> Vec<u8> {
        serde_json::to_vec(&value).unwrap()
    }

    #[test]
    fn slack_as_alertmanager_sends_it() {
        let draft = slack(&of(json!({
            "channel": "#ops", "username": "Alertmanager", "attachments": [{
                "title": "[FIRING:1] HighErrorRate", "title_link": "http://am/", "text": "too many errors",
                "fallback": "[FIRING:1] HighErrorRate | http://am", "color": "danger",
                "fields": [{"title": "service", "value": "transaction-api", "short": true}],
                "actions": [{"type": "button", "text": "Runbook", "url": "http://runbook/"}],
            }],
        })))
        .unwrap();
        assert_eq!((draft.title.as_str(), draft.text.as_str()), ("[FIRING:1] HighErrorRate", "too many errors"));
        assert_eq!((draft.from.as_str(), draft.to), ("Alertmanager", vec!["#ops".to_owned()]));
        let fields: Vec<_> = draft.fields.iter().map(|f| format!("{}={}", f.name, f.value)).collect();
        assert_eq!(fields, ["service=transaction-api", "link=http://am/", "color=danger", "Runbook=http://runbook/"]);
    }

    #[test]
    fn slack_block_kit() {
        let draft = slack(&of(json!({"text": "fallback", "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": "transaction-api was healed"}},
            {"type": "divider"},
            {"type": "section", "text": {"type": "mrkdwn", "text": "*restart*, verified"}, "fields": [{"type": "mrkdwn", "text": "budget 2/3"}]},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": "incident 7"}]},
            {"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": "Open"}, "url": "http://bot/7"}]},
        ]})))
        .unwrap();
        assert_eq!(draft.title, "transaction-api was healed");
        assert_eq!(draft.text, "*restart*, verified\nbudget 2/3\nincident 7\nfallback");
        assert_eq!(draft.fields, [Field { name: "Open".to_owned(), value: "http://bot/7".to_owned() }]);
    }

    #[test]
    fn what_slack_would_refuse_is_refused_in_its_words() {
        for (body, word) in [
            (&b"{"[..], "invalid_payload"),
            (b"[]", "invalid_payload"),
            (b"{}", "invalid_payload"),
            (br#"{"text": ""}"#, "no_text"),
            (br#"{"text": 3}"#, "no_text"),
            (b"\xff", "invalid_payload"),
        ] {
            assert_eq!(slack(body).unwrap_err(), word);
        }
    }

    #[test]
    fn a_webhook_of_alertmanager_is_told_in_short() {
        let draft = webhook(&of(json!({
            "version": "4", "receiver": "ops", "status": "firing", "groupLabels": {"alertname": "ServiceDown"},
            "commonLabels": {"alertname": "ServiceDown", "severity": "critical"}, "externalURL": "http://am",
            "alerts": [
                {"status": "firing", "labels": {"service": "redis"}, "annotations": {"summary": "redis is down"}},
                {"status": "resolved", "labels": {"service": "lake"}},
            ],
        })))
        .unwrap();
        assert_eq!(draft.title, "[FIRING:1] ServiceDown");
        assert_eq!(draft.text, "firing service=redis redis is down\nresolved service=lake\n");
        assert!(draft.fields.contains(&Field { name: "severity".to_owned(), value: "critical".to_owned() }));
        let resolved = webhook(&of(json!({"alerts": [{"status": "resolved", "labels": {"alertname": "X"}}]}))).unwrap();
        assert_eq!(resolved.title, "[RESOLVED] X");
    }

    #[test]
    fn any_other_object_is_a_webhook_too() {
        assert_eq!(webhook(br#"{"title": "hello", "text": "there"}"#).unwrap().text, "there");
        assert_eq!(webhook(br#"{"a": 1}"#).unwrap().title, "webhook");
        assert!(webhook(b"[1]").is_err());
        assert!(webhook(b"nope").is_err());
    }

    #[test]
    fn a_mail_is_read_by_its_headers_and_its_plain_text() {
        let mail = b"From: Alerts <alerts@stack.local>\r\nTo: ops@stack.local\r\n\
            Subject: =?UTF-8?Q?[FIRING]_Temp=C3=A9rature?=\r\nDate: Fri, 02 Jan 2026 03:04:05 +0000\r\n\
            MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n\
            --b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhot\r\n\
            --b\r\nContent-Type: text/html\r\n\r\n<b>hot</b><script>alert(1)</script>\r\n--b--\r\n";
        let draft = email("alerts@stack.local", &["ops@stack.local".to_owned()], mail);
        assert_eq!((draft.title.as_str(), draft.text.as_str()), ("[FIRING] Température", "hot"));
        let fields: Vec<_> = draft.fields.iter().map(|f| format!("{}={}", f.name, f.value)).collect();
        assert_eq!(fields, ["From=Alerts <alerts@stack.local>", "To=ops@stack.local", "Date=2026-01-02T03:04:05Z"]);
    }

    #[test]
    fn a_mail_of_html_alone_is_shown_as_text() {
        let mail = b"Subject: x\r\nContent-Type: text/html\r\n\r\n<h1>Hot</h1><p>very</p>";
        let draft = email("", &[], mail);
        assert!(draft.text.contains("Hot") && !draft.text.contains('<'), "{}", draft.text);
        assert_eq!(email("", &[], b"").title, "(no subject)");
    }

    #[test]
    fn everything_is_bounded() {
        let long = "ä".repeat(200_000);
        let labels: serde_json::Map<_, _> = (0..500).map(|i| (format!("l{i}"), json!("v"))).collect();
        for draft in [
            slack(&of(json!({"text": long, "channel": long}))).unwrap(),
            webhook(&of(json!({"alerts": [], "commonLabels": labels, "x": long}))).unwrap(),
            email(&long, std::slice::from_ref(&long), format!("Subject: {long}\r\n\r\n{long}").as_bytes()),
        ] {
            assert!(draft.bytes() < 256 * 1024, "{:?} {}", draft.channel, draft.bytes());
            assert!(draft.fields.len() <= MAX_FIELDS);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(data: Vec<u8>) {
            let _ = slack(&data);
            let _ = webhook(&data);
            let _ = email("a", &[], &data);
        }
    }
}
