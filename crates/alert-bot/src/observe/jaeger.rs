//! Who calls whom, where Jaeger keeps the traces.

use std::time::Duration;

use reqwest::Client;
use serde::Deserialize;

use super::prometheus::reason;
use crate::timestamp::Timestamp;

/// It looks through everything that it keeps.
const LIMIT: Duration = Duration::from_secs(10);

/// A client of Jaeger's query API.
#[derive(Clone)]
pub struct Jaeger {
    client: Client,
    base: String,
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Vec<Link>>,
}

#[derive(Deserialize)]
struct Link {
    parent: String,
    child: String,
}

impl Jaeger {
    /// `base` without a trailing slash, with the path that it is served under: `http://jaeger:16686/jaeger`.
    ///
    /// # Errors
    /// The HTTP client could not be built.
    pub fn new(base: &str) -> Result<Self, reqwest::Error> {
        Ok(Self { client: super::quiet_client(LIMIT)?, base: base.trim_end_matches('/').to_owned() })
    }

    /// Who called whom within `window`, as (caller, called).
    ///
    /// # Errors
    /// There was no answer, or none of the expected shape.
    pub async fn calls(&self, window: Duration) -> Result<Vec<(String, String)>, String> {
        let query = [("endTs", Timestamp::now().millis().to_string()), ("lookback", window.as_millis().to_string())];
        let request = self.client.get(format!("{}/api/dependencies", self.base)).query(&query);
        let answer = request.send().await.map_err(reason)?;
        if !answer.status().is_success() {
            return Err(format!("answers {}", answer.status()));
        }
        calls(&answer.bytes().await.map_err(reason)?)
    }
}

fn calls(body: &[u8]) -> Result<Vec<(String, String)>, String> {
    let answer: Answer = serde_json::from_slice(body).map_err(|e| format!("answered in an unknown shape: {e}"))?;
    Ok(answer.data.unwrap_or_default().into_iter().map(|link| (link.parent, link.child)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_callers_and_called() {
        // As Jaeger 1.64 answers.
        let body = br#"{"data":[{"parent":"telemetry-generator","child":"esg-ledger","callCount":12}],"total":0,"limit":0,"offset":0,"errors":null}"#;
        assert_eq!(calls(body).unwrap(), [("telemetry-generator".to_owned(), "esg-ledger".to_owned())]);
        assert!(calls(br#"{"data":null,"errors":[{"code":500,"msg":"x"}]}"#).unwrap().is_empty());
        for wrong in [&b"<html>"[..], br#"{"data":[{"parent":1}]}"#, br#"{"data":{}}"#] {
            assert!(calls(wrong).is_err());
        }
    }
}
