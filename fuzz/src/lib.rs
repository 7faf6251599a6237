//! What is fuzzed, each as a function of bytes that panics when a property does not hold.
//!
//! `fuzz/run` has libFuzzer call them; `tests/corpus.rs` calls them with everything in `corpus` and
//! `artifacts`, so that what was found once is tried again with every `cargo test`.

mod guard_decide;
mod guard_http;
mod policy;
mod webhook;

pub use guard_decide::guard_decide;
pub use guard_http::{GuardHttp, guard_http};
pub use policy::policy;
pub use webhook::webhook;

/// The text at the beginning of bytes that a mutation may have cut anywhere.
fn text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}
