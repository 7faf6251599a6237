//! Reading the daemon: a list every few seconds, an inspect where something
//! changed, events in between, usage at its own pace.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bollard::{
    Docker,
    models::ContainerSummary,
    query_parameters::{EventsOptions, InspectContainerOptions, ListContainersOptions, StatsOptions},
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    model::{self, Usage},
    snapshot::Snapshot,
};
use crate::{
    operate::Memory,
    policy::{ContainerId, PROJECT_LABEL},
    server::Guard,
};

/// Events after which a container is looked at again at once. Left out are
/// those of `exec`: each health check makes three.
pub const EVENTS: [&str; 13] = [
    "create",
    "destroy",
    "die",
    "health_status",
    "kill",
    "oom",
    "pause",
    "rename",
    "restart",
    "start",
    "stop",
    "unpause",
    "update",
];

/// Requests that the collector has under way at a time.
const CONCURRENCY: usize = 4;
/// Docker's answers to these come within milliseconds; later than this something is wrong.
const CALL_SECONDS: u64 = 10;
/// Every so many polls everything is inspected, whether or not it seems to have changed.
const FULL_EVERY: u64 = 12;
/// Without an answer for so long, what was last seen is no longer told.
const STALE_AFTER: Duration = Duration::from_secs(30);
/// Events come in flocks; one poll after the first is enough.
const SETTLE: Duration = Duration::from_millis(200);

/// What a list says about a container, as far as a change of it calls for an inspect.
type Fingerprint = String;

/// Reads the daemon for as long as the guard runs.
pub struct Collector {
    guard: Arc<Guard>,
    snapshot: Arc<Snapshot>,
    /// Containers that an event spoke of since the last poll.
    dirty: Mutex<HashSet<String>>,
    wake: Notify,
    seen: Mutex<HashMap<ContainerId, Fingerprint>>,
    memory: Memory,
    healthy_after: Duration,
}

/// A connection to the daemon with what it takes to ask for the project.
struct Session {
    docker: Docker,
    project: String,
}

impl Collector {
    /// Nothing is read before [`Collector::run`]. An image is remembered as good once a
    /// container of it has been healthy for `healthy_after`.
    pub fn new(guard: Arc<Guard>, healthy_after: Duration) -> Self {
        Self {
            snapshot: guard.snapshot.clone(),
            guard,
            dirty: Mutex::default(),
            wake: Notify::new(),
            seen: Mutex::default(),
            memory: Memory::default(),
            healthy_after,
        }
    }

