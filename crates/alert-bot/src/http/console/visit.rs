//! Who looks at a page, from where, and what their forms carry.

use std::collections::HashMap;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use telemetry::problem::Problem;

use super::{super::AppState, frame};
use crate::{
    http::access::{self, Session, VISITOR_COOKIE},
    timestamp::Timestamp,
};

/// A request for a page.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    /// Of somebody who has logged in.
    pub(super) session: Option<Session>,
    /// What links begin with, behind a proxy that serves the console under a path.
    pub(super) prefix: String,
    /// The page, to come back to: path and query.
    pub(super) here: String,
    /// What forms carry.
    pub(super) csrf: String,
    /// Behind a proxy that speaks TLS.
    secure: bool,
    tied_to: String,
    /// A visitor who has to be given the cookie that forms are tied to.
    unknown: bool,
    from_here: bool,
}

/// Why a page is not shown.
#[derive(Debug)]
pub(super) enum Away {
    /// Log in first.
    Login(String),
    /// A page that says what is wrong.
    Wrong(Problem),
}

impl From<Problem> for Away {
    fn from(problem: Problem) -> Self {
        Self::Wrong(problem)
    }
}

impl IntoResponse for Away {
    fn into_response(self) -> Response {
        match self {
            Self::Login(to) => Redirect::to(&to).into_response(),
            Self::Wrong(problem) => frame::wrong(&problem),
        }
    }
}

/// Whoever stands before the door: nothing is asked of them.
pub(super) struct Door(pub(super) Visit);

impl FromRequestParts<AppState> for Door {
    type Rejection = Away;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Away> {
        Ok(Self(Visit::of(parts, app)))
    }
}

impl FromRequestParts<AppState> for Visit {
    type Rejection = Away;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Away> {
        let visit = Self::of(parts, app);
        match access::may_read(parts, &app.access) {
            Ok(_) => Ok(visit),
            Err(problem) if problem.status() == StatusCode::UNAUTHORIZED => Err(Away::Login(visit.login_url())),
            Err(problem) => Err(Away::Wrong(problem)),
        }
    }
}

impl Visit {
    fn of(parts: &Parts, app: &AppState) -> Self {
        let sessions = &app.access.sessions;
        let session = sessions.of(&parts.headers, Timestamp::now());
        let visitor = access::cookie(&parts.headers, VISITOR_COOKIE).filter(|v| (16..=64).contains(&v.len()));
        let (tied_to, unknown) = match (&session, visitor) {
            (Some(session), _) => (session.id.clone(), false),
            (None, Some(visitor)) => (visitor.to_owned(), false),
            (None, None) => (access::random(), true),
        };
        Self {
            csrf: sessions.csrf(&tied_to),
            prefix: prefix(&parts.headers),
            here: parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            secure: parts.headers.get("x-forwarded-proto").is_some_and(|v| v == "https"),
            from_here: access::from_here(&parts.headers),
            session,
            tied_to,
            unknown,
        }
    }

    /// The page's path: what navigation marks as current.
    pub(super) fn path(&self) -> &str {
        self.here.split('?').next().unwrap_or("/")
    }

    /// An address of this console.
    pub(super) fn to(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Where to log in, and come back.
    pub(super) fn login_url(&self) -> String {
        let next = percent(&self.here);
        self.to(&format!("/login?next={next}"))
    }

    /// Whether the form was made for this visitor.
    pub(super) fn check(&self, form: &HashMap<String, String>, app: &AppState) -> Result<(), Away> {
        let sent = form.get("csrf").map_or("", String::as_str);
        if self.from_here && app.access.sessions.csrf_fits(&self.tied_to, sent) {
            Ok(())
        } else {
            Err(Away::Wrong(access::forged()))
        }
    }

    /// Gives unknown visitors the cookie that their forms are tied to.
    pub(super) fn greet(&self, mut response: Response) -> Response {
        if self.unknown {
            self.set_cookie(&mut response, VISITOR_COOKIE, &self.tied_to, None);
        }
        response
    }

    /// A cookie that no script reads and no other site sends; without `seconds` it ends with the browser.
    pub(super) fn set_cookie(&self, response: &mut Response, name: &str, value: &str, seconds: Option<u64>) {
        let path = if self.prefix.is_empty() { "/" } else { &self.prefix };
        let age = seconds.map(|s| format!("; Max-Age={s}")).unwrap_or_default();
        let secure = if self.secure { "; Secure" } else { "" };
        let cookie = format!("{name}={value}; Path={path}; HttpOnly; SameSite=Strict{age}{secure}");
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
}

/// What a proxy has cut off the path, if it is nothing but a path.
fn prefix(headers: &HeaderMap) -> String {
    let said = headers.get("x-forwarded-prefix").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let said = said.trim_end_matches('/');
    let plain = said.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_-".contains(&b));
    if said.starts_with('/') && !said.contains("//") && plain { said.to_owned() } else { String::new() }
}

/// A path of this console, and nothing that leads elsewhere.
pub(super) fn local(path: &str) -> &str {
    let plain = path.starts_with('/') && !path.starts_with("//") && !path.contains('\\');
    if plain && !path.chars().any(char::is_control) { path } else { "/" }
}

/// As part of a query.
pub(super) fn percent(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_comes_back_to_this_console_only() {
        assert_eq!(local("/incidents/1?x=y"), "/incidents/1?x=y");
        for away in
            ["//evil.example", "https://evil.example", "/\\evil.example", "", "javascript:alert(1)", "/\r\nx: y"]
        {
            assert_eq!(local(away), "/", "{away}");
        }
    }

    #[test]
    fn a_prefix_is_a_path() {
        let of = |value: &str| {
            prefix(&HeaderMap::from_iter([("x-forwarded-prefix".parse().unwrap(), value.parse().unwrap())]))
        };
        assert_eq!(of("/bot"), "/bot");
        assert_eq!(of("/bot/"), "/bot");
        for wrong in ["bot", "//evil.example", "/\"><script>", "/a b", ""] {
            assert_eq!(of(wrong), "", "{wrong}");
        }
    }
}
