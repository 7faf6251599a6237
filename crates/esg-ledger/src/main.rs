//! The `esg-ledger` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    esg_ledger::cli::main()
}
