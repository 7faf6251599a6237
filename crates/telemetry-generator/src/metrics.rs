//! Metrics. The fleet's are read from the fleet itself when somebody asks: no second copy
//! that could disagree, and nothing left of a machine that is gone.

use std::sync::Arc;

use lake::{Observer, Operation, Outcome};
use prometheus::{
    core::{Collector, Desc},
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};
use telemetry::metrics::{HttpMetrics, LATENCY_BUCKETS, Registry};

use crate::{
    codes::ErrorCode,
    faults::Kind,
    fleet::{Fleet, Machine},
    gaps::Reason,
    output::SCRAP_PER_FAILURE,
    service::Shared,
};

/// Joules in a kilowatt hour, times 1,000 for the meter's unit.
const MILLIJOULES_PER_KWH: f64 = 3.6e9;

/// What the process counts itself.
#[derive(Clone)]
pub struct Metrics {
    /// Requests.
    pub http: HttpMetrics,
    /// Attempts to hand a batch to the lake, by result.
    pub lake_writes: prometheus::IntCounterVec,
    /// How long an attempt took.
    pub lake_write_duration: prometheus::Histogram,
    /// Requests to the lake, by operation and result.
    pub lake_requests: prometheus::IntCounterVec,
    /// Readings that no reader of the lake can see yet.
    pub lake_pending: prometheus::IntGauge,
    /// Readings handed over.
    pub lake_written: prometheus::IntCounter,
    /// How long the physics of one tick took.
    pub tick_duration: prometheus::Histogram,
}

impl Metrics {
    /// Registers everything but the fleet.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            http: HttpMetrics::new(registry)?,
            lake_writes: registry.counter_vec("lake_write_total", "Attempts to write a batch.", &["result"])?,
            lake_write_duration: registry.histogram(
                "lake_write_duration_seconds",
                "Duration of one attempt to write a batch.",
                LATENCY_BUCKETS,
            )?,
            lake_requests: registry.counter_vec(
                "lake_requests_total",
                "Requests to the lake's store.",
                &["operation", "result"],
            )?,
            lake_pending: registry.int_gauge("lake_pending_readings", "Readings not yet in the lake.")?,
            lake_written: registry.counter("lake_written_readings_total", "Readings written to the lake.")?,
            tick_duration: registry.histogram(
                "fleet_tick_duration_seconds",
                "Duration of one step of the whole fleet.",
                &[0.000_05, 0.000_2, 0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0],
            )?,
        };
        for outcome in [Outcome::Ok, Outcome::Unavailable, Outcome::Error] {
            metrics.lake_writes.with_label_values(&[outcome.as_str()]);
        }
        Ok(metrics)
    }
}

impl Observer for Metrics {
    fn request(&self, operation: Operation, outcome: Outcome, _: std::time::Duration) {
        let operation = match operation {
            Operation::Get => "get",
            Operation::Put => "put",
            Operation::List => "list",
        };
        self.lake_requests.with_label_values(&[operation, outcome.as_str()]).inc();
    }
}

/// Renders the fleet at each scrape.
pub struct FleetCollector {
    fleet: Arc<Shared<Fleet>>,
    descriptions: Vec<Desc>,
}

/// A value of one machine.
type Value = fn(&Machine) -> f64;

/// Name, help, value; shown while the machine's data are there.
const GAUGES: &[(&str, &str, Value)] = &[
    ("machine_temperature", "Temperature of the machine as its sensor reads it, degrees Celsius.", temperature),
    ("machine_temperature_celsius", "The same as machine_temperature, with its unit in the name.", temperature),
    ("machine_status", "1 up, 0 down (no supply, stopped by its protection, or broken).", |m| f64::from(m.status())),
    ("machine_power_watts", "Electrical power.", |m| m.measured.as_ref().map_or(0.0, |r| r.power_watts)),
    ("machine_load_ratio", "Share of the maximum load.", |m| m.measured.as_ref().map_or(0.0, |r| r.load)),
    ("machine_vibration_mm_per_second", "Vibration velocity, RMS, millimetres per second.", |m| {
        m.measured.as_ref().map_or(0.0, |r| r.vibration)
    }),
];

