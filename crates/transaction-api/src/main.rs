//! The transaction-api process.

use std::process::ExitCode;

fn main() -> ExitCode {
    telemetry::run("transaction-api", env!("CARGO_PKG_VERSION"), transaction_api::run)
}
