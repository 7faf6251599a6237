//! Tests of the guard: its decisions over every endpoint and over random
//! requests, and the whole of it in front of the real Docker daemon.

mod endpoints;
mod properties;
