//! Container metrics of real containers.

use bollard::{
    models::{HostConfig, RestartPolicy, RestartPolicyNameEnum},
    query_parameters::{KillContainerOptions, StartContainerOptions},
};

use crate::stage::{Guard, Stage, WAITS, until};

fn series(stage: &Stage, metric: &str, service: &str) -> String {
    format!(r#"{metric}{{name="{}",service="{service}"}}"#, stage.name(service))
}

async fn becomes(guard: &Guard, stage: &Stage, metric: &str, service: &str, value: &str) {
    guard.metric_becomes(&series(stage, metric, service), value).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_followed_through_its_life() {
    let mut stage = Stage::new();
    let web = stage.run("web", &[("selfheal.enable", "true")], WAITS).await;
    let guard = stage.guard(&[]).await;
    becomes(&guard, &stage, "container_up", "web", "1").await;
    let value = |metric: &str| guard.metric(&series(&stage, metric, "web")).parse::<f64>().ok();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - value("container_start_time_seconds").unwrap()).abs() < 60.0);
    assert_eq!(value("container_managed"), Some(1.0));
    assert_eq!(value("container_exit_code"), Some(0.0));
    assert_eq!(value("container_health_status"), None, "it has no health check");
    until("usage is read", || async { value("container_cpu_usage_seconds_total").is_some_and(|s| s > 0.0) }).await;
    // A shell and a sleep: more than nothing, less than 100 MiB. Kernels without memory cgroups tell none.
    if let Some(bytes) = value("container_memory_working_set_bytes") {
        assert!((1e4..1e8).contains(&bytes), "{bytes}");
    }
    assert_eq!(guard.metric("guard_daemon_up"), "1");

    stage.docker.kill_container(&web, None::<KillContainerOptions>).await.unwrap();
    becomes(&guard, &stage, "container_up", "web", "0").await;
    becomes(&guard, &stage, "container_exit_code", "web", "137").await;
    assert_eq!(value("container_cpu_usage_seconds_total"), None, "what does not run uses nothing");
    assert_eq!(value("container_managed"), Some(1.0), "it is still there");

    stage.docker.start_container(&web, None::<StartContainerOptions>).await.unwrap();
    becomes(&guard, &stage, "container_up", "web", "1").await;
    becomes(&guard, &stage, "container_exit_code", "web", "0").await;

    stage.remove(&web).await;
    becomes(&guard, &stage, "container_up", "web", "").await;
    let text = String::from_utf8(guard.rt.registry.encode(None).1).unwrap();
    assert!(!text.contains(&stage.name("web")), "no series is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_seen_between_polls() {
    let mut stage = Stage::new();
    let web = stage.run("web", &[], WAITS).await;
    // Polls are an hour apart: what is seen is seen by events.
    let guard = stage.guard(&["--collect-interval", "1h"]).await;
    becomes(&guard, &stage, "container_up", "web", "1").await;
    // The stream of events is open once it has told of something.
    until("events flow", || async {
        let other = bollard::query_parameters::RenameContainerOptionsBuilder::new().name(&stage.name("web")).build();
        let _ = stage.docker.rename_container(&web, other).await;
        stage.docker.kill_container(&web, None::<KillContainerOptions>).await.ok();
        stage.docker.start_container(&web, None::<StartContainerOptions>).await.unwrap();
        guard.metric(r#"guard_events_total{action="die"}"#) != "0"
    })
    .await;
    stage.docker.kill_container(&web, None::<KillContainerOptions>).await.unwrap();
    becomes(&guard, &stage, "container_up", "web", "0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_by_policy_are_counted() {
    let mut stage = Stage::new();
    let project = stage.project.clone();
    let labels = [("com.docker.compose.project", project.as_str()), ("com.docker.compose.service", "loop")];
    let policy = RestartPolicy { name: Some(RestartPolicyNameEnum::ON_FAILURE), maximum_retry_count: Some(2) };
    let host = HostConfig { restart_policy: Some(policy), ..Default::default() };
    stage.run_with("loop", &labels, "exit 3", host).await;
    let guard = stage.guard(&[]).await;
    becomes(&guard, &stage, "container_restart_count", "loop", "2").await;
    becomes(&guard, &stage, "container_up", "loop", "0").await;
    becomes(&guard, &stage, "container_exit_code", "loop", "3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_shot_containers_are_not_down() {
    let mut stage = Stage::new();
    stage.run("once", &[("selfheal.oneshot", "true")], "exit 4").await;
    stage.run("web", &[], "exit 5").await;
    let guard = stage.guard(&[]).await;
    becomes(&guard, &stage, "container_exit_code", "once", "4").await;
    becomes(&guard, &stage, "container_up", "web", "0").await;
    assert_eq!(guard.metric(&series(&stage, "container_up", "once")), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_is_followed() {
    let mut stage = Stage::new();
    let project = stage.project.clone();
    let name = stage.name("web");
    // bollard's stubs take durations in nanoseconds; the CLI reads better.
    let image = std::env::var("TEST_BASE_IMAGE").unwrap();
    let output = std::process::Command::new("docker")
        .args(["create", "--name", &name, "--label", &format!("com.docker.compose.project={project}")])
        .args(["--label", "com.docker.compose.service=web", "--health-interval", "1s", "--health-retries", "1"])
        .args(["--health-cmd", "test ! -e /tmp/sick", "--entrypoint", "/bin/sh", &image, "-c"])
        .arg(WAITS)
        .output()
        .expect("the docker CLI");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    stage.adopt(id.clone());
    let guard = stage.guard(&[]).await;
    stage.docker.start_container(&id, None::<StartContainerOptions>).await.unwrap();
    becomes(&guard, &stage, "container_health_status", "web", "1").await;
    let touched = std::process::Command::new("docker").args(["exec", &id, "touch", "/tmp/sick"]).status().unwrap();
    assert!(touched.success());
    becomes(&guard, &stage, "container_health_status", "web", "0").await;
}

/// Needs a kernel with memory cgroups; elsewhere Docker ignores the limit and there is nothing to see.
#[tokio::test(flavor = "multi_thread")]
async fn an_out_of_memory_kill_is_told() {
    let mut stage = Stage::new();
    if stage.docker.info().await.unwrap().memory_limit != Some(true) {
        println!("this kernel has no memory cgroup");
        return;
    }
    let project = stage.project.clone();
    let labels = [("com.docker.compose.project", project.as_str()), ("com.docker.compose.service", "hog")];
    let host = HostConfig { memory: Some(16 << 20), memory_swap: Some(16 << 20), ..Default::default() };
    let script = "while [ ! -e /tmp/go ]; do sleep 0.1; done; x=0123456789; while :; do x=$x$x; done";
    let hog = stage.run_with("hog", &labels, script, host).await;
    let guard = stage.guard(&[]).await;
    becomes(&guard, &stage, "container_spec_memory_limit_bytes", "hog", "16777216").await;
    becomes(&guard, &stage, "container_oom_killed", "hog", "0").await;
    let go = std::process::Command::new("docker").args(["exec", &hog, "touch", "/tmp/go"]).status().unwrap();
    assert!(go.success());
    becomes(&guard, &stage, "container_oom_killed", "hog", "1").await;
    becomes(&guard, &stage, "container_up", "hog", "0").await;
}
