//! Carries out what the engine wants.
//!
//! One task owns the [`State`]. It takes events, asks the engine, writes the
//! effects to the journal, and only then starts the work among them; what comes
//! of the work returns as events. If the journal cannot be written, it waits and
//! tries again: nothing is done that is not written down first.
//!
//! It does so in terms: while this bot holds the [lease](crate::lease), it acts; while another one
//! does, it only shows what the journal holds. A term's channel ends with it, so what one has set
//! going never comes back in the next.

mod act;
mod control;
mod hook;
mod resolve;
mod spans;

use std::{sync::Arc, time::Duration};

use telemetry::trace;
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub(crate) use control::RECORD;
pub use control::{Change, Control, FreezeOrder, OperateError};

use crate::{
    annotate::Annotator,
    backend::Backend,
    diagnose::Diagnosis,
    engine::{
        Action, ActionStatus, Alert, Command, Effect, Event, Incident, Note, NoteKind, Outcome, Phase, Source, State,
        Topology, decide,
    },
    intake,
    journal::{Delivery, Journal, JournalError},
    lease::Lease,
    metrics::Metrics,
    observe::Observer,
    policy::{Verb, reload::Loaded},
    timestamp::Timestamp,
};

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(500);
/// Effects in one commit at most: acknowledgements wait behind a commit.
const COMMIT: usize = 200;
/// Alerts decided on before their effects are committed.
const ALERTS: usize = 50;
/// Between two attempts at a commit.
const COMMIT_RETRY: Duration = Duration::from_millis(500);
/// How often what nobody asks for any more is forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(600);
/// How often the containers are listed.
const SURVEY: Duration = Duration::from_secs(5);
/// At the start, stops of this long before are asked for: Docker remembers a few hundred events.
const STOPS_BEFORE: Duration = Duration::from_secs(3600);
/// A call counts that traces have shown within this time.
const TRACED: Duration = Duration::from_secs(600);
/// How often whoever stands by looks whether the other one still acts, and what it has written.
const WATCH: Duration = Duration::from_secs(1);
/// Bodies of notifications are kept for this long.
const DELIVERIES: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the driver works with.
#[derive(Clone)]
pub struct Tools {
    /// Where everything is written down.
    pub journal: Journal,
    /// Whether this bot acts.
    pub lease: Lease,
    /// What runs the containers.
    pub backend: Arc<dyn Backend>,
    /// What measures.
    pub observer: Observer,
    /// What asks a database.
    pub diagnosis: Option<Diagnosis>,
    /// What calls the addresses that a policy names.
    pub web: reqwest::Client,
    /// What draws on dashboards.
    pub annotator: Annotator,
    /// What is counted.
    pub metrics: Metrics,
    /// Woken when a notification was stored.
    pub delivered: Arc<Notify>,
    /// Woken when Alertmanager's list should be read now.
    pub reconcile: Arc<Notify>,
    /// Woken when a message to people was stored.
    pub posted: Arc<Notify>,
}

/// The task that owns the state.
pub struct Driver {
    state: State,
    tools: Tools,
    policy: watch::Receiver<Loaded>,
    reconcile_every: Duration,
    /// `None`: traces are not asked.
    traces_every: Option<Duration>,
    control: Control,
    asks: mpsc::Receiver<control::Ask>,
    crash: crash::Point,
    /// What belongs to the present term.
    term: CancellationToken,
    events: mpsc::Receiver<Vec<Event>>,
    send: Sender,
    resolver: mpsc::UnboundedSender<resolve::Request>,
    spans: spans::Spans,
}

/// Sends events to the driver.
pub type Sender = mpsc::Sender<Vec<Event>>;

