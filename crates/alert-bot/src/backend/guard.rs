//! docker-guard's own operations, which are no part of Docker's API.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode, header::HeaderMap};
use serde::Deserialize;
use telemetry::config::Secret;

use super::{BackendError, Done};

/// What is wanted of the guard.
pub enum Operation<'a> {
    Recreate { stop_timeout: Duration, image: Option<&'a str> },
    Replicate,
    Remove { stop_timeout: Duration },
}

/// A client of the guard.
pub struct Guard {
    client: Client,
    base: String,
    token: Option<Secret>,
}

/// The guard's answer, good or bad.
#[derive(Default, Deserialize)]
struct Answer {
    #[serde(rename = "Id")]
    id: Option<String>,
    /// In every refusal of the guard's, and in nobody else's.
    reason: Option<String>,
    detail: Option<String>,
}

impl Guard {
    /// `host` as in `DOCKER_HOST`; `None` where that cannot be a guard.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn new(host: &str, token: Option<Secret>) -> Result<Option<Self>, String> {
        let address = host.strip_prefix("tcp://").or_else(|| host.strip_prefix("http://"));
        let Some(address) = address else { return Ok(None) };
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build();
        let base = format!("http://{}", address.trim_end_matches('/'));
        Ok(Some(Self { client: client.map_err(|e| e.to_string())?, base, token }))
    }

    /// Asks the guard for an operation on a container.
    pub async fn operate(
        &self,
        target: &str,
        operation: &Operation<'_>,
        limit: Duration,
    ) -> Result<Done, BackendError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if target.is_empty() || target.starts_with('.') || !target.bytes().all(plain) {
            return Err(BackendError::Refused("that is no container's name or id".to_owned()));
        }
        let container = format!("{}/selfheal/containers/{target}", self.base);
        let (request, makes) = match operation {
            Operation::Recreate { stop_timeout, image } => {
                let mut query = vec![("t", stop_timeout.as_secs().to_string())];
                query.extend(image.map(|i| ("image", i.to_owned())));
                (self.client.post(format!("{container}/recreate")).query(&query), true)
            }
            Operation::Replicate => (self.client.post(format!("{container}/replicate")), true),
            Operation::Remove { stop_timeout } => {
                (self.client.request(Method::DELETE, container).query(&[("t", stop_timeout.as_secs())]), false)
            }
        };
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        // The guard's spans join the incident's trace.
        let mut headers = HeaderMap::new();
        telemetry::trace::inject(&mut headers);
        let call = async {
            let answer = request.headers(headers).send().await?;
            let status = answer.status();
            let body = answer.bytes().await?;
            Ok::<_, reqwest::Error>((status, serde_json::from_slice::<Answer>(&body).unwrap_or_default()))
        };
        match tokio::time::timeout(limit, call).await {
            Err(_) => Err(BackendError::TimedOut(limit)),
            Ok(Err(error)) if error.is_connect() => Err(BackendError::Unreachable(error.without_url().to_string())),
            Ok(Err(error)) => Err(BackendError::Failed(error.without_url().to_string())),
            Ok(Ok((status, answer))) => read(status, answer, makes),
        }
    }
}

fn read(status: StatusCode, answer: Answer, makes: bool) -> Result<Done, BackendError> {
    let Answer { id, reason, detail } = answer;
    if status.is_success() {
        return match id {
            Some(id) if makes => Ok(Done { id: Some(id) }),
            Some(_) => Ok(Done::default()),
            None => Err(BackendError::Failed(format!("{status} without an id"))),
        };
    }
    let Some(reason) = reason else {
        // Docker itself, or a guard of before: it knows no such path and has done nothing.
        let told = format!("whoever answers knows no such operation ({status})");
        return Err(if status.is_client_error() { BackendError::Refused(told) } else { BackendError::Failed(told) });
    };
    let told = match detail {
        Some(detail) => format!("{detail} ({reason})"),
        None => reason.clone(),
    };
    Err(match (status.as_u16(), reason.as_str()) {
        (404, "no_such_container") => BackendError::NotFound,
        (400..500, _) => BackendError::Refused(told),
        _ => BackendError::Failed(told),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_whether_anything_was_done() {
        let read = |status: u16, body: &str, makes| {
            let answer = serde_json::from_str(body).unwrap_or_default();
            match read(StatusCode::from_u16(status).unwrap(), answer, makes) {
                Ok(done) => format!("done {:?}", done.id),
                Err(BackendError::Refused(why)) => format!("refused: {why}"),
                Err(BackendError::Failed(why)) => format!("unknown: {why}"),
                Err(other) => other.to_string(),
            }
        };
        assert_eq!(read(200, r#"{"Id":"a"}"#, true), r#"done Some("a")"#);
        assert_eq!(read(200, r#"{"Id":"a"}"#, false), "done None");
        assert!(read(200, "", true).starts_with("unknown"));
        let problem = |reason: &str| format!(r#"{{"reason":"{reason}","detail":"because"}}"#);
        assert_eq!(read(404, &problem("no_such_container"), true), "there is no such container");
        assert_eq!(read(409, &problem("rolled_back"), true), "refused: because (rolled_back)");
        assert_eq!(read(403, &problem("protected"), true), "refused: because (protected)");
        assert_eq!(read(504, &problem("daemon_timeout"), true), "unknown: because (daemon_timeout)");
        assert_eq!(read(503, &problem("busy"), true), "unknown: because (busy)");
        // Docker's own "page not found" says nothing about the container.
        assert!(read(404, r#"{"message":"page not found"}"#, true).starts_with("refused"));
        assert!(read(502, "<html>", true).starts_with("unknown"));
    }
}
