//! Signed notes with Ed25519 keys: <https://c2sp.org/signed-note>.
//!
//! A log signs with type 0x01, a witness with 0x04 (<https://c2sp.org/tlog-cosignature>).

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    rand::{SecureRandom, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use base64::{Engine, prelude::BASE64_STANDARD};

use crate::merkle::sha256;

/// Signatures that a note may carry; more are refused unread.
const MAX_SIGNATURES: usize = 100;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// 0x01: Ed25519 over the note's text.
    Ed25519,
    /// 0x04: Ed25519 over the text, a header and a time.
    CosignatureV1,
}

impl Algorithm {
    fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::CosignatureV1 => 4,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::Ed25519, Self::CosignatureV1].into_iter().find(|a| a.byte() == byte)
    }
}

/// Why a key or a note is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not of the form `name+hexid+base64`.
    #[error("not a {what}: {reason}")]
    Key {
        /// Which kind of key was expected.
        what: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// The note's own form is wrong.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// No line is by the key.
    #[error("no signature by {0}")]
    Unsigned(String),
    /// A line is by the key, and wrong.
    #[error("the signature by {0} is invalid")]
    Invalid(String),
}

fn name_is_valid(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c == '+' || c.is_control())
}

fn key_id(name: &str, algorithm: Algorithm, public: &[u8]) -> u32 {
    let mut input = name.as_bytes().to_vec();
    input.push(b'\n');
    input.push(algorithm.byte());
    input.extend_from_slice(public);
    let hash = sha256(&input);
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// A public key with its name: `name+hexid+base64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: u32,
    algorithm: Algorithm,
    public: [u8; 32],
}

impl VerifierKey {
    fn new(name: String, algorithm: Algorithm, public: [u8; 32]) -> Self {
        Self { id: key_id(&name, algorithm, &public), name, algorithm, public }
    }

    /// The key's name; a log's is its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public).verify(message, signature).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut data = vec![self.algorithm.byte()];
        data.extend_from_slice(&self.public);
        write!(f, "{}+{:08x}+{}", self.name, self.id, BASE64_STANDARD.encode(data))
    }
}

/// Splits `name+hexid+base64`; the base64 may itself hold a plus.
fn split_key<'a>(text: &'a str, what: &'static str) -> Result<(&'a str, u32, Algorithm, [u8; 32]), NoteError> {
    let fail = |reason| NoteError::Key { what, reason };
    let (name, rest) = text.trim().split_once('+').ok_or(fail("it must be name+id+key"))?;
    let (id, data) = rest.split_once('+').ok_or(fail("it must be name+id+key"))?;
    if !name_is_valid(name) {
        return Err(fail("the name is empty or has a space"));
    }
    if id.len() != 8 || id.bytes().any(|b| !b.is_ascii_hexdigit()) {
        return Err(fail("the id must be 8 hexadecimal digits"));
    }
    let id = u32::from_str_radix(id, 16).map_err(|_| fail("the id must be 8 hexadecimal digits"))?;
    let data = BASE64_STANDARD.decode(data).map_err(|_| fail("the key is not base64"))?;
    let (kind, key) = data.split_first().ok_or(fail("the key is empty"))?;
    let algorithm = Algorithm::of(*kind).ok_or(fail("only Ed25519 keys (types 1 and 4) are known"))?;
    let key = key.try_into().map_err(|_| fail("an Ed25519 key has 32 bytes"))?;
    Ok((name, id, algorithm, key))
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let what = "verifier key";
        let (name, id, algorithm, public) = split_key(text, what)?;
        let key = Self::new(name.to_owned(), algorithm, public);
        if key.id != id {
            return Err(NoteError::Key { what, reason: "the id does not belong to this name and key" });
        }
        Ok(key)
    }
}

/// A private key with its name, in the form of Go's `note` package:
/// `PRIVATE+KEY+name+hexid+base64`.
pub struct SigningKey {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifier.name)
    }
}

const PRIVATE: &str = "PRIVATE+KEY+";

impl SigningKey {
    /// A new key from the system's random numbers.
    ///
    /// # Errors
    /// The name has a space or a plus, or there are no random numbers.
    pub fn generate(name: &str, algorithm: Algorithm) -> Result<Self, NoteError> {
        let mut seed = [0; 32];
        let random = SystemRandom::new();
        random.fill(&mut seed).map_err(|_| NoteError::Key { what: "signing key", reason: "no random numbers" })?;
        Self::from_seed(name, algorithm, seed)
    }

