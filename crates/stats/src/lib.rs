//! Drift statistics, free of I/O and of clocks.
//!
//! - A reference is summarised once and frozen ([`profile`]): moments, histograms over its own
//!   [`cells`], and its order statistics, exact while they fit and [`sketch`]ed beyond. Summaries of
//!   partitions merge.
//! - What comes later is [`compare`]d with it: PSI and Jensen-Shannon ([`distance`]),
//!   Kolmogorov-Smirnov and Wasserstein-1 ([`ordered`], [`kolmogorov`]), [`chi2`] for categories, mean
//!   shift ([`moments`]), what is missing or out of range; [`pca`] looks at columns together, [`residual`] at
//!   what a column does that the others do not explain.
//! - Verdicts over many features are adjusted ([`fdr`]), over time asked to stay
//!   ([`persistence`]), and on autocorrelated rows calibrated on the reference ([`calibrate`]).
//! - Streams are watched by [`adwin`], [`kswin`] and [`page_hinkley`].
//! - [`cbpe`] estimates accuracy before the truth is known, on [`isotonic`] calibration.
//!
//! Each module names its source. `docs/drift.md` says what was measured.

pub mod adwin;
pub mod calibrate;
pub mod cbpe;
pub mod cells;
pub mod chi2;
pub mod comoments;
pub mod compare;
pub mod distance;
mod exact;
pub mod fdr;
pub mod isotonic;
pub mod kolmogorov;
pub mod kswin;
pub mod moments;
pub mod ordered;
pub mod page_hinkley;
pub mod pca;
pub mod persistence;
pub mod profile;
mod python_random;
pub mod residual;
pub mod sketch;
pub mod special;
