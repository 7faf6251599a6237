//! The receiver's own metrics.

use telemetry::metrics::{Error, IntCounterVec, IntGauge, Registry};

use crate::notification::Channel;

/// Counters, registered once.
pub struct Metrics {
    /// `notifications_received_total{channel}`
    pub received: IntCounterVec,
    /// `notifications_refused_total{channel}`
    pub refused: IntCounterVec,
    /// `notifications_violations_total{channel}`
    pub violations: IntCounterVec,
    /// `notifications_kept`
    pub kept: IntGauge,
}

impl Metrics {
    /// Registers all, each channel at zero.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        let metrics = Self {
            received: registry.counter_vec(
                "notifications_received_total",
                "Notifications taken in, by channel.",
                &["channel"],
            )?,
            refused: registry.counter_vec(
                "notifications_refused_total",
                "Messages that were no notification of their channel, or too large.",
                &["channel"],
            )?,
            violations: registry.counter_vec(
                "notifications_violations_total",
                "What was wrong with messages, by channel.",
                &["channel"],
            )?,
            kept: registry.int_gauge("notifications_kept", "Notifications that can be looked at now.")?,
        };
        for channel in Channel::ALL {
            metrics.received.with_label_values(&[channel.name()]);
            metrics.refused.with_label_values(&[channel.name()]);
            metrics.violations.with_label_values(&[channel.name()]);
        }
        Ok(metrics)
    }
}
