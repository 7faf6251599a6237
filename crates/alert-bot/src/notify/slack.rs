//! Slack: Block Kit, one thread an incident.
//!
//! With a bot's token the first message is a thread's root and is kept up to
//! date by `chat.update`; what is new is a reply. An incoming webhook can do
//! neither: it gets one message for each change of state.

use reqwest::{Client, StatusCode, header};
use serde_json::{Value, json};
use telemetry::config::Secret;

use super::{
    Failure,
    text::{self, Text, Tone},
};
use crate::{
    engine::PageKind,
    journal::outbox::{Message, Thread},
};

/// What Slack allows: https://docs.slack.dev/reference/block-kit/blocks
const MAX_HEADER: usize = 150;
const MAX_SECTION: usize = 3000;
const MAX_FIELD: usize = 2000;
const MAX_FIELDS: usize = 10;
/// Incidents shown in full in one message; the others by their headline.
const MAX_WHOLE: usize = 1;
/// Headlines in one message.
const MAX_LISTED: usize = 20;

/// How to reach Slack.
pub enum Slack {
    /// As a bot in a channel.
    Bot {
        /// `https://slack.com/api`, or what speaks like it.
        api: String,
        /// `xoxb-…`
        token: Secret,
        /// Its id or name.
        channel: String,
    },
    /// By an incoming webhook.
    Hook(Secret),
}

impl Slack {
    /// Says it; says where its thread is now.
    pub async fn send(
        &self,
        client: &Client,
        message: &Message,
        texts: &[Text],
        root: &[Text],
        thread: Thread,
    ) -> Result<Thread, Failure> {
        let key = super::key(message);
        match self {
            Self::Hook(url) => {
                let answer = client.post(url.expose()).json(&body(texts, &key)).send().await.map_err(Failure::from)?;
                let wait = retry_after(&answer);
                match answer.status() {
                    status if status.is_success() => Ok(thread),
                    StatusCode::TOO_MANY_REQUESTS => Err(Failure::busy(wait)),
                    status => Err(Failure::new(format!("Slack answers {status}: {}", word(answer).await))),
                }
            }
            Self::Bot { api, token, channel } => {
                let bot = Bot { client, api, token };
                let fresh = thread.root.is_empty();
                if !fresh {
                    match bot.reply(message, texts, root, &thread, &key).await {
                        // Somebody has deleted the root: the story goes on in a new one.
                        Err(failure) if failure.says("message_not_found") || failure.says("thread_not_found") => {}
                        other => return other.map(|()| thread),
                    }
                }
                let mut body = body(root, &key);
                body["channel"] = json!(channel);
                let answer = bot.call("chat.postMessage", body).await?;
                let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
                Ok(Thread { channel: text("channel"), root: text("ts"), ..thread })
            }
        }
    }
}

struct Bot<'a> {
    client: &'a Client,
    api: &'a str,
    token: &'a Secret,
}

impl Bot<'_> {
    /// The root is brought up to date first: done twice, that is done once. The reply comes last.
    async fn reply(
        &self,
        message: &Message,
        texts: &[Text],
        root: &[Text],
        thread: &Thread,
        key: &str,
    ) -> Result<(), Failure> {
        let mut update = body(root, key);
        update["channel"] = json!(thread.channel);
        update["ts"] = json!(thread.root);
        self.call("chat.update", update).await?;
        let mut reply = body(texts, key);
        reply["channel"] = json!(thread.channel);
        reply["thread_ts"] = json!(thread.root);
        // Still nobody's: the channel sees it too, not only who follows the thread.
        reply["reply_broadcast"] = json!(message.envelope.kind == PageKind::Call);
        self.call("chat.postMessage", reply).await.map(drop)
    }

    async fn call(&self, method: &str, body: Value) -> Result<Value, Failure> {
        let url = format!("{}/{method}", self.api.trim_end_matches('/'));
        let request = self.client.post(url).bearer_auth(self.token.expose()).json(&body);
        let answer = request.send().await.map_err(Failure::from)?;
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            return Err(Failure::busy(retry_after(&answer)));
        }
        let status = answer.status();
        // A refusal comes with status 200.
        let answer: Value = answer.json().await.unwrap_or_default();
        if answer["ok"] == true {
            return Ok(answer);
        }
        let error = answer["error"].as_str().unwrap_or("no answer that Slack would give");
        let details = answer["response_metadata"]["messages"].as_array().into_iter().flatten();
        let details: Vec<_> = details.filter_map(Value::as_str).take(3).collect();
        Err(Failure::new(format!("{method}: {status} {error} {}", details.join("; ")).trim_end().to_owned()))
    }
}

