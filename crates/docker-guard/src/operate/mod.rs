//! The guard's own operations: to make a container anew, to make a further copy, to
//! remove such a copy.
//!
//! What the new container is to be, and what becomes of one that was left half made, is
//! decided in [`crate::policy`]; here it is carried out. The guard keeps no state of its
//! own about it. A new container is created under another name while the old one still
//! runs; then the old one is stopped and steps aside, the new one gets the name and is
//! started, and the old one is removed last. Whoever finds both, after whatever went
//! wrong, can tell what is to be done: see [`crate::policy::repairs`].

mod engine;
mod memory;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio_util::sync::CancellationToken;

pub use self::engine::Engine;
use crate::{
    collector::{Health, Observed},
    policy::{
        self, Blueprint, Container, ContainerId, ImageChoice, Make, Operation, Policy, Reason, Refusal, Repair,
        blueprint,
    },
    server::Guard,
    upstream::UpstreamError,
};

/// How long Docker lets a container stop when neither it nor anybody says.
const DEFAULT_STOP_SECONDS: u32 = 10;
/// How often something half made is looked for.
const REPAIR_INTERVAL: Duration = Duration::from_secs(15);
/// The same until it worked once.
const FIRST_REPAIR_INTERVAL: Duration = Duration::from_secs(2);

/// Why an operation ended without what was asked for.
#[derive(Debug)]
pub enum Stopped {
    /// It was not done, and will not be; things are as they were.
    Denied(Reason, Option<String>),
    /// The daemon failed in a way that leaves open what was done.
    Upstream(UpstreamError),
}

impl Stopped {
    fn denied(reason: Reason, detail: impl Into<String>) -> Self {
        Self::Denied(reason, Some(detail.into()))
    }
}

impl From<UpstreamError> for Stopped {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::denied(refusal.reason, refusal.detail)
    }
}

/// Keeps apart what must not happen to one service at a time: restarts may meet, while a
/// container is made or removed nothing else may.
#[derive(Debug, Default)]
pub struct Services(Mutex<HashMap<String, Arc<RwLock<()>>>>);

impl Services {
    fn of(&self, key: &str) -> Arc<RwLock<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key.to_owned()).or_default().clone()
    }

    /// For what leaves the container the one it is.
    pub fn share(&self, key: &str) -> Option<OwnedRwLockReadGuard<()>> {
        self.of(key).try_read_owned().ok()
    }

    /// For what makes or removes one.
    pub fn hold(&self, key: &str) -> Option<OwnedRwLockWriteGuard<()>> {
        self.of(key).try_write_owned().ok()
    }
}

/// An operation under way.
struct Run<'a> {
    guard: &'a Guard,
    engine: Engine<'a>,
    policy: &'a Policy,
    project: &'a str,
}

/// Carries an operation out on a container that was checked; gives the id of the one that it ended with.
///
/// # Errors
/// Why it did not come to that.
pub async fn run(
    guard: &Guard,
    operation: &Operation,
    container: &Container,
    policy: &Policy,
) -> Result<ContainerId, Stopped> {
    let run = Run::new(guard, policy);
    match operation {
        Operation::AlreadyRecreated => Ok(container.id.clone()),
        Operation::Recreate { stop_seconds, image } => run.recreate(container, *stop_seconds, image.as_ref()).await,
        Operation::Replicate => run.replicate(container).await,
        Operation::RemoveReplica { stop_seconds } => run.remove_replica(container, *stop_seconds).await,
    }
}

impl<'a> Run<'a> {
    fn new(guard: &'a Guard, policy: &'a Policy) -> Self {
        let engine = Engine { upstream: &guard.daemon.upstream, version: policy.versions.max };
        Self { guard, engine, policy, project: policy.project.as_deref().unwrap_or_default() }
    }

