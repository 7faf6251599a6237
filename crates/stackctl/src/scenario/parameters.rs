//! `${name}` in a scenario file: a value that may be another one in a run, such as a length of time.
//!
//! They are put in as text before the file is read, on the line where they stand, so that an error still
//! names its line. The file gives each its value, and may give a shorter one for `--quick`.

use std::collections::BTreeMap;
use std::fmt::{self, Formatter};

use anyhow::{Result, bail};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::value::scalar;

/// What a run was told about parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Take the quick values, where there are any.
    pub quick: bool,
    /// Values by name; they win.
    pub set: BTreeMap<String, String>,
}

impl Given {
    /// The quick values.
    pub fn quick() -> Self {
        Self { quick: true, ..Self::default() }
    }

    /// Reads `NAME=VALUE`.
    pub fn assignment(text: &str) -> Result<(String, String), String> {
        match text.split_once('=') {
            Some((name, value)) if is_name(name) && is_value(value) => Ok((name.to_owned(), value.to_owned())),
            _ => Err("is not NAME=VALUE, such as down=90s".into()),
        }
    }
}

/// A parameter as its file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The value in a run that says nothing about it.
    pub default: String,
    /// The value with `--quick`.
    pub quick: Option<String>,
}

impl Parameter {
    fn value<'a>(&'a self, name: &str, given: &'a Given) -> &'a str {
        let quick = self.quick.as_ref().filter(|_| given.quick);
        given.set.get(name).or(quick).unwrap_or(&self.default)
    }
}

/// Parameters by name.
pub type Parameters = BTreeMap<String, Parameter>;

impl<'de> Deserialize<'de> for Parameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            #[serde(deserialize_with = "text")]
            default: String,
            #[serde(default, deserialize_with = "some_text")]
            quick: Option<String>,
        }
        fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
            scalar(deserializer, |text| Ok(text.to_owned()))
        }
        fn some_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
            text(deserializer).map(Some)
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Parameter;

            fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value, or a mapping with default and quick")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Parameter, E> {
                self.checked(Parameter { default: text.to_owned(), quick: None })
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Parameter, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Parameter, A::Error> {
                let long = Long::deserialize(MapAccessDeserializer::new(map))?;
                self.checked(Parameter { default: long.default, quick: long.quick })
            }
        }
        impl Either {
            fn checked<E: de::Error>(self, parameter: Parameter) -> Result<Parameter, E> {
                match std::iter::once(&parameter.default).chain(&parameter.quick).find(|value| !is_value(value)) {
                    Some(value) => Err(E::custom(format!("{value:?} cannot be a parameter's value"))),
                    None => Ok(parameter),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Nothing that could end the scalar that it is put into.
fn is_value(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" ._-".contains(&byte))
}

/// What the file declares. The rest of it is not looked at.
pub fn declared(text: &str) -> Result<Parameters> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(default)]
        parameters: Parameters,
    }
    // Whatever stands there: braces would be read as a mapping.
    let text = replace(text, |_, _| Ok("0"))?;
    Ok(serde_yaml_ng::from_str::<Head>(&text)?.parameters)
}

/// The text with every `${name}` replaced.
pub fn put_in(text: &str, declared: &Parameters, given: &Given) -> Result<String> {
    replace(text, |line, name| match declared.get(name) {
        Some(parameter) => Ok(parameter.value(name, given)),
        None => bail!("line {line}: there is no parameter called {name}"),
    })
}

fn replace<'a>(text: &str, value: impl Fn(usize, &str) -> Result<&'a str>) -> Result<String> {
    let mut result = String::with_capacity(text.len());
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let mut rest = line;
        // A comment is for people.
        while let Some(start) = rest.find("${").filter(|_| !line.trim_start().starts_with('#')) {
            let (before, opened) = rest.split_at(start);
            let Some((name, after)) = opened.get(2..).and_then(|text| text.split_once('}')) else {
                bail!("line {}: ${{ is not closed", index + 1);
            };
            result.push_str(before);
            result.push_str(value(index + 1, name)?);
            rest = after;
        }
        result.push_str(rest);
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "parameters:\n  down: {default: 10m, quick: 90s}\n  who: redis\nload: {rate: ${who}, x: 1}\nbreak:\n  # ${any} comment\n  - kill: ${who}\n  - wait: ${down} 5s\n";

    fn filled(given: &Given) -> String {
        put_in(TEXT, &declared(TEXT).unwrap(), given).unwrap()
    }

    #[test]
    fn what_is_said_wins_over_quick_and_that_over_the_default() {
        let line = |given: &Given| filled(given).lines().last().unwrap().trim().to_owned();
        assert_eq!(line(&Given::default()), "- wait: 10m 5s");
        assert_eq!(line(&Given::quick()), "- wait: 90s 5s");
        let set = BTreeMap::from([("down".to_owned(), "1m".to_owned())]);
        assert_eq!(line(&Given { quick: true, set }), "- wait: 1m 5s");
        // Nothing else changes, and no line moves.
        assert!(filled(&Given::quick()).contains("  # ${any} comment\n  - kill: redis\n"));
    }

    #[test]
    fn errors_name_the_line() {
        let declared = Parameters::new();
        let error = |text: &str| put_in(text, &declared, &Given::default()).unwrap_err().to_string();
        assert_eq!(error("a: 1\nb: ${x}\n"), "line 2: there is no parameter called x");
        assert_eq!(error("a: ${x\n"), "line 1: ${ is not closed");
    }

    #[test]
    fn a_value_cannot_leave_its_scalar() {
        for wrong in ["down=", "=1", "down", "DOWN=1", "down=1m, kill: x", "down=1\n- kill: x", "down={}", "a b=1"] {
            assert!(Given::assignment(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(Given::assignment("down=2m 30s").unwrap().1, "2m 30s");
        assert_eq!(declared("parameters: {n: 5, m: {default: 6}}").unwrap()["n"].default, "5");
        assert!(declared("parameters: {x: 'a: b'}").is_err());
        assert!(declared("parameters: {x: {default: 1m, slow: 2m}}").is_err());
    }
}
