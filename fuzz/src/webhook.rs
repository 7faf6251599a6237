//! What may be posted to the alert-bot: it is read or refused, and what was read keeps its bounds.

use alert_bot::intake::parse;

/// Reads a notification.
///
/// # Panics
/// When what was read is not within its bounds, or a refusal does not say why.
pub fn webhook(body: &[u8]) {
    match parse(body) {
        Ok(notification) => {
            assert!(notification.alerts.len() <= 50_000);
            for alert in &notification.alerts {
                assert!(!alert.name().is_empty());
                assert!(!alert.fingerprint.is_empty());
                assert!(alert.labels.len() <= 128 && alert.annotations.len() <= 128);
            }
            assert_eq!(Ok(notification), parse(body), "reading is a function");
        }
        Err(malformed) => {
            assert!(!malformed.field.is_empty() && malformed.detail.len() < 2048);
            assert!(!malformed.to_string().contains(char::is_control), "{malformed:?}");
        }
    }
}