fn retry_after(answer: &reqwest::Response) -> Option<u64> {
    answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

async fn word(answer: reqwest::Response) -> String {
    answer.text().await.unwrap_or_default().chars().filter(|c| !c.is_control()).take(100).collect()
}

/// The message, without where it goes.
pub fn body(texts: &[Text], key: &str) -> Value {
    let headline = text::headline(texts);
    let mut blocks = vec![json!({
        "type": "header",
        "text": {"type": "plain_text", "text": cut(&format!("{} {headline}", sign(texts)), MAX_HEADER), "emoji": true},
    })];
    match texts {
        [one] => whole(&mut blocks, one),
        many => list(&mut blocks, many),
    }
    let ids: Vec<_> = texts.iter().map(|t| t.incident.as_str()).collect();
    json!({
        // What notifications and screen readers say.
        "text": escape(&cut(&headline, MAX_SECTION)),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
        "metadata": {"event_type": "selfheal_incident", "event_payload": {"key": key, "incidents": ids}},
    })
}

fn whole(blocks: &mut Vec<Value>, text: &Text) {
    blocks.push(section(&escape(&text.what)));
    let fields: Vec<_> = text
        .facts
        .iter()
        .take(MAX_FIELDS)
        .map(|(name, value)| mrkdwn(&cut(&format!("*{name}*\n{}", escape(value)), MAX_FIELD)))
        .collect();
    if !fields.is_empty() {
        blocks.push(json!({"type": "section", "fields": fields}));
    }
    let tried = if text.tried.is_empty() { vec!["nothing".to_owned()] } else { text.tried.clone() };
    blocks.push(section(&bullets("Tried", &tried)));
    if !text.found.is_empty() {
        blocks.push(section(&bullets("Found", &text.found)));
    }
    let why = if text.why.is_empty() { String::new() } else { format!("*Why* {}\n", escape(&text.why)) };
    blocks.push(section(&format!("{why}*Next* {}", escape(&text.next))));
    let buttons: Vec<_> = text.links.iter().map(|(name, url)| button(name, url, *name == "Incident")).collect();
    if !buttons.is_empty() {
        blocks.push(json!({"type": "actions", "elements": buttons}));
    }
    let id = mrkdwn(&format!("incident {}", text.incident));
    blocks.push(json!({"type": "context", "elements": [id]}));
}

fn list(blocks: &mut Vec<Value>, texts: &[Text]) {
    let line = |text: &Text| {
        let link = text.links.iter().find(|(name, _)| *name == "Incident");
        let subject = escape(&text.subject);
        let subject = link.map_or_else(|| subject.clone(), |(_, url)| format!("<{url}|{subject}>"));
        format!("{} *{subject}* {}", sign(std::slice::from_ref(text)), escape(&text.state))
    };
    for part in texts.iter().take(MAX_LISTED).collect::<Vec<_>>().chunks(5) {
        let lines: Vec<_> = part.iter().map(|text| line(text)).collect();
        blocks.push(section(&lines.join("\n")));
    }
    if texts.len() > MAX_LISTED {
        blocks.push(section(&format!("… and {} more", texts.len() - MAX_LISTED)));
    }
    if let Some(first) = texts.iter().find(|t| t.tone != Tone::Good).into_iter().take(MAX_WHOLE).next() {
        blocks.push(json!({"type": "divider"}));
        blocks.push(section(&format!("*Next* {}", escape(&first.next))));
    }
}

fn sign(texts: &[Text]) -> &'static str {
    if texts.iter().any(|t| t.tone == Tone::Bad) {
        ":rotating_light:"
    } else if texts.iter().any(|t| t.tone == Tone::Busy) {
        ":wrench:"
    } else {
        ":white_check_mark:"
    }
}

fn bullets(title: &str, lines: &[String]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| format!("• {}", escape(line))).collect();
    format!("*{title}*\n{}", lines.join("\n"))
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": mrkdwn(&cut(text, MAX_SECTION))})
}

fn mrkdwn(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text})
}

fn button(name: &str, url: &str, primary: bool) -> Value {
    let mut button = json!({
        "type": "button",
        "text": {"type": "plain_text", "text": name},
        "url": url,
        "action_id": name.to_lowercase(),
    });
    if primary {
        button["style"] = json!("primary");
    }
    button
}

/// The three characters that Slack gives a meaning: without them no text from
/// outside can name a channel, call everybody, or hide a link.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// By characters, and never through an escape.
fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(max - 1).collect();
    if let Some(start) = out.rfind('&').filter(|start| out.len() - start < 5 && !out[*start..].contains(';')) {
        out.truncate(start);
    }
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_about_one_and_about_many() {
        let one = text::tests::text(text::tests::incident(|_| {}), None);
        insta::assert_json_snapshot!("slack_one", body(std::slice::from_ref(&one), "key"));
        insta::assert_json_snapshot!("slack_many", body(&[one.clone(), Text { tone: Tone::Good, ..one }], "key"));
    }

    #[test]
    fn a_cut_is_by_characters_and_spares_escapes() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("äöüß", 3), "äö…");
        assert_eq!(cut("ab&amp;cd", 6), "ab…");
        assert_eq!(cut("a&amp;b c", 8), "a&amp;b…");
        assert_eq!(escape("<!channel> & <@U1>"), "&lt;!channel&gt; &amp; &lt;@U1&gt;");
    }
}
