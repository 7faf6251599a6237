//! `./stack up`: daemon, ports, images, core, the rest. Each part is skipped when it is already so,
//! which is also how an interrupted run goes on.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use console::style;
use futures::FutureExt;
use tokio::sync::oneshot;

use crate::cli::{Part, UpArgs};
use crate::compose::{ComposeFile, Service};
use crate::daemon;
use crate::docker::{self, Compose};
use crate::dotenv::Vars;
use crate::exec;
use crate::image;
use crate::layout::{self, Table, duration};
use crate::lock::Lock;
use crate::obtain::{Obtain, Obtained};
use crate::ports;
use crate::progress::{Progress, Step};
use crate::recipe;
use crate::site::Site;
use crate::stack::{self, ADDRESSES, CORE, Stack};
use crate::state::{LeftOut, State};

/// How often compose is asked to start something.
const TRIES: usize = 3;

/// Runs `up`.
pub async fn run(site: &Site, args: &UpArgs) -> Result<()> {
    site.prepare()?;
    let _lock = Lock::take(&site.state)?;
    let progress = Progress::new();
    let mut stack = Stack::open(site)?;
    let only_core = args.only == Some(Part::Core);
    for profile in &args.profile {
        if !stack.file.services.iter().any(|service| service.profiles.contains(profile)) {
            bail!("there is no profile called {profile}");
        }
    }
    // What an earlier `up` decided stays in force until this one knows better.
    let before = stack.state.clone();
    stack.state.version = 1;
    stack.state.only_core = only_core;
    // A profile stays on until `down`.
    stack
        .state
        .profiles
        .extend(args.profile.iter().filter(|p| !stack.state.profiles.contains(p)).cloned().collect::<Vec<_>>());
    stack.state.left_out.clear();
    progress.expect(2 + steps(&stack, only_core));
    daemon::ensure(site, &progress).await?;
    stack.state.variables = machine_variables(&stack.vars);
    if stack.state.has_profile("mqtt") && stack.vars.get("MQTT_URL").is_none_or(String::is_empty) {
        stack.state.variables.insert("MQTT_URL".into(), "mqtt://mosquitto:1883".into());
    }
    choose_ports(&mut stack, &progress, None).await?;
    State { version: 1, ports: stack.state.ports.clone(), ..before.clone() }.save(&site.state)?;

    let obtain = Obtain::new(site, &progress)?;
    let core = core_names(&stack);
    let (core_images, rest_images) = images(&stack);
    let jaeger = if stack.state.has_profile("jaeger") {
        Vec::new()
    } else {
        image::wanted(stack.file.service("jaeger"), &stack.vars)
    };
    let programs = image::own(stack.selected(), &stack.vars);
    let (first, rest) = image::own_of_core(&stack.selected(), &core, &stack.vars);

    // Two lanes. Our own programs and the start of the core are one; other people's images are the other, which does
    // not wait for the core to run: what it compiles takes what the first one leaves of the processors.
    let (send, receive) = oneshot::channel();
    let others = async {
        // Nobody listens any more when the other lane has failed, which ends this one.
        let _ = send.send(obtain.third_parties(core_images).await);
        if only_core {
            return anyhow::Ok(Vec::new());
        }
        // First whether Tempo can be had: Jaeger stands in for it.
        let (tempo, mut remaining): (Vec<_>, Vec<_>) =
            rest_images.into_iter().partition(|wanted| wanted.services.iter().any(|service| service == "tempo"));
        let mut taken = obtain.third_parties(tempo).await?;
        if taken.iter().any(|(_, got)| matches!(got, Obtained::LeftOut(_))) {
            remaining.extend(jaeger);
        }
        taken.extend(obtain.third_parties(remaining).await?);
        Ok(taken)
    };
    let ours = async {
        let (own, taken) = tokio::join!(own_images(&stack, &obtain, &progress, "core", &first, &programs), receive);
        let taken = taken.context("the core's images")??;
        stack.state.sources = own?;
        remember(&mut stack, taken, &progress)?;
        if let Some(left) = stack.state.left_out.iter().find(|left| core.contains(&left.service)) {
            bail!("the core cannot run without {}", left.service);
        }
        start(&mut stack, &core, "core", &progress).await?;
        if before.services.is_empty() {
            stack.state.services.clone_from(&core);
            stack.state.save(&site.state)?;
        }
        if !only_core {
            let took = duration(progress.elapsed());
            progress.line(format!("  the core is usable after {took}: {}", core_addresses(&stack)));
            stack.state.sources = own_images(&stack, &obtain, &progress, "other", &rest, &programs).await?;
        }
        Ok(())
    };
    // Whatever fails in the other lane, the core runs.
    let ((), taken) = tokio::try_join!(ours, others.map(Ok))?;

    let mut started = core;
    if !only_core {
        remember(&mut stack, taken?, &progress)?;
        stand_ins(&mut stack, &progress).await?;
        started = stack.selected().iter().map(|service| service.name.clone()).collect();
        start(&mut stack, &started, "everything else", &progress).await?;
    }
    stack.state.services = started;
    stack.state.save(&site.state)?;
    finish(&stack, &progress);
    Ok(())
}

