//! What can be wrong with a source, said with its file and line.

use std::path::Path;

use crate::Source;

/// A source that cannot be read, parsed or compiled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{path}: {message}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the operating system said.
        message: String,
    },
    /// The document is wrong.
    #[error("{path}:{line}: {message}")]
    Source {
        /// The file, relative to the project root.
        path: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong and what would be right.
        message: String,
    },
}

impl Error {
    pub(crate) fn io(path: &Path, error: &std::io::Error) -> Self {
        Self::Io { path: path.display().to_string(), message: error.to_string() }
    }

    pub(crate) fn at(source: &Source, line: usize, message: impl Into<String>) -> Self {
        Self::Source { path: source.path.clone(), line, message: message.into() }
    }

    /// An error inside the entry that starts at the line `- <anchor>`; the line named is the first
    /// one of that entry that contains `needle`, or else the entry's first.
    pub(crate) fn within(source: &Source, anchor: &str, needle: &str, message: impl Into<String>) -> Self {
        Self::at(source, locate(&source.text, anchor, needle), message)
    }
}

fn locate(text: &str, anchor: &str, needle: &str) -> usize {
    let is_anchor = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ");
        line.trim_end() == anchor
    };
    let Some(start) = text.lines().position(is_anchor) else {
        return text.lines().position(|line| line.contains(needle)).map_or(1, |index| index + 1);
    };
    let entry_key = anchor.split(':').next().unwrap_or(anchor);
    for (offset, line) in text.lines().skip(start).enumerate() {
        let next_entry = offset > 0 && line.trim_start().starts_with(&format!("- {entry_key}:"));
        if next_entry {
            break;
        }
        if !needle.is_empty() && line.contains(needle) {
            return start + offset + 1;
        }
    }
    start + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_needle_is_looked_for_only_inside_its_entry() {
        let text = "rules:\n- alert: A\n  expr: x\n- alert: B\n  expr: $nope\n";
        assert_eq!(locate(text, "alert: B", "$nope"), 5);
        assert_eq!(locate(text, "alert: A", "$nope"), 2);
        assert_eq!(locate(text, "alert: C", "$nope"), 5);
    }
}
