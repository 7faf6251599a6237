//! The service in this process, on a folder and on a real S3 endpoint.
#![allow(clippy::unwrap_used, missing_docs)]

mod api;
mod lake_faults;
mod lake_reading;
mod models;
mod offline;
mod offline_bad_input;
mod retraining;
mod support;
mod unexplained;
