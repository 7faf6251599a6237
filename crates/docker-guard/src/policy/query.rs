//! Query strings: every parameter of an allowed endpoint is known, bounded and
//! read into a type; the upstream query is written from those types.

use std::collections::BTreeMap;

use serde_json::Value;

use super::image::ImageChoice;

const MAX_PARAMETERS: usize = 16;
const MAX_FILTER_VALUES: usize = 32;
const MAX_FILTER_VALUE: usize = 256;

/// Why a query cannot be used, in words.
pub(super) type BadQuery = String;

/// Docker's list filters: key to values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Adds a value; values of one label key must all match.
    pub(super) fn with(mut self, key: &str, value: String) -> Self {
        let values = self.0.entry(key.to_owned()).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
        self
    }

    pub(super) fn get(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// The JSON that Docker reads: `{"key":{"value":true}}`.
    pub(super) fn to_json(&self) -> String {
        let object: serde_json::Map<_, _> = self
            .0
            .iter()
            .map(|(key, values)| {
                let values: serde_json::Map<_, _> = values.iter().map(|v| (v.clone(), Value::Bool(true))).collect();
                (key.clone(), Value::Object(values))
            })
            .collect();
        Value::Object(object).to_string()
    }

    /// Reads both forms that clients send, `{"k":{"v":true}}` and `{"k":["v"]}`.
    fn parse(json: &str, known: &[&str]) -> Result<Self, BadQuery> {
        let value: Value = serde_json::from_str(json).map_err(|_| "filters is not JSON".to_owned())?;
        let object = match value {
            Value::Object(object) => object,
            Value::Null => return Ok(Self::default()),
            _ => return Err("filters is not a JSON object".to_owned()),
        };
        let mut filters = Self::default();
        let mut count = 0;
        for (key, values) in object {
            if !known.contains(&key.as_str()) {
                return Err(format!("filter '{}' is not accepted", shown(&key)));
            }
            let values: Vec<String> = match values {
                Value::Array(values) => values
                    .into_iter()
                    .map(|v| v.as_str().map(ToOwned::to_owned).ok_or("filter values are strings".to_owned()))
                    .collect::<Result<_, _>>()?,
                Value::Object(values) if values.values().all(|v| v == &Value::Bool(true)) => {
                    values.into_iter().map(|(v, _)| v).collect()
                }
                _ => return Err("filters is not in Docker's form".to_owned()),
            };
            for value in values {
                count += 1;
                if count > MAX_FILTER_VALUES || value.len() > MAX_FILTER_VALUE || value.chars().any(char::is_control) {
                    return Err("filters is too large or holds control characters".to_owned());
                }
                filters = filters.with(&key, value);
            }
        }
        Ok(filters)
    }
}

/// A query string taken apart; each parameter is taken out once.
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub fn parse(query: &str) -> Result<Self, BadQuery> {
        let mut parameters = BTreeMap::new();
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = decode(key).ok_or("the query is not UTF-8 or wrongly escaped")?;
            let value = decode(value).ok_or("the query is not UTF-8 or wrongly escaped")?;
            let name = shown(&key);
            if parameters.insert(key, value).is_some() {
                return Err(format!("parameter '{name}' is repeated"));
            }
            if parameters.len() > MAX_PARAMETERS {
                return Err("too many parameters".to_owned());
            }
        }
        Ok(Self(parameters))
    }

    pub fn flag(&mut self, key: &str) -> Result<Option<bool>, BadQuery> {
        self.0.remove(key).map_or(Ok(None), |v| match v.as_str() {
            "1" | "true" | "True" => Ok(Some(true)),
            "" | "0" | "false" | "False" => Ok(Some(false)),
            _ => Err(format!("parameter '{key}' is neither true nor false")),
        })
    }

    /// A flag that must not be set: what it asks for is not given.
    pub fn never(&mut self, key: &str) -> Result<(), BadQuery> {
        match self.flag(key)? {
            Some(true) => Err(format!("parameter '{key}' is not accepted")),
            _ => Ok(()),
        }
    }

    pub fn number(&mut self, key: &str, max: u32) -> Result<Option<u32>, BadQuery> {
        self.0.remove(key).map_or(Ok(None), |v| {
            let digits = !v.is_empty() && v.len() <= 9 && v.bytes().all(|b| b.is_ascii_digit());
            match v.parse() {
                Ok(number) if digits && number <= max => Ok(Some(number)),
                _ => Err(format!("parameter '{key}' is not a number from 0 to {max}")),
            }
        })
    }

    /// A point in time as Docker clients write it: Unix seconds with or without
    /// a fraction, or RFC 3339.
    pub fn time(&mut self, key: &str) -> Result<Option<String>, BadQuery> {
        self.0.remove(key).filter(|v| !v.is_empty()).map_or(Ok(None), |v| {
            let plain = v.len() <= 40 && v.bytes().all(|b| b.is_ascii_digit() || b".-+:TZ".contains(&b));
            if plain { Ok(Some(v)) } else { Err(format!("parameter '{key}' is not a time")) }
        })
    }

    pub fn tail(&mut self) -> Result<Option<String>, BadQuery> {
        match self.0.get("tail").map(String::as_str) {
            None | Some("" | "all") => {
                self.0.remove("tail");
                Ok(None)
            }
            Some(_) => Ok(self.number("tail", 1_000_000)?.map(|n| n.to_string())),
        }
    }

    /// The image that a container is to be made anew from.
    pub fn image(&mut self, key: &str) -> Result<Option<ImageChoice>, BadQuery> {
        self.0.remove(key).map_or(Ok(None), |v| match ImageChoice::parse(&v) {
            Some(choice) => Ok(Some(choice)),
            None => Err(format!("parameter '{key}' is neither NAME[:TAG], sha256:ID nor @previous")),
        })
    }

    pub fn filters(&mut self, known: &[&str]) -> Result<Filters, BadQuery> {
        self.0.remove("filters").filter(|v| !v.is_empty()).map_or(Ok(Filters::default()), |v| Filters::parse(&v, known))
    }

    /// Nothing may be left.
    pub fn done(self) -> Result<(), BadQuery> {
        match self.0.keys().next() {
            Some(key) => Err(format!("parameter '{}' is not accepted", shown(key))),
            None => Ok(()),
        }
    }
}

