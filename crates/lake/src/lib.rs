//! Machine readings as partitioned Parquet on an S3 store.
//!
//! Layout of a lake:
//!
//! ```text
//! readings/date=2026-01-31/hour=13/<boot id>-<first seq>-<last seq>-<sha256, 16 digits>.parquet
//! manifest/<µs since 1970, 20 digits>-<boot id>.json
//! quarantine/<name of the manifest>.jsonl
//! models/<version>.json
//! model-log/<µs since 1970, 20 digits>-<action>.json
//! ```
//!
//! A data object is written first and its manifest second, and a reader only
//! opens what a manifest names, so an object that is still being written (or was
//! abandoned half-way) is never read. Object names follow from the readings
//! they hold: writing the same batch again replaces it by itself. Manifests sort
//! by the time they were written, so "what is new since" is one listing.
//!
//! Deciding ([`codec`], [`manifest`], [`cursor`], [`dedupe`]) is pure; [`Lake`]
//! does the talking.

pub mod codec;
pub mod config;
pub mod cursor;
pub mod dedupe;
mod documents;
mod error;
pub mod manifest;
mod reader;
pub mod reading;
pub mod store;
mod writer;

pub use cursor::Cursor;
pub use dedupe::SeenReadings;
pub use error::LakeError;
pub use manifest::Manifest;
pub use reader::{Fetched, Rejected};
pub use reading::Reading;
pub use store::{Lake, Observer, Operation, Outcome, Settings};
pub use writer::Batch;

/// Result of a lake operation.
pub type Result<T, E = LakeError> = std::result::Result<T, E>;
