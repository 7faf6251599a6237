//! Machines that report by MQTT, through a real broker with the product's configuration.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};
use serde_json::{Value, json};

use crate::support::{App, Proxy, all_readings, folder_config, open, variable};

/// An edge node in a process of its own, which is killed in the end.
struct EdgeNode(Child);

impl EdgeNode {
    fn start(broker: &str, node: &str, state: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_telemetry-generator"));
        command.args(["edge", "--mqtt-url", &format!("mqtt://{broker}"), "--mqtt-username", "edge"]);
        command.args(["--mqtt-password", "edge", "--node", node, "--period", "200ms", "--state-dir"]).arg(state);
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for EdgeNode {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The latest that the broker keeps of what a host application says of itself.
async fn state(host_id: &str, user: &str) -> Value {
    let broker = variable("TEST_MQTT_ADDR");
    let (host, port) = broker.split_once(':').unwrap();
    let mut options = MqttOptions::new(format!("{host_id}-{user}"), host, port.parse().unwrap());
    options.set_credentials(user, user);
    let (client, mut connection) = AsyncClient::new(options, 8);
    client.subscribe(format!("spBv1.0/STATE/{host_id}"), QoS::AtLeastOnce).await.unwrap();
    loop {
        if let Event::Incoming(Incoming::Publish(message)) = connection.poll().await.unwrap() {
            return serde_json::from_slice(&message.payload).unwrap();
        }
    }
}

/// Says as an edge node what only a host application may say.
async fn forge(host_id: &str) {
    let broker = variable("TEST_MQTT_ADDR");
    let (host, port) = broker.split_once(':').unwrap();
    let mut options = MqttOptions::new(format!("{host_id}-forger"), host, port.parse().unwrap());
    options.set_credentials("edge", "edge");
    let (client, mut connection) = AsyncClient::new(options, 8);
    let topic = format!("spBv1.0/STATE/{host_id}");
    client.publish(topic, QoS::AtLeastOnce, true, r#"{"online":false}"#).await.unwrap();
    // The broker answers, whether it takes the message or not.
    while !matches!(connection.poll().await.unwrap(), Event::Incoming(Incoming::PubAck(_))) {}
}

#[tokio::test]
async fn machines_report_by_a_real_broker_and_nothing_is_made_up_when_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let id = format!("it-{}", uuid::Uuid::new_v4().simple());
    let proxy = Proxy::start("127.0.0.1:0", variable("TEST_MQTT_ADDR")).await;
    let url = format!("mqtt://{}", proxy.address);
    let mqtt = ["--mqtt-url", &url, "--mqtt-username", "host", "--mqtt-password", "host", "--sparkplug-host-id", &id];
    let config = folder_config(dir.path(), &mqtt);
    let app = App::start(config.clone()).await;
    app.until("mqtt_connected", |c| c == 1.0).await;
    assert_eq!(state(&id, "edge").await["online"], true);
    forge(&id).await;
    assert_eq!(state(&id, "host").await["online"], true, "an edge node cannot speak for a host application");

    let edge_state = dir.path().join("edge");
    let edge = EdgeNode::start(&variable("TEST_MQTT_ADDR"), &id, &edge_state);
    let of = |name: &str| format!(r#"{name}{{line="{id}",machine_id="{id}-2",site="hall-2"}}"#);
    app.until(&of("machine_readings_total"), |r| r >= 5.0).await;
    assert!(app.metric(&of("machine_temperature")).await.is_some_and(|t| t > 0.0));
    let (_, health) = app.get("/health").await;
    assert_eq!((&health["status"], &health["sparkplug"]["connected"]), (&json!("ok"), &json!(true)), "{health}");

    // It is killed, which its will tells; its meters go on where they were.
    drop(edge);
    app.until("sparkplug_nodes_online", |n| n == 0.0).await;
    let (energy, readings) = (of("esg_energy_kwh_total"), of("machine_readings_total"));
    let (before, taken) = (app.metric(&energy).await.unwrap(), app.metric(&readings).await.unwrap());
    let edge = EdgeNode::start(&variable("TEST_MQTT_ADDR"), &id, &edge_state);
    app.until(&readings, |r| r >= taken + 5.0).await;
    assert!(app.metric(&energy).await.is_some_and(|e| e >= before));

    // The way to the broker is cut and mended: births are asked for, and data flow again.
    let address = proxy.cut().await;
    app.until("mqtt_connected", |c| c == 0.0).await;
    let (_, health) = app.get("/health").await;
    assert_eq!((&health["status"], &health["sparkplug"]["nodes_online"]), (&json!("degraded"), &json!(0)));
    assert_eq!(state(&id, "edge").await["online"], false, "its will");
    let (asked, taken) = (app.metric("sparkplug_rebirth_requests_total").await, app.metric(&readings).await.unwrap());
    let _proxy = Proxy::start(&address.to_string(), variable("TEST_MQTT_ADDR")).await;
    app.until(&readings, |r| r >= taken + 5.0).await;
    assert!(app.metric("sparkplug_rebirth_requests_total").await > asked);
    assert_eq!(app.metric(r#"sparkplug_messages_total{result="refused",type="DDATA"}"#).await, Some(0.0));
    drop(edge);

    app.stop().await;
    let left = tokio::time::timeout(Duration::from_secs(10), state(&id, "edge")).await;
    assert_eq!(left.unwrap()["online"], false, "it says good-bye");
    let rows = all_readings(&open(&config)).await.into_iter().filter(|r| *r.line == *id).count();
    assert!(rows as f64 >= 2.0 * taken, "{rows} rows of both machines are in the lake");
}
