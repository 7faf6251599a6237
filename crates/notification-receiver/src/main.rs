//! notification-receiver
fn main() {}
