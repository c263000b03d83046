//! What a command line asks for, one module a command.

mod add;
mod doctor;
mod export;
mod import;
mod outbox;
mod read;
mod shell;

use crate::args::Command;
use crate::config::Config;

pub(crate) use outbox::{count, tell_refused};
pub(crate) use read::Paper;

/// Does it, and gives the exit code.
pub(crate) async fn run(command: Command, config: &Config) -> u8 {
    match command {
        Command::Add { text, at } => add::run(&text, at.as_deref(), config).await,
        Command::Outbox { json, action } => outbox::run(action, json, config).await,
        Command::Export(export) => export::run(export, config).await,
        Command::Import(import) => import::run(import, config).await,
        Command::Doctor => doctor::run(config).await,
        Command::Completions { shell } => shell::completions(shell),
        Command::Man => shell::man(),
        Command::Log { select, show } => read::log(select, &show, config).await,
        Command::Search { text, select, show } => read::search(text.join(" "), select, &show, config).await,
        Command::Follow { select, show, cursor } => read::follow(select, &show, cursor, config).await,
    }
}
