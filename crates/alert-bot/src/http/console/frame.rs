//! What is around every page: where one is, whether anything may be done, who one is.

use std::time::Duration;

use axum::{http::StatusCode, response::Response};
use maud::{DOCTYPE, Markup, html};
use telemetry::problem::Problem;

use super::{
    super::AppState,
    VERSION, parts, respond,
    visit::{Visit, percent},
};
use crate::{
    engine::{LeaseView, Overview, Role},
    policy::reload::Loaded,
    timestamp::Timestamp,
};

/// A driver that takes longer is busy or stuck: the page says so instead of waiting.
const LIMIT: Duration = Duration::from_secs(2);

/// Where one can go.
const PLACES: [(&str, &str); 5] = [
    ("/", "Incidents"),
    ("/targets", "Targets"),
    ("/policy", "Policy"),
    ("/decisions", "Decisions"),
    ("/audit", "Audit"),
];

/// What holds for everything.
pub(super) struct Frame {
    /// The visitor.
    pub(super) visit: Visit,
    /// What the engine says is in force; `None`: it does not answer.
    pub(super) overview: Option<Overview>,
    /// The policy in force.
    pub(super) loaded: Loaded,
    /// When the page was made.
    pub(super) now: Timestamp,
}

/// What makes a page's own part.
pub(super) struct Page {
    /// Without the product's name.
    pub(super) title: String,
    /// Which events make it fetch itself again: `any`, `freeze`, or incidents' ids; empty: none.
    pub(super) live: String,
    /// Its main part.
    pub(super) body: Markup,
}

impl Frame {
    /// Asks the engine.
    pub(super) async fn of(app: &AppState, visit: Visit) -> Self {
        let overview = tokio::time::timeout(LIMIT, app.control.overview()).await.ok().and_then(Result::ok);
        Self { visit, overview, loaded: app.policy.borrow().clone(), now: Timestamp::now() }
    }

    /// An address of this console.
    pub(super) fn to(&self, path: &str) -> String {
        self.visit.to(path)
    }

    /// The whole page.
    pub(super) fn show(&self, page: Page) -> Response {
        self.show_as(StatusCode::OK, page)
    }

    /// With another status than 200.
    pub(super) fn show_as(&self, status: StatusCode, page: Page) -> Response {
        let body = html! {
            a.skip href="#main" { "Skip to the content" }
            (self.header())
            div.notices id="notices" data-live="" { (self.notices()) }
            main id="main" tabindex="-1" { (page.body) }
            (self.footer())
            div.quiet id="told" role="status" aria-live="polite" {}
        };
        let live = Some(page.live).filter(|l| !l.is_empty());
        self.visit.greet(respond(status, document(&page.title, &self.visit.prefix, live.as_deref(), body)))
    }

    /// The token that forms carry.
    pub(super) fn csrf(&self) -> Markup {
        html! { input type="hidden" name="csrf" value=(self.visit.csrf); }
    }

    /// What follows where only somebody who has logged in can go on.
    pub(super) fn login_hint(&self, what: &str) -> Markup {
        html! { p.hint { a href=(self.visit.login_url()) { "Log in" } " " (what) "." } }
    }

    fn header(&self) -> Markup {
        let here = self.visit.path();
        let current = |path: &str| match path {
            "/" => here == "/" || here.starts_with("/incidents"),
            other => here == other,
        };
        html! {
            header.top {
                div.bar {
                    a.brand href=(self.to("/")) {
                        img src=(asset(&self.visit.prefix, "icon.svg")) width="28" height="28" alt="";
                        span { "alert-bot" }
                    }
                    nav aria-label="Main" {
                        ul {
                            @for (path, name) in PLACES {
                                li { a href=(self.to(path)) aria-current=[current(path).then_some("page")] { (name) } }
                            }
                        }
                    }
                    div.tools {
                        span.link id="link" data-state="off" { span.dot aria-hidden="true" {} span id="link-text" { "Not live" } }
                        div id="switch" data-live="" { (self.switch()) }
                        (self.who())
                    }
                }
            }
        }
    }

    /// Log in, or who one is and the way out.
    fn who(&self) -> Markup {
        html! {
            @match &self.visit.session {
                Some(session) => form.who method="post" action=(self.to("/logout")) {
                    (self.csrf())
                    span.name title=(format!("logged in until {}", session.expires)) { (session.name) }
                    button.plain type="submit" { "Log out" }
                },
                None => a.button.plain href=(self.visit.login_url()) { "Log in" },
            }
        }
    }

    /// Set where another bot acts.
    fn stands_by(&self) -> Option<&LeaseView> {
        self.overview.as_ref().map(|o| &o.lease).filter(|lease| lease.role == Role::Standby)
    }

