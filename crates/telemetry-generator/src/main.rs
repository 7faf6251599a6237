//! The telemetry-generator process and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("simulate") {
        return telemetry_generator::simulate::main();
    }
    telemetry::run("telemetry-generator", env!("CARGO_PKG_VERSION"), telemetry_generator::run)
}
