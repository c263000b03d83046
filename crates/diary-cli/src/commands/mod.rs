//! What a command line asks for, one module a command.

mod read;

use crate::args::Command;
use crate::config::Config;

/// Does it, and gives the exit code.
pub(crate) async fn run(command: Command, config: &Config) -> u8 {
    match command {
        Command::Log { select, show } => read::log(select, &show, config).await,
        Command::Search { text, select, show } => read::search(text, select, &show, config).await,
        Command::Follow { select, show, cursor } => read::follow(select, &show, cursor, config).await,
        _ => crate::exit::USAGE,
    }
}