fn core_names(stack: &Stack) -> Vec<String> {
    stack.file.closure(CORE.iter().copied()).into_iter().map(|service| service.name.clone()).collect()
}

/// Images of other people: the core's, and those that only the rest needs.
fn images(stack: &Stack) -> (Vec<image::Wanted>, Vec<image::Wanted>) {
    let core = core_names(stack);
    let (first, rest): (Vec<&Service>, Vec<&Service>) =
        stack.selected().into_iter().partition(|service| core.contains(&service.name));
    let first = image::wanted(first, &stack.vars);
    let mut rest = image::wanted(rest, &stack.vars);
    rest.retain(|image| !first.iter().any(|other| other.variable == image.variable));
    (first, rest)
}

// A first estimate of [n/m]; it grows when something has to be built that was not foreseen.
fn steps(stack: &Stack, only_core: bool) -> usize {
    let (core, rest) = images(stack);
    // Two for our own images, and one for each start.
    core.len() + 2 + if only_core { 1 } else { rest.len() + 4 }
}

/// Records where images came from, and says what is left out.
fn remember(stack: &mut Stack, taken: Vec<(image::Wanted, Obtained)>, progress: &Progress) -> Result<()> {
    for (wanted, obtained) in taken {
        stack.state.images.remove(&wanted.variable);
        match obtained {
            Obtained::Pinned => {}
            Obtained::Local(tag) => {
                stack.state.images.insert(wanted.variable, tag);
            }
            Obtained::LeftOut(reason) => {
                for service in wanted.services {
                    let stand_in = image::stand_in(&service).map(str::to_owned);
                    let left = LeftOut { service, reason: reason.clone(), stand_in };
                    progress.line(left_out_line(&left));
                    stack.state.left_out.push(left);
                }
            }
        }
    }
    let names: BTreeSet<String> = stack.state.left_out.iter().map(|left| left.service.clone()).collect();
    if let Some((service, needs)) = stack.file.broken_by(&names).first() {
        bail!("{service} needs {needs}, which cannot be had here");
    }
    Ok(())
}

/// Jaeger where Tempo cannot be had, and the Collector told where traces go.
async fn stand_ins(stack: &mut Stack, progress: &Progress) -> Result<()> {
    if stack.state.is_left_out("tempo") && !stack.state.has_profile("jaeger") {
        stack.state.profiles.push("jaeger".into());
    }
    stack.state.variables.insert("TRACE_EXPORTERS".into(), trace_exporters(stack));
    // Jaeger brought a port of its own.
    choose_ports(stack, progress, None).await
}

fn left_out_line(left: &LeftOut) -> String {
    let stand_in = left.stand_in.as_ref().map(|text| format!("; {text}")).unwrap_or_default();
    layout::wrap(&format!("  - {} is left out: {}{stand_in}", left.service, left.reason), layout::width(), 4)
}

