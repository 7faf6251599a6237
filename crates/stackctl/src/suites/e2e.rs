//! The whole stack as a user meets it: up, verify, hardening, wrong configuration, a second up, the
//! scenarios, down.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{Bench, Tally};
use crate::cli::{DownArgs, UpArgs};
use crate::docker::{self, docker};
use crate::down;
use crate::exec;
use crate::layout;
use crate::scenario::{self, Check, Given, Manner};
use crate::secrets;
use crate::site::Site;
use crate::stack::Stack;
use crate::status;
use crate::up;
use crate::verify;

const LIMIT: Duration = Duration::from_secs(60);

/// Services that may run as root, and why.
const ROOT: &[&str] = &[
    // Reads the cgroups and disks of every container.
    "cadvisor",
];

/// The scenarios of every test run. The others take much longer together and are run by
/// `./stack scenario run --all`.
const SCENARIOS: &[&str] = &["container-killed", "high-error-rate", "readme-curl-loop"];

/// Runs all of it. A stack that was running before stays running.
pub async fn run(bench: &Bench<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    let was_running = !Stack::open(bench.site)?.compose().containers().await.unwrap_or_default().is_empty();
    if was_running {
        bench.progress.line("  the stack is running already: it is tested as it is and stays");
    }
    // Optimising everything once more takes longer than all of this.
    let site = Site { debug: !was_running, ..bench.site.clone() };
    let bench = &Bench { site: &site, ..bench.clone() };
    let started = up::run(bench.site, &UpArgs::default()).await;
    let up_worked = started.is_ok();
    bench.check(&mut tally, &verify::check("./stack up", started.map(|()| "green".to_owned())));
    if up_worked {
        let stack = Stack::open(bench.site)?;
        for check in verified(&stack).await? {
            bench.check(&mut tally, &check);
        }
        for check in hardening(&stack).await? {
            bench.check(&mut tally, &check);
        }
        for check in configuration(&stack).await? {
            bench.check(&mut tally, &check);
        }
        bench.check(&mut tally, &verify::check("status shows the stack", shows(&stack).await));
        bench.check(&mut tally, &verify::check("a second up changes nothing", second_up(bench).await));
        scenarios(bench, &stack, &mut tally).await?;
    }
    if !was_running {
        let result = async {
            down::run(bench.site, &DownArgs { volumes: true, images: false }).await?;
            let left = down::remains(bench.site, true).await?;
            ensure!(left.is_empty(), "{}", left.join(", "));
            Ok("no container, network or volume is left".to_owned())
        };
        bench.check(&mut tally, &verify::check("./stack down --volumes", result.await));
    }
    Ok(tally)
}

