//! Carrying a scenario out on the running stack.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use console::style;
use serde_json::Value;
use tokio::sync::watch;

use super::judge::{self, Aftermath, Report, Seen};
use super::schema::{ActionExpected, ActionWanted, Scenario, Step};
use crate::api::Api;
use crate::docker::{Compose, Container, docker};
use crate::exec;
use crate::incident::Incident;
use crate::layout::{self, duration};
use crate::load::{self, Plan};
use crate::progress::Progress;
use crate::secrets;
use crate::stack::Stack;

/// Between two looks at the stack.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait for a stack that is still busy with something else.
const QUIET: Duration = Duration::from_secs(240);
/// Incidents that are asked for; more than a scenario can cause.
const INCIDENTS: usize = 50;

/// Runs one scenario and judges it. `talk` prints what happens as it happens.
pub async fn execute(stack: &Stack, scenario: &Scenario, talk: bool) -> Result<Report> {
    let run = Run { api: Api::new(stack)?, compose: stack.compose(), stack, scenario, say: talk.then(Progress::new) };
    run.headline();
    let before = run.quiet().await?;
    let token = run.fault_token().await?;
    let (stop, stopped) = watch::channel(false);
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let load = run.start_load(stopped, acknowledged.clone())?;
    let cleanup = Cleanup { steps: &scenario.cleanup, containers: &before.containers, armed: true };
    let started = Instant::now();

    let mut seen = Seen::default();
    let broken = Mutex::new(None);
    let breaking = async {
        for step in &scenario.steps {
            run.perform(step, &before.containers, token.as_deref()).await?;
            run.event(started, &describe(step));
        }
        *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(started.elapsed());
        // The watcher decides when it is over.
        std::future::pending::<Result<()>>().await
    };
    let watching = async {
        while started.elapsed() < scenario.expect.within.0 && !judge::settled(&scenario.expect, &seen) {
            seen.broken_at = *broken.lock().unwrap_or_else(PoisonError::into_inner);
            run.look(started, &before, &mut seen).await;
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        result = breaking => result?,
        () = watching => {}
    }
    let _ = stop.send(true);
    let load = match load {
        Some(load) => Some(load.await??),
        None => None,
    };
    cleanup.run(&run, token.as_deref()).await?;
    let after = run.aftermath(&before, load, &acknowledged).await?;
    let report = judge::judge(scenario, &seen, &after);
    run.closing(&report);
    Ok(report)
}

struct Run<'a> {
    api: Api,
    compose: Compose,
    stack: &'a Stack,
    scenario: &'a Scenario,
    say: Option<Progress>,
}

/// The stack before it was broken.
struct Before {
    containers: Vec<Container>,
    incidents: BTreeSet<String>,
}

