//! What a command line asks for, one module a command.

use crate::args::Command;
use crate::config::Config;

/// Does it, and gives the exit code.
pub(crate) async fn run(command: Command, config: &Config) -> u8 {
    let _ = (command, config);
    crate::exit::USAGE
}
