//! What anyone inside may see: their own project, without secrets.

use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker, query_parameters::ListContainersOptions};
use serde_json::Value;

use crate::stage::{Guard, Stage, WAITS, until};

#[tokio::test(flavor = "multi_thread")]
async fn only_the_projects_containers_exist() {
    let mut stage = Stage::new();
    let web = stage.run("web", &[], WAITS).await;
    let stopped = stage.run("job", &[], "true").await;
    let foreign = stage.run_with("foreign", &[("com.docker.compose.project", "else")], WAITS, Default::default()).await;
    let orphan = stage.run_with("orphan", &[], WAITS, Default::default()).await;
    let guard = stage.guard(&[]).await;
    until("the job ends", || async { !stage.is_running(&stopped).await }).await;

    let ids = |list: &Value| {
        let mut ids: Vec<_> = list.as_array().unwrap().iter().map(|c| c["Id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    let (status, running) = guard.get("/v1.41/containers/json").await;
    assert_eq!((status, ids(&running)), (200, vec![web.clone()]));
    let (_, all) = guard.get("/containers/json?all=1").await;
    let mut expected = vec![web.clone(), stopped.clone()];
    expected.sort();
    assert_eq!(ids(&all), expected);
    // Filters narrow, they never widen.
    for filters in [r#"{"label":["com.docker.compose.project=else"]}"#, r#"{"id":["IDS"]}"#, r#"{"name":["foreign"]}"#]
    {
        let filters: String = filters.replace("IDS", &foreign);
        let query = reqwest::Url::parse_with_params("http://x/", [("filters", &filters)]).unwrap();
        let (status, none) = guard.get(&format!("/containers/json?all=1&{}", query.query().unwrap())).await;
        assert_eq!((status, none), (200, Value::Array(vec![])), "{filters}");
    }

    // What is not of the project answers like what is not there at all.
    let refused = |reference: String| {
        let guard = &guard;
        async move {
            let mut told = Vec::new();
            for path in ["json", "logs?stdout=1", "stats?stream=0"] {
                let (status, mut problem) = guard.get(&format!("/containers/{reference}/{path}")).await;
                problem.as_object_mut().unwrap().remove("trace_id");
                told.push((status, problem.to_string().replace(&reference, "X")));
            }
            told
        }
    };
    let nothing = refused("not-there".to_owned()).await;
    assert!(nothing[0].0 == 404 && nothing[0].1.contains("No such container"), "{nothing:?}");
    for reference in [foreign.clone(), foreign[..12].to_owned(), stage.name("foreign"), orphan] {
        assert_eq!(refused(reference.clone()).await, nothing, "{reference}");
    }
    for reference in [web.clone(), web[..12].to_owned(), stage.name("web")] {
        assert_eq!(guard.get(&format!("/containers/{reference}/json")).await.0, 200);
    }
    assert_eq!(guard.get(&format!("/containers/{}/json", &web[..6])).await.0, 404, "too short to be meant");
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_shows_no_secret() {
    let mut stage = Stage::new();
    let web = stage.run("web", &[], WAITS).await;
    let guard = stage.guard(&[]).await;
    let (status, inspect) = guard.get(&format!("/containers/{web}/json")).await;
    assert_eq!(status, 200);
    assert!(!inspect.to_string().contains("hunter2"));
    let env = inspect["Config"]["Env"].as_array().unwrap();
    assert!(env.contains(&"PASSWORD=(redacted)".into()), "{env:?}");
    assert_eq!(inspect["State"]["Running"], true);
    assert_eq!(inspect["Config"]["Labels"]["com.docker.compose.service"], "web");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_stats_are_passed_on() {
    let mut stage = Stage::new();
    let web = stage.run("web", &[], WAITS).await;
    let guard = stage.guard(&[]).await;
    until("the log has its word", || async {
        let url = format!("http://{}/containers/{web}/logs?stdout=1&tail=5", guard.address);
        let answer = reqwest::get(url).await.unwrap();
        assert_eq!(answer.status(), 200);
        // Docker's framing: 8 bytes before each piece.
        answer.bytes().await.unwrap().ends_with(b"ready\n")
    })
    .await;
    let (status, stats) = guard.get(&format!("/containers/{web}/stats?stream=0&one-shot=1")).await;
    assert_eq!(status, 200);
    assert!(stats["cpu_stats"]["cpu_usage"]["total_usage"].as_u64().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn version_and_ping_are_how_clients_negotiate() {
    let stage = Stage::new();
    let guard = stage.guard(&[]).await;
    let daemon = stage.docker.version().await.unwrap();
    let ping = reqwest::Client::new().head(format!("http://{}/_ping", guard.address)).send().await.unwrap();
    assert_eq!(ping.status(), 200);
    let told = ping.headers()["api-version"].to_str().unwrap().to_owned();
    assert_eq!(ping.headers()["ostype"], "linux");
    let (_, version) = guard.get("/version").await;
    assert_eq!(version["ApiVersion"], told);
    assert_eq!(version["Version"], daemon.version.unwrap());
    assert!(version.get("KernelVersion").is_none());
    assert_eq!(guard.get("/_ping").await.0, 200);

    let newer = told.strip_prefix("1.").unwrap().parse::<u16>().unwrap() + 1;
    let (status, problem) = guard.get(&format!("/v1.{newer}/containers/json")).await;
    assert_eq!(status, 400);
    assert!(problem["message"].as_str().unwrap().contains(&format!("Maximum supported API version is {told}")));
    let (status, problem) = guard.get("/v1.24/containers/json").await;
    assert_eq!((status, problem["reason"].as_str()), (400, Some("unsupported_version")));
}

/// Prometheus's `docker_sd_configs` asks for these two, by the Go client with negotiation.
#[tokio::test(flavor = "multi_thread")]
async fn what_service_discovery_needs_is_there() {
    let mut stage = Stage::new();
    stage.run("web", &[("prometheus.scrape", "true")], WAITS).await;
    let guard = stage.guard(&[]).await;
    let url = format!("http://{}", guard.address);
    let client = Docker::connect_with_http(&url, 10, API_DEFAULT_VERSION).unwrap().negotiate_version().await.unwrap();
    let list = client.list_containers(None::<ListContainersOptions>).await.unwrap();
    let labels = list[0].labels.as_ref().unwrap();
    assert_eq!((list.len(), labels["prometheus.scrape"].as_str()), (1, "true"));
    assert!(list[0].network_settings.is_some());
    let (status, networks) = guard.get("/networks").await;
    assert_eq!(status, 200);
    assert!(networks.as_array().unwrap().iter().all(|n| n["Labels"]["com.docker.compose.project"] == *stage.project));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_those_of_the_project() {
    let mut stage = Stage::new();
    let web = stage.run("web", &[], WAITS).await;
    let foreign = stage.run_with("foreign", &[("com.docker.compose.project", "else")], WAITS, Default::default()).await;
    let guard = stage.guard(&[]).await;
    let mut events = reqwest::get(format!("http://{}/events", guard.address)).await.unwrap();
    guard.metric_becomes("guard_streams_open", "1").await;
    for id in [&foreign, &web] {
        stage.docker.kill_container(id, None::<bollard::query_parameters::KillContainerOptions>).await.unwrap();
    }
    let mut text = String::new();
    while !text.contains(r#""status":"die""#) && !text.contains(r#""Action":"die""#) {
        let piece = tokio::time::timeout(Duration::from_secs(10), events.chunk()).await.expect("an event in time");
        text.push_str(std::str::from_utf8(&piece.unwrap().unwrap()).unwrap());
    }
    assert!(text.contains(&web) && !text.contains(&foreign), "{text}");
    // Who goes away is let go.
    drop(events);
    guard.metric_becomes("guard_streams_open", "0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_few_and_end_when_idle() {
    let mut stage = Stage::new();
    let web = stage.run("web", &[], WAITS).await;
    let guard = stage.guard(&["--max-streams", "1", "--stream-idle", "2s"]).await;
    let url = format!("http://{}/containers/{web}/logs?stdout=1&follow=1", guard.address);
    let follow = reqwest::get(&url).await.unwrap();
    assert_eq!(follow.status(), 200);
    let (status, problem) = guard.get("/events").await;
    assert_eq!((status, problem["reason"].as_str()), (503, Some("busy")));
    assert_eq!(guard.get("/containers/json").await.0, 200, "short requests have a lane of their own");
    // The end is a proper one, not a broken connection.
    let body = tokio::time::timeout(Duration::from_secs(10), follow.bytes()).await.expect("ends when idle").unwrap();
    assert!(body.ends_with(b"ready\n"));
    guard.metric_becomes("guard_streams_open", "0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_streams_and_refuses_connections() {
    let stage = Stage::new();
    let guard: Guard = stage.guard(&[]).await;
    let events = reqwest::get(format!("http://{}/events", guard.address)).await.unwrap();
    guard.rt.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), events.bytes()).await.expect("ends at shutdown").unwrap();
    until("the listener is closed", || async { tokio::net::TcpStream::connect(guard.address).await.is_err() }).await;
}
