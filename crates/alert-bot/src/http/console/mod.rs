//! The console at `/`: what burns, what is done about it, and why nothing is.
//!
//! Every page is complete as it is served; forms work without a script. The one
//! script fetches the page again when something has changed and puts in what is
//! different. Nothing comes from elsewhere.

mod audit;
mod chart;
mod decisions;
mod evidence;
mod frame;
mod incident;
mod incidents;
mod login;
mod orders;
mod parts;
mod policy;
mod targets;
mod visit;

use std::{fmt::Write, sync::LazyLock};

use axum::{
    Router,
    extract::Path,
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use maud::Markup;
use sha2::{Digest, Sha256};
use telemetry::problem::Problem;

use super::AppState;

const CSS: &str = include_str!("../../../console/console.css");
const SCRIPT: &str = include_str!("../../../console/console.js");
const ICON: &str = include_str!("../../../console/icon.svg");

/// Part of the addresses of style sheet and script: they may be kept for ever.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let digest = Sha256::new().chain_update(CSS).chain_update(SCRIPT).chain_update(ICON).finalize();
    digest.iter().take(5).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
});

/// Scripts and styles are files of this server; nothing is inline, framed, or posted elsewhere.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// All pages.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/", get(incidents::page))
        .route("/incidents/{id}", get(incident::page))
        .route("/incidents/{id}/{command}", post(orders::operate))
        .route("/freeze", post(orders::freeze))
        .route("/targets", get(targets::page))
        .route("/targets/{service}/release", post(orders::release))
        .route("/policy", get(policy::page).post(policy::simulate))
        .route("/decisions", get(decisions::page))
        .route("/audit", get(audit::page))
        .route("/login", get(login::page).post(login::login))
        .route("/logout", post(login::logout))
        .route("/assets/{version}/{file}", get(asset))
}

async fn asset(Path((_, file)): Path<(String, String)>) -> Response {
    let (kind, text) = match file.as_str() {
        "console.css" => ("text/css; charset=utf-8", CSS),
        "console.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return Problem::not_found("file").into_response(),
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}

/// A whole page, with what a browser must be told of it.
fn respond(status: StatusCode, page: Markup) -> Response {
    let mut response = (status, Html(harmless(&page.into_string()))).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Labels are written by whoever can send an alert. Markup in them is text already; this takes what could
/// turn text around, or make a terminal or a screen reader do things.
fn harmless(html: &str) -> String {
    html.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        let text = "<script>alert('x')</script>\u{1b}[2J\"\u{202e}";
        let shown = harmless(&maud::html! { p title=(text) { (text) } }.into_string());
        assert!(!shown.contains("<script") && !shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown}");
        assert!(
            shown.starts_with("<p title=\"&lt;script&gt;alert('x')&lt;/script&gt;\u{fffd}[2J&quot;\u{fffd}\">"),
            "{shown}"
        );
    }
}
