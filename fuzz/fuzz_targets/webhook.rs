//! What may be posted to the alert-bot: it is read or refused, and what was read keeps its bounds.
#![no_main]

use alert_bot::intake::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
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
        Err(malformed) => assert!(!malformed.field.is_empty() && malformed.detail.len() < 64 * 1024),
    }
});
