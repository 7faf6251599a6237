//! drift-inference
fn main() {}
