//! Faults on demand, so that the stack has something real to heal.
//!
//! Faults live in this process's memory only and each has a time to live: a
//! restart truly heals them, and a forgotten one ends by itself. What is active
//! when is decided by [`FaultSet`], which knows no clock; [`Faults`] gives it one
//! and does what the faults demand.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use telemetry::metrics::IntGaugeVec;
use tokio::sync::Notify;
use utoipa::ToSchema;

/// The kinds of fault; also the values of the metric's label `fault`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = FaultKind)]
pub enum Kind {
    /// A share of requests answers 500.
    ErrorRate,
    /// Each request waits before it is handled.
    Latency,
    /// Memory grows.
    MemoryLeak,
    /// Requests are not answered.
    Hang,
    /// The process ends.
    Crash,
    /// A share of payments finds the gateway broken.
    GatewayError,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::ErrorRate, Self::Latency, Self::MemoryLeak, Self::Hang, Self::Crash, Self::GatewayError];

    /// As written in a request and in the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ErrorRate => "error_rate",
            Self::Latency => "latency",
            Self::MemoryLeak => "memory_leak",
            Self::Hang => "hang",
            Self::Crash => "crash",
            Self::GatewayError => "gateway_error",
        }
    }
}

/// A fault with its measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Share of requests that fail, 0 to 1.
    ErrorRate {
        /// 0 to 1.
        ratio: f64,
    },
    /// Delay of each request.
    Latency {
        /// Added to what the request takes anyway.
        delay: Duration,
    },
    /// Memory taken and not given back until the fault ends.
    MemoryLeak {
        /// Speed of growth.
        mib_per_second: u32,
        /// It stops when the process holds so much in all.
        max_mib: u32,
    },
    /// Requests wait until the fault ends.
    Hang,
    /// The process ends.
    Crash {
        /// This long after the request.
        after: Duration,
    },
    /// Share of payments that find the gateway broken, 0 to 1.
    GatewayError {
        /// 0 to 1.
        ratio: f64,
    },
}

impl Fault {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::ErrorRate { .. } => Kind::ErrorRate,
            Self::Latency { .. } => Kind::Latency,
            Self::MemoryLeak { .. } => Kind::MemoryLeak,
            Self::Hang => Kind::Hang,
            Self::Crash { .. } => Kind::Crash,
            Self::GatewayError { .. } => Kind::GatewayError,
        }
    }
}

/// A fault that was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Active {
    /// What.
    pub fault: Fault,
    since: Instant,
    until: Instant,
}

impl Active {
    /// What is left of its time to live.
    pub fn remaining(&self, now: Instant) -> Duration {
        self.until.saturating_duration_since(now)
    }
}

/// What a request must suffer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Effect {
    /// Wait until no hang is active.
    pub hang: bool,
    /// Then wait this long.
    pub delay: Duration,
    /// Then fail.
    pub fail: bool,
}

/// What the process must suffer at one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Chore {
    /// How much memory the leak must hold, in bytes.
    pub hold_bytes: usize,
    /// How much memory the process may hold then, in bytes.
    pub most_bytes: usize,
    /// End the process.
    pub crash: bool,
}

/// At most one fault of each kind. Pure: every decision is given the time.
#[derive(Clone, Debug, Default)]
pub struct FaultSet(Vec<Active>);

impl FaultSet {
    /// Adds a fault, in place of one of the same kind.
    pub fn put(&mut self, fault: Fault, ttl: Duration, now: Instant) {
        self.0.retain(|active| active.fault.kind() != fault.kind());
        self.0.push(Active { fault, since: now, until: now + ttl });
    }

    /// Removes one kind, or all.
    pub fn remove(&mut self, kind: Option<Kind>) {
        self.0.retain(|active| kind.is_some_and(|kind| active.fault.kind() != kind));
    }

    /// Forgets what has expired.
    pub fn prune(&mut self, now: Instant) {
        self.0.retain(|active| now < active.until);
    }

    /// What is active at `now`.
    pub fn active(&self, now: Instant) -> impl Iterator<Item = &Active> {
        self.0.iter().filter(move |active| now < active.until)
    }

