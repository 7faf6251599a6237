//! The telemetry-generator process and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("simulate") => return telemetry_generator::simulate::main(),
        Some("edge") => return telemetry_generator::sparkplug::edge::main(),
        Some("forecast") => return telemetry_generator::forecast::main(),
        _ => {}
    }
    telemetry::run("telemetry-generator", env!("CARGO_PKG_VERSION"), telemetry_generator::run)
}
