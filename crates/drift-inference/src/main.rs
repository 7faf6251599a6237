//! The drift-inference process and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|a| drift_inference::cli::is_command(&a)) {
        return drift_inference::cli::main();
    }
    if std::env::args().nth(1).is_some_and(|a| a == drift_inference::cli::CHECK_CONFIG) {
        return drift_inference::cli::check_config();
    }
    telemetry::run("drift-inference", env!("CARGO_PKG_VERSION"), drift_inference::run)
}
