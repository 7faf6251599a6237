//! The fleet's metrics, read from the fleet itself when somebody asks: no second copy that could
//! disagree, and nothing left of a machine that is gone.
//!
//! What there is, `visit` says once. It is rendered in two ways: as the registry's collector
//! ([`FleetCollector`]), and straight to text ([`render`]), which is what makes a large fleet
//! affordable. The fleet is locked for one family at a time, so that its clock goes on.

use std::{cell::Cell, io::Write, sync::Arc};

use prometheus::{
    core::{Collector, Desc},
    proto::{MetricFamily, MetricType},
};
use telemetry::metrics::{Registry, sample};

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

/// A label beside those of the machine.
type Extra = Option<(&'static str, &'static str)>;

/// Takes series.
trait Sink {
    /// The samples that follow are of this metric; `labels` beside those of a machine.
    fn family(&mut self, name: &'static str, help: &'static str, kind: MetricType, label: Option<&'static str>);
    /// One sample: of a machine, or of the whole fleet.
    fn sample(&mut self, machine: Option<&Machine>, extra: Extra, value: f64);
}

/// Name, help and value of families.
type Table = &'static [(&'static str, &'static str, Value)];

/// One machine's samples of a family.
struct Samples<'a, S>(&'a mut S, &'a Machine);

impl<S: Sink> Samples<'_, S> {
    fn put(&mut self, value: f64) {
        self.0.sample(Some(self.1), None, value);
    }

    fn put_with(&mut self, label: &'static str, is: &'static str, value: f64) {
        self.0.sample(Some(self.1), Some((label, is)), value);
    }
}

/// A family with samples of every machine.
struct Family {
    names: (&'static str, &'static str),
    kind: MetricType,
    label: Option<&'static str>,
}