    /// Reads until shutdown; whatever fails is counted and tried again.
    pub async fn run(self, interval: Duration, stats_interval: Duration, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.poll_states(interval) => {}
            () = self.poll_usage(stats_interval) => {}
            () = self.follow_events() => {}
        }
    }

    async fn poll_states(&self, interval: Duration) {
        let mut last_success = Instant::now();
        let mut failing = false;
        for round in 0_u64.. {
            match self.read_states(round % FULL_EVERY == 0 || failing).await {
                Ok(()) => {
                    if failing {
                        tracing::info!("the docker daemon answers again");
                    }
                    failing = false;
                    last_success = Instant::now();
                    self.guard.metrics.daemon_up.set(1);
                    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                    self.guard.metrics.collector_last_success.set(now.as_secs_f64());
                    self.memory.update(&self.guard, self.healthy_after, now.as_secs_f64()).await;
                }
                Err(error) => {
                    self.guard.metrics.collector_errors.with_label_values(&["list"]).inc();
                    self.guard.metrics.daemon_up.set(0);
                    if !failing {
                        tracing::warn!(error, "cannot read the containers' state");
                    }
                    failing = true;
                    if last_success.elapsed() > STALE_AFTER {
                        // Old news must not pass for the present; nor is a container down
                        // because nobody can say.
                        self.snapshot.retain(|_| false);
                        self.seen().clear();
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = self.wake.notified() => tokio::time::sleep(SETTLE).await,
            }
        }
    }

    /// One poll.
    async fn read_states(&self, everything: bool) -> Result<(), String> {
        let session = self.session(everything).await?;
        let dirty = std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner));
        let filters = HashMap::from([("label".to_owned(), vec![session.label()])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let list = session.docker.list_containers(Some(options)).await.map_err(|e| {
            // What the events spoke of is still to be looked at.
            self.dirty.lock().unwrap_or_else(PoisonError::into_inner).extend(dirty.iter().cloned());
            e.to_string()
        })?;
        let listed: HashMap<ContainerId, Fingerprint> =
            list.iter().filter_map(|c| Some((ContainerId::parse(c.id.as_deref()?)?, fingerprint(c)))).collect();
        self.snapshot.retain(|id| listed.contains_key(id));
        let changed: Vec<_> = {
            let seen = self.seen();
            let differs = |id: &ContainerId, now: &Fingerprint| seen.get(id) != Some(now);
            listed
                .iter()
                .filter(|(id, now)| everything || dirty.contains(id.as_str()) || differs(id, now))
                .map(|(id, now)| (id.clone(), now.clone()))
                .collect()
        };
        self.seen().retain(|id, _| listed.contains_key(id));
        stream::iter(changed).for_each_concurrent(CONCURRENCY, |(id, now)| self.read_state(&session, id, now)).await;
        Ok(())
    }

    async fn read_state(&self, session: &Session, id: ContainerId, now: Fingerprint) {
        match session.docker.inspect_container(id.as_str(), None::<InspectContainerOptions>).await {
            Ok(inspect) => {
                if let Some(state) = model::state(inspect) {
                    self.snapshot.put(state);
                    self.seen().insert(id, now);
                }
            }
            // Removed between list and inspect: the next poll settles it.
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => {
                self.guard.metrics.collector_errors.with_label_values(&["inspect"]).inc();
                tracing::debug!(%error, "cannot inspect a container");
            }
        }
    }

    async fn poll_usage(&self, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // Whether the daemon can be reached is the other loop's to tell.
            let Ok(session) = self.session(false).await else { continue };
            stream::iter(self.snapshot.running())
                .for_each_concurrent(CONCURRENCY, |id| self.read_usage(&session, id))
                .await;
        }
    }

    async fn read_usage(&self, session: &Session, id: ContainerId) {
        match session.usage(&id).await {
            Ok(usage) => self.snapshot.put_usage(&id, usage),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404 | 409, .. }) => {}
            Err(error) => {
                self.guard.metrics.collector_errors.with_label_values(&["stats"]).inc();
                tracing::debug!(%error, "cannot read a container's usage");
            }
        }
    }

    async fn follow_events(&self) {
        let mut pause = Duration::from_secs(1);
        loop {
            if let Ok(session) = self.session(false).await {
                let began = Instant::now();
                if let Err(error) = self.follow(&session).await {
                    self.guard.metrics.collector_errors.with_label_values(&["events"]).inc();
                    tracing::debug!(%error, "the stream of events broke");
                }
                if began.elapsed() > Duration::from_secs(30) {
                    pause = Duration::from_secs(1);
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }

    async fn follow(&self, session: &Session) -> Result<(), bollard::errors::Error> {
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), vec![session.label()]),
            ("event".to_owned(), EVENTS.map(ToOwned::to_owned).to_vec()),
        ]);
        let options = EventsOptions { filters: Some(filters), ..Default::default() };
        let mut events = Box::pin(session.docker.events(Some(options)));
        // What happened while nobody listened shows in the next full poll.
        while let Some(event) = events.try_next().await? {
            let (Some(action), Some(id)) = (event.action, event.actor.and_then(|a| a.id)) else { continue };
            // `health_status: healthy`
            let action = action.split(':').next().unwrap_or_default();
            let Some(action) = EVENTS.iter().find(|known| **known == action) else { continue };
            self.guard.metrics.events.with_label_values(&[action]).inc();
            if let (&"oom", Some(id)) = (action, ContainerId::parse(&id)) {
                self.snapshot.out_of_memory(&id);
            }
            self.dirty.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Connects. With `ask` the daemon is asked for its version first: it may be another one now.
    async fn session(&self, ask: bool) -> Result<Session, String> {
        let mut known = self.guard.daemon.known();
        if ask || known.versions.is_none() || known.policy.project.is_none() {
            known = self.guard.daemon.learn().await.map_err(|e| e.to_string())?;
        }
        let project = known.policy.project.clone().ok_or("the project is not known")?;
        let socket = self.guard.daemon.upstream.socket().to_string_lossy();
        // bollard writes no version into its paths, whatever it is told: the daemon answers in its newest.
        let docker = Docker::connect_with_unix(&socket, CALL_SECONDS, bollard::API_DEFAULT_VERSION)
            .map_err(|e| e.to_string())?;
        Ok(Session { docker, project })
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, HashMap<ContainerId, Fingerprint>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn label(&self) -> String {
        format!("{PROJECT_LABEL}={}", self.project)
    }

    async fn usage(&self, id: &ContainerId) -> Result<Usage, bollard::errors::Error> {
        let options = StatsOptions { stream: false, one_shot: true };
        let mut stats = Box::pin(self.docker.stats(id.as_str(), Some(options)));
        Ok(stats.try_next().await?.map(|s| model::usage(&s)).unwrap_or_default())
    }
}

/// State and the word in brackets of `Up 3 minutes (healthy)`; the minutes are no change.
fn fingerprint(container: &ContainerSummary) -> Fingerprint {
    let state = container.state.map(|s| s.to_string()).unwrap_or_default();
    let status = container.status.as_deref().unwrap_or_default();
    let word = status.split_once('(').map_or("", |(_, rest)| rest.split(')').next().unwrap_or_default());
    let name = container.names.as_deref().and_then(<[String]>::first).map_or("", String::as_str);
    format!("{state} {word} {name}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_clock_that_ticks_is_no_change_and_all_else_is() {
        let seen = |state: &str, status: &str| {
            let summary = json!({"State": state, "Status": status, "Names": ["/a"]});
            fingerprint(&serde_json::from_value(summary).unwrap())
        };
        assert_eq!(seen("running", "Up 3 minutes"), seen("running", "Up 4 minutes"));
        assert_eq!(seen("running", "Up 3 minutes (healthy)"), seen("running", "Up 2 hours (healthy)"));
        assert_ne!(seen("running", "Up 3 minutes (healthy)"), seen("running", "Up 3 minutes (unhealthy)"));
        assert_ne!(seen("running", "Up 3 minutes"), seen("exited", "Exited (137) 1 second ago"));
        assert_ne!(seen("exited", "Exited (0) 1 second ago"), seen("exited", "Exited (137) 1 second ago"));
    }
}
