//! The bot against a plain loop that restarts whatever is unhealthy every five seconds, on the
//! same broken containers, in one run. See README.md beside this file.

#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code, unreachable_pub, reason = "shared with the tests, which use all of it")]
#[path = "../../crates/alert-bot/tests/it/support.rs"]
mod support;

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{Setting, docker, env, unique, write_sample};

const SECOND: Duration = Duration::from_secs(1);
/// After so long it is over, recovered or not.
const LIMIT: Duration = Duration::from_secs(90);
/// The loop's pause, as docker-autoheal has it by default.
const LOOP: Duration = Duration::from_secs(5);
/// What a rule's `for:` is: so long unhealthy, and the alert fires.
const FOR: Duration = Duration::from_secs(2);
/// The one that may be restarted: it is broken.
const CAUSE: &str = "db";

/// A container: it writes `started`, and `ready` when it is.
struct Part {
    service: &'static str,
    /// How long it takes from its start until it is ready, in seconds.
    takes: u32,
    /// What must be there for its health check to pass.
    healthy_if: &'static str,
    labels: &'static [&'static str],
    /// It is expected to come back.
    recovers: bool,
}

const PARTS: [Part; 4] = [
    Part {
        service: CAUSE,
        takes: 2,
        healthy_if: "test -e /tmp/ready",
        labels: &["selfheal.enable=true"],
        recovers: true,
    },
    // Nothing is wrong with it: it needs the database.
    Part {
        service: "api",
        takes: 1,
        healthy_if: "test -e /shared/db-ready",
        labels: &["selfheal.enable=true", "selfheal.depends-on=db"],
        recovers: true,
    },
    // Just deployed, and it takes its time.
    Part {
        service: "slow",
        takes: 12,
        healthy_if: "test -e /tmp/ready",
        labels: &["selfheal.enable=true"],
        recovers: true,
    },
    // Unhealthy for good, and nobody's business but its owner's.
    Part {
        service: "ledger",
        takes: 1,
        healthy_if: "false",
        labels: &["selfheal.enable=true", "selfheal.protect=true"],
        recovers: false,
    },
];

/// The containers of one arm.
struct Plant {
    volume: String,
    containers: BTreeMap<&'static str, String>,
}

impl Plant {
    fn start(project: &str) -> Self {
        let mut plant = Self { volume: unique("abt-shared"), containers: BTreeMap::new() };
        docker(&["volume", "create", &plant.volume]);
        for part in PARTS.iter().filter(|p| p.service != "slow") {
            plant.run(project, part);
        }
        plant
    }

    fn run(&mut self, project: &str, part: &Part) {
        let name = unique(&format!("{project}-{}", part.service));
        let (service, takes) = (part.service, part.takes);
        let script = format!(
            "echo started; rm -f /tmp/ready /shared/{service}-ready; i=0; trap 'exit 0' TERM; \
             while :; do sleep 0.5; i=$((i+1)); if [ $i -eq {} ]; then \
             touch /tmp/ready /shared/{service}-ready; echo ready; fi; done",
            takes * 2
        );
        let mut args: Vec<String> =
            ["run", "-d", "--stop-timeout", "2", "--health-interval", "1s", "--health-retries", "3"]
                .map(str::to_owned)
                .to_vec();
        args.extend(["--health-cmd".to_owned(), part.healthy_if.to_owned(), "--name".to_owned(), name.clone()]);
        args.extend(["-v".to_owned(), format!("{}:/shared", self.volume)]);
        let own = [
            format!("com.docker.compose.project={project}"),
            format!("selfheal.service={service}"),
            "selfheal.test=alert-bot".to_owned(),
        ];
        for label in own.into_iter().chain(part.labels.iter().map(|l| (*l).to_owned())) {
            args.extend(["--label".to_owned(), label]);
        }
        args.extend([env("TEST_BASE_IMAGE"), "/bin/sh".to_owned(), "-c".to_owned(), script]);
        docker(&args.iter().map(String::as_str).collect::<Vec<_>>());
        self.containers.insert(service, name);
    }

    /// healthy, unhealthy or starting.
    fn health(&self, service: &str) -> String {
        docker(&["inspect", "-f", "{{.State.Health.Status}}", &self.containers[service]])
    }