/// Name, help, value; shown while the machine's data are there: what is expected of it.
const FORECASTS: &[(&str, &str, Value)] = &[
    (
        "machine_overheat_eta_seconds",
        "Time until 95 degrees Celsius if the machine goes on as it does; +Inf if it is not on its way there.",
        |m| f64::from(m.forecaster.outlook().eta_seconds),
    ),
    ("machine_overheat_probability", "Probability of 95 degrees Celsius or more in 20 minutes, 0 to 1.", |m| {
        f64::from(m.forecaster.outlook().probability)
    }),
    ("machine_overheat_predicted", "1 while the machine is forecast to overheat, or is hot already.", |m| {
        f64::from(u8::from(m.forecaster.alarmed()))
    }),
    ("machine_temperature_predicted_celsius", "Temperature expected in 20 minutes, degrees Celsius.", |m| {
        f64::from(m.forecaster.outlook().predicted)
    }),
    (
        "machine_temperature_gradient_celsius_per_minute",
        "Filtered slope of the temperature, degrees Celsius per minute.",
        |m| f64::from(m.forecaster.outlook().gradient_per_minute),
    ),
    (
        "machine_anomaly_score",
        "Largest deviation of temperature, vibration or power from what is usual at this load, in usual deviations.",
        Machine::anomaly_score,
    ),
];

/// Name, help, value; of simulated machines.
const OUTPUT_GAUGES: &[(&str, &str, Value)] = &[
    ("machine_availability_ratio", "Share of the last hour in which the machine worked (ISO 22400-2).", |m| {
        m.output.oee(&m.model).availability
    }),
    (
        "machine_performance_ratio",
        "Speed while it worked, compared with the ideal one, last hour (ISO 22400-2).",
        |m| m.output.oee(&m.model).performance,
    ),
    ("machine_quality_ratio", "Share of good parts, last hour (ISO 22400-2).", |m| m.output.oee(&m.model).quality),
    ("machine_oee_ratio", "Availability times performance times quality, last hour (ISO 22400-2).", |m| {
        m.output.oee(&m.model).overall()
    }),
    ("machine_wear_ratio", "Wear since the last overhaul, 0 to 1.", |m| m.state.wear),
];

/// Name, help, value; of simulated machines.
const OUTPUT_COUNTERS: &[(&str, &str, Value)] = &[
    ("machine_parts_produced_total", "Parts produced, good or not.", |m| m.output.produced() as f64),
    ("machine_failures_avoided_total", "Forecast failures that did not come after the load was reduced.", |m| {
        f64::from(m.output.avoided_failures)
    }),
    (
        "machine_parts_scrap_avoided_total",
        "Parts not scrapped thanks to avoided failures; assumes 6 spoilt parts a failure.",
        |m| f64::from(m.output.avoided_failures * SCRAP_PER_FAILURE),
    ),
];

/// Name, help, value.
const COUNTERS: &[(&str, &str, Value)] = &[
    ("esg_energy_kwh_total", "Energy meter of the machine, kWh; it outlives restarts.", |m| {
        m.state.energy_mj as f64 / MILLIJOULES_PER_KWH
    }),
    ("machine_readings_total", "Readings taken.", |m| m.readings as f64),
    ("esg_governance_failures_total", "Gaps in the machine's data; each counts once, however long.", |m| {
        m.gaps.failures() as f64
    }),
];

fn temperature(m: &Machine) -> f64 {
    m.measured.as_ref().map_or(0.0, |r| r.temperature)
}

const GAPS: (&str, &str) = ("machine_reading_gaps_total", "Gaps in the machine's data, by reason.");
const MISSED: (&str, &str) = ("machine_readings_missed_total", "Readings that were due and are missing, by reason.");
const CODES: (&str, &str) = ("machine_error_codes_total", "Error codes reported, by code.");
const SCRAPPED: (&str, &str) =
    ("machine_parts_scrapped_total", "Parts scrapped: by the process itself, or because something was wrong.");
const LAST: (&str, &str) =
    ("machine_last_reading_timestamp_seconds", "When the latest reading was taken, seconds since 1970.");