impl Run<'_> {
    fn line(&self, text: String) {
        if let Some(say) = &self.say {
            say.line(text);
        }
    }

    fn headline(&self) {
        self.line(format!("\n{} · {}", style(&self.scenario.name).bold(), self.scenario.title));
        self.line(format!("  {}", layout::wrap(&self.scenario.description, layout::width().saturating_sub(2), 2)));
    }

    fn event(&self, started: Instant, what: &str) {
        self.line(format!("  {:>6}  {what}", duration(started.elapsed())));
    }

    /// Waits until nothing burns that this scenario would be confused by.
    async fn quiet(&self) -> Result<Before> {
        let deadline = Instant::now() + QUIET;
        let mut told = false;
        loop {
            let containers = self.compose.containers().await?;
            if containers.is_empty() {
                bail!("the stack is not running: ./stack up");
            }
            let why = match self.busy(&containers).await {
                Ok(None) => {
                    let incidents = self.api.incidents(INCIDENTS).await?;
                    return Ok(Before { containers, incidents: incidents.into_iter().map(|i| i.id).collect() });
                }
                Ok(Some(why)) => why,
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() >= deadline {
                bail!("{}: the stack does not come to rest: {why}", self.scenario.name);
            }
            if !told {
                self.line(format!("  waiting until the stack is at rest: {why}"));
                told = true;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }

    async fn busy(&self, containers: &[Container]) -> Result<Option<String>> {
        let sick = containers.iter().find(|c| c.state != "exited" && !c.is_well());
        if let Some(container) = sick {
            return Ok(Some(format!("{} is {} {}", container.service, container.state, container.health)));
        }
        if let Some(open) = self.api.incidents(INCIDENTS).await?.iter().find(|incident| incident.is_pending()) {
            return Ok(Some(format!("{} of {} is being dealt with", open.alertname, open.service())));
        }
        if let Some(alert) = &self.scenario.expect.alert {
            let alerts = self.api.alerts().await?;
            if alerts.iter().any(|a| a.label("alertname") == alert.name && a.label("service") == alert.service) {
                return Ok(Some(format!("{} is already under way", alert.name)));
            }
        }
        if let ActionExpected::Do(ActionWanted { target, .. }) = &self.scenario.expect.action {
            let budget = format!("min(alertbot_budget_remaining{{target=~\"(.+-)?{target}(-[0-9]+)?\"}})");
            if self.api.value(&budget).await?.is_some_and(|left| left < 1.0) {
                return Ok(Some(format!("the budget of {target} is used up")));
            }
        }
        let sli = &self.scenario.expect.sli;
        match self.api.value(&sli.query).await? {
            Some(value) if value < sli.below => Ok(None),
            Some(value) => Ok(Some(format!("the SLI is at {value:.3}"))),
            None => Ok(Some("the SLI has no data yet".into())),
        }
    }

    async fn fault_token(&self) -> Result<Option<String>> {
        let mut steps = self.scenario.steps.iter().chain(&self.scenario.cleanup);
        if steps.any(|step| matches!(step, Step::Fault(_))) {
            return Ok(Some(secrets::fetch(&self.stack.site, "faults").await?));
        }
        Ok(None)
    }

    #[allow(clippy::type_complexity)] // a task that yields a report
    fn start_load(
        &self,
        stopped: watch::Receiver<bool>,
        acknowledged: Arc<Mutex<Vec<String>>>,
    ) -> Result<Option<tokio::task::JoinHandle<Result<load::Report>>>> {
        let Some(load) = &self.scenario.load else { return Ok(None) };
        let plan = Plan {
            base: self.api.url("transaction-api")?,
            mix: load.mix.clone(),
            rate: load.rate,
            duration: self.scenario.expect.within.0 + Duration::from_secs(60),
            concurrency: 32,
        };
        let keep = self.scenario.expect.keep_transactions;
        let collect = move |seen: load::Seen| {
            if keep
                && seen.status == Ok(201)
                && let Some(id) = transaction_id(&seen.body)
            {
                acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(id);
            }
        };
        Ok(Some(tokio::spawn(async move { load::drive(&plan, stopped, collect).await })))
    }

    async fn perform(&self, step: &Step, containers: &[Container], token: Option<&str>) -> Result<()> {
        match step {
            Step::Wait(span) => tokio::time::sleep(*span).await,
            Step::Http { request, times, every } => {
                let url = format!("{}{}", self.api.url("transaction-api")?, request.path);
                for _ in 0..*times {
                    // Like the loop in the README: whatever comes back, it goes on.
                    let _ = self.api.http().request(request.method.clone(), &url).send().await;
                    tokio::time::sleep(*every).await;
                }
            }
            Step::Fault(fault) => {
                let url = format!("{}/faults", self.api.url("transaction-api")?);
                let request = self.api.http().put(url).bearer_auth(token.unwrap_or_default()).json(fault);
                let answer = request.send().await.context("the fault could not be asked for")?;
                if !answer.status().is_success() {
                    bail!("the fault was refused: {} {}", answer.status(), answer.text().await.unwrap_or_default());
                }
            }
            Step::Docker { verb, service } => {
                let container = containers.iter().find(|container| container.service == *service);
                let container = container.with_context(|| format!("{service} is not part of the running stack"))?;
                exec::stdout(docker([verb, &container.id]), Duration::from_secs(60)).await?;
            }
        }
        Ok(())
    }

    /// One look at alerts, incidents and SLI; what cannot be asked right now is simply not seen.
    async fn look(&self, started: Instant, before: &Before, seen: &mut Seen) {
        let expect = &self.scenario.expect;
        let (alerts, incidents, sli) = tokio::join!(
            self.api.alerts(),
            self.api.incidents_in_detail(INCIDENTS, |id| !before.incidents.contains(id)),
            self.api.value(&expect.sli.query)
        );
        let now = started.elapsed();
        if let (Some(alert), Ok(alerts), None) = (&expect.alert, alerts, seen.alert_at) {
            let fires = alerts.iter().any(|a| {
                a.state == "firing" && a.label("alertname") == alert.name && a.label("service") == alert.service
            });
            if fires {
                seen.alert_at = Some(now);
                self.event(started, &format!("{} fires", alert.name));
            }
        }
        if let Ok(incidents) = incidents {
            self.incidents(started, incidents, seen);
        }
        // Good again counts only after there was reason to be bad.
        let reason = if expect.alert.is_some() { seen.alert_at.is_some() } else { seen.broken_at.is_some() };
        if let Ok(Some(value)) = sli {
            seen.sli = Some(value);
            if value >= expect.sli.below {
                seen.sli_good_at = None;
            } else if reason && seen.broken_at.is_some() && seen.sli_good_at.is_none() {
                seen.sli_good_at = Some(now);
                self.event(started, &format!("the SLI is good: {value:.3}"));
            }
        }
    }

    fn incidents(&self, started: Instant, incidents: Vec<Incident>, seen: &mut Seen) {
        let now = started.elapsed();
        for incident in &incidents {
            let known = seen.incidents.iter().find(|old| old.id == incident.id);
            if known.is_none() {
                self.event(started, &format!("incident: {} of {}", incident.alertname, incident.service()));
            }
            let before = known.map_or(0, |old| old.done().count());
            for action in incident.done().skip(before) {
                self.event(started, &format!("the alert-bot did: {} {}", action.verb, incident.service()));
                seen.acted_at.get_or_insert(now);
            }
            if let (Some(verdict), true) = (&incident.verdict, known.is_none_or(|old| old.verdict != incident.verdict))
            {
                self.event(started, &format!("verdict on {}: {}", incident.service(), verdict.replace('_', " ")));
            }
            if let ActionExpected::Do(ActionWanted { target, .. }) = &self.scenario.expect.action
                && incident.verdict.is_some()
                && incident.service() == target
                && incident.done().next().is_some()
                && seen.verdict != incident.verdict
            {
                seen.verdict.clone_from(&incident.verdict);
                seen.verdict_at = Some(now);
            }
        }
        seen.incidents = incidents;
    }

    async fn aftermath(
        &self,
        before: &Before,
        load: Option<load::Report>,
        acknowledged: &Mutex<Vec<String>>,
    ) -> Result<Aftermath> {
        let expect = &self.scenario.expect;
        let deadline = Instant::now() + Duration::from_secs(90);
        // What the scenario itself started again may need a moment.
        let mut containers;
        let unhealthy = loop {
            containers = self.compose.containers().await?;
            let well = |service: &String| containers.iter().any(|c| c.service == *service && c.is_well());
            let sick: BTreeSet<String> = expect.recovered.iter().filter(|service| !well(service)).cloned().collect();
            if sick.is_empty() || Instant::now() >= deadline {
                break sick;
            }
            tokio::time::sleep(LOOK).await;
        };
        let count = |containers: &[Container], service: &str| {
            containers.iter().find(|container| container.service == service).map_or(0, |container| container.restarts)
        };
        let restarts: BTreeMap<String, u64> = expect
            .no_crash_loop
            .iter()
            .map(|service| {
                (service.clone(), count(&containers, service).saturating_sub(count(&before.containers, service)))
            })
            .collect();
        let ids = std::mem::take(&mut *acknowledged.lock().unwrap_or_else(PoisonError::into_inner));
        let transactions = match expect.keep_transactions {
            true => Some((ids.len(), self.lost(&ids).await?)),
            false => None,
        };
        Ok(Aftermath { unhealthy, restarts, load, transactions })
    }

    /// Acknowledged transactions that the API does not know any more.
    async fn lost(&self, ids: &[String]) -> Result<Vec<String>> {
        let mut lost = Vec::new();
        for id in ids {
            let mut status = 0;
            for _ in 0..10 {
                status = self.api.status("transaction-api", &format!("/transactions/{id}")).await.unwrap_or(503);
                if status == 200 || status == 404 {
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
            if status != 200 {
                lost.push(format!("{id} ({status})"));
            }
        }
        Ok(lost)
    }

    fn closing(&self, report: &Report) {
        for check in &report.checks {
            let mark = if check.passed { style("✓").green() } else { style("✗").red() };
            self.line(layout::wrap(&format!("  {mark} {}: {}", check.what, check.detail), layout::width(), 6));
        }
    }
}

fn transaction_id(body: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    match &body["id"] {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

fn describe(step: &Step) -> String {
    match step {
        Step::Http { request, times, .. } => format!("sent {} {} × {times}", request.method, request.path),
        Step::Fault(fault) => format!("fault: {fault}"),
        Step::Docker { verb, service } => format!("docker {verb} {service}"),
        Step::Wait(span) => format!("waited {}", duration(*span)),
    }
}

/// Undoes what a scenario did, also when it is interrupted.
struct Cleanup<'a> {
    steps: &'a [Step],
    containers: &'a [Container],
    armed: bool,
}

impl Cleanup<'_> {
    async fn run(mut self, run: &Run<'_>, token: Option<&str>) -> Result<()> {
        self.armed = false;
        for step in self.steps {
            run.perform(step, self.containers, token).await?;
        }
        Ok(())
    }
}

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        // Only containers: faults end by themselves.
        for step in self.steps {
            if let Step::Docker { verb, service } = step
                && let Some(container) = self.containers.iter().find(|container| container.service == *service)
            {
                let _ = std::process::Command::new("docker").args([verb, &container.id]).output();
            }
        }
    }
}
