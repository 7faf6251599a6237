//! Doubles in documents, to the last bit.
//!
//! A JSON reader that is quick may read a number with many digits a last bit off, and an edge or
//! a value that is a last bit off no longer equals the data that it came from: every tie breaks.
//! A decimal with at most 15 digits and a power of ten up to 22 is read exactly by any reader
//! (Clinger 1990); all others are written as text.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

struct Exact(f64);

impl Exact {
    /// Will every reader read it exactly?
    fn is_plain(&self) -> bool {
        let text = format!("{:e}", self.0.abs());
        let Some((digits, exponent)) = text.split_once('e') else { return false };
        let digits = digits.bytes().filter(u8::is_ascii_digit).count() as i32;
        exponent.parse::<i32>().is_ok_and(|e| digits <= 15 && (e - digits + 1).abs() <= 22)
    }
}

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_plain() { serializer.serialize_f64(self.0) } else { serializer.collect_str(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Exact;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a text that is one")
            }

            fn visit_f64<E: de::Error>(self, x: f64) -> Result<Exact, E> {
                Ok(Exact(x))
            }

            fn visit_i64<E: de::Error>(self, x: i64) -> Result<Exact, E> {
                Ok(Exact(x as f64))
            }

            fn visit_u64<E: de::Error>(self, x: u64) -> Result<Exact, E> {
                Ok(Exact(x as f64))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Exact, E> {
                text.parse().map(Exact).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// For a field that is one number.
pub mod one {
    use super::{Deserialize, Deserializer, Exact, Serialize, Serializer};

    pub fn serialize<S: Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        Exact(*x).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Exact::deserialize(deserializer)?.0)
    }
}

/// For a field that is a list of numbers.
pub mod list {
    use super::{Deserialize, Deserializer, Exact, Serializer};

    pub fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|x| Exact(*x)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        Ok(Vec::<Exact>::deserialize(deserializer)?.into_iter().map(|x| x.0).collect())
    }
}

/// For a field that is a list of lists of numbers.
pub mod lists {
    use super::{Deserialize, Deserializer, Exact, Serializer};

    pub fn serialize<S: Serializer>(lists: &[Vec<f64>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(lists.iter().map(|values| values.iter().map(|x| Exact(*x)).collect::<Vec<_>>()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<f64>>, D::Error> {
        let lists = Vec::<Vec<Exact>>::deserialize(deserializer)?;
        Ok(lists.into_iter().map(|values| values.into_iter().map(|x| x.0).collect()).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_double_comes_back(x in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO, d in -999_999i64..999_999) {
            for x in [x, d as f64 / 1_000.0] {
                let json = serde_json::to_string(&Exact(x)).unwrap();
                let back: Exact = serde_json::from_str(&json).unwrap();
                prop_assert_eq!(back.0.to_bits(), x.to_bits(), "{}", json);
            }
        }
    }

    #[test]
    fn what_people_write_stays_a_number() {
        for (x, json) in [(21.3, "21.3"), (-5.0, "-5.0"), (99.80000000000001, "\"99.80000000000001\"")] {
            assert_eq!(serde_json::to_string(&Exact(x)).unwrap(), json);
        }
        assert!(serde_json::from_str::<Exact>("\"x\"").is_err());
    }
}
