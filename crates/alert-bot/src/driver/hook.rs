//! The step `webhook`: one POST to an address that the policy names.
//!
//! Nothing can be inspected to find out whether it was heard. So only what certainly never
//! arrived may be sent again, and under a key of its own; after everything else the proof tells.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    engine::{Action, CallOutcome, Incident},
    policy::{Hook, Verb},
};

/// Of an answer no more than this is kept, in bytes.
const ANSWER: usize = 500;

/// The name of the header that is the same for one action, however often it were to arrive.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// One call, ready to be sent.
#[derive(Clone, Debug)]
pub struct Call {
    hook: Hook,
    body: Value,
}

impl Call {
    /// What an action calls, if it is a call.
    pub fn of(incident: &Incident, action: &Action) -> Option<Self> {
        if action.verb != Verb::Webhook {
            return None;
        }
        let hook = incident.rule.as_ref()?.heal()?.steps.get(action.step)?.webhook.clone()?;
        let body = hook.message(&incident.id, incident.alert.name(), &action.target.name);
        Some(Self { hook, body })
    }

    /// Sends it once. With what was answered, as evidence.
    pub async fn send(self, client: &reqwest::Client, key: &str, limit: Duration) -> (CallOutcome, Option<Value>) {
        let mut request = client.post(&self.hook.url).json(&self.body).header(IDEMPOTENCY_KEY, key).timeout(limit);
        if let Some(path) = &self.hook.token_file {
            match tokio::fs::read_to_string(path).await {
                Ok(token) => request = request.bearer_auth(token.trim()),
                Err(error) => {
                    let why = format!("token_file {} cannot be read: {error}", path.display());
                    return (CallOutcome::NotPerformed(why), None);
                }
            }
        }
        if let Some(parent) = telemetry::trace::current_traceparent() {
            request = request.header("traceparent", parent);
        }
        let shown = self.hook.shown();
        let mut answer = match request.send().await {
            Ok(answer) => answer,
            // The address may carry a secret: the error is told without it.
            Err(error) if error.is_builder() || error.is_connect() => {
                let why = format!("{shown} cannot be reached: {}", reasons(&error.without_url()));
                return (CallOutcome::NotPerformed(why), None);
            }
            Err(error) if error.is_timeout() => {
                return (
                    CallOutcome::Unknown(format!("{shown} did not answer within {} s", limit.as_secs_f64())),
                    None,
                );
            }
            Err(error) => {
                return (CallOutcome::Unknown(format!("{shown}: {}", reasons(&error.without_url()))), None);
            }
        };
        let status = answer.status();
        let mut text = Vec::new();
        while text.len() < ANSWER
            && let Ok(Some(chunk)) = answer.chunk().await
        {
            text.extend_from_slice(&chunk);
        }
        text.truncate(ANSWER);
        let text: String = String::from_utf8_lossy(&text).chars().filter(|c| !c.is_control()).collect();
        let detail = format!("POST {shown}: {text}");
        let finding = json!({ "what": "answer", "value": status.as_u16(), "unit": "HTTP status", "detail": detail });
        let outcome = if status.is_success() {
            CallOutcome::Done
        } else if status.is_server_error() {
            CallOutcome::Unknown(format!("{shown} answers {status}"))
        } else {
            CallOutcome::Refused(format!("{shown} answers {status}"))
        };
        (outcome, Some(json!({ "findings": [finding] })))
    }
}

/// The error and what lies beneath it.
fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{Router, extract::Path, http::HeaderMap, routing::post};

    use super::*;

    type Heard = Arc<Mutex<Vec<(HeaderMap, String)>>>;

    /// A real server: `/status/{n}` answers n, `/silent` never.
    async fn server() -> (String, Heard) {
        let heard = Heard::default();
        let (told, silent) = (heard.clone(), heard.clone());
        let router = Router::new()
            .route(
                "/status/{code}",
                post(move |Path(code): Path<u16>, headers: HeaderMap, body: String| async move {
                    told.lock().unwrap().push((headers, body));
                    (http::StatusCode::from_u16(code).unwrap(), "all\u{1b}[31m is well")
                }),
            )
            .route(
                "/silent",
                post(move |headers: HeaderMap, body: String| async move {
                    silent.lock().unwrap().push((headers, body));
                    std::future::pending::<()>().await;
                }),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (base, heard)
    }

    async fn send(url: String, token_file: Option<std::path::PathBuf>) -> (CallOutcome, Option<Value>) {
        let hook = Hook { url, token_file, body: json!({ "incident": "{{incident}}" }) };
        let body = hook.message("ab12", "Errors", "p-api-1");
        let client = crate::notify::client(None).unwrap();
        Call { hook, body }.send(&client, "ab12-0-1", Duration::from_millis(400)).await
    }

    #[tokio::test]
    async fn an_answer_says_what_became_of_it() {
        let (base, heard) = server().await;
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        std::fs::write(&token, "a-token\n").unwrap();
        let (outcome, evidence) = send(format!("{base}/status/202?key=secret"), Some(token)).await;
        assert_eq!(outcome, CallOutcome::Done);
        let finding = &evidence.unwrap()["findings"][0];
        assert_eq!(finding["value"], 202);
        assert_eq!(finding["detail"], format!("POST {base}/status/202: all[31m is well"));
        let (headers, body) = heard.lock().unwrap()[0].clone();
        assert_eq!(headers[IDEMPOTENCY_KEY], "ab12-0-1");
        assert_eq!(headers["authorization"], "Bearer a-token");
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(body, r#"{"incident":"ab12"}"#);

        for (code, refused) in [(302, true), (404, true), (422, true), (500, false), (503, false)] {
            let (outcome, evidence) = send(format!("{base}/status/{code}"), None).await;
            match outcome {
                CallOutcome::Refused(_) => assert!(refused, "{code}"),
                CallOutcome::Unknown(_) => assert!(!refused, "{code}"),
                other => panic!("{code}: {other:?}"),
            }
            assert_eq!(evidence.unwrap()["findings"][0]["value"], code);
        }
        assert_eq!(heard.lock().unwrap().len(), 6, "each was sent once, and no redirect was followed");
    }

    #[tokio::test]
    async fn silence_is_no_refusal_and_what_never_left_was_not_done() {
        let (base, heard) = server().await;
        let (outcome, _) = send(format!("{base}/silent?key=secret"), None).await;
        let CallOutcome::Unknown(why) = outcome else { panic!("{outcome:?}") };
        assert!(!why.contains("secret"), "{why}");
        assert_eq!(heard.lock().unwrap().len(), 1);
        let (outcome, _) = send("http://127.0.0.1:9/?key=secret".to_owned(), None).await;
        let CallOutcome::NotPerformed(why) = outcome else { panic!("{outcome:?}") };
        assert!(!why.contains("secret"), "{why}");
        let (outcome, _) = send(format!("{base}/status/200"), Some("/nowhere/token".into())).await;
        assert!(matches!(outcome, CallOutcome::NotPerformed(_)), "{outcome:?}");
        assert_eq!(heard.lock().unwrap().len(), 1);
    }
}
