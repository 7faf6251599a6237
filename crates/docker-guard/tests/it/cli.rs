//! The docker command itself, pointed at the guard: no library of ours in between.

use std::process::Command;

use crate::stage::{Guard, Stage, TOKEN, WAITS, until};

struct Cli<'a> {
    guard: &'a Guard,
    config: tempfile::TempDir,
}

impl<'a> Cli<'a> {
    fn new(guard: &'a Guard, token: Option<&str>) -> Self {
        let config = tempfile::tempdir().unwrap();
        let headers = token.map(|t| format!(r#"{{"HttpHeaders": {{"Authorization": "Bearer {t}"}}}}"#));
        std::fs::write(config.path().join("config.json"), headers.unwrap_or_else(|| "{}".to_owned())).unwrap();
        Self { guard, config }
    }

    /// Whether it worked, and what it wrote.
    async fn run(&self, args: &[&str]) -> (bool, String) {
        let mut command = Command::new("docker");
        command
            .arg("--config")
            .arg(self.config.path())
            .args(["-H", &format!("tcp://{}", self.guard.address)])
            .args(args)
            // Nothing but what is given here decides whom it talks to.
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT");
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("the docker CLI");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_docker_command_sees_what_it_may_and_is_told_why_it_may_not() {
    let mut stage = Stage::new();
    let web = stage.run("web", &[("selfheal.enable", "true")], WAITS).await;
    let plain = stage.run("plain", &[], WAITS).await;
    let image = stage.inspect(&web).await.config.unwrap().image.unwrap();
    let guard = stage.guard(&[]).await;
    let (name, plain_name) = (stage.name("web"), stage.name("plain"));
    let anyone = Cli::new(&guard, None);
    let bot = Cli::new(&guard, Some(TOKEN));

    let (ok, ps) = anyone.run(&["ps", "--format", "{{.Names}} {{.State}}"]).await;
    assert!(ok && ps.contains(&format!("{name} running")), "{ps}");
    assert_eq!(ps.lines().count(), 2, "only the project's: {ps}");
    let (ok, inspect) = anyone.run(&["inspect", &name]).await;
    assert!(ok && inspect.contains("PASSWORD=(redacted)") && !inspect.contains("hunter2"), "{inspect}");
    until("docker logs", || async {
        let (ok, logs) = anyone.run(&["logs", "--tail", "5", &name]).await;
        ok && logs.contains("ready")
    })
    .await;
    let (ok, stats) = anyone.run(&["stats", "--no-stream", "--format", "{{.Name}}", &name]).await;
    assert!(ok && stats.contains(&name), "{stats}");
    let (ok, version) = anyone.run(&["version", "--format", "{{.Server.Version}}"]).await;
    assert!(ok, "{version}");
    let (ok, events) = anyone.run(&["events", "--since", "10m", "--until", "0s"]).await;
    assert!(ok && events.contains(&web), "{events}");

    let before = stage.started_at(&web).await;
    let (ok, done) = bot.run(&["restart", "-t", "5", &name]).await;
    assert!(ok, "{done}");
    assert_ne!(stage.started_at(&web).await, before);
    assert!(bot.run(&["stop", "-t", "5", &name]).await.0);
    assert!(bot.run(&["start", &name]).await.0);

    let output = tempfile::tempdir().unwrap();
    let out = output.path().to_str().unwrap();
    for (cli, args, says) in [
        (&anyone, vec!["restart", name.as_str()], "need the guard's bearer token (token_missing)"),
        (&bot, vec!["restart", &plain_name], "lacks the label selfheal.enable=true (not_managed)"),
        (&bot, vec!["restart", "not-there"], "No such container in this project: not-there"),
        (
            &bot,
            vec!["run", "--rm", "--pull", "never", "-v", "/:/host", &image, "true"],
            "docker-guard: creating containers is open to nobody",
        ),
        (
            &bot,
            vec!["run", "--rm", "--pull", "never", "--privileged", &image, "true"],
            "docker-guard: creating containers is open to nobody",
        ),
        (&bot, vec!["exec", &name, "id"], "running commands inside containers is open to nobody"),
        (&bot, vec!["rm", "-f", &name], "removing anything is open to nobody"),
        (&bot, vec!["kill", &name], "containers are only restarted, started and stopped"),
        (&bot, vec!["update", "--memory", "100m", &name], "containers are only restarted, started and stopped"),
        (&bot, vec!["rename", &name, "x"], "containers are only restarted, started and stopped"),
        (&bot, vec!["pull", "busybox"], "images are out of reach"),
        (&bot, vec!["images"], "images are out of reach"),
        (&bot, vec!["commit", &name], "images are out of reach"),
        (
            &bot,
            vec!["export", "-o", &format!("{out}/x.tar"), &name],
            "files of containers are neither shown nor changed",
        ),
        (&bot, vec!["diff", &name], "files of containers are neither shown nor changed"),
        (&bot, vec!["top", &name], "not on the allow-list"),
        (&bot, vec!["network", "create", "x"], "only the list of this project's"),
        (&bot, vec!["volume", "ls"], "volumes are out of reach"),
        (&bot, vec!["swarm", "init"], "swarms"),
        (&bot, vec!["plugin", "ls"], "plugins"),
        (&bot, vec!["system", "df"], "nothing is shown of the daemon"),
        (&bot, vec!["system", "prune", "-f"], "removing anything is open to nobody"),
    ] {
        let (ok, told) = cli.run(&args).await;
        assert!(!ok && told.contains(says), "docker {args:?}: {told}");
        // The sentence is shown, not a document.
        assert!(!told.contains(r#""status""#), "docker {args:?}: {told}");
    }
    let (ok, told) = bot.run(&["attach", &name]).await;
    assert!(!ok && told.contains("403"), "the command wants an upgrade and reads no sentence: {told}");
    let (ok, told) = bot.run(&["cp", &format!("{name}:/etc/hostname"), out]).await;
    assert!(!ok && told.contains("files of containers are neither shown nor changed"), "{told}");
    // The other way it asks by HEAD first, whose answer has no body to put a sentence in.
    let (ok, told) = bot.run(&["cp", "/etc/hostname", &format!("{name}:/tmp/planted")]).await;
    assert!(!ok, "{told}");
    let changes = stage.docker.container_changes(&web).await.unwrap().unwrap_or_default();
    assert!(!changes.iter().any(|c| c.path.contains("planted")), "{changes:?}");
    assert!(stage.is_running(&web).await && stage.is_running(&plain).await, "nothing of it did anything");
}
