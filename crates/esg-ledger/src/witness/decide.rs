//! The witness's decision: <https://c2sp.org/tlog-witness>, `add-checkpoint`. Pure.

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    merkle::{Hash, empty_root, verify_consistency},
    note::{Note, VerifierKey},
};

/// Lines of proof that a request may have.
const MOST_LINES: usize = 63;

/// What the specification answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400: the request is not of its form, or the old size is beyond the new.
    BadRequest(String),
    /// 403: not signed by the log's key.
    Forbidden(String),
    /// 404: an unknown log.
    UnknownLog(String),
    /// 409: the size cosigned last is another; this one.
    Conflict(u64),
    /// 422: the proof does not hold. It may be evidence against the log.
    Inconsistent(String),
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Forbidden(_) => 403,
            Self::UnknownLog(_) => 404,
            Self::Conflict(_) => 409,
            Self::Inconsistent(_) => 422,
        }
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Size that the sender believes was cosigned last.
    pub old: u64,
    /// Consistency proof from there.
    pub proof: Vec<Hash>,
    /// The checkpoint's bytes.
    pub checkpoint: Vec<u8>,
}

impl Request {
    /// Parses a body.
    ///
    /// # Errors
    /// 400.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let bad = |why: &str| Refusal::BadRequest(why.to_owned());
        let text = std::str::from_utf8(body).map_err(|_| bad("not UTF-8"))?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or_else(|| bad("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        let old =
            lines.next().and_then(|l| l.strip_prefix("old ")).ok_or_else(|| bad("the old size line is missing"))?;
        let size: u64 = old.parse().map_err(|_| bad("the old size is no number"))?;
        if size.to_string() != old {
            return Err(bad("the old size has a sign or leading zeros"));
        }
        let hash = |line| BASE64_STANDARD.decode(line).ok().and_then(|b| b.try_into().ok());
        let proof: Option<Vec<Hash>> = lines.map(hash).collect();
        let proof = proof.ok_or_else(|| bad("a proof line is no hash in base64"))?;
        if proof.len() > MOST_LINES {
            return Err(bad("more than 63 proof lines"));
        }
        Ok(Self { old: size, proof, checkpoint: checkpoint.as_bytes().to_vec() })
    }

    /// A body.
    pub fn to_body(&self) -> Vec<u8> {
        let mut out = format!("old {}\n", self.old);
        for hash in &self.proof {
            out.push_str(&BASE64_STANDARD.encode(hash));
            out.push('\n');
        }
        out.push('\n');
        let mut out = out.into_bytes();
        out.extend_from_slice(&self.checkpoint);
        out
    }
}

/// Whether a checkpoint may be cosigned, given what was cosigned last for its log.
///
/// # Errors
/// The answer of the specification.
pub fn decide(
    request: &Request,
    keys: &[VerifierKey],
    latest: impl FnOnce(&str) -> Option<Checkpoint>,
) -> Result<(Checkpoint, Note), Refusal> {
    let note = Note::parse(&request.checkpoint).map_err(|e| Refusal::BadRequest(e.to_string()))?;
    let claimed = Checkpoint::from_text(note.text()).map_err(|e| Refusal::BadRequest(e.to_string()))?;
    let key = keys.iter().find(|k| k.name() == claimed.origin);
    let key = key.ok_or_else(|| Refusal::UnknownLog(format!("the log '{}' is not known here", claimed.origin)))?;
    let (new, note) = Checkpoint::open(&request.checkpoint, key).map_err(|e| match e {
        CheckpointError::Note(e) => Refusal::Forbidden(e.to_string()),
        e => Refusal::BadRequest(e.to_string()),
    })?;
    if request.old > new.size {
        return Err(Refusal::BadRequest("the old size is beyond the checkpoint's".to_owned()));
    }
    let latest = latest(&new.origin).unwrap_or(Checkpoint { origin: new.origin.clone(), size: 0, root: empty_root() });
    if request.old != latest.size {
        return Err(Refusal::Conflict(latest.size));
    }
    if new.size == 0 && new.root != empty_root() {
        return Err(Refusal::Inconsistent("the root of the empty tree is wrong".to_owned()));
    }
    verify_consistency(latest.size, &latest.root, new.size, &new.root, &request.proof)
        .map_err(|e| Refusal::Inconsistent(format!("from {} to {} entries: {e}", latest.size, new.size)))?;
    Ok((new, note))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        merkle::leaf_hash,
        note::{Algorithm, SigningKey},
    };

