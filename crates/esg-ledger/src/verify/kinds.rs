//! What can be wrong with a directory, each with its exit code.

use serde::{Serialize, Serializer};

use crate::{history::Fault, tile::TileId};

/// A kind of failure. The numbers are part of the command's interface: see docs/esg-ledger.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The checkpoint is no signed checkpoint.
    CheckpointMalformed,
    /// The checkpoint is not signed by the key.
    Signature,
    /// The checkpoint is of another log.
    OtherLog,
    /// A witness's cosignature is missing or wrong.
    Witness,
    /// A file that the tree needs is not there.
    Missing,
    /// A tile or bundle does not have the length of its content.
    Truncated,
    /// A tile is not the one that was signed.
    TileAltered,
    /// An entry is not the one that was signed.
    EntryAltered,
    /// Entries and tiles agree with each other, but not with the signed root.
    Root,
    /// A file below `tile/` that belongs to no tree.
    Unexpected,
    /// The directory is older than the checkpoint that was trusted before.
    RolledBack,
    /// The trusted checkpoint is not a prefix of the directory: history was rewritten.
    Inconsistent,
    /// An entry is not canonical, or not of its type's form.
    Entry,
    /// A sequence number twice, or time that goes backwards.
    Sequence,
    /// Data are missing and no record says so.
    Gap,
    /// Energy and meter disagree.
    Meter,
    /// Emissions are not energy × factor, or the factor stands in no table.
    Carbon,
    /// A gap record or a correction that does not fit what it is about.
    Record,
    /// The system could not read a file.
    Io,
}

impl Kind {
    /// All of them, by exit code.
    pub const ALL: [Self; 19] = [
        Self::CheckpointMalformed,
        Self::Signature,
        Self::OtherLog,
        Self::Witness,
        Self::Missing,
        Self::Truncated,
        Self::TileAltered,
        Self::EntryAltered,
        Self::Root,
        Self::Unexpected,
        Self::RolledBack,
        Self::Inconsistent,
        Self::Entry,
        Self::Sequence,
        Self::Gap,
        Self::Meter,
        Self::Carbon,
        Self::Record,
        Self::Io,
    ];

    /// The exit code of `esg-ledger verify`.
    pub fn code(self) -> u8 {
        match self {
            Self::CheckpointMalformed => 10,
            Self::Signature => 11,
            Self::OtherLog => 12,
            Self::Witness => 13,
            Self::Missing => 20,
            Self::Truncated => 21,
            Self::TileAltered => 22,
            Self::EntryAltered => 23,
            Self::Root => 24,
            Self::Unexpected => 25,
            Self::RolledBack => 30,
            Self::Inconsistent => 31,
            Self::Entry => 40,
            Self::Sequence => 41,
            Self::Gap => 42,
            Self::Meter => 43,
            Self::Carbon => 44,
            Self::Record => 45,
            Self::Io => 74,
        }
    }

    /// A word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CheckpointMalformed => "checkpoint_malformed",
            Self::Signature => "signature_invalid",
            Self::OtherLog => "other_log",
            Self::Witness => "witness_cosignature",
            Self::Missing => "file_missing",
            Self::Truncated => "file_truncated",
            Self::TileAltered => "tile_altered",
            Self::EntryAltered => "entry_altered",
            Self::Root => "root_mismatch",
            Self::Unexpected => "unexpected_file",
            Self::RolledBack => "rolled_back",
            Self::Inconsistent => "inconsistent",
            Self::Entry => "entry_invalid",
            Self::Sequence => "sequence",
            Self::Gap => "gap_undeclared",
            Self::Meter => "meter",
            Self::Carbon => "carbon",
            Self::Record => "record",
            Self::Io => "io",
        }
    }

    /// Whether the evidence itself is damaged; otherwise what it says is wrong.
    pub fn is_integrity(self) -> bool {
        self.code() < 40 || self == Self::Io
    }
}

impl From<Fault> for Kind {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Duplicate | Fault::TimeBackwards => Self::Sequence,
            Fault::UndeclaredGap => Self::Gap,
            Fault::Meter => Self::Meter,
            Fault::Factor => Self::Carbon,
            Fault::UnknownMachine | Fault::Gap | Fault::Correction => Self::Record,
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind.
    pub kind: Kind,
    /// Its exit code.
    pub code: u8,
    /// The file, relative to the log's directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The tile of hashes over the entry: level/index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tile: Option<String>,
    /// First entry that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// One line for people.
    pub message: String,
}

impl Finding {
    /// A failure of a file.
    pub fn file(kind: Kind, file: impl ToString, message: impl Into<String>) -> Self {
        let file = Some(file.to_string());
        Self { kind, code: kind.code(), file, tile: None, index: None, message: message.into() }
    }

    /// A failure at an entry.
    pub fn at(kind: Kind, id: TileId, index: u64, message: impl Into<String>) -> Self {
        let tile = match id.kind {
            crate::tile::Kind::Hashes(level) => format!("{level}/{}", id.index),
            crate::tile::Kind::Entries => format!("0/{}", id.index),
        };
        Self { tile: Some(tile), index: Some(index), ..Self::file(kind, id, message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_code_and_a_word_of_its_own() {
        for of in [|k: Kind| k.code().to_string(), |k: Kind| k.as_str().to_owned()] {
            let all: std::collections::HashSet<String> = Kind::ALL.into_iter().map(of).collect();
            assert_eq!(all.len(), Kind::ALL.len());
        }
        assert!(Kind::ALL.iter().all(|k| k.code() != 0 && k.code() != 64));
        let page = include_str!("../../../../docs/esg-ledger.md");
        for kind in Kind::ALL {
            let row = format!("| {} | `{}` |", kind.code(), kind.as_str());
            assert!(page.contains(&row), "docs/esg-ledger.md lacks {row}");
        }
    }
}
