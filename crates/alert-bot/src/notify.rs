//! Messages to people, delivered at least once.
//!
//! They wait in the journal until a receiver has taken them; a restart forgets
//! none. The text field alone makes a message that Slack's incoming webhooks show.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use telemetry::{client, config::Secret};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    journal::{Due, Journal},
    metrics::Metrics,
    timestamp::Timestamp,
};

const LIMIT: Duration = Duration::from_secs(5);
/// Between two attempts, doubled each time up to the limit.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(120);

/// Sends what is due.
pub struct Notifier {
    journal: Journal,
    metrics: Metrics,
    client: client::Client,
    url: Option<Secret>,
}

impl Notifier {
    /// Without a URL messages are logged and count as delivered.
    ///
    /// # Errors
    /// The HTTP client could not be built.
    pub fn new(journal: Journal, metrics: Metrics, url: Option<Secret>) -> Result<Self, client::Error> {
        Ok(Self { journal, metrics, client: client::new(LIMIT)?, url })
    }

    /// Runs until told to stop.
    pub async fn run(self, posted: Arc<Notify>, shutdown: CancellationToken) {
        loop {
            self.tick().await;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = posted.notified() => {}
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    /// Sends everything that is due, once. Returns how many were delivered.
    pub async fn tick(&self) -> usize {
        let due = match self.journal.outbox_due(Timestamp::now()).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(%error, "messages to people cannot be read");
                return 0;
            }
        };
        let mut delivered = 0;
        for message in due {
            let result = self.send(&message).await;
            let now = Timestamp::now();
            let wait = RETRY.saturating_mul(1 << message.attempts.clamp(0, 10)).min(RETRY_MAX);
            self.metrics.escalations.with_label_values(&[if result.is_ok() { "delivered" } else { "failed" }]).inc();
            if let Err(error) = &result {
                tracing::warn!(error, attempt = message.attempts + 1, "a message to people was not taken");
            }
            if let Err(error) = self.journal.outbox_tried(message.id, result.is_ok(), now.plus(wait), now).await {
                tracing::warn!(%error, "a message's delivery could not be written down");
            }
            delivered += usize::from(result.is_ok());
        }
        delivered
    }

    async fn send(&self, message: &Due) -> Result<(), String> {
        let page = &message.page;
        tracing::warn!(incident = page.incident, about = page.about, title = page.title, "people are needed");
        let Some(url) = &self.url else { return Ok(()) };
        let body = json!({
            "text": format!("{}\n{}", page.title, page.text),
            "title": page.title,
            "about": page.about,
            "incident": page.incident,
            "at": page.at,
        });
        match self.client.post(url.expose()).json(&body).send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("the receiver answers {}", answer.status())),
            // Without the URL: it may carry a secret.
            Err(error) => Err(if error.is_timeout() { "no answer in time" } else { "cannot be reached" }.to_owned()),
        }
    }
}
