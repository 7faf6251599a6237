//! What a new container is to be, read off one that exists.
//!
//! A container is copied whole, from what the daemon says of it, so that the copy has no
//! right that the original lacks. Changed is only what cannot be shared or would be wrong.

use serde_json::{Map, Value, json};

use super::{
    decide::is_reference,
    facts::{Container, ContainerId, NAME_LABEL, REPLACES_LABEL, REPLICA_OF_LABEL, is_lower_hex},
    reason::Reason,
    repair::{Entry, NUMBER_LABEL},
};

const IMAGE_LABEL: &str = "com.docker.compose.image";
/// Compose's own mark of something unfinished.
const REPLACE_LABEL: &str = "com.docker.compose.replace";

/// With these a process can get out of its container.
const HOST_CAPABILITIES: [&str; 7] =
    ["ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "DAC_READ_SEARCH", "BPF"];

/// With these directories of the host as well.
const HOST_PATHS: [&str; 12] =
    ["/", "/boot", "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/var", "/var/lib", "/var/lib/docker", "/var/run"];

/// What the new container is for.
#[derive(Clone, Copy, Debug)]
pub enum Make<'a> {
    /// To take the place of the one that was inspected.
    Replacement {
        /// The image, by name or id.
        image: &'a str,
        /// Where it is another image: its id, and the configuration of the present one, whose
        /// settings do not belong to the container.
        other: Option<(&'a str, &'a Value)>,
    },
    /// To run beside it.
    Replica {
        /// The image, by name or id.
        image: &'a str,
        /// Compose's number of it within the service.
        number: u32,
    },
}

/// A container to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Blueprint {
    /// Its name when all is done.
    pub name: String,
    /// Its name when it is created.
    pub first_name: String,
    /// The name that the old one has while the new one is started.
    pub aside: String,
    /// Body of the request that creates it.
    pub body: Value,
    /// Networks that it is connected to after that, each with its settings there.
    pub connect: Vec<(String, Value)>,
}

/// Why there is to be none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub reason: Reason,
    /// What exactly.
    pub detail: String,
}

fn refusal(reason: Reason, detail: impl Into<String>) -> Refusal {
    Refusal { reason, detail: detail.into() }
}

/// The number for a further replica beside all that there is of a project.
///
/// # Errors
/// There are enough.
pub fn next_number(entries: &[Entry], original: &Container, max_replicas: u32) -> Result<u32, Refusal> {
    let same =
        |e: &&Entry| e.container.project == original.project && e.container.service_key() == original.service_key();
    let replicas = entries.iter().filter(same).filter(|e| e.container.replica_of.is_some()).count();
    if u32::try_from(replicas).unwrap_or(u32::MAX) >= max_replicas {
        return Err(refusal(Reason::TooManyReplicas, format!("{replicas} of {max_replicas}")));
    }
    Ok(entries.iter().filter(same).map(|e| e.number).max().unwrap_or(1).saturating_add(1))
}

