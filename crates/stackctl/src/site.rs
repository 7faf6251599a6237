//! Where things are: the work tree, the cache shared by all clones, and this stack's state.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The folders that every command works with.
#[derive(Clone, Debug)]
pub struct Site {
    /// The work tree, recognised by its `docker-compose.yml`.
    pub root: PathBuf,
    /// Kept between runs and shared by every clone on this machine.
    pub cache: PathBuf,
    /// `.stack` in the work tree: ports, decisions, logs and the lock of this stack.
    pub state: PathBuf,
    /// Compose project name.
    pub project: String,
    /// Our services as the tests compiled them, with overflow checks, rather than optimised.
    pub debug: bool,
}

/// Project name when `STACK_PROJECT` is not set.
pub const DEFAULT_PROJECT: &str = "selfheal";

impl Site {
    /// Reads `STACK_ROOT`, `STACK_CACHE` and `STACK_PROJECT`; without `STACK_ROOT` the work tree is
    /// searched upwards from the current folder.
    pub fn from_env() -> Result<Self> {
        let root = match std::env::var_os("STACK_ROOT") {
            Some(root) => PathBuf::from(root),
            None => find_root(&std::env::current_dir()?)?,
        };
        let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
        let cache = std::env::var_os("STACK_CACHE").map(PathBuf::from).unwrap_or_else(|| {
            std::env::var_os("XDG_CACHE_HOME")
                .map_or_else(|| home().join(".cache"), PathBuf::from)
                .join("selfheal-stack")
        });
        let project = std::env::var("STACK_PROJECT").unwrap_or_else(|_| DEFAULT_PROJECT.into());
        let state = if project == DEFAULT_PROJECT {
            root.join(".stack")
        } else {
            root.join(".stack").join("projects").join(&project)
        };
        Ok(Self { root, cache, state, project, debug: false })
    }

    /// Makes the state and log folders.
    pub fn prepare(&self) -> Result<()> {
        for dir in [&self.state, &self.logs(), &self.cache] {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(())
    }

    /// The full output of every build and compose call.
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// `CARGO_TARGET_DIR`, or the shared one in the cache.
    pub fn cargo_target(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.cache.join("target"), PathBuf::from)
    }
}

fn find_root(from: &Path) -> Result<PathBuf> {
    match from.ancestors().find(|dir| dir.join("docker-compose.yml").exists() && dir.join("crates/stackctl").exists()) {
        Some(root) => Ok(root.to_path_buf()),
        None => bail!("run this inside the work tree, or set STACK_ROOT"),
    }
}
