//! The service in this process, on a folder and on a real S3 endpoint.
#![allow(clippy::unwrap_used, missing_docs)]

mod api;
mod command;
mod delivery;
mod evidence;
mod plant;
mod sparkplug;
mod support;
