//! A table against a reference: what drifted, and by how much.

use std::path::Path;

use rayon::prelude::*;
use serde_json::{Map, Value, json};
use stats::{
    compare::{FeatureDrift, Options, Severity, compare, judge},
    profile::{Histogram, Reference},
};

use crate::{
    collect::{Choices, Compared, CurrentTable, Profile, TogetherDrift},
    table::{self, Format, TableError},
};

/// One feature's part of a report.
pub struct Feature {
    /// Its name.
    pub name: String,
    /// All that is known.
    pub drift: FeatureDrift,
    /// Of numbers: the histograms of reference and current data over the same cells.
    pub histograms: Option<(Histogram, Histogram)>,
}

/// What is said in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing drifted.
    NoDrift,
    /// Something did.
    Drift,
    /// Nothing was seen to drift, and not everything could be judged.
    CannotTell,
}

impl Verdict {
    /// 0, 1 or 2.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::NoDrift => 0,
            Self::Drift => 1,
            Self::CannotTell => 2,
        }
    }

    /// For machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoDrift => "no_drift",
            Self::Drift => "drift",
            Self::CannotTell => "cannot_tell",
        }
    }
}

/// Everything about two tables.
pub struct Report {
    /// Name of the reference's file.
    pub reference: String,
    /// Name of the compared file.
    pub current: String,
    /// Rows of the reference.
    pub reference_rows: u64,
    /// Rows compared with it.
    pub current_rows: u64,
    /// How it was compared.
    pub options: Options,
    /// Feature by feature, in the reference's order.
    pub features: Vec<Feature>,
    /// Columns that only the compared file has.
    pub new_columns: Vec<String>,
    /// The columns of numbers together; none where there are too few, or too many.
    pub together: Option<TogetherDrift>,
    /// What else is to be said of both, a sentence each.
    pub remarks: Vec<String>,
    /// From where on something counts, in words.
    pub rule: String,
}

impl Report {
    /// Compares a table with a reference.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn of(
        profile: &Profile,
        reference: &Path,
        current: &Path,
        format: &Format,
        choices: &Choices,
        options: Options,
    ) -> Result<Self, TableError> {
        let together = profile.together.as_ref();
        let mut table = CurrentTable::new(&profile.columns, together, options.binning, choices.clone());
        let current_rows = table::read(current, format, &mut table)?.div_ceil(choices.thin.max(1));
        let Compared { columns, new: new_columns, together } = table.finish();
        let file = current.display().to_string();
        let mut features: Vec<Feature> = profile.columns.iter().map(|r| missing_column(r, &file)).collect();
        let compared = columns.into_par_iter().map(|column| {
            let reference = &profile.columns[column.reference];
            let drift = match column.faults {
                Some((count, place, reason)) => {
                    let words = format!("{file}: column {:?}, {place}: {reason} ({count} such cells)", reference.name);
                    FeatureDrift::verdict(reference.kind, Severity::Unknown, words)
                }
                None => compare(reference, &column.current, &options),
            };
            let histograms = reference.histogram(options.binning).cloned().zip(column.current.histogram);
            (column.reference, drift, histograms)
        });
        for (reference, drift, histograms) in compared.collect::<Vec<_>>() {
            features[reference].drift = drift;
            features[reference].histograms = histograms;
        }
        judge(&mut features.iter_mut().map(|f| &mut f.drift).collect::<Vec<_>>(), &options);
        Ok(Self {
            reference: reference.display().to_string(),
            current: current.display().to_string(),
            reference_rows: profile.rows,
            current_rows,
            options,
            features,
            new_columns,
            together,
            remarks: Vec::new(),
            rule: format!(
                "PSI counts from the larger of 0.1 and what chance stays below with probability {}; p-values are \
                 adjusted for the number of features (Benjamini-Hochberg) and count below {} where the effect is 0.1 \
                 or more.",
                options.confidence, options.alpha
            ),
        })
    }

    /// What is said in the end.
    pub fn verdict(&self) -> Verdict {
        if self.features.iter().any(|f| f.drift.drifted == Some(true)) || self.together.is_some_and(|t| t.drifted) {
            Verdict::Drift
        } else if self.features.iter().any(|f| f.drift.drifted.is_none()) {
            Verdict::CannotTell
        } else {
            Verdict::NoDrift
        }
    }

    /// Features that drifted, and those that could be judged.
    pub fn counts(&self) -> (usize, usize) {
        let judged = self.features.iter().filter_map(|f| f.drift.drifted);
        judged.fold((0, 0), |(drifted, all), d| (drifted + usize::from(d), all + 1))
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let mut features = Map::new();
        for feature in &self.features {
            features.insert(feature.name.clone(), json!(feature.drift));
        }
        let (drifted, judged) = self.counts();
        json!({
            "verdict": self.verdict().as_str(),
            "drifted_share": (judged > 0).then(|| drifted as f64 / judged as f64),
            "drifted": drifted,
            "judged": judged,
            "rows": {"reference": self.reference_rows, "current": self.current_rows},
            "files": {"reference": self.reference, "current": self.current},
            "binning": self.options.binning,
            "confidence": self.options.confidence,
            "alpha": self.options.alpha,
            "new_columns": self.new_columns,
            "together": self.together,
            "features": features,
        })
    }
}

fn missing_column(reference: &Reference, file: &str) -> Feature {
    let words = format!("{file} has no column {:?}", reference.name);
    Feature {
        name: reference.name.clone(),
        drift: FeatureDrift::verdict(reference.kind, Severity::Alert, words),
        histograms: None,
    }
}
