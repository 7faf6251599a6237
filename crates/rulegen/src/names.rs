//! `$name` in expressions, durations and annotations.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::span::Span;

/// Words after a `$` that belong to Prometheus' own templates.
const TEMPLATE_WORDS: [&str; 4] = ["labels", "value", "externalLabels", "externalURL"];

/// A duration, or the name of one from `speeds.yaml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanRef {
    /// Written out.
    Literal(Span),
    /// `$name`.
    Name(String),
}

impl FromStr for SpanRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix('$') {
            Some(name) if is_name(name) => Ok(Self::Name(name.to_owned())),
            Some(_) => Err(format!("`{text}` is not a name: write $ and lower-case letters")),
            None => text.parse().map(Self::Literal),
        }
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The names of one speed and what they stand for.
#[derive(Clone, Debug, Default)]
pub struct Names {
    values: BTreeMap<String, String>,
}

/// What kind of text a `$name` stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// `PromQL` or `LogQL`, where every `$name` is ours.
    Expression,
    /// An annotation, where `$labels` and `$value` are Prometheus'.
    Template,
}

impl Names {
    /// Adds a name; the former value of the same name is replaced.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.values.insert(name.to_owned(), value.to_string());
    }

    /// The span that a reference stands for.
    ///
    /// # Errors
    /// The name is unknown, or stands for something that is no duration.
    pub fn span(&self, reference: &SpanRef) -> Result<Span, String> {
        match reference {
            SpanRef::Literal(span) => Ok(*span),
            SpanRef::Name(name) => self.values.get(name).ok_or_else(|| unknown(name)).and_then(|value| value.parse()),
        }
    }

    /// Replaces every `$name` of a text.
    ///
    /// # Errors
    /// The first unknown name, as `$name`, with a message.
    pub fn expand(&self, text: &str, context: Context) -> Result<String, (String, String)> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
            let name = &after[..end];
            let foreign = name.is_empty()
                || name.starts_with(|c: char| c.is_ascii_digit()) // $1 of label_replace
                || (context == Context::Template && TEMPLATE_WORDS.contains(&name));
            if foreign {
                out.push('$');
                out.push_str(name);
            } else {
                let value = self.values.get(name).ok_or_else(|| (format!("${name}"), unknown(name)))?;
                out.push_str(value);
            }
            rest = &after[end..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

fn unknown(name: &str) -> String {
    format!("`${name}` is not declared in {}", crate::SPEEDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names::default();
        names.set("ratio", "30s");
        names
    }

    #[test]
    fn replaces_whole_names_only() {
        let names = names();
        let got = names.expand("rate(x[$ratio])", Context::Expression).unwrap();
        assert_eq!(got, "rate(x[30s])");
        assert!(names.expand("x[$ratio_long]", Context::Expression).is_err());
    }

    #[test]
    fn leaves_capture_groups_and_templates_alone() {
        let names = names();
        let expr = r#"label_replace(up, "a", "$1", "b", "(.*)$")"#;
        assert_eq!(names.expand(expr, Context::Expression).unwrap(), expr);
        let text = "{{ $labels.service }}: {{ $value }} in $ratio";
        assert_eq!(names.expand(text, Context::Template).unwrap(), "{{ $labels.service }}: {{ $value }} in 30s");
        assert!(names.expand("$labels", Context::Expression).is_err());
    }
}
