//! Puts the parts together.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use telemetry::{Runtime, config::Service};
use tokio::{net::TcpListener, sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    annotate::Annotator,
    backend::{Backend, docker::DockerBackend},
    config::Config,
    diagnose::Diagnosis,
    driver::{Driver, Tools},
    engine::Scope,
    http::{
        self, AppState, Feed,
        access::{Access, WebhookAuth},
    },
    journal::{Journal, audit},
    lease::Lease,
    metrics::Metrics,
    notify::Notifier,
    observe::{Alertmanager, Jaeger, Observer, Prometheus},
    policy::reload::{Outcome, Reloader},
    timestamp::Timestamp,
};

/// How often the policy file is looked at.
const POLICY_EVERY: Duration = Duration::from_secs(2);

/// Runs the bot until it is told to stop.
pub async fn run(config: Config, rt: Runtime) -> anyhow::Result<()> {
    let backend = DockerBackend::new(&config.docker_host, config.guard_token()?)
        .map_err(|e| anyhow::anyhow!("DOCKER_HOST: {e}"))?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("LISTEN_ADDR: cannot listen on {}", config.listen))?;
    run_on(listener, config, rt, Arc::new(backend)).await
}

/// [`run`], with the listener and the backend given: for tests.
pub async fn run_on(
    listener: TcpListener,
    config: Config,
    rt: Runtime,
    backend: Arc<dyn Backend>,
) -> anyhow::Result<()> {
    let metrics = Metrics::new(&rt.registry)?;
    let (reloader, policy) = Reloader::open(config.policy_file.clone(), Timestamp::now())?;
    let journal = Journal::open(&config.journal_file)
        .await
        .with_context(|| format!("JOURNAL_PATH: {}", config.journal_file.display()))?;
    let annotator = match config.grafana_password()? {
        Some(password) if !config.grafana_url.is_empty() => {
            Annotator::new(&config.grafana_url, &config.grafana_user, password, metrics.annotations.clone())?
        }
        _ => Annotator::none(),
    };
    let observer = Observer {
        prometheus: Prometheus::new(&config.prometheus_url)?,
        alertmanager: Alertmanager::new(&config.alertmanager_url)?,
        jaeger: Some(&config.jaeger_url).filter(|url| !url.is_empty()).map(|url| Jaeger::new(url)).transpose()?,
    };
    let lease = Lease::new(journal.clone(), config.name(), *config.lease_time, metrics.leader.clone());
    let tools = Tools {
        journal: journal.clone(),
        lease: lease.clone(),
        backend,
        observer,
        diagnosis: config.diagnosis()?.map(Diagnosis::new),
        web: config.notify.client()?,
        annotator,
        metrics: metrics.clone(),
        delivered: Arc::new(Notify::new()),
        reconcile: Arc::new(Notify::new()),
        posted: Arc::new(Notify::new()),
    };
    ready_when(&rt, &tools);

    // Docker sets the host name to the container's id: the bot's own must never be acted on.
    let own_id = std::env::var("HOSTNAME").ok().filter(|h| h.len() >= 12 && h.bytes().all(|b| b.is_ascii_hexdigit()));
    let scope = Scope { project: config.project.clone(), own_id };
    let in_force = policy.borrow().policy.clone();
    tracing::info!(policy = in_force.digest, mode = in_force.mode.as_str(), project = config.project, "policy loaded");
    // First the lease, then the state: what was read before could be changed by the bot that acts.
    // A journal that cannot be written at this moment is no reason to end: until it can, nothing is done.
    let acts = lease.start().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the lease cannot be claimed yet");
        false
    });
    let standing = lease.view();
    let role = if acts { "this bot acts" } else { "standing by" };
    tracing::info!(name = standing.name, holder = standing.holder, "{role}");
    let state = journal.load(in_force, scope, Timestamp::now()).await.context("JOURNAL_PATH")?;
    let traces = Some(*config.traces_interval).filter(|every| !every.is_zero());
    let (driver, control) = Driver::new(state, tools.clone(), policy.clone(), *config.reconcile_interval, traces);

    let notifier = Notifier::new(
        journal.clone(),
        metrics.clone(),
        config.notify.receivers()?,
        config.notify.client()?,
        &config.notify.console_url,
        *config.notify.gather,
    )
    .under(lease);
    let feed = Feed::start(journal.clone(), control.changes(), rt.shutdown.clone());
    let router = http::router(AppState {
        feed,
        journal,
        policy,
        metrics: metrics.clone(),
        control,
        access: Arc::new(Access::new(
            WebhookAuth::new(&config.webhook_user, &config.webhook_token()?),
            &config.operator_token()?,
            config.read_access,
            config.trusted_networks.clone(),
            *config.session_time,
        )),
        project: config.project.clone(),
        delivered: tools.delivered.clone(),
        runtime: rt.clone(),
        webhook_max_bytes: config.webhook_max_bytes,
    });

    let mut tasks = JoinSet::new();
    let stop = rt.shutdown.clone();
    tasks.spawn(driver.run(stop.clone()));
    tasks.spawn(notifier.run(tools.posted.clone(), stop.clone()));
    tasks.spawn(watch_audit(tools.journal.clone(), metrics.clone(), *config.audit_interval, stop.clone()));
    tasks.spawn(follow_policy(reloader, metrics, stop.clone()));
    tracing::info!(listen = %listener.local_addr()?, "listening");
    let grace = *config.common().shutdown_grace;
    let served = telemetry::http::serve(listener, router, stop.clone(), grace).await;
    stop.cancel();
    // The driver ends after its turn: what it has begun to write is written.
    if tokio::time::timeout(grace, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("tasks still running after the grace period were cut");
    }
    Ok(served?)
}

fn ready_when(rt: &Runtime, tools: &Tools) {
    let journal = tools.journal.clone();
    rt.readiness.register("journal", move || {
        let journal = journal.clone();
        async move { journal.ping().await.map_err(|e| e.to_string()) }
    });
    let backend = tools.backend.clone();
    rt.readiness.register("docker-guard", move || {
        let backend = backend.clone();
        async move { backend.ping().await.map_err(|e| e.to_string()) }
    });
}

/// Verifies the audit's chain now and then. It is broken for good once it is: no
/// later look can make it whole.
async fn watch_audit(journal: Journal, metrics: Metrics, every: Duration, stop: CancellationToken) {
    loop {
        match audit::verify(&journal).await {
            Ok(report) => {
                metrics.audit_ok.set(i64::from(report.intact));
                metrics.audit_lines.set(report.lines);
                metrics.audit_verified.set(Timestamp::now().millis() as f64 / 1000.0);
                if let Some(error) = report.error {
                    tracing::error!(error, lines = report.lines, "the audit is broken");
                }
            }
            Err(error) => tracing::warn!(%error, "the audit cannot be verified"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}

async fn follow_policy(mut reloader: Reloader, metrics: Metrics, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POLICY_EVERY) => {}
        }
        match reloader.tick(Timestamp::now()) {
            Outcome::Unchanged => {}
            Outcome::Replaced => {
                metrics.policy.with_label_values(&["replaced"]).inc();
                tracing::info!("the policy file has changed and is in force");
            }
            Outcome::Rejected => {
                metrics.policy.with_label_values(&["rejected"]).inc();
                tracing::error!("the policy file has changed and is wrong; the last good one stays in force");
            }
        }
    }
}
