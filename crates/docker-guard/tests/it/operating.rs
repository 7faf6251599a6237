//! The guard's own operations on real containers: whole copies, undone or finished wherever
//! they are cut off, and refused where they could do harm.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

use crate::stage::{Guard, Stage, TOKEN, WAITS, until};

fn docker_may_fail(args: &[&str]) -> Result<String, String> {
    let output = Command::new("docker").args(args).output().expect("the docker CLI");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn docker(args: &[&str]) -> String {
    docker_may_fail(args).unwrap_or_else(|error| panic!("docker {args:?}: {error}"))
}

fn inspect(reference: &str) -> Value {
    serde_json::from_str::<Value>(&docker(&["inspect", reference])).unwrap()[0].clone()
}

fn base_image() -> String {
    std::env::var("TEST_BASE_IMAGE").expect("set TEST_BASE_IMAGE, or run ./stack test")
}

/// What a test made beside containers, gone in the end.
struct Leftovers {
    networks: Vec<String>,
    images: Vec<String>,
    volumes: Vec<String>,
    project: String,
}

impl Leftovers {
    fn of(stage: &Stage) -> Self {
        Self { networks: vec![], images: vec![], volumes: vec![], project: stage.project.clone() }
    }

    fn network(&mut self, name: &str) -> String {
        let name = format!("{}-{name}", self.project);
        docker(&["network", "create", &name]);
        self.networks.push(name.clone());
        name
    }

    fn image(&mut self, source: &str, name: &str) -> String {
        docker(&["tag", source, name]);
        self.images.push(name.to_owned());
        name.to_owned()
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        let label = format!("label=com.docker.compose.project={}", self.project);
        let containers = docker_may_fail(&["ps", "-aq", "--filter", &label]).unwrap_or_default();
        for id in containers.lines() {
            // In a container that was made anew a nameless volume has its name, and `-v` leaves it.
            let format = r#"{{range .Mounts}}{{if eq .Type "volume"}}{{println .Name}}{{end}}{{end}}"#;
            let mounted = docker_may_fail(&["inspect", "-f", format, id]).unwrap_or_default();
            self.volumes.extend(mounted.lines().map(ToOwned::to_owned));
            let _ = docker_may_fail(&["rm", "-f", "-v", id]);
        }
        let memory = format!("reference=*/*:selfheal-healthy.{}.*", self.project);
        let remembered = docker_may_fail(&["images", "--filter", &memory, "--format", "{{.Repository}}:{{.Tag}}"]);
        for image in self.images.iter().map(String::as_str).chain(remembered.unwrap_or_default().lines()) {
            let _ = docker_may_fail(&["rmi", image]);
        }
        for network in &self.networks {
            let _ = docker_may_fail(&["network", "rm", network]);
        }
        for volume in &self.volumes {
            let _ = docker_may_fail(&["volume", "rm", volume]);
        }
    }
}

/// A container as compose makes them, created and not started.
fn compose_like(stage: &Stage, service: &str, image: &str, more: &[&str], script: &str) -> String {
    let project = format!("com.docker.compose.project={}", stage.project);
    let label = format!("com.docker.compose.service={service}");
    let name = format!("{}-{service}-1", stage.project);
    let mut args = vec!["create", "--name", &name, "--label", &project, "--label", &label];
    args.extend(["--label", "com.docker.compose.container-number=1", "--label", "selfheal.enable=true"]);
    args.extend(["--env", "PASSWORD=hunter2", "--entrypoint", "/bin/sh"]);
    args.extend(more);
    args.extend([image, "-c", script]);
    docker(&args)
}

/// The containers of a service, as `name state`.
fn service(stage: &Stage, service: &str) -> Vec<String> {
    let project = format!("label=com.docker.compose.project={}", stage.project);
    let label = format!("label=com.docker.compose.service={service}");
    let listed = docker(&["ps", "-a", "--filter", &project, "--filter", &label, "--format", "{{.Names}} {{.State}}"]);
    let mut lines: Vec<_> = listed.lines().map(ToOwned::to_owned).collect();
    lines.sort();
    lines
}

async fn recreate(guard: &Guard, reference: &str, query: &str) -> (u16, Value) {
    guard.send("POST", &format!("/selfheal/containers/{reference}/recreate{query}"), Some(TOKEN)).await
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_made_anew_with_all_that_it_had() {
    let stage = Stage::new();
    let mut left = Leftovers::of(&stage);
    let (app, data) = (left.network("app"), left.network("data"));
    let volume = format!("{}-kept", stage.project);
    docker(&["volume", "create", &volume]);
    left.volumes.push(volume.clone());
    let published = format!("127.0.0.1:{}:80", free_port());
    let kept = format!("{volume}:/kept");
    let more = [
        "--network",
        &app,
        "--network-alias",
        "web",
        "-v",
        &kept,
        "-v",
        "/nameless",
        "-p",
        &published,
        "--memory",
        "64m",
        "--cap-drop",
        "ALL",
        "--read-only",
        "--tmpfs",
        "/tmp:size=1m",
        "--restart",
        "unless-stopped",
        "--stop-timeout",
        "3",
        "--health-cmd",
        "true",
    ];
    let old = compose_like(&stage, "web", &base_image(), &more, WAITS);
    docker(&["network", "connect", "--alias", "web", "--alias", "also", &data, &old]);
    docker(&["start", &old]);
    docker(&["exec", &old, "/bin/sh", "-c", "echo a > /kept/x; echo b > /nameless/x"]);
    let guard = stage.guard(&[]).await;
    let before = inspect(&old);
    let series = format!("container_up{{name=\"{}-web-1\",service=\"web\"}}", stage.project);
    guard.metric_becomes(&series, "1").await;

    let (status, answer) = recreate(&guard, &old, "?t=5").await;
    assert_eq!(status, 200, "{answer}");
    let new = answer["Id"].as_str().unwrap().to_owned();
    assert_ne!(new, old);
    assert_eq!(service(&stage, "web"), [format!("{}-web-1 running", stage.project)]);
    let after = inspect(&new);
    assert_eq!((&after["Name"], &after["Image"]), (&before["Name"], &before["Image"]));
    // The host's settings are the same but for the nameless volume, which has to be named to be kept.
    let host = |inspect: &Value| {
        let mut host = inspect["HostConfig"].clone();
        host.as_object_mut().unwrap().remove("Binds");
        host
    };
    assert_eq!(host(&after), host(&before));
    let config = |inspect: &Value| {
        let mut config = inspect["Config"].clone();
        config["Hostname"] = Value::Null;
        for ours in ["selfheal.replaces", "selfheal.name"] {
            config["Labels"].as_object_mut().unwrap().remove(ours);
        }
        config
    };
    assert_eq!(config(&after), config(&before));
    assert_eq!(after["Config"]["Hostname"], new[..12], "its own, not the old one's");
    let aliases = |inspect: &Value, network: &str| {
        let all = inspect["NetworkSettings"]["Networks"][network]["Aliases"].as_array().cloned().unwrap_or_default();
        let id = inspect["Id"].as_str().unwrap()[..12].to_owned();
        all.into_iter().filter(|a| *a != *id).collect::<Vec<_>>()
    };
    for (network, expected) in [(&app, json!(["web"])), (&data, json!(["web", "also"]))] {
        assert_eq!(Value::from(aliases(&after, network)), expected, "{network}");
        assert_eq!(Value::from(aliases(&before, network)), expected, "{network}");
    }
    assert_eq!(docker(&["exec", &new, "/bin/sh", "-c", "cat /kept/x /nameless/x"]), "a\nb");

    // Asked again, because the answer may have been lost: the same one, and nothing happens.
    let started = stage.started_at(&new).await;
    assert_eq!(recreate(&guard, &old, "?t=5").await, (200, json!({"Id": new})));
    assert_eq!(stage.started_at(&new).await, started);
    assert_eq!(guard.get(&format!("/containers/{old}/json")).await.0, 404);
    // And by name once more: another.
    let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let (status, answer) = recreate(&guard, &format!("{}-web-1", stage.project), "").await;
    assert!(status == 200 && answer["Id"] != json!(new), "{answer}");
    let third = answer["Id"].as_str().unwrap();
    assert_eq!(docker(&["exec", third, "/bin/sh", "-c", "cat /kept/x /nameless/x"]), "a\nb");
    assert_eq!(host(&inspect(third)), host(&before));

    // One series of a name, at all times: the collector has seen the new one.
    let began = format!("container_start_time_seconds{{name=\"{}-web-1\",service=\"web\"}}", stage.project);
    until("the new start is seen", || async { guard.metric(&began).parse::<f64>().is_ok_and(|b| b > moment) }).await;
    let text = String::from_utf8(guard.rt.registry.encode(None).1).unwrap();
    let names: Vec<_> = text.lines().filter(|l| l.starts_with("container_up{")).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    guard.metric_becomes(&series, "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stopped_or_paused_is_made_anew_and_runs() {
    let stage = Stage::new();
    let left = Leftovers::of(&stage);
    let guard = stage.guard(&[]).await;
    for (name, state) in [("stopped", "stop"), ("frozen", "pause")] {
        let id = compose_like(&stage, name, &base_image(), &["--stop-timeout", "1"], WAITS);
        docker(&["start", &id]);
        docker(&[state, &id]);
        let (status, answer) = recreate(&guard, &id, "").await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(service(&stage, name), [format!("{}-{name}-1 running", stage.project)]);
    }
    drop(left);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_runs_beside_the_original_and_takes_nothing_from_it() {
    let stage = Stage::new();
    let mut left = Leftovers::of(&stage);
    let app = left.network("app");
    let published = format!("127.0.0.1:{}:80", free_port());
    let more = ["--network", &app, "--network-alias", "web", "-p", &published, "-v", "/nameless"];
    let web = compose_like(&stage, "web", &base_image(), &more, WAITS);
    docker(&["start", &web]);
    let guard = stage.guard(&["--max-replicas", "2"]).await;
    let replicate = async || guard.send("POST", &format!("/selfheal/containers/{web}/replicate"), Some(TOKEN)).await;
    let remove = async |id: &str| guard.send("DELETE", &format!("/selfheal/containers/{id}?t=1"), Some(TOKEN)).await;

    let (status, answer) = replicate().await;
    assert_eq!(status, 200, "{answer}");
    let second = answer["Id"].as_str().unwrap().to_owned();
    let (original, copy) = (inspect(&web), inspect(&second));
    assert_eq!(copy["Name"], format!("/{}-web-2", stage.project));
    assert_eq!(copy["Config"]["Labels"]["selfheal.replica-of"], json!(web));
    assert_eq!(copy["Config"]["Labels"]["com.docker.compose.container-number"], "2");
    assert_eq!(copy["Config"]["Env"], original["Config"]["Env"]);
    assert_eq!(copy["HostConfig"]["PortBindings"], json!({}));
    let aliases = copy["NetworkSettings"]["Networks"][&app]["Aliases"].as_array().unwrap();
    assert!(aliases.contains(&json!("web")), "{aliases:?}");
    let volume = |inspect: &Value| inspect["Mounts"][0]["Name"].as_str().unwrap().to_owned();
    assert_ne!(volume(&copy), volume(&original), "nameless volumes are not shared");
    // The service's name leads to both.
    let ask = ["run", "--rm", "--network", &app, "--entrypoint", "/bin/sh", &base_image(), "-c", "getent ahostsv4 web"];
    if let Ok(found) = docker_may_fail(&ask) {
        let address = |i: &Value| i["NetworkSettings"]["Networks"][&app]["IPAddress"].as_str().unwrap().to_owned();
        assert!(found.contains(&address(&original)) && found.contains(&address(&copy)), "{found}");
    }

    let (status, answer) = replicate().await;
    let third = answer["Id"].as_str().unwrap().to_owned();
    assert_eq!((status, inspect(&third)["Name"].clone()), (200, json!(format!("/{}-web-3", stage.project))));
    let (status, problem) = replicate().await;
    assert_eq!((status, problem["reason"].as_str()), (409, Some("too_many_replicas")));
    let (status, problem) = guard.send("POST", &format!("/selfheal/containers/{second}/replicate"), Some(TOKEN)).await;
    assert_eq!((status, problem["reason"].as_str()), (409, Some("not_replicable")));

    let (status, problem) = remove(&web).await;
    assert_eq!((status, problem["reason"].as_str()), (403, Some("not_a_replica")));
    let gone = volume(&copy);
    assert_eq!(remove(&second).await, (200, json!({"Id": second})));
    assert_eq!(remove(&second).await.0, 404);
    assert!(docker_may_fail(&["volume", "inspect", &gone]).is_err(), "what was its own goes with it");
    assert_eq!(
        service(&stage, "web"),
        [format!("{}-web-1 running", stage.project), format!("{}-web-3 running", stage.project)]
    );
    // A number that is free again is given again only when it is the highest.
    assert_eq!(remove(&third).await.0, 200);
    let (_, answer) = replicate().await;
    assert_eq!(inspect(answer["Id"].as_str().unwrap())["Name"], format!("/{}-web-2", stage.project));
    assert_eq!(stage.inspect(&web).await.restart_count, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_do_harm_is_refused_and_nothing_is_touched() {
    let mut stage = Stage::new();
    let mut left = Leftovers::of(&stage);
    let volume = format!("{}-data", stage.project);
    left.volumes.push(volume.clone());
    let base = base_image();
    let data = format!("{volume}:/data");
    let plain = stage.run("plain", &[], WAITS).await;
    let protected = stage.run("protected", &[("selfheal.enable", "true"), ("selfheal.protect", "true")], WAITS).await;
    let made = |service: &str, more: &[&str]| {
        let id = compose_like(&stage, service, &base, more, WAITS);
        docker(&["start", &id]);
        id
    };
    let database = made("database", &["-v", &data]);
    // Not started: not every machine that runs tests lets it.
    let powerful = compose_like(&stage, "powerful", &base, &["--privileged"], WAITS);
    let fleeting = made("fleeting", &["--rm"]);
    let shared = made("shared", &[]);
    let inside = made("inside", &["--network", &format!("container:{shared}")]);
    let guard = stage.guard(&[]).await;
    let all = [&plain, &protected, &database, &powerful, &fleeting, &shared, &inside];
    let mut before = Vec::new();
    for id in all {
        before.push(stage.started_at(id).await);
    }
    for (id, operation, reason) in [
        (&plain, "recreate", "not_managed"),
        (&plain, "replicate", "not_managed"),
        (&protected, "recreate", "protected"),
        (&protected, "replicate", "protected"),
        (&database, "replicate", "not_replicable"),
        (&powerful, "recreate", "too_privileged"),
        (&powerful, "replicate", "too_privileged"),
        (&fleeting, "recreate", "not_recreatable"),
        (&shared, "recreate", "has_dependants"),
        (&inside, "replicate", "not_replicable"),
    ] {
        let path = format!("/selfheal/containers/{id}/{operation}");
        let (status, problem) = guard.send("POST", &path, Some(TOKEN)).await;
        assert!((400..500).contains(&status), "{problem}");
        assert_eq!(problem["reason"], reason, "{operation}: {problem}");
        let (status, problem) = guard.send("POST", &path, None).await;
        assert_eq!((status, problem["reason"].as_str()), (403, Some("token_missing")));
    }
    for (id, before) in all.into_iter().zip(before) {
        assert_eq!(stage.started_at(id).await, before, "untouched");
    }
    assert_eq!(guard.metric(r#"guard_requests_total{decision="denied",reason="has_dependants",verb="recreate"}"#), "");
    let refused = r#"guard_requests_total{decision="allowed",reason="has_dependants",verb="recreate"}"#;
    assert_eq!(guard.metric(refused), "1", "the caller might, the container could not");
    docker(&["rm", "-f", "-v", &inside]);
    assert_eq!(recreate(&guard, &shared, "?t=1").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_images_that_ran_healthy_here_are_gone_back_to() {
    let stage = Stage::new();
    let mut left = Leftovers::of(&stage);
    let base = base_image();
    let repository = format!("guardtest/{}", stage.project);
    let good = left.image(&base, &format!("{repository}:1"));
    // Another image: the same files, one label more.
    let container = docker(&["create", &base, "true"]);
    let bad = format!("{repository}:2");
    docker(&["commit", "--change", "LABEL of.the.image=2", &container, &bad]);
    docker(&["rm", "-v", &container]);
    left.images.push(bad.clone());
    let id_of = |image: &str| docker(&["image", "inspect", "-f", "{{.Id}}", image]);
    let (good_id, bad_id) = (id_of(&good), id_of(&bad));
    let stranger = left.image(&base, &format!("guardtest/{}-stranger:1", stage.project));

    let guard = stage.guard(&["--healthy-after", "1s"]).await;
    let check = ["--health-cmd", "test ! -e /tmp/sick", "--health-interval", "1s", "--stop-timeout", "1"];
    let first = compose_like(&stage, "web", &good, &check, WAITS);
    docker(&["start", &first]);
    let memory = format!("{repository}:selfheal-healthy.{}.web.{}", stage.project, &good_id[7..19]);
    until("the good image is remembered", || async {
        docker_may_fail(&["image", "inspect", "-f", "{{.Id}}", &memory]).as_deref() == Ok(good_id.as_str())
    })
    .await;

    // A deploy of the bad one, which never gets healthy.
    docker(&["rm", "-f", "-v", &first]);
    let sick = ["--health-cmd", "false", "--health-interval", "1s", "--stop-timeout", "1"];
    let second = compose_like(&stage, "web", &bad, &sick, WAITS);
    docker(&["start", &second]);
    assert_eq!(inspect(&second)["Config"]["Labels"]["of.the.image"], "2");
    for (image, told) in [
        (format!("{repository}:3"), "is not present here"),
        (stranger, "is of another repository"),
        (format!("sha256:{}", "00".repeat(32)), "is not present here"),
    ] {
        let (status, problem) = recreate(&guard, &second, &format!("?image={image}")).await;
        assert_eq!((status, problem["reason"].as_str()), (403, Some("image_not_proven")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(told), "{problem}");
    }
    // A guard that starts now remembers as well.
    drop(guard);
    let guard = stage.guard(&["--healthy-after", "1s"]).await;
    let (status, answer) = recreate(&guard, &second, "?t=1&image=@previous").await;
    assert_eq!(status, 200, "{answer}");
    let back = inspect(answer["Id"].as_str().unwrap());
    assert_eq!((&back["Image"], &back["Config"]["Image"]), (&json!(good_id), &json!(memory)));
    assert_eq!(back["Config"]["Labels"].get("of.the.image"), None, "what the bad image brought is gone");
    assert_eq!(service(&stage, "web").len(), 1);
    // From here there is nothing further back, and the bad one is not proven by being newer.
    let id = back["Id"].as_str().unwrap();
    for image in ["@previous".to_owned(), bad, bad_id] {
        let (status, problem) = recreate(&guard, id, &format!("?image={image}")).await;
        assert_eq!((status, problem["reason"].as_str()), (403, Some("image_not_proven")), "{image}: {problem}");
    }
    // The good one by its name, or by its id, is fine, and what it is anyway.
    let (status, answer) = recreate(&guard, id, &format!("?t=1&image={good}")).await;
    assert_eq!(status, 200, "{answer}");
    let named = inspect(answer["Id"].as_str().unwrap());
    assert_eq!((&named["Image"], &named["Config"]["Image"]), (&json!(good_id), &json!(good)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_is_rolled_back() {
    let stage = Stage::new();
    let mut left = Leftovers::of(&stage);
    let repository = format!("guardtest/{}", stage.project);
    let good = left.image(&base_image(), &format!("{repository}:2"));
    // An image without anything in it, remembered as good all the same.
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.tar");
    assert!(Command::new("tar").args(["-cf", empty.to_str().unwrap(), "-T", "/dev/null"]).status().unwrap().success());
    let broken = format!("{repository}:1");
    docker(&["import", empty.to_str().unwrap(), &broken]);
    left.images.push(broken.clone());
    let id = docker(&["image", "inspect", "-f", "{{.Id}}", &broken]);
    left.image(&broken, &format!("{repository}:selfheal-healthy.{}.web.{}", stage.project, &id[7..19]));

    let web = compose_like(&stage, "web", &good, &["--stop-timeout", "1"], WAITS);
    docker(&["start", &web]);
    let guard = stage.guard(&[]).await;
    let before = stage.started_at(&web).await;
    let (status, problem) = recreate(&guard, &web, &format!("?image={broken}")).await;
    assert_eq!((status, problem["reason"].as_str()), (409, Some("rolled_back")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("/bin/sh"), "it says why: {problem}");
    assert_eq!(service(&stage, "web"), [format!("{}-web-1 running", stage.project)]);
    assert_ne!(stage.started_at(&web).await, before, "the old one runs again");
    assert_eq!(guard.metric(r#"guard_repairs_total{repair="roll_back",result="done"}"#), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_thing_at_a_time_is_done_to_a_service() {
    let stage = Stage::new();
    let left = Leftovers::of(&stage);
    let slow = "trap 'sleep 2; exit 0' TERM; while :; do sleep 0.1; done";
    let web = compose_like(&stage, "web", &base_image(), &["--stop-timeout", "10"], slow);
    docker(&["start", &web]);
    let guard = stage.guard(&[]).await;
    let path = format!("/selfheal/containers/{web}/recreate?t=10");
    let first = guard.send("POST", &path, Some(TOKEN));
    let others = async {
        until("the new one is there", || async { service(&stage, "web").len() == 2 }).await;
        // Whoever looks through the guard sees one all the while.
        let seen = guard.get("/containers/json?all=1").await.1;
        assert_eq!(seen.as_array().unwrap().len(), 1, "{seen}");
        for (method, path) in [
            ("POST", format!("/containers/{web}/restart")),
            ("POST", format!("/containers/{web}/start")),
            ("POST", path.clone()),
            ("POST", format!("/selfheal/containers/{web}/replicate")),
        ] {
            let (status, problem) = guard.send(method, &path, Some(TOKEN)).await;
            assert_eq!((status, problem["reason"].as_str()), (409, Some("target_busy")), "{path}: {problem}");
        }
    };
    let ((status, answer), ()) = tokio::join!(first, others);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(service(&stage, "web"), [format!("{}-web-1 running", stage.project)]);
    drop(left);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lasts_by_its_nature_is_not_the_guards_latency() {
    let stage = Stage::new();
    let left = Leftovers::of(&stage);
    let web = compose_like(&stage, "web", &base_image(), &["--stop-timeout", "1"], WAITS);
    docker(&["start", &web]);
    let guard = stage.guard(&[]).await;
    assert_eq!(guard.get("/containers/json").await.0, 200);
    assert_eq!(guard.get(&format!("/containers/{web}/stats?stream=0")).await.0, 200);
    assert_eq!(guard.get(&format!("/containers/{web}/logs?stdout=1")).await.0, 200);
    assert_eq!(recreate(&guard, &web, "").await.0, 200);
    let text = String::from_utf8(guard.rt.registry.encode(None).1).unwrap();
    let measured = |name: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|l| l.strip_prefix(name)?.split_once("endpoint=\""));
        let mut found: Vec<_> = lines.map(|(_, rest)| rest.split('"').next().unwrap().to_owned()).collect();
        found.sort();
        found.dedup();
        found
    };
    assert_eq!(measured("http_request_duration_seconds_count{"), ["list"]);
    assert_eq!(measured("http_requests_total{"), ["list", "logs", "recreate", "stats"], "but all are counted");
    drop(left);
}

/// Stands between guard and daemon, and cuts the line at one request that changes something.
struct Cut {
    socket: PathBuf,
    dead: Arc<AtomicBool>,
    _dir: tempfile::TempDir,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// The daemon never hears of it.
    Before,
    /// It is done, and nobody hears of that.
    After,
}

impl Cut {
    fn at(number: usize, moment: Moment) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let dead = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(AtomicUsize::new(0));
        let is_dead = dead.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(Self::pass(client, is_dead.clone(), seen.clone(), number, moment));
            }
        });
        Self { socket, dead, _dir: dir }
    }

    async fn pass(
        mut client: UnixStream,
        dead: Arc<AtomicBool>,
        seen: Arc<AtomicUsize>,
        number: usize,
        moment: Moment,
    ) -> Option<()> {
        if dead.load(Ordering::SeqCst) {
            return None;
        }
        let mut request = Vec::new();
        let mut piece = [0; 65536];
        let head = loop {
            let n = client.read(&mut piece).await.ok().filter(|n| *n > 0)?;
            request.extend_from_slice(&piece[..n]);
            if let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
        while request.len() < head + length.unwrap_or(0) {
            let n = client.read(&mut piece).await.ok().filter(|n| *n > 0)?;
            request.extend_from_slice(&piece[..n]);
        }
        let changes = !text.starts_with("get ");
        let hit = changes && seen.fetch_add(1, Ordering::SeqCst) + 1 == number;
        if hit {
            dead.store(true, Ordering::SeqCst);
            if moment == Moment::Before {
                return None;
            }
        }
        let mut daemon = UnixStream::connect("/var/run/docker.sock").await.ok()?;
        daemon.write_all(&request).await.ok()?;
        if hit {
            // The answer's first bytes say that it is done.
            let _ = daemon.read(&mut piece).await.ok()?;
            return None;
        }
        tokio::io::copy_bidirectional(&mut client, &mut daemon).await.ok().map(drop)
    }

    fn socket(&self) -> &Path {
        &self.socket
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_anywhere_a_recreation_is_finished_or_undone() {
    // create, connect, stop, rename, rename, start, remove
    for number in 1..=7 {
        for moment in [Moment::Before, Moment::After] {
            let stage = Stage::new();
            let mut left = Leftovers::of(&stage);
            let (app, data) = (left.network("app"), left.network("data"));
            let more = ["--network", &app, "--stop-timeout", "1", "-v", "/nameless"];
            let old = compose_like(&stage, "web", &base_image(), &more, WAITS);
            docker(&["network", "connect", "--alias", "web", &data, &old]);
            docker(&["start", &old]);
            docker(&["exec", &old, "/bin/sh", "-c", "echo b > /nameless/x"]);
            let cut = Cut::at(number, moment);
            let killed = stage.guard(&["--docker-socket", cut.socket().to_str().unwrap()]).await;
            let (status, problem) = recreate(&killed, &old, "?t=1").await;
            let case = format!("{moment:?} change {number}: {problem}");
            assert!(cut.dead.load(Ordering::SeqCst), "the cut was reached: {case}");
            let told = if number == 7 { 200 } else { 503 };
            let unknown = status == told || (number < 7 && (500..600).contains(&status));
            assert!(unknown, "nobody says that nothing was done: {status} {case}");
            let running = service(&stage, "web").iter().filter(|l| l.ends_with(" running")).count();
            assert!(running <= 1, "never two: {case}");
            drop(killed);

            let guard = stage.guard(&[]).await;
            let whole = || async { service(&stage, "web") == [format!("{}-web-1 running", stage.project)] };
            until(&format!("whole again after {case}"), whole).await;
            let name = format!("{}-web-1", stage.project);
            assert_eq!(docker(&["exec", &name, "/bin/sh", "-c", "cat /nameless/x"]), "b", "{case}");
            let networks = inspect(&name)["NetworkSettings"]["Networks"].as_object().unwrap().len();
            assert_eq!(networks, 2, "{case}");
            // Whoever asks again gets it done, once.
            let (status, answer) = recreate(&guard, &old, "?t=1").await;
            assert_eq!(status, 200, "{case} {answer}");
            assert_ne!(answer["Id"], json!(old));
            assert_eq!(recreate(&guard, &old, "?t=1").await, (200, answer), "{case}");
            assert!(whole().await, "{case}");
            assert_eq!(docker(&["exec", &name, "/bin/sh", "-c", "cat /nameless/x"]), "b", "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_anywhere_a_replica_is_whole_or_gone() {
    // create, connect, start
    for number in 1..=3 {
        for moment in [Moment::Before, Moment::After] {
            let stage = Stage::new();
            let mut left = Leftovers::of(&stage);
            let (app, data) = (left.network("app"), left.network("data"));
            let web = compose_like(&stage, "web", &base_image(), &["--network", &app, "--stop-timeout", "1"], WAITS);
            docker(&["network", "connect", &data, &web]);
            docker(&["start", &web]);
            let cut = Cut::at(number, moment);
            let killed = stage.guard(&["--docker-socket", cut.socket().to_str().unwrap()]).await;
            let path = format!("/selfheal/containers/{web}/replicate");
            let (status, problem) = killed.send("POST", &path, Some(TOKEN)).await;
            assert!((500..600).contains(&status), "{moment:?} {number}: {problem}");
            drop(killed);
            let _guard = stage.guard(&[]).await;
            let original = format!("{}-web-1 running", stage.project);
            let copy = format!("{}-web-2 running", stage.project);
            let expected = if (number, moment) == (3, Moment::After) { vec![original, copy] } else { vec![original] };
            until(&format!("{moment:?} {number}"), || async { service(&stage, "web") == expected }).await;
        }
    }
}
