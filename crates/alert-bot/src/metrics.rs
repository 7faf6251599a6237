//! The bot's own metrics.

use prometheus::{Error, Histogram, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};
use telemetry::metrics::{HttpMetrics, LATENCY_BUCKETS, Registry};

use crate::{
    engine::{Outcome, Reason, Verdict},
    policy::Receiver,
};

/// Seconds, from an alert's beginning to what is measured.
const REPAIR_BUCKETS: &[f64] =
    &[1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1800.0, 3600.0];

/// What is counted and measured.
#[derive(Clone)]
pub struct Metrics {
    /// Of the HTTP layer.
    pub http: HttpMetrics,
    /// `alertbot_webhooks_total{result}`: accepted, malformed, unauthorized, unavailable.
    pub webhooks: IntCounterVec,
    /// `alertbot_webhook_ack_seconds`
    pub ack: Histogram,
    /// `alertbot_incidents_total{outcome}`
    pub incidents: IntCounterVec,
    /// `alertbot_incidents_open`
    pub open: IntGauge,
    /// `alertbot_actions_total{verb,result}`
    pub actions: IntCounterVec,
    /// `alertbot_refusals_total{reason}`
    pub refusals: IntCounterVec,
    /// `alertbot_verdicts_total{verdict}`
    pub verdicts: IntCounterVec,
    /// `alertbot_budget_remaining{target}`
    pub budget: IntGaugeVec,
    /// `alertbot_time_to_detect_seconds{rule}`
    pub detect: HistogramVec,
    /// `alertbot_time_to_act_seconds{rule}`
    pub act: HistogramVec,
    /// `alertbot_time_to_repair_seconds{rule,cause}`: the cause is the service that was repaired.
    pub repair: HistogramVec,
    /// `alertbot_journal_lag_seconds`
    pub lag: prometheus::Gauge,
    /// `alertbot_journal_errors_total`
    pub journal_errors: prometheus::IntCounter,
    /// `alertbot_last_reconcile_timestamp_seconds`
    pub reconcile: prometheus::Gauge,
    /// `alertbot_reconciles_total{result}`
    pub reconciles: IntCounterVec,
    /// `alertbot_policy_loads_total{result}`
    pub policy: IntCounterVec,
    /// `alertbot_escalations_total{level,receiver,result}`: queued, delivered, failed.
    pub escalations: IntCounterVec,
    /// `alertbot_annotations_total{result}`
    pub annotations: IntCounterVec,
    /// `alertbot_audit_ok`
    pub audit_ok: IntGauge,
    /// `alertbot_audit_lines`
    pub audit_lines: IntGauge,
    /// `alertbot_audit_verified_timestamp_seconds`
    pub audit_verified: prometheus::Gauge,
    /// `alertbot_leader`: 1 for the bot that acts.
    pub leader: IntGauge,
    /// `alertbot_frozen{by}`: operator, storm.
    pub frozen: IntGaugeVec,
    /// `alertbot_releases_total{budget}`: target, global.
    pub releases: IntCounterVec,
    /// `alertbot_topology_edges{source}`: containers, traces.
    pub edges: IntGaugeVec,
    /// `alertbot_messages_waiting`
    pub waiting: IntGauge,
}

