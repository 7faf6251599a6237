//! Messages to people: Slack, mail, a webhook; delivered at least once.
//!
//! The engine says who is to be called, and the journal keeps it until a
//! receiver has taken it; a restart forgets none. `plan` turns what waits into
//! messages, `text` writes them from the incident as it is when they are sent,
//! and `slack`, `mail` and `webhook` speak to the receivers. Each message
//! has a key that all its retries share.

mod mail;
mod plan;
mod slack;
mod text;
mod webhook;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

pub use mail::{Mailer, Security, Settings as MailSettings};
pub use slack::Slack;
pub use text::{Story, Text, Tone, compose};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
pub use webhook::{IDEMPOTENCY_KEY, SIGNATURE, Webhook, signature};

use crate::{
    engine::PageKind,
    journal::{
        Journal, JournalError,
        outbox::{Message, Thread, Tried, Waiting},
    },
    lease::Lease,
    metrics::Metrics,
    policy::Receiver,
    timestamp::Timestamp,
};

/// A call to a receiver.
pub const LIMIT: Duration = Duration::from_secs(10);
/// How often is looked for what is due without being told.
const LOOK: Duration = Duration::from_secs(1);
/// Between two attempts, doubled each time up to the limit.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Between two messages to the same receiver: Slack takes one a second.
const SPACING: Duration = Duration::from_millis(1100);

/// Who is set up, and how.
#[derive(Default)]
pub struct Receivers {
    /// Slack.
    pub slack: Option<Slack>,
    /// Mail.
    pub mail: Option<Mailer>,
    /// One's own endpoint.
    pub webhook: Option<Webhook>,
}

impl Receivers {
    fn set_up(&self) -> Vec<Receiver> {
        let has = |receiver: &Receiver| match receiver {
            Receiver::Slack => self.slack.is_some(),
            Receiver::Email => self.mail.is_some(),
            Receiver::Webhook => self.webhook.is_some(),
        };
        Receiver::ALL.into_iter().filter(has).collect()
    }
}

/// Why a message was not taken.
#[derive(Clone, Debug)]
pub struct Failure {
    why: String,
    wait: Option<Duration>,
}

impl Failure {
    fn new(why: String) -> Self {
        Self { why, wait: None }
    }

    fn busy(seconds: Option<u64>) -> Self {
        let wait = Duration::from_secs(seconds.unwrap_or(30).clamp(1, 3600));
        Self { why: "too many messages".to_owned(), wait: Some(wait) }
    }

    fn says(&self, word: &str) -> bool {
        self.why.split([' ', ':']).any(|w| w == word)
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        // Without the URL: it may carry a secret.
        Self::new(if error.is_timeout() { "no answer in time" } else { "cannot be reached" }.to_owned())
    }
}

/// What all attempts at a message have in common.
pub fn key(message: &Message) -> String {
    let first = message.envelope.incidents.first().map_or("none", String::as_str);
    format!("selfheal.{}.{}.{}", first, message.envelope.receiver.as_str(), message.id)
}

