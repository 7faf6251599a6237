//! Secrets: made once inside a volume, each file readable by the one uid that needs it.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rand::RngExt;

use crate::docker::docker;
use crate::exec;
use crate::site::Site;
use crate::stack::Stack;

/// A value, made at random or fixed, and every file that carries it.
struct Secret {
    value: Value,
    files: &'static [&'static str],
}

enum Value {
    /// Letters and digits, so that it fits into a URL, a header and a configuration file alike.
    Random(usize),
    /// Not secret until somebody puts their own into the file.
    Fixed(&'static str),
}

use Value::{Fixed, Random};

const SECRETS: &[Secret] = &[
    Secret { value: Random(32), files: &["postgres/superuser"] },
    Secret { value: Random(32), files: &["postgres/app", "transaction-api/db"] },
    Secret { value: Random(32), files: &["postgres/readonly"] },
    Secret { value: Random(32), files: &["postgres/exporter", "postgres-exporter/db", "alert-bot/db"] },
    Secret { value: Random(32), files: &["redis/password", "transaction-api/redis", "redis-exporter/password"] },
    Secret { value: Random(32), files: &["transaction-api/faults"] },
    Secret { value: Random(43), files: &["transaction-api/user-hash"] },
    Secret {
        value: Random(20),
        files: &["lake/access", "telemetry-generator/lake-access", "drift-inference/lake-access"],
    },
    Secret {
        value: Random(40),
        files: &["lake/secret", "telemetry-generator/lake-secret", "drift-inference/lake-secret"],
    },
    Secret { value: Random(32), files: &["telemetry-generator/operator", "alert-bot/machines"] },
    Secret { value: Random(43), files: &["esg-ledger/token", "telemetry-generator/ledger"] },
    Secret { value: Random(32), files: &["mosquitto/host", "telemetry-generator/mqtt"] },
    Secret { value: Random(32), files: &["mosquitto/edge", "edge-node/mqtt"] },
    Secret { value: Random(43), files: &["drift-inference/models", "alert-bot/models"] },
    Secret { value: Random(24), files: &["grafana/admin", "alert-bot/grafana"] },
    Secret { value: Random(43), files: &["grafana/secret-key"] },
    Secret { value: Random(43), files: &["alert-bot/webhook", "alertmanager/webhook"] },
    Secret { value: Random(43), files: &["alert-bot/operator"] },
    Secret { value: Random(43), files: &["docker-guard/token", "alert-bot/guard"] },
    Secret { value: Fixed("http://notification-receiver:8025/slack"), files: &["alertmanager/slack-url"] },
    // The local receiver takes any; a real one is put in its place.
    Secret { value: Fixed("xoxb-local"), files: &["alert-bot/slack-token"] },
    Secret { value: Random(24), files: &["alertmanager/smtp-password"] },
];

/// The names that `./stack secret` knows.
const PUBLIC: &[(&str, &str)] = &[
    ("grafana-admin", "grafana/admin"),
    ("alert-bot-webhook", "alert-bot/webhook"),
    ("alert-bot-operator", "alert-bot/operator"),
    ("faults", "transaction-api/faults"),
    ("models", "drift-inference/models"),
    ("machines", "telemetry-generator/operator"),
    ("ledger", "esg-ledger/token"),
    ("mqtt", "mosquitto/edge"),
];

/// The uid that a consumer runs as, one for each: a service that shares the volume still cannot read
/// another's secrets. docker-guard's is chosen at start (`DOCKER_GUARD_UID`): root without capabilities
/// can read only what belongs to root.
fn uid(consumer: &str, guard: u32) -> u32 {
    match consumer {
        "postgres" | "redis" => 999,
        "mosquitto" => 1_883,
        "redis-exporter" => 59_000,
        "grafana" => 472,
        "alertmanager" | "postgres-exporter" => 65_534,
        "docker-guard" => guard,
        "telemetry-generator" => 10_002,
        "drift-inference" => 10_003,
        "alert-bot" => 10_004,
        "lake" => 10_005,
        "esg-ledger" => 10_008,
        "edge-node" => 10_010,
        _ => 10_001,
    }
}

/// Makes every absent secret under `dir`. What is there stays; a value that one of its files already
/// carries is copied to the others, so that a consumer added later agrees with the first.
pub fn init(dir: &Path) -> Result<()> {
    let guard = match std::env::var("DOCKER_GUARD_UID") {
        Ok(text) if !text.is_empty() => text.parse().context("DOCKER_GUARD_UID is not a number")?,
        _ => 0,
    };
    let made = fill(dir, |consumer| Some(uid(consumer, guard)))?;
    println!("secrets: {made} made, {} kept", SECRETS.iter().map(|s| s.files.len()).sum::<usize>() - made);
    Ok(())
}

// `owner` is None in tests, which cannot give files away.
fn fill(dir: &Path, owner: impl Fn(&str) -> Option<u32>) -> Result<usize> {
    let mut made = 0;
    for secret in SECRETS {
        let present = secret.files.iter().find_map(|file| read(&dir.join(file)));
        let value = present.unwrap_or_else(|| match secret.value {
            Random(length) => random(length),
            Fixed(text) => text.to_owned(),
        });
        for file in secret.files {
            let path = dir.join(file);
            if read(&path).is_none() {
                place(&path, &value)?;
                made += 1;
            }
        }
    }
    // Owners and modes every time: a uid may have been changed in .env since.
    let consumers: BTreeMap<&str, Vec<&str>> =
        SECRETS.iter().flat_map(|secret| secret.files).fold(BTreeMap::new(), |mut map, file| {
            let consumer = file.split('/').next().unwrap_or(file);
            map.entry(consumer).or_insert_with(Vec::new).push(*file);
            map
        });
    for (consumer, files) in consumers {
        let folder = dir.join(consumer);
        for path in files.iter().map(|file| dir.join(file)) {
            protect(&path, 0o400, owner(consumer))?;
        }
        protect(&folder, 0o500, owner(consumer))?;
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))
        .context("cannot set the mode of the volume")?;
    Ok(made)
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

// Written beside and renamed: a container that is killed here leaves no half secret.
fn place(path: &Path, value: &str) -> Result<()> {
    let folder = path.parent().context("a secret has no folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    let part = path.with_extension("part");
    let _ = std::fs::remove_file(&part);
    std::fs::write(&part, value).with_context(|| format!("cannot write {}", part.display()))?;
    std::fs::set_permissions(&part, std::fs::Permissions::from_mode(0o400))?;
    std::fs::rename(&part, path)?;
    Ok(())
}

fn protect(path: &Path, mode: u32, owner: Option<u32>) -> Result<()> {
    let context = || format!("cannot protect {}", path.display());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).with_context(context)?;
    if let Some(uid) = owner {
        chown(path, Some(uid), Some(uid)).with_context(context)?;
    }
    Ok(())
}

fn random(length: usize) -> String {
    let mut rng = rand::rng();
    (0..length).map(|_| char::from(rng.sample(rand::distr::Alphanumeric))).collect()
}

/// Reads a secret by its public name.
pub fn show(dir: &Path, name: &str) -> Result<String> {
    let file = file_of(name)?;
    read(&dir.join(file)).ok_or_else(|| anyhow!("{name} has not been made yet"))
}

fn file_of(name: &str) -> Result<&'static str> {
    match PUBLIC.iter().find(|(public, _)| *public == name) {
        Some((_, file)) => Ok(file),
        None => {
            let names: Vec<&str> = PUBLIC.iter().map(|(public, _)| *public).collect();
            bail!("there is no secret called {name}; there are {}", names.join(", "))
        }
    }
}

