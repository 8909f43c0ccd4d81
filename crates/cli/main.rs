//! The `lifeboat` program: everything is in the library beside this file.

use std::process::ExitCode;

fn main() -> ExitCode {
    lifeboat_cli::main()
}
