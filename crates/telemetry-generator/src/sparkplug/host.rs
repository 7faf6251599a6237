//! What a Sparkplug host knows of its edge nodes, and what their messages do to the fleet.
//!
//! Group, edge node and device are site, line and machine. A birth registers the machine; what follows
//! goes the way of posted readings ([`crate::posted`]). A number that is missing in an edge node's
//! sequence means that a message was lost: what the node says counts no more until it was born again,
//! because values that did not change are not sent. Nothing here knows a clock or a network.

use std::collections::{BTreeMap, HashMap};

use prost::Message;

use super::payload::{Metric, Number, Payload};
use crate::{
    fleet::{Fleet, Identity, Ticked, label},
    posted::Posted,
};

/// Every topic of Sparkplug B begins with it.
pub const NAMESPACE: &str = "spBv1.0";
/// A node is asked for its birth this often at most, µs.
const PATIENCE: i64 = 5_000_000;
/// A machine may report this often, ms.
const PERIODS: std::ops::RangeInclusive<i64> = 100..=3_600_000;

/// An edge node: group, name.
pub type NodeId = (String, String);

/// What a message came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// It was understood and did what it is for.
    Taken,
    /// It is of no concern, or says nothing new.
    Ignored,
    /// It cannot be taken before the edge node is born again.
    Stale,
    /// It says something that cannot be.
    Refused,
    /// It is not Sparkplug B.
    Malformed,
}

impl Reception {
    /// All.
    pub const ALL: [Self; 5] = [Self::Taken, Self::Ignored, Self::Stale, Self::Refused, Self::Malformed];

    /// As a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Ignored => "ignored",
            Self::Stale => "stale",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
        }
    }
}

/// What follows from a message.
#[derive(Debug)]
pub struct Outcome {
    /// What it came to.
    pub reception: Reception,
    /// Why, where it was not taken.
    pub reason: String,
    /// Readings, and what happened.
    pub ticked: Ticked,
    /// This edge node must be asked to be born again.
    pub rebirth: Option<NodeId>,
    /// Messages that were lost before this one.
    pub lost: u64,
}

impl Outcome {
    fn new(reception: Reception, reason: impl Into<String>) -> Self {
        Self { reception, reason: reason.into(), ticked: Ticked::default(), rebirth: None, lost: 0 }
    }
}

/// What a metric of a machine means to us.
#[derive(Clone, Copy)]
enum Field {
    Temperature,
    Load,
    Power,
    Energy,
    Vibration,
    ErrorCode,
    Status,
    Failed,
    Seq,
}

/// Names of the fields, as in `POST /v1/readings`.
const NAMES: [&str; 9] = [
    "temperature",
    "load",
    "power_watts",
    "energy_millijoules_total",
    "vibration",
    "error_code",
    "status",
    "failed",
    "seq",
];
/// The first so many are required.
const REQUIRED: usize = 4;

fn field_of(name: &str) -> Option<usize> {
    NAMES.iter().position(|own| *own == name)
}

/// A machine of an edge node, as it was born.
#[derive(Debug, Default)]
struct Device {
    aliases: HashMap<u64, usize>,
    types: [u32; NAMES.len()],
    latest: [Option<Number>; NAMES.len()],
}

#[derive(Debug, Default)]
struct Node {
    online: bool,
    birth: Option<i64>,
    next_seq: u8,
    devices: HashMap<String, Device>,
    asked_us: i64,
}

/// All edge nodes.
#[derive(Debug)]
pub struct Host {
    nodes: BTreeMap<NodeId, Node>,
    /// A machine reports this often if its birth does not say, µs.
    period_us: i64,
}

struct Topic<'a> {
    node: NodeId,
    kind: &'a str,
    device: Option<&'a str>,
}

impl<'a> Topic<'a> {
    fn parse(topic: &'a str) -> Option<Self> {
        let mut parts = topic.split('/');
        let (namespace, group, kind, node) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let device = parts.next();
        let fits = namespace == NAMESPACE && kind.starts_with('D') == device.is_some() && parts.next().is_none();
        fits.then(|| Self { node: (group.to_owned(), node.to_owned()), kind, device })
    }
}

