//! A tamper-evident log of energy and emissions.
//!
//! [`canonical`] and [`entry`] are what a leaf says, [`merkle`], [`tile`], [`note`] and
//! [`checkpoint`] the formats (RFC 6962/9162, C2SP tlog-tiles, signed notes) that other
//! people's tools read too. [`log`] writes, [`verify`] checks, [`proof`] proves, each of them
//! needing nothing but a directory and a key. [`history`] is the one place that knows which
//! entry may follow which; writer and verifier share it. [`serve`] and [`witness`] are the
//! two processes, [`cli`] the command.

pub mod batch;
pub mod canonical;
pub mod carbon;
pub mod checkpoint;
pub mod cli;
pub mod dir;
pub mod disk;
pub mod entry;
pub mod export;
pub mod history;
pub mod ingest;
pub mod log;
pub mod merkle;
pub mod note;
pub mod proof;
pub mod report;
pub mod scan;
pub mod serve;
#[doc(hidden)]
pub mod testing;
pub mod tile;
pub mod verify;
pub mod witness;