    async fn recreate(
        &self,
        container: &Container,
        stop_seconds: Option<u32>,
        image: Option<&ImageChoice>,
    ) -> Result<ContainerId, Stopped> {
        let old = &container.id;
        // What an earlier call left comes first.
        self.repair(Some(container.service_key())).await?;
        let Some(inspect) = self.engine.inspect(old).await? else {
            // It was finished by that just now.
            let made = self.guard.daemon.successor(old, self.engine.version).await?;
            return made.map(|c| c.id).ok_or(Stopped::Denied(Reason::NoSuchContainer, None));
        };
        let chosen = memory::choose(self.engine, container, &inspect, image).await?;
        self.no_dependants(container).await?;
        let other = chosen.other.as_ref().map(|(id, defaults)| (id.as_str(), defaults));
        let plan = blueprint(&inspect, &Make::Replacement { image: &chosen.name, other })?;

        let new = self.make(&plan).await?;
        let expected = stop_seconds.unwrap_or_else(|| own_stop_seconds(&inspect));
        let swapped = async {
            self.engine.stop(old, stop_seconds, expected).await?;
            self.engine.rename(old, &plan.aside).await?;
            self.engine.rename(&new, &plan.name).await?;
            self.engine.start(&new).await
        };
        if let Err(error) = swapped.await {
            tracing::warn!(%error, container = plan.name, "a container was not made anew at the first go");
            self.repair(Some(container.service_key())).await?;
            return match (self.engine.inspect(&new).await?, error) {
                (Some(_), _) => Ok(new),
                (None, UpstreamError::Status { message, .. }) => Err(Stopped::denied(Reason::RolledBack, message)),
                (None, error) => Err(Stopped::denied(Reason::RolledBack, error.to_string())),
            };
        }
        if let Err(error) = self.engine.remove(old, false, false).await {
            tracing::warn!(%error, container = plan.name, "the old container is removed later");
        }
        Ok(new)
    }

    async fn replicate(&self, container: &Container) -> Result<ContainerId, Stopped> {
        self.repair(Some(container.service_key())).await?;
        let inspect = self.engine.inspect(&container.id).await?;
        let inspect = inspect.ok_or(Stopped::Denied(Reason::NoSuchContainer, None))?;
        let entries = self.engine.entries(self.project).await?;
        let number = policy::next_number(&entries, container, self.guard.max_replicas)?;
        let chosen = memory::choose(self.engine, container, &inspect, None).await?;
        let plan = blueprint(&inspect, &Make::Replica { image: &chosen.name, number })?;
        let new = self.make(&plan).await?;
        if let Err(error) = self.engine.start(&new).await {
            self.repair(Some(container.service_key())).await?;
            // An answer that was lost is none that says no.
            return match (self.engine.inspect(&new).await?, error) {
                (Some(_), _) => Ok(new),
                (None, UpstreamError::Status { message, .. }) => Err(Stopped::denied(Reason::DaemonRefused, message)),
                (None, error) => Err(Stopped::denied(Reason::DaemonRefused, error.to_string())),
            };
        }
        Ok(new)
    }

    async fn remove_replica(&self, container: &Container, stop_seconds: Option<u32>) -> Result<ContainerId, Stopped> {
        let expected = match stop_seconds {
            Some(seconds) => seconds,
            None => self.engine.inspect(&container.id).await?.map_or(DEFAULT_STOP_SECONDS, |i| own_stop_seconds(&i)),
        };
        self.engine.stop(&container.id, stop_seconds, expected).await?;
        self.engine.remove(&container.id, false, true).await?;
        Ok(container.id.clone())
    }

    /// Creates a container and connects it; leaves nothing behind if that fails.
    async fn make(&self, plan: &Blueprint) -> Result<ContainerId, Stopped> {
        let refused = |error: UpstreamError| match error {
            UpstreamError::Status { message, .. } => Stopped::denied(Reason::DaemonRefused, message),
            error => Stopped::Upstream(error),
        };
        let new = self.engine.create(&plan.first_name, &plan.body).await.map_err(refused)?;
        for (network, settings) in &plan.connect {
            if let Err(error) = self.engine.connect(network, &new, settings).await {
                self.engine.remove(&new, true, true).await?;
                return Err(refused(error));
            }
        }
        Ok(new)
    }

    /// Containers that live in this one's network hold on to what it was, and would be cut off.
    async fn no_dependants(&self, container: &Container) -> Result<(), Stopped> {
        let modes = [format!("container:{}", container.id), format!("container:{}", container.name)];
        let all = self.engine.list(None).await?;
        let dependant =
            |c: &&Value| c["HostConfig"]["NetworkMode"].as_str().is_some_and(|m| modes.iter().any(|x| x == m));
        let names: Vec<_> = all
            .iter()
            .filter(dependant)
            .map(|c| match policy::Entry::read(c) {
                Some(e) if e.container.project == container.project => e.container.name,
                _ => "one outside of this project".to_owned(),
            })
            .collect();
        if names.is_empty() { Ok(()) } else { Err(Stopped::denied(Reason::HasDependants, names.join(", "))) }
    }