/// The kinds of messages that a host hears; others go the other way.
pub const KINDS: [&str; 6] = ["NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH"];

/// The kind of a message, by its topic.
pub fn kind(topic: &str) -> Option<&'static str> {
    let said = topic.split('/').nth(2)?;
    KINDS.into_iter().find(|kind| *kind == said)
}

/// Topic of the request to be born again.
pub fn rebirth_topic((group, node): &NodeId) -> String {
    format!("{NAMESPACE}/{group}/NCMD/{node}")
}

impl Host {
    /// Knows nobody yet; machines report every `period_us` unless their birth says otherwise.
    pub fn new(period_us: i64) -> Self {
        Self { nodes: BTreeMap::new(), period_us }
    }

    /// Edge nodes that are online.
    pub fn online(&self) -> usize {
        self.nodes.values().filter(|node| node.online).count()
    }

    /// What was said before counts no more: the connection was lost, and deaths with it.
    pub fn disconnected(&mut self) {
        self.nodes.values_mut().for_each(|node| node.online = false);
    }

    /// Takes a message. `capacity` bounds the fleet.
    pub fn receive(&mut self, fleet: &mut Fleet, capacity: usize, topic: &str, bytes: &[u8], now_us: i64) -> Outcome {
        let Some(topic) = Topic::parse(topic).filter(|topic| KINDS.contains(&topic.kind)) else {
            return Outcome::new(Reception::Ignored, "not a message of an edge node");
        };
        let payload = match Payload::decode(bytes) {
            Ok(payload) => payload,
            Err(error) => return Outcome::new(Reception::Malformed, error.to_string()),
        };
        if !self.nodes.contains_key(&topic.node) && self.nodes.len() >= capacity {
            return Outcome::new(Reception::Refused, format!("there are {capacity} edge nodes already"));
        }
        let node = self.nodes.entry(topic.node.clone()).or_default();
        match topic.kind {
            "NBIRTH" => return node.born(&payload),
            "NDEATH" => return node.died(&payload),
            _ => {}
        }
        let expected = node.next_seq;
        let mut outcome = match payload.sequence() {
            _ if !node.online => Outcome::new(Reception::Stale, "the edge node's birth was not heard"),
            None => return Outcome::new(Reception::Malformed, "it has no seq of 0 to 255"),
            Some(seq) if seq != expected => {
                node.online = false;
                let lost = u64::from(seq.wrapping_sub(expected));
                Outcome { lost, ..Outcome::new(Reception::Stale, format!("its seq is {seq}, {expected} was expected")) }
            }
            Some(seq) => {
                node.next_seq = seq.wrapping_add(1);
                match topic.device {
                    None => Outcome::new(Reception::Taken, ""),
                    Some(id) => node.hear(fleet, capacity, &topic, id, &payload, (self.period_us, now_us)),
                }
            }
        };
        if outcome.reception == Reception::Stale && now_us.saturating_sub(node.asked_us) >= PATIENCE {
            node.asked_us = now_us;
            outcome.rebirth = Some(topic.node);
        }
        outcome
    }
}

/// Number of the edge node's connection: its will carries it too.
fn bd_seq(payload: &Payload) -> Option<i64> {
    payload.number("bdSeq")??.whole()
}

impl Node {
    fn born(&mut self, payload: &Payload) -> Outcome {
        let Some(seq) = payload.sequence() else {
            return Outcome::new(Reception::Malformed, "it has no seq of 0 to 255");
        };
        let asked_us = self.asked_us;
        let birth = bd_seq(payload);
        *self = Self { online: true, birth, next_seq: seq.wrapping_add(1), asked_us, ..Self::default() };
        Outcome::new(Reception::Taken, "")
    }

    fn died(&mut self, payload: &Payload) -> Outcome {
        // The will of an earlier connection arrives late.
        if matches!((bd_seq(payload), self.birth), (Some(told), Some(own)) if told != own) {
            return Outcome::new(Reception::Ignored, "another connection's death");
        }
        self.online = false;
        self.devices.clear();
        Outcome::new(Reception::Taken, "")
    }

