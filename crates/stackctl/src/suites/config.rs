//! Each component's own check of the configuration that is mounted into it.

use anyhow::{Context, Result};

use super::{Bench, Tally, script};
use crate::docker::docker;
use crate::exec;
use crate::stack::Stack;
use crate::verify;

/// A check that a component carries in its own image.
struct Own {
    variable: &'static str,
    program: &'static str,
    args: &'static [&'static str],
    /// Folder or file of the work tree, and where it is mounted.
    mounts: &'static [(&'static str, &'static str)],
    env: &'static [&'static str],
}

const CHECKS: &[Own] = &[
    Own {
        variable: "OTEL_COLLECTOR_IMAGE",
        program: "/otelcol-contrib",
        args: &["validate", "--config=/etc/otel-collector/config.yaml"],
        mounts: &[("otel-collector", "/etc/otel-collector")],
        env: &["TRACE_EXPORTERS=[otlp_grpc/tempo, otlp_grpc/jaeger]"],
    },
    Own {
        variable: "LOKI_IMAGE",
        program: "/usr/bin/loki",
        args: &["-config.file=/etc/loki/loki.yaml", "-verify-config"],
        mounts: &[("loki/loki.yaml", "/etc/loki/loki.yaml"), ("loki/rules/demo", "/etc/loki/rules/fake")],
        env: &[],
    },
    Own {
        variable: "GATEWAY_IMAGE",
        program: "/usr/sbin/nginx",
        args: &["-t", "-e", "/dev/stderr", "-c", "/etc/gateway/nginx.conf"],
        mounts: &[("deploy/gateway", "/etc/gateway")],
        env: &[],
    },
    Own {
        variable: "BLACKBOX_EXPORTER_IMAGE",
        program: "/bin/blackbox_exporter",
        args: &["--config.check", "--config.file=/etc/blackbox/blackbox.yml"],
        mounts: &[("deploy/blackbox", "/etc/blackbox")],
        env: &[],
    },
    Own {
        variable: "TEMPO_IMAGE",
        program: "/tempo",
        args: &["-config.file=/etc/tempo/tempo.yaml", "-config.verify=true"],
        mounts: &[("tempo", "/etc/tempo")],
        env: &[],
    },
];

/// Runs all of it.
pub async fn run(bench: &Bench<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    let images = bench.images(&bench.image_variables(&Stack::open(bench.site)?.file)).await?;
    compose(bench, &mut tally).await?;
    for own in CHECKS {
        let Some(image) = images.get(own.variable) else {
            bench.progress.line(format!("- {} is not to be had here: not checked", own.variable));
            continue;
        };
        let mut run = docker(["run", "--rm", "--network", "none", "--tmpfs", "/tmp", "--entrypoint", own.program]);
        for (from, to) in own.mounts {
            run.arg("--volume").arg(format!("{}:{to}:ro", bench.site.root.join(from).display()));
        }
        for env in own.env {
            run.args(["--env", env]);
        }
        run.arg(image).args(own.args);
        let log = bench.site.logs().join(format!("test-config-{}.log", own.variable));
        let result = exec::logged(run, &log, |_| {}).await.map(|()| String::new());
        bench.check(&mut tally, &verify::check(format!("{} {}", own.program, own.args.join(" ")), result));
    }
    let with_images = |script: &str| {
        let mut command = exec::command("bash", [bench.site.root.join(script)]);
        command.envs(&images);
        command
    };
    script::run(bench, &mut tally, "images are what compose takes them for", with_images("deploy/test/images.sh"))
        .await?;
    script::run(bench, &mut tally, "planted personal data is gone", with_images("otel-collector/test.sh")).await?;
    Ok(tally)
}

async fn compose(bench: &Bench<'_>, tally: &mut Tally) -> Result<()> {
    let stack = Stack::open(bench.site)?;
    let version = crate::docker::compose_version().await.context("no compose plugin")?;
    for profile in ["", "jaeger", "ha", "mqtt"] {
        let mut config = stack.compose().command(["--profile", profile, "config", "--quiet"]);
        if profile.is_empty() {
            config = stack.compose().command(["config", "--quiet"]);
        }
        let result = exec::stdout(config, std::time::Duration::from_secs(60)).await;
        let what = if profile.is_empty() {
            "docker compose config".to_owned()
        } else {
            format!("docker compose --profile {profile} config")
        };
        bench.check(tally, &verify::check(what, result.map(|_| format!("compose {version}"))));
    }
    Ok(())
}
