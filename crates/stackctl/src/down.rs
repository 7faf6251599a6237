//! `./stack down`.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::cli::DownArgs;
use crate::docker::docker;
use crate::exec;
use crate::lock::Lock;
use crate::progress::{Progress, Step};
use crate::site::Site;
use crate::stack::Stack;

/// Longer than the longest `stop_grace_period`.
const LIMIT: Duration = Duration::from_secs(180);

/// How often it is tried.
const TRIES: usize = 3;

/// Runs `down` and checks that nothing of the project is left.
pub async fn run(site: &Site, args: &DownArgs) -> Result<()> {
    site.prepare()?;
    let _lock = Lock::take(&site.state)?;
    let stack = Stack::open(site)?;
    let progress = Progress::new();
    let step = progress.step(if args.volumes {
        "remove containers, networks and data"
    } else {
        "remove containers and networks"
    });
    let mut tries = 0;
    // A busy daemon may fail to stop one container in time; the next try takes what is left.
    while let Err(error) = remove(&stack, args.volumes, &step).await {
        tries += 1;
        if tries == TRIES {
            step.failed("not removed");
            return Err(error);
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    // Compose knows what its file names now; an older file may have made more.
    remove_leftovers(&left(site, args.volumes).await?).await?;
    let left = remains(site, args.volumes).await?;
    if !left.is_empty() {
        step.failed("something is left");
        bail!("still there: {}", left.join(", "));
    }
    step.done("nothing left");
    if args.images {
        remove_images(&progress).await?;
    }
    if !args.volumes {
        let mut state = stack.state.clone();
        state.profiles.clear();
        state.save(&site.state)?;
    } else {
        // The lock file itself stays: it is held.
        for name in ["state.json", "env"] {
            let _ = std::fs::remove_file(site.state.join(name));
        }
        let _ = std::fs::remove_dir_all(site.logs());
    }
    Ok(())
}

async fn remove(stack: &Stack, volumes: bool, step: &Step) -> Result<()> {
    let mut down = stack.compose().command(["--profile", "*", "down", "--remove-orphans"]);
    if volumes {
        down.arg("--volumes");
    }
    let report = step.reporter();
    exec::logged(down, &stack.site.logs().join("compose-down.log"), move |line| report(line)).await
}

/// What still carries the project's label, in words.
pub async fn remains(site: &Site, volumes: bool) -> Result<Vec<String>> {
    Ok(left(site, volumes).await?.iter().map(|left| format!("{} {}", left.kind, left.name)).collect())
}

/// Something that carries the project's label.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Left {
    /// `container`, `network` or `volume`.
    kind: &'static str,
    name: String,
}

async fn left(site: &Site, volumes: bool) -> Result<Vec<Left>> {
    let label = format!("label=com.docker.compose.project={}", site.project);
    let mut left = Vec::new();
    let mut kinds = vec![("container", "{{.Names}}"), ("network", "{{.Name}}")];
    if volumes {
        kinds.push(("volume", "{{.Name}}"));
    }
    for (kind, format) in kinds {
        let mut list = docker([kind, "ls", "--filter", &label, "--format", format]);
        if kind == "container" {
            list.arg("--all");
        }
        left.extend(exec::stdout(list, LIMIT).await?.lines().map(|name| Left { kind, name: name.to_owned() }));
    }
    Ok(left)
}

/// What can be removed of what is left. A container that is still there holds its network and volumes: that
/// is reported, not forced.
async fn remove_leftovers(left: &[Left]) -> Result<()> {
    for command in removals(left) {
        // What cannot be removed shows in the list that is made afterwards.
        exec::capture(docker(&command), LIMIT).await?;
    }
    Ok(())
}

fn removals(left: &[Left]) -> Vec<[String; 3]> {
    let removable = left.iter().filter(|left| left.kind != "container");
    removable.map(|left| [left.kind.to_owned(), "rm".to_owned(), left.name.clone()]).collect()
}

async fn remove_images(progress: &Progress) -> Result<()> {
    let step = progress.step("remove local images");
    let list = docker(["image", "ls", "--filter", "reference=selfheal/*", "--format", "{{.Repository}}:{{.Tag}}"]);
    let names: Vec<String> = exec::stdout(list, LIMIT).await?.lines().map(str::to_owned).collect();
    let mut removed = 0;
    for name in &names {
        // One that another stack still uses stays.
        removed += usize::from(exec::capture(docker(["image", "rm", name]), LIMIT).await?.ok());
    }
    step.done(&format!("{removed} of {}", names.len()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_volumes_of_an_older_file_are_removed_and_containers_are_not() {
        let left = |kind, name: &str| Left { kind, name: name.into() };
        let found = [left("container", "x-a-1"), left("network", "x_old"), left("volume", "x_older")];
        assert_eq!(removals(&found), [["network", "rm", "x_old"], ["volume", "rm", "x_older"]]);
    }
}
