//! Money: an amount in integer minor units and an ISO 4217 currency.
//!
//! Minor units are what ISO 4217 says of the currency: 1250 is 12.50 EUR, 1250 JPY
//! and 1.250 KWD. No float ever carries an amount.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The active national currencies of ISO 4217 and their minor-unit digits, in order of the code.
#[rustfmt::skip]
const CURRENCIES: &[(&str, u8)] = &[
    ("AED", 2), ("AFN", 2), ("ALL", 2), ("AMD", 2), ("AOA", 2), ("ARS", 2), ("AUD", 2), ("AWG", 2), ("AZN", 2),
    ("BAM", 2), ("BBD", 2), ("BDT", 2), ("BGN", 2), ("BHD", 3), ("BIF", 0), ("BMD", 2), ("BND", 2), ("BOB", 2),
    ("BRL", 2), ("BSD", 2), ("BTN", 2), ("BWP", 2), ("BYN", 2), ("BZD", 2), ("CAD", 2), ("CDF", 2), ("CHF", 2),
    ("CLP", 0), ("CNY", 2), ("COP", 2), ("CRC", 2), ("CUP", 2), ("CVE", 2), ("CZK", 2), ("DJF", 0), ("DKK", 2),
    ("DOP", 2), ("DZD", 2), ("EGP", 2), ("ERN", 2), ("ETB", 2), ("EUR", 2), ("FJD", 2), ("FKP", 2), ("GBP", 2),
    ("GEL", 2), ("GHS", 2), ("GIP", 2), ("GMD", 2), ("GNF", 0), ("GTQ", 2), ("GYD", 2), ("HKD", 2), ("HNL", 2),
    ("HTG", 2), ("HUF", 2), ("IDR", 2), ("ILS", 2), ("INR", 2), ("IQD", 3), ("IRR", 2), ("ISK", 0), ("JMD", 2),
    ("JOD", 3), ("JPY", 0), ("KES", 2), ("KGS", 2), ("KHR", 2), ("KMF", 0), ("KPW", 2), ("KRW", 0), ("KWD", 3),
    ("KYD", 2), ("KZT", 2), ("LAK", 2), ("LBP", 2), ("LKR", 2), ("LRD", 2), ("LSL", 2), ("LYD", 3), ("MAD", 2),
    ("MDL", 2), ("MGA", 2), ("MKD", 2), ("MMK", 2), ("MNT", 2), ("MOP", 2), ("MRU", 2), ("MUR", 2), ("MVR", 2),
    ("MWK", 2), ("MXN", 2), ("MYR", 2), ("MZN", 2), ("NAD", 2), ("NGN", 2), ("NIO", 2), ("NOK", 2), ("NPR", 2),
    ("NZD", 2), ("OMR", 3), ("PAB", 2), ("PEN", 2), ("PGK", 2), ("PHP", 2), ("PKR", 2), ("PLN", 2), ("PYG", 0),
    ("QAR", 2), ("RON", 2), ("RSD", 2), ("RUB", 2), ("RWF", 0), ("SAR", 2), ("SBD", 2), ("SCR", 2), ("SDG", 2),
    ("SEK", 2), ("SGD", 2), ("SHP", 2), ("SLE", 2), ("SOS", 2), ("SRD", 2), ("SSP", 2), ("STN", 2), ("SVC", 2),
    ("SYP", 2), ("SZL", 2), ("THB", 2), ("TJS", 2), ("TMT", 2), ("TND", 3), ("TOP", 2), ("TRY", 2), ("TTD", 2),
    ("TWD", 2), ("TZS", 2), ("UAH", 2), ("UGX", 0), ("USD", 2), ("UYU", 2), ("UZS", 2), ("VED", 2), ("VES", 2),
    ("VND", 0), ("VUV", 0), ("WST", 2), ("XAF", 0), ("XCD", 2), ("XCG", 2), ("XOF", 0), ("XPF", 0), ("YER", 2),
    ("ZAR", 2), ("ZMW", 2), ("ZWG", 2),
];

/// An amount in minor units, from [`Amount::MIN`] to [`Amount::MAX`].
///
/// In JSON a plain integer; a fraction, an exponent, a string or a value out of
/// range is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Amount(i64);

