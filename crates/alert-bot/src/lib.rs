//! The alert-bot: alerts in, repairs out, each with its proof and its record.
//!
//! - [`intake`] reads what is posted.
//! - [`engine`] decides, purely.
//! - [`policy`] says what may be done.
//! - [`journal`] remembers, durably, before anything follows.
//! - [`lease`] says which of several bots acts.
//! - [`driver`] carries out what the engine wants, through a [`backend`], and
//!   looks at the world through [`observe`].
//! - [`http`] shows it all.

pub mod annotate;
mod app;
pub mod backend;
pub mod cli;
pub mod config;
pub mod diagnose;
pub mod driver;
pub mod engine;
pub mod http;
pub mod intake;
pub mod journal;
pub mod lease;
pub mod metrics;
pub mod notify;
pub mod observe;
pub mod policy;
pub mod timestamp;

pub use app::{run, run_on};
