//! The step `webhook`: where it goes and what it says, fixed in the policy.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What may stand in a body in double braces.
const PLACEHOLDERS: [&str; 3] = ["incident", "alert", "target"];

/// One POST of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hook {
    /// Nothing of an alert ever gets into it.
    pub url: String,
    /// File with a bearer token, read at each call.
    pub token_file: Option<PathBuf>,
    /// `{{incident}}`, `{{alert}}` and `{{target}}` in its texts are replaced.
    pub body: Value,
}

impl Hook {
    /// From what a policy says.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn read(url: &str, token_file: Option<&str>, body: Option<&Value>) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        match reqwest::Url::parse(url) {
            Ok(parsed) if !matches!(parsed.scheme(), "http" | "https") => {
                faults.push("url must start with http:// or https://".to_owned());
            }
            Ok(parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
                faults.push("url must not carry a user or a password: use token_file".to_owned());
            }
            Ok(_) if url.contains("{{") => faults.push("url is fixed: it has no placeholders".to_owned()),
            Ok(_) => {}
            Err(error) => faults.push(format!("url: {error}")),
        }
        if token_file.is_some_and(|path| !path.starts_with('/')) {
            faults.push("token_file must be an absolute path".to_owned());
        }
        let body = body
            .cloned()
            .unwrap_or_else(|| json!({ "incident": "{{incident}}", "alert": "{{alert}}", "target": "{{target}}" }));
        unknown(&body, &mut faults);
        if faults.is_empty() {
            Ok(Self { url: url.to_owned(), token_file: token_file.map(PathBuf::from), body })
        } else {
            Err(faults)
        }
    }

    /// The body of a call. What is put in stays text within its text, whatever it contains.
    pub fn message(&self, incident: &str, alert: &str, target: &str) -> Value {
        fill(&self.body, &[("incident", incident), ("alert", alert), ("target", target)])
    }

    /// The address without what may be a secret in it.
    pub fn shown(&self) -> String {
        let end = self.url.find(['?', '#']).unwrap_or(self.url.len());
        self.url.get(..end).unwrap_or_default().to_owned()
    }
}

/// Text and placeholders, in turns: `a {{b}} c` → `a `, `b`, ` c`. An opening without an end is text.
fn parts(text: &str) -> Vec<(bool, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, behind)) = after.split_once("}}") else { break };
        found.push((false, before));
        found.push((true, name.trim()));
        rest = behind;
    }
    found.push((false, rest));
    found
}

fn unknown(body: &Value, faults: &mut Vec<String>) {
    match body {
        Value::String(text) => {
            let named = parts(text).into_iter().filter(|(placeholder, _)| *placeholder);
            for (_, name) in named.filter(|(_, name)| !PLACEHOLDERS.contains(name)) {
                faults.push(format!("{{{{{name}}}}} is not known in body; there are {}", PLACEHOLDERS.join(", ")));
            }
        }
        Value::Array(list) => list.iter().for_each(|v| unknown(v, faults)),
        Value::Object(map) => map.values().for_each(|v| unknown(v, faults)),
        _ => {}
    }
}

fn fill(body: &Value, values: &[(&str, &str)]) -> Value {
    match body {
        Value::String(text) => {
            let filled = parts(text).into_iter().map(|(placeholder, part)| {
                let value = values.iter().find(|(name, _)| placeholder && *name == part);
                value.map_or(part, |(_, value)| value)
            });
            Value::String(filled.collect())
        }
        Value::Array(list) => list.iter().map(|v| fill(v, values)).collect(),
        Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), fill(v, values))).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_alert_says_stays_text() {
        let body = json!({ "ref": "#{{incident}}", "what": ["{{ alert }} on {{target}}"], "urgent": true });
        let hook = Hook::read("https://tickets.example/new?key=k", None, Some(&body)).unwrap();
        let filled = hook.message("ab12", "\", \"urgent\": false, {{target}} {{incident", "p-api-1");
        assert_eq!(
            filled,
            json!({
                "ref": "#ab12",
                "what": ["\", \"urgent\": false, {{target}} {{incident on p-api-1"],
                "urgent": true,
            })
        );
        assert_eq!(hook.shown(), "https://tickets.example/new");
    }

    #[test]
    fn an_address_is_fixed_and_carries_no_secret() {
        let wrong = |url: &str| Hook::read(url, None, None).unwrap_err().join("; ");
        assert!(wrong("ftp://x/").contains("http://"));
        assert!(wrong("tickets").contains("url"));
        assert!(wrong("http://u:p@x/").contains("token_file"));
        assert!(wrong("http://x/{{target}}").contains("no placeholders"));
        let faults = Hook::read("http://x/", Some("token"), Some(&json!(["{{labels}}"]))).unwrap_err();
        assert_eq!(faults.len(), 2, "{faults:?}");
        let plain = Hook::read("http://x/", None, None).unwrap();
        assert_eq!(plain.message("i", "a", "t"), json!({ "incident": "i", "alert": "a", "target": "t" }));
    }
}
