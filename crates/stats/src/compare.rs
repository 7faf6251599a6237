//! One column now against its frozen reference, and what to call the difference.

use serde::Serialize;

use crate::{
    cells::Binning,
    chi2::homogeneity,
    distance::{jensen_shannon, psi},
    fdr::benjamini_hochberg,
    kolmogorov::kstwo_sf,
    moments::mean_shift,
    profile::{Categories, Histogram, Kind, Numbers, Reference, Summary},
};

/// How to compare and where to draw lines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Edges of the cells.
    pub binning: Binning,
    /// A PSI counts only above what chance stays below with this probability.
    pub confidence: f64,
    /// Adjusted p-value from which a test counts.
    pub alpha: f64,
    /// Fewer rows on either side are no ground for a verdict.
    pub min_rows: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { binning: Binning::Deciles, confidence: 0.95, alpha: 0.01, min_rows: 5 }
    }
}

/// PSI from which a change is worth a warning and an alert (Siddiqi, *Credit Risk Scorecards*, 2006).
const PSI_LINES: (f64, f64) = (0.1, 0.25);
/// The same for D and Cramér's V, which both go from 0 to 1: with many rows every difference is
/// significant, few matter.
const EFFECT_LINES: (f64, f64) = (0.1, 0.25);
/// The same for the change of the share of missing values.
const MISSING_LINES: (f64, f64) = (0.05, 0.2);
/// Text with more distinct values than this, most of them unique, is taken for an identifier.
const IDENTIFIER_VALUES: usize = 50;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It cannot be told.
    Unknown,
    /// No drift.
    None,
    /// Drift.
    Warning,
    /// Much drift.
    Alert,
}

impl Severity {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::None => "none",
            Self::Warning => "warning",
            Self::Alert => "alert",
        }
    }

    fn of(value: f64, lines: (f64, f64)) -> Self {
        if value >= lines.1 {
            Self::Alert
        } else if value >= lines.0 {
            Self::Warning
        } else {
            Self::None
        }
    }
}

/// Kolmogorov-Smirnov, two samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ks {
    /// `sup |F − G|`.
    pub d: f64,
    /// `kstwo.sf(D, round(nm/(n + m)))`.
    pub p: f64,
    /// What D may be off by where samples are sketched; 0 where it is exact.
    pub error: f64,
}

/// χ² test of categories.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Chi2View {
    /// Statistic.
    pub stat: f64,
    /// p-value.
    pub p: f64,
    /// Degrees of freedom.
    pub dof: usize,
    /// √(stat/rows): the effect's size, 0 to 1.
    pub cramers_v: f64,
    /// The smallest expected count: below 1 the test is not used.
    pub smallest_expected: f64,
}

/// A number on both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Both<T> {
    /// Of the reference.
    pub reference: T,
    /// Now.
    pub current: T,
}

/// All that is known of one feature's drift. What does not apply or is not defined is `null`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureDrift {
    /// What the column holds.
    pub kind: Kind,
    /// Population stability index over the cells, over- and underflow and the missing.
    pub psi: Option<f64>,
    /// It counts from here on: max(0.1, what chance explains).
    pub psi_threshold: Option<f64>,
    /// What chance alone explains.
    pub psi_critical: Option<f64>,
    /// Kolmogorov-Smirnov test of numbers.
    pub ks: Option<Ks>,
    /// Wasserstein-1 distance, in the column's unit.
    pub wasserstein: Option<f64>,
    /// The same in σ of the reference.
    pub wasserstein_sigma: Option<f64>,
    /// Jensen-Shannon distance, base 2, as scipy's: the root of the divergence. Without the missing.
    pub js: Option<f64>,
    /// The divergence itself, bits.
    pub js_divergence: Option<f64>,
    /// (mean − reference mean)/reference σ.
    pub mean_shift_sigma: Option<f64>,
    /// Means.
    pub mean: Both<Option<f64>>,
    /// Smallest and largest finite number.
    pub range: Both<Option<(f64, f64)>>,
    /// Share of numbers now outside the reference's range.
    pub outside_range: Option<f64>,
    /// Share of rows without a value.
    pub missing: Both<f64>,
    /// Rows.
    pub rows: Both<u64>,
    /// Rows with an infinite number.
    pub infinite: Both<u64>,
    /// χ² test of categories.
    pub chi2: Option<Chi2View>,
    /// Categories that the reference did not have: how many, and their share of rows.
    pub new_categories: Option<(usize, f64)>,
    /// p-value of the feature's test, adjusted for the number of features.
    pub p_adjusted: Option<f64>,
    /// `null` where it cannot be told.
    pub drifted: Option<bool>,
    /// How bad it is.
    pub severity: Severity,
    /// Why, in words.
    pub reason: String,
    #[serde(skip)]
    missing_p: f64,
    #[serde(skip)]
    looks_like_identifier: bool,
}

