//! The report as one printable page, without anything from elsewhere.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Month, Report, Site,
    show::{co2e_kg, grams, kwh, percent},
};

const STYLE: &str = "
:root { color-scheme: light; --ink: #1b2430; --dim: #5b6775; --rule: #d5dbe2; --bar: #2f6f8f; --bar2: #c77c2b; --bad: #a52a2a; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; color: var(--ink); max-width: 62rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--rule); padding-bottom: .2rem; }
.sub { color: var(--dim); margin: .2rem 0 1.4rem; } .bad { color: var(--bad); font-weight: 600; }
.cards { display: flex; flex-wrap: wrap; gap: 1rem; } .card { flex: 1 1 11rem; border: 1px solid var(--rule); border-radius: 6px; padding: .7rem 1rem; }
.card b { display: block; font-size: 1.45rem; font-weight: 600; font-variant-numeric: tabular-nums; } .card span { color: var(--dim); font-size: .85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; } th { text-align: left; color: var(--dim); font-weight: 600; }
th, td { padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; } td.k { white-space: nowrap; } td.n, th.n { text-align: right; padding-left: .7rem; font-variant-numeric: tabular-nums; }
code, pre { font: .82rem/1.45 ui-monospace, 'DejaVu Sans Mono', monospace; overflow-wrap: anywhere; white-space: pre-wrap; }
pre { background: #f5f7f9; padding: .8rem 1rem; border-radius: 6px; }
figure { margin: 0; } figcaption { color: var(--dim); font-size: .85rem; } svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: #5b6775; }
@page { size: A4; margin: 14mm; }
@media print { html { font-size: 9.5px; } body { margin: 0; max-width: none; padding: 0; font-size: 1rem; } .card b { font-size: 1.9rem; } .wide { overflow: visible; } h2, .card, tr, figure, pre { break-inside: avoid; } h2 { break-after: avoid; } }
";

impl Report {
    /// One page of HTML.
    pub fn to_html(&self) -> String {
        let covered: i64 = self.sites.iter().map(|s| s.figures.covered_seconds).sum();
        let missing: i64 = self.sites.iter().map(|s| s.gap_seconds).sum();
        let coverage = if covered + missing > 0 { covered * 1_000_000 / (covered + missing) } else { 0 };
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { "Energy and emissions, " (self.month) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    h1 { "Energy and emissions, " (self.month) }
                    p.sub {
                        (self.origin) " · " (self.size) " entries · "
                        @if self.verified { "the log was verified with its key before this report was made" }
                        @else { span.bad { "the log was not verified: no key was given" } }
                    }
                    div.cards {
                        div.card { b { (grouped(&self.total.kwh)) } span { "kWh" } }
                        div.card { b { (grouped(&co2e_kg(self.total.co2e_location_mg))) } span { "kg CO2e, location-based" } }
                        div.card { b { (grouped(&co2e_kg(self.total.co2e_market_mg))) } span { "kg CO2e, market-based" } }
                        div.card { b { (percent(coverage)) } span { "of the time covered by readings" } }
                    }
                    h2 { "Day by day" }
                    (chart(self))
                    h2 { "Sites" }
                    (sites(self))
                    h2 { "Factors used" }
                    (factors(self))
                    h2 { "Gaps" }
                    (gaps(self))
                    h2 { "Corrections" }
                    (corrections(self))
                    h2 { "Waste" }
                    (waste(self))
                    h2 { "How to verify this report" }
                    p { (self.how_to_verify) }
                    pre { (self.checkpoint) }
                }
            }
        };
        page.into_string()
    }
}

