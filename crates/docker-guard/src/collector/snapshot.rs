//! The last that was seen of each container.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::model::{State, Usage};
use crate::policy::{self, ContainerId, Entry};

/// One container as last seen.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Its state.
    pub state: State,
    /// Its usage; `None` while it does not run.
    pub usage: Option<Usage>,
    /// Out-of-memory kills that were reported while the guard watched.
    pub oom_events: u64,
}

/// All containers of the project. What is gone from the daemon is gone from here.
#[derive(Debug, Default)]
pub struct Snapshot {
    containers: RwLock<BTreeMap<ContainerId, Observed>>,
}

impl Snapshot {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, BTreeMap<ContainerId, Observed>> {
        self.containers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<ContainerId, Observed>> {
        self.containers.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them.
    pub fn all(&self) -> Vec<Observed> {
        self.read().values().cloned().collect()
    }

    /// One for each name: what is only half made, or about to go, is not among them.
    pub(super) fn shown(&self) -> Vec<Observed> {
        let all = self.all();
        let entry = |o: &Observed| Entry {
            container: o.state.container.clone(),
            started: o.state.started_at.is_some(),
            number: 0,
        };
        let hidden = policy::hidden(&all.iter().map(entry).collect::<Vec<_>>());
        let mut shown: BTreeMap<String, Observed> = BTreeMap::new();
        for observed in all.into_iter().filter(|o| !hidden.contains(&o.state.container.id)) {
            let rank = |o: &Observed| (o.state.up, o.state.started_at.unwrap_or(0.0));
            let name = observed.state.container.lasting_name().to_owned();
            // A name may have gone over from one to the other between two looks.
            if shown.get(&name).is_none_or(|other| rank(other) < rank(&observed)) {
                shown.insert(name, observed);
            }
        }
        shown.into_values().collect()
    }

    /// Takes in a state that was just read.
    pub fn put(&self, state: State) {
        let mut containers = self.write();
        match containers.get_mut(&state.container.id) {
            Some(observed) => {
                if !state.up {
                    observed.usage = None;
                }
                observed.state = state;
            }
            None => {
                containers.insert(state.container.id.clone(), Observed { state, usage: None, oom_events: 0 });
            }
        }
    }

    /// Takes in a usage that was just read.
    pub fn put_usage(&self, id: &ContainerId, usage: Usage) {
        if let Some(observed) = self.write().get_mut(id).filter(|o| o.state.up) {
            observed.usage = Some(usage);
        }
    }

    /// Counts an out-of-memory kill.
    pub fn out_of_memory(&self, id: &ContainerId) {
        if let Some(observed) = self.write().get_mut(id) {
            observed.oom_events += 1;
        }
    }

    /// Forgets all that `keep` does not name.
    pub fn retain(&self, keep: impl Fn(&ContainerId) -> bool) {
        self.write().retain(|id, _| keep(id));
    }

    /// Those that run.
    pub fn running(&self) -> Vec<ContainerId> {
        self.read().iter().filter(|(_, o)| o.state.up).map(|(id, _)| id.clone()).collect()
    }

    /// The name of the container that has this address.
    pub fn name_of(&self, address: IpAddr) -> Option<String> {
        self.read().values().find(|o| o.state.addresses.contains(&address)).map(|o| o.state.container.name.clone())
    }
}