/// Where the Collector sends traces, given what runs.
fn trace_exporters(stack: &Stack) -> String {
    let runs = |name: &str| stack.selected().iter().any(|service| service.name == name);
    let exporters: Vec<&str> = [("tempo", "otlp_grpc/tempo"), ("jaeger", "otlp_grpc/jaeger")]
        .into_iter()
        .filter(|(service, _)| runs(service))
        .map(|(_, exporter)| exporter)
        .collect();
    // A pipeline without an exporter is refused; `debug` counts the spans and drops them.
    if exporters.is_empty() { "[debug]".into() } else { format!("[{}]", exporters.join(", ")) }
}

/// What depends on this machine: docker-guard drops root where the socket's group may use it.
fn machine_variables(vars: &Vars) -> Vars {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vars::new();
    let socket = vars.get("DOCKER_SOCKET").map_or("/var/run/docker.sock", String::as_str);
    if let Ok(meta) = std::fs::metadata(Path::new(socket))
        && meta.mode() & 0o060 == 0o060
        && std::env::var_os("DOCKER_GUARD_UID").is_none()
        && vars.get("DOCKER_GUARD_UID").is_none_or(|uid| uid == "0")
    {
        found.insert("DOCKER_GUARD_UID".into(), "10006".into());
        found.insert("DOCKER_GUARD_GID".into(), meta.gid().to_string());
    }
    found
}

/// `lost` is a port that somebody took between the look and the start.
async fn choose_ports(stack: &mut Stack, progress: &Progress, lost: Option<u16>) -> Result<()> {
    let wanted = ComposeFile::wanted_ports(stack.selected(), &stack.vars);
    let containers = stack.compose().containers().await?;
    let ours: BTreeSet<u16> = containers
        .iter()
        .filter(|c| c.state == "running" || c.state == "paused")
        .flat_map(|c| c.ports.clone())
        .collect();
    let before = stack.state.ports.clone();
    let mut chosen = ports::choose(&wanted, &before, &ours, |port| Some(port) != lost && ports::is_free(port));
    for (name, port) in &chosen {
        if port.wanted != port.chosen && before.get(name) != Some(port) {
            progress.line(format!("  {name}: {} is in use, {} is taken instead", port.wanted, port.chosen));
        }
    }
    // Profiles that are off keep what they had.
    for (name, port) in before {
        chosen.entry(name).or_insert(port);
    }
    stack.state.ports = chosen;
    Ok(())
}

