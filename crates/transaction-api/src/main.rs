//! transaction-api
fn main() {}
