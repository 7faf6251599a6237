//! `drift-inference models`: what is in a lake's registry, and what serves.

use std::{path::PathBuf, sync::Arc};

use clap::Subcommand;
use lake::{Lake, Settings, config::LakeArgs, store::Backend};

use crate::{
    clock::now_us,
    model::{BUILT_IN, Model},
    registry::{Action, Draft, History, Registry},
};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// Lake folder; the endpoint of the environment's LAKE_… variables if not given.
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List models, and the decisions about them.
    List,
    /// Put a model document into the lake.
    Register {
        /// As `train` writes it.
        file: PathBuf,
    },
    /// Let a version serve. Services that read this lake follow within seconds.
    Promote {
        /// Version.
        version: String,
        /// Why.
        #[arg(long, default_value = "by command")]
        reason: String,
    },
    /// Let the former champion serve again.
    Rollback {
        /// Why.
        #[arg(long, default_value = "by command")]
        reason: String,
    },
}

/// The lake of the environment, for a command that was not given a folder.
#[derive(clap::Parser)]
struct Environment {
    #[command(flatten)]
    lake: LakeArgs,
}

fn registry(folder: Option<PathBuf>) -> anyhow::Result<Registry> {
    let settings = match folder {
        Some(dir) => {
            anyhow::ensure!(dir.is_dir(), "{} is not a folder", dir.display());
            Settings { backend: Backend::Folder(dir) }
        }
        None => <Environment as clap::Parser>::try_parse_from(["drift-inference"])?.lake.settings()?,
    };
    Ok(Registry::new(Lake::open(&settings, Arc::new(()))?))
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let registry = registry(args.data)?;
    match args.command {
        Command::List => list(&registry).await,
        Command::Register { file } => {
            let model = Model::load(&file)?;
            registry.register(&model).await?;
            super::print(&format!("{} is registered; it does not serve before it is promoted\n", model.version))
        }
        Command::Promote { version, reason } => {
            let entry = registry.promote(&version, Draft::requested(&reason), now_us()).await?;
            super::print(&format!("{} serves, {} did before\n", entry.version, entry.previous))
        }
        Command::Rollback { reason } => {
            let entry = registry.roll_back(Draft::requested(&reason), now_us()).await?;
            super::print(&format!("{} serves again, {} is taken away\n", entry.version, entry.previous))
        }
    }
}

async fn list(registry: &Registry) -> anyhow::Result<()> {
    let mut history = History::default();
    registry.update(&mut history).await?;
    let built_in = Model::parse(BUILT_IN)?;
    let mut out = String::new();
    let mut versions = registry.versions().await?;
    versions.insert(0, built_in.version.clone());
    for version in versions {
        let mark = if version == history.champion(&built_in.version) { "*" } else { " " };
        let line = match registry.model(&version).await {
            Ok(m) => {
                let show = |x: Option<f64>| x.map_or("-".into(), |x| format!("{x:.4}"));
                format!(
                    "trained {}  {} rows  holdout: accuracy {} recall {} Brier {}",
                    m.training.trained_at,
                    m.training.rows,
                    show(m.holdout.accuracy),
                    show(m.holdout.recall),
                    show(m.holdout.brier)
                )
            }
            Err(error) => error.to_string(),
        };
        out.push_str(&format!("{mark} {version:<24} {line}\n"));
    }
    for entry in &history.entries {
        let (at, reason, about) = (&entry.at, &entry.reason, entry.challenger.as_deref().unwrap_or_default());
        out.push_str(&match entry.action {
            Action::Promote => format!("{at} promoted {} after {}: {reason}\n", entry.version, entry.previous),
            Action::Rollback => format!("{at} rolled back to {} after {}: {reason}\n", entry.version, entry.previous),
            other => format!("{at} {} {about} ({}): {reason}\n", other.as_str(), entry.code.as_str()),
        });
    }
    super::print(&out)
}
