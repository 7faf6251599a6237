//! One file that any browser shows, without anything from elsewhere.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use stats::profile::Histogram;

use super::{by_severity, headline, number, percent};
use crate::score::{Feature, Report};

const STYLE: &str = "
:root{color-scheme:light dark;--line:#8884;--ref:#888;--now:#2a78d6;--alert:#c62828;--warning:#b26a00;--unknown:#8e24aa;--none:#2e7d32}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 .25rem}p{margin:.25rem 0}
table{border-collapse:collapse;width:100%;margin:1rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .6rem;border-bottom:1px solid var(--line);text-align:right;vertical-align:top}
th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}
.scroll{overflow-x:auto}.alert{color:var(--alert);font-weight:600}.warning{color:var(--warning);font-weight:600}
.unknown{color:var(--unknown)}.none{color:var(--none)}
section{border-top:1px solid var(--line);padding:1rem 0}h2{font-size:1.1rem;margin:0}
svg{width:100%;max-width:40rem;height:auto;display:block;margin-top:.5rem}text{font-size:10px;fill:currentColor}
.ref{fill:var(--ref)}.now{fill:var(--now)}small{opacity:.75}
";

/// The report as a page.
pub fn page(report: &Report) -> String {
    let features = by_severity(report);
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "Drift: " (headline(report)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (headline(report)) }
                p { (report.current_rows) " rows of " code { (report.current) } " against " (report.reference_rows)
                    " rows of " code { (report.reference) } }
                @for remark in &report.remarks { p { (remark) } }
                @if let Some(together) = &report.together { p { (together.words()) } }
                @if !report.new_columns.is_empty() {
                    p { "Not in the reference: " (report.new_columns.join(", ")) }
                }
                (overview(&features))
                @for feature in &features { (details(feature)) }
                p { small { (report.rule) } }
            }
        }
    };
    markup.into_string()
}

fn overview(features: &[&Feature]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                @for name in ["feature", "drift", "kind", "PSI", "counts from", "KS or V", "adjusted p", "W1/σ", "JS", "mean shift/σ", "missing before", "now"] {
                    th { (name) }
                }
            } }
            tbody { @for f in features { (line(f)) } }
        } }
    }
}

fn line(feature: &Feature) -> Markup {
    let d = &feature.drift;
    let effect = d.ks.map(|k| k.d).or_else(|| d.chi2.map(|c| c.cramers_v));
    html! { tr {
        td { (feature.name) }
        td class=(d.severity.as_str()) { (d.severity.as_str()) }
        td { (d.kind.as_str()) }
        @for x in [d.psi, d.psi_threshold, effect, d.p_adjusted, d.wasserstein_sigma, d.js, d.mean_shift_sigma] {
            td { (number(x)) }
        }
        td { (percent(d.missing.reference)) }
        td { (percent(d.missing.current)) }
    } }
}

fn details(feature: &Feature) -> Markup {
    let d = &feature.drift;
    html! { section {
        h2 { (feature.name) " " span class=(d.severity.as_str()) { (d.severity.as_str()) } }
        @if !d.reason.is_empty() { p { (d.reason) } }
        @if let Some((count, share)) = d.new_categories.filter(|(count, _)| *count > 0) {
            p { (count) " categories are new, with " (percent(share)) " of the rows" }
        }
        @if let (Some(before), Some(now)) = (d.mean.reference, d.mean.current) {
            p { "mean " (number(Some(before))) " → " (number(Some(now)))
                @if let Some(share) = d.outside_range.filter(|s| *s > 0.0) {
                    ", " (percent(share)) " outside the reference's range"
                }
            }
        }
        @if let Some((reference, current)) = &feature.histograms { (bars(reference, current)) }
    } }
}

/// Two bars a cell: the share of the reference, and of the current data.
fn bars(reference: &Histogram, current: &Histogram) -> Markup {
    const HEIGHT: f64 = 120.0;
    const CELL: f64 = 44.0;
    let shares = |h: &Histogram| -> Vec<f64> {
        let total = h.counts.iter().sum::<u64>().max(1) as f64;
        h.counts.iter().map(|c| *c as f64 / total).collect()
    };
    let (before, now) = (shares(reference), shares(current));
    let highest = before.iter().chain(&now).fold(1e-9f64, |m, s| m.max(*s));
    let width = CELL * before.len() as f64;
    let label = |i: usize| match i.checked_sub(1) {
        None => "below".to_owned(),
        Some(i) => reference.cells.lower().get(i).map_or("above".to_owned(), |x| number(Some(*x))),
    };
    let bar = |share: f64| share / highest * HEIGHT;
    html! {
        svg viewBox=(format!("0 0 {width} {}", HEIGHT + 32.0)) role="img" aria-label="shares of the cells before and now" {
            @for (i, (b, n)) in before.iter().zip(&now).enumerate() {
                @let x = CELL * i as f64;
                rect.ref x=(x + 4.0) y=(14.0 + HEIGHT - bar(*b)) width="16" height=(bar(*b)) {}
                rect.now x=(x + 21.0) y=(14.0 + HEIGHT - bar(*n)) width="16" height=(bar(*n)) {}
                text x=(x + 4.0) y=(HEIGHT + 27.0) { (label(i)) }
            }
            text x="4" y="10" { "grey: reference, blue: current; a cell begins at the number under it" }
        }
    }
}