/// Draws a container from the daemon's whole answer about an existing one.
///
/// # Errors
/// Why no such container is made.
pub fn blueprint(inspect: &Value, make: &Make<'_>) -> Result<Blueprint, Refusal> {
    let unusable = || refusal(Reason::NotRecreatable, "what the daemon says of it is incomplete");
    let id = inspect["Id"].as_str().and_then(ContainerId::parse).ok_or_else(unusable)?;
    let name = inspect["Name"].as_str().map(|n| n.trim_start_matches('/')).filter(|n| is_reference(n));
    let name = name.ok_or_else(unusable)?;
    let mut config = inspect["Config"].as_object().cloned().ok_or_else(unusable)?;
    let mut host = inspect["HostConfig"].as_object().cloned().ok_or_else(unusable)?;
    let mode = text(&host, "NetworkMode").to_owned();

    no_rights_over_the_host(&host, &mode)?;
    if host.get("AutoRemove") == Some(&Value::Bool(true)) {
        return Err(refusal(Reason::NotRecreatable, "Docker removes it when it stops (--rm)"));
    }

    // Docker's default, and what it shows of the container whose network is shared.
    if text(&config, "Hostname") == id.short() || mode.starts_with("container:") {
        config.remove("Hostname");
        config.remove("Domainname");
    }
    host.remove("ContainerIDFile");
    links(&mut host)?;
    let (final_name, image) = match make {
        Make::Replacement { image, other } => {
            if let Some((_, defaults)) = other {
                without_defaults(&mut config, defaults);
            }
            keep_volumes(inspect, &mut host);
            (name.to_owned(), *image)
        }
        Make::Replica { image, number } => {
            shares_no_writable_storage(inspect, &host)?;
            if mode.starts_with("container:") {
                return Err(refusal(Reason::NotReplicable, "it lives in the network of another container"));
            }
            host.insert("PortBindings".to_owned(), json!({}));
            host.insert("PublishAllPorts".to_owned(), Value::Bool(false));
            config.remove("MacAddress");
            (numbered(name, &config, *number), *image)
        }
    };
    config.insert("Image".to_owned(), image.into());
    mark(&mut config, make, &id, name);

    let endpoints = endpoints(inspect, make, &id, name, &mode)?;
    let mut endpoints = endpoints.into_iter();
    let mut body = config;
    if let Some((_, key, settings)) = endpoints.next() {
        body.insert("NetworkingConfig".to_owned(), json!({"EndpointsConfig": {key: settings}}));
    }
    body.insert("HostConfig".to_owned(), Value::Object(host));
    let first_name = match make {
        Make::Replacement { .. } => format!("{name}.new-{}", id.short()),
        Make::Replica { .. } => final_name.clone(),
    };
    Ok(Blueprint {
        first_name,
        aside: format!("{name}.old-{}", id.short()),
        name: final_name,
        body: Value::Object(body),
        connect: endpoints.map(|(network, _, settings)| (network, settings)).collect(),
    })
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(object: &'a Map<String, Value>, key: &str) -> &'a [Value] {
    object.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Nothing is made here that could reach out of its container, not even a copy.
fn no_rights_over_the_host(host: &Map<String, Value>, mode: &str) -> Result<(), Refusal> {
    let too = |what: &str| Err(refusal(Reason::TooPrivileged, what));
    if host.get("Privileged") == Some(&Value::Bool(true)) {
        return too("it is privileged");
    }
    for (key, what) in [
        ("PidMode", "it sees the processes of the host"),
        ("IpcMode", "it shares memory with the host"),
        ("UTSMode", "it shares the host's name"),
        ("UsernsMode", "it has the host's users"),
    ] {
        if text(host, key) == "host" {
            return too(what);
        }
    }
    if mode == "host" {
        return too("it is in the host's network");
    }
    if !list(host, "Devices").is_empty() || !list(host, "DeviceRequests").is_empty() {
        return too("it has devices of the host");
    }
    let powerful = |c: &&str| HOST_CAPABILITIES.contains(&c.trim_start_matches("CAP_").to_ascii_uppercase().as_str());
    if let Some(capability) = list(host, "CapAdd").iter().filter_map(Value::as_str).find(powerful) {
        return too(&format!("it has the capability {capability}"));
    }
    if list(host, "SecurityOpt").iter().filter_map(Value::as_str).any(|o| o.contains("unconfined")) {
        return too("it is not confined");
    }
    let mounted = list(host, "Mounts").iter().filter(|m| m["Type"] == "bind").filter_map(|m| m["Source"].as_str());
    let bound = list(host, "Binds").iter().filter_map(Value::as_str).filter_map(|b| b.split(':').next());
    for source in mounted.chain(bound).filter(|s| s.starts_with('/')) {
        let source = if source.len() > 1 { source.trim_end_matches('/') } else { source };
        let runs_docker = source.ends_with(".sock") || source.starts_with("/var/lib/docker/");
        if HOST_PATHS.contains(&source) || runs_docker || source.split('/').any(|part| part == "..") {
            return too(&format!("it mounts {source} of the host"));
        }
    }
    Ok(())
}

/// Docker shows links as `/OTHER:/SELF/ALIAS` and takes them as `OTHER:ALIAS`.
fn links(host: &mut Map<String, Value>) -> Result<(), Refusal> {
    let Some(Value::Array(links)) = host.get_mut("Links") else { return Ok(()) };
    for link in links {
        let plain = link.as_str().and_then(|l| {
            let (other, alias) = l.split_once(':')?;
            Some(format!("{}:{}", other.trim_start_matches('/'), alias.rsplit('/').next()?))
        });
        *link = plain.ok_or_else(|| refusal(Reason::NotRecreatable, "it has a link in an unknown form"))?.into();
    }
    Ok(())
}

/// Where something is mounted by the container's own settings, with its source.
fn named_mounts(host: &Map<String, Value>) -> Vec<String> {
    let mounts = list(host, "Mounts").iter();
    let mounts = mounts.filter(|m| m["Type"] != "volume" || !m["Source"].as_str().unwrap_or_default().is_empty());
    let mounts = mounts.filter_map(|m| m["Target"].as_str());
    let binds = list(host, "Binds").iter().filter_map(Value::as_str).filter_map(|b| b.split(':').nth(1));
    mounts.chain(binds).map(|target| target.trim_end_matches('/').to_owned()).collect()
}

/// Volumes without a name belong to the place, not to the container: the new one goes on with them.
fn keep_volumes(inspect: &Value, host: &mut Map<String, Value>) {
    let named = named_mounts(host);
    for volume in inspect["Mounts"].as_array().into_iter().flatten().filter(|m| m["Type"] == "volume") {
        let (Some(source), Some(target)) = (volume["Name"].as_str(), volume["Destination"].as_str()) else { continue };
        if named.iter().any(|n| n == target.trim_end_matches('/')) {
            continue;
        }
        let unnamed = |m: &&mut Value| m["Type"] == "volume" && m["Target"] == *target;
        if let Some(mount) =
            host.get_mut("Mounts").and_then(Value::as_array_mut).and_then(|m| m.iter_mut().find(unnamed))
        {
            mount["Source"] = source.into();
            continue;
        }
        let access = if volume["RW"] == Value::Bool(false) { "ro" } else { "rw" };
        let bind = Value::String(format!("{source}:{target}:{access}"));
        match host.get_mut("Binds") {
            Some(Value::Array(binds)) => binds.push(bind),
            _ => {
                host.insert("Binds".to_owned(), json!([bind]));
            }
        }
    }
}

/// Two that write to one place would spoil each other's data: two databases on one directory.
fn shares_no_writable_storage(inspect: &Value, host: &Map<String, Value>) -> Result<(), Refusal> {
    let named = named_mounts(host);
    for mount in inspect["Mounts"].as_array().into_iter().flatten() {
        let target = mount["Destination"].as_str().unwrap_or_default();
        let shared = match mount["Type"].as_str() {
            Some("tmpfs") => false,
            // One without a name the replica gets for itself.
            Some("volume") => named.iter().any(|n| n == target.trim_end_matches('/')),
            _ => true,
        };
        if shared && mount["RW"] != Value::Bool(false) {
            return Err(refusal(Reason::NotReplicable, format!("it writes to {target}, which a copy would share")));
        }
    }
    if !list(host, "VolumesFrom").is_empty() {
        return Err(refusal(Reason::NotReplicable, "it has the volumes of another container"));
    }
    Ok(())
}

/// `stack-web-1` becomes `stack-web-3`, `web` becomes `web-3`.
fn numbered(name: &str, config: &Map<String, Value>, number: u32) -> String {
    let present = config.get("Labels").and_then(|l| l[NUMBER_LABEL].as_str());
    let stem = present.and_then(|present| name.strip_suffix(present)).filter(|stem| stem.ends_with(['-', '_']));
    stem.map_or_else(|| format!("{name}-{number}"), |stem| format!("{stem}{number}"))
}

fn mark(config: &mut Map<String, Value>, make: &Make<'_>, id: &ContainerId, name: &str) {
    let mut labels = config.get("Labels").and_then(Value::as_object).cloned().unwrap_or_default();
    for stale in [REPLACE_LABEL, REPLACES_LABEL, NAME_LABEL] {
        labels.remove(stale);
    }
    match make {
        Make::Replacement { other, .. } => {
            labels.insert(REPLACES_LABEL.to_owned(), id.as_str().into());
            labels.insert(NAME_LABEL.to_owned(), name.into());
            // What compose compares, to see that this is not what its file asks for.
            if let (Some((image_id, _)), Some(label)) = (other, labels.get_mut(IMAGE_LABEL)) {
                *label = (*image_id).into();
            }
        }
        Make::Replica { number, .. } => {
            labels.insert(REPLICA_OF_LABEL.to_owned(), id.as_str().into());
            labels.insert(NUMBER_LABEL.to_owned(), number.to_string().into());
        }
    }
    config.insert("Labels".to_owned(), Value::Object(labels));
}

/// Settings in the networks, that of the container's mode first, each with its id and its name.
fn endpoints(
    inspect: &Value,
    make: &Make<'_>,
    id: &ContainerId,
    name: &str,
    mode: &str,
) -> Result<Vec<(String, String, Value)>, Refusal> {
    if mode == "none" || mode.starts_with("container:") {
        return Ok(Vec::new());
    }
    let mode = if mode.is_empty() || mode == "default" { "bridge" } else { mode };
    let networks = inspect["NetworkSettings"]["Networks"].as_object();
    let mut found = Vec::new();
    for (key, settings) in networks.into_iter().flatten() {
        let network = settings["NetworkID"].as_str().filter(|n| n.len() == 64 && is_lower_hex(n)).unwrap_or(key);
        if !is_reference(network) {
            return Err(refusal(Reason::NotRecreatable, "it is in a network whose name cannot be used"));
        }
        let first = key == mode || network == mode;
        // Docker's own bridge knows no names, and is joined without being asked to.
        if first && key == "bridge" {
            continue;
        }
        let mut settings = endpoint(settings, make, id, name);
        if let (true, Some(settings)) = (key == "bridge", settings.as_object_mut()) {
            settings.remove("Aliases");
        }
        let entry = (network.to_owned(), key.clone(), settings);
        if first { found.insert(0, entry) } else { found.push(entry) }
    }
    // If the first were another than the mode's, Docker would join one network too many.
    let joins_first = found.first().is_none_or(|(network, key, _)| key == mode || network == mode);
    if !joins_first && mode != "bridge" {
        return Err(refusal(Reason::NotRecreatable, format!("it has left its network {mode}")));
    }
    Ok(found)
}

fn endpoint(settings: &Value, make: &Make<'_>, id: &ContainerId, name: &str) -> Value {
    let replica = matches!(make, Make::Replica { .. });
    let mut kept = Map::new();
    for key in ["IPAMConfig", "Links", "DriverOpts", "GwPriority"] {
        let value = &settings[key];
        // An address can be had by one only.
        let once = replica && key == "IPAMConfig";
        if !value.is_null() && !once {
            kept.insert(key.to_owned(), value.clone());
        }
    }
    // Shared on purpose: a service's name then leads to each of its containers in turn.
    let own = |alias: &&Value| {
        let alias = alias.as_str().unwrap_or_default();
        alias != id.short() && !(replica && alias == name)
    };
    if let Some(aliases) = settings["Aliases"].as_array() {
        kept.insert("Aliases".to_owned(), aliases.iter().filter(own).cloned().collect());
    }
    Value::Object(kept)
}

/// Takes out what the container has from its image: from another image it gets that one's.
fn without_defaults(config: &mut Map<String, Value>, image: &Value) {
    let same = |config: &Map<String, Value>, key: &str| config.get(key).unwrap_or(&Value::Null) == &image[key];
    // A command belongs to its entry point.
    if same(config, "Entrypoint") {
        config.remove("Entrypoint");
        if same(config, "Cmd") {
            config.remove("Cmd");
        }
    }
    for key in ["WorkingDir", "User", "StopSignal", "Healthcheck", "Shell", "OnBuild"] {
        if same(config, key) {
            config.remove(key);
        }
    }
    if let (Some(Value::Array(env)), Some(defaults)) = (config.get_mut("Env"), image["Env"].as_array()) {
        env.retain(|entry| !defaults.contains(entry));
    }
    for key in ["Labels", "Volumes", "ExposedPorts"] {
        if let (Some(Value::Object(own)), Some(defaults)) = (config.get_mut(key), image[key].as_object()) {
            own.retain(|name, value| defaults.get(name) != Some(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Engine 20.10 tells of a compose container in two networks.
    fn web() -> Value {
        json!({
            "Id": "ab".repeat(32),
            "Name": "/stack-web-1",
            "Image": format!("sha256:{}", "11".repeat(32)),
            "Config": {
                "Hostname": "abababababab",
                "Env": ["PATH=/bin", "PASSWORD=hunter2"],
                "Cmd": ["serve"],
                "Entrypoint": ["/app"],
                "Image": "x/web:2",
                "WorkingDir": "/",
                "MacAddress": "02:00:00:00:00:01",
                "Labels": {
                    "com.docker.compose.project": "stack",
                    "com.docker.compose.service": "web",
                    NUMBER_LABEL: "1",
                    IMAGE_LABEL: "sha256:old",
                    REPLACES_LABEL: "cd".repeat(32),
                    "of.the.image": "2",
                },
            },
            "HostConfig": {
                "NetworkMode": "stack_app",
                "Binds": ["secrets:/run/secrets:ro"],
                "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000"}]},
                "PublishAllPorts": false,
                "Memory": 1000,
                "ContainerIDFile": "",
                "Links": ["/stack-db-1:/stack-web-1/db"],
            },
            "Mounts": [
                {"Type": "volume", "Name": "secrets", "Destination": "/run/secrets", "RW": false},
                {"Type": "volume", "Name": "0f".repeat(32), "Destination": "/cache", "RW": true},
            ],
            "NetworkSettings": {"Networks": {
                "stack_data": {"NetworkID": "da".repeat(32), "Aliases": ["web"], "IPAMConfig": null},
                "stack_app": {
                    "NetworkID": "aa".repeat(32), "IPAddress": "10.0.0.9", "MacAddress": "02:42:00:00:00:01",
                    "Aliases": ["stack-web-1", "web", "abababababab"],
                    "IPAMConfig": {"IPv4Address": "10.0.0.9"}, "DriverOpts": null,
                },
            }},
        })
    }

    const SAME: Make<'_> = Make::Replacement { image: "x/web:2", other: None };
    const REPLICA: Make<'_> = Make::Replica { image: "x/web:2", number: 3 };

    #[test]
    fn a_replacement_is_a_whole_copy() {
        insta::assert_json_snapshot!(serde_json::to_value(blueprint(&web(), &SAME).map(shown).unwrap()).unwrap());
    }

    #[test]
    fn a_replica_takes_nothing_that_there_is_once() {
        insta::assert_json_snapshot!(serde_json::to_value(blueprint(&web(), &REPLICA).map(shown).unwrap()).unwrap());
    }

    fn shown(b: Blueprint) -> Value {
        json!({"name": b.name, "first_name": b.first_name, "aside": b.aside, "body": b.body, "connect": b.connect})
    }

    #[test]
    fn another_image_brings_its_own_settings() {
        let present = json!({
            "Env": ["PATH=/bin"], "Entrypoint": ["/app"], "Cmd": ["other"], "WorkingDir": "/",
            "Labels": {"of.the.image": "2"},
        });
        let make = Make::Replacement { image: "x/web:1", other: Some(("sha256:one", &present)) };
        let body = blueprint(&web(), &make).unwrap().body;
        assert_eq!(body["Env"], json!(["PASSWORD=hunter2"]));
        assert_eq!(body["Cmd"], json!(["serve"]), "the container's own");
        assert_eq!((body.get("Entrypoint"), body.get("WorkingDir")), (None, None));
        assert_eq!(body["Labels"].get("of.the.image"), None);
        assert_eq!((&body["Image"], &body["Labels"][IMAGE_LABEL]), (&json!("x/web:1"), &json!("sha256:one")));
    }

    #[test]
    fn names_count_on() {
        let labels = |n: &str| json!({"Labels": {NUMBER_LABEL: n}}).as_object().unwrap().clone();
        assert_eq!(numbered("stack-web-1", &labels("1"), 2), "stack-web-2");
        assert_eq!(numbered("stack_web_12", &labels("12"), 13), "stack_web_13");
        assert_eq!(numbered("web", &labels("1"), 2), "web-2");
        assert_eq!(numbered("web1", &labels("1"), 2), "web1-2");
        assert_eq!(numbered("web", &Map::new(), 2), "web-2");
    }

    #[test]
    fn there_are_only_so_many_replicas() {
        let entry = |digit: char, service: &str, number: &str, replica: bool| {
            let mut labels = json!({
                "com.docker.compose.project": "stack", "com.docker.compose.service": service, NUMBER_LABEL: number,
            });
            if replica {
                labels[REPLICA_OF_LABEL] = "a".repeat(64).into();
            }
            let id = digit.to_string().repeat(64);
            Entry::read(&json!({"Id": id, "Names": ["/x"], "State": "running", "Labels": labels})).unwrap()
        };
        let mut all = vec![entry('a', "web", "1", false), entry('b', "db", "9", true)];
        let original = all[0].container.clone();
        assert_eq!(next_number(&all, &original, 2), Ok(2));
        all.push(entry('c', "web", "2", true));
        assert_eq!(next_number(&all, &original, 2), Ok(3));
        all.push(entry('d', "web", "5", true));
        assert_eq!(next_number(&all, &original, 2).unwrap_err().reason, Reason::TooManyReplicas);
        assert_eq!(next_number(&all, &original, 3), Ok(6));
        assert_eq!(next_number(&[], &original, 1), Ok(2));
    }

    #[test]
    fn what_has_rights_over_the_host_is_not_made() {
        let with = |key: &str, value: Value| {
            let mut web = web();
            web["HostConfig"][key] = value;
            [SAME, REPLICA].map(|make| blueprint(&web, &make).err().map(|r| r.reason))
        };
        for (key, value) in [
            ("Privileged", json!(true)),
            ("PidMode", json!("host")),
            ("IpcMode", json!("host")),
            ("UTSMode", json!("host")),
            ("UsernsMode", json!("host")),
            ("NetworkMode", json!("host")),
            ("Devices", json!([{"PathOnHost": "/dev/sda"}])),
            ("DeviceRequests", json!([{"Driver": "nvidia"}])),
            ("CapAdd", json!(["NET_BIND_SERVICE", "CAP_SYS_ADMIN"])),
            ("SecurityOpt", json!(["seccomp=unconfined"])),
            ("Binds", json!(["/:/host:ro"])),
            ("Binds", json!(["/var/run/docker.sock:/var/run/docker.sock"])),
            ("Binds", json!(["/srv/../etc:/x"])),
            ("Mounts", json!([{"Type": "bind", "Source": "/etc/", "Target": "/x"}])),
        ] {
            assert_eq!(with(key, value.clone()), [Some(Reason::TooPrivileged); 2], "{key} {value}");
        }
        assert_eq!(with("Binds", json!(["/srv/conf:/etc/conf:ro", "data:/data:ro"])), [None, None]);
        assert_eq!(with("CapAdd", json!(["CHOWN"])), [None, None]);
        assert_eq!(with("AutoRemove", json!(true)), [Some(Reason::NotRecreatable); 2]);
    }

    #[test]
    fn what_writes_to_shared_storage_is_replaced_and_not_multiplied() {
        let with = |mount: Value| {
            let mut web = web();
            web["Mounts"].as_array_mut().unwrap().push(mount);
            web["HostConfig"]["Mounts"] = json!([{"Type": "volume", "Source": "data", "Target": "/data/"}]);
            [SAME, REPLICA].map(|make| blueprint(&web, &make).err().map(|r| r.reason))
        };
        let refused = [None, Some(Reason::NotReplicable)];
        assert_eq!(with(json!({"Type": "volume", "Name": "data", "Destination": "/data", "RW": true})), refused);
        assert_eq!(with(json!({"Type": "bind", "Source": "/srv/x", "Destination": "/x", "RW": true})), refused);
        assert_eq!(with(json!({"Type": "tmpfs", "Destination": "/x", "RW": true})), [None, None]);
        assert_eq!(with(json!({"Type": "bind", "Source": "/srv/x", "Destination": "/x", "RW": false})), [None, None]);
    }

    #[test]
    fn volumes_without_a_name_are_kept_by_their_id() {
        let mut web = web();
        let id = "ee".repeat(32);
        web["HostConfig"]["Mounts"] = json!([{"Type": "volume", "Target": "/m"}]);
        web["Mounts"] = json!([{"Type": "volume", "Name": id, "Destination": "/m", "RW": true}]);
        let body = blueprint(&web, &SAME).unwrap().body;
        assert_eq!(body["HostConfig"]["Mounts"][0]["Source"], json!(id));
        let replica = blueprint(&web, &REPLICA).unwrap().body;
        assert_eq!(replica["HostConfig"]["Mounts"][0].get("Source"), None);
    }

    #[test]
    fn networks_of_all_kinds() {
        let with = |mode: &str, networks: Value| {
            let mut web = web();
            web["HostConfig"]["NetworkMode"] = mode.into();
            web["NetworkSettings"]["Networks"] = networks;
            blueprint(&web, &SAME)
        };
        let bridge = with("default", json!({"bridge": {"NetworkID": "bb".repeat(32), "Aliases": null}})).unwrap();
        assert_eq!((bridge.body.get("NetworkingConfig"), bridge.connect.len()), (None, 0));
        let other = with("none", json!({"none": {}})).unwrap();
        assert_eq!((other.body.get("NetworkingConfig"), other.connect.len()), (None, 0));
        let shared = with(&format!("container:{}", "cd".repeat(32)), json!({})).unwrap();
        assert_eq!(shared.body.get("Hostname"), None);
        let left = with("stack_app", json!({"stack_data": {"NetworkID": "da".repeat(32)}}));
        assert_eq!(left.unwrap_err().reason, Reason::NotRecreatable);
        assert_eq!(with("x", json!({"../x": {}})).unwrap_err().reason, Reason::NotRecreatable);
    }
}
