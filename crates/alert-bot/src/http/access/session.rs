//! Sessions of browsers.
//!
//! A session is a signed cookie: nothing has to be kept for it to hold, so it
//! outlives a restart, and the other bot honours it. Whoever changes the
//! operator's token ends every session. Logging out is remembered until the
//! session would have ended by itself.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::http::{HeaderMap, header};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use telemetry::config::Secret;

use crate::timestamp::Timestamp;

/// Carries a session.
pub const COOKIE: &str = "alert-bot-session";
/// Carries what the forms of those are tied to who have not logged in.
pub const VISITOR_COOKIE: &str = "alert-bot-visitor";

/// Somebody who has logged in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Random.
    pub id: String,
    /// As given at the login: what the record calls the person.
    pub name: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// Makes and checks sessions.
pub struct Sessions {
    key: Hmac<Sha256>,
    time: Duration,
    ended: Mutex<HashMap<String, Timestamp>>,
}

impl Sessions {
    /// Signed with what is derived from the operator's token.
    pub fn new(operator: &Secret, time: Duration) -> Self {
        let derived = keyed(operator.expose().as_bytes()).chain_update("alert-bot console, version 1").finalize();
        Self { key: keyed(&derived.into_bytes()), time, ended: Mutex::default() }
    }

    /// A new session.
    pub fn begin(&self, name: String, now: Timestamp) -> Session {
        Session { id: random(), name, expires: now.plus(self.time) }
    }

    /// The cookie's value for it.
    pub fn seal(&self, session: &Session) -> String {
        let text = BASE64.encode(serde_json::to_vec(session).unwrap_or_default());
        let mac = self.mac("session", &text);
        format!("{text}.{mac}")
    }

    /// The session that the request carries, if it is genuine, not over and not ended.
    pub fn of(&self, headers: &HeaderMap, now: Timestamp) -> Option<Session> {
        let (text, mac) = cookie(headers, COOKIE)?.split_once('.')?;
        if !self.fits("session", text, mac) {
            return None;
        }
        let session: Session = serde_json::from_slice(&BASE64.decode(text).ok()?).ok()?;
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&session.id);
        (session.expires > now && !ended).then_some(session)
    }

    /// Ends it before its time.
    pub fn end(&self, session: &Session, now: Timestamp) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|_, expires| *expires > now);
        ended.insert(session.id.clone(), session.expires);
    }

    /// How long sessions last.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// The token that forms of this session, or visitor, carry.
    pub fn csrf(&self, id: &str) -> String {
        self.mac("csrf", id)
    }

    /// Whether it is that token.
    pub fn csrf_fits(&self, id: &str, sent: &str) -> bool {
        self.fits("csrf", id, sent)
    }

    fn mac(&self, purpose: &str, text: &str) -> String {
        BASE64.encode(self.signed(purpose, text).finalize().into_bytes())
    }

    /// In the same time for every wrong one.
    fn fits(&self, purpose: &str, text: &str, mac: &str) -> bool {
        BASE64.decode(mac).is_ok_and(|mac| self.signed(purpose, text).verify_slice(&mac).is_ok())
    }

    fn signed(&self, purpose: &str, text: &str) -> Hmac<Sha256> {
        // The purpose has no separator in it: no two pairs run together to the same text.
        self.key.clone().chain_update(purpose).chain_update([0]).chain_update(text)
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of every length.
    Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of every length"))
}

/// 128 random bits.
pub fn random() -> String {
    BASE64.encode(rand::random::<[u8; 16]>())
}

/// The value of a cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carrying(value: &str) -> HeaderMap {
        let pair = format!("other=1; {COOKIE}={value}; more=2");
        HeaderMap::from_iter([(header::COOKIE, pair.parse().unwrap())])
    }

    #[test]
    fn a_session_holds_until_it_ends_and_no_other_is_taken_for_it() {
        let sessions = Sessions::new(&Secret::new("an operator's token"), Duration::from_secs(60));
        let now = Timestamp::from_millis(1_000_000);
        let session = sessions.begin("Mira".to_owned(), now);
        let sealed = sessions.seal(&session);
        assert_eq!(sessions.of(&carrying(&sealed), now), Some(session.clone()));
        assert_eq!(sessions.of(&carrying(&sealed), now.plus(Duration::from_secs(60))), None);
        let others = Sessions::new(&Secret::new("another token"), Duration::from_secs(60));
        assert_eq!(others.of(&carrying(&sealed), now), None);
        // The other bot, or the same after a restart.
        let again = Sessions::new(&Secret::new("an operator's token"), Duration::from_secs(60));
        assert_eq!(again.of(&carrying(&sealed), now), Some(session.clone()));
        let (text, mac) = sealed.split_once('.').unwrap();
        let longer = Session { expires: now.plus(Duration::from_secs(9_999)), ..session.clone() };
        let forged = BASE64.encode(serde_json::to_vec(&longer).unwrap());
        for wrong in [format!("{forged}.{mac}"), format!("{text}."), text.to_owned(), String::new()] {
            assert_eq!(sessions.of(&carrying(&wrong), now), None, "{wrong}");
        }
        sessions.end(&session, now);
        assert_eq!(sessions.of(&carrying(&sealed), now), None);
    }

    #[test]
    fn a_form_s_token_is_its_session_s_only() {
        let sessions = Sessions::new(&Secret::new("an operator's token"), Duration::from_secs(60));
        let token = sessions.csrf("one");
        assert!(sessions.csrf_fits("one", &token));
        assert!(!sessions.csrf_fits("two", &token));
        assert!(!sessions.csrf_fits("one", ""));
        assert_ne!(sessions.mac("session", "one"), token);
    }
}