impl FeatureDrift {
    /// A feature about which nothing is known but this.
    pub fn verdict(kind: Kind, severity: Severity, reason: String) -> Self {
        Self {
            kind,
            psi: None,
            psi_threshold: None,
            psi_critical: None,
            ks: None,
            wasserstein: None,
            wasserstein_sigma: None,
            js: None,
            js_divergence: None,
            mean_shift_sigma: None,
            mean: Both::default(),
            range: Both::default(),
            outside_range: None,
            missing: Both::default(),
            rows: Both::default(),
            infinite: Both::default(),
            chi2: None,
            new_categories: None,
            p_adjusted: None,
            drifted: match severity {
                Severity::Unknown => None,
                Severity::None => Some(false),
                Severity::Warning | Severity::Alert => Some(true),
            },
            severity,
            reason,
            missing_p: 1.0,
            looks_like_identifier: false,
        }
    }

    /// p-value of the test that the feature's kind has.
    pub fn p(&self) -> Option<f64> {
        match (&self.ks, &self.chi2) {
            (Some(ks), _) => Some(ks.p),
            (None, Some(chi2)) if chi2.smallest_expected >= 1.0 && !self.looks_like_identifier => Some(chi2.p),
            _ => None,
        }
    }
}

/// A column now, counted in the reference's cells while it is read.
#[derive(Clone, Debug)]
pub struct Current {
    /// The column.
    pub summary: Summary,
    /// Over the reference's cells.
    pub histogram: Option<Histogram>,
}

impl Current {
    /// Nothing yet, to be compared with `reference`; `limit` values are kept exactly.
    pub fn new(reference: &Reference, binning: Binning, limit: usize) -> Self {
        let histogram = reference.histogram(binning).map(|h| Histogram::new(h.cells.clone()));
        Self { summary: Summary::new(reference.kind, limit), histogram }
    }

    /// Adds a number.
    pub fn number(&mut self, x: f64) {
        if let Summary::Numbers(numbers) = &mut self.summary {
            numbers.add(x);
        }
        if let Some(histogram) = &mut self.histogram {
            histogram.add(x);
        }
    }

    /// Adds a category.
    pub fn category(&mut self, value: &str) {
        if let Summary::Categories(categories) = &mut self.summary {
            categories.add(value);
        }
    }

    /// Adds a row without a value.
    pub fn missing(&mut self) {
        match &mut self.summary {
            Summary::Numbers(numbers) => numbers.missing += 1,
            Summary::Categories(categories) => categories.missing += 1,
        }
    }
}

/// Everything but the verdict, which needs all features: see [`judge`].
pub fn compare(reference: &Reference, current: &Current, options: &Options) -> FeatureDrift {
    let mut drift = FeatureDrift::verdict(reference.kind, Severity::Unknown, String::new());
    let (before, now) = (&reference.summary, &current.summary);
    let share = |s: &Summary| s.missing() as f64 / s.rows().max(1) as f64;
    drift.rows = Both { reference: before.rows(), current: now.rows() };
    drift.missing = Both { reference: share(before), current: share(now) };
    let split = |s: &Summary| [s.missing(), s.rows() - s.missing()];
    drift.missing_p = homogeneity(&split(before), &split(now)).map_or(1.0, |t| t.p);
    match (before, now) {
        (Summary::Numbers(a), Summary::Numbers(b)) => {
            let histograms = reference.histogram(options.binning).zip(current.histogram.as_ref());
            numbers(&mut drift, a, b, histograms, options);
        }
        (Summary::Categories(a), Summary::Categories(b)) => categories(&mut drift, a, b, options),
        _ => drift.reason = "numbers cannot be compared with categories".into(),
    }
    drift
}

