//! telemetry-generator
fn main() {}