    fn hear(
        &mut self,
        fleet: &mut Fleet,
        capacity: usize,
        topic: &Topic<'_>,
        id: &str,
        payload: &Payload,
        (period_us, now_us): (i64, i64),
    ) -> Outcome {
        match topic.kind {
            "DDEATH" => {
                self.devices.remove(id);
                return Outcome::new(Reception::Taken, "");
            }
            "DBIRTH" => {
                if let Err(reason) = register(fleet, capacity, topic, id, payload, (period_us, now_us)) {
                    self.devices.remove(id);
                    return Outcome::new(Reception::Refused, format!("{id}: {reason}"));
                }
                self.devices.insert(id.to_owned(), Device::born(payload));
            }
            _ => {}
        }
        let Some(device) = self.devices.get_mut(id) else {
            return Outcome::new(Reception::Stale, format!("the birth of {id} was not heard"));
        };
        let readings = match device.readings(id, payload, now_us) {
            Ok(readings) => readings,
            Err(reason) => return Outcome::new(Reception::Refused, format!("{id}: {reason}")),
        };
        // A birth repeats what is known.
        let known_us = fleet.index_of(id).map_or(0, |at| fleet.machines()[at].last_reading_us);
        let mut outcome = Outcome::new(Reception::Taken, "");
        for reading in readings.into_iter().filter(|r| topic.kind != "DBIRTH" || r.ts_us > known_us) {
            match fleet.accept(&[reading], now_us) {
                Ok(mut ticked) => {
                    outcome.ticked.readings.append(&mut ticked.readings);
                    outcome.ticked.events.append(&mut ticked.events);
                    outcome.ticked.records.append(&mut ticked.records);
                }
                Err(refused) => {
                    outcome.reception = Reception::Refused;
                    outcome.reason = format!("{id}: {} {}", refused.field, refused.reason);
                }
            }
        }
        outcome
    }
}

/// A machine that was born is in the fleet.
fn register(
    fleet: &mut Fleet,
    capacity: usize,
    topic: &Topic<'_>,
    id: &str,
    payload: &Payload,
    (usual_us, now_us): (i64, i64),
) -> Result<(), String> {
    let (group, node) = &topic.node;
    let [machine_id, line, site] = [("device", id), ("edge node", node), ("group", group)]
        .map(|(what, text)| label(text).map_err(|reason| format!("the {what} {reason}")));
    let identity = Identity { machine_id: machine_id?, line: line?, site: site? };
    if let Some(at) = fleet.index_of(id) {
        let machine = &fleet.machines()[at];
        return match (&machine.link, machine.identity == identity) {
            (None, _) => Err("is a simulated machine".to_owned()),
            (_, false) => Err(format!("is a machine of {}/{}", machine.identity.site, machine.identity.line)),
            (Some(_), true) => Ok(()),
        };
    }
    let period_us = match payload.number("period_ms") {
        None => usual_us,
        Some(number) => match number.and_then(Number::whole) {
            Some(ms) if PERIODS.contains(&ms) => ms * 1_000,
            _ => return Err(format!("period_ms is not between {} and {}", PERIODS.start(), PERIODS.end())),
        },
    };
    if fleet.machines().len() >= capacity {
        return Err(format!("there are {capacity} machines already"));
    }
    fleet.link(identity, period_us, now_us);
    Ok(())
}

impl Device {
    fn born(payload: &Payload) -> Self {
        let mut device = Self::default();
        for metric in &payload.metrics {
            let Some(field) = metric.name.as_deref().and_then(field_of) else { continue };
            device.types[field] = metric.datatype.unwrap_or_default();
            if let Some(alias) = metric.alias {
                device.aliases.insert(alias, field);
            }
        }
        device
    }

    fn field(&self, metric: &Metric) -> Option<usize> {
        match (&metric.name, metric.alias) {
            (Some(name), _) => field_of(name),
            (None, Some(alias)) => self.aliases.get(&alias).copied(),
            (None, None) => None,
        }
    }

