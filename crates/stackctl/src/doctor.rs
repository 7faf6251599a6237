//! `./stack doctor`: what `up` would find, install, move or leave out.

use anyhow::Result;
use console::style;
use serde::Serialize;

use crate::compose::ComposeFile;
use crate::daemon;
use crate::docker;
use crate::exec;
use crate::image::{self, Known, Way};
use crate::layout;
use crate::obtain::Obtain;
use crate::ports;
use crate::progress::Progress;
use crate::site::Site;
use crate::stack::Stack;

/// Free disk that a first `up` needs: build caches, images and some data.
const DISK_GIB: u64 = 15;
/// Memory that the whole stack needs beside the machine's own.
const MEMORY_GIB: u64 = 4;

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// What that means for `up`.
    pub level: Level,
    /// One sentence.
    pub detail: String,
}

/// What a finding means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// `up` deals with it, or goes without.
    Note,
    /// `up` cannot work.
    Stop,
}

/// Runs `doctor`; exit code 1 when `up` could not work.
pub async fn run(site: &Site, json: bool) -> Result<u8> {
    let stack = Stack::open(site)?;
    let mut found = tools().await;
    found.extend(room(site));
    found.extend(used_ports(&stack).await);
    found.extend(images(site, &stack).await?);
    if json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        print!("{}", render(&found, layout::width()));
    }
    Ok(u8::from(found.iter().any(|finding| finding.level == Level::Stop)))
}

fn finding(what: &str, level: Level, detail: impl Into<String>) -> Finding {
    Finding { what: what.to_owned(), level, detail: detail.into() }
}

async fn tools() -> Vec<Finding> {
    let apt = exec::which("apt-get").is_some() && daemon::is_root();
    let installable = if apt { Level::Note } else { Level::Stop };
    let how = if apt { "up installs it" } else { "install it first" };
    let mut found = Vec::new();
    found.push(match docker::server_version().await {
        Ok(version) => finding("docker", Level::Ok, format!("engine {version} answers")),
        Err(_) if exec::which("dockerd").is_some() && daemon::is_root() => {
            finding("docker", Level::Note, "no daemon answers; up starts one")
        }
        Err(_) if exec::which("dockerd").is_some() => {
            finding("docker", Level::Stop, "no daemon answers to this user; start it, or join the docker group")
        }
        Err(_) => finding("docker", installable, format!("not installed; {how}")),
    });
    found.push(match docker::compose_version().await {
        Ok(version) => finding("compose", Level::Ok, format!("plugin {version}")),
        Err(_) => finding("compose", Level::Note, "no plugin; up fetches one from Debian"),
    });
    found.push(match exec::which("cargo") {
        Some(_) => finding("rust", Level::Ok, "cargo is there"),
        None => {
            finding("rust", Level::Note, "no cargo: our services can be built by compose only, which needs a registry")
        }
    });
    found.push(match exec::which("go") {
        Some(_) => finding("go", Level::Ok, "go is there"),
        None => {
            finding("go", Level::Note, "no go: without a registry Loki, the Collector, Jaeger and the lake are missing")
        }
    });
    if exec::which("debootstrap").is_none() {
        found.push(finding("debootstrap", Level::Note, format!("not installed; {how} when no registry answers")));
    }
    found
}

fn room(site: &Site) -> Vec<Finding> {
    let mut found = Vec::new();
    let folder = site.cache.ancestors().find(|dir| dir.exists()).unwrap_or(&site.root);
    for (what, dir) in [("disk, cache", folder), ("disk, docker", std::path::Path::new("/var/lib/docker"))] {
        if let Some(gib) = free_gib(dir) {
            let level = if gib >= DISK_GIB { Level::Ok } else { Level::Note };
            let need = if level == Level::Ok { String::new() } else { format!("; a first up needs about {DISK_GIB}") };
            found.push(finding(what, level, format!("{gib} GiB free{need}")));
        }
    }
    if let Some(gib) = memory_gib(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()) {
        let level = if gib >= MEMORY_GIB { Level::Ok } else { Level::Note };
        let need = if level == Level::Ok { "" } else { "; try ./stack up --only core" };
        found.push(finding("memory", level, format!("{gib} GiB available{need}")));
    }
    found
}

