//! One line of a collector that reads its values from elsewhere.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricType};

/// A counter, or else a gauge, with these labels, for a family of that kind.
pub fn sample<'n, 'v>(kind: MetricType, labels: impl IntoIterator<Item = (&'n str, &'v str)>, value: f64) -> Metric {
    let pair = |(name, value): (&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    let mut metric = Metric::from_label(labels.into_iter().map(pair).collect());
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}