    /// What a message says, in order of time: what was measured while the broker was away, each with its
    /// own time, and what is measured now, with that of the message.
    fn readings(&mut self, id: &str, payload: &Payload, now_us: i64) -> Result<Vec<Posted>, String> {
        let micros = |ms: Option<u64>| ms.and_then(|ms| i64::try_from(ms).ok()?.checked_mul(1_000));
        let sent_us = micros(payload.timestamp).unwrap_or(now_us);
        let mut by_time: BTreeMap<(bool, i64), Vec<&Metric>> = BTreeMap::new();
        for metric in &payload.metrics {
            let past = metric.is_historical == Some(true);
            let at = if past { micros(metric.timestamp).unwrap_or(sent_us) } else { sent_us };
            by_time.entry((!past, at)).or_default().push(metric);
        }
        let mut readings = Vec::with_capacity(by_time.len());
        for ((_, ts_us), metrics) in by_time {
            let mut told = false;
            for metric in metrics {
                let Some(field) = self.field(metric) else { continue };
                let number = metric.number(metric.datatype.unwrap_or(self.types[field]));
                self.latest[field] = Some(number.ok_or_else(|| format!("{} has no number", NAMES[field]))?);
                told = true;
            }
            if told {
                readings.push(self.reading(id, ts_us)?);
            }
        }
        Ok(readings)
    }

