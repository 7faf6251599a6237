//! Tests of the guard: its decisions over every endpoint and over random
//! requests, and the whole of it in front of the real Docker daemon.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod attacks;
mod cli;
mod daemon;
mod endpoints;
mod healing;
mod observing;
mod operating;
mod properties;
mod reading;
mod stage;
