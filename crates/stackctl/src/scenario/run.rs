//! Carrying a scenario out on the running stack.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use console::style;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::containers::{self, Lives};
use super::events::Events;
use super::judge::{self, Acted, Aftermath, Report, Seen, Verdict};
use super::perform::Tokens;
use super::release;
use super::schema::{Door, Scenario};
use crate::api::Api;
use crate::docker::{Compose, Container};
use crate::incident::Incident;
use crate::layout::{self, duration};
use crate::load::{self, Plan};
use crate::progress::Progress;
use crate::secrets;
use crate::stack::Stack;

/// Between two looks at the stack.
const LOOK: Duration = Duration::from_secs(1);
/// Incidents that are asked for; more than a scenario can cause.
const INCIDENTS: usize = 100;
/// How long the clean-up of an interrupted scenario may take.
const UNDO: Duration = Duration::from_secs(60);

/// How scenarios are run.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Print what happens as it happens.
    pub talk: bool,
    /// How long to wait for a stack that is still busy with something else.
    pub patience: Duration,
    /// Budgets of the bot that would hold the action are given back; otherwise they are waited for.
    pub release: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self { talk: true, patience: Duration::from_secs(240), release: true }
    }
}

/// Runs one scenario and judges it.
pub async fn execute(stack: &Stack, scenario: &Scenario, manner: Manner) -> Result<Report> {
    if let Some(profile) = scenario.profile.as_ref().filter(|profile| !stack.state.profiles.contains(profile)) {
        bail!("{}", super::profile_is_off(profile));
    }
    let mut run = Run {
        api: Api::new(stack)?,
        compose: stack.compose(),
        stack,
        scenario,
        events: Events::follow(&stack.site.project)?,
        tokens: Tokens::default(),
        before: Before::default(),
        sessions: Mutex::default(),
        say: manner.talk.then(Progress::new),
    };
    run.headline();
    run.before = run.quiet(manner).await?;
    run.tokens = Tokens::fetch(&run).await?;
    let (stop, stopped) = watch::channel(false);
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let load = run.start_load(stopped, acknowledged.clone())?;
    let cleanup = Cleanup { run: &run, armed: true };
    let started = Instant::now();

    let mut seen = Seen::default();
    let broken = Mutex::new(None);
    let breaking = async {
        for step in &scenario.steps {
            run.perform(step).await?;
            run.event(started, &step.describe());
        }
        *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(started.elapsed());
        // The watcher decides when it is over.
        std::future::pending::<Result<()>>().await
    };
    let watching = async {
        while started.elapsed() < scenario.expect.within.0
            && !judge::settled(&scenario.expect, &seen, started.elapsed())
        {
            seen.broken_at = *broken.lock().unwrap_or_else(PoisonError::into_inner);
            run.look(started, &mut seen).await;
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
    let mut after = run.before_cleanup().await?;
    cleanup.now().await?;
    run.after_cleanup(&mut after, load, &acknowledged).await?;
    let report = judge::judge(scenario, &seen, &after);
    run.closing(&report);
    Ok(report)
}

pub(super) struct Run<'a> {
    pub(super) api: Api,
    pub(super) compose: Compose,
    pub(super) stack: &'a Stack,
    pub(super) scenario: &'a Scenario,
    pub(super) events: Events,
    tokens: Tokens,
    before: Before,
    /// What goes on beside the steps: sessions that hold something.
    sessions: Mutex<Vec<JoinHandle<()>>>,
    say: Option<Progress>,
}

/// The stack before it was broken.
#[derive(Default)]
struct Before {
    containers: Vec<Container>,
    /// The same, as the steps left them.
    lives: Mutex<Lives>,
    incidents: BTreeSet<String>,
    /// The newest notification.
    notification: u64,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        for session in self.sessions.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            session.abort();
        }
    }
}