const FAULTS: (&str, &str) = ("fault_active", "Injected faults that are active now, by kind.");

impl FleetCollector {
    /// Renders this fleet.
    ///
    /// # Errors
    /// A name is no metric name.
    pub fn new(fleet: Arc<Shared<Fleet>>) -> Result<Self, prometheus::Error> {
        let machine = || ["machine_id", "line", "site"].map(str::to_owned).to_vec();
        let with = |label: &str| [machine(), vec![label.to_owned()]].concat();
        let plain = [GAUGES, FORECASTS, OUTPUT_GAUGES, COUNTERS, OUTPUT_COUNTERS].concat();
        let plain = plain.into_iter().map(|(name, help, _)| (name, help, machine()));
        let others = [
            (LAST.0, LAST.1, machine()),
            (GAPS.0, GAPS.1, with("reason")),
            (MISSED.0, MISSED.1, with("reason")),
            (CODES.0, CODES.1, with("code")),
            (SCRAPPED.0, SCRAPPED.1, with("cause")),
            (FAULTS.0, FAULTS.1, vec!["fault".to_owned()]),
        ];
        let descriptions = plain
            .chain(others)
            .map(|(name, help, labels)| Desc::new(name.to_owned(), help.to_owned(), labels, Default::default()))
            .collect::<Result<_, _>>()?;
        Ok(Self { fleet, descriptions })
    }
}

impl Collector for FleetCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let fleet = self.fleet.lock();
        let machines = fleet.machines();
        let mut families = Vec::with_capacity(self.descriptions.len());
        for (name, help, value) in GAUGES.iter().chain(FORECASTS) {
            // While data are missing there is nothing to show: a gap must look like one.
            let there = machines.iter().filter(|m| m.measured.is_some());
            families.push(family(name, help, MetricType::GAUGE, there.map(|m| gauge(labels(m), value(m)))));
        }
        for (name, help, value) in COUNTERS {
            let all = machines.iter().map(|m| counter(labels(m), value(m)));
            families.push(family(name, help, MetricType::COUNTER, all));
        }
        let simulated = || machines.iter().filter(|m| m.link.is_none());
        for (name, help, value) in OUTPUT_GAUGES {
            let all = simulated().map(|m| gauge(labels(m), value(m)));
            families.push(family(name, help, MetricType::GAUGE, all));
        }
        for (name, help, value) in OUTPUT_COUNTERS {
            let all = simulated().map(|m| counter(labels(m), value(m)));
            families.push(family(name, help, MetricType::COUNTER, all));
        }
        let scrapped = simulated().flat_map(|m| {
            let parts = [("failure", m.output.failure_scrap), ("process", m.output.process_scrap)];
            parts.map(|(cause, parts)| counter(with(labels(m), "cause", cause), f64::from(parts)))
        });
        families.push(family(SCRAPPED.0, SCRAPPED.1, MetricType::COUNTER, scrapped));
        let seen = machines.iter().filter(|m| m.last_reading_us > 0);
        let last = seen.map(|m| gauge(labels(m), m.last_reading_us as f64 / 1e6));
        families.push(family(LAST.0, LAST.1, MetricType::GAUGE, last));
        let by_reason = |value: fn(&Machine, Reason) -> u64| {
            machines.iter().flat_map(move |m| {
                let one = move |r: Reason| counter(with(labels(m), "reason", r.as_str()), value(m, r) as f64);
                Reason::ALL.into_iter().map(one)
            })
        };
        families.push(family(GAPS.0, GAPS.1, MetricType::COUNTER, by_reason(|m, r| m.gaps.opened(r))));
        families.push(family(MISSED.0, MISSED.1, MetricType::COUNTER, by_reason(|m, r| m.gaps.missed(r))));
        let codes = machines.iter().flat_map(|m| {
            let one = |c: ErrorCode| counter(with(labels(m), "code", &c.number().to_string()), m.codes.get(c) as f64);
            ErrorCode::ALL.into_iter().map(one)
        });
        families.push(family(CODES.0, CODES.1, MetricType::COUNTER, codes));
        let active = Kind::ALL.into_iter().map(|kind| {
            let count = fleet.faults().iter().filter(|a| a.fault.kind == kind).count();
            gauge(with(Vec::new(), "fault", kind.as_str()), count as f64)
        });
        families.push(family(FAULTS.0, FAULTS.1, MetricType::GAUGE, active));
        families
    }
}

