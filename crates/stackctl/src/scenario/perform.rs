//! Carrying one step out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::run::Run;
use super::step::{AlertState, Alerts, Deploy, KillBot, Receiver, Sql, Step};
use crate::docker::docker;
use crate::exec;
use crate::incident::Incident;
use crate::secrets;

/// A Docker command that is well takes far less.
const LIMIT: Duration = Duration::from_secs(120);
/// Between two looks for the moment in which the bot is killed: an action may take less than a second.
const GLANCE: Duration = Duration::from_millis(20);

/// Secrets that the steps of a scenario need.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    faults: String,
    webhook: String,
    operator: String,
    /// Of the fleet.
    pub(super) machines: String,
    /// Of drift-inference.
    models: String,
}

impl Tokens {
    /// Fetches those that these steps need.
    pub async fn fetch(run: &Run<'_>) -> Result<Self> {
        let scenario = run.scenario;
        let steps: Vec<&Step> = scenario.steps.iter().chain(&scenario.cleanup).flat_map(Step::flat).collect();
        let needed = async |name: &str, needs: fn(&Step) -> bool| match steps.iter().any(|step| needs(step)) {
            true => secrets::fetch(&run.stack.site, name).await,
            false => Ok(String::new()),
        };
        Ok(Self {
            faults: needed("faults", |step| matches!(step, Step::Fault(_))).await?,
            webhook: needed(
                "alert-bot-webhook",
                |step| matches!(step, Step::PostAlerts(alerts) if alerts.to == Receiver::AlertBot),
            )
            .await?,
            machines: needed("machines", |step| matches!(step, Step::MachineFault(_) | Step::MendMachine(_))).await?,
            operator: needed("alert-bot-operator", |step| matches!(step, Step::Freeze { .. } | Step::Unfreeze)).await?,
            models: needed("models", |step| matches!(step, Step::Inference(_))).await?,
        })
    }
}