    fn all_healthy(&self) -> bool {
        PARTS.iter().filter(|p| p.recovers).all(|p| self.health(p.service) == "healthy")
    }

    /// What burns, and how.
    fn break_it(&mut self, project: &str) {
        docker(&["exec", &self.containers[CAUSE], "rm", "-f", "/tmp/ready", "/shared/db-ready"]);
        let slow = PARTS.iter().find(|p| p.service == "slow").unwrap();
        self.run(project, slow);
    }

    /// Starts beyond the first, and how many of them came before the one before was ready.
    fn restarts(&self, service: &str) -> (usize, usize) {
        let log = docker(&["logs", &self.containers[service]]);
        let (mut restarts, mut early, mut ready) = (0, 0, true);
        for (i, line) in log.lines().filter(|l| matches!(*l, "started" | "ready")).enumerate() {
            match line {
                "started" if i > 0 => {
                    restarts += 1;
                    early += usize::from(!ready);
                    ready = false;
                }
                "started" => ready = false,
                _ => ready = true,
            }
        }
        (restarts, early)
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        for name in self.containers.values() {
            let _ = Command::new("docker").args(["rm", "-f", "-v", name]).output();
        }
        let _ = Command::new("docker").args(["volume", "rm", "-f", &self.volume]).output();
    }
}

struct Outcome {
    recovered: Option<Duration>,
    /// Of the broken one alone.
    cause_back: Option<Duration>,
    restarts: usize,
    wrong: usize,
    starting: usize,
}

async fn wait_healthy(plant: &Plant) {
    let began = Instant::now();
    while !["db", "api"].iter().all(|s| plant.health(s) == "healthy") {
        assert!(began.elapsed() < LIMIT, "the containers do not become healthy");
        tokio::time::sleep(SECOND / 4).await;
    }
}

/// Watches until everything that can be is healthy again, and for a while after.
async fn watch(plant: &Plant, broken_at: Instant) -> Outcome {
    let (mut recovered, mut cause_back, mut ill) = (None, None, false);
    while broken_at.elapsed() < LIMIT {
        let cause = plant.health(CAUSE);
        ill |= cause != "healthy";
        if ill && cause == "healthy" && cause_back.is_none() {
            cause_back = Some(broken_at.elapsed());
        }
        if ill && plant.all_healthy() {
            recovered.get_or_insert(broken_at.elapsed());
            break;
        }
        tokio::time::sleep(SECOND / 4).await;
    }
    // What comes after it counts too: a restart of what has just come back is a wrong one.
    tokio::time::sleep(2 * LOOP).await;
    let mut outcome = Outcome { recovered, cause_back, restarts: 0, wrong: 0, starting: 0 };
    for service in plant.containers.keys() {
        let (restarts, early) = plant.restarts(service);
        outcome.restarts += restarts;
        outcome.starting += early;
        // The broken one needs one restart; everything else is wrong.
        outcome.wrong += if *service == CAUSE { restarts.saturating_sub(1) } else { restarts };
    }
    outcome
}

/// A loop around `docker ps --filter health=unhealthy`.
async fn plain_loop() -> Outcome {
    let project = unique("loop");
    let mut plant = Plant::start(&project);
    wait_healthy(&plant).await;
    let filter = format!("label=com.docker.compose.project={project}");
    let healer = tokio::task::spawn_blocking({
        let end = Instant::now() + LIMIT + 4 * LOOP;
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let work = move || {
            while Instant::now() < end && stopped.recv_timeout(LOOP) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                let listed = docker(&["ps", "-q", "--filter", "health=unhealthy", "--filter", &filter]);
                for id in listed.lines() {
                    let _ = Command::new("docker").args(["restart", "-t", "2", id]).output();
                }
            }
        };
        STOP.set(std::sync::Mutex::new(Some(stop))).unwrap();
        work
    });
    let broken_at = Instant::now();
    plant.break_it(&project);
    let outcome = watch(&plant, broken_at).await;
    // Hung up: the loop ends.
    STOP.get().unwrap().lock().unwrap().take();
    healer.await.unwrap();
    outcome
}

static STOP: std::sync::OnceLock<std::sync::Mutex<Option<std::sync::mpsc::Sender<()>>>> = std::sync::OnceLock::new();

