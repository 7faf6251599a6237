//! What the service tells about the log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prometheus::{Counter, Gauge, Histogram, IntCounter, IntCounterVec, IntGauge};
use telemetry::metrics::{HttpMetrics, LATENCY_BUCKETS, Registry};

use crate::{
    batch::Observer,
    history::History,
    log::{Log, LogError, Outcome},
    verify::Kind,
};

/// Metrics of the service.
#[derive(Clone)]
pub struct Metrics {
    /// Requests.
    pub http: HttpMetrics,
    entries: IntCounterVec,
    commit_duration: Histogram,
    commit_failures: IntCounter,
    size: IntGauge,
    checkpoint_time: Gauge,
    /// Age of the checkpoint, refreshed once a second.
    pub checkpoint_age: Gauge,
    coverage: Gauge,
    gap_seconds: Counter,
    gaps_open: IntGauge,
    machines: IntGauge,
    /// 1 the witness cosigned the latest checkpoint it was asked for, 0 it is away.
    pub witness_up: IntGauge,
    /// 1 the witness has seen another history.
    pub witness_disagrees: IntGauge,
    /// Entries under the checkpoint that the witness cosigned last.
    pub witness_size: IntGauge,
    /// When the log was last verified, Unix seconds.
    pub verified_time: Gauge,
    /// 1 the last verification held, 0 it did not; -1 before the first.
    pub verified: IntGauge,
    /// How long that took.
    pub verify_duration: Gauge,
    verify_failures: IntCounterVec,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(r: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            http: HttpMetrics::new(r)?,
            entries: r.counter_vec(
                "esg_ledger_entries_total",
                "Entries sent, by what became of them.",
                &["outcome"],
            )?,
            commit_duration: r.histogram(
                "esg_ledger_commit_duration_seconds",
                "Time to make a batch durable and signed.",
                LATENCY_BUCKETS,
            )?,
            commit_failures: r
                .counter("esg_ledger_write_failures_total", "Attempts to open or write the log that failed.")?,
            size: r.int_gauge("esg_ledger_tree_size_entries", "Entries under the signed checkpoint.")?,
            checkpoint_time: r.gauge(
                "esg_ledger_checkpoint_timestamp_seconds",
                "When the latest checkpoint was published, seconds since 1970.",
            )?,
            checkpoint_age: r.gauge("esg_ledger_checkpoint_age_seconds", "Age of the latest checkpoint.")?,
            coverage: r.gauge(
                "esg_ledger_coverage_ratio",
                "Machine time covered by readings, of all that is covered or in gaps.",
            )?,
            gap_seconds: r
                .float_counter("esg_ledger_gap_seconds_total", "Machine time in gaps that are closed, seconds.")?,
            gaps_open: r.int_gauge("esg_ledger_gaps_open", "Machines whose data are missing now.")?,
            machines: r.int_gauge("esg_ledger_machines", "Machines that have sent readings.")?,
            witness_up: r.int_gauge("esg_ledger_witness_up", "1 the witness answers and cosigns, 0 it does not.")?,
            witness_disagrees: r
                .int_gauge("esg_ledger_witness_disagrees", "1 the witness has seen another history of this log.")?,
            witness_size: r
                .int_gauge("esg_ledger_witness_tree_size_entries", "Entries under the checkpoint cosigned last.")?,
            verified_time: r.gauge(
                "esg_ledger_verified_timestamp_seconds",
                "When the log was verified last, seconds since 1970.",
            )?,
            verified: r
                .int_gauge("esg_ledger_verified", "1 the last verification held, 0 it did not, -1 there was none.")?,
            verify_duration: r
                .gauge("esg_ledger_verify_duration_seconds", "How long the last verification of the log took.")?,
            verify_failures: r.counter_vec(
                "esg_ledger_verify_failures_total",
                "Failures that verification found, by kind.",
                &["kind"],
            )?,
        };
        metrics.verified.set(-1);
        for outcome in ["appended", "duplicate", "refused"] {
            metrics.entries.with_label_values(&[outcome]).inc_by(0);
        }
        for kind in Kind::ALL {
            metrics.verify_failures.with_label_values(&[kind.as_str()]).inc_by(0);
        }
        Ok(metrics)
    }

    /// Counts a failure that verification found.
    pub fn verify_failed(&self, kind: Kind) {
        self.verify_failures.with_label_values(&[kind.as_str()]).inc();
    }

    fn history(&self, history: &History, now_us: i64) {
        let (mut covered, mut closed, mut open_us, mut open) = (0i64, 0i64, 0i64, 0);
        for machine in history.machines().values() {
            covered += machine.covered_us;
            closed += machine.gap_us;
            if let Some(gap) = machine.gap.filter(|g| g.until_us.is_none()) {
                open += 1;
                open_us += (now_us - gap.from_us).max(0);
            }
        }
        let all = covered + closed + open_us;
        self.coverage.set(if all > 0 { covered as f64 / all as f64 } else { 1.0 });
        // The sum only grows: closed gaps stay closed.
        let more = closed as f64 / 1e6 - self.gap_seconds.get();
        self.gap_seconds.inc_by(more.max(0.0));
        self.gaps_open.set(open);
        self.machines.set(history.machines().len() as i64);
    }
}

/// What the rest of the service sees of the log.
pub type Published = tokio::sync::watch::Sender<Option<super::Head>>;

/// Carries what the writer does into metrics and to the witness's task.
pub struct Watcher {
    pub(super) metrics: Metrics,
    pub(super) head: Published,
    /// Whether the log can be written now.
    pub(super) writable: Arc<AtomicBool>,
    pub(super) clock: fn() -> i64,
    /// Machines are counted over at most this often.
    pub(super) counted: Option<std::time::Instant>,
}

const COUNT_EVERY: Duration = Duration::from_secs(1);

impl Observer for Watcher {
    fn committed(&mut self, log: &Log, outcomes: &[Outcome], took: Duration) {
        self.writable.store(true, Ordering::Relaxed);
        let m = &self.metrics;
        for outcome in outcomes {
            let label = match outcome {
                Outcome::Appended(_) => "appended",
                Outcome::Duplicate(_) => "duplicate",
                Outcome::Refused(_) => "refused",
            };
            m.entries.with_label_values(&[label]).inc();
        }
        let now = (self.clock)();
        let grown = m.size.get() != log.size() as i64 || self.counted.is_none();
        if grown {
            m.commit_duration.observe(took.as_secs_f64());
            m.size.set(log.size() as i64);
            m.checkpoint_time.set(now as f64 / 1e6);
            m.checkpoint_age.set(0.0);
        }
        if self.counted.is_none_or(|at| at.elapsed() >= COUNT_EVERY) {
            m.history(log.history(), now);
            self.counted = Some(std::time::Instant::now());
        }
        let head = super::Head { checkpoint: log.checkpoint().clone(), note: log.note().clone(), at_us: now };
        self.head.send_if_modified(|old| {
            let at_us = old.as_ref().filter(|o| o.checkpoint == head.checkpoint).map_or(head.at_us, |o| o.at_us);
            let changed = old.as_ref().is_none_or(|o| o.checkpoint != head.checkpoint);
            *old = Some(super::Head { at_us, ..head });
            changed
        });
    }

    fn failed(&mut self, error: &LogError) {
        self.writable.store(false, Ordering::Relaxed);
        self.metrics.commit_failures.inc();
        tracing::error!(%error, "the log cannot be written");
    }
}
