//! Commands that ask the running bot.

use std::{path::PathBuf, time::Duration};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use telemetry::config::{Secret, optional_secret};

use super::{Done, Failure, plain, print_json, table};
use crate::timestamp::Timestamp;

/// A bot that does not answer within this time is taken for dead.
const LIMIT: Duration = Duration::from_secs(10);

/// Where the running bot is, and how it knows the caller.
#[derive(clap::Args, Clone, Debug)]
pub struct Remote {
    /// The running bot.
    #[arg(long, env = "BOT_URL", default_value = "http://localhost:5000")]
    url: String,
    /// The operator's token.
    #[arg(long, env = "OPERATOR_TOKEN", hide_env_values = true)]
    operator_token: Option<Secret>,
    /// File with it.
    #[arg(long, env = "OPERATOR_TOKEN_FILE")]
    operator_token_file: Option<PathBuf>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Remote {
    async fn ask(
        &self,
        method: Method,
        path: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Value, Failure> {
        let token = optional_secret("OPERATOR_TOKEN", self.operator_token.as_ref(), self.operator_token_file.as_ref());
        let token = token.map_err(|e| Failure::wrong(format!("alert-bot: {e}")))?;
        let client = Client::builder().no_proxy().timeout(LIMIT).build().map_err(|e| Failure::Failed(e.to_string()))?;
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let request = with(client.request(method, url));
        let request = match &token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        let answer = request.send().await.map_err(|error| {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            let why = if error.is_timeout() { "no answer in time".to_owned() } else { cause.to_string() };
            Failure::Failed(format!("{} does not answer: {why}", self.url))
        })?;
        let status = answer.status();
        let body: Value = answer.json().await.unwrap_or_default();
        if status.is_success() {
            return Ok(body);
        }
        if status == reqwest::StatusCode::UNAUTHORIZED {
            let why = if token.is_some() {
                "the bot does not know this token".to_owned()
            } else {
                "the bot wants the operator's token: set OPERATOR_TOKEN or OPERATOR_TOKEN_FILE".to_owned()
            };
            return Err(Failure::Failed(why));
        }
        Err(Failure::Failed(problem(&body).unwrap_or_else(|| format!("{} answers {status}", self.url))))
    }

    /// One incident.
    pub(super) async fn incident(&self, id: &str) -> Done {
        let id: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
        let found = self.ask(Method::GET, &format!("/v1/incidents/{id}"), |r| r).await?;
        if self.json {
            print_json(&found);
            return Ok(());
        }
        println!("{} on {}: {}", text(&found, "alertname"), text(&found, "service"), state(&found));
        for (name, field) in [
            ("id", "id"),
            ("container", "target"),
            ("rule", "rule"),
            ("decision", "decision_text"),
            ("waits for", "waits_for"),
            ("burns since", "starts_at"),
            ("closed", "closed_at"),
        ] {
            if found[field].is_string() {
                println!("  {name:12} {}", text(&found, field));
            }
        }
        let rows: Vec<_> = found["timeline"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|e| {
                let reason = e["reason"].as_str().map(|r| format!(" [{r}]")).unwrap_or_default();
                vec![time(&e["at"]), text(e, "kind"), format!("{}{reason}", text(e, "text"))]
            })
            .collect();
        print!("{}", table(&rows));
        Ok(())
    }

    /// The list.
    pub(super) async fn incidents(&self, query: &[(&str, Option<String>)]) -> Done {
        let pairs: Vec<_> = query.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
        let found = self.ask(Method::GET, "/v1/incidents", |r| r.query(&pairs)).await?;
        if self.json {
            print_json(&found);
            return Ok(());
        }
        let list = found["incidents"].as_array().cloned().unwrap_or_default();
        if list.is_empty() {
            println!("no incidents");
            return Ok(());
        }
        let mut rows = vec![["OPENED", "ID", "ALERT", "SERVICE", "STATE", "WHY"].map(str::to_owned).to_vec()];
        rows.extend(list.iter().map(|i| {
            let why = if i["waits_for"].is_string() { text(i, "waits_for") } else { text(i, "decision_text") };
            vec![time(&i["opened_at"]), text(i, "id"), text(i, "alertname"), text(i, "service"), state(i), why]
        }));
        print!("{}", table(&rows));
        if found["next_cursor"].is_string() {
            println!("there are more: --limit, --state, --service or --since");
        }
        Ok(())
    }

    /// Nothing starts any more.
    pub(super) async fn freeze(&self, why: &str, period: Option<telemetry::config::Duration>, by: &str) -> Done {
        let until = period.map(|p| Timestamp::now().plus(*p));
        self.set_freeze(&json!({ "frozen": true, "why": why, "until": until, "by": by })).await
    }

    /// It may again.
    pub(super) async fn unfreeze(&self, by: &str) -> Done {
        self.set_freeze(&json!({ "frozen": false, "by": by })).await
    }

    async fn set_freeze(&self, order: &Value) -> Done {
        let now = self.ask(Method::PUT, "/v1/freeze", |r| r.json(order)).await?;
        if self.json {
            print_json(&now);
        } else if now["frozen"] == true {
            let until = now["until"].as_str().map_or("until somebody unfreezes".to_owned(), |t| format!("until {t}"));
            println!("frozen by {} {until}: {}", text(&now, "by"), text(&now, "why"));
        } else {
            println!("not frozen");
        }
        Ok(())
    }
}

impl Remote {
    /// What was done to a target so far does not count any more.
    pub(super) async fn release(&self, target: &str, reason: &str, global: bool, by: &str) -> Done {
        let path: String = form_urlencoded::byte_serialize(target.as_bytes()).collect();
        let order = json!({ "reason": reason, "global": global, "by": by });
        let done = self.ask(Method::POST, &format!("/v1/targets/{path}/release"), |r| r.json(&order)).await?;
        if self.json {
            print_json(&done);
            return Ok(());
        }
        let names: Vec<_> = done["targets"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let all = if global {
            format!(", {} towards the budget over all targets", done["global_actions"])
        } else {
            String::new()
        };
        println!(
            "{}: {} actions do not count any more{all}; the breaker is closed",
            plain(&names.join(", ")),
            done["actions"]
        );
        Ok(())
    }
}

/// What a problem says, in one line.
fn problem(body: &Value) -> Option<String> {
    let title = body["title"].as_str()?;
    let detail = body["detail"].as_str().map(|d| format!(": {d}")).unwrap_or_default();
    let fields = body["errors"].as_array().into_iter().flatten();
    let fields: Vec<_> = fields
        .map(|e| format!("{} {}", e["field"].as_str().unwrap_or("?"), e["detail"].as_str().unwrap_or("?")))
        .collect();
    let fields = if fields.is_empty() { String::new() } else { format!(": {}", fields.join("; ")) };
    Some(plain(&format!("{title}{detail}{fields}")))
}

fn text(of: &Value, field: &str) -> String {
    of[field].as_str().map_or_else(|| "-".to_owned(), plain)
}

fn state(incident: &Value) -> String {
    let shown = incident["outcome"].as_str().or(incident["state"].as_str()).unwrap_or("-");
    shown.replace('_', " ")
}

/// To the second: a terminal is narrow.
fn time(at: &Value) -> String {
    at.as_str().and_then(|t| t.get(..19)).unwrap_or("-").replace('T', " ")
}