    /// What a request suffers; `draw` is evenly distributed over [0, 1).
    pub fn effect(&self, now: Instant, draw: f64) -> Effect {
        let mut effect = Effect::default();
        for active in self.active(now) {
            match active.fault {
                Fault::Hang => effect.hang = true,
                Fault::Latency { delay } => effect.delay = delay,
                Fault::ErrorRate { ratio } => effect.fail = draw < ratio,
                Fault::MemoryLeak { .. } | Fault::Crash { .. } | Fault::GatewayError { .. } => {}
            }
        }
        effect
    }

    /// Whether a payment finds the gateway broken.
    pub fn gateway_breaks(&self, now: Instant, draw: f64) -> bool {
        self.active(now).any(|active| matches!(active.fault, Fault::GatewayError { ratio } if draw < ratio))
    }

    /// What the process suffers.
    pub fn chore(&self, now: Instant) -> Chore {
        let mut chore = Chore::default();
        for active in self.active(now) {
            let age = now.saturating_duration_since(active.since);
            match active.fault {
                Fault::MemoryLeak { mib_per_second, max_mib } => {
                    chore.hold_bytes = (age.as_secs_f64() * f64::from(mib_per_second)) as usize * PIECE;
                    chore.most_bytes = max_mib as usize * PIECE;
                }
                Fault::Crash { after } => chore.crash = age >= after,
                _ => {}
            }
        }
        chore
    }
}

/// What the world outside gives: a clock, the size of the process, and a way to end it.
#[derive(Clone)]
pub struct Hooks {
    /// The time.
    pub now: Arc<dyn Fn() -> Instant + Send + Sync>,
    /// Resident memory of the process, in bytes.
    pub resident: Arc<dyn Fn() -> usize + Send + Sync>,
    /// Ends the process, as a bug would.
    pub crash: Arc<dyn Fn() + Send + Sync>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            now: Arc::new(Instant::now),
            resident: Arc::new(resident_bytes),
            // EX_SOFTWARE. Not `abort`: process 1 of a container ignores its own signals.
            crash: Arc::new(|| std::process::exit(70)),
        }
    }
}

/// By the kernel; nothing where it does not tell.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok()).unwrap_or(0) * 1024
}

/// The faults of this process.
pub struct Faults {
    set: Mutex<FaultSet>,
    /// Spares the common case, no fault at all, the lock.
    any: AtomicBool,
    /// Wakes requests that hang when the set changes.
    changed: Notify,
    leaked: Mutex<Vec<Vec<u8>>>,
    hooks: Hooks,
    gauge: IntGaugeVec,
}

/// Memory is taken in pieces of this size.
const PIECE: usize = 1024 * 1024;

impl Faults {
    /// No faults yet. `gauge` is `fault_active{fault}`.
    pub fn new(hooks: Hooks, gauge: IntGaugeVec) -> Self {
        let faults = Self {
            set: Mutex::default(),
            any: AtomicBool::new(false),
            changed: Notify::new(),
            leaked: Mutex::default(),
            hooks,
            gauge,
        };
        faults.publish(&FaultSet::default(), faults.now());
        faults
    }

    fn now(&self) -> Instant {
        (self.hooks.now)()
    }

