//! The daemon's endpoints that an operation needs. Every path is made of ids that the
//! daemon itself gave, or of names that were held to its grammar.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    policy::{ApiVersion, ContainerId, Entry, PROJECT_LABEL, append},
    upstream::{Upstream, UpstreamError},
};

/// Looking something up takes the daemon milliseconds.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);
/// Creating, starting and removing take a busy daemon seconds.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);

/// The daemon, in one version of its API.
#[derive(Clone, Copy)]
pub struct Engine<'a> {
    /// The socket.
    pub upstream: &'a Upstream,
    /// The version.
    pub version: ApiVersion,
}

/// An image that is present.
#[derive(Clone, Debug, Deserialize)]
pub struct Image {
    /// With `sha256:`.
    #[serde(rename = "Id")]
    pub id: String,
    /// What containers have from it.
    #[serde(rename = "Config", default)]
    pub config: Value,
    #[serde(rename = "Metadata", default)]
    metadata: Value,
}

impl Image {
    /// When it last got a tag; RFC 3339 in one time zone, so that texts compare.
    pub fn tagged_at(&self) -> &str {
        self.metadata["LastTagTime"].as_str().unwrap_or_default()
    }
}

fn query(pairs: &[(&str, &str)]) -> String {
    let mut query = String::new();
    for (key, value) in pairs {
        append(&mut query, key, value);
    }
    query
}

impl Engine<'_> {
    fn path(&self, rest: &str) -> String {
        format!("/v{}{rest}", self.version)
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, rest: &str) -> Result<Option<T>, UpstreamError> {
        match self.upstream.json(&self.path(rest), LOOKUP_LIMIT).await {
            Ok(found) => Ok(Some(found)),
            Err(UpstreamError::Status { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends, and wants a success or 304, which says that it is so already.
    async fn change(
        &self,
        method: &str,
        rest: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<Value, UpstreamError> {
        let response = self.upstream.send_with(method, &self.path(rest), body, limit).await?;
        if !response.status().is_success() && response.status() != http::StatusCode::NOT_MODIFIED {
            return Err(Upstream::refusal(response, limit).await);
        }
        let answer = Upstream::whole(response, Upstream::MAX_JSON, limit).await?;
        Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }

    /// All that is known of a container, secrets included: not for anybody outside.
    pub async fn inspect(&self, id: &ContainerId) -> Result<Option<Value>, UpstreamError> {
        self.get(&format!("/containers/{id}/json")).await
    }

    /// Every container of a project, or of the whole host.
    pub async fn list(&self, project: Option<&str>) -> Result<Vec<Value>, UpstreamError> {
        let mut pairs = vec![("all", "1")];
        let filters = project.map(|p| serde_json::json!({"label": {format!("{PROJECT_LABEL}={p}"): true}}).to_string());
        pairs.extend(filters.as_deref().map(|f| ("filters", f)));
        Ok(self.get(&format!("/containers/json{}", query(&pairs))).await?.unwrap_or_default())
    }

    /// The same as entries, of one project.
    pub async fn entries(&self, project: &str) -> Result<Vec<Entry>, UpstreamError> {
        let own = |e: &Entry| e.container.project.as_deref() == Some(project);
        Ok(self.list(Some(project)).await?.iter().filter_map(Entry::read).filter(own).collect())
    }

    /// Creates a container.
    pub async fn create(&self, name: &str, body: &Value) -> Result<ContainerId, UpstreamError> {
        let rest = format!("/containers/create{}", query(&[("name", name)]));
        let answer = self.change("POST", &rest, Some(body), CHANGE_LIMIT).await?;
        let id = answer["Id"].as_str().and_then(ContainerId::parse);
        id.ok_or_else(|| UpstreamError::Unexpected("a created container without an id".to_owned()))
    }

    /// Connects a container to one more network.
    pub async fn connect(&self, network: &str, id: &ContainerId, settings: &Value) -> Result<(), UpstreamError> {
        let body = serde_json::json!({"Container": id.as_str(), "EndpointConfig": settings});
        self.change("POST", &format!("/networks/{network}/connect"), Some(&body), CHANGE_LIMIT).await.map(drop)
    }

    /// `seconds` as asked for, or the container's own setting, of which `expected` is how long it may take.
    pub async fn stop(&self, id: &ContainerId, seconds: Option<u32>, expected: u32) -> Result<(), UpstreamError> {
        let t = seconds.map(|s| query(&[("t", &s.to_string())])).unwrap_or_default();
        let limit = CHANGE_LIMIT + Duration::from_secs(expected.into());
        self.change("POST", &format!("/containers/{id}/stop{t}"), None, limit).await.map(drop)
    }

    /// Starts a container.
    pub async fn start(&self, id: &ContainerId) -> Result<(), UpstreamError> {
        self.change("POST", &format!("/containers/{id}/start"), None, CHANGE_LIMIT).await.map(drop)
    }

    /// Gives a container another name.
    pub async fn rename(&self, id: &ContainerId, name: &str) -> Result<(), UpstreamError> {
        let rest = format!("/containers/{id}/rename{}", query(&[("name", name)]));
        self.change("POST", &rest, None, CHANGE_LIMIT).await.map(drop)
    }

    /// With `volumes`, those without a name go too. That it is gone already is no failure.
    pub async fn remove(&self, id: &ContainerId, force: bool, volumes: bool) -> Result<(), UpstreamError> {
        let flag = |set: bool| if set { "1" } else { "0" };
        let rest = format!("/containers/{id}{}", query(&[("force", flag(force)), ("v", flag(volumes))]));
        match self.change("DELETE", &rest, None, CHANGE_LIMIT).await {
            Ok(_) | Err(UpstreamError::Status { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// An image by a name or id that was held to Docker's grammar; `None` if it is not present.
    pub async fn image(&self, name: &str) -> Result<Option<Image>, UpstreamError> {
        self.get(&format!("/images/{name}/json")).await
    }

    /// Names of images whose name and tag fit a pattern.
    pub async fn images(&self, pattern: &str) -> Result<Vec<String>, UpstreamError> {
        let filters = serde_json::json!({"reference": {pattern: true}}).to_string();
        let rest = format!("/images/json{}", query(&[("filters", &filters)]));
        let listed: Vec<Value> = self.get(&rest).await?.unwrap_or_default();
        let names = listed.iter().flat_map(|i| i["RepoTags"].as_array().into_iter().flatten());
        Ok(names.filter_map(Value::as_str).map(ToOwned::to_owned).collect())
    }

    /// Gives an image one more name.
    pub async fn tag(&self, id: &str, repository: &str, tag: &str) -> Result<(), UpstreamError> {
        let rest = format!("/images/{id}/tag{}", query(&[("repo", repository), ("tag", tag)]));
        self.change("POST", &rest, None, CHANGE_LIMIT).await.map(drop)
    }

    /// Takes a tag away; an image that has no other and is in use by no container goes with it.
    pub async fn untag(&self, name: &str) -> Result<(), UpstreamError> {
        self.change("DELETE", &format!("/images/{name}?noprune=1"), None, CHANGE_LIMIT).await.map(drop)
    }
}
