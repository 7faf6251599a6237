//! Reports for people.

mod html;
mod text;

pub use html::page;
pub use text::table;

use stats::compare::{Severity, short};

use crate::score::{Report, Verdict};

/// One line that says it all.
fn headline(report: &Report) -> String {
    let (drifted, judged) = report.counts();
    let unknown = report.features.len() - judged;
    let mut words = match report.verdict() {
        Verdict::Drift => format!("drift in {drifted} of {judged} features"),
        Verdict::NoDrift => format!("no drift in {judged} features"),
        Verdict::CannotTell => format!("cannot tell: {unknown} of {} features cannot be judged", report.features.len()),
    };
    if report.verdict() == Verdict::Drift && unknown > 0 {
        words.push_str(&format!(", {unknown} more cannot be judged"));
    }
    if report.together.is_some_and(|t| t.drifted) {
        words.push_str(", and in the columns together");
    }
    words
}

/// A number, or a dash for none.
fn number(x: Option<f64>) -> String {
    x.map_or("-".to_owned(), short)
}

/// A share as a percentage.
fn percent(share: f64) -> String {
    if share == 0.0 || share == 1.0 { format!("{:.0} %", 100.0 * share) } else { format!("{:.1} %", 100.0 * share) }
}

/// Names come from files: nothing in them may steer a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '·' } else { c }).collect()
}

/// The worst first, then by name's order in the reference.
fn by_severity(report: &Report) -> Vec<&crate::score::Feature> {
    let mut features: Vec<_> = report.features.iter().collect();
    // What cannot be told needs a look before what has not drifted.
    let rank = |s: Severity| match s {
        Severity::Alert => 0,
        Severity::Warning => 1,
        Severity::Unknown => 2,
        Severity::None => 3,
    };
    features.sort_by(|a, b| {
        let psi = |f: &crate::score::Feature| f.drift.psi.unwrap_or(0.0);
        rank(a.drift.severity).cmp(&rank(b.drift.severity)).then(psi(b).total_cmp(&psi(a)))
    });
    features
}
