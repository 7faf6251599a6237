//! `./stack`: see [`stackctl`].

use std::process::ExitCode;

fn main() -> ExitCode {
    stackctl::main()
}
