//! Checkpoints: a tree's size and root under a log's name, signed.
//!
//! <https://c2sp.org/tlog-checkpoint>

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    merkle::Hash,
    note::{Note, NoteError, VerifierKey},
};

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Entries in the tree.
    pub size: u64,
    /// Root hash of the tree.
    pub root: Hash,
}

/// Why a checkpoint is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The signed note is not one, or its signature does not hold.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text is not that of a checkpoint.
    #[error("not a checkpoint: {0}")]
    Malformed(&'static str),
    /// It is of another log.
    #[error("the checkpoint is of the log '{found}', not of '{expected}'")]
    Origin {
        /// The log that it is of.
        found: String,
        /// The log that was expected.
        expected: String,
    },
}

impl Checkpoint {
    /// The text that is signed.
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64_STANDARD.encode(self.root))
    }

    /// Parses a note's text. Extension lines are allowed and ignored.
    ///
    /// # Errors
    /// Which line is wrong.
    pub fn from_text(text: &str) -> Result<Self, CheckpointError> {
        let bad = CheckpointError::Malformed;
        let body = text.strip_suffix('\n').ok_or(bad("it does not end with a line break"))?;
        let mut lines = body.split('\n');
        let mut line = |what| lines.next().filter(|l| !l.is_empty()).ok_or(bad(what));
        let origin = line("the first line must be the log's origin")?.to_owned();
        let size_text = line("the second line must be the tree size")?;
        let root_text = line("the third line must be the root hash")?;
        let size: u64 = size_text.parse().map_err(|_| bad("the second line must be the tree size"))?;
        if size.to_string() != size_text {
            return Err(bad("the tree size must have no sign and no leading zeros"));
        }
        let root = BASE64_STANDARD.decode(root_text).ok().and_then(|r| r.try_into().ok());
        let root = root.ok_or(bad("the third line must be the root hash, 32 bytes in base64"))?;
        if lines.any(str::is_empty) {
            return Err(bad("extension lines must not be empty"));
        }
        Ok(Self { origin, size, root })
    }

    /// Parses a signed checkpoint and checks the log's signature and origin.
    ///
    /// # Errors
    /// What does not hold.
    pub fn open(bytes: &[u8], key: &VerifierKey) -> Result<(Self, Note), CheckpointError> {
        let note = Note::parse(bytes)?;
        let checkpoint = Self::from_text(note.text())?;
        // Another log's checkpoint is signed by another key; saying so helps more than "unsigned".
        if checkpoint.origin != key.name() {
            let expected = key.name().to_owned();
            return Err(CheckpointError::Origin { found: checkpoint.origin, expected });
        }
        note.verify(key)?;
        Ok((checkpoint, note))
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        merkle::empty_root,
        note::{Algorithm, SigningKey},
    };

    fn signed(text: &str, key: &SigningKey) -> Vec<u8> {
        let mut note = Note::new(text.to_owned());
        note.add(key.sign(text, 0));
        note.to_string().into_bytes()
    }

    #[test]
    fn a_checkpoint_comes_back_and_each_fault_is_told() {
        let key = SigningKey::from_seed("example.com/log", Algorithm::Ed25519, [1; 32]).unwrap();
        let checkpoint = Checkpoint { origin: "example.com/log".to_owned(), size: 7, root: empty_root() };
        let root = BASE64_STANDARD.encode(empty_root());
        let open = |text: &str| Checkpoint::open(&signed(text, &key), key.verifier()).map(|(c, _)| c);
        assert_eq!(open(&checkpoint.to_text()), Ok(checkpoint.clone()));
        assert_eq!(open(&format!("{checkpoint}extension\n")), Ok(checkpoint.clone()));
        for (text, says) in [
            (
                format!("example.com/log\n07\n{root}\n"),
                "not a checkpoint: the tree size must have no sign and no leading zeros",
            ),
            (
                format!("example.com/log\n+7\n{root}\n"),
                "not a checkpoint: the tree size must have no sign and no leading zeros",
            ),
            (format!("example.com/log\n-7\n{root}\n"), "not a checkpoint: the second line must be the tree size"),
            ("example.com/log\n7\n".to_owned(), "not a checkpoint: the third line must be the root hash"),
            (
                "example.com/log\n7\nAAAA\n".to_owned(),
                "not a checkpoint: the third line must be the root hash, 32 bytes in base64",
            ),
            (format!("other\n7\n{root}\n"), "the checkpoint is of the log 'other', not of 'example.com/log'"),
        ] {
            assert_eq!(open(&text).unwrap_err().to_string(), says, "{text}");
        }
        let other = SigningKey::from_seed("example.com/log", Algorithm::Ed25519, [2; 32]).unwrap();
        let wrong = Checkpoint::open(&signed(&checkpoint.to_text(), &key), other.verifier()).unwrap_err();
        assert_eq!(wrong.to_string(), "no signature by example.com/log");
    }
}
