//! `diary`; see this crate's library.

use std::process::ExitCode;

fn main() -> ExitCode {
    diary_cli::main()
}