    fn request(old: u64, size: u64, root: Hash, proof: Vec<Hash>, key: &SigningKey) -> Request {
        let checkpoint = Checkpoint { origin: "log".to_owned(), size, root };
        let mut note = Note::new(checkpoint.to_text());
        note.add(key.sign(note.text(), 0));
        Request { old, proof, checkpoint: note.to_string().into_bytes() }
    }

    #[test]
    fn each_answer_of_the_specification() {
        let key = SigningKey::from_seed("log", Algorithm::Ed25519, [1; 32]).unwrap();
        let other = SigningKey::from_seed("log", Algorithm::Ed25519, [2; 32]).unwrap();
        let keys = [key.verifier().clone()];
        let (one, two) = (leaf_hash(b"1"), leaf_hash(b"2"));
        let root = crate::merkle::node_hash(&one, &two);
        let at_one = |_: &str| Some(Checkpoint { origin: "log".to_owned(), size: 1, root: one });
        let status = |r: &Request| decide(r, &keys, at_one).map(|(c, _)| c.size).map_err(|e| e.status());

        assert_eq!(status(&request(1, 2, root, vec![two], &key)), Ok(2));
        assert_eq!(status(&request(1, 1, one, vec![], &key)), Ok(1), "the same again");
        assert_eq!(status(&request(1, 1, two, vec![], &key)), Err(422), "the same size with another root");
        assert_eq!(status(&request(1, 2, root, vec![one], &key)), Err(422));
        assert_eq!(status(&request(1, 2, root, vec![], &key)), Err(422));
        assert_eq!(status(&request(3, 2, root, vec![], &key)), Err(400));
        assert_eq!(status(&request(1, 2, root, vec![two], &other)), Err(403));
        assert_eq!(decide(&request(0, 2, root, vec![], &key), &keys, at_one).unwrap_err(), Refusal::Conflict(1));
        assert_eq!(decide(&request(0, 2, root, vec![], &key), &[], at_one).unwrap_err().status(), 404);
        assert_eq!(decide(&request(0, 0, one, vec![], &key), &keys, |_| None).unwrap_err().status(), 422);
        assert!(decide(&request(0, 2, root, vec![], &key), &keys, |_| None).is_ok(), "the first one needs no proof");
    }

    #[test]
    fn a_request_comes_back_and_bad_ones_are_told() {
        let key = SigningKey::from_seed("log", Algorithm::Ed25519, [1; 32]).unwrap();
        let r = request(7, 9, empty_root(), vec![[3; 32], [4; 32]], &key);
        assert_eq!(Request::parse(&r.to_body()), Ok(r));
        for (body, why) in [
            ("", "no empty line before the checkpoint"),
            ("new 1\n\nx", "the old size line is missing"),
            ("old 01\n\nx", "the old size has a sign or leading zeros"),
            ("old x\n\nx", "the old size is no number"),
            ("old 1\nAAAA\n\nx", "a proof line is no hash in base64"),
        ] {
            assert_eq!(Request::parse(body.as_bytes()), Err(Refusal::BadRequest(why.to_owned())));
        }
        let many = format!("old 1\n{}\nx", format!("{}\n", BASE64_STANDARD.encode([0; 32])).repeat(64));
        assert_eq!(Request::parse(many.as_bytes()), Err(Refusal::BadRequest("more than 63 proof lines".to_owned())));
    }
}
