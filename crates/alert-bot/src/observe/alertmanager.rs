//! Which alerts Alertmanager knows, and which it keeps back.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use reqwest::Client;
use serde::Deserialize;

use super::{Subject, prometheus::reason};
use crate::{
    engine::{Alert, AlertStatus, Snapshot, Status, Suppression, Tri},
    timestamp::Timestamp,
};

/// Reading the whole list may take this long …
const LIST_LIMIT: Duration = Duration::from_secs(10);
/// … but an action waits for it this long only: the alert itself was the evidence.
const QUICK_LIMIT: Duration = Duration::from_secs(1);
/// After a failure nobody waits for it again for this long.
const PAUSE: Duration = Duration::from_secs(15);

/// A client of Alertmanager's v2 API.
#[derive(Clone)]
pub struct Alertmanager {
    client: Client,
    base: String,
    failed: Arc<Mutex<Option<Instant>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    fingerprint: String,
    starts_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: Option<String>,
    status: ListedStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedStatus {
    #[serde(default)]
    silenced_by: Vec<String>,
    #[serde(default)]
    inhibited_by: Vec<String>,
    #[serde(default)]
    muted_by: Vec<String>,
}

impl ListedStatus {
    fn suppression(&self) -> Option<Suppression> {
        // A silence is a person's word: it counts before the other two.
        if !self.silenced_by.is_empty() {
            Some(Suppression::Silenced(self.silenced_by.clone()))
        } else if !self.inhibited_by.is_empty() {
            Some(Suppression::Inhibited(self.inhibited_by.clone()))
        } else if !self.muted_by.is_empty() {
            Some(Suppression::Muted(self.muted_by.clone()))
        } else {
            None
        }
    }
}

/// Everything that Alertmanager lists.
#[derive(Debug, Default)]
pub struct List {
    /// For closing what is gone or silenced.
    pub snapshot: Snapshot,
    /// Those that burn and are not kept back: for adopting what was missed.
    pub active: Vec<Alert>,
}

impl Alertmanager {
    /// `base` without a trailing slash, e.g. `http://alertmanager:9093`.
    ///
    /// # Errors
    /// The HTTP client could not be built.
    pub fn new(base: &str) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: super::quiet_client(LIST_LIMIT)?,
            base: base.trim_end_matches('/').to_owned(),
            failed: Arc::default(),
        })
    }

    async fn listed(&self, limit: Duration, filter: Option<&str>) -> Result<Vec<Listed>, String> {
        let mut request = self.client.get(format!("{}/api/v2/alerts", self.base)).timeout(limit);
        if let Some(filter) = filter {
            request = request.query(&[("filter", filter)]);
        }
        let result = async {
            let answer = request.send().await.map_err(reason)?;
            if !answer.status().is_success() {
                return Err(format!("answers {}", answer.status()));
            }
            answer.json().await.map_err(|e| format!("answered in an unknown shape: {e}"))
        }
        .await;
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = result.is_err().then(Instant::now);
        result
    }

    /// The whole list.
    pub async fn list(&self) -> Result<List, String> {
        let asked_at = Timestamp::now();
        let listed = self.listed(LIST_LIMIT, None).await?;
        let mut list =
            List { snapshot: Snapshot { asked_at: Some(asked_at), ..Default::default() }, ..Default::default() };
        for alert in listed {
            let suppressed = alert.status.suppression();
            if suppressed.is_none() {
                list.active.push(Alert {
                    status: Status::Firing,
                    fingerprint: alert.fingerprint.clone(),
                    starts_at: Timestamp::parse(&alert.starts_at),
                    labels: alert.labels,
                    annotations: alert.annotations,
                    generator_url: alert.generator_url,
                });
            }
            list.snapshot.alerts.insert(alert.fingerprint, AlertStatus { suppressed });
        }
        Ok(list)
    }

    /// What it says of each alert just now; `None` if it cannot be asked quickly.
    pub async fn statuses(&self) -> Option<BTreeMap<String, AlertStatus>> {
        let paused = self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at.elapsed() < PAUSE);
        if paused {
            return None;
        }
        let listed = self.listed(QUICK_LIMIT, None).await.ok()?;
        Some(
            listed
                .into_iter()
                .map(|a| {
                    let suppressed = a.status.suppression();
                    (a.fingerprint, AlertStatus { suppressed })
                })
                .collect(),
        )
    }

    /// Whether it lists the alert as burning, kept back or not.
    pub async fn fires(&self, subject: &Subject) -> Tri {
        let name = subject.labels.get("alertname").map_or("", String::as_str);
        let filter = format!("alertname=\"{}\"", name.replace('\\', r"\\").replace('"', r#"\""#));
        match self.listed(QUICK_LIMIT * 3, Some(&filter)).await {
            Err(why) => Tri::Unknown(why),
            Ok(listed) if listed.iter().any(|a| a.fingerprint == subject.fingerprint) => Tri::Yes,
            Ok(_) => Tri::No,
        }
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<(), String> {
        let answer = self.client.get(format!("{}/-/ready", self.base)).send().await.map_err(reason)?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("answers {}", answer.status())) }
    }
}