impl Family {
    fn visit<S: Sink>(self, fleet: &Shared<Fleet>, sink: &mut S, mut samples: impl FnMut(&mut Samples<'_, S>)) {
        sink.family(self.names.0, self.names.1, self.kind, self.label);
        let fleet = fleet.lock();
        fleet.machines().iter().for_each(|m| samples(&mut Samples(sink, m)));
        drop(fleet);
        // Whoever waits for the fleet comes first.
        std::thread::yield_now();
    }
}

/// Says everything that there is, family by family.
fn visit<S: Sink>(fleet: &Shared<Fleet>, sink: &mut S) {
    type Keep = fn(&Machine) -> bool;
    let tables: [(Table, MetricType, Keep); 5] = [
        // While data are missing there is nothing to show: a gap must look like one.
        (GAUGES, MetricType::GAUGE, |m| m.measured.is_some()),
        (FORECASTS, MetricType::GAUGE, |m| m.measured.is_some()),
        (COUNTERS, MetricType::COUNTER, |_| true),
        (OUTPUT_GAUGES, MetricType::GAUGE, |m| m.link.is_none()),
        (OUTPUT_COUNTERS, MetricType::COUNTER, |m| m.link.is_none()),
    ];
    for (table, kind, keep) in tables {
        for (name, help, value) in table {
            Family { names: (name, help), kind, label: None }.visit(fleet, sink, |s| {
                if keep(s.1) {
                    s.put(value(s.1));
                }
            });
        }
    }
    let counters = |names, label| Family { names, kind: MetricType::COUNTER, label: Some(label) };
    counters(SCRAPPED, "cause").visit(fleet, sink, |s| {
        let output = &s.1.output;
        if s.1.link.is_none() {
            s.put_with("cause", "failure", f64::from(output.failure_scrap));
            s.put_with("cause", "process", f64::from(output.process_scrap));
        }
    });
    Family { names: LAST, kind: MetricType::GAUGE, label: None }.visit(fleet, sink, |s| {
        if s.1.last_reading_us > 0 {
            s.put(s.1.last_reading_us as f64 / 1e6);
        }
    });
    counters(GAPS, "reason").visit(fleet, sink, |s| {
        Reason::ALL.into_iter().for_each(|r| s.put_with("reason", r.as_str(), s.1.gaps.opened(r) as f64));
    });
    counters(MISSED, "reason").visit(fleet, sink, |s| {
        Reason::ALL.into_iter().for_each(|r| s.put_with("reason", r.as_str(), s.1.gaps.missed(r) as f64));
    });
    counters(CODES, "code").visit(fleet, sink, |s| {
        ErrorCode::ALL.into_iter().for_each(|c| s.put_with("code", c.label(), s.1.codes.get(c) as f64));
    });
    sink.family(FAULTS.0, FAULTS.1, MetricType::GAUGE, Some("fault"));
    let fleet = fleet.lock();
    for kind in Kind::ALL {
        let count = fleet.faults().iter().filter(|a| a.fault.kind == kind).count();
        sink.sample(None, Some(("fault", kind.as_str())), count as f64);
    }
}

/// Up to four labels in the order of their names, as the text format wants them.
fn labels(machine: Option<&Machine>, extra: Extra) -> impl Iterator<Item = (&'static str, &str)> {
    let id = machine.map(|m| &m.identity);
    let own = id.map(|id| [("line", &*id.line), ("machine_id", &*id.machine_id), ("site", &*id.site)]);
    let before = move |pair: &(&str, &str)| extra.is_none_or(|extra| pair.0 < extra.0);
    let first = own.into_iter().flatten().filter(before);
    let last = own.into_iter().flatten().filter(move |pair| !before(pair));
    first.chain(extra).chain(last)
}

/// The fleet in a registry.
pub struct FleetCollector {
    fleet: Arc<Shared<Fleet>>,
    descriptions: Vec<Desc>,
}

impl FleetCollector {
    /// Renders this fleet.
    ///
    /// # Errors
    /// A name is no metric name.
    pub fn new(fleet: Arc<Shared<Fleet>>) -> Result<Self, prometheus::Error> {
        let mut described = Descriptions(Vec::new());
        // Names and labels do not depend on the machines.
        visit(&Shared::new(Fleet::new(0, 0, "", 1, 0)), &mut described);
        let descriptions = described.0.into_iter().collect::<Result<_, _>>()?;
        Ok(Self { fleet, descriptions })
    }
}

struct Descriptions(Vec<Result<Desc, prometheus::Error>>);

impl Sink for Descriptions {
    fn family(&mut self, name: &'static str, help: &'static str, _: MetricType, label: Option<&'static str>) {
        let machine = if label == Some("fault") { &[][..] } else { &["machine_id", "line", "site"] };
        let labels = machine.iter().copied().chain(label).map(str::to_owned).collect();
        self.0.push(Desc::new(name.to_owned(), help.to_owned(), labels, Default::default()));
    }

    fn sample(&mut self, _: Option<&Machine>, _: Extra, _: f64) {}
}

thread_local! {
    /// Somebody renders the fleet beside the registry: the collector has nothing to say.
    static APART: Cell<bool> = const { Cell::new(false) };
}

impl Collector for FleetCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Families(Vec::with_capacity(self.descriptions.len()));
        if !APART.get() {
            visit(&self.fleet, &mut families);
        }
        families.0
    }
}

struct Families(Vec<MetricFamily>);

impl Sink for Families {
    fn family(&mut self, name: &'static str, help: &'static str, kind: MetricType, _: Option<&'static str>) {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        self.0.push(family);
    }

    fn sample(&mut self, machine: Option<&Machine>, extra: Extra, value: f64) {
        let Some(family) = self.0.last_mut() else { return };
        let metric = sample(family.get_field_type(), labels(machine, extra), value);
        family.mut_metric().push(metric);
    }
}

/// The Prometheus text format, or OpenMetrics.
struct Text {
    out: Vec<u8>,
    name: &'static str,
    openmetrics: bool,
}

impl Sink for Text {
    fn family(&mut self, name: &'static str, help: &'static str, kind: MetricType, _: Option<&'static str>) {
        self.name = name;
        let counter = kind == MetricType::COUNTER;
        // OpenMetrics names a counter's family without the suffix of its samples.
        let family = if counter && self.openmetrics { name.strip_suffix("_total").unwrap_or(name) } else { name };
        let kind = if counter { "counter" } else { "gauge" };
        let _ = writeln!(self.out, "# HELP {family} {help}\n# TYPE {family} {kind}");
    }