/// Foreign text, short and plain enough to be shown.
fn shown(text: &str) -> String {
    text.chars().take(40).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// Undoes `%xx` and `+`; `None` if an escape is broken or the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex = |b: u8| char::from(b).to_digit(16);
                let value = hex(rest.next()?)? * 16 + hex(rest.next()?)?;
                u8::try_from(value).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Writes one `key=value` with everything but unreserved characters escaped.
pub(crate) fn append(query: &mut String, key: &str, value: &str) {
    use std::fmt::Write;

    query.push(if query.is_empty() { '?' } else { '&' });
    query.push_str(key);
    query.push('=');
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            query.push(char::from(byte));
        } else {
            let _ = write!(query, "%{byte:02X}"); // writing to a String cannot fail
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_taken_out_once_and_nothing_may_be_left() {
        let mut query = Query::parse("all=1&limit=5&x%2By=%E2%9C%93").unwrap();
        assert_eq!(query.flag("all"), Ok(Some(true)));
        assert_eq!(query.number("limit", 10), Ok(Some(5)));
        assert_eq!(query.done().unwrap_err(), "parameter 'x+y' is not accepted");
        assert!(Query::parse("t=1&t=2").is_err());
        assert!(Query::parse("t=1&%74=2").is_err(), "an escape does not hide a repetition");
        assert!(Query::parse("t=%f").is_err());
        assert!(Query::parse("t=%zz").is_err());
        assert!(Query::parse("t=%ff").is_err());
    }

    #[test]
    fn numbers_are_plain_and_bounded() {
        for bad in ["-1", "+1", "1.0", "", " 1", "61", "99999999999", "0x1"] {
            let mut query = Query::parse("").unwrap();
            query.0.insert("t".to_owned(), bad.to_owned());
            assert!(query.number("t", 60).is_err(), "{bad}");
        }
        assert_eq!(Query::parse("t=60").unwrap().number("t", 60), Ok(Some(60)));
    }

    #[test]
    fn filters_come_in_two_forms_and_leave_in_one() {
        for json in [r#"{"label":["a=b"],"name":["x"]}"#, r#"{"label":{"a=b":true},"name":{"x":true}}"#] {
            let filters = Filters::parse(json, &["label", "name"]).unwrap().with("label", "p=q".to_owned());
            assert_eq!(filters.to_json(), r#"{"label":{"a=b":true,"p=q":true},"name":{"x":true}}"#);
        }
        for bad in [
            "",
            "[]",
            "1",
            r#"{"volume":["x"]}"#,
            r#"{"name":"x"}"#,
            r#"{"name":[1]}"#,
            r#"{"name":{"x":false}}"#,
            r#"{"name":["a\u0000b"]}"#,
        ] {
            assert!(Filters::parse(bad, &["label", "name"]).is_err(), "{bad}");
        }
        let many = format!(r#"{{"name":[{}]}}"#, vec![r#""x""#; 40].join(","));
        assert!(Filters::parse(&many, &["name"]).is_err());
    }

    #[test]
    fn what_is_written_is_escaped() {
        let mut query = String::new();
        append(&mut query, "a", "x&y=1 #ä");
        append(&mut query, "b", "-_.~");
        assert_eq!(query, "?a=x%26y%3D1%20%23%C3%A4&b=-_.~");
    }

    #[test]
    fn times_are_times() {
        let time = |v: &str| Query(BTreeMap::from([("since".to_owned(), v.to_owned())])).time("since");
        for good in ["1700000000", "1700000000.123456789", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05+01:00", "-5"] {
            assert_eq!(time(good), Ok(Some(good.to_owned())));
        }
        assert!(time("yesterday").is_err());
        assert!(time(&"1".repeat(41)).is_err());
        assert_eq!(time(""), Ok(None));
    }
}
