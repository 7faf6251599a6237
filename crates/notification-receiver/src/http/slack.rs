//! Slack's incoming webhook and the parts of its Web API that send messages.
//!
//! Answers, error words included, are those that Slack documents; what Slack
//! would refuse is refused, and kept all the same, so that one can see why.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    Inbox,
    notification::{self, Channel, Draft},
    wire::slack,
};

/// An incoming webhook: answers `ok`, or a word in plain text.
pub async fn hook(State(inbox): State<Arc<Inbox>>, body: Bytes) -> Response {
    let refuse = |word: &'static str| {
        inbox.refuse(Channel::Slack);
        (StatusCode::BAD_REQUEST, word).into_response()
    };
    match notification::slack(&body) {
        Ok(draft) if hopeless(&draft) => {
            inbox.take(Draft { refused: true, ..draft }, OffsetDateTime::now_utc());
            refuse("invalid_blocks")
        }
        Ok(draft) => {
            inbox.take(draft, OffsetDateTime::now_utc());
            "ok".into_response()
        }
        Err(word) => refuse(word),
    }
}

/// Slack refuses wrong blocks; the rest it takes and shows as it can.
fn hopeless(draft: &Draft) -> bool {
    draft.violations.iter().any(|v| v.at.contains("/blocks") && !v.what.starts_with("calls everybody"))
}

/// `auth.test`
pub async fn auth_test(headers: HeaderMap) -> Json<Value> {
    Json(match authenticated(&headers) {
        Ok(()) => json!({"ok": true, "url": "http://notification-receiver/", "team": "local", "user": "selfheal"}),
        Err(word) => json!({"ok": false, "error": word}),
    })
}

/// `chat.postMessage`
pub async fn post_message(State(inbox): State<Arc<Inbox>>, headers: HeaderMap, body: Bytes) -> Json<Value> {
    answer(&inbox, post(&inbox, &headers, &body))
}

/// `chat.update`
pub async fn update(State(inbox): State<Arc<Inbox>>, headers: HeaderMap, body: Bytes) -> Json<Value> {
    answer(&inbox, edit(&inbox, &headers, &body))
}

/// Slack's word, and what it says more.
type Refusal = (&'static str, Vec<String>);

fn answer(inbox: &Inbox, result: Result<Value, Refusal>) -> Json<Value> {
    Json(match result {
        Ok(answer) => answer,
        Err((word, messages)) => {
            inbox.refuse(Channel::Slack);
            // With status 200, as Slack does.
            json!({"ok": false, "error": word, "response_metadata": {"messages": messages}})
        }
    })
}

fn authenticated(headers: &HeaderMap) -> Result<(), &'static str> {
    let token = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()?.strip_prefix("Bearer "));
    match token {
        None => Err("not_authed"),
        Some(token) if token.starts_with("xox") => Ok(()),
        Some(_) => Err("invalid_auth"),
    }
}

fn arguments(headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
    authenticated(headers).map_err(|word| (word, Vec::new()))?;
    let json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|t| t.split(';').next().is_some_and(|t| t.trim() == "application/json"));
    if !json {
        return Err(("invalid_post_type", Vec::new()));
    }
    serde_json::from_slice(body).ok().filter(Value::is_object).ok_or(("json_not_object", Vec::new()))
}

fn draft(inbox: &Inbox, message: &Value, channel: &str) -> Result<Draft, Refusal> {
    let draft = notification::slack_message(message).map_err(|_| ("no_text", Vec::new()))?;
    let draft = Draft { to: vec![channel.to_owned()], ..draft };
    if !hopeless(&draft) {
        return Ok(draft);
    }
    let messages = draft.violations.iter().map(|v| format!("[ERROR] {} [json-pointer:{}]", v.what, v.at)).collect();
    let too_long = draft.violations.iter().any(|v| v.what.starts_with("msg_blocks_too_long"));
    inbox.take(Draft { refused: true, ..draft }, OffsetDateTime::now_utc());
    Err((if too_long { "msg_blocks_too_long" } else { "invalid_blocks" }, messages))
}

fn post(inbox: &Inbox, headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
    let message = arguments(headers, body)?;
    let argument = |name: &str| message[name].as_str().filter(|v| !v.is_empty());
    let channel = argument("channel").ok_or(("channel_not_found", Vec::new()))?;
    let id = slack::channel_id(channel);
    let thread = argument("thread_ts");
    let mut draft = draft(inbox, &message, channel)?;
    if let Some(thread) = thread {
        match inbox.store.by_handle(Channel::Slack, &handle(&id, thread)) {
            None => return Err(("thread_not_found", Vec::new())),
            // Slack asks for the parent's: a reply to a reply falls out of the thread.
            Some(parent) if parent.thread != parent.id => {
                draft.violations.push(crate::wire::Violation::new("/thread_ts", "is a reply's ts, not its parent's"));
            }
            Some(_) => {}
        }
    } else if message["reply_broadcast"] == true {
        draft.violations.push(crate::wire::Violation::new("/reply_broadcast", "means nothing without thread_ts"));
    }
    let now = OffsetDateTime::now_utc();
    let ts = inbox.next_ts(now);
    let draft = draft.in_thread(&handle(&id, &ts), thread.map(|t| handle(&id, t)).as_deref());
    inbox.take(draft, now);
    Ok(json!({"ok": true, "channel": id, "ts": ts, "message": {"type": "message", "ts": ts, "thread_ts": thread}}))
}

fn edit(inbox: &Inbox, headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
    let message = arguments(headers, body)?;
    let argument = |name: &str| message[name].as_str().unwrap_or_default();
    let (channel, ts) = (argument("channel"), argument("ts"));
    // By name a message can be posted, not changed.
    if !slack::is_channel_id(channel) {
        return Err(("channel_not_found", Vec::new()));
    }
    let draft = draft(inbox, &message, channel)?;
    let known = inbox.store.by_handle(Channel::Slack, &handle(channel, ts)).ok_or(("message_not_found", Vec::new()))?;
    let draft = Draft { to: known.draft.to, ..draft };
    inbox.store.edit(known.id, draft);
    Ok(json!({"ok": true, "channel": channel, "ts": ts, "text": message["text"]}))
}

/// A `ts` is unique within its channel.
fn handle(channel: &str, ts: &str) -> String {
    format!("{channel}/{ts}")
}
