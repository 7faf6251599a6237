//! Steps on the plant: faults of machines, damage to what a volume holds.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::run::Run;
use crate::docker::docker;
use crate::exec;

const LIMIT: Duration = Duration::from_secs(60);

/// A fault of one machine of the fleet.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineFault {
    /// Which machine.
    pub machine: String,
    /// Body of `POST /v1/machines/{id}/faults`.
    pub fault: Value,
}

/// One bit of a file in a volume, turned over behind the back of whoever uses the volume.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Damage {
    /// Volume, as the compose file names it.
    pub volume: String,
    /// Paths in it; the first that is there is damaged.
    pub files: Vec<String>,
    /// Which byte, from 0; its lowest bit is turned over.
    pub at: u64,
}

/// Turns the bit over and keeps the whole file beside, for [`MEND`].
const HARM: &str = r#"
[ ! -e /v/.damaged ] || { echo "the volume is damaged already" >&2; exit 1; }
for file in "$@"; do
  [ -f "/v/$file" ] || continue
  mkdir /v/.damaged
  cp -p "/v/$file" /v/.damaged/file
  printf %s "$file" > /v/.damaged/path
  byte=$(od -An -tu1 -j "$AT" -N 1 "/v/$file" | tr -d ' ')
  [ -n "$byte" ] || { echo "$file is shorter than that" >&2; rm -r /v/.damaged; exit 1; }
  printf "\\$(printf %03o $((byte ^ 1)))" | dd of="/v/$file" bs=1 seek="$AT" count=1 conv=notrunc 2>/dev/null
  echo "$file"
  exit 0
done
echo "none of these files is there" >&2
exit 1
"#;

/// Puts the file back, if its owner has not dropped it meanwhile. Once more it does nothing.
const MEND: &str = r#"
[ -e /v/.damaged ] || exit 0
file=$(cat /v/.damaged/path)
[ ! -f "/v/$file" ] || cp -p /v/.damaged/file "/v/$file"
rm -r /v/.damaged
"#;

impl Run<'_> {
    pub(super) async fn machine_fault(&self, fault: &MachineFault) -> Result<()> {
        let path = format!("/v1/machines/{}/faults", fault.machine);
        self.machine(Method::POST, &path, Some(&fault.fault)).await
    }

    /// Ends its faults and the order to take it easy.
    pub(super) async fn mend_machine(&self, machine: &str) -> Result<()> {
        self.machine(Method::DELETE, &format!("/v1/machines/{machine}/faults"), None).await?;
        self.machine(Method::DELETE, &format!("/v1/machines/{machine}/load"), None).await
    }

    async fn machine(&self, method: Method, path: &str, body: Option<&Value>) -> Result<()> {
        let url = format!("{}{path}", self.api.url("telemetry-generator")?);
        let mut request = self.api.http().request(method, url).bearer_auth(&self.tokens().machines);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.context("the fleet cannot be reached")?;
        let status = answer.status();
        if !status.is_success() {
            bail!("{path}: refused with {status}: {}", answer.text().await.unwrap_or_default().trim());
        }
        Ok(())
    }

    pub(super) async fn damage(&self, damage: &Damage) -> Result<()> {
        let at = format!("AT={}", damage.at);
        self.in_volume(&damage.volume, &at, HARM, &damage.files).await
    }

    pub(super) async fn undo_damage(&self, volume: &str) -> Result<()> {
        self.in_volume(volume, "AT=0", MEND, &[]).await
    }

    /// A shell as root in a container that sees nothing but the volume.
    async fn in_volume(&self, volume: &str, env: &str, script: &str, args: &[String]) -> Result<()> {
        let stack = self.stack;
        let image = stack.state.environment().get("REDIS_IMAGE").or(stack.vars.get("REDIS_IMAGE")).cloned();
        let image = image.context("REDIS_IMAGE is not set")?;
        let mount = format!("{}_{volume}:/v", stack.site.project);
        let mut run = docker(["run", "--rm", "--network", "none", "--user", "0:0", "--env", env, "--volume", &mount]);
        run.args(["--entrypoint", "/bin/sh", &image, "-euc", script, "sh"]).args(args);
        exec::stdout(run, LIMIT).await.with_context(|| format!("volume {volume}"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The script on a folder instead of a volume.
    fn shell(script: &str, dir: &std::path::Path, at: u32, files: &[&str]) -> bool {
        let script = script.replace("/v/", &format!("{}/", dir.display()));
        let mut run = Command::new("/bin/sh");
        run.args(["-euc", &script, "sh"]).args(files).env("AT", at.to_string());
        run.output().unwrap().status.success()
    }

    #[test]
    fn one_bit_is_turned_over_and_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tile");
        std::fs::write(&file, b"\x00\xff\n%\\").unwrap();
        for (at, expected) in
            [(0, b"\x01\xff\n%\\"), (1, b"\x00\xfe\n%\\"), (2, b"\x00\xff\x0b%\\"), (3, b"\x00\xff\n$\\")]
        {
            assert!(shell(HARM, dir.path(), at, &["absent", "tile"]));
            assert_eq!(std::fs::read(&file).unwrap(), expected);
            assert!(!shell(HARM, dir.path(), at, &["tile"]), "once");
            assert!(shell(MEND, dir.path(), 0, &[]) && shell(MEND, dir.path(), 0, &[]));
            assert_eq!(std::fs::read(&file).unwrap(), b"\x00\xff\n%\\");
        }
        assert!(!shell(HARM, dir.path(), 9, &["tile"]) && !shell(HARM, dir.path(), 0, &["absent"]));
        assert!(!dir.path().join(".damaged").exists());
        assert!(shell(HARM, dir.path(), 0, &["tile"]));
        std::fs::remove_file(&file).unwrap();
        assert!(shell(MEND, dir.path(), 0, &[]) && !file.exists(), "what its owner dropped stays dropped");
    }
}
