//! alert-bot
fn main() {}
