//! From a table's cells to summaries: the kinds of its columns are found out from its first
//! values, or given by a reference.

mod current;
mod document;
mod reference;
mod rows;

pub use current::{Compared, CurrentTable};
pub use document::Profile;
pub use reference::{Frozen, ReferenceTable};
pub use rows::{RowSample, TogetherDrift, TogetherReference};

use stats::profile::Kind;

use crate::table::{Cell, Class, classify, parse_boolean, parse_instant, parse_number};

/// Values of a column that are kept exactly; more are sketched.
pub const EXACT_VALUES: usize = 1 << 18;

/// What people order about columns.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// Only these, if there are any.
    pub only: Vec<String>,
    /// Not these.
    pub ignore: Vec<String>,
    /// Text, whatever it looks like.
    pub text: Vec<String>,
    /// Every so-manyth row only.
    pub thin: u64,
}

impl Choices {
    fn wants(&self, name: &str) -> bool {
        let among = |list: &[String]| list.iter().any(|n| n == name);
        (self.only.is_empty() || among(&self.only)) && !among(&self.ignore)
    }

    fn wants_row(&self, row: u64) -> bool {
        self.thin <= 1 || (row - 1).is_multiple_of(self.thin)
    }

    /// Columns that were named must be there.
    fn check(&self, names: &[String]) -> Result<(), String> {
        let named = self.only.iter().chain(&self.ignore).chain(&self.text);
        match named.into_iter().find(|n| !names.contains(n)) {
            Some(name) => Err(format!("there is no column {name:?}; there are {}", names.join(", "))),
            None => Ok(()),
        }
    }
}

/// A cell as a column of a kind understands it.
enum Value<'a> {
    Missing,
    Number(f64),
    Category(&'a str),
}

/// Reads a cell as a value of a kind.
fn understand(cell: Cell<'_>, kind: Kind) -> Result<Value<'_>, String> {
    let no = |text: &str, what: &str| Err(format!("{:?} is not {what}", shorten(text)));
    let boolean = |b: bool| Value::Category(if b { "true" } else { "false" });
    Ok(match (cell, kind) {
        (Cell::Missing, _) => Value::Missing,
        (Cell::Raw(t) | Cell::Text(t), Kind::Text) => Value::Category(t),
        (Cell::Raw(t) | Cell::Text(t), Kind::Number) => match parse_number(t) {
            Some(x) if x.is_nan() => Value::Missing,
            Some(x) => Value::Number(x),
            None => return no(t, "a number"),
        },
        (Cell::Raw(t) | Cell::Text(t), Kind::Boolean) => match parse_boolean(t) {
            Some(b) => boolean(b),
            None => return no(t, "true or false"),
        },
        (Cell::Raw(t) | Cell::Text(t), Kind::Time) => match parse_instant(t) {
            Some(x) => Value::Number(x),
            None => return no(t, "an instant like 2026-01-31T10:00:00Z"),
        },
        (Cell::Number(x), Kind::Number) => Value::Number(x),
        (Cell::Instant(x), Kind::Time) => Value::Number(x),
        (Cell::Boolean(b), Kind::Boolean) => boolean(b),
        (Cell::Number(x), _) => return no(&x.to_string(), "what the reference's column holds"),
        (Cell::Instant(_) | Cell::Boolean(_), kind) => {
            return Err(format!("is not of the reference's kind, {}", kind.as_str()));
        }
    })
}

/// The kind that a cell has by itself; text of a CSV file says nothing.
fn own_kind(cell: Cell<'_>) -> Option<Kind> {
    match cell {
        Cell::Missing | Cell::Raw(_) => None,
        Cell::Number(_) => Some(Kind::Number),
        Cell::Text(_) => Some(Kind::Text),
        Cell::Boolean(_) => Some(Kind::Boolean),
        Cell::Instant(_) => Some(Kind::Time),
    }
}

/// From this share of numbers on, what is no number is taken for a fault and not for text.
const MOSTLY: f64 = 0.9;

/// The kind of a column from its first texts.
///
/// # Errors
/// The index of the text that is no number among texts that nearly all are.
fn kind_of(texts: &[String]) -> Result<Kind, usize> {
    let count = |class| texts.iter().filter(|t| classify(t) == class).count();
    let all = |class| count(class) == texts.len();
    if texts.is_empty() {
        return Ok(Kind::Text);
    }
    if all(Class::Boolean) {
        return Ok(Kind::Boolean);
    }
    if all(Class::Instant) {
        return Ok(Kind::Time);
    }
    if all(Class::Number) {
        return Ok(Kind::Number);
    }
    if count(Class::Number) as f64 >= MOSTLY * texts.len() as f64 {
        return Err(texts.iter().position(|t| classify(t) != Class::Number).unwrap_or(0));
    }
    Ok(Kind::Text)
}

/// Room enough to recognise it.
fn shorten(text: &str) -> String {
    if text.chars().count() <= 40 { text.to_owned() } else { text.chars().take(39).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(texts: &[&str]) -> Result<Kind, usize> {
        kind_of(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn kinds_are_found_out() {
        assert_eq!(kind(&["1", "2.5", "-3e4"]), Ok(Kind::Number));
        assert_eq!(kind(&["true", "False"]), Ok(Kind::Boolean));
        assert_eq!(kind(&["2026-01-31", "2026-01-31T10:00:00Z"]), Ok(Kind::Time));
        assert_eq!(kind(&["a", "1", "2"]), Ok(Kind::Text));
        assert_eq!(kind(&["0", "true"]), Ok(Kind::Text));
        assert_eq!(kind(&[]), Ok(Kind::Text));
        let mut nearly = vec!["1"; 30];
        nearly[17] = "oops";
        assert_eq!(kind(&nearly), Err(17));
    }
}
