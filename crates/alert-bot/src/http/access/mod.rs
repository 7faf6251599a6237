//! Who may do what.
//!
//! Two tokens: the webhook's opens the intake and nothing else, the operator's
//! everything else. A browser logs in with the operator's token and carries a
//! session from then on; what changes something needs a CSRF token beside it.
//! Reading is open to those whom [`ReadAccess`] names, and to operators.

mod network;
mod session;
mod webhook;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use telemetry::{config::Secret, problem::Problem};

pub use self::{
    network::{Network, Networks, ReadAccess, Trusted},
    session::{COOKIE, Session, Sessions, VISITOR_COOKIE, cookie, random},
    webhook::WebhookAuth,
};
use super::AppState;
use crate::timestamp::Timestamp;

/// Names of people are cut here.
const LONGEST_NAME: usize = 64;
/// The header that carries a session's CSRF token to the API.
pub const CSRF_HEADER: &str = "x-csrf-token";

/// Everything that says who may do what.
pub struct Access {
    /// For the intake.
    pub webhook: WebhookAuth,
    /// Of browsers.
    pub sessions: Sessions,
    operator: [u8; 32],
    read: ReadAccess,
    trusted: Trusted,
}

/// What a request presents in its `Authorization` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Credential {
    None,
    Operator,
    Webhook,
    Wrong,
}

impl Access {
    /// Keeps digests of the tokens only.
    pub fn new(
        webhook: WebhookAuth,
        operator: &Secret,
        read: ReadAccess,
        trusted: Networks,
        session: Duration,
    ) -> Self {
        Self {
            webhook,
            sessions: Sessions::new(operator, session),
            operator: digest(operator.expose().as_bytes()),
            read,
            trusted: Trusted::new(trusted),
        }
    }

    /// Whether this is the operator's token; takes the same time for every wrong one.
    pub fn is_operator(&self, token: &str) -> bool {
        bool::from(digest(token.as_bytes()).ct_eq(&self.operator))
    }

    fn credential(&self, headers: &HeaderMap) -> Credential {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Credential::None };
        let bearer = value.to_str().ok().and_then(|v| v.split_once(' '));
        match bearer {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && self.is_operator(token.trim()) => {
                Credential::Operator
            }
            _ if self.webhook.allows(headers) => Credential::Webhook,
            _ => Credential::Wrong,
        }
    }

    /// Whether somebody at this address may read without a token.
    fn reads_freely(&self, parts: &Parts) -> bool {
        let Some(peer) = peer(parts) else { return false };
        let near = match self.read {
            ReadAccess::Token => false,
            ReadAccess::Loopback => peer.is_loopback(),
            ReadAccess::Networks => peer.is_loopback() || self.trusted.contains(peer),
        };
        // A page from elsewhere can have its own name resolved to this address; then the browser sends that name.
        near && host(parts).is_some_and(is_local_name)
    }
}

/// A request that may read.
#[derive(Clone, Debug)]
pub struct Reader;

impl FromRequestParts<AppState> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        may_read(parts, &app.access).map(|_| Self)
    }
}

/// Whether a request may read, and whose session it carries.
pub(super) fn may_read(parts: &Parts, access: &Access) -> Result<Option<Session>, Problem> {
    let session = access.sessions.of(&parts.headers, Timestamp::now());
    match access.credential(&parts.headers) {
        Credential::Operator => Ok(session),
        Credential::Webhook => Err(intake_only()),
        Credential::Wrong => Err(Problem::unauthorized()),
        Credential::None if session.is_some() || access.reads_freely(parts) => Ok(session),
        Credential::None => Err(Problem::unauthorized()
            .detail("reading needs the operator's token from here: as bearer token, or log in at /login")),
    }
}

/// A request that may change something.
#[derive(Clone, Debug)]
pub struct Operator {
    session: Option<Session>,
}

impl Operator {
    /// Whose hand it was: the session's name, or what the request says, or nobody in particular.
    pub fn name(&self, said: Option<&str>) -> String {
        let name = self.session.as_ref().map(|s| s.name.as_str()).or(said).map(tidy_name).unwrap_or_default();
        if name.is_empty() { "operator".to_owned() } else { name }
    }
}

impl FromRequestParts<AppState> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        match app.access.credential(&parts.headers) {
            Credential::Operator => return Ok(Self { session: None }),
            Credential::Webhook => return Err(intake_only()),
            Credential::Wrong => return Err(Problem::unauthorized()),
            Credential::None => {}
        }
        let Some(session) = app.access.sessions.of(&parts.headers, Timestamp::now()) else {
            return Err(Problem::unauthorized().detail("the operator's token is required"));
        };
        let sent = parts.headers.get(CSRF_HEADER).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !from_here(&parts.headers) || !app.access.sessions.csrf_fits(&session.id, sent) {
            return Err(forged());
        }
        Ok(Self { session: Some(session) })
    }
}

/// 403 for what another site may have sent in an operator's name.
pub(super) fn forged() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "Forbidden")
        .detail("the request does not carry its session's CSRF token: load the page again")
        .field(CSRF_HEADER, "is missing or not this session's")
}

fn intake_only() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "Forbidden").detail("this token opens the intake only")
}

/// Browsers say where a request was made; other ports of the same host are the
/// same *site*, so that a cookie's `SameSite` lets them pass.
pub(super) fn from_here(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_none_or(|v| v == "same-origin" || v == "none")
}

/// Who the connection is with.
fn peer(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|c| c.0.ip().to_canonical())
}

fn host(parts: &Parts) -> Option<&str> {
    let named = parts.headers.get(header::HOST).and_then(|v| v.to_str().ok());
    named.or_else(|| parts.uri.authority().map(|a| a.as_str()))
}

/// An address, `localhost`, or a name without a dot such as compose gives:
/// nothing that public name servers answer for.
fn is_local_name(host: &str) -> bool {
    if let Some(v6) = host.strip_prefix('[') {
        return v6.split_once(']').is_some_and(|(ip, _)| ip.parse::<IpAddr>().is_ok());
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.parse::<IpAddr>().is_ok() || (!name.is_empty() && !name.contains('.')) || name.ends_with(".localhost")
}

/// A person's name as it is written down: one short line.
pub(super) fn tidy_name(name: &str) -> String {
    let printable = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let one_line = printable.split_whitespace().collect::<Vec<_>>().join(" ");
    one_line.chars().take(LONGEST_NAME).collect()
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_name_servers_answer_for_are_not_local() {
        for local in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000", "alert-bot:5000", "10.1.2.3"] {
            assert!(is_local_name(local), "{local}");
        }
        for foreign in ["evil.example", "evil.example:5000", "127.0.0.1.evil.example", "", ":5000", "[evil]:1", "a."] {
            assert!(!is_local_name(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_name_is_one_short_line() {
        assert_eq!(tidy_name("  Mira\r\n\u{1b}[2J  Roth "), "Mira [2J Roth");
        assert_eq!(tidy_name(&"x".repeat(500)).len(), LONGEST_NAME);
    }
}
