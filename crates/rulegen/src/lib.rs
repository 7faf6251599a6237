//! One source for rules, two speeds of the same rules.
//!
//! `prometheus/rules-src/*.yaml`, `loki/rules/src/*.yaml` and `slo/*.yaml` say once what is
//! recorded and alerted on; a duration may be written as `{demo: 10s, production: 2m}` or by a
//! `$name` from `prometheus/rules-src/speeds.yaml`. From them come complete rule files for each
//! [`Speed`], and from `prometheus/tests/src/*.yaml` the promtool tests that belong to them.
//!
//! Everything is a pure function of the source texts: [`generate`] reads the folder once and the
//! rest works on strings.

mod cases;
mod document;
mod error;
mod names;
pub mod promql;
mod rules;
mod slo;
mod span;
mod speed;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub use cases::{Case, CaseFile, Firing, Held, Phase, State, Values};
pub use document::{
    AlertSource, GroupSource, Links, RecordSource, RuleFile, RuleSource, SliSource, SloFile, SloSource, SloWindows,
    SpeedsFile, Version1,
};
pub use error::Error;
pub use names::SpanRef;
pub use rules::FROM_SERIES;
pub use span::Span;
pub use speed::{BySpeed, Speed};

/// Where the names, links and SLO windows of both speeds are declared.
pub const SPEEDS: &str = "prometheus/rules-src/speeds.yaml";
/// Source of the Prometheus rules.
pub const PROMETHEUS_SOURCE: &str = "prometheus/rules-src";
/// Source of the rules for Loki's ruler.
pub const LOKI_SOURCE: &str = "loki/rules/src";
/// Source of the promtool tests.
pub const TEST_SOURCE: &str = "prometheus/tests/src";
/// One service-level objective file a service.
pub const SLO_SOURCE: &str = "slo";

/// A source text and its path relative to the project root.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path relative to the project root, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.strip_suffix(".yaml").unwrap_or(name)
    }
}

/// All source documents, parsed and checked for unknown keys.
#[derive(Debug)]
pub struct Project {
    /// Names, links and windows.
    pub speeds: (Source, SpeedsFile),
    /// Prometheus rule sources.
    pub prometheus: Vec<(Source, RuleFile)>,
    /// Loki rule sources.
    pub loki: Vec<(Source, RuleFile)>,
    /// Service-level objectives.
    pub slos: Vec<(Source, SloFile)>,
    /// Test sources.
    pub cases: Vec<(Source, CaseFile)>,
}

impl Project {
    /// Reads and parses every source below `root`.
    ///
    /// # Errors
    /// A file that cannot be read, or the first document that does not parse, with its line.
    pub fn load(root: &Path) -> Result<Self, Error> {
        let speeds = read(root, SPEEDS)?;
        let speeds_doc = document::parse(&speeds)?;
        Ok(Self {
            speeds: (speeds, speeds_doc),
            prometheus: load_folder(root, PROMETHEUS_SOURCE)?,
            loki: load_folder(root, LOKI_SOURCE)?,
            slos: load_folder(root, SLO_SOURCE)?,
            cases: load_folder(root, TEST_SOURCE)?,
        })
    }

    /// Every alert of the project with the file it is written in.
    pub fn alerts(&self) -> impl Iterator<Item = (&Source, &AlertSource)> {
        self.prometheus
            .iter()
            .chain(&self.loki)
            .flat_map(|(source, file)| file.alerts().map(move |alert| (source, alert)))
    }
}

/// All generated files, by path relative to the root.
///
/// # Errors
/// The first source that cannot be read or is wrong, with file and line.
pub fn generate(root: &Path) -> Result<BTreeMap<PathBuf, String>, Error> {
    let project = Project::load(root)?;
    let mut files = BTreeMap::new();
    for speed in Speed::ALL {
        let compiled = rules::Compiled::new(&project, speed)?;
        for (path, text) in compiled.files() {
            files.insert(PathBuf::from(path), text);
        }
        for (path, text) in cases::files(&project, &compiled, speed)? {
            files.insert(PathBuf::from(path), text);
        }
    }
    Ok(files)
}

/// Folders that hold nothing but generated files.
fn generated_folders() -> Vec<String> {
    Speed::ALL
        .into_iter()
        .flat_map(|speed| {
            [
                format!("prometheus/rules/{}", speed.name()),
                format!("prometheus/tests/{}", speed.name()),
                format!("loki/rules/{}", speed.name()),
            ]
        })
        .collect()
}

/// One line for each generated file that is missing, differs, or no longer has a source.
///
/// # Errors
/// A folder that cannot be listed.
pub fn differences(root: &Path, files: &BTreeMap<PathBuf, String>) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for (path, text) in files {
        match fs::read_to_string(root.join(path)) {
            Ok(present) if present == *text => {}
            Ok(_) => found.push(format!("{} differs from its source", path.display())),
            Err(_) => found.push(format!("{} is missing", path.display())),
        }
    }
    for path in orphans(root, files)? {
        found.push(format!("{} has no source any more", path.display()));
    }
    Ok(found)
}

/// Writes what differs, removes what has no source, returns how many files changed.
///
/// # Errors
/// A file or folder that cannot be written.
pub fn write(root: &Path, files: &BTreeMap<PathBuf, String>) -> Result<usize, Error> {
    let mut changed = 0;
    for (path, text) in files {
        let target = root.join(path);
        if fs::read_to_string(&target).is_ok_and(|present| present == *text) {
            continue;
        }
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(|e| Error::io(folder, &e))?;
        }
        fs::write(&target, text).map_err(|e| Error::io(&target, &e))?;
        changed += 1;
    }
    for path in orphans(root, files)? {
        let target = root.join(&path);
        fs::remove_file(&target).map_err(|e| Error::io(&target, &e))?;
        changed += 1;
    }
    Ok(changed)
}

fn orphans(root: &Path, files: &BTreeMap<PathBuf, String>) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for folder in generated_folders() {
        for name in list(root, &folder)? {
            let path = PathBuf::from(format!("{folder}/{name}"));
            if !files.contains_key(&path) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

fn load_folder<T: serde::de::DeserializeOwned>(root: &Path, folder: &str) -> Result<Vec<(Source, T)>, Error> {
    let mut documents = Vec::new();
    for name in list(root, folder)? {
        let path = format!("{folder}/{name}");
        if path == SPEEDS {
            continue;
        }
        let source = read(root, &path)?;
        let document = document::parse(&source)?;
        documents.push((source, document));
    }
    Ok(documents)
}

/// Names of the YAML files of a folder, sorted; a folder that does not exist is empty.
fn list(root: &Path, folder: &str) -> Result<Vec<String>, Error> {
    let path = root.join(folder);
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&path).map_err(|e| Error::io(&path, &e))? {
        let entry = entry.map_err(|e| Error::io(&path, &e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".yaml") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn read(root: &Path, path: &str) -> Result<Source, Error> {
    let full = root.join(path);
    let text = fs::read_to_string(&full).map_err(|e| Error::io(&full, &e))?;
    Ok(Source { path: path.to_owned(), text })
}
