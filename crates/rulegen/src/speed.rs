//! The two speeds, and values that may differ between them.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

/// Which of the two generated rule sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speed {
    /// Seconds instead of minutes, so that a person can watch the loop close.
    Demo,
    /// What one would run.
    Production,
}

impl Speed {
    /// Both speeds.
    pub const ALL: [Self; 2] = [Self::Demo, Self::Production];

    /// Name as it is used in folders and keys.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Production => "production",
        }
    }
}

/// A value for both speeds (`30s`) or one for each (`{demo: 10s, production: 2m}`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BySpeed<T> {
    /// The value in the demonstration rules.
    pub demo: T,
    /// The value in the production rules.
    pub production: T,
}

impl<T> BySpeed<T> {
    /// The value at this speed.
    pub const fn at(&self, speed: Speed) -> &T {
        match speed {
            Speed::Demo => &self.demo,
            Speed::Production => &self.production,
        }
    }
}

/// A scalar of YAML, kept as it would be written in a rule: `5`, `0.25`, `10s`, `+1/s`.
struct Scalar(String);

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar(text.to_owned()))
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct BySpeedVisitor<T>(PhantomData<T>);

impl<T> BySpeedVisitor<T>
where
    T: FromStr + Clone,
    T::Err: fmt::Display,
{
    fn both<E: de::Error>(text: &str) -> Result<BySpeed<T>, E> {
        let value: T = text.parse().map_err(de::Error::custom)?;
        Ok(BySpeed { demo: value.clone(), production: value })
    }
}

impl<'de, T> Visitor<'de> for BySpeedVisitor<T>
where
    T: FromStr + Clone,
    T::Err: fmt::Display,
{
    type Value = BySpeed<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, or {demo: VALUE, production: VALUE}")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Self::both(text)
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Self::both(&number.to_string())
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Self::both(&number.to_string())
    }
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        Self::both(&number.to_string())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut demo, mut production) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            let slot = match key.as_str() {
                "demo" => &mut demo,
                "production" => &mut production,
                other => {
                    return Err(de::Error::unknown_field(other, &["demo", "production"]));
                }
            };
            if slot.is_some() {
                return Err(de::Error::custom(format!("`{key}` is given twice")));
            }
            let Scalar(text) = map.next_value()?;
            *slot = Some(text.parse().map_err(de::Error::custom)?);
        }
        Ok(BySpeed {
            demo: demo.ok_or_else(|| de::Error::missing_field("demo"))?,
            production: production.ok_or_else(|| de::Error::missing_field("production"))?,
        })
    }
}

impl<'de, T> Deserialize<'de> for BySpeed<T>
where
    T: FromStr + Clone,
    T::Err: fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BySpeedVisitor(PhantomData))
    }
}
