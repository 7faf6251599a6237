//! Small things that pages are made of.

use std::time::Duration;

use maud::{Markup, html};

use crate::{http::view::IncidentSummary, timestamp::Timestamp};

/// `healed` → `Healed`: codes as people read them.
pub(super) fn words(code: &str) -> String {
    let text = match code {
        "verifying" => "proving",
        "escalated" => "needs people",
        "closed_by_operator" => "closed by hand",
        "ping" => "sign of life",
        other => return capital(&other.replace(['_', '-'], " ")),
    };
    capital(text)
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

/// What a state or outcome means for whoever looks: the colour.
pub(super) fn tone(code: &str) -> &'static str {
    match code {
        "healed" | "resolved" | "covered" | "good" | "done" => "good",
        "not_healed" | "escalated" | "bad" | "failed" | "not_performed" => "bad",
        "unverified" | "waiting" | "unknown" | "unanswered" | "standby" => "warn",
        "acting" | "verifying" | "intended" => "run",
        _ => "calm",
    }
}

/// State or outcome, as word and colour and shape.
pub(super) fn badge(code: &str) -> Markup {
    html! { span.badge.(tone(code)) { (icon(tone(code))) (words(code)) } }
}

/// The badge of an incident.
pub(super) fn state(i: &IncidentSummary) -> Markup {
    badge(i.outcome.unwrap_or(i.state))
}

/// A shape for each tone: colour alone tells some people nothing.
pub(super) fn icon(tone: &str) -> Markup {
    let path = match tone {
        "good" => "M3.5 8.5l3 3 6-7",
        "bad" => "M8 3.5v5.5M8 12v.5",
        "warn" => "M8 2.5a5.5 5.5 0 1 0 .01 0M8 5.3v3l2 1.2",
        "run" => "M6 4l5 4-5 4z",
        _ => "M4 8h8",
    };
    html! {
        svg.icon viewBox="0 0 16 16" width="14" height="14" aria-hidden="true" focusable="false" {
            path d=(path) fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" {}
        }
    }
}

/// A time of day with its date, in UTC.
pub(super) fn time(at: Timestamp) -> Markup {
    let text = at.to_string();
    let shown = text.get(..19).unwrap_or(&text).replace('T', " ");
    html! { time datetime=(text) { (shown) } }
}

/// A time of day only; the date is what a pointer shows.
pub(super) fn clock(at: Timestamp) -> Markup {
    let text = at.to_string();
    let shown = text.get(11..19).unwrap_or(&text);
    html! { time datetime=(text) title=(text) { (shown) } }
}

/// How long ago; the script keeps it up to date.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> Markup {
    let text = at.to_string();
    html! { time.ago datetime=(text) title=(text) { (span(now.since(at))) " ago" } }
}

/// How far ahead.
pub(super) fn ahead(at: Timestamp, now: Timestamp) -> Markup {
    let text = at.to_string();
    let left = at.since(now);
    html! {
        time.ahead datetime=(text) title=(text) {
            @if left.is_zero() { "now" } @else { "in " (span(left)) }
        }
    }
}

/// A length of time in its two largest units.
pub(super) fn span(length: Duration) -> String {
    let s = length.as_secs();
    match s {
        0..=119 => format!("{s} s"),
        120..=7_199 => format!("{} min", s / 60),
        7_200..=172_799 => format!("{} h", s / 3_600),
        _ => format!("{} days", s / 86_400),
    }
}

/// One fact of a list of facts.
pub(super) fn fact(name: &str, value: Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// Text as it is, or a dash.
pub(super) fn or_dash(text: Option<&str>) -> Markup {
    html! { @match text { Some(t) if !t.is_empty() => (t), _ => span.dim { "–" } } }
}

/// A number as people read it: no more digits than mean something.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let magnitude = value.abs();
    let digits = match magnitude {
        m if m == 0.0 || m >= 1000.0 => 0,
        m if m >= 10.0 => 1,
        m if m >= 1.0 => 2,
        m if m >= 0.01 => 3,
        _ => 5,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        for (value, shown) in [(0.0, "0"), (0.05, "0.05"), (0.123_456, "0.123"), (12.34, "12.3"), (98_765.4, "98765")] {
            assert_eq!(number(value), shown);
        }
        assert_eq!(number(f64::NAN), "NaN");
    }

    #[test]
    fn lengths_of_time_are_short() {
        for (seconds, shown) in [(5, "5 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (200_000, "2 days")] {
            assert_eq!(span(Duration::from_secs(seconds)), shown);
        }
    }

    #[test]
    fn every_state_and_outcome_has_a_word_and_a_tone() {
        for outcome in crate::engine::Outcome::ALL {
            assert!(!words(outcome.as_str()).contains('_'));
        }
        assert_eq!(words("not_healed"), "Not healed");
        assert_eq!(tone("healed"), "good");
    }
}
