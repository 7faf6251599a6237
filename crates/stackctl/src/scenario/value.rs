//! Values of a scenario file that are checked while they are read: only then does an error carry its line.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::load::{Mix, Request};

/// A duration with its unit; several are added up, as in `10m 90s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, |text| {
            humantime::parse_duration(text).map(Self).map_err(|error| format!("duration {text:?}: {error}"))
        })
    }
}

/// How often something must have happened: `2`, or `1..3` with both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// At least.
    pub least: u32,
    /// At most.
    pub most: u32,
}

impl Count {
    /// Exactly so often.
    pub fn exactly(count: u32) -> Self {
        Self { least: count, most: count }
    }

    /// Whether it was so often.
    pub fn holds(self, count: usize) -> bool {
        u32::try_from(count).is_ok_and(|count| (self.least..=self.most).contains(&count))
    }

    /// The one number that is right, if there is only one.
    pub fn exact(self) -> Option<u32> {
        (self.least == self.most).then_some(self.least)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        match (least.trim().parse(), most.trim().parse()) {
            (Ok(least), Ok(most)) if least <= most => Ok(Self { least, most }),
            _ => Err(format!("{text:?} is not a count such as 1 or 1..3")),
        }
    }
}

impl Display for Count {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.exact() {
            Some(count) => write!(f, "{count} ×"),
            None => write!(f, "{} to {} ×", self.least, self.most),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, Self::parse)
    }
}

/// One word, or a list of those of which any will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnyOf(pub Vec<String>);

impl AnyOf {
    /// Nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of them.
    pub fn has(&self, word: &str) -> bool {
        self.0.iter().any(|wanted| wanted == word)
    }
}

impl Display for AnyOf {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" or "))
    }
}

impl<'de> Deserialize<'de> for AnyOf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        words(deserializer, |_| Ok(()))
    }
}

/// A word or a list of words, each of which `check` accepts.
pub fn words<'de, D, F>(deserializer: D, check: F) -> Result<AnyOf, D::Error>
where
    D: Deserializer<'de>,
    F: Fn(&str) -> Result<(), String>,
{
    struct Words<F>(F);
    impl<'de, F: Fn(&str) -> Result<(), String>> Visitor<'de> for Words<F> {
        type Value = AnyOf;

        fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
            formatter.write_str("a word or a list of words")
        }

        fn visit_str<E: de::Error>(self, word: &str) -> Result<AnyOf, E> {
            (self.0)(word).map_err(E::custom)?;
            Ok(AnyOf(vec![word.to_owned()]))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<AnyOf, A::Error> {
            let mut words = Vec::new();
            while let Some(word) = list.next_element::<String>()? {
                (self.0)(&word).map_err(de::Error::custom)?;
                words.push(word);
            }
            match words.is_empty() {
                true => Err(de::Error::custom("an empty list of words")),
                false => Ok(AnyOf(words)),
            }
        }
    }
    deserializer.deserialize_any(Words(check))
}

/// A rate of requests a second.
pub fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    scalar(deserializer, |text| match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1000.0 => Ok(rate),
        _ => Err(format!("rate {text} is not between 0 and 1000 a second")),
    })
}

/// Requests with weights.
pub fn mix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mix, D::Error> {
    scalar(deserializer, |text| Mix::parse(text).map_err(|error| error.to_string()))
}

/// One request.
pub fn request<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Request, D::Error> {
    scalar(deserializer, |text| Request::parse(text).map_err(|error| error.to_string()))
}

/// One of some words, as the value that belongs to it.
pub fn one_of<'de, D, T: Copy>(deserializer: D, what: &str, known: &[(&str, T)]) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    scalar(deserializer, |text| {
        known.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| unknown(what, text, known))
    })
}

/// What is said about a word that is none of those known.
pub fn unknown<T>(what: &str, text: &str, known: &[(&str, T)]) -> String {
    let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
    format!("{what} {text:?} is not one of {}", words.join(", "))
}

/// A scalar that is checked while it is read.
pub fn scalar<'de, D, T, F>(deserializer: D, check: F) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    F: Fn(&str) -> Result<T, String>,
{
    struct Scalar<F>(F);
    impl<T, F: Fn(&str) -> Result<T, String>> Visitor<'_> for Scalar<F> {
        type Value = T;

        fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
            formatter.write_str("a scalar")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            (self.0)(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Scalar(check))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        assert_eq!(Count::parse("2"), Ok(Count::exactly(2)));
        let some = Count::parse("1..3").unwrap();
        assert_eq!((some.holds(0), some.holds(1), some.holds(3), some.holds(4)), (false, true, true, false));
        assert_eq!((some.exact(), some.to_string()), (None, "1 to 3 ×".to_owned()));
        for wrong in ["", "x", "3..1", "-1", "1..", "1.5"] {
            assert!(Count::parse(wrong).is_err(), "{wrong}");
        }
    }
}