fn numbers(
    drift: &mut FeatureDrift,
    before: &Numbers,
    now: &Numbers,
    histograms: Option<(&Histogram, &Histogram)>,
    options: &Options,
) {
    drift.mean = Both { reference: before.moments.mean(), current: now.moments.mean() };
    let range = |n: &Numbers| (n.moments.count > 0).then_some((n.moments.min, n.moments.max));
    drift.range = Both { reference: range(before), current: range(now) };
    drift.infinite =
        Both { reference: before.infinite.0 + before.infinite.1, current: now.infinite.0 + now.infinite.1 };
    if drift.kind == Kind::Time {
        return;
    }
    drift.mean_shift_sigma = mean_shift(&before.moments, &now.moments);
    let (f, g) = (before.sample.ordered(), now.sample.ordered());
    let (n, m) = (f.total() as f64, g.total() as f64);
    drift.ks = f.ks(&g).map(|d| Ks {
        d,
        p: kstwo_sf(d, ((n * m) / (n + m)).round_ties_even() as u64),
        error: before.sample.rank_error() + now.sample.rank_error(),
    });
    drift.wasserstein = f.wasserstein(&g).filter(|w| w.is_finite());
    let sigma = before.moments.deviation().filter(|s| *s > 0.0);
    drift.wasserstein_sigma = drift.wasserstein.zip(sigma).map(|(w, s)| w / s);
    if let Some((a, b)) = histograms {
        set_psi(drift, &a.counts, &b.counts, before.missing, now.missing, options);
        if let (Some(under), Some(over)) = (b.counts.first(), b.counts.last()) {
            let numbers = b.counts.iter().sum::<u64>();
            drift.outside_range = (numbers > 0).then(|| (under + over) as f64 / numbers as f64);
        }
    }
}