impl Amount {
    /// The smallest amount.
    pub const MIN: i64 = 1;
    /// The largest amount: 999,999,999.99 in a currency with two digits.
    pub const MAX: i64 = 99_999_999_999;

    /// `None` if out of range.
    pub fn new(minor: i64) -> Option<Self> {
        (Self::MIN..=Self::MAX).contains(&minor).then_some(Self(minor))
    }

    /// The number of minor units.
    pub fn minor(self) -> i64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "an integer of minor units from {} to {}, such as 1250 for 12.50 EUR",
                    Amount::MIN,
                    Amount::MAX
                )
            }
            fn visit_i64<E: de::Error>(self, minor: i64) -> Result<Amount, E> {
                Amount::new(minor).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(minor), &self))
            }
            fn visit_u64<E: de::Error>(self, minor: u64) -> Result<Amount, E> {
                i64::try_from(minor)
                    .ok()
                    .and_then(Amount::new)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(minor), &self))
            }
        }
        deserializer.deserialize_i64(Visitor)
    }
}

/// An active national currency of ISO 4217.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Currency {
    code: &'static str,
    digits: u8,
}

impl Currency {
    /// Looks up a three-letter code in upper case.
    pub fn from_code(code: &str) -> Option<Self> {
        let at = CURRENCIES.binary_search_by_key(&code, |(code, _)| code).ok()?;
        let (code, digits) = CURRENCIES[at];
        Some(Self { code, digits })
    }

    /// The three-letter code.
    pub fn code(self) -> &'static str {
        self.code
    }

    /// How many decimal digits the minor unit stands for.
    pub fn digits(self) -> u8 {
        self.digits
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code)
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Currency;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an ISO 4217 code in upper case, such as EUR")
            }
            fn visit_str<E: de::Error>(self, code: &str) -> Result<Currency, E> {
                // The value is not repeated: it may be anything of any length.
                Currency::from_code(code).ok_or_else(|| E::custom("not an ISO 4217 code in upper case, such as EUR"))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn currencies_are_sorted_so_that_all_are_found() {
        assert!(CURRENCIES.is_sorted());
        for (code, digits) in CURRENCIES {
            let found = Currency::from_code(code).unwrap();
            assert_eq!((found.code(), found.digits()), (*code, *digits));
        }
        for no in ["", "eur", "EU", "EURO", "XXX", "XAU", "XTS", "E\u{dc}R"] {
            assert_eq!(Currency::from_code(no), None, "{no}");
        }
    }

    fn parse(text: &str) -> Result<Amount, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn amounts_are_integers_within_range() {
        assert_eq!(parse("1").unwrap().minor(), 1);
        assert_eq!(parse("99999999999").unwrap().minor(), Amount::MAX);
        for no in [
            "0",
            "-1",
            "-0",
            "100000000000",
            "1.0",
            "1e3",
            "12.50",
            "\"1250\"",
            "true",
            "null",
            "[1]",
            "1e400",
            "18446744073709551616",
            "-9223372036854775808",
            "9223372036854775807",
        ] {
            let error = parse(no).unwrap_err();
            assert!(
                error.contains("an integer of minor units") || error.contains("number out of range"),
                "{no}: {error}"
            );
        }
    }

    proptest! {
        #[test]
        fn an_integer_is_accepted_exactly_if_in_range(n in any::<i64>()) {
            let accepted = parse(&n.to_string());
            prop_assert_eq!(accepted.is_ok(), (Amount::MIN..=Amount::MAX).contains(&n));
            if let Ok(amount) = accepted {
                prop_assert_eq!(serde_json::to_string(&amount).unwrap(), n.to_string());
            }
        }

        #[test]
        fn any_text_is_refused_or_survives_the_round_trip(text in "\\PC{0,24}") {
            if let Ok(amount) = parse(&text) {
                prop_assert_eq!(parse(&serde_json::to_string(&amount).unwrap()).unwrap(), amount);
            }
        }

        #[test]
        fn fractions_never_become_money(n in 1u32..1_000_000, fraction in 0u32..100) {
            let text = format!("{n}.{fraction:02}");
            prop_assert!(parse(&text).is_err());
        }
    }
}