    fn sample(&mut self, machine: Option<&Machine>, extra: Extra, value: f64) {
        self.out.extend_from_slice(self.name.as_bytes());
        let mut separator = b'{';
        for (name, value) in labels(machine, extra) {
            self.out.push(separator);
            separator = b',';
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b"=\"");
            for byte in value.bytes() {
                match byte {
                    b'\\' => self.out.extend_from_slice(b"\\\\"),
                    b'"' => self.out.extend_from_slice(b"\\\""),
                    b'\n' => self.out.extend_from_slice(b"\\n"),
                    plain => self.out.push(plain),
                }
            }
            self.out.push(b'"');
        }
        self.out.extend_from_slice(b"} ");
        // Most counters of most machines are small whole numbers.
        let _ = if (0.0..1e15).contains(&value) && value.fract() == 0.0 {
            writeln!(self.out, "{}", value as u64)
        } else if value.is_infinite() {
            writeln!(self.out, "{}Inf", if value > 0.0 { '+' } else { '-' })
        } else {
            writeln!(self.out, "{value}")
        };
    }
}

/// Restores the collector's say, also after a panic.
struct Apart;

impl Drop for Apart {
    fn drop(&mut self) {
        APART.set(false);
    }
}

/// Renders the fleet and all else that is in `registry`, where its collector is: OpenMetrics if
/// `accept` asks for it, else Prometheus text. Returns the content type and the body.
pub fn render(fleet: &Shared<Fleet>, registry: &Registry, accept: Option<&str>) -> (&'static str, Vec<u8>) {
    const END: &[u8] = b"# EOF\n";
    let (content_type, mut out) = {
        APART.set(true);
        let _apart = Apart;
        registry.encode(accept)
    };
    let openmetrics = out.ends_with(END);
    if openmetrics {
        out.truncate(out.len() - END.len());
    }
    let mut text = Text { out, name: "", openmetrics };
    visit(fleet, &mut text);
    if openmetrics {
        text.out.extend_from_slice(END);
    }
    (content_type, text.out)
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

    #[test]
    fn both_ways_of_rendering_say_the_same() {
        let mut fleet = Fleet::new(12, 42, "b", 1_000_000, 0);
        let [machine_id, line, site] = ["press-7", "a\\b", "\"c\"\n"].map(Arc::from);
        fleet.link(crate::fleet::Identity { machine_id, line, site }, 1_000_000, 0).unwrap();
        (1..90).for_each(|i| drop(fleet.tick(i * 1_000_000)));
        let fleet = Arc::new(Shared::new(fleet));
        let registry = Registry::new("test", "0").unwrap();
        registry.register(Box::new(FleetCollector::new(fleet.clone()).unwrap())).unwrap();
        for accept in [None, Some("application/openmetrics-text")] {
            let collected = registry.encode(accept);
            let rendered = render(&fleet, &registry, accept);
            assert_eq!(collected.0, rendered.0);
            let lines = |body: Vec<u8>| {
                let text = String::from_utf8(body).unwrap();
                assert_eq!(text.ends_with("# EOF\n"), accept.is_some());
                // A number may be written as 1 or 1.0, and infinity in two ways; process metrics move.
                let ours = |l: &&str| !l.contains("process_");
                let value = |l: &str| match l.rsplit_once(' ') {
                    Some((series, value)) if !l.starts_with('#') => format!("{series} {:?}", value.parse::<f64>()),
                    _ => l.to_owned(),
                };
                let mut lines: Vec<_> = text.lines().filter(ours).map(value).collect();
                lines.sort();
                lines
            };
            let (collected, rendered) = (lines(collected.1), lines(rendered.1));
            for (a, b) in collected.iter().zip(&rendered) {
                assert_eq!(a, b);
            }
            assert_eq!(collected.len(), rendered.len());
            assert!(collected.len() > 500);
        }
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
