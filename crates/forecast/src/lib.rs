//! Will this machine overheat, when, and how sure is that?
//!
//! One [`Forecaster`] a machine takes its readings in order and says after each what it
//! expects; [`anomaly::Monitor`] judges the other sensors. Both are plain values: no clock,
//! no I/O, no allocation, so that a service can hold a hundred thousand of them and a
//! command can replay a file through the same code.
//!
//! The way of a reading: median of three ([`median`]) → mean of ten seconds → what the load
//! explains ([`lagged`]) and what it does not (level and slope) are estimated together by an
//! outlier-gated Kalman filter ([`filter`]) → [`Forecaster`] looks twenty minutes ahead.

pub mod anomaly;
pub mod baseline;
pub mod filter;
mod forecaster;
pub mod lagged;
pub mod median;
pub mod normal;
mod settings;

pub use forecaster::{Alarm, Cause, Forecaster, Outlook, Sample};
pub use settings::Settings;