    /// The key of a seed (RFC 8032's private key).
    ///
    /// # Errors
    /// The name has a space or a plus.
    pub fn from_seed(name: &str, algorithm: Algorithm, seed: [u8; 32]) -> Result<Self, NoteError> {
        let what = "signing key";
        if !name_is_valid(name) {
            return Err(NoteError::Key { what, reason: "the name is empty or has a space or a plus" });
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
            .map_err(|_| NoteError::Key { what, reason: "not an Ed25519 seed" })?;
        let public = pair.public_key().as_ref().try_into();
        let public = public.map_err(|_| NoteError::Key { what, reason: "not an Ed25519 seed" })?;
        Ok(Self { seed, pair, verifier: VerifierKey::new(name.to_owned(), algorithm, public) })
    }

    /// The text form, to be kept secret.
    pub fn to_secret(&self) -> String {
        let key = &self.verifier;
        let mut data = vec![key.algorithm.byte()];
        data.extend_from_slice(&self.seed);
        format!("{PRIVATE}{}+{:08x}+{}", key.name, key.id, BASE64_STANDARD.encode(data))
    }

    /// The public half.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// A signature line over a note's text; `time` (Unix seconds) is used by cosignatures only.
    pub fn sign(&self, text: &str, time: u64) -> Signature {
        let data = match self.verifier.algorithm {
            Algorithm::Ed25519 => self.pair.sign(text.as_bytes()).as_ref().to_vec(),
            Algorithm::CosignatureV1 => {
                let mut data = time.to_be_bytes().to_vec();
                data.extend_from_slice(self.pair.sign(&cosigned(text, time)).as_ref());
                data
            }
        };
        Signature { name: self.verifier.name.clone(), id: self.verifier.id, data }
    }
}

impl FromStr for SigningKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let what = "signing key";
        let rest = text.trim().strip_prefix(PRIVATE);
        let rest = rest.ok_or(NoteError::Key { what, reason: "it must start with PRIVATE+KEY+" })?;
        let (name, id, algorithm, seed) = split_key(rest, what)?;
        let key = Self::from_seed(name, algorithm, seed)?;
        if key.verifier.id != id {
            return Err(NoteError::Key { what, reason: "the id does not belong to this name and key" });
        }
        Ok(key)
    }
}

fn cosigned(text: &str, time: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    name: String,
    id: u32,
    data: Vec<u8>,
}

impl Signature {
    /// Whether the line claims to be by this key.
    pub fn is_by(&self, key: &VerifierKey) -> bool {
        self.name == key.name && self.id == key.id
    }
}

impl fmt::Display for Signature {
    /// The line with its line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut data = self.id.to_be_bytes().to_vec();
        data.extend_from_slice(&self.data);
        writeln!(f, "— {} {}", self.name, BASE64_STANDARD.encode(data))
    }
}

impl FromStr for Signature {
    type Err = NoteError;

    /// Parses a line without its line break.
    fn from_str(line: &str) -> Result<Self, NoteError> {
        let bad = NoteError::Malformed("a signature line must be '— name base64'");
        let (name, data) = line.strip_prefix("— ").and_then(|l| l.split_once(' ')).ok_or(bad.clone())?;
        let data = BASE64_STANDARD.decode(data).map_err(|_| bad.clone())?;
        let (id, data) = data.split_first_chunk::<4>().ok_or(bad.clone())?;
        if !name_is_valid(name) || data.is_empty() {
            return Err(bad);
        }
        Ok(Self { name: name.to_owned(), id: u32::from_be_bytes(*id), data: data.to_vec() })
    }
}

