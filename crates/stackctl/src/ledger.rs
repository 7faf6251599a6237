//! `./stack ledger`: where the running stack's evidence is, whose key signs it, whether it holds.
//!
//! Everything is read from the volumes, by containers without a network, without a capability and with
//! the volumes read-only: it works while the services are down, too.

use std::time::Duration;

use anyhow::{Result, bail};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::cli::LedgerCommand;
use crate::docker::docker;
use crate::exec;
use crate::site::Site;
use crate::stack::Stack;

/// Docker answers far sooner.
const LIMIT: Duration = Duration::from_secs(60);
/// A large log takes its time.
const VERIFY: Duration = Duration::from_secs(3_600);
/// The verifier's code for a checkpoint that lacks the witness's line.
const NOT_COSIGNED: i32 = 13;
/// A checkpoint is cosigned some seconds after it was published.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: u32 = 10;

/// The ledger's uid; other people may read both volumes' public files as well.
const USER: &str = "10008:10008";
/// Where the witness asked for the log's key: it remembers by this address.
const LOG_URL: &str = "http://esg-ledger:8011";
const LOG: &str = "/ledger/log";

/// Runs a command; the exit code of `verify` is the verifier's.
pub async fn run(site: &Site, command: LedgerCommand) -> Result<u8> {
    match command {
        LedgerCommand::Path => {
            let volume = volume(site, "esg-ledger").await?;
            let format = "{{.Mountpoint}}";
            let at = exec::stdout(docker(["volume", "inspect", "--format", format, &volume]), LIMIT).await?;
            println!("{}/log", at.trim());
            Ok(0)
        }
        LedgerCommand::Key { witness } => {
            let of = if witness { "/witness/verifier-key".to_owned() } else { pinned() };
            let output = exec::capture(auditor(site, &["key", &of]).await?, LIMIT).await?;
            if !output.ok() {
                bail!("{}", output.last_line());
            }
            println!("{}", output.stdout.trim());
            Ok(0)
        }
        LedgerCommand::Verify { json } => {
            let key = pinned();
            let mut args = vec!["verify", LOG, "--key", &key, "--witness", "/witness/verifier-key"];
            args.extend(json.then_some("--json"));
            let mut left = TRIES;
            loop {
                let output = exec::capture(auditor(site, &args).await?, VERIFY).await?;
                if output.code == NOT_COSIGNED && left > 0 {
                    left -= 1;
                    tokio::time::sleep(PATIENCE).await;
                    continue;
                }
                print!("{}", output.stdout);
                eprint!("{}", output.stderr);
                return Ok(u8::try_from(output.code).unwrap_or(1));
            }
        }
    }
}

/// The log's key as the witness remembers it: whoever exchanged the ledger's whole volume did not exchange this.
fn pinned() -> String {
    let hash = Sha256::digest(LOG_URL.as_bytes());
    let name: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("/witness/{name}.log-key")
}

/// The esg-ledger program beside both volumes.
async fn auditor(site: &Site, args: &[&str]) -> Result<Command> {
    let image = Stack::open(site)?.own_image("esg-ledger")?;
    let mount = |name: String, at: &str| format!("{name}:{at}:ro");
    let ledger = mount(volume(site, "esg-ledger").await?, "/ledger");
    let witness = mount(volume(site, "esg-witness").await?, "/witness");
    let mut run = docker(["run", "--rm", "--network", "none", "--user", USER, "--read-only", "--cap-drop", "ALL"]);
    run.args(["--security-opt", "no-new-privileges", "--memory", "256m"]);
    run.args(["--volume", &ledger, "--volume", &witness, "--entrypoint", "/usr/local/bin/esg-ledger", &image]);
    run.args(args);
    Ok(run)
}

async fn volume(site: &Site, name: &str) -> Result<String> {
    let volume = format!("{}_{name}", site.project);
    if !exec::capture(docker(["volume", "inspect", &volume]), LIMIT).await?.ok() {
        bail!("there is no volume {volume} yet: start the stack first (./stack up)");
    }
    Ok(volume)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::compose::{ComposeFile, text_of};

    /// What is fixed here stands in the compose file, too.
    #[test]
    fn the_compose_file_says_the_same() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let file = ComposeFile::load(&root.join("docker-compose.yml")).unwrap();
        let said = |service: &str, key: &str, name: &str| {
            let value = &file.document["services"][service][key];
            text_of(if name.is_empty() { value } else { &value[name] }).unwrap()
        };
        assert_eq!(said("esg-ledger", "user", ""), USER);
        assert_eq!(said("esg-ledger", "environment", "LEDGER_DIR"), "/var/lib/esg-ledger/log");
        assert_eq!(said("esg-witness", "environment", "WITNESS_LOG_URLS"), LOG_URL);
        assert_eq!(said("esg-witness", "environment", "WITNESS_DIR"), "/var/lib/esg-witness");
        assert!(pinned().starts_with("/witness/") && pinned().len() == "/witness/".len() + 64 + ".log-key".len());
    }
}
