//! What may be posted to `/webhook`: Alertmanager's notification (version 4) and
//! the short form that a person types.
//!
//! Machines write this, so unknown fields are tolerated. What is missing is
//! derived; what is wrong is refused, naming the field. All text in it is
//! written by whoever can send an alert and is never used as anything but text.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    engine::{Alert, Status, fingerprint_of},
    timestamp::Timestamp,
};

/// Alerts in one notification at most.
const MAX_ALERTS: usize = 50_000;
/// Labels or annotations of one alert at most.
const MAX_LABELS: usize = 128;
/// Bytes of a label's or annotation's name or value at most.
const MAX_TEXT: usize = 16 * 1024;
/// Characters of what is told about a fault at most: the parser quotes what it found there, all of it.
const MAX_DETAIL: usize = 300;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    version: Option<String>,
    #[serde(default)]
    truncated_alerts: u64,
    alerts: Vec<RawAlert>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAlert {
    status: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    starts_at: Option<String>,
    fingerprint: Option<String>,
    #[serde(rename = "generatorURL")]
    generator_url: Option<String>,
}

/// A notification that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// In the order of the document.
    pub alerts: Vec<Alert>,
    /// So many more burn and were cut off.
    pub truncated: u64,
}

/// Why a notification was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct Malformed {
    /// Where.
    pub field: String,
    /// What.
    pub detail: String,
}

impl Malformed {
    fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let detail = match detail.char_indices().nth(MAX_DETAIL) {
            Some((end, _)) => format!("{}…", &detail[..end]),
            None => detail,
        };
        Self { field: field.into(), detail }
    }
}

/// Reads a notification.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse(body: &[u8]) -> Result<Notification, Malformed> {
    let payload: Payload = serde_json::from_slice(body).map_err(|e| Malformed::new("body", e.to_string()))?;
    if let Some(version) = payload.version.as_deref().filter(|v| *v != "4") {
        let shown: String = version.chars().take(16).collect();
        return Err(Malformed::new("version", format!("'{}' is not known; '4' is", shown.escape_debug())));
    }
    if payload.alerts.len() > MAX_ALERTS {
        return Err(Malformed::new("alerts", format!("more than {MAX_ALERTS}")));
    }
    let alerts = payload.alerts.into_iter().enumerate().map(|(i, raw)| alert(i, raw)).collect::<Result<_, _>>()?;
    Ok(Notification { alerts, truncated: payload.truncated_alerts })
}

fn alert(index: usize, raw: RawAlert) -> Result<Alert, Malformed> {
    let at = |field: &str| format!("alerts[{index}].{field}");
    let status = match raw.status.as_str() {
        "firing" => Status::Firing,
        "resolved" => Status::Resolved,
        _ => return Err(Malformed::new(at("status"), "must be 'firing' or 'resolved'")),
    };
    for (field, map) in [("labels", &raw.labels), ("annotations", &raw.annotations)] {
        if map.len() > MAX_LABELS || map.iter().any(|(k, v)| k.len() > MAX_TEXT || v.len() > MAX_TEXT) {
            return Err(Malformed::new(at(field), format!("more than {MAX_LABELS}, or one over {MAX_TEXT} bytes")));
        }
    }
    if raw.labels.get("alertname").is_none_or(String::is_empty) {
        return Err(Malformed::new(at("labels.alertname"), "is required"));
    }
    let starts_at = match raw.starts_at.as_deref() {
        None | Some("") => None,
        Some(text) => match (Timestamp::parse(text), text.starts_with("0001-")) {
            (None, false) => return Err(Malformed::new(at("startsAt"), "is not an RFC 3339 time")),
            (parsed, _) => parsed,
        },
    };
    let fingerprint = match raw.fingerprint {
        Some(text) if !text.is_empty() => {
            if text.len() > 64 || !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(Malformed::new(at("fingerprint"), "must be at most 64 letters and digits"));
            }
            text
        }
        // The form that a person types: the same labels are the same alert.
        _ => fingerprint_of(&raw.labels),
    };
    Ok(Alert {
        status,
        fingerprint,
        starts_at,
        labels: raw.labels,
        annotations: raw.annotations,
        generator_url: raw.generator_url.filter(|u| u.len() <= MAX_TEXT),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_that_a_person_types_is_complete() {
        let text = br#"{"alerts":[{"status":"firing","labels":{"alertname":"HighErrorRate","severity":"critical"}}]}"#;
        let first = parse(text).unwrap();
        assert_eq!(first.alerts[0].starts_at, None);
        assert_eq!(first, parse(text).unwrap(), "the same call is the same alert");
        let other = br#"{"alerts":[{"status":"firing","labels":{"alertname":"HighErrorRate","severity":"warning"}}]}"#;
        assert_ne!(first.alerts[0].fingerprint, parse(other).unwrap().alerts[0].fingerprint);
    }

    #[test]
    fn alertmanagers_form_keeps_its_identity() {
        let text = br#"{"version":"4","groupKey":"{}:{}","truncatedAlerts":3,"status":"firing","receiver":"bot",
            "alerts":[{"status":"resolved","labels":{"alertname":"A"},"annotations":{"summary":"s"},
            "startsAt":"2026-07-01T10:00:00.123456789Z","endsAt":"0001-01-01T00:00:00Z",
            "generatorURL":"http://p/g","fingerprint":"00ff00ff00ff00ff"}]}"#;
        let read = parse(text).unwrap();
        assert_eq!(read.truncated, 3);
        assert_eq!(read.alerts[0].fingerprint, "00ff00ff00ff00ff");
        assert_eq!(read.alerts[0].starts_at, Timestamp::parse("2026-07-01T10:00:00.123Z"));
        assert_eq!(read.alerts[0].status, Status::Resolved);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, field) in [
            ("", "body"),
            ("[]", "body"),
            ("{", "body"),
            (r#"{"alerts":{}}"#, "body"),
            (r#"{"version":"5","alerts":[]}"#, "version"),
            (r#"{"alerts":[{"status":"burning","labels":{"alertname":"A"}}]}"#, "alerts[0].status"),
            (r#"{"alerts":[{"status":"firing","labels":{}}]}"#, "alerts[0].labels.alertname"),
            (r#"{"alerts":[{"status":"firing","labels":{"alertname":"A"},"startsAt":"soon"}]}"#, "alerts[0].startsAt"),
            (
                r#"{"alerts":[{"status":"firing","labels":{"alertname":"A"},"fingerprint":"../x"}]}"#,
                "alerts[0].fingerprint",
            ),
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap_err().field, field, "{body}");
        }
        assert!(parse(b"{\"alerts\":[{\"status\":\"firing\",\"labels\":{\"alertname\":\"\xff\"}}]}").is_err());
        let deep = format!(r#"{{"alerts":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert!(parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn what_is_told_of_a_fault_is_short_and_plain() {
        let word = "\u{9b}\u{1b}[2J".repeat(100_000);
        for body in [serde_json::json!({ "alerts": word }), serde_json::json!({ "alerts": [], "version": word })] {
            let detail = parse(body.to_string().as_bytes()).unwrap_err().detail;
            assert!(detail.chars().count() <= MAX_DETAIL + 1 && !detail.contains(char::is_control), "{detail}");
        }
    }
}
