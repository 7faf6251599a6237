//! A table for a terminal of any width.

use console::{Style, measure_text_width, pad_str, truncate_str};
use stats::compare::Severity;

use super::{by_severity, headline, number, percent, plain};
use crate::score::{Feature, Report, Verdict};

/// Narrower terminals get fewer columns.
const WIDE: usize = 110;
/// Names beyond this are cut.
const NAME: usize = 28;

/// The report in at most `width` columns a line; with colour only if told so.
pub fn table(report: &Report, width: usize, colour: bool) -> String {
    let wide = width >= WIDE;
    let features = by_severity(report);
    let mut rows = vec![head(wide)];
    rows.extend(features.iter().map(|f| row(f, wide)));
    let columns = rows[0].len();
    let widths: Vec<usize> =
        (0..columns).map(|i| rows.iter().map(|r| measure_text_width(&r[i])).max().unwrap_or(0)).collect();
    let mut out = format!(
        "{}\n{} rows of {} against {} rows of {}\n\n",
        paint(&headline(report), verdict_style(report.verdict()), colour),
        report.current_rows,
        plain(&report.current),
        report.reference_rows,
        plain(&report.reference)
    );
    for (i, cells) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            // Words to the left, numbers to the right.
            let alignment =
                if column < 2 || (wide && column == 2) { console::Alignment::Left } else { console::Alignment::Right };
            let padded = pad_str(cell, widths[column], alignment, None);
            let style = match i.checked_sub(1).map(|f| features[f].drift.severity) {
                None => Style::new().bold(),
                Some(severity) if column == 1 => severity_style(severity),
                Some(_) => Style::new(),
            };
            line.push_str(&paint(&padded, style, colour));
            line.push_str("  ");
        }
        let line = line.trim_end();
        out.push_str(&truncate_str(line, width, "…"));
        out.push('\n');
    }
    let reasons: Vec<_> = features.iter().filter(|f| !f.drift.reason.is_empty()).collect();
    if !reasons.is_empty() {
        out.push('\n');
    }
    for feature in reasons {
        out.push_str(&wrap(&format!("{}: {}", plain(&feature.name), plain(&feature.drift.reason)), width));
    }
    if let Some(together) = &report.together {
        out.push_str(&wrap(&together.words(), width));
    }
    if !report.new_columns.is_empty() {
        let names: Vec<String> = report.new_columns.iter().map(|n| plain(n)).collect();
        out.push_str(&wrap(&format!("not in the reference: {}", names.join(", ")), width));
    }
    out
}

fn head(wide: bool) -> Vec<String> {
    let names: &[&str] = if wide {
        &["feature", "drift", "kind", "PSI", "from", "KS or V", "p", "W1/σ", "JS", "mean/σ", "missing before", "now"]
    } else {
        &["feature", "drift", "PSI", "from", "p", "missing"]
    };
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn row(feature: &Feature, wide: bool) -> Vec<String> {
    let d = &feature.drift;
    let name = truncate_str(&plain(&feature.name), NAME, "…").into_owned();
    let p = d.p_adjusted.or_else(|| d.p());
    if !wide {
        let missing = percent(d.missing.current);
        return vec![name, d.severity.as_str().into(), number(d.psi), number(d.psi_threshold), number(p), missing];
    }
    let effect = d.ks.map(|k| k.d).or_else(|| d.chi2.map(|c| c.cramers_v));
    vec![
        name,
        d.severity.as_str().into(),
        d.kind.as_str().into(),
        number(d.psi),
        number(d.psi_threshold),
        number(effect),
        number(p),
        number(d.wasserstein_sigma),
        number(d.js),
        number(d.mean_shift_sigma),
        percent(d.missing.reference),
        percent(d.missing.current),
    ]
}

fn severity_style(severity: Severity) -> Style {
    match severity {
        Severity::Alert => Style::new().red().bold(),
        Severity::Warning => Style::new().yellow(),
        Severity::Unknown => Style::new().magenta(),
        Severity::None => Style::new().green(),
    }
}

fn verdict_style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Drift => Style::new().red().bold(),
        Verdict::CannotTell => Style::new().magenta().bold(),
        Verdict::NoDrift => Style::new().green().bold(),
    }
}

fn paint(text: &str, style: Style, colour: bool) -> String {
    if colour { style.force_styling(true).apply_to(text).to_string() } else { text.to_owned() }
}

/// Breaks between words; what follows the first line is indented.
fn wrap(text: &str, width: usize) -> String {
    let width = width.max(30);
    let (mut out, mut used) = (String::new(), 0);
    for word in text.split(' ') {
        let length = measure_text_width(word);
        if used > 0 && used + 1 + length > width {
            out.push_str("\n    ");
            used = 4;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out + "\n"
}

#[cfg(test)]
mod tests {
    use stats::{
        compare::{FeatureDrift, Options},
        profile::Kind,
    };

    use super::*;

    fn report(names: &[(&str, Severity)]) -> Report {
        let feature = |(name, severity): &(&str, Severity)| Feature {
            name: (*name).to_owned(),
            drift: FeatureDrift::verdict(Kind::Number, *severity, "because of a reason that is told in words".into()),
            histograms: None,
        };
        Report {
            reference: "jan.csv".into(),
            current: "feb.csv".into(),
            reference_rows: 10,
            current_rows: 9,
            options: Options::default(),
            features: names.iter().map(feature).collect(),
            new_columns: vec!["extra".into()],
            together: None,
            remarks: Vec::new(),
            rule: String::new(),
        }
    }

    #[test]
    fn it_fits_every_width_and_puts_the_worst_first() {
        let long = "a name that is far too long for any table to hold it in one cell";
        let report = report(&[("calm", Severity::None), (long, Severity::Alert), ("odd", Severity::Unknown)]);
        for width in [40, 60, 80, 120, 200] {
            let text = table(&report, width, false);
            assert!(text.lines().skip(2).all(|l| measure_text_width(l) <= width), "{width}\n{text}");
            assert!(!text.contains('\u{1b}'));
            let at = |what: &str| text.find(what).unwrap();
            assert!(at("a name") < at("odd") && at("odd") < at("calm"));
            assert!(text.starts_with("drift in 1 of 2 features, 1 more cannot be judged\n"), "{text}");
        }
        assert!(table(&report, 120, true).contains('\u{1b}'));
    }

    #[test]
    fn names_do_not_steer_the_terminal() {
        let text = table(&report(&[("\u{1b}[2Jx", Severity::None)]), 80, false);
        assert!(!text.contains('\u{1b}') && text.contains("·[2Jx"));
    }
}
