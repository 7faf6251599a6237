//! `Idempotency-Key`: what a key looks like and when two requests are the same.

use axum::http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::transaction::Draft;

/// The request header.
pub const HEADER: &str = "idempotency-key";

/// A client's key: 1 to [`Key::MAX`] visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// The longest key.
    pub const MAX: usize = 255;

    /// The key of a request, if it carries one.
    ///
    /// # Errors
    /// Says what is wrong with the header.
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, &'static str> {
        let mut values = headers.get_all(HEADER).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err("must be sent once");
        }
        let visible = value.as_bytes().iter().all(u8::is_ascii_graphic);
        match value.to_str() {
            Ok(text) if visible && (1..=Self::MAX).contains(&text.len()) => Ok(Some(Self(text.to_owned()))),
            _ => Err("must be 1 to 255 visible ASCII characters"),
        }
    }

    /// The key itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Identifies what a request asks for, whatever its spelling: order of fields and
/// white space do not count.
pub type RequestHash = [u8; 32];

/// The hash of a request; `None` is the empty body, which asks for a random draft.
pub fn request_hash(draft: Option<&Draft>) -> RequestHash {
    let mut hash = Sha256::new();
    match draft {
        None => hash.update(b"create/1 random"),
        Some(draft) => {
            // All parts but the last have a fixed length, so no two drafts share an encoding.
            hash.update(b"create/1 draft");
            hash.update(draft.amount.minor().to_be_bytes());
            hash.update(draft.currency.code());
            match &draft.description {
                None => hash.update([0]),
                Some(text) => {
                    hash.update([1]);
                    hash.update(text.as_str());
                }
            }
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        money::{Amount, Currency},
        transaction::Description,
    };

    fn key(values: &[&[u8]]) -> Result<Option<Key>, &'static str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_bytes(value).unwrap());
        }
        Key::from_headers(&headers)
    }

    #[test]
    fn keys_are_visible_bounded_and_single() {
        assert_eq!(key(&[]), Ok(None));
        assert_eq!(key(&[b"8e03978e-40d5"]).unwrap().unwrap().as_str(), "8e03978e-40d5");
        assert!(key(&[&[b'k'; 255]]).is_ok());
        for no in [&b""[..], b"a b", b"caf\xc3\xa9", &[b'k'; 256]] {
            assert!(key(&[no]).is_err(), "{no:?}");
        }
        assert!(key(&[b"a", b"a"]).is_err());
    }

    fn drafts() -> impl Strategy<Value = Draft> {
        (1i64..5, prop_oneof![Just("EUR"), Just("USD")], proptest::option::of("[ab\u{e9}]{1,3}")).prop_map(
            |(minor, code, text)| Draft {
                amount: Amount::new(minor).unwrap(),
                currency: Currency::from_code(code).unwrap(),
                description: text.map(|text| Description::new(&text).unwrap()),
            },
        )
    }

    proptest! {
        #[test]
        fn equal_hashes_are_equal_requests(a in drafts(), b in drafts()) {
            prop_assert_eq!(request_hash(Some(&a)) == request_hash(Some(&b)), a == b);
            prop_assert_ne!(request_hash(Some(&a)), request_hash(None));
        }

        #[test]
        fn spelling_does_not_count(draft in drafts(), spaces in " {0,4}") {
            let amount = draft.amount.minor();
            let code = draft.currency.code();
            let text = serde_json::to_string(&draft.description).unwrap();
            let one = format!(r#"{{"amount":{amount},"currency":"{code}","description":{text}}}"#);
            let other = format!(r#"{{{spaces}"description":{text}, "currency" : "{code}", "amount":{spaces}{amount}}}"#);
            let hash = |json: &str| request_hash(Some(&serde_json::from_str(json).unwrap()));
            prop_assert_eq!(hash(&one), hash(&other));
        }
    }
}
