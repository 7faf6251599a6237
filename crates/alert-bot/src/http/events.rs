//! `GET /v1/events`: what has changed, as server-sent events.
//!
//! One task looks at the journal when the driver says that something was
//! committed, and tells all listeners. An event's id is the position of the
//! record that it brings one up to: a client that comes back with
//! `Last-Event-ID` is told what it missed, also after a restart of the bot.

#![allow(unused_qualifications, reason = "in what utoipa's attribute expands to")]

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures::{Stream, StreamExt, stream};
use serde_json::json;
use telemetry::problem::Problem;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::{AppState, access::Reader, view::IncidentSummary};
use crate::{
    driver::{Change, RECORD},
    journal::Journal,
    timestamp::Timestamp,
};

/// A sign of life this often, so that both ends notice a dead connection.
const PING: Duration = Duration::from_secs(15);
/// Clients should come back after this time.
const RETRY: Duration = Duration::from_secs(2);
/// Changes that follow each other this quickly are told together.
const TOGETHER: Duration = Duration::from_millis(150);
/// Listeners at a time.
const LISTENERS: usize = 64;
/// Whoever missed more than this many incidents' changes reads the list again.
const MISSED: usize = 200;

/// One thing that has changed.
#[derive(Clone, Debug)]
struct News {
    /// The record's position after it; of several only the last brings one up to it.
    seq: Option<i64>,
    kind: &'static str,
    incident: Option<String>,
    at: Timestamp,
}

/// Tells all listeners.
#[derive(Clone)]
pub struct Feed {
    news: broadcast::Sender<Arc<News>>,
    head: Arc<AtomicI64>,
    listeners: Arc<AtomicUsize>,
    shutdown: CancellationToken,
}

impl Feed {
    /// Starts the task.
    pub fn start(journal: Journal, changes: broadcast::Receiver<Change>, shutdown: CancellationToken) -> Self {
        let (news, _) = broadcast::channel(1024);
        let feed = Self { news, head: Arc::default(), listeners: Arc::default(), shutdown };
        tokio::spawn(feed.clone().run(journal, changes));
        feed
    }