    /// Finishes or undoes what was left half made, of one service or of all that nothing else is done to.
    async fn repair(&self, only: Option<&str>) -> Result<(), UpstreamError> {
        let found = policy::repairs(&self.engine.entries(self.project).await?, self.policy);
        for repair in found {
            let key = repair.service_key();
            let _held = match only {
                // The caller holds it.
                Some(only) if only == key => None,
                Some(_) => continue,
                None => match self.guard.services.hold(key) {
                    Some(held) => Some(held),
                    None => continue,
                },
            };
            // While the list was read and the service waited for, it may have been settled.
            if only.is_none()
                && !policy::repairs(&self.engine.entries(self.project).await?, self.policy).contains(&repair)
            {
                continue;
            }
            let (name, container) = match &repair {
                Repair::Finish { new, .. } => ("finish", &new.container),
                Repair::RollBack { old, .. } => ("roll_back", &old.container),
                Repair::Discard(entry) => ("discard", &entry.container),
            };
            let result = self.settle(&repair).await;
            let code = if result.is_ok() { "done" } else { "failed" };
            self.guard.metrics.repairs.with_label_values(&[name, code]).inc();
            tracing::warn!(
                audit = true,
                verb = "repair",
                repair = name,
                container = container.lasting_name(),
                service = container.service,
                result = code,
                error = result.as_ref().err().map(ToString::to_string).unwrap_or_default(),
                "a container was left half made"
            );
            result?;
        }
        Ok(())
    }

    async fn settle(&self, repair: &Repair) -> Result<(), UpstreamError> {
        match repair {
            Repair::Finish { new, old } => {
                let (new, old) = (&new.container, &old.container);
                self.engine.stop(&old.id, None, DEFAULT_STOP_SECONDS).await?;
                if let Some(name) = new.takes_name.as_ref().filter(|name| **name != new.name) {
                    if old.name == *name {
                        self.engine.rename(&old.id, &format!("{name}.old-{}", old.id.short())).await?;
                    }
                    self.engine.rename(&new.id, name).await?;
                }
                self.engine.remove(&old.id, false, false).await
            }
            Repair::RollBack { new, old } => {
                let (new, old) = (&new.container, &old.container);
                self.engine.remove(&new.id, true, true).await?;
                if let Some(name) = new.takes_name.as_ref().filter(|name| **name != old.name) {
                    self.engine.rename(&old.id, name).await?;
                }
                self.engine.start(&old.id).await
            }
            Repair::Discard(entry) => self.engine.remove(&entry.container.id, true, true).await,
        }
    }
}

fn own_stop_seconds(inspect: &Value) -> u32 {
    let own = inspect["Config"]["StopTimeout"].as_u64().and_then(|s| u32::try_from(s).ok());
    own.unwrap_or(DEFAULT_STOP_SECONDS)
}

/// Looks for what was left half made, at the start and ever after.
pub async fn keep_whole(guard: Arc<Guard>, shutdown: CancellationToken) {
    let mut pause = FIRST_REPAIR_INTERVAL;
    let mut failing = false;
    loop {
        match repair_all(&guard).await {
            Ok(()) => {
                pause = REPAIR_INTERVAL;
                failing = false;
            }
            Err(error) if !failing => {
                tracing::warn!(error, "cannot look for containers that were left half made");
                failing = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn repair_all(guard: &Guard) -> Result<(), String> {
    let mut known = guard.daemon.known();
    if known.versions.is_none() || known.policy.project.is_none() {
        known = guard.daemon.learn().await.map_err(|e| e.to_string())?;
    }
    if known.policy.project.is_none() {
        return Err("the project is not known".to_owned());
    }
    Run::new(guard, &known.policy).repair(None).await.map_err(|e| e.to_string())
}

/// Remembers the images of containers that have been healthy for long enough, once for each of their runs.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<ContainerId, f64>>);

impl Memory {
    /// Looks at all that was seen.
    pub async fn update(&self, guard: &Guard, healthy_after: Duration, now: f64) {
        let due: Vec<_> = {
            let seen = guard.snapshot.all();
            let mut done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            done.retain(|id, _| seen.iter().any(|o| o.state.container.id == *id));
            let proven = |o: &Observed| {
                let started = o.state.started_at?;
                // What is never made anew needs no image to go back to.
                let managed = o.state.container.enabled && !o.state.container.protected;
                (managed && o.state.up && o.state.health == Some(Health::Healthy))
                    .then_some(started)
                    .filter(|s| now - s >= healthy_after.as_secs_f64())
            };
            let new = |o: &Observed| {
                let started = proven(o).filter(|s| done.get(&o.state.container.id) != Some(s))?;
                Some((o.state.clone(), started))
            };
            seen.iter().filter_map(new).collect()
        };
        let known = guard.daemon.known();
        let engine = Engine { upstream: &guard.daemon.upstream, version: known.policy.versions.max };
        for (state, started) in due {
            match memory::remember(engine, &state.container, &state.image, &state.image_id).await {
                Ok(remembered) => {
                    if remembered {
                        guard.metrics.remembered.inc();
                    }
                    self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(state.container.id, started);
                }
                Err(error) => tracing::debug!(%error, "cannot remember an image"),
            }
        }
    }
}
