//! Who a request is for, without saying who.
//!
//! A log must let an operator follow one user and must not tell who that is: the
//! id is replaced by a keyed hash (HMAC-SHA-256, the first 64 bits). Without the
//! key nobody can compute which id gives which pseudonym, so a plain list of
//! customer ids does not undo it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// An id longer than this is no id.
const MAX_ID: usize = 128;

/// Turns ids into pseudonyms.
#[derive(Clone)]
pub struct Pseudonyms(Hmac<Sha256>);

impl Pseudonyms {
    /// `key` may have any length.
    pub fn new(key: &str) -> Option<Self> {
        Hmac::new_from_slice(key.as_bytes()).ok().map(Self)
    }

    /// The pseudonym of an id: `u-` and 16 hex digits. `None` if it is no sane id.
    pub fn of(&self, id: &str) -> Option<String> {
        if id.is_empty() || id.len() > MAX_ID {
            return None;
        }
        let digest = self.0.clone().chain_update(id).finalize().into_bytes();
        let head = digest.iter().take(8).fold(0u64, |head, byte| head << 8 | u64::from(*byte));
        Some(format!("u-{head:016x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudonym_is_stable_and_depends_on_the_key() {
        let (a, b) = (Pseudonyms::new("key a").unwrap(), Pseudonyms::new("key b").unwrap());
        let id = "alice@example.org";
        assert_eq!(a.of(id), a.of(id));
        assert_ne!(a.of(id), b.of(id));
        assert_ne!(a.of(id), a.of("bob@example.org"));
        let told = a.of(id).unwrap();
        assert_eq!(told.len(), 18);
        assert!(!told.contains("alice"));
        assert_eq!((a.of(""), a.of(&"x".repeat(129))), (None, None));
    }

    #[test]
    fn it_is_hmac_sha_256() {
        // RFC 4231, test case 2.
        assert_eq!(Pseudonyms::new("Jefe").unwrap().of("what do ya want for nothing?").unwrap(), "u-5bdcc146bf60754e");
    }
}
