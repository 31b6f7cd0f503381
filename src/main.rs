//! The `srlora` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    srlora::cli::main()
}
