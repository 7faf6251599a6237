//! What every [`Backend`] must keep to, whatever runs the containers.
//!
//! A kind of backend is tested by a [`World`]: it makes containers by other means than the backend
//! and looks at them by other means. Then `conformance!` runs all of this on it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use alert_bot::{
    backend::{Backend, BackendError, Deed, Done, PREVIOUS_IMAGE},
    engine::{Health, RunState, target::Candidate},
};

/// Longer than any call here takes.
const LIMIT: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(5);

/// A container to be made.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub service: &'static str,
    /// It opted in to healing.
    pub enabled: bool,
    /// It must never be touched.
    pub protected: bool,
    /// Services that it says it depends on.
    pub depends_on: &'static [&'static str],
    /// It has a health check that passes.
    pub checked: bool,
    /// A shell script that it runs; by default one that writes `started` and ends when told to.
    pub script: Option<&'static str>,
}

impl Wanted {
    /// One that may be healed.
    pub fn managed(service: &'static str) -> Self {
        Self { service, enabled: true, ..Self::default() }
    }
}

/// Whatever runs containers, with a backend in front of it. It belongs to one test, and takes away
/// what was made in it when it is dropped.
#[async_trait::async_trait]
pub trait World: Send + Sync {
    /// The backend under test.
    fn backend(&self) -> Arc<dyn Backend>;
    /// The same, but what is to change something is never answered. It is done all the same.
    async fn unanswered(&self) -> Arc<dyn Backend>;
    /// The same kind, where nobody listens.
    fn absent(&self) -> Arc<dyn Backend>;
    /// The project that containers are made in.
    fn project(&self) -> String;
    /// Makes and starts a container; gives its id.
    async fn deploy(&self, wanted: &Wanted) -> String;
    /// Ends a container's process, as a crash would.
    async fn crash(&self, id: &str);
    /// How many containers of a service run just now.
    async fn running(&self, service: &str) -> usize;
    /// An id that is well formed, and nobody's.
    fn nobody(&self) -> String;
}

