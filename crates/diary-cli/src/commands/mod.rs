//! What a command line asks for, one module a command.

mod doctor;
mod shell;

use crate::args::Command;
use crate::config::Config;

pub(crate) use doctor::without_configuration;

/// Does it, and gives the exit code.
pub(crate) async fn run(command: Command, config: &Config) -> u8 {
    match command {
        Command::Doctor => doctor::run(config).await,
        Command::Completions { shell } => shell::completions(shell),
        Command::Man => shell::man(),
        _ => crate::exit::USAGE,
    }
}