/// `./stack verify`, given the time that a rate needs: two scrapes of the slowest target, and the
/// evaluation of the rules on top.
async fn verified(stack: &Stack) -> Result<Vec<Check>> {
    let patience = tokio::time::Instant::now() + Duration::from_secs(150);
    loop {
        let checks = verify::checks(stack).await?;
        if checks.iter().all(|check| check.passed) || tokio::time::Instant::now() > patience {
            return Ok(checks);
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

async fn scenarios(bench: &Bench<'_>, stack: &Stack, tally: &mut Tally) -> Result<()> {
    let mut reports = Vec::new();
    let chosen = scenario::load(stack, &Given::quick())?
        .into_iter()
        .filter(|scenario| SCENARIOS.contains(&scenario.name.as_str()));
    for scenario in scenario::in_order(chosen.collect()) {
        match scenario::execute(stack, &scenario, Manner::default()).await {
            Ok(report) => {
                let failed: Vec<String> = report
                    .checks
                    .iter()
                    .filter(|check| !check.passed)
                    .map(|check| format!("{}: {}", check.what, check.detail))
                    .collect();
                tally.count(failed.is_empty());
                if !failed.is_empty() {
                    bench.failed(format!("✗ scenario {}: {}", scenario.name, failed.join(", ")));
                }
                reports.push(report);
            }
            Err(error) => bench.check(tally, &verify::check(format!("scenario {}", scenario.name), Err(error))),
        }
    }
    bench.progress.line(format!("\n{}", scenario::table(&reports).render(layout::width())));
    Ok(())
}

async fn shows(stack: &Stack) -> Result<String> {
    let status = status::gather(stack).await?;
    ensure!(status.unavailable.is_empty(), "{}", status.unavailable.join(", "));
    let sick: Vec<&str> = status.services.iter().filter(|s| !s.well).map(|s| s.service.as_str()).collect();
    ensure!(sick.is_empty(), "not well: {}", sick.join(", "));
    let sli = status.sli.context("there is no SLI")?;
    Ok(format!("{} services, SLI {:.3}", status.services.len(), sli.error_ratio))
}

async fn second_up(bench: &Bench<'_>) -> Result<String> {
    let ids = async || -> Result<BTreeSet<String>> {
        let stack = Stack::open(bench.site)?;
        Ok(stack.compose().containers().await?.into_iter().map(|container| container.id).collect())
    };
    let images = async || -> Result<BTreeSet<String>> {
        let list = exec::stdout(docker(["image", "ls", "--all", "--quiet", "--no-trunc"]), LIMIT).await?;
        Ok(list.lines().map(str::to_owned).collect())
    };
    let before = (ids().await?, images().await?);
    let begun = std::time::Instant::now();
    up::run(bench.site, &UpArgs::default()).await?;
    let took = layout::duration(begun.elapsed());
    ensure!(ids().await? == before.0, "containers were made anew");
    ensure!(images().await?.is_subset(&before.1), "images were built");
    Ok(format!("took {took}"))
}

/// Every running container: not root, read-only, without capabilities, bounded, on loopback, without a secret in sight.
async fn hardening(stack: &Stack) -> Result<Vec<Check>> {
    let containers = stack.compose().containers().await?;
    let running: Vec<String> = containers.iter().filter(|c| c.state == "running").map(|c| c.id.clone()).collect();
    let mut secrets = Vec::new();
    for name in ["grafana-admin", "alert-bot-webhook", "alert-bot-operator", "faults"] {
        secrets.push(secrets::fetch(&stack.site, name).await?);
    }
    let mut checks = Vec::new();
    for container in docker::inspect(&running).await? {
        let service = container["Config"]["Labels"]["com.docker.compose.service"].as_str().unwrap_or("?").to_owned();
        let faults = weaknesses(&service, &container, &secrets);
        let result = if faults.is_empty() { Ok(String::new()) } else { Err(anyhow::anyhow!(faults.join(", "))) };
        checks.push(verify::check(format!("{service} is hardened"), result));
    }
    checks.push(verify::check("secrets are mode 0400", secret_modes(stack).await));
    Ok(checks)
}

/// What is weaker about a container than it should be. Pure: takes what `docker inspect` says.
fn weaknesses(service: &str, container: &Value, secrets: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut demand = |good: bool, what: &str| {
        if !good {
            found.push(what.to_owned());
        }
    };
    let host = &container["HostConfig"];
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let user = container["Config"]["User"].as_str().unwrap_or_default();
    let root = ["", "0", "root"].contains(&user.split(':').next().unwrap_or_default());
    // docker-guard keeps uid 0 (without any capability) where the socket's group cannot be used.
    demand(!root || ROOT.contains(&service) || service == "docker-guard", "runs as root");
    demand(host["ReadonlyRootfs"] == true, "its root file system is writable");
    demand(list(&host["CapDrop"]).iter().any(|cap| cap.eq_ignore_ascii_case("all")), "keeps capabilities");
    demand(list(&host["CapAdd"]).is_empty(), "adds capabilities");
    demand(host["Privileged"] == false, "is privileged");
    let options = list(&host["SecurityOpt"]);
    demand(
        options.iter().any(|option| option.starts_with("no-new-privileges") && !option.ends_with("false")),
        "may gain privileges",
    );
    demand(host["Memory"].as_i64().unwrap_or(0) > 0, "has no memory limit");
    demand(host["NanoCpus"].as_i64().unwrap_or(0) > 0, "has no CPU limit");
    demand(host["PidsLimit"].as_i64().unwrap_or(0) > 0, "has no limit on processes");
    demand(host["LogConfig"]["Config"]["max-size"].is_string(), "its log may grow without end");
    demand(
        host["PidMode"] != "host" && host["NetworkMode"] != "host" && host["IpcMode"] != "host",
        "shares a namespace with the host",
    );
    let ports = host["PortBindings"].as_object().into_iter().flat_map(|ports| ports.values());
    let open = ports.filter_map(Value::as_array).flatten().any(|port| port["HostIp"] != "127.0.0.1");
    demand(!open, "publishes a port beyond this machine");
    let mounts = container["Mounts"].as_array().into_iter().flatten();
    let socket = mounts.filter_map(|mount| mount["Destination"].as_str()).any(|to| to.ends_with("docker.sock"));
    demand(!socket || service == "docker-guard", "sees the Docker socket");
    let shown =
        format!("{}{}{}", container["Config"]["Env"], container["Config"]["Cmd"], container["Config"]["Entrypoint"]);
    demand(!secrets.iter().any(|secret| shown.contains(secret)), "shows a secret in its environment or command");
    for variable in list(&container["Config"]["Env"]) {
        let (name, value) = variable.split_once('=').unwrap_or((&variable, ""));
        let secret = ["PASSWORD", "SECRET", "TOKEN"].iter().any(|word| name.contains(word));
        let by_file = name.ends_with("_FILE") || name.ends_with("__FILE");
        demand(!secret || by_file || value.is_empty(), &format!("{name} is in its environment"));
    }
    found
}

async fn secret_modes(stack: &Stack) -> Result<String> {
    let image = stack.state.environment().get("REDIS_IMAGE").or(stack.vars.get("REDIS_IMAGE")).cloned();
    let image = image.context("REDIS_IMAGE is not set")?;
    let volume = format!("{}_secrets:/s:ro", stack.site.project);
    let list = "find /s -type f | wc -l; find /s -type f ! -perm 0400; find /s -mindepth 1 -type d ! -perm 0500";
    let run = docker([
        "run",
        "--rm",
        "--network",
        "none",
        "--user",
        "0",
        "--volume",
        &volume,
        "--entrypoint",
        "/bin/sh",
        &image,
        "-c",
        list,
    ]);
    let text = exec::stdout(run, LIMIT).await?;
    let mut lines = text.lines();
    let count = lines.next().unwrap_or("0").trim().to_owned();
    let wrong: Vec<&str> = lines.collect();
    ensure!(wrong.is_empty(), "{}", wrong.join(", "));
    ensure!(count != "0", "there are no secrets");
    Ok(format!("{count} files"))
}

/// Each of our services accepts its configuration, and refuses a wrong one with exit 64 and one line.
async fn configuration(stack: &Stack) -> Result<Vec<Check>> {
    let containers = stack.compose().containers().await?;
    let mut checks = Vec::new();
    for service in stack.selected().into_iter().filter(|service| !service.one_shot) {
        let Some(program) = &service.builds else { continue };
        let Some(container) = containers.iter().find(|container| container.service == service.name) else { continue };
        let binary = format!("/usr/local/bin/{program}");
        // What the container was started with: a program may be several services.
        let inspected = docker::inspect(std::slice::from_ref(&container.id)).await?;
        let words = inspected.first().and_then(|it| it["Config"]["Cmd"].as_array().cloned()).unwrap_or_default();
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        let ask = async |extra: &[&str]| {
            let mut command = docker(["exec"]);
            command.args(extra).args([&container.id, &binary]).args(&words).arg("--check-config");
            exec::capture(command, LIMIT).await
        };
        let result = async {
            let good = ask(&[]).await?;
            ensure!(good.ok(), "its own configuration is refused: {}", good.last_line());
            let bad = ask(&["--env", "ADMIN_ADDR=nonsense"]).await?;
            if bad.code != 64 {
                bail!("a wrong ADMIN_ADDR ends with {}, not 64", bad.code);
            }
            let lines: Vec<&str> = bad.stderr.lines().filter(|line| !line.trim().is_empty()).collect();
            ensure!(lines.len() == 1 && lines[0].contains("ADMIN_ADDR"), "it says {lines:?}");
            Ok(String::new())
        };
        checks.push(verify::check(format!("{} checks its configuration", service.name), result.await));
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hardened() -> Value {
        json!({
            "Config": {"User": "10001:10001", "Env": ["DB_PASSWORD_FILE=/run/secrets/x", "A=b"], "Cmd": null, "Entrypoint": ["x"]},
            "HostConfig": {
                "ReadonlyRootfs": true, "CapDrop": ["ALL"], "CapAdd": null, "Privileged": false,
                "SecurityOpt": ["no-new-privileges:true"], "Memory": 1, "NanoCpus": 1, "PidsLimit": 1,
                "LogConfig": {"Config": {"max-size": "10m"}}, "PidMode": "", "NetworkMode": "x", "IpcMode": "private",
                "PortBindings": {"1/tcp": [{"HostIp": "127.0.0.1", "HostPort": "1"}]}
            },
            "Mounts": [{"Destination": "/data"}]
        })
    }

    #[test]
    fn a_hardened_container_passes() {
        assert_eq!(weaknesses("x", &hardened(), &["s3cret".into()]), Vec::<String>::new());
    }

    #[test]
    fn every_weakness_is_named() {
        let change = |pointer: &str, value: Value| {
            let mut container = hardened();
            *container.pointer_mut(pointer).unwrap() = value;
            weaknesses("x", &container, &["s3cret".into()]).join(", ")
        };
        let found = [
            change("/Config/User", json!("")),
            change("/Config/User", json!("0:0")),
            change("/Config/Env", json!(["DB_PASSWORD=abc"])),
            change("/Config/Env", json!(["X=s3cret"])),
            change("/Config/Cmd", json!(["--token", "s3cret"])),
            change("/HostConfig/ReadonlyRootfs", json!(false)),
            change("/HostConfig/CapDrop", json!(null)),
            change("/HostConfig/CapAdd", json!(["NET_ADMIN"])),
            change("/HostConfig/Privileged", json!(true)),
            change("/HostConfig/SecurityOpt", json!(null)),
            change("/HostConfig/Memory", json!(0)),
            change("/HostConfig/NanoCpus", json!(0)),
            change("/HostConfig/PidsLimit", json!(null)),
            change("/HostConfig/LogConfig/Config", json!({})),
            change("/HostConfig/NetworkMode", json!("host")),
            change("/HostConfig/PortBindings", json!({"1/tcp": [{"HostIp": "0.0.0.0"}]})),
            change("/Mounts", json!([{"Destination": "/var/run/docker.sock"}])),
        ];
        insta::assert_snapshot!(found.join("\n"));
    }
}
