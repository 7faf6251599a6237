//! The alert-bot's own webhook: its document and its signature
//! (docs/notifications.md). Of other senders nothing is known that could be checked.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::{Findings, Violation};

/// A signature older than this may be a recording.
const MAX_AGE: i64 = 300;

/// What came with it.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    /// `X-Selfheal-Signature`
    pub signature: Option<String>,
    /// `Idempotency-Key`
    pub key: Option<String>,
}

/// Whether it says of itself that it is the alert-bot's.
pub fn is_ours(document: &Value) -> bool {
    document.get("incidents").is_some_and(Value::is_array) && document.get("key").is_some()
}

/// What is wrong with it. `now` in seconds since the epoch.
pub fn violations(document: &Value, body: &[u8], headers: &Headers, secret: Option<&str>, now: i64) -> Vec<Violation> {
    let mut findings = Findings::default();
    signed(&mut findings, body, headers, secret, now);
    if !is_ours(document) {
        return findings.into_vec();
    }
    findings.check(document["version"] == 1, "/version", || "must be 1".to_owned());
    for key in ["key", "kind", "at", "title", "text"] {
        let text = document[key].as_str().unwrap_or_default();
        findings.check(!text.is_empty(), &format!("/{key}"), || "must be a text".to_owned());
    }
    let kind = document["kind"].as_str().unwrap_or_default();
    findings.check(["call", "update"].contains(&kind), "/kind", || "must be call or update".to_owned());
    findings.check(headers.key.as_deref() == document["key"].as_str(), "Idempotency-Key", || {
        "must be the document's key".to_owned()
    });
    let incidents = document["incidents"].as_array().map_or(&[][..], Vec::as_slice);
    findings.check(!incidents.is_empty(), "/incidents", || "must not be empty".to_owned());
    for (i, incident) in incidents.iter().enumerate() {
        for key in ["id", "subject", "state", "tone", "what", "why", "next"] {
            findings.check(incident[key].is_string(), &format!("/incidents/{i}/{key}"), || "must be a text".to_owned());
        }
        for key in ["tried", "found"] {
            findings.check(incident[key].is_array(), &format!("/incidents/{i}/{key}"), || "must be a list".to_owned());
        }
        for key in ["facts", "links"] {
            findings
                .check(incident[key].is_object(), &format!("/incidents/{i}/{key}"), || "must be an object".to_owned());
        }
    }
    findings.into_vec()
}

fn signed(findings: &mut Findings, body: &[u8], headers: &Headers, secret: Option<&str>, now: i64) {
    const NAME: &str = "X-Selfheal-Signature";
    let (Some(secret), signature) = (secret, &headers.signature) else { return };
    let Some(signature) = signature else { return findings.add(NAME, "is missing") };
    let part = |name: &str| signature.split(',').find_map(|p| p.trim().strip_prefix(name)?.strip_prefix('='));
    let (Some(at), Some(hex)) = (part("t").and_then(|t| t.parse::<i64>().ok()), part("v1")) else {
        return findings.add(NAME, "is not t=SECONDS,v1=HEX");
    };
    findings.check((now - at).abs() <= MAX_AGE, NAME, || format!("is {} s old", now - at));
    let bytes: Option<Vec<u8>> =
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(hex.get(i..i + 2)?, 16).ok()).collect();
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return };
    mac.update(format!("{at}.").as_bytes());
    mac.update(body);
    findings.check(bytes.is_some_and(|b| mac.verify_slice(&b).is_ok()), NAME, || "does not fit the body".to_owned());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // printf '1700000000.{}' | openssl dgst -sha256 -hmac secret
    const HEX: &str = "b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163";

    fn check(signature: Option<&str>, body: &[u8], now: i64) -> Vec<String> {
        let headers = Headers { signature: signature.map(ToOwned::to_owned), key: None };
        let found = violations(&json!({}), body, &headers, Some("secret"), now);
        found.into_iter().map(|v| v.what).collect()
    }

    #[test]
    fn a_signature_covers_time_and_body() {
        let good = format!("t=1700000000,v1={HEX}");
        assert_eq!(check(Some(&good), b"{}", 1_700_000_100), Vec::<String>::new());
        for (signature, body, now, says) in [
            (None, &b"{}"[..], 1_700_000_000, "is missing"),
            (Some("nonsense"), b"{}", 1_700_000_000, "is not t="),
            (Some(good.as_str()), b"{ }", 1_700_000_000, "does not fit"),
            (Some(good.as_str()), b"{}", 1_700_001_000, "is 1000 s old"),
            (Some("t=1700000001,v1=zz"), b"{}", 1_700_000_000, "does not fit"),
            (Some("t=1700000000,v1=é"), b"{}", 1_700_000_000, "does not fit"),
        ] {
            let found = check(signature, body, now);
            assert!(found.len() == 1 && found[0].contains(says), "no '{says}' in {found:?}");
        }
        assert_eq!(violations(&json!({}), b"{}", &Headers::default(), None, 0), [], "nothing to check with");
    }

    #[test]
    fn the_document_is_checked_where_it_says_to_be_ours() {
        let headers = Headers { signature: None, key: Some("other".to_owned()) };
        let document = json!({"version": 2, "key": "k", "kind": "shout", "incidents": [{"id": 1}]});
        let found = violations(&document, b"", &headers, None, 0);
        let places: Vec<_> = found.iter().map(|v| v.at.as_str()).collect();
        for place in ["/version", "/kind", "/text", "Idempotency-Key", "/incidents/0/id", "/incidents/0/links"] {
            assert!(places.contains(&place), "no {place} in {places:?}");
        }
    }
}