fn policy(sli: &str) -> String {
    format!(
        "version: 1
mode: auto
settle: 10s
defaults: {{min_age: 20s, stable_for: 3s, within: 40s, every: 500ms, max_age: 5s}}
rules:
  - name: unhealthy
    match: {{alertname: Unhealthy}}
    target: {{label: service}}
    hold: 2s
    steps: [{{action: restart, timeout: 10s, stop_timeout: 2s}}]
    budget: {{actions: 2, window: 10m, cooldown: 20s}}
    verify: {{sli: '{sli}{{service=\"{{{{service}}}}\"}}', above: 0.5}}
"
    )
}

/// The bot, told by an alert on the same health as the loop looks at.
async fn the_bot() -> Outcome {
    let sli = unique("heal_vs_loop").replace('-', "_");
    let setting = Setting::new(&policy(&sli));
    let mut plant = Plant::start(&setting.project);
    // The database must be older than `min_age`, as it is in life.
    wait_healthy(&plant).await;
    tokio::time::sleep(21 * SECOND).await;
    let bot = setting.start().await;
    let broken_at = Instant::now();
    plant.break_it(&setting.project);
    let outcome = {
        let sensor = async {
            let mut since: BTreeMap<&str, Instant> = BTreeMap::new();
            let mut fired: BTreeMap<&str, bool> = BTreeMap::new();
            loop {
                for part in &PARTS {
                    let service = part.service;
                    let unhealthy = plant.health(service) == "unhealthy";
                    let ok = f64::from(u8::from(plant.health(service) == "healthy"));
                    write_sample(&sli, &[("service", service)], ok, Duration::ZERO).await;
                    if unhealthy {
                        since.entry(service).or_insert_with(Instant::now);
                    } else {
                        since.remove(service);
                    }
                    let fires = since.get(service).is_some_and(|at| at.elapsed() >= FOR);
                    if fires != fired.get(service).copied().unwrap_or(false) {
                        fired.insert(service, fires);
                        let labels = json!({ "alertname": "Unhealthy", "service": service });
                        let status = if fires { "firing" } else { "resolved" };
                        let body = json!({ "alerts": [{ "status": status, "labels": labels }] });
                        assert_eq!(bot.api.post(body.to_string()).await.0, 202);
                    }
                }
                tokio::time::sleep(SECOND / 4).await;
            }
        };
        tokio::select! {
            outcome = watch(&plant, broken_at) => outcome,
            () = sensor => unreachable!("the sensor never ends"),
        }
    };
    let incidents = bot.api.get("/v1/incidents?limit=50").await;
    for incident in incidents["incidents"].as_array().unwrap() {
        println!(
            "  {}: {} {}",
            incident["service"].as_str().unwrap_or_default(),
            incident["outcome"].as_str().or(incident["state"].as_str()).unwrap_or_default(),
            incident["decision"].as_str().unwrap_or_default()
        );
    }
    bot.stop().await;
    outcome
}

fn shown(time: Option<Duration>) -> String {
    time.map_or_else(|| format!("not within {} s", LIMIT.as_secs()), |t| format!("{:.1} s", t.as_secs_f64()))
}

#[tokio::main]
async fn main() {
    println!("a database that hangs, what needs it, a slow start beside it, and a protected container:");
    let plain = plain_loop().await;
    let bot = the_bot().await;
    println!("{:<34} {:>16} {:>16}", "", "plain loop", "alert-bot");
    println!("{:<34} {:>16} {:>16}", "the broken one is back after", shown(plain.cause_back), shown(bot.cause_back));
    println!("{:<34} {:>16} {:>16}", "everything is back after", shown(plain.recovered), shown(bot.recovered));
    println!("{:<34} {:>16} {:>16}", "restarts", plain.restarts, bot.restarts);
    println!("{:<34} {:>16} {:>16}", "of these wrong", plain.wrong, bot.wrong);
    println!("{:<34} {:>16} {:>16}", "of these while starting", plain.starting, bot.starting);
    assert!(bot.recovered.is_some(), "the bot must bring everything back");
    assert_eq!((bot.restarts, bot.wrong, bot.starting), (1, 0, 0), "one restart, and the right one");
    assert!(plain.wrong > 0, "the loop should have something to compare with");
}