impl Run<'_> {
    pub(super) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Whether an incident was opened after the beginning.
    pub(super) fn is_new(&self, incident: &str) -> bool {
        !self.before.incidents.contains(incident)
    }

    /// Goes on until this run is over.
    pub(super) fn keep(&self, session: JoinHandle<()>) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }

    /// A service is now as the scenario itself left it.
    pub(super) async fn remember(&self, service: &str) -> Result<()> {
        let lives = containers::lives(&self.compose.containers().await?);
        let mut before = self.before.lives.lock().unwrap_or_else(PoisonError::into_inner);
        match lives.get(service) {
            Some(now) => before.insert(service.to_owned(), now.clone()),
            None => before.remove(service),
        };
        Ok(())
    }

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
    async fn quiet(&self, manner: Manner) -> Result<Before> {
        let deadline = Instant::now() + manner.patience;
        let mut told = false;
        loop {
            let containers = self.compose.containers().await?;
            if containers.is_empty() {
                bail!("the stack is not running: ./stack up");
            }
            let why = match self.busy(&containers, manner.release).await {
                Ok(None) => {
                    if manner.release {
                        self.give_back().await?;
                    }
                    let incidents = self.api.incidents(INCIDENTS).await?;
                    return Ok(Before {
                        lives: Mutex::new(containers::lives(&containers)),
                        containers,
                        incidents: incidents.into_iter().map(|incident| incident.id).collect(),
                        notification: self.newest_notification().await?,
                    });
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

    async fn busy(&self, containers: &[Container], release: bool) -> Result<Option<String>> {
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
        if let Some(freeze) = self.freeze_in_force().await {
            return Ok(Some(format!("the alert-bot is frozen: {freeze}")));
        }
        for wanted in self.scenario.expect.action.wanted().iter().filter(|_| !release) {
            let target = &wanted.target;
            let budget = format!("min(alertbot_budget_remaining{{target=~\"(.+-)?{target}(-[0-9]+)?\"}})");
            if self.api.value(&budget).await?.is_some_and(|left| left < 1.0) {
                return Ok(Some(format!("the budget of {target} is used up")));
            }
        }
        let sli = &self.scenario.expect.sli;
        match self.api.value(&sli.query).await? {
            Some(value) if sli.good.is(value) => Ok(None),
            Some(value) if !value.is_nan() => Ok(Some(format!("the SLI is at {value:.3}"))),
            _ => Ok(Some("the SLI has no data yet".into())),
        }
    }

    /// Gives back what would hold the action that is waited for, with the operator's token.
    async fn give_back(&self) -> Result<()> {
        let wanted = self.scenario.expect.action.wanted();
        if wanted.is_empty() {
            return Ok(());
        }
        let owed = release::owed(&self.api.get("alert-bot", "/v1/targets", &[]).await?, wanted);
        if owed.is_empty() {
            return Ok(());
        }
        let token = secrets::fetch(&self.stack.site, "alert-bot-operator").await?;
        for release::Owed { target, global, why } in owed {
            let reason = format!("before the scenario {}: {why}", self.scenario.name);
            let order = json!({"reason": reason, "global": global, "by": "stack scenario"});
            self.order(Method::POST, &format!("/v1/targets/{target}/release"), &token, &order, "the release").await?;
            self.line(format!("  gave {target} its budget back: {why}"));
        }
        Ok(())
    }

    /// Why the bot acts on nothing, if it does not: `storm` if it froze itself.
    async fn freeze_in_force(&self) -> Option<String> {
        freeze(&self.api.get("alert-bot", "/v1/freeze", &[]).await.ok()?)
    }

    /// What the bot has sent to people shows at the receiver. The newest one's number, or 0.
    async fn newest_notification(&self) -> Result<u64> {
        if self.scenario.expect.pages.is_none() {
            return Ok(0);
        }
        let list: Value = self.api.get("notification-receiver", "/v1/notifications", &[("limit", "1")]).await?;
        Ok(list["notifications"][0]["id"].as_u64().unwrap_or(0))
    }

    /// Messages of the bot since the beginning.
    async fn pages(&self) -> Option<usize> {
        self.scenario.expect.pages?;
        let query = [("limit", "1000")];
        let list: Value = self.api.get("notification-receiver", "/v1/notifications", &query).await.ok()?;
        Some(pages(&list, self.before.notification))
    }

    #[allow(clippy::type_complexity)] // a task that yields a report
    fn start_load(
        &self,
        stopped: watch::Receiver<bool>,
        acknowledged: Arc<Mutex<Vec<String>>>,
    ) -> Result<Option<JoinHandle<Result<load::Report>>>> {
        let Some(load) = &self.scenario.load else { return Ok(None) };
        let plan = Plan {
            base: match load.to {
                Door::TransactionApi => self.api.url("transaction-api")?,
                Door::Gateway => format!("{}/api", self.api.url("gateway")?),
            },
            mix: load.mix.clone(),
            rate: load.rate,
            duration: load.lasting.map_or(self.scenario.expect.within.0 + Duration::from_secs(60), |span| span.0),
            concurrency: load.concurrency,
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

    /// One look at alerts, incidents and SLI; what cannot be asked right now is simply not seen.
    async fn look(&self, started: Instant, seen: &mut Seen) {
        let expect = &self.scenario.expect;
        let freeze = async {
            match expect.freeze {
                Some(_) => self.freeze_in_force().await,
                None => None,
            }
        };
        let (alerts, incidents, sli, freeze) = tokio::join!(
            self.api.alerts(),
            self.api.incidents_in_detail(INCIDENTS, |id| self.is_new(id)),
            self.api.value(&expect.sli.query),
            freeze
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
        if let (Some(why), None) = (freeze, &seen.frozen) {
            self.event(started, &format!("the alert-bot froze itself: {why}"));
            seen.frozen = Some(why);
        }
        if let Ok(incidents) = incidents {
            self.incidents(started, incidents, seen);
        }
        // Good again counts only after there was reason to be bad.
        let reason = if expect.alert.is_some() { seen.alert_at.is_some() } else { seen.broken_at.is_some() };
        if let Ok(Some(value)) = sli {
            seen.sli = Some(value);
            if !expect.sli.good.is(value) {
                seen.sli_good_at = None;
                seen.sli_bad_at.get_or_insert(now);
            } else if reason && seen.broken_at.is_some() && seen.sli_good_at.is_none() {
                seen.sli_good_at = Some(now);
                self.event(started, &format!("the SLI is good: {value:.3}"));
            }
        }
    }

    fn incidents(&self, started: Instant, incidents: Vec<Incident>, seen: &mut Seen) {
        let now = started.elapsed();
        // Oldest first, as they came.
        for incident in incidents.iter().rev() {
            let known = seen.incidents.iter().find(|old| old.id == incident.id);
            if known.is_none() {
                seen.opened.insert(incident.id.clone(), now);
                self.event(started, &format!("incident: {} of {}", incident.alertname, incident.subject()));
            }
            let before = known.map_or(0, |old| old.done().count());
            for action in incident.done().skip(before) {
                self.event(started, &format!("the alert-bot did: {} {}", action.verb, incident.subject()));
                let acted =
                    Acted { at: now, verb: action.verb.clone(), service: self.service_of(incident, &action.target) };
                seen.actions.push(acted);
            }
            if incident.reason().is_some() && known.and_then(Incident::reason) != incident.reason() {
                let reason = incident.reason().unwrap_or_default();
                self.event(started, &format!("{} of {} is held: {reason}", incident.alertname, incident.subject()));
            }
            if let (Some(verdict), true) = (&incident.verdict, known.is_none_or(|old| old.verdict != incident.verdict))
            {
                self.event(started, &format!("verdict on {}: {}", incident.subject(), verdict.replace('_', " ")));
                if let Some(action) = incident.done().last() {
                    let service = self.service_of(incident, &action.target);
                    seen.verdicts.insert(service, Verdict { at: now, text: verdict.clone() });
                }
            }
        }
        seen.incidents = incidents;
    }

    /// The service of the container that was acted on: not always the one that the alert names.
    fn service_of(&self, incident: &Incident, container: &str) -> String {
        let found = self.before.containers.iter().find(|known| known.name == container);
        found.map_or_else(|| incident.service().to_owned(), |known| known.service.clone())
    }

    /// What must be looked at before the scenario tidies up.
    async fn before_cleanup(&self) -> Result<Aftermath> {
        let before = self.before.lives.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Aftermath {
            before,
            after: containers::lives(&self.compose.containers().await?),
            starts: self.events.starts(),
            pages: self.pages().await,
            ..Aftermath::default()
        })
    }

    async fn after_cleanup(
        &self,
        after: &mut Aftermath,
        load: Option<load::Report>,
        acknowledged: &Mutex<Vec<String>>,
    ) -> Result<()> {
        let expect = &self.scenario.expect;
        let deadline = Instant::now() + Duration::from_secs(90);
        // What the scenario itself started again may need a moment.
        let mut containers;
        after.unhealthy = loop {
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
        after.restarts = expect
            .no_crash_loop
            .iter()
            .map(|service| {
                let before = count(&self.before.containers, service);
                (service.clone(), count(&containers, service).saturating_sub(before))
            })
            .collect::<BTreeMap<String, u64>>();
        after.load = load;
        let ids = std::mem::take(&mut *acknowledged.lock().unwrap_or_else(PoisonError::into_inner));
        if expect.keep_transactions {
            after.transactions = Some((ids.len(), self.lost(&ids).await?));
        }
        Ok(())
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
        self.line(super::checks(report, layout::width()).trim_end().to_owned());
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

/// Undoes what a scenario did, also when it is interrupted.
struct Cleanup<'a> {
    run: &'a Run<'a>,
    armed: bool,
}

impl Cleanup<'_> {
    async fn now(mut self) -> Result<()> {
        self.armed = false;
        self.steps().await
    }

    /// All of them, whatever becomes of one; the first error counts.
    async fn steps(&self) -> Result<()> {
        let mut result = Ok(());
        for step in &self.run.scenario.cleanup {
            result = result.and(self.run.perform(step).await);
        }
        result
    }
}

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        if !self.armed || self.run.scenario.cleanup.is_empty() {
            return;
        }
        // The program is about to end and nothing is awaited any more: a runtime of its own, on a thread of its own.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
                let _ = runtime.block_on(async { tokio::time::timeout(UNDO, self.steps()).await });
            });
        });
    }
}

