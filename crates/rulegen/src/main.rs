//! rulegen
fn main() {}
