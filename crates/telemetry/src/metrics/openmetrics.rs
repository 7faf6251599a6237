//! The OpenMetrics 1.0 text format, with exemplars.
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>

use std::{
    fmt::{Display, Write},
    time::SystemTime,
};

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::exemplar::{Exemplar, Store};

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn encode(families: &[MetricFamily], exemplars: &Store) -> String {
    let mut out = String::with_capacity(16 * 1024);
    for family in families {
        write_family(&mut out, family, exemplars);
    }
    out.push_str("# EOF\n");
    out
}

fn write_family(out: &mut String, family: &MetricFamily, exemplars: &Store) {
    let full = family.name();
    let (name, kind) = match family.get_field_type() {
        // A counter's family is named without the suffix that its sample carries. One that lacks
        // the suffix cannot be a counter here.
        MetricType::COUNTER => match full.strip_suffix("_total") {
            Some(name) => (name, "counter"),
            None => (full, "unknown"),
        },
        MetricType::GAUGE => (full, "gauge"),
        MetricType::HISTOGRAM => (full, "histogram"),
        MetricType::SUMMARY => (full, "summary"),
        MetricType::UNTYPED => (full, "unknown"),
    };
    let _ = writeln!(out, "# TYPE {name} {kind}");
    let _ = writeln!(out, "# HELP {name} {}", escape(family.help()));
    for metric in family.get_metric() {
        match family.get_field_type() {
            MetricType::COUNTER => sample(out, full, metric, None, metric.get_counter().get_value(), None),
            MetricType::GAUGE => sample(out, full, metric, None, metric.get_gauge().get_value(), None),
            MetricType::HISTOGRAM => write_histogram(out, full, metric, exemplars),
            MetricType::SUMMARY => {
                let summary = metric.get_summary();
                for quantile in summary.get_quantile() {
                    let label = Some(("quantile", number(quantile.quantile())));
                    sample(out, full, metric, label, quantile.value(), None);
                }
                sample(out, &format!("{full}_sum"), metric, None, summary.sample_sum(), None);
                sample(out, &format!("{full}_count"), metric, None, summary.sample_count(), None);
            }
            // The crate makes none.
            MetricType::UNTYPED => {}
        }
    }
}

fn write_histogram(out: &mut String, name: &str, metric: &Metric, exemplars: &Store) {
    let histogram = metric.get_histogram();
    let labels: Vec<_> = metric.get_label().iter().map(|l| (l.name(), l.value())).collect();
    let bucket_name = format!("{name}_bucket");
    let finite = histogram.get_bucket().iter().filter(|b| b.upper_bound().is_finite());
    let mut last = 0;
    for (i, bucket) in finite.enumerate() {
        let le = Some(("le", number(bucket.upper_bound())));
        sample(out, &bucket_name, metric, le, bucket.cumulative_count(), exemplars.get(name, &labels, i));
        last = i + 1;
    }
    let le = Some(("le", "+Inf".to_owned()));
    sample(out, &bucket_name, metric, le, histogram.get_sample_count(), exemplars.get(name, &labels, last));
    sample(out, &format!("{name}_sum"), metric, None, histogram.get_sample_sum(), None);
    sample(out, &format!("{name}_count"), metric, None, histogram.get_sample_count(), None);
}

fn sample(
    out: &mut String,
    name: &str,
    metric: &Metric,
    extra: Option<(&str, String)>,
    value: impl Value,
    exemplar: Option<Exemplar>,
) {
    out.push_str(name);
    let labels = metric.get_label().iter().map(|l| (l.name(), escape(l.value())));
    let mut separator = '{';
    for (label, value) in labels.chain(extra) {
        let _ = write!(out, "{separator}{label}=\"{value}\"");
        separator = ',';
    }
    if separator == ',' {
        out.push('}');
    }
    let _ = write!(out, " {}", value.text());
    if let Some(Exemplar { trace_id, value, at }) = exemplar {
        let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let _ = write!(out, " # {{trace_id=\"{trace_id}\"}} {} {at:.3}", number(value));
    }
    out.push('\n');
}

trait Value {
    fn text(self) -> impl Display;
}

impl Value for u64 {
    fn text(self) -> impl Display {
        self
    }
}

impl Value for f64 {
    fn text(self) -> impl Display {
        number(self)
    }
}

fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        // Bounds must read as floats, so that 1 becomes 1.0.
        _ => format!("{value:?}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use crate::metrics::Registry;

    #[test]
    fn counters_histograms_and_escapes_follow_the_format() {
        let registry = Registry::new("svc", "1").unwrap();
        registry.counter_vec("a_total", "Things.", &["kind"]).unwrap().with_label_values(&["x\"y\\z\n"]).inc();
        let h = registry.exemplar_histogram_vec("d_seconds", "Time.", &["m", "e"], &[0.5, 1.0]).unwrap();
        h.observe(&["GET", "/a"], 0.7);
        h.observe(&["GET", "/a"], 9.0);
        let (content_type, body) = registry.encode(Some("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"));
        assert!(content_type.starts_with("application/openmetrics-text"));
        let text = String::from_utf8(body).unwrap();
        for line in [
            "# TYPE a counter",
            "a_total{kind=\"x\\\"y\\\\z\\n\"} 1.0",
            "# TYPE d_seconds histogram",
            "d_seconds_bucket{e=\"/a\",m=\"GET\",le=\"0.5\"} 0",
            "d_seconds_bucket{e=\"/a\",m=\"GET\",le=\"1.0\"} 1",
            "d_seconds_bucket{e=\"/a\",m=\"GET\",le=\"+Inf\"} 2",
            "d_seconds_count{e=\"/a\",m=\"GET\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "missing {line:?} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let (plain, body) = registry.encode(Some("text/plain"));
        assert!(plain.starts_with("text/plain"));
        assert!(String::from_utf8(body).unwrap().contains("a_total{kind="));
    }
}