fn categories(drift: &mut FeatureDrift, before: &Categories, now: &Categories, options: &Options) {
    let mut names: Vec<&String> = before.counts.keys().chain(now.counts.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let counts = |c: &Categories| -> Vec<u64> {
        names.iter().map(|n| c.counts.get(*n).copied().unwrap_or(0)).chain([c.other]).collect()
    };
    let (a, b) = (counts(before), counts(now));
    let present = (a.iter().sum::<u64>(), b.iter().sum::<u64>());
    drift.looks_like_identifier =
        names.len() > IDENTIFIER_VALUES && names.len() as f64 > 0.5 * (present.0 + present.1) as f64;
    drift.chi2 = homogeneity(&a, &b).map(|t| Chi2View {
        stat: t.stat,
        p: t.p,
        dof: t.dof,
        cramers_v: (t.stat / (present.0 + present.1) as f64).sqrt(),
        smallest_expected: t.smallest_expected,
    });
    let new = || now.counts.iter().filter(|(name, _)| !before.counts.contains_key(*name));
    if present.1 > 0 && before.other == 0 {
        drift.new_categories = Some((new().count(), new().map(|(_, c)| c).sum::<u64>() as f64 / present.1 as f64));
    }
    set_psi(drift, &a, &b, before.missing, now.missing, options);
}

fn set_psi(drift: &mut FeatureDrift, a: &[u64], b: &[u64], missing_a: u64, missing_b: u64, options: &Options) {
    drift.js_divergence = jensen_shannon(a, b);
    drift.js = drift.js_divergence.map(f64::sqrt);
    if let Some(index) = psi(&[a, &[missing_a]].concat(), &[b, &[missing_b]].concat(), options.confidence) {
        drift.psi = Some(index.value);
        drift.psi_critical = Some(index.critical);
        drift.psi_threshold = Some(index.critical.max(PSI_LINES.0));
    }
}

/// Says of each feature whether it drifted: after its PSI, after its test among all features'
/// tests if the effect is large enough to matter, and after what is missing.
pub fn judge(features: &mut [&mut FeatureDrift], options: &Options) {
    let tested: Vec<usize> = (0..features.len()).filter(|i| features[*i].p().is_some()).collect();
    let p_values: Vec<f64> = tested.iter().filter_map(|i| features[*i].p()).collect();
    for (i, q) in tested.into_iter().zip(benjamini_hochberg(&p_values)) {
        features[i].p_adjusted = Some(q);
    }
    // Those that a reason has been given for were judged where they were made.
    features.iter_mut().filter(|f| f.reason.is_empty()).for_each(|f| judge_one(f, options));
}

fn judge_one(drift: &mut FeatureDrift, options: &Options) {
    for (rows, side) in [(drift.rows.reference, "reference"), (drift.rows.current, "current")] {
        if rows < options.min_rows {
            let word = if rows == 1 { "row" } else { "rows" };
            drift.reason = format!("{rows} {word} in the {side}: at least {} are needed", options.min_rows);
            return;
        }
    }
    let mut found: Vec<(Severity, String)> = Vec::new();
    let change = drift.missing.current - drift.missing.reference;
    if drift.missing_p < options.alpha {
        let words = format!(
            "missing values went from {:.1} % to {:.1} %",
            100.0 * drift.missing.reference,
            100.0 * drift.missing.current
        );
        found.push((Severity::of(change.abs(), MISSING_LINES), words));
    }
    if !drift.looks_like_identifier
        && let (Some(psi), Some(critical)) = (drift.psi, drift.psi_critical)
        && psi >= critical
    {
        let line = if psi >= PSI_LINES.1 { critical.max(PSI_LINES.1) } else { critical.max(PSI_LINES.0) };
        found.push((Severity::of(psi, PSI_LINES), format!("PSI {} is above {}", short(psi), short(line))));
    }
    if let Some(q) = drift.p_adjusted.filter(|q| *q < options.alpha) {
        let (name, effect) = match (&drift.ks, &drift.chi2) {
            (Some(ks), _) => ("KS distance", (ks.d - ks.error).max(0.0)),
            (None, Some(chi2)) => ("Cramér's V", chi2.cramers_v),
            (None, None) => ("", 0.0),
        };
        found.push((Severity::of(effect, EFFECT_LINES), format!("{name} {} with p {}", short(effect), short(q))));
    }
    found.retain(|(severity, _)| *severity > Severity::None);
    found.sort_by_key(|(severity, _)| std::cmp::Reverse(*severity));
    drift.severity = found.first().map_or(Severity::None, |(severity, _)| *severity);
    drift.drifted = Some(!found.is_empty());
    let mut reasons: Vec<String> = found.into_iter().map(|(_, words)| words).collect();
    if drift.infinite.reference + drift.infinite.current > 0 {
        reasons.push(format!(
            "{} infinite numbers in the reference and {} in the current data are in no mean and no distance",
            drift.infinite.reference, drift.infinite.current
        ));
    }
    if drift.kind == Kind::Time {
        reasons.push("instants move on: only missing values are judged".into());
    } else if drift.looks_like_identifier {
        reasons.push("looks like an identifier: only missing values are judged".into());
    } else if drift.missing.reference >= 1.0 && drift.missing.current >= 1.0 {
        reasons.push("empty on both sides".into());
    } else if drift.kind == Kind::Number && drift.wasserstein.is_none() && drift.ks.is_some() {
        reasons.push("its numbers are too large for a mean or a distance".into());
    }
    drift.reason = reasons.join("; ");
}

/// Four digits, small numbers as powers of ten.
pub fn short(x: f64) -> String {
    match x.abs() {
        a if a == 0.0 || (1e-3..1e5).contains(&a) => {
            let digits = (3 - a.max(1e-3).log10().floor() as i32).clamp(0, 4);
            format!("{x:.*}", digits as usize)
        }
        _ => format!("{x:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: u32, k: u32) -> impl Iterator<Item = f64> {
        (0..n).map(move |i| f64::from(i.wrapping_mul(2_654_435_761).wrapping_add(k * 977) >> 8) / f64::from(1 << 24))
    }

    fn number_reference(values: impl Iterator<Item = f64>) -> Reference {
        let mut summary = Numbers::new(100_000);
        values.for_each(|x| summary.add(x));
        Reference::freeze("x", Kind::Number, Summary::Numbers(summary))
    }

    fn verdict(reference: &Reference, values: impl Iterator<Item = f64>) -> FeatureDrift {
        let options = Options::default();
        let mut current = Current::new(reference, options.binning, 100_000);
        values.for_each(|x| current.number(x));
        let mut drift = compare(reference, &current, &options);
        judge(&mut [&mut drift], &options);
        drift
    }

    #[test]
    fn the_same_is_no_drift_and_a_shift_is() {
        let reference = number_reference(noise(5_000, 0));
        let same = verdict(&reference, noise(2_000, 3));
        assert_eq!((same.drifted, same.severity, same.reason.as_str()), (Some(false), Severity::None, ""));
        let moved = verdict(&reference, noise(2_000, 3).map(|x| x + 0.3));
        assert_eq!(moved.severity, Severity::Alert);
        assert!(moved.reason.contains("PSI") && moved.mean_shift_sigma.unwrap() > 0.9, "{}", moved.reason);
        assert!((moved.outside_range.unwrap() - 0.3).abs() < 0.03);
    }

    #[test]
    fn one_outlier_hides_a_shift_from_cells_of_one_width_only() {
        let reference = number_reference(noise(5_000, 1).chain([1e4]));
        let psi = |binning| {
            let options = Options { binning, ..Options::default() };
            let mut current = Current::new(&reference, binning, 100_000);
            noise(5_000, 0).for_each(|x| current.number(x + 0.15));
            compare(&reference, &current, &options).psi.unwrap()
        };
        let (deciles, equal_width) = (psi(Binning::Deciles), psi(Binning::EqualWidth));
        assert!(deciles > 0.25 && equal_width < 0.01, "{deciles} {equal_width}");
    }

    #[test]
    fn missing_values_are_a_change_of_their_own() {
        let reference = number_reference(noise(2_000, 0));
        let holes =
            verdict(&reference, noise(1_000, 1).enumerate().map(|(i, x)| if i % 10 == 0 { f64::NAN } else { x }));
        assert_eq!(holes.drifted, Some(true));
        assert!(holes.reason.contains("0.0 % to 10.0 %"), "{}", holes.reason);
        let empty = verdict(&reference, std::iter::repeat_n(f64::NAN, 100));
        assert_eq!((empty.severity, empty.ks), (Severity::Alert, None));
    }

    #[test]
    fn too_little_is_no_ground_for_a_verdict() {
        let reference = number_reference(noise(2_000, 0));
        let one = verdict(&reference, std::iter::once(0.5));
        assert_eq!((one.drifted, one.severity), (None, Severity::Unknown));
        assert_eq!(one.reason, "1 row in the current: at least 5 are needed");
        let none = number_reference(std::iter::repeat_n(f64::NAN, 50));
        let both = verdict(&none, std::iter::repeat_n(f64::NAN, 50));
        assert_eq!((both.drifted, both.reason.as_str()), (Some(false), "empty on both sides"));
    }

    #[test]
    fn the_largest_doubles_and_infinities_do_no_harm() {
        let reference = number_reference(noise(100, 0).map(|x| if x < 0.5 { 1.7e308 } else { -1.7e308 }));
        let drift = verdict(&reference, noise(100, 2).map(|x| if x < 0.1 { f64::INFINITY } else { 1e308 }));
        assert!(drift.psi.unwrap().is_finite() && drift.drifted == Some(true));
        assert_eq!(drift.wasserstein_sigma, None);
        assert!(drift.reason.contains("infinite"), "{}", drift.reason);
        let json = serde_json::to_value(&drift).unwrap();
        assert!(json["wasserstein_sigma"].is_null() && json["ks"]["d"].is_number());
    }

    #[test]
    fn categories_that_shift_and_identifiers_that_do_not_count() {
        let options = Options::default();
        let column = |share: u32, n: u32| (0..n).map(move |i| if i * 37 % 100 < share { "a" } else { "b" });
        let reference = |values: &mut dyn Iterator<Item = String>| {
            let mut c = Categories::default();
            values.for_each(|v| c.add(&v));
            Reference::freeze("c", Kind::Text, Summary::Categories(c))
        };
        let told = |reference: &Reference, values: &mut dyn Iterator<Item = String>| {
            let mut current = Current::new(reference, options.binning, 10);
            values.for_each(|v| current.category(&v));
            let mut drift = compare(reference, &current, &options);
            judge(&mut [&mut drift], &options);
            drift
        };
        let ab = reference(&mut column(50, 1_000).map(str::to_owned));
        assert_eq!(told(&ab, &mut column(52, 1_000).map(str::to_owned)).drifted, Some(false));
        let shifted = told(&ab, &mut column(80, 1_000).map(str::to_owned));
        assert_eq!(shifted.severity, Severity::Alert);
        assert!(shifted.chi2.unwrap().p < 1e-20 && shifted.ks.is_none());
        let new = told(&ab, &mut column(50, 1_000).map(|v| if v == "a" { "z".into() } else { v.to_owned() }));
        assert_eq!((new.new_categories, new.drifted), (Some((1, 0.5)), Some(true)));
        let ids = reference(&mut (0..500).map(|i| format!("id-{i}")));
        let drift = told(&ids, &mut (500..900).map(|i| format!("id-{i}")));
        assert_eq!(drift.drifted, Some(false));
        assert!(drift.reason.contains("identifier"));
    }

    #[test]
    fn many_features_need_more_each() {
        let options = Options::default();
        let reference = number_reference(noise(400, 0));
        let mut drifts: Vec<FeatureDrift> = (0..50)
            .map(|k| {
                let mut current = Current::new(&reference, options.binning, 1_000);
                noise(300, k).for_each(|x| current.number(x));
                compare(&reference, &current, &options)
            })
            .collect();
        let p: Vec<f64> = drifts.iter().filter_map(FeatureDrift::p).collect();
        judge(&mut drifts.iter_mut().collect::<Vec<_>>(), &options);
        assert!(drifts.iter().zip(p).all(|(d, p)| d.p_adjusted.unwrap() >= p));
    }

    #[test]
    fn numbers_in_words() {
        assert_eq!(
            [0.0, 0.1234567, 12.3456, 1234.567, 3e-9, 0.00123].map(short).join(" "),
            "0.0000 0.1235 12.35 1235 3.0e-9 0.0012"
        );
    }
}