impl Run<'_> {
    /// Carries a step out.
    pub(super) async fn perform(&self, step: &Step) -> Result<()> {
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
                let request = self.api.http().put(url).bearer_auth(&self.tokens().faults).json(fault);
                accepted(request, "the fault").await?;
            }
            Step::Docker { verb, service } => self.docker(verb, service).await?,
            Step::PostAlerts(alerts) => self.post_alerts(alerts).await?,
            Step::Deploy(deploy) => self.deploy(deploy).await?,
            Step::Redeploy(service) => self.redeploy(service).await?,
            Step::Sql(sql) => self.hold(sql).await?,
            Step::KillBot(kill) => self.kill_bot(kill).await?,
            Step::Freeze { why, lasting } => {
                let until = rfc3339(OffsetDateTime::now_utc() + *lasting)?;
                self.freeze(json!({"frozen": true, "why": why, "until": until})).await?;
            }
            Step::Unfreeze => self.freeze(json!({"frozen": false, "why": "the scenario is over"})).await?,
            Step::MachineFault(fault) => self.machine_fault(fault).await?,
            Step::MendMachine(machine) => self.mend_machine(machine).await?,
            Step::Damage(damage) => self.damage(damage).await?,
            Step::UndoDamage(volume) => self.undo_damage(volume).await?,
            Step::Inference(order) => {
                let url = format!("{}{}", self.api.url("drift-inference")?, order.request.path);
                let request = self.api.http().request(order.request.method.clone(), url);
                let request = request.bearer_auth(&self.tokens().models);
                let request = order.body.iter().fold(request, |request, body| request.json(body));
                accepted(request, "the order").await?;
            }
            Step::Repeat { times, steps } => {
                for _ in 0..*times {
                    for step in steps {
                        // In a box, because it may hold the same again.
                        Box::pin(self.perform(step)).await?;
                    }
                }
            }
        }
        // From here on these containers must stay as this step left them.
        for service in step.services() {
            self.remember(service).await?;
        }
        Ok(())
    }

    async fn docker(&self, verb: &str, service: &str) -> Result<()> {
        let found = self.compose.container(service).await?;
        let container = found.with_context(|| format!("{service} is not part of the running stack"))?;
        match (verb, container.state.as_str()) {
            // Somebody was faster.
            ("unpause", state) if state != "paused" => return Ok(()),
            ("start", state) if state != "running" => self.events.own(service),
            _ => {}
        }
        exec::stdout(docker([verb, &container.id]), LIMIT).await?;
        Ok(())
    }

    async fn post_alerts(&self, alerts: &Alerts) -> Result<()> {
        let now = OffsetDateTime::now_utc();
        match alerts.to {
            Receiver::Alertmanager => {
                let url = format!("{}/api/v2/alerts", self.api.url("alertmanager")?);
                let body = for_alertmanager(alerts, &self.scenario.name, now)?;
                accepted(self.api.http().post(url).json(&body), "the alerts").await
            }
            Receiver::AlertBot => {
                let url = format!("{}/webhook", self.api.url("alert-bot")?);
                let request = self.api.http().post(url).bearer_auth(&self.tokens().webhook);
                accepted(request.json(&for_the_bot(alerts)), "the alerts").await
            }
        }
    }

    async fn freeze(&self, order: Value) -> Result<()> {
        self.order(Method::PUT, "/v1/freeze", &self.tokens().operator, &order, "the freeze").await
    }

    /// An operator's order to the bot; of two, to the one that acts.
    pub(super) async fn order(&self, method: Method, path: &str, token: &str, body: &Value, what: &str) -> Result<()> {
        let mut refused = None;
        for bot in self.api.bots() {
            let url = format!("{}{path}", self.api.url(bot)?);
            let answer =
                accepted(self.api.http().request(method.clone(), url).bearer_auth(token).json(body), what).await;
            match answer {
                Ok(()) => return Ok(()),
                // Of what one refuses because it stands by, the other one's answer counts.
                Err(error) => {
                    refused = Some(refused.filter(|_| error.to_string().contains("not_leader")).unwrap_or(error))
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// The service of the bot that acts.
    async fn leader(&self) -> Result<String> {
        let targets: Value = self.api.get("alert-bot", "/v1/targets", &[]).await?;
        let holder = targets["lease"]["holder"].as_str().unwrap_or_default();
        let found = self.api.bots().into_iter().find(|bot| *bot == holder);
        found
            .map(str::to_owned)
            .with_context(|| format!("the bot that acts calls itself {holder:?}, which is no service"))
    }

    /// Makes an image from the one that runs, if it has something new, and lets compose recreate the container.
    async fn deploy(&self, deploy: &Deploy) -> Result<()> {
        let service = &deploy.service;
        let found = self.compose.container(service).await?;
        let container = found.with_context(|| format!("{service} is not part of the running stack"))?;
        let inspected = crate::docker::inspect(&[container.id]).await?;
        let image = inspected.first().and_then(|it| it["Config"]["Image"].as_str()).context("it has no image")?;
        let image = match deploy.env.is_empty() {
            true => image.to_owned(),
            false => self.derived(image, &deploy.env).await?,
        };
        let file = self.override_file(service);
        std::fs::write(&file, override_text(service, &image, &deploy.labels))?;
        let mut up = self.compose.command(["--file"]);
        up.arg(&file).args(["up", "--detach", "--no-deps", "--no-build", "--pull", "never", service]);
        // That a new version does not become healthy is what a scenario may want.
        exec::capture(up, LIMIT).await?;
        Ok(())
    }

    async fn derived(&self, image: &str, env: &BTreeMap<String, String>) -> Result<String> {
        let tag = derived_tag(image, &self.scenario.name);
        let id = exec::stdout(docker(["create", image]), LIMIT).await?.trim().to_owned();
        let mut commit = docker(["commit"]);
        for (name, value) in env {
            commit.args(["--change", &format!("ENV {name}={value}")]);
        }
        let made = exec::stdout(commit_of(commit, &id, &tag), LIMIT).await;
        exec::stdout(docker(["rm", "--force", &id]), LIMIT).await?;
        made?;
        Ok(tag)
    }

    async fn redeploy(&self, service: &str) -> Result<()> {
        let mut up = self.compose.command(["up", "--detach", "--no-deps", "--no-build", "--pull", "never"]);
        up.arg(service);
        exec::stdout(up, LIMIT).await?;
        let _ = std::fs::remove_file(self.override_file(service));
        let images =
            docker(["image", "ls", "--filter", "reference=selfheal/*", "--format", "{{.Repository}}:{{.Tag}}"]);
        for image in exec::stdout(images, LIMIT).await?.lines() {
            if image.ends_with(&format!(":{}", derived_name(&self.scenario.name))) {
                // One that a container still uses stays.
                exec::capture(docker(["image", "rm", image]), LIMIT).await?;
            }
        }
        Ok(())
    }

    fn override_file(&self, service: &str) -> PathBuf {
        self.stack.site.state.join(format!("scenario-{service}.yaml"))
    }

    /// Opens a transaction and leaves it. The session ends with its input: nothing is held after this program.
    async fn hold(&self, sql: &Sql) -> Result<()> {
        let found = self.compose.container("postgres").await?;
        let postgres = found.context("postgres is not part of the running stack")?;
        let mut psql = docker(["exec", "--interactive", "--env", "PGAPPNAME=scenario", &postgres.id, "psql"]);
        psql.args(["-U", "postgres", "-d", "transactions", "-qAtX", "-v", "ON_ERROR_STOP=1"]);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = psql.spawn().context("cannot start psql")?;
        let mut input = child.stdin.take().context("psql has no input")?;
        let mut lines = BufReader::new(child.stdout.take().context("psql has no output")?).lines();
        let statement = sql.statement.trim().trim_end_matches(';');
        input.write_all(format!("BEGIN;\n{statement};\n\\echo held\n").as_bytes()).await?;
        input.flush().await?;
        let held = async {
            while let Some(line) = lines.next_line().await? {
                if line == "held" {
                    return Ok(());
                }
            }
            bail!("psql ended")
        };
        let held = tokio::time::timeout(Duration::from_secs(30), held).await;
        if let Err(error) = held.context("it was not carried out in time").and_then(|held| held) {
            drop(input);
            let said = tokio::time::timeout(Duration::from_secs(5), child.wait_with_output()).await;
            let said =
                said.ok().and_then(Result::ok).map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
            bail!("{statement}: {error}: {}", said.unwrap_or_default().trim());
        }
        let hold = sql.hold.0;
        self.keep(tokio::spawn(async move {
            tokio::time::sleep(hold).await;
            let _ = input.write_all(b"ROLLBACK;\n").await;
            drop(input);
            let _ = child.wait().await;
        }));
        Ok(())
    }

    /// Waits for the moment and kills.
    async fn kill_bot(&self, kill: &KillBot) -> Result<()> {
        let service = if kill.leader { self.leader().await? } else { "alert-bot".to_owned() };
        let found = self.compose.container(&service).await?;
        let bot = found.with_context(|| format!("{service} is not part of the running stack"))?;
        let deadline = Instant::now() + kill.within.0;
        loop {
            let listed = self.api.get::<Value>("alert-bot", "/v1/incidents", &[("state", kill.when.state())]).await;
            if let Ok(listed) = listed
                && self.is_one_of_ours(&listed)
            {
                break;
            }
            if Instant::now() >= deadline {
                bail!("no incident was {} within {}", kill.when.state(), crate::layout::duration(kill.within.0));
            }
            tokio::time::sleep(GLANCE).await;
        }
        exec::stdout(docker(["kill", &bot.id]), LIMIT).await?;
        Ok(())
    }

    fn is_one_of_ours(&self, listed: &Value) -> bool {
        let incidents = listed["incidents"].as_array().into_iter().flatten();
        let mut found = incidents.filter_map(|value| serde_json::from_value::<Incident>(value.clone()).ok());
        found.any(|incident| self.is_new(&incident.id))
    }
}

async fn accepted(request: reqwest::RequestBuilder, what: &str) -> Result<()> {
    let answer = request.send().await.with_context(|| format!("{what} could not be asked for"))?;
    let status = answer.status();
    if !status.is_success() {
        bail!("{what}: refused with {status}: {}", answer.text().await.unwrap_or_default().trim());
    }
    Ok(())
}

fn commit_of(mut commit: tokio::process::Command, id: &str, tag: &str) -> tokio::process::Command {
    commit.args([id, tag]);
    commit
}

fn rfc3339(time: OffsetDateTime) -> Result<String> {
    Ok(time.replace_nanosecond(0)?.format(&Rfc3339)?)
}

/// The body of Alertmanager's `POST /api/v2/alerts`.
fn for_alertmanager(alerts: &Alerts, scenario: &str, now: OffsetDateTime) -> Result<Value> {
    let annotations = json!({
        "summary": format!("posted by the scenario {scenario}"),
        "description": "No rule made this alert: a scenario did, to see what follows.",
    });
    let one = |labels: BTreeMap<String, String>| {
        Ok(match alerts.state {
            AlertState::Firing => json!({
                "labels": labels, "annotations": annotations,
                "startsAt": rfc3339(now)?, "endsAt": rfc3339(now + alerts.lasting.0)?,
            }),
            // Without a start: Alertmanager keeps the one it knows.
            AlertState::Resolved => json!({"labels": labels, "annotations": annotations, "endsAt": rfc3339(now)?}),
        })
    };
    alerts.each().into_iter().map(one).collect()
}

/// The short form of the bot's `POST /webhook`.
fn for_the_bot(alerts: &Alerts) -> Value {
    let status = match alerts.state {
        AlertState::Firing => "firing",
        AlertState::Resolved => "resolved",
    };
    let one = |labels: BTreeMap<String, String>| json!({"status": status, "labels": labels});
    json!({"alerts": alerts.each().into_iter().map(one).collect::<Vec<_>>()})
}

/// The tag of an image that a scenario made: in the repository of the one that it came from.
fn derived_tag(image: &str, scenario: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let repository = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    };
    format!("{repository}:{}", derived_name(scenario))
}

fn derived_name(scenario: &str) -> String {
    format!("scenario-{scenario}")
}

/// A compose file that changes one service.
fn override_text(service: &str, image: &str, labels: &BTreeMap<String, String>) -> String {
    let mut text = format!("services:\n  {service}:\n    image: {}\n", Value::from(image));
    if !labels.is_empty() {
        text.push_str("    labels:\n");
        for (name, value) in labels {
            let _ = writeln!(text, "      {}: {}", Value::from(name.as_str()), Value::from(value.as_str()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::scenario::value::Span;

    fn alerts(state: AlertState) -> Alerts {
        Alerts {
            to: Receiver::Alertmanager,
            state,
            labels: BTreeMap::from([("alertname".into(), "HighErrorRate".into())]),
            services: vec!["redis".into(), "lake".into()],
            lasting: Span(Duration::from_secs(90)),
        }
    }

    #[test]
    fn alerts_have_the_form_that_their_receiver_takes() {
        let now = datetime!(2026-01-02 03:04:05.6 UTC);
        insta::assert_json_snapshot!([
            for_alertmanager(&alerts(AlertState::Firing), "x", now).unwrap(),
            for_alertmanager(&alerts(AlertState::Resolved), "x", now).unwrap(),
            for_the_bot(&alerts(AlertState::Firing)),
        ]);
    }

    #[test]
    fn a_made_image_stays_in_its_repository() {
        let tag = |image: &str| derived_tag(image, "x");
        assert_eq!(tag("selfheal/api:0.1.0"), "selfheal/api:scenario-x");
        assert_eq!(tag("selfheal/api"), "selfheal/api:scenario-x");
        assert_eq!(tag("localhost:5000/api"), "localhost:5000/api:scenario-x");
        assert_eq!(tag("selfheal/api:1@sha256:ab"), "selfheal/api:scenario-x");
    }

    #[test]
    fn an_override_is_a_compose_file() {
        let labels = BTreeMap::from([("selfheal.protect".to_owned(), "true".to_owned())]);
        let text = override_text("redis", "selfheal/x:1", &labels);
        let file: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).unwrap();
        let service = &file["services"]["redis"];
        assert_eq!(
            (service["image"].as_str(), service["labels"]["selfheal.protect"].as_str()),
            (Some("selfheal/x:1"), Some("true"))
        );
        assert!(!override_text("redis", "x", &BTreeMap::new()).contains("labels"));
    }
}
