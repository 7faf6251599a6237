//! One's own HTTP endpoint: a pager, a ticket system, a chat.
//!
//! The document's shape is in docs/notifications.md; `text` alone is what most
//! chats' webhooks show.

use hmac::{Hmac, KeyInit, Mac};
use reqwest::Client;
use serde_json::{Value, json};
use sha2::Sha256;
use telemetry::config::Secret;

use super::{
    Failure,
    text::{self, Text},
};
use crate::{
    journal::outbox::{Message, Thread},
    timestamp::Timestamp,
};

/// `t=UNIX SECONDS,v1=HEX`: HMAC-SHA256 of `SECONDS.BODY`.
pub const SIGNATURE: &str = "x-selfheal-signature";
/// The same at every retry of a message.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Where it is.
pub struct Webhook {
    /// May carry a secret of its own.
    pub url: Secret,
    /// Signs what is sent, if there is one.
    pub secret: Option<Secret>,
}

impl Webhook {
    /// Posts it.
    pub async fn send(
        &self,
        client: &Client,
        message: &Message,
        texts: &[Text],
        thread: Thread,
    ) -> Result<Thread, Failure> {
        let body = document(message, texts).to_string();
        let mut request = client
            .post(self.url.expose())
            .header("content-type", "application/json")
            .header(IDEMPOTENCY_KEY, super::key(message));
        if let Some(secret) = &self.secret {
            request = request.header(SIGNATURE, signature(secret, Timestamp::now(), body.as_bytes()));
        }
        let answer = request.body(body).send().await.map_err(Failure::from)?;
        let wait = answer.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
        match answer.status() {
            status if status.is_success() => Ok(thread),
            status if status.as_u16() == 429 => Err(Failure::busy(wait)),
            status => Err(Failure::new(format!("the endpoint answers {status}"))),
        }
    }
}

/// What is posted.
pub fn document(message: &Message, texts: &[Text]) -> Value {
    let envelope = &message.envelope;
    let plain: Vec<_> = texts.iter().map(Text::plain).collect();
    json!({
        "version": 1,
        "key": super::key(message),
        "kind": envelope.kind,
        "level": envelope.levels,
        "next": envelope.next,
        "at": message.at,
        "title": text::headline(texts),
        "text": plain.join("\n———\n\n"),
        "incidents": texts.iter().map(incident).collect::<Vec<_>>(),
    })
}

fn incident(text: &Text) -> Value {
    let object = |pairs: &[(&'static str, String)]| -> Value {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>().into()
    };
    json!({
        "id": text.incident,
        "subject": text.subject,
        "state": text.state,
        "tone": text.tone,
        "what": text.what,
        "facts": object(&text.facts),
        "tried": text.tried,
        "found": text.found,
        "why": text.why,
        "next": text.next,
        "links": object(&text.links),
    })
}

/// The value of [`SIGNATURE`].
pub fn signature(secret: &Secret, at: Timestamp, body: &[u8]) -> String {
    let seconds = at.millis() / 1000;
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else { return String::new() };
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    format!("t={seconds},v1={hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_can_be_checked_with_any_tool() {
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac secret
        let signed = signature(&Secret::new("secret"), Timestamp::from_millis(1_700_000_000_500), b"{}");
        let wanted = "t=1700000000,v1=b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163";
        assert_eq!(signed, wanted);
    }
}
