//! Rules and routes, by the real promtool and amtool inside their images.

use std::path::Path;

use anyhow::Result;
use tokio::process::Command;

use super::cargo::cargo;
use super::{Bench, Tally, script};
use crate::docker::docker;
use crate::exec;
use crate::scenario::Check;
use crate::verify;

/// Runs all of it.
pub async fn run(bench: &Bench<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    let generated = cargo(bench.site, ["run", "--quiet", "--locked", "-p", "rulegen", "--", "--check"]);
    bench.check(&mut tally, &command(bench, "generated rules agree with their sources", generated).await);
    prometheus(bench, &mut tally).await?;
    alertmanager(bench, &mut tally).await?;
    Ok(tally)
}

async fn command(bench: &Bench<'_>, what: &str, command: Command) -> Check {
    let log = bench.site.logs().join(format!("test-{}.log", what.replace([' ', '/'], "-")));
    let result = exec::logged(command, &log, |_| {}).await;
    verify::check(what, result.map(|()| String::new()))
}

async fn prometheus(bench: &Bench<'_>, tally: &mut Tally) -> Result<()> {
    let image = bench.image("PROMETHEUS_IMAGE").await?;
    let folder = bench.site.root.join("prometheus");
    let promtool = |mounts: &[(String, &str)], args: &[&str]| {
        let mut run = docker(["run", "--rm", "--network", "none", "--entrypoint", "/bin/promtool"]);
        for (from, to) in mounts {
            run.arg("--volume").arg(format!("{from}:{to}:ro"));
        }
        run.arg(&image).args(args);
        run
    };
    let text = |path: &Path| path.display().to_string();
    for speed in ["demo", "production"] {
        let mounts = [
            (text(&folder.join("prometheus.yml")), "/etc/prometheus/prometheus.yml"),
            (text(&folder.join("rules").join(speed)), "/etc/prometheus/rules"),
        ];
        let what = format!("promtool check config, {speed} rules");
        let run = promtool(&mounts, &["check", "config", "/etc/prometheus/prometheus.yml"]);
        bench.check(tally, &command(bench, &what, run).await);
        for file in yaml_files(&folder.join("tests").join(speed))? {
            let what = format!("promtool test rules {speed}/{file}");
            let inside = format!("/src/tests/{speed}/{file}");
            let run = promtool(&[(text(&folder), "/src")], &["test", "rules", &inside]);
            bench.check(tally, &command(bench, &what, run).await);
        }
    }
    Ok(())
}

async fn alertmanager(bench: &Bench<'_>, tally: &mut Tally) -> Result<()> {
    let image = bench.image("ALERTMANAGER_IMAGE").await?;
    let mount = format!("{}:/etc/alertmanager:ro", bench.site.root.join("alertmanager").display());
    let run = docker([
        "run",
        "--rm",
        "--network",
        "none",
        "--tmpfs",
        "/tmp",
        "--volume",
        &mount,
        "--entrypoint",
        "/bin/sh",
        &image,
        "/etc/alertmanager/test.sh",
    ]);
    script::run(bench, tally, "amtool: configuration, routes, inhibitions, templates", run).await
}

/// Names of the YAML files of a folder, sorted.
pub fn yaml_files(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".yaml") || name.ends_with(".yml") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
