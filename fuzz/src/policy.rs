//! Policy documents: read or refused with what is wrong; what was read is within its bounds.

use alert_bot::policy::Policy;

/// Reads a policy document.
///
/// # Panics
/// When what was read is not within its bounds, or a refusal does not say why.
pub fn policy(bytes: &[u8]) {
    let text = crate::text(bytes);
    match Policy::parse(text) {
        Ok(policy) => {
            assert!(policy.denies("docker-guard") && policy.denies("alert-bot"));
            let names: std::collections::BTreeSet<_> = policy.rules.iter().map(|r| &r.name).collect();
            assert_eq!(names.len(), policy.rules.len(), "names are unique");
            for heal in policy.rules.iter().filter_map(|r| r.heal()) {
                assert!(!heal.steps.is_empty() && heal.budget.actions > 0);
                let _ = heal.target.service(&std::collections::BTreeMap::new());
            }
            assert_eq!(Policy::parse(text).as_ref(), Ok(&policy), "reading is a function");
        }
        Err(faults) => assert!(!faults.is_empty() && faults.iter().all(|f| !f.to_string().is_empty())),
    }
}
