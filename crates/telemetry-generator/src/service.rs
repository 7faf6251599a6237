//! The loops: the fleet's clock, and the way to the lake.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use lake::{Batch, Lake, LakeError};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    config::MAX_MACHINES,
    evidence::Evidence,
    fleet::{Event, Fleet, Ticked},
    metrics::Metrics,
    outbox::Outbox,
    sparkplug::Sparkplug,
    state_file::StateDir,
};

/// A value behind a lock that is held for moments only and never across an await.
#[derive(Debug, Default)]
pub struct Shared<T>(Mutex<T>);

impl<T> Shared<T> {
    /// Puts the value behind a lock.
    pub fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Locks. A panic elsewhere leaves the value usable: every change is complete in itself.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// µs since 1970.
pub fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}

/// How the lake has been doing.
#[derive(Clone, Copy, Debug, Default)]
pub struct LakeHealth {
    /// The latest attempt went through; `None` before the first.
    pub ok: Option<bool>,
    /// When a batch was last written, µs since 1970.
    pub last_write_us: Option<i64>,
}

/// What the loops and the API share.
pub struct App {
    /// The machines.
    pub fleet: Arc<Shared<Fleet>>,
    /// Readings on their way to the lake.
    pub outbox: Shared<Outbox<Batch>>,
    /// How the lake has been doing.
    pub lake_health: Shared<LakeHealth>,
    /// The lake.
    pub lake: Lake,
    /// What is counted.
    pub metrics: Metrics,
    /// What outlives the process.
    pub state: Option<StateDir>,
    /// One at a time writes it.
    pub saving: Shared<()>,
    /// The way to the ledger, if there is one.
    pub evidence: Option<Evidence>,
    /// The machines that report by MQTT, if there are any.
    pub sparkplug: Option<Sparkplug>,
}

impl App {
    /// One step of the fleet.
    pub fn tick(&self, now_us: i64) {
        let started = Instant::now();
        let ticked = self.fleet.lock().tick(now_us);
        self.take(ticked);
        self.metrics.tick_duration.observe(started.elapsed().as_secs_f64());
    }

    /// So many machines there may be: the outbox must hold one reading of each at least.
    pub fn capacity(&self) -> usize {
        MAX_MACHINES.min(self.outbox.lock().bound())
    }

    /// Logs what happened and passes readings and records on.
    pub fn take(&self, ticked: Ticked) {
        report(&ticked.events);
        if let Some(evidence) = &self.evidence {
            evidence.say(ticked.records);
        }
        self.buffer(ticked.readings);
    }

    /// Puts readings in the outbox; what no longer fits is a gap.
    pub fn buffer(&self, readings: Vec<lake::Reading>) {
        let lost = {
            let mut outbox = self.outbox.lock();
            let lost = outbox.push(readings);
            self.metrics.lake_pending.set(outbox.pending() as i64);
            lost
        };
        if !lost.is_empty() {
            report(&self.fleet.lock().lost(&lost));
        }
    }

    /// Hands over everything that waits, batch by batch.
    ///
    /// # Errors
    /// The first failure; what was not written waits for the next time.
    pub async fn flush(&self) -> Result<usize, LakeError> {
        let mut rows = 0;
        loop {
            let Some(batch) = self.outbox.lock().batch()? else { return Ok(rows) };
            let started = Instant::now();
            let result = self.lake.write(&batch, now_us()).await;
            self.metrics.lake_write_duration.observe(started.elapsed().as_secs_f64());
            let outcome = lake::Outcome::of(&result);
            self.metrics.lake_writes.with_label_values(&[outcome.as_str()]).inc();
            self.note(result.is_ok());
            match result {
                Ok(_) => {
                    rows += batch.rows();
                    self.fleet.lock().delivered();
                    self.metrics.lake_written.inc_by(batch.rows() as u64);
                    let mut outbox = self.outbox.lock();
                    outbox.written();
                    self.metrics.lake_pending.set(outbox.pending() as i64);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One line when the lake is lost and one when it is back, not one for each attempt.
    fn note(&self, ok: bool) {
        let mut health = self.lake_health.lock();
        if ok {
            health.last_write_us = Some(now_us());
            if health.ok == Some(false) {
                tracing::info!("the lake takes readings again");
            }
        }
        health.ok = Some(ok);
    }

    /// Writes down the meters and what else outlives the process.
    pub fn save(&self) {
        let Some(state) = &self.state else { return };
        // What is read later is written later: a meter must not go back.
        let _one = self.saving.lock();
        let kept = self.fleet.lock().keep();
        if let Err(error) = state.save(kept) {
            tracing::warn!(%error, "the state file could not be written");
        }
    }
}

/// Ticks until `shutdown`.
pub async fn run_clock(app: Arc<App>, period: Duration, shutdown: CancellationToken) {
    let mut interval = tokio::time::interval(period);
    // A reading that was not taken in time is not made up afterwards.
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = interval.tick() => app.tick(now_us()),
        }
    }
}

/// Writes until `shutdown`, then hands over what is left or keeps it for the next start.
pub async fn run_writer(app: Arc<App>, period: Duration, grace: Duration, shutdown: CancellationToken) {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval.tick().await;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = interval.tick() => {}
        }
        let was_ok = app.lake_health.lock().ok != Some(false);
        // The span is the trace of one hand-over.
        let flush = tracing::Instrument::instrument(app.flush(), tracing::info_span!("write readings"));
        let result = tokio::select! {
            // A batch that was cut off is still in flight: the last flush repeats it.
            () = shutdown.cancelled() => break,
            result = flush => result,
        };
        if let Err(error) = result
            && was_ok
        {
            let pending = app.outbox.lock().pending();
            tracing::warn!(%error, pending, "the lake takes no readings: they wait");
        }
        app.save();
    }
    let left = tokio::time::timeout(grace, app.flush()).await;
    if !matches!(left, Ok(Ok(_))) {
        let unwritten = app.outbox.lock().take_all();
        let count = unwritten.len();
        match app.state.as_ref().map(|s| s.keep_unwritten(&unwritten)) {
            Some(Ok(())) => tracing::warn!(count, "the lake is away: readings are kept for the next start"),
            Some(Err(error)) => tracing::error!(count, %error, "the lake is away: readings are lost"),
            None => tracing::error!(count, "the lake is away and no state is kept: readings are lost"),
        }
    }
    app.save();
}

/// Log lines for what happened.
pub fn report(events: &[Event]) {
    for event in events {
        match event {
            Event::Gap { machine_id, reason } => {
                tracing::warn!(%machine_id, reason = reason.as_str(), "gap in a machine's data");
            }
            Event::Code { machine_id, code } => {
                tracing::info!(%machine_id, code = code.number(), "machine reports an error code");
            }
            Event::Overheating { machine_id, alarm } => {
                let (eta_seconds, probability) = (alarm.eta_seconds.map(f64::round), alarm.probability);
                tracing::warn!(%machine_id, eta_seconds, probability, hw.state = "predicted_failure", "machine is overheating");
            }
        }
    }
}
