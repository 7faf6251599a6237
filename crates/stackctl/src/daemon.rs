//! A Docker daemon with compose: found, started or installed.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::Mutex;

use crate::docker;
use crate::exec;
use crate::progress::Progress;
use crate::site::Site;

/// How long a daemon may take to answer after it was started.
const START: Duration = Duration::from_secs(90);

/// Makes sure that `docker` and `docker compose` work; installs and starts what is missing where that
/// is possible (Debian or Ubuntu, as root), and says what to do where it is not.
pub async fn ensure(site: &Site, progress: &Progress) -> Result<()> {
    static ONE: Mutex<()> = Mutex::const_new(());
    let _one = ONE.lock().await;
    let step = progress.step("docker daemon");
    match engine(site, |text| step.detail(text)).await {
        Ok(how) => step.done(&how),
        Err(error) => {
            step.failed("not available");
            return Err(error);
        }
    }
    let step = progress.step("docker compose");
    match compose(site, |text| step.detail(text)).await {
        Ok(how) => {
            step.done(&how);
            Ok(())
        }
        Err(error) => {
            step.failed("not available");
            Err(error)
        }
    }
}

async fn engine(site: &Site, say: impl Fn(&str)) -> Result<String> {
    if exec::which("docker").is_some()
        && let Ok(version) = docker::server_version().await
    {
        return Ok(format!("{version}, running"));
    }
    // Another host's daemon is not ours to install or to start.
    if let Ok(host) = std::env::var("DOCKER_HOST")
        && !host.starts_with("unix:///var/run/docker.sock")
    {
        bail!("DOCKER_HOST is {host} and nothing answers there");
    }
    let mut missing = Vec::new();
    if exec::which("dockerd").is_none() {
        missing.push("docker.io");
    }
    if exec::which("iptables").is_none() {
        missing.push("iptables");
    }
    if exec::which("docker").is_none() && exec::which("dockerd").is_some() {
        missing.push("docker-cli");
    }
    let installed = !missing.is_empty();
    if installed {
        say(&format!("installing {}", missing.join(", ")));
        apt_install(site, &missing, "docker").await?;
        // Debian 13 split the client off.
        if exec::which("docker").is_none() {
            apt_install(site, &["docker-cli"], "docker-cli").await?;
        }
        if let Ok(version) = wait(Duration::from_secs(5), None).await {
            return Ok(format!("{version}, installed and running"));
        }
    }
    if !is_root() {
        bail!(
            "no Docker daemon answers; start it (sudo systemctl start docker) or run this as root or in the docker group"
        );
    }
    say("starting the daemon");
    if Path::new("/run/systemd/system").is_dir() {
        exec::stdout(exec::command("systemctl", ["start", "docker"]), START)
            .await
            .context("systemctl start docker failed")?;
        let version = wait(START, None).await?;
        return Ok(format!("{version}, started by systemd"));
    }
    let log = start_dockerd(site)?;
    let version = wait(START, Some(&log)).await?;
    let how = if installed { "installed and started" } else { "started" };
    Ok(format!("{version}, {how}"))
}

// Detached in a session of its own: it outlives this command, as a daemon should.
fn start_dockerd(site: &Site) -> Result<std::path::PathBuf> {
    let dir = site.cache.join("dockerd");
    std::fs::create_dir_all(&dir)?;
    let log = dir.join("dockerd.log");
    let out = std::fs::File::create(&log)?;
    let dockerd = exec::which("dockerd").context("dockerd is not on the PATH")?;
    // A pid file of a daemon that is gone, left by a container or machine that was stopped, blocks the start.
    let stale = Path::new("/var/run/docker.pid");
    if let Ok(pid) = std::fs::read_to_string(stale)
        && !is_process(pid.trim(), "dockerd")
    {
        let _ = std::fs::remove_file(stale);
    }
    let child = std::process::Command::new("setsid")
        .arg(dockerd)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .context("cannot start dockerd")?;
    std::fs::write(dir.join("dockerd.pid"), format!("{}\n", child.id()))?;
    Ok(log)
}

fn is_process(pid: &str, name: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
}

async fn wait(limit: Duration, log: Option<&Path>) -> Result<String> {
    let deadline = Instant::now() + limit;
    loop {
        match docker::server_version().await {
            Ok(version) => return Ok(version),
            Err(error) if Instant::now() >= deadline => {
                let mut reason = format!("no Docker daemon answers ({error})");
                if let Some(log) = log {
                    let text = std::fs::read_to_string(log).unwrap_or_default();
                    let tail: Vec<&str> = text.lines().rev().take(5).collect();
                    reason.push_str(&format!("; {} ends with:", log.display()));
                    for line in tail.iter().rev() {
                        reason.push_str(&format!("\n  | {line}"));
                    }
                }
                bail!(reason);
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

async fn compose(site: &Site, say: impl Fn(&str)) -> Result<String> {
    if let Ok(version) = docker::compose_version().await {
        return Ok(version);
    }
    say("installing the compose plugin");
    // Ubuntu packages it; Debian 12 has only the retired v1, so its successor's package is unpacked.
    let script = site.root.join("deploy/local/get-compose.sh");
    let mut command = exec::command("bash", [&script]);
    command.env("CACHE", site.cache.join("compose"));
    exec::logged(command, &site.logs().join("get-compose.log"), |_| {}).await?;
    let version = docker::compose_version().await?;
    Ok(format!("{version}, installed"))
}

/// Installs Debian or Ubuntu packages, or says why that cannot be done here.
pub async fn apt_install(site: &Site, packages: &[&str], log: &str) -> Result<()> {
    let list = packages.join(" ");
    if exec::which("apt-get").is_none() {
        bail!("please install {list}: only Debian and Ubuntu are installed on by this command");
    }
    if !is_root() {
        bail!("please install what is missing: sudo apt-get install {list}");
    }
    // Jobs that run side by side would find the package manager locked.
    static ONE: Mutex<()> = Mutex::const_new(());
    let _one = ONE.lock().await;
    let apt = |args: &[&str]| {
        let mut command = exec::command("apt-get", args);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let log = site.logs().join(format!("apt-{log}.log"));
    let mut args = vec!["install", "-qq", "-y", "--no-install-recommends"];
    args.extend(packages);
    // The lists are often fresh enough; when they are not, the first try fails quickly.
    if exec::logged(apt(&args), &log, |_| {}).await.is_err() {
        exec::logged(apt(&["update", "-qq"]), &log, |_| {}).await?;
        exec::logged(apt(&args), &log, |_| {}).await?;
    }
    Ok(())
}

/// True for uid 0.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}
