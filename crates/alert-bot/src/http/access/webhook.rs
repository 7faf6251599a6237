//! Who may post notifications.

use axum::http::{HeaderMap, header};
use base64::{Engine, prelude::BASE64_STANDARD};
use subtle::ConstantTimeEq;
use telemetry::config::Secret;

use super::digest;

/// A bearer token, or the same as password of basic authentication.
pub struct WebhookAuth {
    user: [u8; 32],
    token: [u8; 32],
}

impl WebhookAuth {
    /// Keeps digests only.
    pub fn new(user: &str, token: &Secret) -> Self {
        Self { user: digest(user.as_bytes()), token: digest(token.expose().as_bytes()) }
    }

    /// Whether the request may pass. Digests are compared, and all of them: the
    /// time taken tells neither how much nor how long the right value is.
    pub fn allows(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()) else { return false };
        let Some((scheme, credentials)) = value.split_once(' ') else { return false };
        if scheme.eq_ignore_ascii_case("bearer") {
            return bool::from(digest(credentials.trim().as_bytes()).ct_eq(&self.token));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return false;
        }
        let Ok(decoded) = BASE64_STANDARD.decode(credentials.trim()) else { return false };
        let split = decoded.iter().position(|b| *b == b':').unwrap_or(decoded.len());
        let (user, password) = decoded.split_at(split);
        let password = password.strip_prefix(b":").unwrap_or_default();
        bool::from(digest(user).ct_eq(&self.user) & digest(password).ct_eq(&self.token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_and_basic_pass_and_nothing_else_does() {
        let auth = WebhookAuth::new("alertmanager", &Secret::new("s3cret"));
        let allows =
            |value: &str| auth.allows(&HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]));
        let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
        assert!(allows("Bearer s3cret"));
        assert!(allows("bearer s3cret"));
        assert!(allows(&basic("alertmanager:s3cret")));
        for wrong in ["Bearer s3cre", "Bearer", "Bearer ", "s3cret", "Digest s3cret", "Basic !!"] {
            assert!(!allows(wrong), "{wrong}");
        }
        for wrong in ["alertmanager:", "alertmanager", ":s3cret", "root:s3cret", "alertmanager:s3cret:x"] {
            assert!(!allows(&basic(wrong)), "{wrong}");
        }
        assert!(!auth.allows(&HeaderMap::new()));
    }
}