fn family(name: &str, help: &str, kind: MetricType, metrics: impl Iterator<Item = Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics.collect());
    family
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

/// In the order of their names, as the text format wants them.
fn labels(m: &Machine) -> Vec<LabelPair> {
    let id = &m.identity;
    vec![pair("line", &id.line), pair("machine_id", &id.machine_id), pair("site", &id.site)]
}

fn with(mut labels: Vec<LabelPair>, name: &str, value: &str) -> Vec<LabelPair> {
    labels.push(pair(name, value));
    labels.sort_by(|a, b| a.name().cmp(b.name()));
    labels
}

fn gauge(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut metric = Metric::from_label(labels);
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    metric.set_gauge(gauge);
    metric
}

fn counter(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut metric = Metric::from_label(labels);
    let mut counter = Counter::default();
    counter.set_value(value);
    metric.set_counter(counter);
    metric
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{Active, Fault};

    fn text(fleet: Fleet) -> String {
        let registry = Registry::new("test", "0").unwrap();
        registry.register(Box::new(FleetCollector::new(Arc::new(Shared::new(fleet))).unwrap())).unwrap();
        String::from_utf8(registry.encode(None).1).unwrap()
    }

    fn value(text: &str, series: &str) -> Option<f64> {
        text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    const M1: &str = r#"{line="line-1",machine_id="machine-001",site="site-1"}"#;

    #[test]
    fn the_users_queries_have_their_series() {
        let mut fleet = Fleet::new(2, 42, "b", 1_000_000, 0);
        for i in 0..600 {
            fleet.tick(i * 1_000_000);
        }
        let kwh = fleet.machines()[0].state.energy_mj as f64 / 3.6e9;
        let text = text(fleet);
        assert_eq!(value(&text, &format!("esg_energy_kwh_total{M1}")), Some(kwh));
        assert!(kwh > 0.1);
        let t = value(&text, &format!("machine_temperature{M1}")).unwrap();
        assert_eq!(value(&text, &format!("machine_temperature_celsius{M1}")), Some(t));
        assert_eq!(value(&text, &format!("machine_status{M1}")), Some(1.0));
        assert_eq!(value(&text, &format!("machine_readings_total{M1}")), Some(600.0));
        assert_eq!(value(&text, &format!("esg_governance_failures_total{M1}")), Some(0.0));
        let zero = r#"machine_error_codes_total{code="101",line="line-1",machine_id="machine-001",site="site-1"}"#;
        assert_eq!(value(&text, zero), Some(0.0), "a closed set starts at zero");
        assert_eq!(value(&text, r#"fault_active{fault="sensor_gap"}"#), Some(0.0));
        assert!(text.contains("# TYPE esg_energy_kwh_total counter"));
    }

    #[test]
    fn in_a_gap_the_gauges_are_absent_and_the_counters_stay() {
        let mut fleet = Fleet::new(2, 42, "b", 1_000_000, 0);
        fleet.tick(1_000_000);
        let fault = Fault { kind: Kind::SensorGap, severity: 1.0, drift: None };
        fleet.inject(Active { fault, machine: Some(0), until_us: i64::MAX, grows: None });
        fleet.tick(2_000_000);
        let text = text(fleet);
        assert_eq!(value(&text, &format!("machine_temperature{M1}")), None);
        assert_eq!(value(&text, &format!("machine_status{M1}")), None);
        assert_eq!(value(&text, &format!("machine_last_reading_timestamp_seconds{M1}")), Some(1.0));
        assert_eq!(value(&text, &format!("esg_governance_failures_total{M1}")), Some(1.0));
        assert!(value(&text, &format!("esg_energy_kwh_total{M1}")).is_some());
        let reason = r#"machine_reading_gaps_total{line="line-1",machine_id="machine-001",reason="sensor_silent",site="site-1"}"#;
        assert_eq!(value(&text, reason), Some(1.0));
    }
}