    async fn run(self, journal: Journal, mut changes: broadcast::Receiver<Change>) {
        match journal.head().await {
            Ok(head) => self.head.store(head, Ordering::Release),
            Err(error) => tracing::warn!(%error, "the record's end could not be read"),
        }
        loop {
            let first = tokio::select! {
                () = self.shutdown.cancelled() => return,
                change = changes.recv() => change,
            };
            let mut heard = Vec::new();
            match first {
                Ok(change) => heard.push(change),
                // The record tells what was missed.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
            tokio::time::sleep(TOGETHER).await;
            while let Ok(change) = changes.try_recv() {
                heard.push(change);
            }
            if let Err(error) = self.tell(&journal, heard).await {
                tracing::warn!(%error, "changes could not be read");
            }
        }
    }

    async fn tell(&self, journal: &Journal, heard: Vec<Change>) -> Result<(), crate::journal::JournalError> {
        let since = self.head.load(Ordering::Acquire);
        let (head, mut incidents) = journal.changed_since(since, MISSED + 1).await?;
        let at = Timestamp::now();
        let mut news: Vec<(&'static str, Option<String>)> = Vec::new();
        let general = heard.iter().filter(|c| c.incident.is_none() && c.kind != RECORD);
        let others: BTreeSet<&'static str> = general.map(|c| c.kind).collect();
        news.extend(others.into_iter().map(|kind| (kind, None)));
        if incidents.len() > MISSED {
            news.push(("reset", None));
        } else {
            let unwritten: BTreeSet<String> = heard.into_iter().filter_map(|c| c.incident).collect();
            incidents.extend(unwritten.into_iter().filter(|id| !incidents.contains(id)).collect::<Vec<_>>());
            news.extend(incidents.into_iter().map(|id| ("incident", Some(id))));
        }
        let last = news.len();
        for (n, (kind, incident)) in news.into_iter().enumerate() {
            let seq = (n + 1 == last).then_some(head);
            // Nobody listens: then nobody has missed it.
            let _ = self.news.send(Arc::new(News { seq, kind, incident, at }));
        }
        self.head.store(head, Ordering::Release);
        Ok(())
    }
}

/// Counts a listener for as long as it listens.
struct Listener(Arc<AtomicUsize>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Changes as they are committed: `event: incident` with the incident as in the list, `freeze`, `targets` and
/// `policy` with nothing but their time, `reset` where too much was missed to be told one by one, `ping` every 15 s.
#[utoipa::path(get, path = "/v1/events", tag = "incidents",
    params(("Last-Event-ID" = Option<String>, Header, description = "The last id that was heard: what came after it is told first")),
    responses(
        (status = 200, description = "`text/event-stream`; `data` is JSON: `{at, kind, incident?}`", content_type = "text/event-stream", body = String),
        (status = 400, description = "Last-Event-ID is not one that was given out"),
        (status = 401, description = "Reading needs a token from there"),
        (status = 503, description = "64 listen already, or the bot is being stopped"),
    ))]
pub async fn events(State(app): State<AppState>, _reader: Reader, headers: HeaderMap) -> Result<Response, Problem> {
    let feed = app.feed.clone();
    let listener = Listener(feed.listeners.clone());
    if feed.listeners.fetch_add(1, Ordering::AcqRel) >= LISTENERS || feed.shutdown.is_cancelled() {
        return Err(Problem::unavailable("another place at the feed"));
    }
    let heard = match headers.get("last-event-id").map(|v| v.to_str()) {
        None => None,
        Some(text) => {
            Some(text.ok().and_then(|t| t.trim().parse::<i64>().ok()).filter(|n| *n >= 0).ok_or_else(|| {
                Problem::bad_request("the request is not understood")
                    .field("Last-Event-ID", "is not one that was given out")
            })?)
        }
    };
    // First subscribed, then read: what is committed in between comes twice rather than never.
    let news = feed.news.subscribe();
    let missed = missed(&app.journal, heard).await.map_err(Problem::internal)?;
    let journal = app.journal.clone();
    let live = stream::unfold((news, listener), |(mut news, listener)| async move {
        let told = match tokio::time::timeout(PING, news.recv()).await {
            Err(_) => Told::Ping,
            Ok(Ok(news)) => Told::News(news),
            Ok(Err(broadcast::error::RecvError::Lagged(_))) => Told::Reset,
            Ok(Err(broadcast::error::RecvError::Closed)) => return None,
        };
        Some((told, (news, listener)))
    })
    .then(move |told| {
        let journal = journal.clone();
        async move { told.event(&journal).await }
    });
    let stream = stream::iter(missed).chain(live).take_until(feed.shutdown.cancelled_owned());
    Ok(answer(stream))
}

fn answer(stream: impl Stream<Item = Event> + Send + 'static) -> Response {
    let stream = stream::once(async { Event::default().retry(RETRY).event("ping").data("{}") }).chain(stream);
    let mut response = Sse::new(stream.map(Ok::<_, Infallible>)).into_response();
    // nginx and its like would collect it otherwise.
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    response
}

enum Told {
    News(Arc<News>),
    Ping,
    Reset,
}

impl Told {
    async fn event(self, journal: &Journal) -> Event {
        match self {
            Self::News(news) => {
                let event = event(journal, news.kind, news.incident.as_deref(), news.at).await;
                match news.seq {
                    Some(seq) => event.id(seq.to_string()),
                    None => event,
                }
            }
            Self::Ping => Event::default().event("ping").data(json!({ "at": Timestamp::now() }).to_string()),
            Self::Reset => Event::default().event("reset").data(json!({ "at": Timestamp::now() }).to_string()),
        }
    }
}

async fn event(journal: &Journal, kind: &'static str, incident: Option<&str>, at: Timestamp) -> Event {
    let shown = match incident {
        None => None,
        Some(id) => match journal.incident(id).await {
            Ok(found) => found.map(|i| IncidentSummary::from(&i)),
            Err(error) => {
                tracing::warn!(%error, "a changed incident could not be read");
                None
            }
        },
    };
    let data = match (incident, shown) {
        (None, _) => json!({ "at": at, "kind": kind }),
        (Some(_), Some(shown)) => json!({ "at": at, "kind": kind, "incident": shown }),
        (Some(id), None) => json!({ "at": at, "kind": kind, "incident": { "id": id } }),
    };
    Event::default().event(kind).data(data.to_string())
}

async fn missed(journal: &Journal, heard: Option<i64>) -> Result<Vec<Event>, crate::journal::JournalError> {
    let Some(heard) = heard else {
        // The first id: whoever loses the connection before the first change comes back with it.
        let head = journal.head().await?;
        return Ok(vec![Event::default().event("ping").id(head.to_string()).data("{}")]);
    };
    let (head, incidents) = journal.changed_since(heard, MISSED + 1).await?;
    let at = Timestamp::now();
    if incidents.len() > MISSED || heard > head {
        let data = json!({ "at": at }).to_string();
        return Ok(vec![Event::default().event("reset").id(head.to_string()).data(data)]);
    }
    let mut events = Vec::with_capacity(incidents.len());
    for id in &incidents {
        events.push(event(journal, "incident", Some(id), at).await);
    }
    // Last, so that whoever is cut off before it is told all of it again.
    events.push(Event::default().event("ping").id(head.to_string()).data("{}"));
    Ok(events)
}