/// A text and the signatures under it, none of them checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// A note to be signed; `text` ends with a line break.
    pub fn new(text: String) -> Self {
        Self { text, signatures: Vec::new() }
    }

    /// Parses a note.
    ///
    /// # Errors
    /// It is not of a signed note's form.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        let all = std::str::from_utf8(bytes).map_err(|_| NoteError::Malformed("it is not UTF-8"))?;
        if all.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Malformed("it has a control character"));
        }
        let at = all.rfind("\n\n").ok_or(NoteError::Malformed("no empty line before the signatures"))?;
        let (text, lines) = (&all[..=at], &all[at + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Malformed("it does not end with a line break"))?;
        if lines.split('\n').count() > MAX_SIGNATURES {
            return Err(NoteError::Malformed("it has too many signatures"));
        }
        let signatures = lines.split('\n').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The signed text, with its last line break.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Adds a line, in place of an earlier one by the same key.
    pub fn add(&mut self, signature: Signature) {
        self.signatures.retain(|s| (&s.name, s.id) != (&signature.name, signature.id));
        self.signatures.push(signature);
    }

    /// Checks every line by `key`. For a cosignature the answer is its latest time, Unix seconds.
    ///
    /// # Errors
    /// There is none, or one is wrong.
    pub fn verify(&self, key: &VerifierKey) -> Result<Option<u64>, NoteError> {
        let (mut found, mut latest) = (false, None);
        for line in self.signatures.iter().filter(|s| s.is_by(key)) {
            let invalid = || NoteError::Invalid(key.name.clone());
            match key.algorithm {
                Algorithm::Ed25519 => {
                    if !key.verify(self.text.as_bytes(), &line.data) {
                        return Err(invalid());
                    }
                }
                Algorithm::CosignatureV1 => {
                    let (time, signature) = line.data.split_first_chunk::<8>().ok_or_else(invalid)?;
                    let time = u64::from_be_bytes(*time);
                    if time > i64::MAX as u64 || !key.verify(&cosigned(&self.text, time), signature) {
                        return Err(invalid());
                    }
                    latest = latest.max(Some(time));
                }
            }
            found = true;
        }
        if found { Ok(latest) } else { Err(NoteError::Unsigned(key.name.clone())) }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|s| s.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_specification_s_example_verifies_and_any_change_does_not() {
        let key: VerifierKey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k".parse().unwrap();
        let text = "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
        let note = Note::parse(text.as_bytes()).unwrap();
        assert_eq!(note.verify(&key), Ok(None));
        assert_eq!(note.to_string(), text);
        assert_eq!(key.to_string().parse(), Ok(key.clone()));
        for bit in 0..text.len() * 8 {
            let mut bytes = text.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let passes = Note::parse(&bytes).is_ok_and(|n| n.verify(&key).is_ok());
            assert!(!passes, "bit {bit} of the note");
        }
    }

    #[test]
    fn a_private_key_has_go_s_form_and_comes_back() {
        let key = SigningKey::generate("example.com/log", Algorithm::Ed25519).unwrap();
        let back: SigningKey = key.to_secret().parse().unwrap();
        assert!(key.to_secret().starts_with("PRIVATE+KEY+example.com/log+"));
        assert_eq!(back.verifier(), key.verifier());
        assert_eq!(format!("{key:?}"), "SigningKey(example.com/log)", "never the key itself");
        let mut note = Note::new("a\n\nb\n".to_owned());
        note.add(key.sign(note.text(), 0));
        note.add(back.sign(note.text(), 0));
        assert_eq!(note.signatures().len(), 1);
        let note = Note::parse(note.to_string().as_bytes()).unwrap();
        assert_eq!((note.text(), note.verify(key.verifier())), ("a\n\nb\n", Ok(None)));
    }

    #[test]
    fn a_cosignature_binds_text_and_time() {
        let key = SigningKey::from_seed("witness.example/w1", Algorithm::CosignatureV1, [7; 32]).unwrap();
        let mut note = Note::new("example.com/log\n1\nx\n".to_owned());
        note.add(key.sign(note.text(), 1_679_315_147));
        assert_eq!(note.verify(key.verifier()), Ok(Some(1_679_315_147)));
        note.signatures[0].data[7] ^= 1;
        assert_eq!(note.verify(key.verifier()), Err(NoteError::Invalid("witness.example/w1".to_owned())));
        let log = SigningKey::from_seed("witness.example/w1", Algorithm::Ed25519, [7; 32]).unwrap();
        assert_ne!(log.verifier().id, key.verifier().id, "the same key in two roles has two ids");
        assert!(matches!(note.verify(log.verifier()), Err(NoteError::Unsigned(_))));
    }

    #[test]
    fn wrong_keys_say_what_is_wrong() {
        for (text, says) in [
            ("nonsense", "not a verifier key: it must be name+id+key"),
            (
                "a b+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
                "not a verifier key: the name is empty or has a space",
            ),
            (
                "a+530d903+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
                "not a verifier key: the id must be 8 hexadecimal digits",
            ),
            (
                "a+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
                "not a verifier key: the id does not belong to this name and key",
            ),
            ("a+530d903a+A", "not a verifier key: the key is not base64"),
            ("a+530d903a+Aek=", "not a verifier key: an Ed25519 key has 32 bytes"),
            ("a+530d903a+Aukyeg==", "not a verifier key: only Ed25519 keys (types 1 and 4) are known"),
        ] {
            assert_eq!(text.parse::<VerifierKey>().unwrap_err().to_string(), says);
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(text in "(.|\n|— )*") {
            let _ = Note::parse(text.as_bytes());
            let _ = text.parse::<VerifierKey>();
        }
    }
}