/// Waits until something is so.
pub async fn until<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !check().await {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn candidate(world: &dyn World, service: &str) -> Vec<Candidate> {
    let all = world.backend().list().await.unwrap();
    all.into_iter().filter(|c| c.services.iter().any(|s| s == service)).collect()
}

fn every_deed() -> [Deed; 6] {
    [
        Deed::Start,
        Deed::Restart { stop_timeout: STOP },
        Deed::StopStart { stop_timeout: STOP },
        Deed::Recreate { stop_timeout: STOP, image: None },
        Deed::Replicate,
        Deed::Remove { stop_timeout: STOP },
    ]
}

pub async fn it_can_be_used(world: &dyn World) {
    assert_eq!(world.backend().ping().await, Ok(()));
    let absent = world.absent();
    assert!(matches!(absent.ping().await, Err(BackendError::Unreachable(_))));
    assert!(matches!(absent.list().await, Err(BackendError::Unreachable(_))));
    for deed in every_deed() {
        let error = absent.act(&world.nobody(), &deed, LIMIT).await.unwrap_err();
        assert!(matches!(error, BackendError::Unreachable(_)), "{deed:?}: {error:?}");
    }
}

pub async fn a_list_has_all_that_a_choice_needs(world: &dyn World) {
    let web = world.deploy(&Wanted { depends_on: &["db", "cache"], ..Wanted::managed("web") }).await;
    let vault = world.deploy(&Wanted { protected: true, ..Wanted::managed("vault") }).await;
    let plain = world.deploy(&Wanted { service: "plain", ..Wanted::default() }).await;
    world.crash(&plain).await;
    until("the crash is seen", || async { candidate(world, "plain").await[0].state == RunState::Down }).await;
    let found = candidate(world, "web").await;
    let [one] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((one.id.as_str(), one.project.as_deref()), (web.as_str(), Some(world.project().as_str())));
    assert_eq!((one.enabled, one.protected, one.state), (true, false, RunState::Running));
    assert_eq!(one.depends_on, ["db", "cache"]);
    assert_eq!(one.replica_of, None);
    assert!(!one.name.is_empty() && !one.name.starts_with('/') && !one.image.is_empty(), "{one:?}");
    let vault_seen = &candidate(world, "vault").await[0];
    assert_eq!((vault_seen.id.as_str(), vault_seen.protected), (vault.as_str(), true));
    let plain_seen = &candidate(world, "plain").await[0];
    assert_eq!((plain_seen.enabled, plain_seen.depends_on.len()), (false, 0));
}

pub async fn a_container_is_inspected_by_id_and_by_name(world: &dyn World) {
    let id = world.deploy(&Wanted { checked: true, ..Wanted::managed("web") }).await;
    let backend = world.backend();
    until("healthy", || async { backend.inspect(&id).await.unwrap().health == Some(Health::Healthy) }).await;
    let by_id = backend.inspect(&id).await.unwrap();
    assert_eq!((by_id.id.as_str(), by_id.state), (id.as_str(), RunState::Running));
    assert!(by_id.started_at.is_some() && by_id.services.contains(&"web".to_owned()));
    assert_eq!(backend.inspect(&by_id.name).await.unwrap(), by_id);
    world.crash(&id).await;
    until("down", || async { backend.inspect(&id).await.unwrap().state == RunState::Down }).await;
    let down = backend.inspect(&id).await.unwrap();
    assert_eq!(down.exit_code, Some(137));
    assert!(down.finished_at > by_id.started_at);
    assert_eq!(backend.inspect(&world.nobody()).await, Err(BackendError::NotFound));
    assert_eq!(backend.logs(&world.nobody(), 5).await, Err(BackendError::NotFound));
}

pub async fn what_is_down_is_started_and_what_runs_is_left(world: &dyn World) {
    let id = world.deploy(&Wanted::managed("web")).await;
    let backend = world.backend();
    let before = backend.inspect(&id).await.unwrap();
    assert_eq!(backend.act(&id, &Deed::Start, LIMIT).await, Ok(Done::default()));
    assert_eq!(backend.inspect(&id).await.unwrap().started_at, before.started_at, "it ran already");
    world.crash(&id).await;
    until("down", || async { backend.inspect(&id).await.unwrap().state == RunState::Down }).await;
    assert_eq!(backend.act(&id, &Deed::Start, LIMIT).await, Ok(Done::default()));
    let after = backend.inspect(&id).await.unwrap();
    assert_eq!(after.state, RunState::Running);
    assert!(after.started_at > before.started_at);
}

pub async fn a_restart_starts_once_more_whatever_the_state(world: &dyn World) {
    for deed in [Deed::Restart { stop_timeout: STOP }, Deed::StopStart { stop_timeout: STOP }] {
        let id = world.deploy(&Wanted::managed("web")).await;
        let backend = world.backend();
        let starts = async || backend.logs(&id, 100).await.unwrap().iter().filter(|l| *l == "started").count();
        until("it has started", || async { starts().await == 1 }).await;
        let before = backend.inspect(&id).await.unwrap();
        assert_eq!(backend.act(&id, &deed, LIMIT).await, Ok(Done::default()));
        let after = backend.inspect(&id).await.unwrap();
        assert_eq!((after.id.as_str(), after.state), (id.as_str(), RunState::Running));
        assert!(after.started_at > before.started_at, "{deed:?}");
        until("it has started again", || async { starts().await == 2 }).await;
        world.crash(&id).await;
        until("down", || async { backend.inspect(&id).await.unwrap().state == RunState::Down }).await;
        assert_eq!(backend.act(&before.name, &deed, LIMIT).await, Ok(Done::default()), "by name as well");
        until("it has started a third time", || async { starts().await == 3 }).await;
        assert_eq!(backend.inspect(&id).await.unwrap().state, RunState::Running);
    }
}

pub async fn a_container_made_anew_takes_the_place_of_the_old_one(world: &dyn World) {
    let wanted = Wanted { depends_on: &["db"], checked: true, ..Wanted::managed("web") };
    let old = world.deploy(&wanted).await;
    let backend = world.backend();
    let before = candidate(world, "web").await.remove(0);
    let deed = Deed::Recreate { stop_timeout: STOP, image: None };
    let new = backend.act(&old, &deed, LIMIT).await.unwrap().id.expect("the new one's id");
    assert_ne!(new, old);
    let found = candidate(world, "web").await;
    assert_eq!(found, [Candidate { id: new.clone(), ..before }], "alike but for its id");
    assert_eq!(world.running("web").await, 1);
    assert_eq!(backend.inspect(&old).await, Err(BackendError::NotFound));
    let started = backend.inspect(&new).await.unwrap();
    assert_eq!(started.state, RunState::Running);
    // Asked again for the one that is gone, the answer is the same and nothing is done.
    assert_eq!(backend.act(&old, &deed, LIMIT).await, Ok(Done { id: Some(new.clone()) }));
    assert_eq!(backend.inspect(&new).await.unwrap().started_at, started.started_at);
    // What is down is made anew and runs.
    world.crash(&new).await;
    until("down", || async { backend.inspect(&new).await.unwrap().state == RunState::Down }).await;
    let third = backend.act(&new, &deed, LIMIT).await.unwrap().id.expect("the new one's id");
    assert_eq!(backend.inspect(&third).await.unwrap().state, RunState::Running);
    assert_eq!((candidate(world, "web").await.len(), world.running("web").await), (1, 1));
}

pub async fn only_a_proven_image_is_gone_back_to(world: &dyn World) {
    let id = world.deploy(&Wanted::managed("web")).await;
    let backend = world.backend();
    for image in [PREVIOUS_IMAGE, "somebody/else:1", "not an image", "../../x"] {
        let deed = Deed::Recreate { stop_timeout: STOP, image: Some(image.to_owned()) };
        let error = backend.act(&id, &deed, LIMIT).await.unwrap_err();
        assert!(matches!(error, BackendError::Refused(_)), "{image}: {error:?}");
    }
    assert_eq!(candidate(world, "web").await[0].id, id);
    assert_eq!(world.running("web").await, 1);
}

pub async fn a_replica_comes_and_goes(world: &dyn World) {
    let id = world.deploy(&Wanted::managed("web")).await;
    let backend = world.backend();
    let before = backend.inspect(&id).await.unwrap();
    let replica = backend.act(&id, &Deed::Replicate, LIMIT).await.unwrap().id.expect("the replica's id");
    assert_eq!(world.running("web").await, 2);
    let found = candidate(world, "web").await;
    assert_eq!(found.len(), 2);
    let copy = found.iter().find(|c| c.id == replica).expect("it is listed");
    assert_eq!(copy.replica_of.as_deref(), Some(id.as_str()));
    let original = found.iter().find(|c| c.id == id).expect("it is listed");
    assert_eq!((original.replica_of.as_deref(), copy.enabled), (None, true));
    assert_ne!(original.name, copy.name);
    assert_eq!((&copy.services, &copy.image, &copy.project), (&original.services, &original.image, &original.project));
    assert_eq!(backend.inspect(&id).await.unwrap().started_at, before.started_at, "the original is left alone");
    // Copies are made of the original, and only copies are removed.
    let error = backend.act(&replica, &Deed::Replicate, LIMIT).await.unwrap_err();
    assert!(matches!(error, BackendError::Refused(_)), "{error:?}");
    let remove = Deed::Remove { stop_timeout: STOP };
    let error = backend.act(&id, &remove, LIMIT).await.unwrap_err();
    assert!(matches!(error, BackendError::Refused(_)), "{error:?}");
    assert_eq!(world.running("web").await, 2);
    assert_eq!(backend.act(&replica, &remove, LIMIT).await, Ok(Done::default()));
    assert_eq!(backend.act(&replica, &remove, LIMIT).await, Err(BackendError::NotFound));
    assert_eq!((candidate(world, "web").await.len(), world.running("web").await), (1, 1));
}

pub async fn nothing_is_done_to_what_must_not_be_touched(world: &dyn World) {
    let plain = world.deploy(&Wanted { service: "plain", ..Wanted::default() }).await;
    let vault = world.deploy(&Wanted { protected: true, ..Wanted::managed("vault") }).await;
    let backend = world.backend();
    for (service, id) in [("plain", plain), ("vault", vault)] {
        let before = backend.inspect(&id).await.unwrap();
        for deed in every_deed() {
            let error = backend.act(&id, &deed, LIMIT).await.unwrap_err();
            assert!(matches!(error, BackendError::Refused(_)), "{service} {deed:?}: {error:?}");
        }
        assert_eq!(backend.inspect(&id).await.unwrap().started_at, before.started_at, "{service}");
        assert_eq!(world.running(service).await, 1);
    }
}

pub async fn what_is_not_there_is_not_found(world: &dyn World) {
    let backend = world.backend();
    for deed in every_deed() {
        assert_eq!(backend.act(&world.nobody(), &deed, LIMIT).await, Err(BackendError::NotFound), "{deed:?}");
    }
    for name in ["../x", "a/b", "a?b", "", ".", "a b"] {
        for deed in every_deed() {
            let error = backend.act(name, &deed, LIMIT).await.unwrap_err();
            assert!(matches!(error, BackendError::Refused(_) | BackendError::NotFound), "{name} {deed:?}: {error:?}");
        }
    }
}

pub async fn the_last_lines_are_told_and_are_plain(world: &dyn World) {
    let script = r"for i in 1 2 3 4 5; do echo line $i; done; printf '\033[31mred\033[0m\007\n'; echo err >&2;
                   trap 'exit 0' TERM; while :; do sleep 0.2; done";
    let id = world.deploy(&Wanted { script: Some(script), ..Wanted::managed("web") }).await;
    let backend = world.backend();
    until("all is written", || async { backend.logs(&id, 100).await.unwrap().len() == 7 }).await;
    let all = backend.logs(&id, 100).await.unwrap();
    let lines: Vec<_> = all.iter().filter(|l| l.starts_with("line")).collect();
    assert_eq!(lines, ["line 1", "line 2", "line 3", "line 4", "line 5"]);
    assert!(all.contains(&"[31mred[0m".to_owned()) && all.contains(&"err".to_owned()), "{all:?}");
    assert_eq!(backend.logs(&id, 3).await.unwrap(), all[4..]);
}

pub async fn without_an_answer_nothing_is_known_and_nothing_doubled(world: &dyn World) {
    let short = Duration::from_secs(2);
    let backend = world.backend();
    let unanswered = world.unanswered().await;
    let timed_out = Err(BackendError::TimedOut(short));

    let id = world.deploy(&Wanted::managed("web")).await;
    let before = backend.inspect(&id).await.unwrap();
    assert_eq!(unanswered.act(&id, &Deed::Restart { stop_timeout: STOP }, short).await, timed_out);
    until("it was done all the same", || async {
        backend.inspect(&id).await.is_ok_and(|w| w.started_at > before.started_at && w.state == RunState::Running)
    })
    .await;

    // Whoever does not know asks again, and gets the one that there is.
    let deed = Deed::Recreate { stop_timeout: STOP, image: None };
    assert_eq!(unanswered.act(&id, &deed, short).await, timed_out);
    until("it was done all the same", || async { backend.inspect(&id).await == Err(BackendError::NotFound) }).await;
    let new = candidate(world, "web").await.remove(0);
    assert_eq!(backend.act(&id, &deed, LIMIT).await, Ok(Done { id: Some(new.id.clone()) }));
    assert_eq!((candidate(world, "web").await.len(), world.running("web").await), (1, 1));

    // A replica is found by what it is a copy of.
    assert_eq!(unanswered.act(&new.id, &Deed::Replicate, short).await, timed_out);
    let of_new = async || {
        let found = candidate(world, "web").await;
        found.into_iter().filter(|c| c.replica_of.as_deref() == Some(new.id.as_str())).collect::<Vec<_>>()
    };
    until("it was done all the same", || async { of_new().await.len() == 1 && world.running("web").await == 2 }).await;
    let copy = of_new().await.remove(0);
    let remove = Deed::Remove { stop_timeout: STOP };
    assert_eq!(unanswered.act(&copy.id, &remove, short).await, timed_out);
    until("it was done all the same", || async { of_new().await.is_empty() }).await;
    assert_eq!(backend.act(&copy.id, &remove, LIMIT).await, Err(BackendError::NotFound));
    assert_eq!(world.running("web").await, 1);
}

pub async fn two_at_a_time_end_with_one(world: &dyn World) {
    let id = world.deploy(&Wanted::managed("web")).await;
    let backend = world.backend();
    let deed = Deed::Recreate { stop_timeout: STOP, image: None };
    let (one, other) = tokio::join!(backend.act(&id, &deed, LIMIT), backend.act(&id, &deed, LIMIT));
    let made: std::collections::BTreeSet<_> =
        [&one, &other].into_iter().flatten().filter_map(|d| d.id.clone()).collect();
    assert_eq!(made.len(), 1, "{one:?} {other:?}");
    for result in [one, other] {
        assert!(matches!(result, Ok(_) | Err(BackendError::Refused(_) | BackendError::NotFound)), "{result:?}");
    }
    assert_eq!((candidate(world, "web").await.len(), world.running("web").await), (1, 1));
}

/// All of it, on one kind of world; each on a new one.
macro_rules! conformance {
    ($world:expr; $($test:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let world = $world.await;
                $crate::backend::$test(&world).await;
            }
        )*
    };
    ($world:expr) => {
        $crate::backend::conformance! { $world;
            it_can_be_used
            a_list_has_all_that_a_choice_needs
            a_container_is_inspected_by_id_and_by_name
            what_is_down_is_started_and_what_runs_is_left
            a_restart_starts_once_more_whatever_the_state
            a_container_made_anew_takes_the_place_of_the_old_one
            only_a_proven_image_is_gone_back_to
            a_replica_comes_and_goes
            nothing_is_done_to_what_must_not_be_touched
            what_is_not_there_is_not_found
            the_last_lines_are_told_and_are_plain
            without_an_answer_nothing_is_known_and_nothing_doubled
            two_at_a_time_end_with_one
        }
    };
}
pub(crate) use conformance;
