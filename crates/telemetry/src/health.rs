//! Readiness: named checks of what a service needs, asked for by `/readyz`.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

/// A check that has not answered by then has failed.
const CHECK_LIMIT: Duration = Duration::from_secs(2);

type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// The checks of one service. Without any, it is ready.
#[derive(Clone, Default)]
pub struct Readiness {
    checks: Arc<Mutex<Vec<(&'static str, Check)>>>,
}

/// What the checks said.
#[derive(Debug, Serialize)]
pub struct Report {
    /// All checks passed.
    pub ready: bool,
    /// Each check, in the order of registration.
    pub checks: Vec<CheckReport>,
}

/// What one check said.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// The dependency's name.
    pub name: &'static str,
    /// It can be used.
    pub ok: bool,
    /// How long the answer took.
    pub seconds: f64,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Readiness {
    /// Adds a check; `error` texts are shown to whoever can reach the admin listener.
    pub fn register<F, Fut>(&self, name: &'static str, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        let check: Check = Arc::new(move || Box::pin(check()));
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).push((name, check));
    }

    /// Runs all checks at the same time, each within its limit.
    pub async fn check(&self) -> Report {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reports = checks.into_iter().map(|(name, check)| async move {
            let started = Instant::now();
            let result = tokio::time::timeout(CHECK_LIMIT, check())
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {} s", CHECK_LIMIT.as_secs())));
            CheckReport { name, ok: result.is_ok(), seconds: started.elapsed().as_secs_f64(), error: result.err() }
        });
        let checks = futures::future::join_all(reports).await;
        Report { ready: checks.iter().all(|c| c.ok), checks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_report_names_what_fails_and_what_hangs() {
        let readiness = Readiness::default();
        assert!(readiness.check().await.ready);
        readiness.register("good", || async { Ok(()) });
        assert!(readiness.check().await.ready);
        readiness.register("bad", || async { Err("refused".to_owned()) });
        readiness.register("hung", std::future::pending);
        let report = readiness.check().await;
        assert!(!report.ready);
        let told: Vec<_> = report.checks.iter().map(|c| (c.name, c.ok, c.error.as_deref())).collect();
        assert_eq!(
            told,
            [("good", true, None), ("bad", false, Some("refused")), ("hung", false, Some("no answer within 2 s"))]
        );
    }
}