    fn reading(&self, id: &str, ts_us: i64) -> Result<Posted, String> {
        if let Some(missing) = self.latest[..REQUIRED].iter().position(Option::is_none) {
            return Err(format!("{} is missing in its birth", NAMES[missing]));
        }
        let real = |field: Field| self.latest[field as usize].map_or(0.0, Number::real);
        let whole = |field: Field, usual: i64| match self.latest[field as usize] {
            None => Ok(usual),
            Some(number) => number.whole().ok_or_else(|| format!("{} is not a whole number", NAMES[field as usize])),
        };
        let flag = |field: Field, usual: bool| match whole(field, i64::from(usual))? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("{} is {other}, neither 0 nor 1", NAMES[field as usize])),
        };
        Ok(Posted {
            machine_id: id.to_owned(),
            ts_us,
            // Negative is none.
            seq: u64::try_from(whole(Field::Seq, -1)?).ok(),
            temperature: real(Field::Temperature),
            load: real(Field::Load),
            vibration: real(Field::Vibration),
            power_watts: real(Field::Power),
            energy_millijoules_total: whole(Field::Energy, 0)?,
            error_code: i32::try_from(whole(Field::ErrorCode, 0)?).map_err(|_| "error_code is too large".to_owned())?,
            up: flag(Field::Status, true)?,
            failed: flag(Field::Failed, false)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{gaps::Reason, sparkplug::payload::Value};

    /// Messages as Eclipse Tahu's schema encodes them (by the module that pysparkplug 0.6.1 compiled of it):
    /// temperature, load and others with aliases, types and an engineering unit; two samples later, one of them
    /// historical, by alias alone.
    const NBIRTH: &str =
        "0880998ea1c133120b0a05626453657120045803121a0a144e6f646520436f6e74726f6c2f52656269727468200b70001800";
    const DBIRTH: &str = "0880998ea1c13312360a0b74656d706572617475726510011880998ea1c133200a4a130a07656e67556e69741208080c42046465\
        6743690000000000c04b4012160a046c6f616410021880998ea1c1332009650000003f12210a0b706f7765725f776174747310031880\
        998ea1c133200a69000000004058bb40122b0a18656e657267795f6d696c6c696a6f756c65735f746f74616c10041880998ea1c13320\
        085880c8ceb40d121b0a09766962726174696f6e10051880998ea1c1332009650000a03f12190a0a6572726f725f636f646510061880\
        998ea1c1332003500012150a0673746174757310071880998ea1c133200b700112240a1150726f706572746965732f53657269616c10\
        081880998ea1c133200c7a0450582d3712120a09706572696f645f6d731009200750d00f1801";
    const DDATA: &str = "08a0b88ea1c1331214100118d0a88ea1c1332801690000000000004c401211100418d0a88ea1c1332801588087a5bb0d1212100118\
        a0b88ea1c133690000000000c04c40120f100418a0b88ea1c1335880c6fbc10d120f100818a0b88ea1c1337a0450582d371802";
    const NDEATH: &str = "08a8df8ea1c133120b0a05626453657120045803";
    /// The instant of both births, µs.
    const BORN: i64 = 1_769_864_400_000_000;
    const SECOND: i64 = 1_000_000;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    struct Bench {
        fleet: Fleet,
        host: Host,
        now_us: i64,
    }

    impl Bench {
        fn new() -> Self {
            let fleet = Fleet::new(1, 42, "boot", SECOND, BORN);
            Self { fleet, host: Host::new(10 * SECOND), now_us: BORN }
        }

        /// After both births.
        fn born() -> Self {
            let mut bench = Self::new();
            assert_eq!(bench.hear("NBIRTH/presses", &bytes(NBIRTH)).reception, Reception::Taken);
            let outcome = bench.hear("DBIRTH/presses/press-7", &bytes(DBIRTH));
            assert_eq!((outcome.reception, outcome.reason.as_str()), (Reception::Taken, ""));
            assert_eq!(outcome.ticked.readings.len(), 1);
            bench
        }

        fn hear(&mut self, topic: &str, bytes: &[u8]) -> Outcome {
            let topic = format!("spBv1.0/hall-2/{topic}");
            self.host.receive(&mut self.fleet, 3, &topic, bytes, self.now_us)
        }

        fn data(&mut self, seq: u64, seconds: i64, metrics: Vec<Metric>) -> Outcome {
            self.now_us = BORN + seconds * SECOND;
            let timestamp = Some((self.now_us / 1_000) as u64);
            let payload = Payload { timestamp, metrics, seq: Some(seq) }.encode_to_vec();
            self.hear("DDATA/presses/press-7", &payload)
        }
    }

    fn metric(name: &str, value: Value) -> Metric {
        Metric { name: Some(name.to_owned()), value: Some(value), ..Metric::default() }
    }

    #[test]
    fn what_another_encoder_says_becomes_readings() {
        let mut bench = Bench::born();
        let machine = &bench.fleet.machines()[1];
        assert_eq!((&*machine.identity.site, &*machine.identity.line), ("hall-2", "presses"));
        assert_eq!(machine.link.as_ref().unwrap().period_us(), 2 * SECOND);
        bench.now_us = BORN + 4 * SECOND;
        let outcome = bench.hear("DDATA/presses/press-7", &bytes(DDATA));
        assert_eq!(outcome.reception, Reception::Taken, "{}", outcome.reason);
        let said = |r: &lake::Reading| (r.ts_us - BORN, r.temperature, r.energy_millijoules_total);
        let readings: Vec<_> = outcome.ticked.readings.iter().map(said).collect();
        assert_eq!(readings, [(2 * SECOND, 56.0, 3_614_000_000), (4 * SECOND, 57.5, 3_628_000_000)]);
        let last = &outcome.ticked.readings[1];
        // What did not change was not sent.
        assert_eq!((last.load, last.power_watts, last.vibration), (0.5, 7_000.25, 1.25));
        assert_eq!((last.status, last.error_code, last.failed), (1, 0, false));
    }

    #[test]
    fn a_lost_message_makes_the_node_stale_until_it_is_born_again() {
        let mut bench = Bench::born();
        let warm = vec![metric("temperature", Value::Double(60.0))];
        let outcome = bench.data(5, 2, warm.clone());
        assert_eq!((outcome.reception, outcome.lost, bench.host.online()), (Reception::Stale, 3, 0));
        assert_eq!(outcome.rebirth, Some(("hall-2".to_owned(), "presses".to_owned())));
        assert_eq!(rebirth_topic(&outcome.rebirth.unwrap()), "spBv1.0/hall-2/NCMD/presses");
        let outcome = bench.data(6, 4, warm.clone());
        assert_eq!((outcome.reception, outcome.rebirth), (Reception::Stale, None), "it was asked just now");
        assert!(bench.data(7, 8, warm.clone()).rebirth.is_some(), "and once more, for it did not answer");
        assert_eq!(bench.fleet.machines()[1].readings, 1, "none of it counted");
        assert_eq!(bench.hear("NBIRTH/presses", &bytes(NBIRTH)).reception, Reception::Taken);
        assert_eq!(bench.data(1, 9, warm.clone()).reason, "the birth of press-7 was not heard");
        assert_eq!(bench.hear("NBIRTH/presses", &bytes(NBIRTH)).reception, Reception::Taken);
        let outcome = bench.hear("DBIRTH/presses/press-7", &bytes(DBIRTH));
        assert_eq!(
            (outcome.reception, outcome.ticked.readings.len()),
            (Reception::Taken, 0),
            "it repeats what is known"
        );
        assert_eq!(bench.data(2, 10, warm).ticked.readings.len(), 1);
        bench.fleet.tick(BORN + 10 * SECOND);
        assert!(bench.fleet.machines()[1].gaps.missed(Reason::SensorSilent) == 0, "no silence of three periods");
    }

    #[test]
    fn a_sequence_goes_round_and_a_late_death_is_another_connections() {
        let mut bench = Bench::born();
        for n in 2..600_u64 {
            let outcome = bench.data(n % 256, n as i64, vec![metric("temperature", Value::Double(50.0))]);
            assert_eq!(outcome.reception, Reception::Taken, "{n}: {}", outcome.reason);
        }
        let mut other = Payload::decode(&*bytes(NDEATH)).unwrap();
        other.metrics[0].value = Some(Value::Long(2));
        assert_eq!(bench.hear("NDEATH/presses", &other.encode_to_vec()).reception, Reception::Ignored);
        assert_eq!(bench.host.online(), 1);
        assert_eq!(bench.hear("NDEATH/presses", &bytes(NDEATH)).reception, Reception::Taken);
        assert_eq!(bench.host.online(), 0);
        assert_eq!(bench.data(88, 700, vec![]).reception, Reception::Stale);
        // Silence is a gap, as of any machine.
        bench.fleet.tick(BORN + 700 * SECOND);
        assert!(bench.fleet.machines()[1].gaps.missed(Reason::SensorSilent) > 0);
    }

    #[test]
    fn what_cannot_be_is_refused_with_machine_and_field() {
        let born = || Bench::born();
        let text = |value: &str| Value::Text(value.to_owned());
        for (name, value, reason) in [
            ("temperature", Value::Double(f64::NAN), "press-7: temperature is not a finite number"),
            ("temperature", text("hot"), "press-7: temperature has no number"),
            ("load", Value::Float(1.5), "press-7: load 1.5 is outside 0 to 1"),
            ("energy_millijoules_total", Value::Long(5), "goes backwards: it was 3600000000"),
            ("energy_millijoules_total", Value::Double(3.6e9 + 0.5), "energy_millijoules_total is not a whole number"),
            ("energy_millijoules_total", Value::Long(u64::MAX), "energy_millijoules_total has no number"),
            ("status", Value::Int(3), "press-7: status is 3, neither 0 nor 1"),
            ("error_code", Value::Int(u32::MAX), "press-7: error_code is negative"),
        ] {
            let outcome = born().data(2, 2, vec![metric(name, value)]);
            assert_eq!((outcome.reception, outcome.ticked.readings.len()), (Reception::Refused, 0), "{name}");
            assert!(outcome.reason.contains(reason), "{}", outcome.reason);
        }
        let null = Metric { is_null: Some(true), ..metric("temperature", Value::Double(1.0)) };
        assert_eq!(born().data(2, 2, vec![null]).reason, "press-7: temperature has no number");
        let mut late = born();
        let outcome = late.data(2, 0, vec![metric("temperature", Value::Double(50.0))]);
        assert_eq!(outcome.reason, "press-7: time is not after the machine's latest reading");
        assert_eq!(born().data(300, 2, vec![]).reception, Reception::Malformed);
        assert_eq!(born().hear("DDATA/presses/press-7", b"\xff\xff").reception, Reception::Malformed);
        for topic in ["DDATA/presses", "NDATA/presses/press-7", "NCMD/presses", "DDATA/presses/a/b", "x"] {
            assert_eq!(born().hear(topic, b"").reception, Reception::Ignored, "{topic}");
        }
    }

    #[test]
    fn only_fit_machines_are_registered_and_no_more_than_there_is_room_for() {
        let birth = |change: &dyn Fn(&mut Payload)| {
            let mut payload = Payload::decode(&*bytes(DBIRTH)).unwrap();
            change(&mut payload);
            payload.encode_to_vec()
        };
        let begin = |topic: &str, birth: &[u8]| {
            let mut bench = Bench::new();
            bench.hear("NBIRTH/presses", &bytes(NBIRTH));
            let outcome = bench.hear(topic, birth);
            (outcome.reception, outcome.reason, bench.fleet.machines().len())
        };
        let refused = |reason: &str, machines| (Reception::Refused, reason.to_owned(), machines);
        let all = birth(&|_| {});
        assert_eq!(begin("DBIRTH/presses/machine-001", &all), refused("machine-001: is a simulated machine", 1));
        let (result, reason, machines) = begin("DBIRTH/presses/a b", &all);
        assert_eq!((result, machines), (Reception::Refused, 1));
        assert!(reason.starts_with("a b: the device must have 1 to 64 letters"), "{reason}");
        let hourly = birth(&|p| p.metrics.last_mut().unwrap().value = Some(Value::Int(3_600_001)));
        assert_eq!(
            begin("DBIRTH/presses/press-7", &hourly),
            refused("press-7: period_ms is not between 100 and 3600000", 1)
        );
        let cold = birth(&|p| drop(p.metrics.remove(0)));
        assert_eq!(begin("DBIRTH/presses/press-7", &cold), refused("press-7: temperature is missing in its birth", 2));

        let mut bench = Bench::born();
        bench.hear("NBIRTH/saws", &bytes(NBIRTH));
        assert_eq!(bench.hear("DBIRTH/saws/press-7", &all).reason, "press-7: is a machine of hall-2/presses");
        bench.hear("NBIRTH/saws", &bytes(NBIRTH));
        assert_eq!(bench.hear("DBIRTH/saws/saw-1", &all).reception, Reception::Taken);
        bench.hear("NBIRTH/saws", &bytes(NBIRTH));
        assert_eq!(bench.hear("DBIRTH/saws/saw-2", &all).reason, "saw-2: there are 3 machines already");
        bench.hear("NBIRTH/mills", &bytes(NBIRTH));
        assert_eq!(bench.hear("NBIRTH/lathes", &bytes(NBIRTH)).reason, "there are 3 edge nodes already");
    }

    #[test]
    fn what_a_lost_connection_may_have_missed_is_asked_for() {
        let mut bench = Bench::born();
        bench.host.disconnected();
        let outcome = bench.data(2, 2, vec![metric("temperature", Value::Double(50.0))]);
        assert_eq!((outcome.reception, outcome.rebirth.is_some()), (Reception::Stale, true));
    }

    #[test]
    fn negative_numbers_are_in_twos_complement() {
        let number = |datatype, value| Metric { value: Some(value), ..Metric::default() }.number(datatype);
        for (datatype, value, expected) in [
            (1, Value::Int(0xff), -1),
            (1, Value::Int(0xffff_ffff), -1),
            (2, Value::Int(0xfffe), -2),
            (3, Value::Int(0xffff_fffd), -3),
            (4, Value::Long(u64::MAX), -1),
            (5, Value::Int(0xff), 255),
            (7, Value::Int(0xffff_ffff), 4_294_967_295),
            (8, Value::Long(7), 7),
            (11, Value::Boolean(true), 1),
        ] {
            assert_eq!(number(datatype, value), Some(Number::Whole(expected)), "{datatype}");
        }
        assert_eq!(Number::Real(7.0).whole(), Some(7));
        assert_eq!(Number::Real(1e300).whole(), None);
    }
}
