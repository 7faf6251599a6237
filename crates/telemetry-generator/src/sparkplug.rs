//! Real machines that report by MQTT, in the form of Sparkplug B 3.0.
//!
//! [`payload`] is the form, [`host`] what messages mean, this the connection: a Sparkplug host
//! application. [`edge`] is the other side, a plant that reports to a broker.

pub mod edge;
pub mod host;
pub mod payload;

use std::{sync::Arc, time::Duration};

use prometheus::{IntCounter, IntCounterVec, IntGauge};
use prost::Message;
use rand::RngExt;
use rumqttc::{AsyncClient, ConnectReturnCode, Event, EventLoop, Incoming, LastWill, MqttOptions, QoS};
use telemetry::{
    config::{ConfigError, Secret, optional_secret},
    metrics::Registry,
};
use tokio_util::sync::CancellationToken;

use self::{
    host::{Host, KINDS, NAMESPACE, NodeId, Outcome, Reception},
    payload::{Metric, Payload, Value, datatype},
};
use crate::service::{App, Shared, now_us};

/// Largest message, bytes.
const LARGEST: usize = 256 * 1_024;
/// Between two attempts to connect, at first and at most.
const BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// A broker that says nothing for so long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Metric of the request to be born again.
pub const REBIRTH: &str = "Node Control/Rebirth";

/// The way to a broker. Ids are their own, because the ledger has a URL as well.
#[derive(clap::Args, Clone, Debug)]
pub struct BrokerArgs {
    /// Broker of the machines that report by MQTT, as mqtt://HOST or mqtt://HOST:PORT; empty asks none.
    #[arg(id = "mqtt_url", long = "mqtt-url", env = "MQTT_URL", default_value = "")]
    pub url: String,
    /// User name there.
    #[arg(id = "mqtt_username", long = "mqtt-username", env = "MQTT_USERNAME", default_value = "")]
    pub username: String,
    /// Password there.
    #[arg(id = "mqtt_password", long = "mqtt-password", env = "MQTT_PASSWORD", hide_env_values = true)]
    pub password: Option<Secret>,
    /// File with the password.
    #[arg(id = "mqtt_password_file", long = "mqtt-password-file", env = "MQTT_PASSWORD_FILE")]
    pub password_file: Option<std::path::PathBuf>,
}

/// A broker, and who we are there.
#[derive(Clone, Debug)]
pub struct Broker {
    host: String,
    port: u16,
    login: Option<(String, Secret)>,
}

impl BrokerArgs {
    /// The broker; `None` if none is to be asked.
    ///
    /// # Errors
    /// Names the variable.
    pub fn open(&self) -> Result<Option<Broker>, ConfigError> {
        if self.url.is_empty() {
            return Ok(None);
        }
        let bad = |reason: &str| ConfigError::new("MQTT_URL", reason);
        let rest = self.url.strip_prefix("mqtt://").ok_or_else(|| bad("must start with mqtt://"))?;
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| bad("its port is not between 0 and 65535"))?),
            None => (rest, 1883),
        };
        if host.is_empty() || host.contains(['/', '@', '?']) {
            return Err(bad("must be mqtt://HOST or mqtt://HOST:PORT"));
        }
        let password = optional_secret("MQTT_PASSWORD", self.password.as_ref(), self.password_file.as_ref())?;
        let login = match (self.username.is_empty(), password) {
            (true, None) => None,
            (false, Some(password)) => Some((self.username.clone(), password)),
            (true, Some(_)) => return Err(ConfigError::new("MQTT_USERNAME", "is required with MQTT_PASSWORD")),
            (false, None) => return Err(ConfigError::new("MQTT_PASSWORD", "is required with MQTT_USERNAME")),
        };
        Ok(Some(Broker { host: host.to_owned(), port, login }))
    }
}

impl Broker {
    /// A connection that begins when it is polled, and whose end the broker tells by `will`.
    fn connect(&self, client_id: &str, will: LastWill) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(client_id, self.host.clone(), self.port);
        options.set_keep_alive(KEEP_ALIVE).set_clean_session(true).set_last_will(will);
        options.set_max_packet_size(LARGEST, LARGEST);
        if let Some((username, password)) = &self.login {
            options.set_credentials(username, password.expose());
        }
        let (client, mut connection) = AsyncClient::new(options, 256);
        connection.network_options.set_connection_timeout(5);
        (client, connection)
    }
}

