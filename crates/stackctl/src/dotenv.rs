//! The `.env` file and `${NAME:-default}` in compose values.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use anyhow::{Context, Result};
use regex::{Captures, Regex};

/// Variables by name.
pub type Vars = BTreeMap<String, String>;

/// Parses `NAME=value` lines; `#` starts a comment, quotes around a value are taken off.
pub fn parse(text: &str) -> Vars {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| {
            let (name, value) = line.trim_start_matches("export ").split_once('=')?;
            let value = value.trim();
            let value = match value.chars().next() {
                Some(quote @ ('"' | '\'')) if value.len() >= 2 && value.ends_with(quote) => &value[1..value.len() - 1],
                _ => value.split(" #").next().unwrap_or_default().trim_end(),
            };
            Some((name.trim().to_owned(), value.to_owned()))
        })
        .collect()
}

/// `.env` of the work tree with the process's own variables over it, as compose reads them.
pub fn load(root: &Path) -> Result<Vars> {
    let file = root.join(".env");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut vars = parse(&text);
    for (name, value) in &mut vars {
        if let Ok(set) = std::env::var(name) {
            *value = set;
        }
    }
    Ok(vars)
}

static VARIABLE: LazyLock<Regex> = LazyLock::new(|| {
    #[allow(clippy::unwrap_used)] // a constant pattern, compiled by the tests
    Regex::new(r"\$\{(?<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?<op>:?[-?])(?<default>[^}]*))?\}").unwrap()
});

/// Replaces `${NAME}`, `${NAME:-default}` and `${NAME:?message}`.
pub fn expand(text: &str, vars: &Vars) -> String {
    VARIABLE
        .replace_all(text, |found: &Captures<'_>| {
            let set = vars.get(&found["name"]).cloned().or_else(|| std::env::var(&found["name"]).ok());
            match (set, found.name("op").map(|op| op.as_str())) {
                (Some(value), Some(":-")) if value.is_empty() => found["default"].to_owned(),
                (Some(value), _) => value,
                (None, Some(":-" | "-")) => found["default"].to_owned(),
                (None, _) => String::new(),
            }
        })
        .into_owned()
}

/// The name of the first variable in a compose value.
pub fn variable(text: &str) -> Option<String> {
    VARIABLE.captures(text).map(|found| found["name"].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_compose_reads() {
        let vars = parse("# ports\nA=1\nexport B = \"two words\"\nC=x # why\nD='#'\n\nE=\n");
        let get = |name: &str| vars.get(name).map(String::as_str);
        assert_eq!(
            [get("A"), get("B"), get("C"), get("D"), get("E")],
            [Some("1"), Some("two words"), Some("x"), Some("#"), Some("")]
        );
    }

    #[test]
    fn expands_with_defaults() {
        let vars = parse("PORT_X=9\nEMPTY_X=\n");
        assert_eq!(
            expand("127.0.0.1:${PORT_X:-1}:${NONE_X:-2}${EMPTY_X:-3}${EMPTY_X-4}${NONE_X}", &vars),
            "127.0.0.1:9:23"
        );
        assert_eq!(variable("${PORT_X:-1}:3000").as_deref(), Some("PORT_X"));
        assert_eq!(variable("plain"), None);
    }
}
