//! Recipes of local images under `deploy/local`, and the tags that name their content.
//!
//! A tag is the first twelve hex digits of a SHA-256 over what the image is made of: `lib.sh` and the
//! files of `base` for the base image; the base's tag and the recipe's own files for every other.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The recipe folder of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Folder name under `deploy/local`.
    pub name: String,
    /// The folder.
    pub dir: PathBuf,
    /// Twelve hex digits of its content.
    pub hash: String,
    /// Image name with tag.
    pub tag: String,
}

/// All recipes of a work tree.
#[derive(Clone, Debug)]
pub struct Recipes {
    /// `deploy/local`.
    pub dir: PathBuf,
    /// The image that all others stand on.
    pub base: Recipe,
}

impl Recipes {
    /// Reads `deploy/local` under `root`.
    pub fn load(root: &Path) -> Result<Self> {
        let dir = root.join("deploy/local");
        let base_dir = dir.join("base");
        let mut content = Sha256::new();
        content.update(std::fs::read(dir.join("lib.sh")).context("cannot read deploy/local/lib.sh")?);
        add_files(&mut content, &base_dir)?;
        let hash = short(content);
        let base = Recipe { name: "base".into(), dir: base_dir, tag: format!("selfheal/base:{hash}"), hash };
        Ok(Self { dir, base })
    }

    /// The recipe called `name`, if there is one.
    pub fn get(&self, name: &str) -> Result<Option<Recipe>> {
        let dir = self.dir.join(name);
        if !dir.join("Dockerfile").is_file() {
            return Ok(None);
        }
        let mut content = Sha256::new();
        content.update(format!("{}\n", self.base.hash));
        add_files(&mut content, &dir)?;
        let hash = short(content);
        Ok(Some(Recipe { name: name.to_owned(), tag: format!("selfheal/local-{name}:{hash}"), dir, hash }))
    }
}

/// The recipe name of an image variable: `NODE_EXPORTER_IMAGE` is `node-exporter`.
pub fn name_of_variable(variable: &str) -> String {
    variable.strip_suffix("_IMAGE").unwrap_or(variable).to_lowercase().replace('_', "-")
}

/// Twelve hex digits of a file's content together with `salt`.
pub fn file_hash(file: &Path, salt: &str) -> Result<String> {
    let mut content = Sha256::new();
    content.update(salt);
    let mut reader = std::fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    std::io::copy(&mut reader, &mut HashWriter(&mut content))?;
    Ok(short(content))
}

/// Twelve hex digits over all files under some folders, for deciding whether sources changed.
pub fn tree_hash(paths: &[PathBuf]) -> Result<String> {
    let mut content = Sha256::new();
    for path in paths {
        if path.is_dir() {
            add_files(&mut content, path)?;
        } else if path.is_file() {
            content.update(std::fs::read(path)?);
        }
    }
    Ok(short(content))
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// Path, NUL, content, in the byte order of the paths; `out/` is made by the build itself.
fn add_files(content: &mut Sha256, dir: &Path) -> Result<()> {
    let mut files = Vec::new();
    list(dir, Path::new("."), &mut files)?;
    files.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    for file in files {
        content.update(file.as_os_str().as_encoded_bytes());
        content.update([0]);
        content.update(std::fs::read(dir.join(&file)).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(())
}

fn list(root: &Path, below: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let dir = root.join(below);
    for entry in std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_file() {
            files.push(path);
        } else if kind.is_dir() && path != Path::new("./out") && entry.file_name() != "target" {
            list(root, &path, files)?;
        }
    }
    Ok(())
}

fn short(content: Sha256) -> String {
    content.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let file = dir.path().join("deploy/local").join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        put("lib.sh", "set -eu\n");
        put("base/build.sh", "debootstrap\n");
        put("redis/Dockerfile", "FROM selfheal/base\n");
        put("redis/redis.conf", "save ''\n");
        put("notes/README", "no Dockerfile here\n");
        dir
    }

    #[test]
    fn the_same_content_has_the_same_tag_anywhere() {
        let (a, b) = (tree(), tree());
        let tag = |dir: &tempfile::TempDir| Recipes::load(dir.path()).unwrap().get("redis").unwrap().unwrap().tag;
        assert_eq!(tag(&a), tag(&b));
        insta::assert_snapshot!(tag(&a));
    }

    #[test]
    fn a_change_of_the_recipe_the_base_or_the_functions_changes_the_tag() {
        let dir = tree();
        let tag = || Recipes::load(dir.path()).unwrap().get("redis").unwrap().unwrap().tag;
        let mut tags = vec![tag()];
        for file in ["redis/redis.conf", "base/build.sh", "lib.sh"] {
            std::fs::write(dir.path().join("deploy/local").join(file), "changed").unwrap();
            tags.push(tag());
        }
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), 4);
    }

    #[test]
    fn what_a_build_left_behind_does_not_count() {
        let dir = tree();
        let tag = || Recipes::load(dir.path()).unwrap().get("redis").unwrap().unwrap().tag;
        let before = tag();
        std::fs::create_dir_all(dir.path().join("deploy/local/redis/out")).unwrap();
        std::fs::write(dir.path().join("deploy/local/redis/out/redis"), "x").unwrap();
        assert_eq!(tag(), before);
    }

    #[test]
    fn a_folder_without_dockerfile_is_no_recipe() {
        let recipes = Recipes::load(tree().path()).unwrap();
        assert_eq!(recipes.get("notes").unwrap(), None);
        assert_eq!(recipes.get("grafana").unwrap(), None);
    }

    #[test]
    fn variables_name_recipes() {
        assert_eq!(name_of_variable("NODE_EXPORTER_IMAGE"), "node-exporter");
    }
}
