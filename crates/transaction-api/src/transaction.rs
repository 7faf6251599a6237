//! What a transaction is, and what a client may ask for.

use std::fmt;

use rand::{Rng, RngExt, seq::IndexedRandom};
use serde::{Deserialize, Deserializer, Serialize, de};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::money::{Amount, Currency};

/// How a payment ended. A transaction never changes afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The gateway took the money.
    Approved,
    /// The gateway refused: a business failure, not a fault of the service.
    Declined,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Approved, Self::Declined];

    /// As stored and as shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Declined => "declined",
        }
    }

    /// The inverse of [`Status::as_str`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// Why the gateway refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeclineReason {
    /// Not enough money.
    InsufficientFunds,
    /// The card is no longer valid.
    CardExpired,
    /// Above the payer's limit.
    LimitExceeded,
    /// The issuer suspects a fraud.
    SuspectedFraud,
}

impl DeclineReason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::InsufficientFunds, Self::CardExpired, Self::LimitExceeded, Self::SuspectedFraud];

    /// As stored and as shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InsufficientFunds => "insufficient_funds",
            Self::CardExpired => "card_expired",
            Self::LimitExceeded => "limit_exceeded",
            Self::SuspectedFraud => "suspected_fraud",
        }
    }

    /// The inverse of [`DeclineReason::as_str`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// What the payment is for: 1 to [`Description::MAX_CHARS`] characters, trimmed,
/// without control characters. It may hold personal data and never enters a log.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Description(String);

impl Description {
    /// The longest description, in characters.
    pub const MAX_CHARS: usize = 200;

    /// `Err` says what is wrong, without repeating the text.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = text.trim();
        // Postgres cannot store NUL; other control characters only serve to deceive a reader.
        if text.chars().any(char::is_control) {
            return Err("control characters are not allowed".to_owned());
        }
        if !(1..=Self::MAX_CHARS).contains(&text.chars().count()) {
            return Err(format!("must have 1 to {} characters", Self::MAX_CHARS));
        }
        Ok(Self(text.to_owned()))
    }

    /// Wraps what the database's own constraint has accepted.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Description(…)")
    }
}

impl<'de> Deserialize<'de> for Description {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::new(&text).map_err(de::Error::custom)
    }
}

/// The body of `POST /transactions/create`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// Integer minor units: 1250 is 12.50 EUR, or 1250 JPY.
    #[schema(value_type = i64, minimum = 1, maximum = 99_999_999_999_i64, example = 1250)]
    pub amount: Amount,
    /// ISO 4217 code in upper case.
    #[schema(value_type = String, pattern = "^[A-Z]{3}$", example = "EUR")]
    pub currency: Currency,
    /// What the payment is for.
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 200, example = "spare drive belts")]
    pub description: Option<Description>,
}

impl Draft {
    /// A plausible payment of an industrial buyer.
    pub fn random(rng: &mut impl Rng) -> Self {
        const CODES: [&str; 8] = ["EUR", "EUR", "EUR", "USD", "USD", "GBP", "CHF", "JPY"];
        const PURPOSES: [&str; 10] = [
            "replacement bearings",
            "machine lease",
            "electricity invoice",
            "cooling water",
            "spare drive belts",
            "calibration service",
            "freight",
            "hydraulic oil",
            "safety inspection",
            "packaging",
        ];
        let code = CODES.choose(rng).copied().unwrap_or("EUR");
        let currency = Currency::from_code(code).unwrap_or_else(|| unreachable!("{code} is in the table"));
        // Payments spread evenly over orders of magnitude: 5 to 5,000 major units.
        let major = 10f64.powf(rng.random_range(0.7..3.7));
        let minor = (major * 10f64.powi(i32::from(currency.digits()))).round() as i64;
        let amount = Amount::new(minor).unwrap_or_else(|| unreachable!("{minor} is within range"));
        let description = PURPOSES.choose(rng).map(|text| Description::stored((*text).to_owned()));
        Self { amount, currency, description }
    }
}

/// The outcome of a draft, about to be stored under an id of our own making, so
/// that storing it twice stores it once.
#[derive(Clone, Debug)]
pub struct NewTransaction {
    /// Time-ordered, so that the primary key's index grows at one end.
    pub id: Uuid,
    /// What was asked for.
    pub draft: Draft,
    /// `Some` if the gateway declined.
    pub declined: Option<DeclineReason>,
}

impl NewTransaction {
    /// The status that this will be stored with.
    pub fn status(&self) -> Status {
        if self.declined.is_some() { Status::Declined } else { Status::Approved }
    }

    /// The transaction, once the database has said when.
    pub fn stored_at(self, created_at: OffsetDateTime) -> Transaction {
        Transaction {
            id: self.id,
            created_at,
            status: self.status(),
            amount: self.draft.amount,
            currency: self.draft.currency,
            description: self.draft.description,
            decline_reason: self.declined,
        }
    }
}

/// A stored transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Transaction {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
    /// When it was stored, by the database's clock; RFC 3339 in UTC.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: OffsetDateTime,
    /// Integer minor units.
    #[schema(value_type = i64, example = 1250)]
    pub amount: Amount,
    /// ISO 4217 code.
    #[schema(value_type = String, example = "EUR")]
    pub currency: Currency,
    /// What the payment is for.
    #[schema(value_type = Option<String>)]
    pub description: Option<Description>,
    /// How the payment ended.
    pub status: Status,
    /// Why it was declined; `null` if it was not.
    pub decline_reason: Option<DeclineReason>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn names_are_inverse_and_agree_with_json() {
        for status in Status::ALL {
            assert_eq!(Status::from_name(status.as_str()), Some(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        for reason in DeclineReason::ALL {
            assert_eq!(DeclineReason::from_name(reason.as_str()), Some(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }

    #[test]
    fn a_description_is_trimmed_bounded_and_not_shown_by_debug() {
        assert_eq!(Description::new("  oil ").unwrap().as_str(), "oil");
        assert!(Description::new(&"\u{e9}".repeat(200)).is_ok());
        for no in ["", "   ", "a\0b", "a\nb", "\u{7f}", &"x".repeat(201)] {
            assert!(Description::new(no).is_err(), "{no:?}");
        }
        assert_eq!(format!("{:?}", Description::new("max@example.org").unwrap()), "Description(…)");
    }

    #[test]
    fn a_random_draft_is_plausible() {
        let mut rng = StdRng::seed_from_u64(7);
        for _ in 0..1000 {
            let draft = Draft::random(&mut rng);
            let scale = 10i64.pow(draft.currency.digits().into());
            assert!((5 * scale..=5_012 * scale).contains(&draft.amount.minor()), "{draft:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_fits_the_column(text in "\\PC{0,260}") {
            if let Ok(description) = Description::new(&text) {
                let length = description.as_str().chars().count();
                prop_assert!((1..=Description::MAX_CHARS).contains(&length));
                prop_assert!(!description.as_str().contains('\0'));
            }
        }
    }
}