/// Our own images: by compose where a registry gives the base images, on the host otherwise. Returns
/// the hash of the sources that compose built from.
async fn own_images(
    stack: &Stack,
    obtain: &Obtain,
    progress: &Progress,
    which: &str,
    programs: &[(String, String)],
    all: &[(String, String)],
) -> Result<Option<String>> {
    let dockerfile = stack.site.root.join("deploy/docker/Dockerfile");
    if !dockerfile.is_file() || !obtain.registry_answers(image::registry("rust")).await {
        obtain.own_local(which, programs, all).await?;
        return Ok(None);
    }
    let root = &stack.site.root;
    let paths = ["crates", "deploy/docker", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"].map(|p| root.join(p));
    let hash = recipe::tree_hash(&paths)?;
    let mut present = stack.state.sources.as_deref() == Some(hash.as_str());
    for (image, _) in programs {
        present = present && docker::has_image(image).await;
    }
    let step = progress.step(format!("{which} service images"));
    if present {
        step.done("present");
        return Ok(Some(hash));
    }
    let services: Vec<String> = stack
        .selected()
        .iter()
        .filter(|s| s.builds.as_ref().is_some_and(|program| programs.iter().any(|(_, p)| p == program)))
        .map(|s| s.name.clone())
        .collect();
    let mut build = stack.compose().command(["build"]);
    build.args(&services);
    let report = step.reporter();
    match exec::logged(build, &stack.site.logs().join("compose-build.log"), move |line| report(line)).await {
        Ok(()) => {
            step.done("built by docker compose");
            Ok(Some(hash))
        }
        Err(error) => {
            step.failed("docker compose build failed, building on the host instead");
            progress.line(format!("{error:#}"));
            obtain.own_local(which, programs, all).await?;
            Ok(None)
        }
    }
}

async fn start(stack: &mut Stack, names: &[String], what: &str, progress: &Progress) -> Result<()> {
    let step = progress.step(format!("start {what}"));
    let log = stack.site.logs().join(format!("compose-up-{}.log", what.replace(' ', "-")));
    let mut tries = 0;
    let mut moved = false;
    // Compose gives up at once when a dependency is not healthy, be it only for being slow: what runs by
    // then stays, and the next try goes on from there.
    while let Err(error) = compose_up(&stack.compose(), names, &log, &step).await {
        tries += 1;
        if tries == TRIES {
            step.failed("failed");
            let services: Vec<&Service> = stack.file.services.iter().filter(|s| names.contains(&s.name)).collect();
            stack::explain(&stack.compose(), &services, progress).await;
            return Err(error).with_context(|| format!("docker compose could not start {what}"));
        }
        let lost = ports::conflict(&error.to_string()).filter(|_| !moved);
        if let Some(port) = lost {
            moved = true;
            step.detail(&format!("{port} was taken meanwhile; trying again with another port"));
            choose_ports(stack, progress, Some(port)).await?;
            continue;
        }
        step.detail("not everything came up; trying again");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let compose = stack.compose();
    let services: Vec<&Service> = stack.file.services.iter().filter(|s| names.contains(&s.name)).collect();
    match stack::wait_ready(&compose, &services, &step, progress).await {
        Ok(()) => {
            step.done(&format!("{} healthy", services.len()));
            Ok(())
        }
        Err(error) => {
            step.failed("not healthy");
            Err(error)
        }
    }
}

async fn compose_up(compose: &Compose, names: &[String], log: &Path, step: &Step) -> Result<()> {
    let mut up = compose.command(["up", "--detach", "--no-build", "--pull", "never", "--remove-orphans"]);
    up.args(names);
    let report = step.reporter();
    exec::logged(up, log, move |line| report(line)).await
}

fn core_addresses(stack: &Stack) -> String {
    let url = |service: &str| stack.url(service).unwrap_or_default();
    format!("{} (API), {} (alert-bot)", url("transaction-api"), url("alert-bot"))
}

fn finish(stack: &Stack, progress: &Progress) {
    let width = layout::width();
    println!("\n{} in {}\n", style("up").green().bold(), duration(progress.elapsed()));
    print!("{}", addresses(stack).render(width));
    if !stack.state.left_out.is_empty() {
        println!();
        for left in &stack.state.left_out {
            println!("{}", left_out_line(left));
        }
    }
    let api = stack.url("transaction-api").unwrap_or_default();
    println!("\nNow break it and watch it heal:");
    println!("  for i in $(seq 1 200); do curl -s {api}/error >/dev/null; sleep 0.2; done");
    println!("  ./stack status        # what fired, what was done, whether it worked");
    if stack.selected().iter().any(|s| s.name == "grafana") {
        println!("  ./stack secret grafana-admin   # the password of Grafana's admin");
    }
    if stack.state.only_core {
        println!("  ./stack up            # adds the rest");
    }
}

/// The addresses of what runs.
pub fn addresses(stack: &Stack) -> Table {
    let mut table = Table::new(["WHAT", "ADDRESS"]);
    let core = stack.file.closure(CORE.iter().copied());
    for (title, service, container, path) in ADDRESSES {
        let runs = stack.selected().iter().any(|s| s.name == *service)
            && (!stack.state.only_core || core.iter().any(|s| s.name == *service));
        if let (true, Some(port)) = (runs, stack.port(service, *container)) {
            table.row([(*title).to_owned(), stack::address(port, path)]);
        }
    }
    table
}