/// Thousands set apart by a narrow space that does not break.
fn grouped(number: &str) -> String {
    let (whole, rest) = number.split_once('.').map_or((number, String::new()), |(w, r)| (w, format!(".{r}")));
    let digits = whole.trim_start_matches('-').len();
    let mut out = String::new();
    for (i, c) in whole.trim_start_matches('-').chars().enumerate() {
        if i > 0 && (digits - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(c);
    }
    format!("{}{out}{rest}", if whole.starts_with('-') { "-" } else { "" })
}

/// An instant to the second: the log has it to the microsecond.
fn seconds(rfc3339: &str) -> String {
    rfc3339.split_once('.').map_or_else(|| rfc3339.to_owned(), |(whole, _)| format!("{whole}Z"))
}

/// Energy (mJ) and location-based emissions (mg) of each day of the month.
fn days(report: &Report) -> BTreeMap<String, (i64, i64)> {
    let mut days = BTreeMap::new();
    for hour in report.sites.iter().flat_map(|s| &s.hours) {
        let day: &mut (i64, i64) = days.entry(hour.hour.chars().take(10).collect()).or_default();
        day.0 += hour.figures.energy_mj;
        day.1 += hour.figures.co2e_location_mg;
    }
    days
}

fn chart(report: &Report) -> Markup {
    let days = days(report);
    let most = days.values().map(|d| d.0).max().unwrap_or(0).max(1) as f64;
    let most_co2e = days.values().map(|d| d.1).max().unwrap_or(0).max(1) as f64;
    let last = report.month.parse().map_or(31, |month: Month| month.days());
    let width = 860.0 / 31.0;
    let day_of = |date: &str| date.get(8..10).and_then(|d| d.parse::<f64>().ok()).unwrap_or(1.0);
    html! {
        @if days.is_empty() {
            p { "There are no readings in this month." }
        } @else {
            figure {
                svg viewBox="0 0 900 220" role="img" aria-label="kWh and kilograms of CO2e of each day" {
                    line x1="30" x2="895" y1="190" y2="190" stroke="#d5dbe2" {}
                    @for (date, (energy, co2e)) in &days {
                        @let x = 32.0 + (day_of(date) - 1.0) * width;
                        @let h = 165.0 * *energy as f64 / most;
                        @let h2 = 165.0 * *co2e as f64 / most_co2e;
                        rect x=(format!("{x:.1}")) y=(format!("{:.1}", 190.0 - h)) width="11" height=(format!("{h:.1}")) fill="#2f6f8f" {
                            title { (date) ": " (kwh(*energy)) " kWh" }
                        }
                        rect x=(format!("{:.1}", x + 12.0)) y=(format!("{:.1}", 190.0 - h2)) width="11" height=(format!("{h2:.1}")) fill="#c77c2b" {
                            title { (date) ": " (co2e_kg(*co2e)) " kg CO2e" }
                        }
                    }
                    @for day in 1..=last {
                        text x=(format!("{:.1}", 43.0 + f64::from(day - 1) * width)) y="206" text-anchor="middle" { (day) }
                    }
                    text x="30" y="14" { "highest day: " (kwh(most as i64)) " kWh, " (co2e_kg(most_co2e as i64)) " kg CO2e" }
                }
                figcaption { "Blue: kWh. Orange: kg CO2e, location-based. Each on its own scale; days in UTC." }
            }
        }
    }
}

fn sites(report: &Report) -> Markup {
    html! {
        div.wide { table {
            thead { tr {
                th { "Site" } th.n { "Machines" } th.n { "kWh" } th.n { "of it estimated" }
                th.n { "kg CO2e (location)" } th.n { "kg CO2e (market)" } th.n { "Coverage" } th.n { "Gaps" }
                th.n { "Gap seconds" } th.n { "kWh in gaps*" }
            } }
            tbody {
                @for s in &report.sites { tr {
                    td.k { (s.site) } td.n { (s.machines) } td.n { (grouped(&s.figures.kwh)) } td.n { (grouped(&kwh(s.estimated_mj))) }
                    td.n { (grouped(&co2e_kg(s.figures.co2e_location_mg))) } td.n { (grouped(&co2e_kg(s.figures.co2e_market_mg))) }
                    td.n { (percent(s.coverage_ppm)) } td.n { (s.gaps) } td.n { (s.gap_seconds) }
                    td.n { (grouped(&kwh(s.unallocated_mj))) }
                } }
            }
        } }
        p.sub { "* Counted by meters while no readings arrived; in no other figure. Where no contract covers the energy, the market-based figure uses the grid's average." }
    }
}

fn factors(report: &Report) -> Markup {
    html! {
        div.wide { table {
            thead { tr { th { "Region" } th { "Basis" } th.n { "g/kWh" } th.n { "Year" } th { "Source" } th { "Table (SHA-256)" } } }
            tbody {
                @for f in &report.factors { tr {
                    td { (f.region) } td { (f.basis) } td.n { (grams(f.value)) } td.n { (f.year) }
                    td { (f.source) @if let Some(i) = &f.instrument { ", " (i) } }
                    td { code { (f.table_sha256.get(..16).unwrap_or_default()) "…" } }
                } }
            }
        } }
    }
}

fn gaps(report: &Report) -> Markup {
    let count: u64 = report.sites.iter().map(|s| s.gaps).sum();
    html! {
        @if count == 0 {
            p { "None: every interval of every machine is there." }
        } @else {
            p { (count) " gaps; each is a governance failure and stands in the log." }
            div.wide { table {
                thead { tr { th { "Machine" } th { "Site" } th { "From" } th { "Until" } th.n { "Seconds" } th.n { "Missing readings" } th { "Reason" } th.n { "Entry" } } }
                tbody {
                    @for g in &report.gaps { tr {
                        td.k { (g.machine_id) } td.k { (g.site) } td.k { (seconds(&g.from)) } td.k { (g.until.as_deref().map_or("still open".into(), seconds)) }
                        td.n { (g.seconds) } td.n { @if let Some(n) = g.missing { (n) } } td { (g.reason) } td.n { (g.index) }
                    } }
                }
            } }
        }
    }
}

fn corrections(report: &Report) -> Markup {
    html! {
        @if report.corrections.is_empty() {
            p { "None." }
        } @else {
            div.wide { table {
                thead { tr { th.n { "Entry" } th.n { "replaces" } th { "Machine" } th.n { "kWh before" } th.n { "kWh now" } th { "By" } th { "Why" } } }
                tbody {
                    @for c in &report.corrections { tr {
                        td.n { (c.index) } td.n { (c.supersedes) } td { (c.machine_id) } td.n { (kwh(c.before_mj)) }
                        td.n { (kwh(c.after_mj)) } td { (c.author) } td { (c.reason) }
                    } }
                }
            } }
        }
    }
}

fn waste(report: &Report) -> Markup {
    let sum = |of: fn(&Site) -> i64| report.sites.iter().map(of).sum::<i64>();
    let (made, scrapped, avoided) = (sum(|s| s.parts_made), sum(|s| s.parts_scrapped), sum(|s| s.parts_avoided));
    html! {
        @if made + avoided == 0 {
            p { "No machine of this month counts its parts." }
        } @else {
            p { (made) " parts made, " (scrapped) " scrapped because of failures, " (avoided) " not scrapped because a failure was avoided." }
            @if let Some(assumption) = &report.avoided_assumption {
                p.sub { "Avoided: an estimate, on the assumption that " (assumption) "." }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(grouped("23560.922"), "23\u{202f}560.922");
        assert_eq!(grouped("-1234567"), "-1\u{202f}234\u{202f}567");
        assert_eq!(grouped("0.001"), "0.001");
    }

    #[test]
    fn instants_are_shown_to_the_second() {
        assert_eq!(seconds("2026-11-21T23:19:22.237622Z"), "2026-11-21T23:19:22Z");
        assert_eq!(seconds("2026-11-21T23:19:22Z"), "2026-11-21T23:19:22Z");
    }
}
