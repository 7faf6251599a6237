//! docker-guard
fn main() {}
