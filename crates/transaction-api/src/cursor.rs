//! The cursor of the list: the last row seen, opaque to the client.
//!
//! A page after a cursor holds what is strictly older than that row, so rows that
//! are inserted meanwhile neither repeat nor shift what is still to come.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::transaction::{Status, Transaction};

const VERSION: u8 = 1;
const LENGTH: usize = 1 + 1 + 8 + 16;

/// A place in the list, and the filter that the list was asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Microseconds since the epoch: the resolution of the database.
    micros: i64,
    id: Uuid,
    filter: Option<Status>,
}

/// Why a cursor was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Not made by this service.
    #[error("is not a cursor of this list")]
    Malformed,
    /// Made for a list with another status filter.
    #[error("belongs to a list with another status filter")]
    OtherFilter,
}

impl Cursor {
    /// The cursor that continues after `last`.
    pub fn after(last: &Transaction, filter: Option<Status>) -> Self {
        Self { micros: (last.created_at.unix_timestamp_nanos() / 1000) as i64, id: last.id, filter }
    }

    /// The row that the next page must be older than.
    pub fn position(&self) -> (OffsetDateTime, Uuid) {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.micros) * 1000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        (at, self.id)
    }

    /// As the client sees it.
    pub fn encode(&self) -> String {
        let mut bytes = [0; LENGTH];
        bytes[0] = VERSION;
        bytes[1] = tag(self.filter);
        bytes[2..10].copy_from_slice(&self.micros.to_be_bytes());
        bytes[10..].copy_from_slice(self.id.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`Cursor::encode`] wrote for a list with this filter.
    pub fn decode(text: &str, filter: Option<Status>) -> Result<Self, CursorError> {
        let mut bytes = [0; LENGTH];
        match BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(LENGTH) if bytes[0] == VERSION => {}
            _ => return Err(CursorError::Malformed),
        }
        let [_, made_for, rest @ ..] = bytes;
        let (micros, id) = rest.split_at(8);
        let micros = micros.try_into().map(i64::from_be_bytes).map_err(|_| CursorError::Malformed)?;
        let id = Uuid::from_slice(id).map_err(|_| CursorError::Malformed)?;
        if OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000).is_err() {
            return Err(CursorError::Malformed);
        }
        if made_for != tag(filter) {
            return Err(CursorError::OtherFilter);
        }
        Ok(Self { micros, id, filter })
    }
}

fn tag(filter: Option<Status>) -> u8 {
    match filter {
        None => 0,
        Some(Status::Approved) => 1,
        Some(Status::Declined) => 2,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filters() -> impl Strategy<Value = Option<Status>> {
        prop_oneof![Just(None), Just(Some(Status::Approved)), Just(Some(Status::Declined))]
    }

    proptest! {
        #[test]
        fn a_cursor_survives_the_round_trip(
            // Year 1 to 9999: what the time crate holds.
            micros in -62_135_596_800_000_000i64..253_402_300_800_000_000,
            id in any::<u128>(),
            filter in filters(),
        ) {
            let cursor = Cursor { micros, id: Uuid::from_u128(id), filter };
            let text = cursor.encode();
            prop_assert_eq!(Cursor::decode(&text, filter), Ok(cursor));
            let (at, same) = cursor.position();
            prop_assert_eq!(at.unix_timestamp_nanos(), i128::from(micros) * 1000);
            prop_assert_eq!(same, cursor.id);
        }

        #[test]
        fn another_filter_is_refused(id in any::<u128>(), made in filters(), asked in filters()) {
            let text = Cursor { micros: 0, id: Uuid::from_u128(id), filter: made }.encode();
            let expected = if made == asked { None } else { Some(CursorError::OtherFilter) };
            prop_assert_eq!(Cursor::decode(&text, asked).err(), expected);
        }

        #[test]
        fn any_text_is_refused_or_reencodes_to_itself(text in "[A-Za-z0-9_=+/-]{0,48}") {
            if let Ok(cursor) = Cursor::decode(&text, None) {
                prop_assert_eq!(cursor.encode(), text);
            }
        }
    }

    #[test]
    fn garbage_is_malformed() {
        for no in ["", "x", "'; DROP TABLE transactions; --", &"A".repeat(10_000), "\u{1f600}"] {
            assert_eq!(Cursor::decode(no, None), Err(CursorError::Malformed), "{no}");
        }
        // A time that no calendar holds.
        let far = Cursor { micros: i64::MAX, id: Uuid::nil(), filter: None };
        assert_eq!(Cursor::decode(&far.encode(), None), Err(CursorError::Malformed));
    }
}
