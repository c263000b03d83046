//! What a command line asks for, one module a command.

mod add;
mod outbox;

use crate::args::Command;
use crate::config::Config;

/// Does it, and gives the exit code.
pub(crate) async fn run(command: Command, config: &Config) -> u8 {
    match command {
        Command::Add { text } => add::run(&text, config).await,
        Command::Outbox { action } => outbox::run(action, config).await,
        _ => crate::exit::USAGE,
    }
}
