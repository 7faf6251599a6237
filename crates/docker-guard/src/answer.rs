//! What becomes of the daemon's answers: pure transformations.

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};

use crate::policy::{self, Entry, PROJECT_LABEL, VersionRange};

/// What stands where a value was.
pub const REDACTED: &str = "(redacted)";

/// Keeps the names of environment variables and drops their values.
pub fn inspect(mut container: Value) -> Option<Value> {
    let config = container.get_mut("Config")?.as_object_mut()?;
    if let Some(Value::Array(env)) = config.get_mut("Env") {
        for entry in env {
            let name = entry.as_str().and_then(|e| e.split_once('=')).map_or("", |(name, _)| name);
            *entry = Value::String(format!("{name}={REDACTED}"));
        }
    } else {
        // A form that this version does not know is not passed on.
        config.remove("Env");
    }
    Some(container)
}

/// Keeps the entries of a list that carry the project's label. The daemon was
/// asked for these only; this holds even if it did not understand.
pub fn of_project(list: Value, project: &str) -> Option<Value> {
    let Value::Array(list) = list else { return None };
    let own =
        |entry: &Value| entry.get("Labels").and_then(|l| l.get(PROJECT_LABEL)).and_then(Value::as_str) == Some(project);
    Some(Value::Array(list.into_iter().filter(own).collect()))
}

/// The containers of a list that carry the project's label, without those that are only
/// half made or about to go: a service that is being made anew is there once.
pub fn containers(list: Value, project: &str) -> Option<Value> {
    let Value::Array(mut list) = of_project(list, project)? else { return None };
    let entries: Vec<_> = list.iter().filter_map(Entry::read).collect();
    let hidden = policy::hidden(&entries);
    if !hidden.is_empty() {
        let shown = |c: &Value| !hidden.iter().any(|id| c.get("Id").and_then(Value::as_str) == Some(id.as_str()));
        list.retain(shown);
    }
    Some(Value::Array(list))
}

/// The fields of `/version` that clients use, with the API versions that the guard speaks.
pub fn version(version: &Value, range: VersionRange) -> Option<Value> {
    let version = version.as_object()?;
    let mut kept: Map<String, Value> = ["Platform", "Version", "Os", "Arch"]
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), version.get(*key)?.clone())))
        .collect();
    kept.insert("ApiVersion".to_owned(), range.max.to_string().into());
    kept.insert("MinAPIVersion".to_owned(), range.min.to_string().into());
    Some(Value::Object(kept))
}

/// Lets through the events that belong to a project's containers.
#[derive(Debug)]
pub struct EventFilter {
    project: String,
    partial: BytesMut,
}

impl EventFilter {
    /// An event is a few kilobytes: its container's labels.
    const MAX_EVENT: usize = 1024 * 1024;

    /// For one stream.
    pub fn new(project: String) -> Self {
        Self { project, partial: BytesMut::new() }
    }

    /// Takes what came and gives the whole events in it that may pass, one a line.
    /// `None`: this is not a stream of events, and must end.
    pub fn push(&mut self, data: &[u8]) -> Option<Bytes> {
        self.partial.extend_from_slice(data);
        let mut passed = BytesMut::new();
        while let Some(end) = self.partial.iter().position(|b| *b == b'\n') {
            let line = self.partial.split_to(end + 1);
            if self.is_own(&line) {
                passed.extend_from_slice(&line);
            }
        }
        (self.partial.len() <= Self::MAX_EVENT).then(|| passed.freeze())
    }

    fn is_own(&self, line: &[u8]) -> bool {
        let Ok(event) = serde_json::from_slice::<Value>(line) else { return false };
        let project = event.get("Actor").and_then(|a| a.get("Attributes")).and_then(|a| a.get(PROJECT_LABEL));
        event.get("Type").and_then(Value::as_str) == Some("container")
            && project.and_then(Value::as_str) == Some(&self.project)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::ApiVersion;

    #[test]
    fn inspect_keeps_names_and_drops_values() {
        let seen = inspect(json!({"Id": "x", "Config": {
            "Env": ["PATH=/bin", "PASSWORD=a=b", "EMPTY=", "bare-secret", 7],
            "Labels": {"a": "b"},
        }}))
        .unwrap();
        assert_eq!(
            seen["Config"]["Env"],
            json!(["PATH=(redacted)", "PASSWORD=(redacted)", "EMPTY=(redacted)", "=(redacted)", "=(redacted)"])
        );
        assert_eq!(seen["Config"]["Labels"]["a"], "b");
        let odd = inspect(json!({"Config": {"Env": {"PASSWORD": "secret"}}})).unwrap();
        assert_eq!(odd, json!({"Config": {}}));
        assert_eq!(inspect(json!({"message": "what"})), None);
    }

    #[test]
    fn lists_keep_the_project_only() {
        let own = json!({"Id": "1", "Labels": {PROJECT_LABEL: "p"}});
        let list = json!([own, {"Id": "2", "Labels": {PROJECT_LABEL: "q"}}, {"Id": "3", "Labels": null}, {"Id": "4"}]);
        assert_eq!(of_project(list, "p"), Some(json!([own])));
        assert_eq!(of_project(json!({"message": "x"}), "p"), None);
    }

    #[test]
    fn version_tells_no_more_than_needed() {
        let range = VersionRange { min: ApiVersion(41), max: ApiVersion(50) };
        let told =
            version(&json!({"Version": "28.2", "ApiVersion": "1.99", "KernelVersion": "6.1", "Os": "linux"}), range);
        assert_eq!(
            told,
            Some(json!({"Version": "28.2", "Os": "linux", "ApiVersion": "1.50", "MinAPIVersion": "1.41"}))
        );
    }

    #[test]
    fn events_pass_whole_and_only_the_projects() {
        let event = |kind: &str, project: &str| {
            format!("{}\n", json!({"Type": kind, "Actor": {"Attributes": {PROJECT_LABEL: project}}}))
        };
        let (own, foreign, network) = (event("container", "p"), event("container", "q"), event("network", "p"));
        let all = format!("{own}{foreign}{network}garbage\n{own}");
        // Cut anywhere, the same comes out.
        for cut in 0..all.len() {
            let mut filter = EventFilter::new("p".to_owned());
            let mut out = filter.push(&all.as_bytes()[..cut]).unwrap().to_vec();
            out.extend_from_slice(&filter.push(&all.as_bytes()[cut..]).unwrap());
            assert_eq!(String::from_utf8(out).unwrap(), format!("{own}{own}"), "cut at {cut}");
        }
        let mut filter = EventFilter::new("p".to_owned());
        assert_eq!(filter.push(&vec![b'x'; EventFilter::MAX_EVENT + 1]), None);
    }
}