/// An HTTP client for what may be on the internet: the public certificate
/// authorities are built in, and one's own may be added.
///
/// # Errors
/// The file cannot be read, or holds no certificate.
pub fn client(authorities: Option<&Path>) -> Result<reqwest::Client, String> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = authorities {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let shown = path.display();
        let certificates = CertificateDer::pem_file_iter(path).map_err(|e| format!("cannot read {shown}: {e}"))?;
        let mut added = 0;
        for certificate in certificates {
            let certificate = certificate.map_err(|e| format!("{shown}: {e}"))?;
            roots.add(certificate).map_err(|e| format!("{shown}: {e}"))?;
            added += 1;
        }
        if added == 0 {
            return Err(format!("{shown} holds no certificate"));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .timeout(LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(|e| e.to_string())
}

/// Puts messages together and delivers them.
pub struct Notifier {
    journal: Journal,
    /// Where several bots share the journal: only the one that acts speaks.
    lease: Option<Lease>,
    metrics: Metrics,
    receivers: Receivers,
    client: reqwest::Client,
    /// Where people look at incidents.
    console: String,
    /// How long a call waits for company.
    gather: Duration,
    spacing: Duration,
    /// Not before then, by receiver.
    quiet_until: Mutex<BTreeMap<Receiver, Timestamp>>,
}

impl Notifier {
    /// With no receiver set up, what people should hear is logged.
    pub fn new(
        journal: Journal,
        metrics: Metrics,
        receivers: Receivers,
        client: reqwest::Client,
        console: &str,
        gather: Duration,
    ) -> Self {
        let (console, quiet_until) = (console.to_owned(), Mutex::default());
        Self { journal, lease: None, metrics, receivers, client, console, gather, spacing: SPACING, quiet_until }
    }

    /// Speaks only while this process holds the lease.
    #[must_use]
    pub fn under(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Without pauses between two messages: for tests.
    #[must_use]
    pub fn without_spacing(mut self) -> Self {
        self.spacing = Duration::ZERO;
        self
    }

    /// Runs until told to stop.
    pub async fn run(mut self, posted: Arc<Notify>, shutdown: CancellationToken) {
        loop {
            let token = self.lease.as_ref().map(Lease::certain);
            if let Some(Some(token)) = token {
                self.journal = self.journal.under(token);
            }
            if token != Some(None) {
                self.tick(Timestamp::now()).await;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = posted.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Puts together what has waited long enough and sends what is due, once.
    /// Returns how many messages were delivered.
    pub async fn tick(&self, now: Timestamp) -> usize {
        if let Err(error) = self.put_together(now).await {
            tracing::warn!(%error, "messages to people cannot be put together");
        }
        match self.deliver(now).await {
            Ok(delivered) => delivered,
            Err(error) => {
                tracing::warn!(%error, "messages to people cannot be delivered");
                0
            }
        }
    }

    async fn put_together(&self, now: Timestamp) -> Result<(), JournalError> {
        let waiting = self.journal.outbox_waiting().await?;
        if waiting.is_empty() {
            return Ok(());
        }
        let set_up = self.receivers.set_up();
        let mut lately = 0;
        for receiver in &set_up {
            lately = lately.max(self.journal.messages_since(*receiver, now.minus(plan::LATELY)).await?.len());
        }
        if !plan::ripe(&waiting, plan::patience(self.gather, lately), now) {
            return Ok(());
        }
        let mut told = HashSet::new();
        for page in waiting.iter().map(|w| &w.page).filter(|p| p.kind == PageKind::Update) {
            for receiver in &set_up {
                if self.journal.thread(*receiver, &page.incident).await?.is_some() {
                    told.insert((*receiver, page.incident.clone()));
                }
            }
        }
        let messages = plan::messages(&waiting, &set_up, |r, id| told.contains(&(r, id.to_owned())));
        for message in &messages {
            self.count(message.receiver, message.kind, message.levels, "queued");
        }
        log(&waiting, set_up.is_empty());
        self.journal.gather(waiting.iter().map(|w| w.id).collect(), messages, now).await
    }

    async fn deliver(&self, now: Timestamp) -> Result<usize, JournalError> {
        let mut delivered = 0;
        // What comes later about an incident waits for what came before.
        let mut held: BTreeSet<(Receiver, String)> = BTreeSet::new();
        let waiting = self.journal.messages_waiting().await?;
        let all = waiting.len();
        for message in waiting {
            let receiver = message.envelope.receiver;
            let behind = message.envelope.incidents.iter().any(|id| held.contains(&(receiver, id.clone())));
            let due = message.next_at <= now && !behind && self.may_speak(receiver, now).await;
            // This process may have been stopped meanwhile, and another one have sent it.
            if self.lease.as_ref().is_some_and(|lease| lease.certain().is_none()) {
                break;
            }
            if due && self.attempt(message.clone(), now).await? {
                delivered += 1;
            } else {
                held.extend(message.envelope.incidents.into_iter().map(|id| (receiver, id)));
            }
        }
        self.metrics.waiting.set(i64::try_from(all - delivered).unwrap_or(i64::MAX));
        Ok(delivered)
    }

    async fn may_speak(&self, receiver: Receiver, now: Timestamp) -> bool {
        self.quiet_until.lock().await.get(&receiver).is_none_or(|until| *until <= now)
    }

    async fn attempt(&self, message: Message, now: Timestamp) -> Result<bool, JournalError> {
        let receiver = message.envelope.receiver;
        let (kind, levels) = (message.envelope.kind, message.envelope.levels);
        let result = self.send(&message).await?;
        let mut quiet = self.quiet_until.lock().await;
        quiet.insert(receiver, now.plus(self.spacing));
        match result {
            Ok(thread) => {
                self.count(receiver, kind, levels, "delivered");
                self.journal.message_tried(message, Tried::Delivered(thread), now).await?;
                Ok(true)
            }
            Err(failure) => {
                let backoff = RETRY.saturating_mul(1 << message.attempts.clamp(0, 16)).min(RETRY_MAX);
                if let Some(wait) = failure.wait {
                    quiet.insert(receiver, now.plus(wait));
                }
                let again = now.plus(failure.wait.unwrap_or(backoff));
                self.count(receiver, kind, levels, "failed");
                tracing::warn!(
                    receiver = receiver.as_str(),
                    attempt = message.attempts + 1,
                    error = failure.why,
                    "a message to people was not taken"
                );
                self.journal.message_tried(message, Tried::Failed(again), now).await?;
                Ok(false)
            }
        }
    }

    async fn send(&self, message: &Message) -> Result<Result<Thread, Failure>, JournalError> {
        let envelope = &message.envelope;
        let thread = self.thread(message).await?;
        let texts = self.texts(&envelope.incidents, message).await?;
        let said = said(&texts, envelope.levels, envelope.kind, &thread.said);
        // Incidents that the journal does not hold any more have nothing to tell.
        if texts.is_empty() || thread.said == said {
            return Ok(Ok(thread));
        }
        let result = match envelope.receiver {
            Receiver::Slack => match &self.receivers.slack {
                Some(slack) => {
                    let root = if thread.incidents == envelope.incidents {
                        texts.clone()
                    } else {
                        self.texts(&thread.incidents, message).await?
                    };
                    slack.send(&self.client, message, &texts, &root, thread).await
                }
                None => Ok(thread),
            },
            Receiver::Email => match &self.receivers.mail {
                Some(mail) => mail.send(message, &texts, thread).await,
                None => Ok(thread),
            },
            Receiver::Webhook => match &self.receivers.webhook {
                Some(webhook) => webhook.send(&self.client, message, &texts, thread).await,
                None => Ok(thread),
            },
        };
        Ok(result.map(|thread| Thread { said, ..thread }))
    }

    /// The thread that all of its incidents share, or a new one for them.
    async fn thread(&self, message: &Message) -> Result<Thread, JournalError> {
        let envelope = &message.envelope;
        let mut shared: Option<Thread> = None;
        for id in &envelope.incidents {
            let thread = self.journal.thread(envelope.receiver, id).await?.unwrap_or_default();
            match &shared {
                None => shared = Some(thread),
                Some(first) if first.root == thread.root => {}
                Some(_) => {
                    shared = None;
                    break;
                }
            }
        }
        Ok(shared.unwrap_or_else(|| Thread { incidents: envelope.incidents.clone(), ..Thread::default() }))
    }

    async fn texts(&self, incidents: &[String], message: &Message) -> Result<Vec<Text>, JournalError> {
        let mut texts = Vec::with_capacity(incidents.len());
        for id in incidents {
            let Some(incident) = self.journal.incident(id).await? else { continue };
            let timeline = self.journal.timeline(id).await?;
            let also = match incident.service() {
                Some(service) => self.journal.also_burning(&service, id).await?,
                None => Vec::new(),
            };
            let why = message.envelope.why.get(id).cloned();
            let story = Story { incident, timeline, also, why };
            texts.push(compose(&story, message.envelope.next.as_ref(), &self.console));
        }
        Ok(texts)
    }

    fn count(&self, receiver: Receiver, kind: PageKind, levels: usize, result: &str) {
        let level = level(kind, levels);
        self.metrics.escalations.with_label_values(&[level, receiver.as_str(), result]).inc();
    }
}

/// The label: a closed set, however long the ladder.
fn level(kind: PageKind, levels: usize) -> &'static str {
    match (kind, levels) {
        (PageKind::Update, _) => "update",
        (_, 0 | 1) => "1",
        (_, 2) => "2",
        (_, 3) => "3",
        _ => "4+",
    }
}

/// What has been told with this message: the level, and how things stand. A
/// further level is news even where nothing else is.
fn said(texts: &[Text], levels: usize, kind: PageKind, before: &str) -> String {
    let states: Vec<_> = texts.iter().map(|t| t.said.as_str()).collect();
    let level = match (kind, before.split_once('\n')) {
        (PageKind::Update, Some((level, _))) => level.to_owned(),
        _ => levels.to_string(),
    };
    format!("{level}\n{}", states.join("\n"))
}

fn log(waiting: &[Waiting], nobody: bool) {
    for page in waiting.iter().map(|w| &w.page).filter(|p| p.kind == PageKind::Call) {
        let receivers = if nobody { "none set up" } else { "set up" };
        tracing::warn!(
            incident = page.incident,
            about = page.about,
            title = page.title,
            why = page.text,
            receivers,
            "people are needed"
        );
    }
}
