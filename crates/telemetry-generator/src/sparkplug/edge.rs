//! `telemetry-generator edge`: a plant that reports to an MQTT broker as a Sparkplug B edge node, its
//! machines being simulated ones. It shows the way that real machines take, and proves it.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use lake::Reading;
use prost::Message;
use rumqttc::{AsyncClient, ConnectReturnCode, Event, Incoming, LastWill, QoS};

use super::{
    BrokerArgs, REBIRTH, disconnect,
    host::{NAMESPACE, rebirth_topic},
    payload::{Metric, Payload, Value, datatype},
};
use crate::{command, fleet, fleet::Fleet, service::now_us, state_file::StateDir};

/// Arguments of the subcommand.
#[derive(Debug, Parser)]
#[command(name = "telemetry-generator edge", about = "Report simulated machines to an MQTT broker, as Sparkplug B")]
pub struct Args {
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Group: the plant.
    #[arg(long, env = "EDGE_GROUP", default_value = "hall-2")]
    pub group: String,
    /// Edge node: the production line.
    #[arg(long, env = "EDGE_NODE", default_value = "presses")]
    pub node: String,
    /// Machines.
    #[arg(long, env = "EDGE_MACHINES", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub machines: u16,
    /// Seed of the machines.
    #[arg(long, env = "EDGE_SEED", default_value_t = 7)]
    pub seed: u64,
    /// A machine reports this often.
    #[arg(long, env = "EDGE_PERIOD", default_value = "1s")]
    pub period: telemetry::config::Duration,
    /// Folder for the energy meters, which must not start again from zero.
    #[arg(long, env = "STATE_DIR", default_value = "/var/lib/telemetry-generator")]
    pub state_dir: PathBuf,
}

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_secs(2);