impl Driver {
    /// `state` as it was read from the journal after the lease was claimed, granted or not.
    pub fn new(
        state: State,
        tools: Tools,
        policy: watch::Receiver<Loaded>,
        reconcile_every: Duration,
        traces_every: Option<Duration>,
    ) -> (Self, Control) {
        let (send, events) = mpsc::channel(1024);
        let resolver = resolve::start(tools.clone(), policy.clone(), state.scope.clone(), send.clone());
        let (control, asks) = Control::new();
        let driver = Self {
            state,
            tools,
            policy,
            reconcile_every,
            traces_every,
            control: control.clone(),
            asks,
            crash: crash::Point::from_env(),
            term: CancellationToken::new(),
            events,
            send,
            resolver,
            spans: spans::Spans::default(),
        };
        (driver, control)
    }

    /// Works until told to stop. What is under way then is taken up by the next start, or by the
    /// bot that stands by.
    pub async fn run(mut self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            self.term = shutdown.child_token();
            match self.tools.lease.held() {
                Some(token) => {
                    self.tools.journal = self.tools.journal.under(token);
                    self.lead().await;
                }
                None => self.stand_by().await,
            }
            self.term.cancel();
            let (send, events) = mpsc::channel(1024);
            self.resolver =
                resolve::start(self.tools.clone(), self.policy.clone(), self.state.scope.clone(), send.clone());
            (self.send, self.events) = (send, events);
            self.spans = spans::Spans::default();
            // Whoever looks on reads everything anew: another bot is the one to ask from now on.
            let _ = self.control.changes.send(Change { at: Timestamp::now(), incident: None, kind: "reset" });
        }
        self.tools.lease.release().await;
    }

    /// Acts until the end of the term.
    async fn lead(&mut self) {
        let term = self.term.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(self.tools.lease.clone().keep(term.clone()));
        tasks.spawn(reconcile(self.tools.clone(), self.send.clone(), self.reconcile_every, term.clone()));
        tasks.spawn(survey(self.tools.clone(), self.state.scope.project.clone(), self.send.clone(), term.clone()));
        tasks.spawn(watch_stops(self.tools.clone(), self.send.clone(), term.clone()));
        if let Some(every) = self.traces_every {
            tasks.spawn(follow_traces(self.tools.clone(), every, self.send.clone(), term.clone()));
        }
        if let Some(other) = self.tools.lease.predecessor() {
            let text = format!("took over from {other}");
            tracing::warn!(predecessor = other, "took over");
            self.commit(vec![system_note(text, serde_json::json!({ "predecessor": other }))], Vec::new()).await;
        }
        self.turn(vec![Event::Boot], Vec::new()).await;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        let delivered = self.tools.delivered.clone();
        // What was acknowledged before the start is still to be worked through.
        delivered.notify_one();
        while !term.is_cancelled() {
            tokio::select! {
                () = term.cancelled() => {}
                Some(events) = self.events.recv() => self.turn(events, Vec::new()).await,
                Some(ask) = self.asks.recv() => self.answer(ask).await,
                () = delivered.notified() => self.work_through().await,
                Ok(()) = self.policy.changed() => self.take_policy().await,
                _ = tick.tick() => {
                    self.turn(vec![Event::Tick], Vec::new()).await;
                    self.measure().await;
                }
                _ = housekeeping.tick() => {
                    let now = Timestamp::now();
                    self.state.forget(now);
                    if let Err(error) = self.tools.journal.prune(now.minus(DELIVERIES)).await {
                        tracing::warn!(%error, "old notifications could not be deleted");
                    }
                }
            }
        }
        tasks.shutdown().await;
    }

    /// Shows what the journal holds until the lease is free.
    async fn stand_by(&mut self) {
        let term = self.term.clone();
        self.tools.metrics.stand_by();
        let mut tasks = JoinSet::new();
        tasks.spawn(survey(self.tools.clone(), self.state.scope.project.clone(), self.send.clone(), term.clone()));
        let mut watch = tokio::time::interval(WATCH);
        watch.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut head = None;
        // What was decided and refused is in memory only: it must go.
        self.reload().await;
        while !term.is_cancelled() {
            tokio::select! {
                () = term.cancelled() => {}
                Some(events) = self.events.recv() => {
                    for event in events {
                        if let Event::Topology(topology) = event {
                            self.state.apply(&Effect::Topology(Box::new(topology)));
                        }
                    }
                }
                Some(ask) = self.asks.recv() => self.answer(ask).await,
                Ok(()) = self.policy.changed() => {
                    let loaded = self.policy.borrow_and_update().clone();
                    self.state.policy = loaded.policy;
                }
                _ = watch.tick() => {
                    match self.tools.lease.succeed().await {
                        // Read after it was taken: nobody else writes any more.
                        Ok(true) => {
                            if self.reload().await {
                                break;
                            }
                            self.tools.lease.release().await;
                        }
                        Ok(false) => self.follow(&mut head).await,
                        Err(error) => tracing::warn!(%error, "the lease cannot be looked at"),
                    }
                }
            }
        }
        tasks.shutdown().await;
    }

    /// Takes over what the acting bot has written since, and tells whoever looks on.
    async fn follow(&mut self, known: &mut Option<i64>) {
        match self.tools.journal.head().await {
            Ok(head) if *known != Some(head) => {
                *known = Some(head);
                self.reload().await;
                let _ = self.control.changes.send(Change { at: Timestamp::now(), incident: None, kind: RECORD });
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the record's end could not be read"),
        }
    }

    /// Reads the state back from the journal.
    async fn reload(&mut self) -> bool {
        let (policy, scope) = (self.state.policy.clone(), self.state.scope.clone());
        match self.tools.journal.load(policy, scope, Timestamp::now()).await {
            Ok(mut state) => {
                state.apply(&Effect::Topology(Box::new(self.state.topology().clone())));
                self.state = state;
                true
            }
            Err(error) => {
                self.tools.metrics.journal_errors.inc();
                tracing::error!(%error, "the journal cannot be read");
                false
            }
        }
    }

    /// One turn: decide on each event, write everything down, start the work.
    async fn turn(&mut self, events: Vec<Event>, processed: Vec<i64>) {
        let mut effects = Vec::new();
        for mut event in events {
            let now = Timestamp::now();
            if let Event::Alert { alert, received_at, trace, .. } = &mut event
                && self.state.opens(alert, *received_at)
            {
                *trace = spans::begin(alert);
            }
            let span = self.spans.for_event(&self.state, &event);
            let decided = span.in_scope(|| decide(&self.state, event, now));
            for effect in &decided {
                self.state.apply(effect);
            }
            effects.extend(decided);
        }
        if effects.is_empty() && processed.is_empty() {
            return;
        }
        self.commit(effects, processed).await;
    }

    /// In portions, in order. Effects of one action are few and are never torn
    /// apart from each other by more than the order allows: the intent comes
    /// before the command, and commands come after everything.
    async fn commit(&mut self, effects: Vec<Effect>, processed: Vec<i64>) {
        let mut rest = effects;
        let mut done = Vec::with_capacity(rest.len());
        loop {
            let tail = if rest.len() > COMMIT { rest.split_off(COMMIT) } else { Vec::new() };
            let portion = Arc::new(std::mem::replace(&mut rest, tail));
            let last = rest.is_empty();
            let durable = portion.iter().any(Effect::durable);
            if durable || (last && !processed.is_empty()) {
                let processed = if last { processed.clone() } else { Vec::new() };
                if !self.write(&portion, processed).await {
                    return;
                }
            }
            done.push(portion);
            if last {
                break;
            }
        }
        for effect in done.iter().flat_map(|p| p.iter()) {
            self.account(effect);
        }
        for effect in done.iter().flat_map(|p| p.iter()) {
            if let Effect::Do(command) = effect {
                self.start(command);
            }
        }
    }

    /// Whether it was written; if not, another bot acts, and the term is over.
    async fn write(&mut self, effects: &Arc<Vec<Effect>>, processed: Vec<i64>) -> bool {
        self.crash.before();
        let mut failed = false;
        loop {
            match self.tools.journal.commit(effects.clone(), processed.clone(), Timestamp::now()).await {
                Ok(()) => break,
                Err(error @ JournalError::Fenced { .. }) => {
                    tracing::warn!(%error, "this bot stands by from now on");
                    self.tools.lease.lost();
                    self.term.cancel();
                    return false;
                }
                Err(error) => {
                    self.tools.metrics.journal_errors.inc();
                    if !failed {
                        tracing::error!(%error, "the journal cannot be written; nothing is done until it can");
                    }
                    failed = true;
                    tokio::time::sleep(COMMIT_RETRY).await;
                }
            }
        }
        if failed {
            tracing::info!("the journal can be written again");
        }
        self.crash.after();
        true
    }

    /// Notifications that were stored, oldest first, in portions.
    async fn work_through(&mut self) {
        while !self.term.is_cancelled() {
            let pending = match self.tools.journal.pending(32).await {
                Ok(pending) => pending,
                Err(error) => {
                    self.tools.metrics.journal_errors.inc();
                    tracing::error!(%error, "stored notifications cannot be read");
                    tokio::time::sleep(COMMIT_RETRY).await;
                    self.tools.delivered.notify_one();
                    return;
                }
            };
            if pending.is_empty() {
                return;
            }
            // Small notifications share a commit, large ones are spread over several: a flood must
            // neither flush the disk for each of them nor hold it for long.
            let (mut events, mut done) = (Vec::new(), Vec::new());
            for Delivery { id, received_at, body } in pending {
                for alert in self.read(id, &body) {
                    events.push(Event::Alert { alert, source: Source::Webhook, received_at, trace: None });
                    if events.len() >= ALERTS {
                        self.turn(std::mem::take(&mut events), std::mem::take(&mut done)).await;
                    }
                }
                done.push(id);
            }
            self.turn(events, done).await;
        }
    }

    fn read(&self, id: i64, body: &[u8]) -> Vec<Alert> {
        match intake::parse(body) {
            Ok(notification) => {
                if notification.truncated > 0 {
                    self.tools.reconcile.notify_one();
                }
                notification.alerts
            }
            // It was understood when it came; a later version may have become stricter.
            Err(error) => {
                tracing::error!(%error, delivery = id, "a stored notification is not understood any more");
                Vec::new()
            }
        }
    }

    async fn take_policy(&mut self) {
        let loaded = self.policy.borrow_and_update().clone();
        if loaded.rejected.is_some() || Arc::ptr_eq(&loaded.policy, &self.state.policy) {
            return;
        }
        let text = format!("policy {} is in force, mode {}", loaded.policy.digest, loaded.policy.mode.as_str());
        self.state.policy = loaded.policy;
        let note = system_note(text, serde_json::json!({ "digest": self.state.policy.digest }));
        self.commit(vec![note], Vec::new()).await;
        let _ = self.control.changes.send(Change { at: Timestamp::now(), incident: None, kind: "policy" });
    }

    fn start(&mut self, command: &Command) {
        match command {
            Command::Resolve { incident } => {
                let Some(incident) = self.state.incident(incident) else { return };
                let request = resolve::Request {
                    incident: incident.id.clone(),
                    fingerprint: incident.alert.fingerprint.clone(),
                    service: incident.service(),
                    span: spans::stage(incident, "resolve target"),
                };
                // The resolver ends with the driver only.
                let _ = self.resolver.send(request);
            }
            Command::Act { action } => {
                let Some(action) = self.state.action(action).cloned() else { return };
                let kind = if action.verb == Verb::Webhook { "call" } else { "docker" };
                let span = self.span_of(&action, &format!("{kind} {}", action.verb));
                self.tools.annotator.begin(&action);
                let call = self.state.incident(&action.incident).and_then(|i| hook::Call::of(i, &action));
                self.spawn(act::act(self.tools.clone(), action, call), span);
            }
            Command::Inspect { action } => {
                let Some(action) = self.state.action(action).cloned() else { return };
                let span = self.span_of(&action, "docker inspect");
                self.spawn(act::inspect(self.tools.clone(), action), span);
            }
            Command::Probe { incident } => {
                let Some(incident) = self.state.incident(incident).cloned() else { return };
                let span = self.spans.verification(&incident);
                self.spawn(act::probe(self.tools.clone(), incident), span);
            }
            Command::Curve { incident } => {
                let span = spans::stage(incident, "fetch curve");
                self.spawn(act::curve(self.tools.clone(), (**incident).clone()), span);
            }
            Command::Reconcile => self.tools.reconcile.notify_one(),
        }
    }

    fn span_of(&self, action: &Action, name: &str) -> tracing::Span {
        self.state.incident(&action.incident).map_or_else(tracing::Span::none, |i| spans::stage(i, name))
    }

    fn spawn<E>(&self, work: impl Future<Output = E> + Send + 'static, span: tracing::Span)
    where
        E: Into<Option<Event>> + Send,
    {
        let send = self.send.clone();
        tokio::spawn(
            async move {
                let Some(event) = work.await.into() else { return };
                // Nobody listens any more after a stop: the next start finds the intent.
                let _ = send.send(vec![event]).await;
            }
            .instrument(span),
        );
    }

    /// Metrics, logs and annotations: after the fact, and never in its way.
    fn account(&mut self, effect: &Effect) {
        self.announce(effect);
        let metrics = &self.tools.metrics;
        match effect {
            Effect::Put(incident) if incident.phase == Phase::Closed => {
                let outcome = incident.outcome.map_or("unknown", |o| o.as_str());
                metrics.incidents.with_label_values(&[outcome]).inc();
                if let (Some(Outcome::Healed), Some(closed_at)) = (incident.outcome, incident.closed_at) {
                    let cause = incident.target.as_ref().map_or("none", |t| t.service.as_str());
                    let repair = metrics.repair.with_label_values(&[rule_of(incident), cause]);
                    repair.observe(closed_at.since(incident.starts_at).as_secs_f64());
                }
                self.spans.end(&incident.id);
            }
            Effect::Put(_) => {}
            Effect::PutAction(action) => {
                if let Some(finished) = action.finished_at {
                    metrics.actions.with_label_values(&[action.verb.as_str(), action.status.as_str()]).inc();
                    self.tools.annotator.end(action, finished);
                } else if action.status == ActionStatus::Unknown && action.next_inspect == action.unknown_since {
                    metrics.actions.with_label_values(&[action.verb.as_str(), "unknown"]).inc();
                } else if action.status == ActionStatus::Intended
                    && let Some(incident) = self.state.incident(&action.incident)
                {
                    metrics
                        .act
                        .with_label_values(&[&action.rule])
                        .observe(action.intended_at.since(incident.opened_at).as_secs_f64());
                }
            }
            Effect::Page(_) => self.tools.posted.notify_one(),
            Effect::Release(release) => {
                metrics.releases.with_label_values(&["target"]).inc();
                if !release.global.is_empty() {
                    metrics.releases.with_label_values(&["global"]).inc();
                }
            }
            Effect::Note(note) => self.account_note(note),
            _ => {}
        }
    }

    /// Tells whoever looks on.
    fn announce(&self, effect: &Effect) {
        let (incident, kind) = match effect {
            Effect::Put(incident) => (Some(incident.id.clone()), "incident"),
            Effect::Note(note) if note.kind == NoteKind::Evidence => (note.incident.clone(), "incident"),
            Effect::Freeze(_) => (None, "freeze"),
            Effect::Release(_) | Effect::Edge(_) | Effect::EdgeGone(..) => (None, "targets"),
            _ => return,
        };
        // Nobody may be looking.
        let _ = self.control.changes.send(Change { at: Timestamp::now(), incident, kind });
    }

    fn account_note(&mut self, note: &Note) {
        let metrics = &self.tools.metrics;
        let incident = note.incident.as_deref().unwrap_or_default();
        let known = self.state.incident(incident);
        match note.kind {
            NoteKind::Opened | NoteKind::Adopted | NoteKind::Reopened => {
                if let Some(known) = known {
                    metrics
                        .detect
                        .with_label_values(&[rule_of(known)])
                        .observe(note.at.since(known.starts_at).as_secs_f64());
                }
            }
            NoteKind::Decision => {
                if let Some(reason) = note.reason {
                    metrics.refusals.with_label_values(&[reason.as_str()]).inc();
                }
            }
            NoteKind::Verdict => {
                let verdict = note.text.split(':').next().unwrap_or_default().to_owned();
                metrics.verdicts.with_label_values(&[&verdict]).inc();
                self.spans.verified(incident, &verdict);
            }
            _ => {}
        }
        let (kind, reason) = (note.kind.as_str(), note.reason.map(|r| r.as_str()));
        match note.kind {
            NoteKind::Escalated => {
                tracing::warn!(incident, alert = note.alert, target_name = note.target, kind, reason, "{}", note.text);
            }
            NoteKind::Probe => {
                tracing::debug!(incident, alert = note.alert, target_name = note.target, kind, "{}", note.text);
            }
            _ => {
                tracing::info!(incident, alert = note.alert, target_name = note.target, kind, reason, "{}", note.text);
            }
        }
    }

    async fn measure(&self) {
        let now = Timestamp::now();
        let metrics = &self.tools.metrics;
        metrics.open.set(i64::try_from(self.state.open().count()).unwrap_or(i64::MAX));
        if let Ok(lag) = self.tools.journal.lag(now).await {
            metrics.lag.set(lag.as_secs_f64());
            // Notifications that a bot that stands by has taken.
            if !lag.is_zero() {
                self.tools.delivered.notify_one();
            }
        }
        let freeze = self.state.freeze().filter(|f| f.holds(now));
        for (by, storm) in [("operator", false), ("storm", true)] {
            let holds = freeze.is_some_and(|f| f.storm == storm);
            metrics.frozen.with_label_values(&[by]).set(i64::from(holds));
        }
        let learned = self.state.edges().count();
        for (source, edges) in [("containers", self.state.declared_edges()), ("traces", learned)] {
            metrics.edges.with_label_values(&[source]).set(i64::try_from(edges).unwrap_or(i64::MAX));
        }
        metrics.budget.reset();
        for (target, left) in self.state.budgets(now) {
            metrics.budget.with_label_values(&[&target]).set(left);
        }
    }
}

/// The label: the policy's rules are a closed set.
fn rule_of(incident: &Incident) -> &str {
    incident.rule.as_ref().map_or("none", |r| r.name.as_str())
}

/// A line of the record about the bot itself.
pub fn system_note(text: String, data: serde_json::Value) -> Effect {
    Effect::Note(Box::new(Note::general(Timestamp::now(), NoteKind::System, text, data)))
}

/// Reads Alertmanager's list, at the start, at every interval and when asked to.
async fn reconcile(tools: Tools, send: Sender, every: Duration, shutdown: CancellationToken) {
    loop {
        match tools.observer.alertmanager.list().await {
            Ok(list) => {
                let now = Timestamp::now();
                let mut events: Vec<_> = list
                    .active
                    .into_iter()
                    .map(|alert| {
                        let trace = None;
                        Event::Alert { alert, source: Source::Reconcile, received_at: now, trace }
                    })
                    .collect();
                events.push(Event::Snapshot(list.snapshot));
                if send.send(events).await.is_err() {
                    return;
                }
                tools.metrics.reconcile.set(now.millis() as f64 / 1000.0);
                tools.metrics.reconciles.with_label_values(&["ok"]).inc();
            }
            Err(why) => {
                tools.metrics.reconciles.with_label_values(&["error"]).inc();
                tracing::warn!(error = why, "alertmanager's list cannot be read");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(every) => {}
            () = tools.reconcile.notified() => {}
        }
    }
}

/// Lists the containers now and then: who needs whom, and what runs.
async fn survey(tools: Tools, project: String, send: Sender, shutdown: CancellationToken) {
    let mut known: Option<Topology> = None;
    loop {
        match tools.backend.list().await {
            Ok(containers) => {
                let topology = Topology::new(containers, &project);
                if known.as_ref() != Some(&topology) {
                    if send.send(vec![Event::Topology(topology.clone())]).await.is_err() {
                        return;
                    }
                    known = Some(topology);
                }
            }
            // The last list stands: what depends on what does not change because nobody can look.
            Err(error) => tracing::debug!(%error, "the containers cannot be listed"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(SURVEY) => {}
        }
    }
}

/// Asks now and then who calls whom, as traces show it.
async fn follow_traces(tools: Tools, every: Duration, send: Sender, shutdown: CancellationToken) {
    let mut silent = false;
    loop {
        match tools.observer.calls(TRACED).await {
            Ok(calls) => {
                silent = false;
                if send.send(vec![Event::Calls(calls)]).await.is_err() {
                    return;
                }
            }
            // What was learned stands.
            Err(why) => {
                if !std::mem::replace(&mut silent, true) {
                    tracing::info!(error = why, "calls that traces show cannot be asked for");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}

/// Listens for containers that somebody stops on purpose.
async fn watch_stops(tools: Tools, send: Sender, shutdown: CancellationToken) {
    let mut since = Timestamp::now().minus(STOPS_BEFORE);
    loop {
        let (tell, mut stops) = mpsc::channel(64);
        let follow = tools.backend.stops(since, tell);
        let pass_on = async {
            while let Some((target, at)) = stops.recv().await {
                since = since.max(at);
                if send.send(vec![Event::Stopped { target, at }]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            (followed, ()) = async { tokio::join!(follow, pass_on) } => {
                if let Err(error) = followed {
                    tracing::debug!(%error, "the way to Docker's events has ended");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(SURVEY) => {}
        }
    }
}

/// The current trace context, for incidents.
pub(crate) fn current_trace() -> Option<crate::engine::Trace> {
    let traceparent = trace::current_traceparent()?;
    let trace_id = traceparent.split('-').nth(1)?.to_owned();
    Some(crate::engine::Trace { trace_id, traceparent })
}

/// What of an incident the API calls its subject; kept here for probes.
pub(crate) fn subject(incident: &Incident) -> Option<crate::observe::Subject> {
    let heal = incident.rule.as_ref()?.heal()?;
    let target = incident.target.as_ref()?;
    Some(crate::observe::Subject {
        labels: incident.alert.labels.clone(),
        fingerprint: incident.alert.fingerprint.clone(),
        service: target.service.clone(),
        container: target.name.clone(),
        verify: heal.verify.clone(),
    })
}

/// Ends the process at a chosen commit, to prove that every moment is survived.
/// In debug builds only; release builds do not contain it.
mod crash {
    /// `ALERT_BOT_ABORT_AT=before:3` ends it before the third commit, `after:3` after it.
    #[derive(Debug, Default)]
    pub struct Point {
        #[cfg(debug_assertions)]
        armed: Option<(bool, u64)>,
        #[cfg(debug_assertions)]
        commits: u64,
    }

    impl Point {
        #[cfg(debug_assertions)]
        pub fn from_env() -> Self {
            let armed = std::env::var("ALERT_BOT_ABORT_AT").ok().and_then(|text| {
                let (when, n) = text.split_once(':')?;
                Some((when == "before", n.parse().ok()?))
            });
            Self { armed, commits: 0 }
        }

        #[cfg(not(debug_assertions))]
        pub fn from_env() -> Self {
            Self::default()
        }

        pub fn before(&mut self) {
            #[cfg(debug_assertions)]
            {
                self.commits += 1;
                if self.armed == Some((true, self.commits)) {
                    std::process::abort();
                }
            }
        }

        pub fn after(&mut self) {
            #[cfg(debug_assertions)]
            if self.armed == Some((false, self.commits)) {
                std::process::abort();
            }
        }
    }
}