/// Ends a connection in order, after what was published before, if the broker answers soon.
async fn disconnect(client: &AsyncClient, connection: &mut EventLoop) {
    let _ = client.try_disconnect();
    let gone = async { while connection.poll().await.is_ok() {} };
    let _ = tokio::time::timeout(Duration::from_secs(2), gone).await;
}

/// How the host reads its broker.
#[derive(clap::Args, Clone, Debug)]
pub struct SparkplugArgs {
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Name of this host application on the broker.
    #[arg(id = "sparkplug_host_id", long = "sparkplug-host-id", env = "SPARKPLUG_HOST_ID", default_value = "selfheal")]
    pub host_id: String,
    /// A machine reports this often if its birth has no period_ms; silence of three periods is a gap.
    #[arg(id = "sparkplug_period", long = "sparkplug-period", env = "SPARKPLUG_PERIOD", default_value = "10s")]
    pub period: telemetry::config::Duration,
}

impl SparkplugArgs {
    /// The broker; `None` if none is to be asked.
    ///
    /// # Errors
    /// Names the variable.
    pub fn open(&self) -> Result<Option<Broker>, ConfigError> {
        crate::fleet::label(&self.host_id).map_err(|reason| ConfigError::new("SPARKPLUG_HOST_ID", reason))?;
        if !(0.1..=3_600.0).contains(&self.period.as_secs_f64()) {
            return Err(ConfigError::new("SPARKPLUG_PERIOD", "must be between 100ms and 1h"));
        }
        self.broker.open()
    }
}

/// What is counted on the way from the broker; only where there is one.
#[derive(Clone)]
struct Metrics {
    connected: IntGauge,
    online: IntGauge,
    messages: IntCounterVec,
    lost: IntCounter,
    rebirths: IntCounter,
}

impl Metrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            connected: registry.int_gauge("mqtt_connected", "1 while the MQTT broker is connected.")?,
            online: registry
                .int_gauge("sparkplug_nodes_online", "Edge nodes that are online and whose data is fresh.")?,
            messages: registry.counter_vec(
                "sparkplug_messages_total",
                "Messages of edge nodes, by type and by what they came to.",
                &["type", "result"],
            )?,
            lost: registry
                .counter("sparkplug_lost_messages_total", "Numbers missing in the sequences of edge nodes.")?,
            rebirths: registry
                .counter("sparkplug_rebirth_requests_total", "Times that an edge node was asked to be born again.")?,
        };
        for (kind, result) in KINDS.into_iter().flat_map(|kind| Reception::ALL.map(|result| (kind, result))) {
            metrics.messages.with_label_values(&[kind, result.as_str()]);
        }
        Ok(metrics)
    }
}

/// The machines that report by MQTT.
pub struct Sparkplug {
    broker: Broker,
    host_id: String,
    host: Shared<Host>,
    metrics: Metrics,
}

impl Sparkplug {
    /// A host application that is not connected yet.
    ///
    /// # Errors
    /// A metric's name is taken.
    pub fn new(broker: Broker, args: &SparkplugArgs, registry: &Registry) -> anyhow::Result<Self> {
        let period_us = i64::try_from(args.period.as_micros())?;
        let host = Shared::new(Host::new(period_us));
        Ok(Self { broker, host_id: args.host_id.clone(), host, metrics: Metrics::new(registry)? })
    }

    /// Is the broker connected, and how many edge nodes are online?
    pub fn standing(&self) -> (bool, usize) {
        (self.metrics.connected.get() == 1, self.host.lock().online())
    }

    fn state_topic(&self) -> String {
        format!("{NAMESPACE}/STATE/{}", self.host_id)
    }
}

/// What the host application says of itself; its will has the time of its birth.
fn state(online: bool, ms: i64) -> String {
    serde_json::json!({ "online": online, "timestamp": ms }).to_string()
}

/// The request to be born again.
fn rebirth() -> Vec<u8> {
    let metric = Metric {
        name: Some(REBIRTH.to_owned()),
        datatype: Some(datatype::BOOLEAN),
        value: Some(Value::Boolean(true)),
        ..Metric::default()
    };
    let timestamp = u64::try_from(now_us() / 1_000).ok();
    Payload { timestamp, metrics: vec![metric], seq: None }.encode_to_vec()
}