fn free_gib(dir: &std::path::Path) -> Option<u64> {
    if !dir.exists() {
        return None;
    }
    let output = std::process::Command::new("df").args(["--output=avail", "-B1"]).arg(dir).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().nth(1)?.trim().parse::<u64>().ok()? >> 30)
}

fn memory_gib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    // Rounded: a machine of 8 GB shows a little less.
    Some((kib + (1 << 19)) >> 20)
}

async fn used_ports(stack: &Stack) -> Vec<Finding> {
    let wanted = ComposeFile::wanted_ports(&stack.file.services, &stack.vars);
    let containers = stack.compose().containers().await.unwrap_or_default();
    let ours = containers.into_iter().flat_map(|container| container.ports).collect();
    let chosen = ports::choose(&wanted, &stack.state.ports, &ours, ports::is_free);
    let moved: Vec<Finding> = chosen
        .iter()
        .filter(|(_, port)| port.wanted != port.chosen)
        .map(|(name, port)| {
            finding("port", Level::Note, format!("{name}: {} is in use, {} instead", port.wanted, port.chosen))
        })
        .collect();
    if moved.is_empty() {
        vec![finding("ports", Level::Ok, format!("all {} are free or ours", chosen.len()))]
    } else {
        moved
    }
}

async fn images(site: &Site, stack: &Stack) -> Result<Vec<Finding>> {
    let wanted = image::wanted(&stack.file.services, &stack.vars);
    let obtain = Obtain::new(site, &Progress::new())?;
    let daemon = docker::server_version().await.is_ok();
    let mut found = Vec::new();
    let (mut present, mut pull, mut build) = (0, Vec::new(), Vec::new());
    for image in &wanted {
        let known = if daemon {
            obtain.look(image).await?
        } else {
            Known { local: obtain.local_tag(image)?, ..Known::default() }
        };
        let known = Known { registry: Some(obtain.registry_answers(image::registry(&image.pinned)).await), ..known };
        match image::next(&known) {
            Way::Pinned | Way::Local(_) => present += 1,
            Way::Pull | Way::AskRegistry => pull.push(image.services.join(", ")),
            Way::Build(_) => build.push(image.services.join(", ")),
            Way::LeaveOut(reason) => {
                for service in &image.services {
                    let stand_in = image::stand_in(service).map(|by| format!("; {by}")).unwrap_or_default();
                    found.push(finding(service, Level::Note, format!("will be left out: {reason}{stand_in}")));
                }
            }
        }
    }
    found.insert(0, finding("images", Level::Ok, format!("{present} of {} are present", wanted.len())));
    if !pull.is_empty() {
        found.insert(1, finding("pull", Level::Note, pull.join(", ")));
    }
    if !build.is_empty() {
        found.insert(1, finding("build here", Level::Note, build.join(", ")));
    }
    Ok(found)
}

fn render(found: &[Finding], width: usize) -> String {
    let mut text = String::new();
    for finding in found {
        let mark = match finding.level {
            Level::Ok => style("✓").green(),
            Level::Note => style("-").yellow(),
            Level::Stop => style("✗").red(),
        };
        text.push_str(&layout::wrap(&format!("{mark} {}: {}", finding.what, finding.detail), width, 4));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_rounded() {
        assert_eq!(memory_gib("MemTotal: 1 kB\nMemAvailable:    8088312 kB\n"), Some(8));
        assert_eq!(memory_gib(""), None);
    }

    #[test]
    fn findings_wrap() {
        let found = [
            finding("docker", Level::Ok, "engine 28 answers"),
            finding(
                "tempo",
                Level::Note,
                "will be left out: no image registry can be reached and no package registry carries it",
            ),
        ];
        let text = render(&found, 60);
        assert!(text.lines().all(|line| console::measure_text_width(line) <= 60), "{text}");
        insta::assert_snapshot!(text);
    }
}