/// Reads a secret out of the running stack's volume, through a container without a network.
pub async fn fetch(site: &Site, name: &str) -> Result<String> {
    file_of(name)?;
    let volume = format!("{}_secrets", site.project);
    let limit = Duration::from_secs(60);
    if !exec::capture(docker(["volume", "inspect", &volume]), limit).await?.ok() {
        bail!("there are no secrets yet: start the stack first (./stack up)");
    }
    let image = Stack::open(site)?.own_image("stackctl")?;
    let mount = format!("{volume}:/secrets:ro");
    let run = docker([
        "run",
        "--rm",
        "--network",
        "none",
        "--user",
        "0:0",
        "--read-only",
        "--volume",
        &mount,
        "--entrypoint",
        "/usr/local/bin/stackctl",
        &image,
        "secrets",
        "show",
        "--dir",
        "/secrets",
        name,
    ]);
    Ok(exec::stdout(run, limit).await?.trim().to_owned())
}

/// `./stack secret NAME`.
pub async fn print(site: &Site, name: &str) -> Result<()> {
    println!("{}", fetch(site, name).await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), |_| None).unwrap();
        dir
    }

    #[test]
    fn makes_each_once_and_keeps_it() {
        let dir = filled();
        let before = show(dir.path(), "alert-bot-webhook").unwrap();
        assert_eq!(fill(dir.path(), |_| None).unwrap(), 0);
        assert_eq!(show(dir.path(), "alert-bot-webhook").unwrap(), before);
        assert_eq!(before.len(), 43);
    }

    #[test]
    fn shared_values_agree_even_when_one_file_was_lost() {
        let dir = filled();
        let file = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let before = file("redis/password");
        std::fs::set_permissions(dir.path().join("redis-exporter"), PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::remove_file(dir.path().join("redis-exporter/password")).unwrap();
        assert_eq!(fill(dir.path(), |_| None).unwrap(), 1);
        assert_eq!(
            [file("redis/password"), file("redis-exporter/password"), file("transaction-api/redis")],
            [before.clone(), before.clone(), before]
        );
    }

    #[test]
    fn each_file_belongs_to_the_uid_that_compose_starts() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let compose = crate::compose::ComposeFile::load(&root.join("docker-compose.yml")).unwrap();
        for file in SECRETS.iter().flat_map(|secret| secret.files) {
            let consumer = file.split('/').next().unwrap();
            let user = compose.document["services"][consumer]["user"].as_str().unwrap();
            let runs_as = user.split_once(':').map(|(uid, _)| uid).unwrap();
            assert!(
                user.starts_with("${DOCKER_GUARD_UID") || runs_as == uid(consumer, 0).to_string(),
                "{consumer}: {user}"
            );
        }
    }

    #[test]
    fn nobody_else_may_read() {
        let dir = filled();
        for secret in SECRETS {
            for file in secret.files {
                let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
                let path = dir.path().join(file);
                assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o400, 0o500), "{file}");
            }
        }
    }

    #[test]
    fn an_unknown_name_is_told_the_known_ones() {
        let error = show(Path::new("/nowhere"), "root").unwrap_err().to_string();
        assert!(error.contains("alert-bot-operator"), "{error}");
    }
}