/// Entry of the subcommand: 0 told to end, 1 failed, 64 wrong arguments.
pub fn main() -> ExitCode {
    let args: Args = match command::arguments() {
        Ok(args) => args,
        Err(end) => return end,
    };
    command::complete("edge", run(&args))
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let broker = args.broker.open()?.context("MQTT_URL: is required")?;
    let state = StateDir::open(&args.state_dir);
    let mut plant = Plant::new(args, state.as_ref())?;
    let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut due = tokio::time::interval(*args.period);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        let will = LastWill::new(plant.topic("NDEATH"), plant.death(), QoS::AtLeastOnce, false);
        let (client, mut connection) = broker.connect(&format!("{}-{}", args.group, args.node), will);
        let mut connected = false;
        let error = loop {
            tokio::select! {
                _ = end.recv() => {
                    let _ = client.try_publish(plant.topic("NDEATH"), QoS::AtLeastOnce, false, plant.death());
                    disconnect(&client, &mut connection).await;
                    return Ok(());
                }
                _ = due.tick() => {
                    let messages = plant.data(now_us());
                    if connected {
                        if let Err(error) = publish(&client, messages) {
                            break error;
                        }
                        // What was told of a meter must not be told lower after a restart.
                        if let Some(state) = &state {
                            state.save(plant.fleet.keep())?;
                        }
                    }
                }
                event = connection.poll() => match event {
                    Err(error) => break error.into(),
                    Ok(Event::Incoming(Incoming::ConnAck(ack))) if ack.code == ConnectReturnCode::Success => {
                        connected = true;
                        println!("connected as {}", plant.topic("NBIRTH"));
                        client.try_subscribe(rebirth_topic(&plant.node), QoS::AtLeastOnce)?;
                        publish(&client, plant.births(now_us()))?;
                    }
                    Ok(Event::Incoming(Incoming::Publish(message))) if asks_for_birth(&message.payload) => {
                        publish(&client, plant.births(now_us()))?;
                    }
                    Ok(_) => {}
                },
            }
        };
        eprintln!("telemetry-generator edge: {error:#}");
        plant.connection += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

fn publish(client: &AsyncClient, messages: Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
    for (topic, payload) in messages {
        client.try_publish(topic, QoS::AtMostOnce, false, payload)?;
    }
    Ok(())
}

/// Is it the request of a host?
fn asks_for_birth(bytes: &[u8]) -> bool {
    Payload::decode(bytes).is_ok_and(|payload| {
        let asks = |m: &Metric| m.name.as_deref() == Some(REBIRTH) && m.value == Some(Value::Boolean(true));
        payload.metrics.iter().any(asks)
    })
}

/// An edge node and its machines.
struct Plant {
    node: (String, String),
    fleet: Fleet,
    period_ms: u64,
    latest: Vec<Reading>,
    /// Number of the connection.
    connection: u8,
    seq: u8,
}

impl Plant {
    fn new(args: &Args, state: Option<&StateDir>) -> anyhow::Result<Self> {
        for (name, text) in [("EDGE_GROUP", &args.group), ("EDGE_NODE", &args.node)] {
            fleet::label(text).map_err(|reason| anyhow::anyhow!("{name}: {reason}"))?;
        }
        let now = now_us();
        let period_us = i64::try_from(args.period.as_micros())?;
        let mut fleet = Fleet::new(usize::from(args.machines), args.seed, "edge", period_us, now);
        if let Some(state) = state {
            fleet.restore(&state.load(), now);
        }
        let latest = fleet.tick(now).readings;
        // Somebody who kept the number of the connection before must not take this one for it.
        let connection = (now / 1_000_000).rem_euclid(256) as u8;
        let node = (args.group.clone(), args.node.clone());
        Ok(Self { node, fleet, period_ms: (period_us / 1_000).unsigned_abs(), latest, connection, seq: 0 })
    }

    fn topic(&self, kind: &str) -> String {
        format!("{NAMESPACE}/{}/{kind}/{}", self.node.0, self.node.1)
    }

    fn message(&mut self, now_us: i64, metrics: Vec<Metric>) -> Vec<u8> {
        let seq = Some(u64::from(self.seq));
        self.seq = self.seq.wrapping_add(1);
        Payload { timestamp: u64::try_from(now_us / 1_000).ok(), metrics, seq }.encode_to_vec()
    }

    fn bd_seq(&self) -> Metric {
        Metric::born("bdSeq", 0, datatype::INT64, Value::Long(u64::from(self.connection)))
    }

    fn death(&self) -> Vec<u8> {
        let timestamp = u64::try_from(now_us() / 1_000).ok();
        Payload { timestamp, metrics: vec![self.bd_seq()], seq: None }.encode_to_vec()
    }

    fn machine_topic(&self, kind: &str, number: usize) -> String {
        format!("{}/{}-{}", self.topic(kind), self.node.1, number + 1)
    }

    /// Births of the edge node and of all its machines.
    fn births(&mut self, now_us: i64) -> Vec<(String, Vec<u8>)> {
        self.seq = 0;
        let rebirth = Metric::born(REBIRTH, 1, datatype::BOOLEAN, Value::Boolean(false));
        let mut messages = vec![(self.topic("NBIRTH"), self.message(now_us, vec![self.bd_seq(), rebirth]))];
        for (number, reading) in self.latest.clone().iter().enumerate() {
            let mut metrics = metrics(reading, true);
            let period = Value::Long(self.period_ms);
            metrics.push(Metric::born("period_ms", metrics.len() as u64, datatype::INT64, period));
            messages.push((self.machine_topic("DBIRTH", number), self.message(now_us, metrics)));
        }
        messages
    }

    /// What the machines measure now.
    fn data(&mut self, now_us: i64) -> Vec<(String, Vec<u8>)> {
        self.latest = self.fleet.tick(now_us).readings;
        let mut messages = Vec::with_capacity(self.latest.len());
        for (number, reading) in self.latest.clone().iter().enumerate() {
            messages.push((self.machine_topic("DDATA", number), self.message(now_us, metrics(reading, false))));
        }
        messages
    }
}

/// The metrics of a reading: with their names in the birth, by their aliases afterwards.
fn metrics(reading: &Reading, birth: bool) -> Vec<Metric> {
    let double = |value: f64| (datatype::DOUBLE, Value::Double(value));
    // Two's complement, as the form wants it.
    let int32 = |value: i32| (datatype::INT32, Value::Int(value as u32));
    let values = [
        ("temperature", double(reading.temperature)),
        ("load", double(reading.load)),
        ("power_watts", double(reading.power_watts)),
        ("energy_millijoules_total", (datatype::INT64, Value::Long(reading.energy_millijoules_total as u64))),
        ("vibration", double(reading.vibration)),
        ("error_code", int32(reading.error_code)),
        ("status", int32(reading.status)),
        ("failed", (datatype::BOOLEAN, Value::Boolean(reading.failed))),
    ];
    let metric = |(alias, (name, (datatype, value))): (usize, (&str, (u32, Value)))| match birth {
        true => Metric::born(name, alias as u64, datatype, value),
        false => Metric { alias: Some(alias as u64), value: Some(value), ..Metric::default() },
    };
    values.into_iter().enumerate().map(metric).collect()
}
