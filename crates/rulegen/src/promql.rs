//! Which metrics an expression reads: enough of `PromQL`'s grammar to tell names from the rest.

use std::collections::BTreeSet;

const KEYWORDS: [&str; 17] = [
    "and",
    "or",
    "unless",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "offset",
    "bool",
    "atan2",
    "inf",
    "nan",
    "start",
    "end",
    "limitk",
];

/// Names of the metrics that an expression selects by name, histogram suffixes included.
///
/// `{__name__="x"}` counts as `x`; a regular expression over `__name__` does not count. Grafana's
/// `$__rate_interval` and `$variable` are skipped like any other variable.
#[must_use]
pub fn metric_names(expr: &str) -> BTreeSet<String> {
    let chars: Vec<char> = expr.chars().collect();
    let mut found = BTreeSet::new();
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '#' => at = skip_line(&chars, at),
            '"' | '\'' | '`' => at = skip_string(&chars, at),
            '{' => {
                let end = closing(&chars, at, '{', '}');
                if let Some(name) = name_matcher(&chars[at..end]) {
                    found.insert(name);
                }
                at = end;
            }
            '[' => at = closing(&chars, at, '[', ']'),
            '$' => {
                at += 1;
                if chars.get(at) == Some(&'{') {
                    at = closing(&chars, at, '{', '}');
                }
                at = word_end(&chars, at);
            }
            c if c.is_ascii_digit() => at = word_end(&chars, at),
            c if is_start(c) => {
                let end = word_end(&chars, at);
                let word: String = chars[at..end].iter().collect();
                let next = next_visible(&chars, end);
                let grouping =
                    matches!(word.as_str(), "by" | "without" | "on" | "ignoring" | "group_left" | "group_right");
                if grouping && next.is_some_and(|i| chars[i] == '(') {
                    // The label list of a grouping is no selector.
                    at = next.map_or(end, |open| closing(&chars, open, '(', ')'));
                    continue;
                }
                let called = next.is_some_and(|i| chars[i] == '(');
                // `sum by (x) (…)`: an aggregation, the call comes later.
                let aggregates = next.is_some_and(|i| {
                    let stop = word_end(&chars, i);
                    let following: String = chars[i..stop].iter().collect();
                    following == "by" || following == "without"
                });
                let keyword = KEYWORDS.contains(&word.to_ascii_lowercase().as_str());
                if !called && !aggregates && !keyword {
                    found.insert(word);
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    found
}

/// The metric a histogram or summary series belongs to.
#[must_use]
pub fn family(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

const fn is_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == ':'
}

fn word_end(chars: &[char], from: usize) -> usize {
    let part = |c: &char| c.is_ascii_alphanumeric() || *c == '_' || *c == ':' || *c == '.';
    from + chars[from..].iter().take_while(|c| part(c)).count()
}

fn next_visible(chars: &[char], from: usize) -> Option<usize> {
    (from..chars.len()).find(|&i| !chars[i].is_whitespace())
}

fn skip_line(chars: &[char], from: usize) -> usize {
    from + chars[from..].iter().take_while(|c| **c != '\n').count()
}

fn skip_string(chars: &[char], from: usize) -> usize {
    let quote = chars[from];
    let mut at = from + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' && quote != '`' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// Index after the bracket that closes the one at `from`; strings inside do not count.
fn closing(chars: &[char], from: usize, open: char, close: char) -> usize {
    let mut depth = 0_usize;
    let mut at = from;
    while at < chars.len() {
        let c = chars[at];
        if matches!(c, '"' | '\'' | '`') {
            at = skip_string(chars, at);
            continue;
        }
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return at + 1;
            }
        }
        at += 1;
    }
    chars.len()
}

fn name_matcher(selector: &[char]) -> Option<String> {
    let text: String = selector.iter().filter(|c| !c.is_whitespace()).collect();
    let after = text.split_once("__name__=\"")?.1;
    Some(after.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(expr: &str) -> Vec<String> {
        metric_names(expr).into_iter().collect()
    }

    #[test]
    fn selectors_are_found_and_everything_else_is_not() {
        assert_eq!(
            names(
                r#"sum by (service, le) (rate(http_requests_total{status=~"5..", x="up by (a)"}[$ratio])) > bool 0.5"#
            ),
            ["http_requests_total"]
        );
        assert_eq!(names("a / on (x) group_left (y) b:c:d"), ["a", "b:c:d"]);
        assert_eq!(names("histogram_quantile(0.95, sum(rate(x_bucket[5m])) by (le))"), ["x_bucket"]);
        assert_eq!(names("time() - max_over_time(t[1h:1m] offset 5m) > 1e3"), ["t"]);
        assert_eq!(names("absent(up{job=\"x\"}) or vector(1)"), ["up"]);
        assert_eq!(names("{__name__=\"one\", a=~\"two\"}"), ["one"]);
        assert_eq!(names("rate(m{a=\"$var\"}[$__rate_interval]) # up\n + ${x:regex}"), ["m"]);
        assert_eq!(names("esg_energy_kwh_total * 0.4"), ["esg_energy_kwh_total"]);
    }

    #[test]
    fn histogram_series_belong_to_their_family() {
        assert_eq!(family("x_seconds_bucket"), "x_seconds");
        assert_eq!(family("x_total"), "x_total");
    }
}
