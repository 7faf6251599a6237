//! The lake on a local folder and on a real S3 endpoint.
#![allow(clippy::unwrap_used, missing_docs)]

mod folder;
mod outage;
mod s3;
mod support;