/// Keeps a connection to the broker until `shutdown`, if there is to be one.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    let Some(sparkplug) = &app.sparkplug else { return };
    let mut pause = BACKOFF[0];
    let mut told = false;
    while !shutdown.is_cancelled() {
        let connection = Connection { app: &app, sparkplug, since_ms: now_us() / 1_000 };
        let (reached, end) = connection.hold(&shutdown).await;
        sparkplug.metrics.connected.set(0);
        sparkplug.host.lock().disconnected();
        sparkplug.metrics.online.set(0);
        let Err(error) = end else { return };
        if reached {
            (pause, told) = (BACKOFF[0], false);
        }
        if !told {
            tracing::warn!(%error, "no connection to the MQTT broker: machines that report by it are silent");
            told = true;
        }
        // Not all clients of a broker that comes back knock at the same moment.
        let jitter = rand::rng().random_range(0.5..1.0);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(pause.mul_f64(jitter)) => {}
        }
        pause = (pause * 2).min(BACKOFF[1]);
    }
}

/// One connection to the broker.
struct Connection<'a> {
    app: &'a App,
    sparkplug: &'a Sparkplug,
    since_ms: i64,
}

impl Connection<'_> {
    /// Hears until the connection is lost, an error, or the process ends. Was it ever made?
    async fn hold(&self, shutdown: &CancellationToken) -> (bool, anyhow::Result<()>) {
        let topic = self.sparkplug.state_topic();
        let will = LastWill::new(&topic, state(false, self.since_ms), QoS::AtLeastOnce, true);
        let (client, mut connection) = self.sparkplug.broker.connect(&self.sparkplug.host_id, will);
        let mut reached = false;
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => {
                    if reached {
                        self.leave(&client, &mut connection).await;
                    }
                    return (reached, Ok(()));
                }
                event = connection.poll() => event,
            };
            let done = match event {
                Err(error) => Err(error.into()),
                Ok(Event::Incoming(Incoming::ConnAck(ack))) if ack.code == ConnectReturnCode::Success => {
                    reached = true;
                    self.greet(&client)
                }
                Ok(Event::Incoming(Incoming::Publish(message))) => self.hear(&client, &message.topic, &message.payload),
                Ok(_) => Ok(()),
            };
            if done.is_err() {
                return (reached, done);
            }
        }
    }

    /// First what edge nodes say is subscribed to, then they are told that somebody listens.
    fn greet(&self, client: &AsyncClient) -> anyhow::Result<()> {
        for kind in KINDS {
            let rest = if kind.starts_with('D') { "+/+" } else { "+" };
            client.try_subscribe(format!("{NAMESPACE}/+/{kind}/{rest}"), QoS::AtLeastOnce)?;
        }
        let topic = self.sparkplug.state_topic();
        client.try_publish(topic, QoS::AtLeastOnce, true, state(true, self.since_ms))?;
        self.sparkplug.metrics.connected.set(1);
        tracing::info!(broker = %self.sparkplug.broker.host, "connected to the MQTT broker");
        Ok(())
    }

    async fn leave(&self, client: &AsyncClient, connection: &mut EventLoop) {
        let said = state(false, now_us() / 1_000);
        let _ = client.try_publish(self.sparkplug.state_topic(), QoS::AtLeastOnce, true, said);
        disconnect(client, connection).await;
    }

    fn hear(&self, client: &AsyncClient, topic: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let capacity = self.app.capacity();
        let outcome = {
            let mut fleet = self.app.fleet.lock();
            let mut host = self.sparkplug.host.lock();
            let outcome = host.receive(&mut fleet, capacity, topic, bytes, now_us());
            self.sparkplug.metrics.online.set(host.online() as i64);
            outcome
        };
        let Outcome { reception, reason, ticked, rebirth: asked, lost } = outcome;
        if let Some(kind) = host::kind(topic) {
            self.sparkplug.metrics.messages.with_label_values(&[kind, reception.as_str()]).inc();
        }
        self.sparkplug.metrics.lost.inc_by(lost);
        match reception {
            Reception::Refused | Reception::Malformed => {
                tracing::warn!(topic, reason, "a message of an edge node is refused")
            }
            Reception::Stale if asked.is_some() => {
                tracing::info!(topic, reason, "an edge node is asked to be born again")
            }
            _ => tracing::debug!(topic, result = reception.as_str(), reason, "a message of an edge node"),
        }
        self.app.take(ticked);
        asked.map_or(Ok(()), |node| self.ask(client, &node))
    }

    fn ask(&self, client: &AsyncClient, node: &NodeId) -> anyhow::Result<()> {
        self.sparkplug.metrics.rebirths.inc();
        Ok(client.try_publish(host::rebirth_topic(node), QoS::AtMostOnce, false, rebirth())?)
    }
}