impl Metrics {
    /// Registers everything, each label set that an alert could ask for at zero.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        let metrics = Self {
            http: HttpMetrics::new(registry)?,
            webhooks: registry.counter_vec(
                "alertbot_webhooks_total",
                "Notifications received, by what became of them.",
                &["result"],
            )?,
            ack: registry.histogram(
                "alertbot_webhook_ack_seconds",
                "Time from a notification's arrival to its being on disk, in seconds.",
                LATENCY_BUCKETS,
            )?,
            incidents: registry.counter_vec(
                "alertbot_incidents_total",
                "Incidents closed, by outcome.",
                &["outcome"],
            )?,
            open: registry.int_gauge("alertbot_incidents_open", "Incidents that are not closed.")?,
            actions: registry.counter_vec(
                "alertbot_actions_total",
                "Actions on containers, by verb and result.",
                &["verb", "result"],
            )?,
            refusals: registry.counter_vec(
                "alertbot_refusals_total",
                "Decisions not to act, by reason.",
                &["reason"],
            )?,
            verdicts: registry.counter_vec(
                "alertbot_verdicts_total",
                "Verifications that came to an end, by verdict.",
                &["verdict"],
            )?,
            budget: registry.int_gauge_vec(
                "alertbot_budget_remaining",
                "Actions left for a target within its rule's window.",
                &["target"],
            )?,
            detect: registry.histogram_vec(
                "alertbot_time_to_detect_seconds",
                "Time from an alert's beginning to its incident, in seconds.",
                &["rule"],
                REPAIR_BUCKETS,
            )?,
            act: registry.histogram_vec(
                "alertbot_time_to_act_seconds",
                "Time from an incident's opening to its first action, in seconds.",
                &["rule"],
                LATENCY_BUCKETS,
            )?,
            repair: registry.histogram_vec(
                "alertbot_time_to_repair_seconds",
                "Time from an alert's beginning to its verified repair, in seconds.",
                &["rule", "cause"],
                REPAIR_BUCKETS,
            )?,
            lag: registry.gauge(
                "alertbot_journal_lag_seconds",
                "Age of the oldest notification that is not worked through, in seconds.",
            )?,
            journal_errors: registry.counter("alertbot_journal_errors_total", "Writes to the journal that failed.")?,
            reconcile: registry.gauge(
                "alertbot_last_reconcile_timestamp_seconds",
                "When Alertmanager's list was last read, in seconds since the epoch.",
            )?,
            reconciles: registry.counter_vec(
                "alertbot_reconciles_total",
                "Attempts to read Alertmanager's list.",
                &["result"],
            )?,
            policy: registry.counter_vec(
                "alertbot_policy_loads_total",
                "Changes of the policy file, taken or rejected.",
                &["result"],
            )?,
            escalations: registry.counter_vec(
                "alertbot_escalations_total",
                "Messages to people, by level of the ladder, receiver and result.",
                &["level", "receiver", "result"],
            )?,
            annotations: registry.counter_vec(
                "alertbot_annotations_total",
                "Annotations sent to Grafana.",
                &["result"],
            )?,
            audit_ok: registry
                .int_gauge("alertbot_audit_ok", "1 while every line of the audit fits the one before it.")?,
            audit_lines: registry
                .int_gauge("alertbot_audit_lines", "Lines of the audit, when it was verified last.")?,
            audit_verified: registry.gauge(
                "alertbot_audit_verified_timestamp_seconds",
                "When the audit was verified last, in seconds since the epoch.",
            )?,
            leader: registry.int_gauge("alertbot_leader", "1 while this bot acts, 0 while it stands by.")?,
            frozen: registry.int_gauge_vec(
                "alertbot_frozen",
                "1 while nothing is acted on, by whose order.",
                &["by"],
            )?,
            releases: registry.counter_vec(
                "alertbot_releases_total",
                "Orders to give a budget back, by whose.",
                &["budget"],
            )?,
            edges: registry.int_gauge_vec(
                "alertbot_topology_edges",
                "Needs between services that are known, by who says so.",
                &["source"],
            )?,
            waiting: registry
                .int_gauge("alertbot_messages_waiting", "Messages to people that nobody has taken yet.")?,
        };
        // Unverified is not broken: the first look comes right after the start.
        metrics.audit_ok.set(1);
        for by in ["operator", "storm"] {
            metrics.frozen.with_label_values(&[by]);
        }
        for budget in ["target", "global"] {
            metrics.releases.with_label_values(&[budget]);
        }
        for source in ["containers", "traces"] {
            metrics.edges.with_label_values(&[source]);
        }
        for result in ["accepted", "malformed", "unauthorized", "unavailable"] {
            metrics.webhooks.with_label_values(&[result]);
        }
        for outcome in Outcome::ALL {
            metrics.incidents.with_label_values(&[outcome.as_str()]);
        }
        for verb in ["restart", "start", "stop_start", "recreate", "roll_back", "scale_out", "scale_in"] {
            for result in ["done", "not_performed", "unknown"] {
                metrics.actions.with_label_values(&[verb, result]);
            }
        }
        // Where nothing can be inspected, nothing is unknown for a while only.
        for result in ["done", "not_performed", "unanswered"] {
            metrics.actions.with_label_values(&["webhook", result]);
        }
        for reason in Reason::ALL {
            metrics.refusals.with_label_values(&[reason.as_str()]);
        }
        for verdict in [Verdict::Healed, Verdict::NotHealed, Verdict::Unverified] {
            metrics.verdicts.with_label_values(&[verdict.as_str()]);
        }
        for result in ["ok", "error"] {
            metrics.reconciles.with_label_values(&[result]);
            metrics.annotations.with_label_values(&[result]);
        }
        for result in ["replaced", "rejected"] {
            metrics.policy.with_label_values(&[result]);
        }
        for receiver in Receiver::ALL {
            for result in ["queued", "delivered", "failed"] {
                metrics.escalations.with_label_values(&["1", receiver.as_str(), result]);
            }
        }
        Ok(metrics)
    }

    /// What only the bot that acts can say is the other one's to say.
    pub fn stand_by(&self) {
        self.open.set(0);
        self.lag.set(0.0);
        self.budget.reset();
        for source in ["containers", "traces"] {
            self.edges.with_label_values(&[source]).set(0);
        }
        for by in ["operator", "storm"] {
            self.frozen.with_label_values(&[by]).set(0);
        }
    }
}