    /// The switch that stops everything.
    fn switch(&self) -> Markup {
        let freeze = self.overview.as_ref().and_then(|o| o.freeze.as_ref());
        let (label, tone) = match (&self.overview, freeze, self.stands_by()) {
            (None, ..) => ("Engine silent", "bad"),
            (_, _, Some(_)) => ("Standby", "warn"),
            (_, Some(_), None) => ("Frozen", "warn"),
            (_, None, None) => ("Healing on", "good"),
        };
        html! {
            details.switch id="freeze" {
                summary.button.(tone) { (parts::icon(tone)) span { (label) } }
                div.panel {
                    @if self.overview.is_none() {
                        p { "The engine does not answer at present: nothing can be ordered." }
                    } @else if let Some(lease) = self.stands_by() {
                        h2 { "This bot stands by" }
                        dl.facts {
                            (parts::fact("This one", html! { (lease.name) }))
                            (parts::fact("Acts", html! { (lease.holder.as_deref().unwrap_or("nobody yet")) }))
                            @if let Some(since) = lease.since { (parts::fact("Since", parts::time(since))) }
                        }
                        p { "Orders are for the one that acts. This one takes over when it is gone." }
                    } @else if let Some(freeze) = freeze {
                        h2 { "Nothing is acted on" }
                        dl.facts {
                            (parts::fact("By", html! { @if freeze.storm { "the bot itself: alert storm" } @else { (freeze.by) } }))
                            (parts::fact("Why", html! { (freeze.why) }))
                            (parts::fact("Since", parts::time(freeze.since)))
                            (parts::fact("Until", html! {
                                @match freeze.until { Some(until) => (parts::time(until)), None => "somebody lifts it" }
                            }))
                        }
                        @if self.visit.session.is_some() {
                            form method="post" action=(self.to("/freeze")) {
                                (self.csrf())
                                input type="hidden" name="frozen" value="false";
                                input type="hidden" name="back" value=(self.visit.here);
                                button type="submit" { "Lift the freeze" }
                            }
                        } @else { (self.login_hint("to lift it")) }
                    } @else {
                        h2 { "Freeze everything" }
                        p { "No action starts while it lasts. What is under way is finished and verified." }
                        @if self.visit.session.is_some() {
                            form method="post" action=(self.to("/freeze")) {
                                (self.csrf())
                                input type="hidden" name="frozen" value="true";
                                input type="hidden" name="back" value=(self.visit.here);
                                label for="freeze-why" { "Why" }
                                input id="freeze-why" name="why" type="text" required maxlength="500" autocomplete="off";
                                label for="freeze-for" { "For how long" }
                                select id="freeze-for" name="for" {
                                    option value="15m" { "15 minutes" }
                                    option value="1h" selected { "1 hour" }
                                    option value="4h" { "4 hours" }
                                    option value="24h" { "a day" }
                                    option value="" { "until it is lifted" }
                                }
                                button.danger type="submit" { "Freeze everything" }
                            }
                        } @else { (self.login_hint("to freeze")) }
                    }
                }
            }
        }
    }

    /// What everybody must see, whatever page they are on.
    fn notices(&self) -> Markup {
        let freeze = self.overview.as_ref().and_then(|o| o.freeze.as_ref());
        let maintenance = self.overview.as_ref().and_then(|o| o.maintenance.as_ref());
        html! {
            @if let Some(lease) = self.stands_by() {
                p.notice.warn {
                    strong { "This bot stands by" } ": "
                    (lease.holder.as_deref().unwrap_or("another one")) " acts. What is shown comes from the journal; orders are refused."
                }
            }
            @if let Some(freeze) = freeze {
                p.notice.warn {
                    strong { @if freeze.storm { "Frozen by an alert storm" } @else { "Frozen by " (freeze.by) } }
                    " " (parts::ago(freeze.since, self.now))
                    @match freeze.until {
                        Some(until) => { ", ends " (parts::ahead(until, self.now)) },
                        None => ", until it is lifted",
                    }
                    ": " (freeze.why)
                }
            }
            @if let Some(window) = maintenance {
                p.notice.warn { strong { "Maintenance" } ": " (window) ". Nothing is acted on while the window is open." }
            }
            @if let Some(rejected) = &self.loaded.rejected {
                p.notice.bad role="alert" {
                    strong { "The policy file is wrong and not in force" } ": " (rejected.errors.join("; "))
                }
            }
            @if self.overview.is_none() {
                p.notice.bad { strong { "The engine does not answer" } ". What is shown comes from the journal." }
            }
        }
    }

    fn footer(&self) -> Markup {
        let policy = &self.loaded.policy;
        html! {
            footer {
                p {
                    "Policy " code { (policy.digest) } " · mode " (policy.mode.as_str()) " · "
                    @if let Some(overview) = &self.overview { (overview.lease.name) " is " (overview.lease.role.as_str()) " · " }
                    "times in UTC · "
                    a href=(self.to("/openapi.json")) { "API" }
                }
            }
        }
    }
}

fn asset(prefix: &str, file: &str) -> String {
    format!("{prefix}/assets/{}/{file}", *VERSION)
}

/// The document around a body.
pub(super) fn document(title: &str, prefix: &str, live: Option<&str>, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (title) " · alert-bot" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="icon" type="image/svg+xml" href=(asset(prefix, "icon.svg"));
                link rel="stylesheet" href=(asset(prefix, "console.css"));
                script src=(asset(prefix, "console.js")) defer {}
            }
            body data-live-on=[live] data-events=[live.map(|_| format!("{prefix}/v1/events"))] { (body) }
        }
    }
}

/// A page that says what is wrong.
pub(super) fn wrong(problem: &Problem) -> Response {
    let told = serde_json::to_value(problem).unwrap_or_default();
    let text = |field: &str| told.get(field).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let fields = told.get("errors").and_then(|e| e.as_array()).cloned().unwrap_or_default();
    let body = html! {
        main.alone id="main" {
            p.code { (problem.status().as_u16()) }
            h1 { (text("title")) }
            p { (text("detail")) }
            @for field in &fields {
                p { strong { (field["field"].as_str().unwrap_or_default()) } ": " (field["detail"].as_str().unwrap_or_default()) }
            }
            p { a href="/" { "All incidents" } }
        }
    };
    respond(problem.status(), document(&text("title"), "", None, body))
}

/// `?a=b&c=d` of what is given, without what is empty.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<_> =
        pairs.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| format!("{k}={}", percent(v))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}