/// What `GET /v1/freeze` says, in a word: `storm`, or whose word it is.
fn freeze(answer: &Value) -> Option<String> {
    if answer["frozen"] != true {
        return None;
    }
    let of = |name: &str| answer.get(name).or_else(|| answer["freeze"].get(name));
    if of("storm").is_some_and(|storm| storm == true) {
        return Some("storm".into());
    }
    let why = of("why").and_then(Value::as_str).unwrap_or("no reason given");
    Some(why.to_owned())
}

/// Messages of the bot in a list of the receiver's, newer than `since`. They say which incident they are about.
fn pages(list: &Value, since: u64) -> usize {
    let messages = list["notifications"].as_array().into_iter().flatten();
    let new = messages.filter(|message| message["id"].as_u64().is_some_and(|id| id > since));
    let of_the_bot = new.filter(|message| {
        let raw = message["raw"].as_str().unwrap_or_default();
        serde_json::from_str::<Value>(raw).is_ok_and(|raw| raw["incidents"].is_array() && raw["kind"] == "call")
    });
    of_the_bot.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_freeze() {
        assert_eq!(freeze(&json!({"frozen": false, "storm": false})), None);
        assert_eq!(freeze(&json!({"frozen": true, "storm": true, "why": "7 of 20"})).as_deref(), Some("storm"));
        assert_eq!(freeze(&json!({"frozen": true, "why": "a visit"})).as_deref(), Some("a visit"));
        assert_eq!(freeze(&json!({"frozen": true, "freeze": {"storm": true}})).as_deref(), Some("storm"));
    }

    #[test]
    fn counts_what_the_bot_sent_and_nothing_else() {
        let list = json!({"notifications": [
            {"id": 10, "raw": "{\"kind\":\"update\",\"incidents\":[{\"id\":\"a\"}]}"},
            {"id": 9, "raw": "{\"kind\":\"call\",\"incidents\":[{\"id\":\"a\"}]}"},
            {"id": 8, "raw": "{\"version\":\"4\",\"alerts\":[]}"},
            {"id": 7, "raw": "From: x"},
            {"id": 6, "raw": "{\"kind\":\"call\",\"incidents\":[{\"id\":\"b\"}]}"},
        ]});
        assert_eq!((pages(&list, 6), pages(&list, 0)), (1, 2));
    }
}