    /// Changes the set, tells the metric and wakes who waits.
    fn change<T>(&self, change: impl FnOnce(&mut FaultSet, Instant) -> T) -> T {
        let now = self.now();
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut set, now);
        set.prune(now);
        self.publish(&set, now);
        self.changed.notify_waiters();
        result
    }

    fn publish(&self, set: &FaultSet, now: Instant) {
        for kind in Kind::ALL {
            let active = set.active(now).any(|active| active.fault.kind() == kind);
            self.gauge.with_label_values(&[kind.as_str()]).set(active.into());
        }
        self.any.store(set.active(now).next().is_some(), Ordering::Release);
    }

    /// Starts a fault.
    pub fn put(&self, fault: Fault, ttl: Duration) {
        tracing::warn!(fault = fault.kind().as_str(), ttl_seconds = ttl.as_secs_f64(), "fault injected");
        self.change(|set, now| set.put(fault, ttl, now));
    }

    /// Ends one kind, or all.
    pub fn remove(&self, kind: Option<Kind>) {
        tracing::info!(fault = kind.map_or("all", Kind::as_str), "fault removed");
        self.change(|set, _| set.remove(kind));
        self.tick();
    }

    /// What is active, and for how much longer.
    pub fn list(&self) -> Vec<(Fault, Duration)> {
        let now = self.now();
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        set.active(now).map(|active| (active.fault, active.remaining(now))).collect()
    }

    fn ask<T: Default>(&self, question: impl FnOnce(&FaultSet, Instant) -> T) -> T {
        if !self.any.load(Ordering::Acquire) {
            return T::default();
        }
        question(&self.set.lock().unwrap_or_else(PoisonError::into_inner), self.now())
    }

    /// What a request suffers.
    pub fn effect(&self, draw: impl FnOnce() -> f64) -> Effect {
        self.ask(|set, now| set.effect(now, draw()))
    }

    /// Whether a payment finds the gateway broken.
    pub fn gateway_breaks(&self, draw: impl FnOnce() -> f64) -> bool {
        self.ask(|set, now| set.gateway_breaks(now, draw()))
    }

    /// Waits until no hang is active.
    pub async fn hang_over(&self) {
        loop {
            let changed = self.changed.notified();
            if !self.effect(|| 1.0).hang {
                return;
            }
            changed.await;
        }
    }

    /// One step in time: expires faults, takes or gives back memory, crashes.
    pub fn tick(&self) {
        if !self.any.load(Ordering::Acquire) && self.leaked_bytes() == 0 {
            return;
        }
        let chore = self.change(|set, now| set.chore(now));
        self.hold(chore);
        if chore.crash {
            tracing::error!("crashing on demand");
            (self.hooks.crash)();
        }
    }

    /// How much memory the leak holds.
    pub fn leaked_bytes(&self) -> usize {
        self.leaked.lock().unwrap_or_else(PoisonError::into_inner).len() * PIECE
    }

    fn hold(&self, chore: Chore) {
        let mut leaked = self.leaked.lock().unwrap_or_else(PoisonError::into_inner);
        let pieces = chore.hold_bytes / PIECE;
        if leaked.len() < pieces {
            let others = (self.hooks.resident)().saturating_sub(leaked.len() * PIECE);
            let pieces = pieces.min(chore.most_bytes.saturating_sub(others) / PIECE);
            while leaked.len() < pieces {
                // Written to, or the kernel would not give the pages.
                leaked.push(vec![0xa5; PIECE]);
            }
        } else if leaked.len() > pieces {
            leaked.truncate(pieces);
            leaked.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use telemetry::metrics::Registry;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Faults with a clock that only the test moves.
    struct Bench {
        faults: Arc<Faults>,
        gauge: IntGaugeVec,
        clock: Arc<Mutex<Instant>>,
        /// MiB.
        resident: Arc<AtomicUsize>,
        crashes: Arc<AtomicUsize>,
    }

    impl Bench {
        fn new() -> Self {
            let registry = Registry::new("test", "0").unwrap();
            let gauge = registry.int_gauge_vec("fault_active", "f", &["fault"]).unwrap();
            let clock = Arc::new(Mutex::new(Instant::now()));
            let resident = Arc::new(AtomicUsize::new(0));
            let crashes = Arc::new(AtomicUsize::new(0));
            let hooks = Hooks {
                now: Arc::new({
                    let clock = clock.clone();
                    move || *clock.lock().unwrap()
                }),
                resident: Arc::new({
                    let resident = resident.clone();
                    move || resident.load(Ordering::Relaxed) * PIECE
                }),
                crash: Arc::new({
                    let crashes = crashes.clone();
                    move || {
                        crashes.fetch_add(1, Ordering::Relaxed);
                    }
                }),
            };
            Self { faults: Arc::new(Faults::new(hooks, gauge.clone())), gauge, clock, resident, crashes }
        }

        fn pass(&self, time: Duration) {
            *self.clock.lock().unwrap() += time;
            self.faults.tick();
        }

        fn active(&self, kind: Kind) -> i64 {
            self.gauge.with_label_values(&[kind.as_str()]).get()
        }
    }

    #[test]
    fn a_fault_ends_with_its_time_to_live() {
        let bench = Bench::new();
        bench.faults.put(Fault::ErrorRate { ratio: 0.5 }, 10 * SECOND);
        bench.faults.put(Fault::Latency { delay: SECOND }, 20 * SECOND);
        bench.faults.put(Fault::GatewayError { ratio: 1.0 }, 20 * SECOND);
        assert_eq!(bench.faults.effect(|| 0.49), Effect { hang: false, delay: SECOND, fail: true });
        assert_eq!(bench.faults.effect(|| 0.5), Effect { hang: false, delay: SECOND, fail: false });
        assert!(bench.faults.gateway_breaks(|| 0.99));
        assert_eq!((bench.active(Kind::ErrorRate), bench.active(Kind::Latency), bench.active(Kind::Hang)), (1, 1, 0));
        bench.pass(10 * SECOND);
        assert_eq!(bench.faults.effect(|| 0.0), Effect { hang: false, delay: SECOND, fail: false });
        assert_eq!((bench.active(Kind::ErrorRate), bench.active(Kind::Latency)), (0, 1));
        bench.pass(10 * SECOND);
        assert_eq!(bench.faults.effect(|| 0.0), Effect::default());
        assert!(!bench.faults.gateway_breaks(|| 0.0));
        assert!(bench.faults.list().is_empty());
        assert!(Kind::ALL.iter().all(|kind| bench.active(*kind) == 0));
    }

    #[test]
    fn an_expired_fault_does_nothing_even_before_it_is_pruned() {
        let bench = Bench::new();
        bench.faults.put(Fault::ErrorRate { ratio: 1.0 }, SECOND);
        *bench.clock.lock().unwrap() += SECOND;
        assert_eq!(bench.faults.effect(|| 0.0), Effect::default());
    }

    #[test]
    fn putting_again_replaces_and_removing_removes() {
        let bench = Bench::new();
        bench.faults.put(Fault::Latency { delay: SECOND }, 10 * SECOND);
        bench.faults.put(Fault::Latency { delay: 2 * SECOND }, 5 * SECOND);
        assert_eq!(bench.faults.list(), [(Fault::Latency { delay: 2 * SECOND }, 5 * SECOND)]);
        bench.faults.put(Fault::Hang, SECOND);
        bench.faults.remove(Some(Kind::Hang));
        assert_eq!(bench.faults.list().len(), 1);
        bench.faults.remove(None);
        assert!(bench.faults.list().is_empty());
    }

    #[test]
    fn a_leak_grows_stops_where_the_process_holds_enough_and_ends() {
        let bench = Bench::new();
        bench.faults.put(Fault::MemoryLeak { mib_per_second: 4, max_mib: 30 }, 60 * SECOND);
        let mib = |resident: usize| {
            bench.resident.store(resident, Ordering::Relaxed);
            bench.pass(SECOND);
            bench.faults.leaked_bytes() / PIECE
        };
        assert_eq!([mib(20), mib(24)], [4, 8]);
        assert_eq!([mib(28), mib(30), mib(35)], [10, 10, 10], "the process holds 30 MiB and more");
        assert_eq!(mib(25), 15, "what the others gave back");
        bench.pass(60 * SECOND);
        assert_eq!(bench.faults.leaked_bytes(), 0);
    }

    #[test]
    fn a_crash_comes_after_its_delay() {
        let bench = Bench::new();
        bench.faults.put(Fault::Crash { after: 3 * SECOND }, 10 * SECOND);
        bench.pass(2 * SECOND);
        assert_eq!(bench.crashes.load(Ordering::Relaxed), 0);
        bench.pass(SECOND);
        assert_eq!(bench.crashes.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_hang_ends_for_those_who_wait() {
        let bench = Bench::new();
        bench.faults.put(Fault::Hang, 10 * SECOND);
        let waits = tokio::spawn({
            let faults = bench.faults.clone();
            async move { faults.hang_over().await }
        });
        bench.pass(9 * SECOND);
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        bench.pass(SECOND);
        tokio::time::timeout(SECOND, waits).await.unwrap().unwrap();
    }
}
