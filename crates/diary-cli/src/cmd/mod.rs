//! The commands, one module each.

mod add;
mod deliver;
mod doctor;
mod edit;
mod export;
mod follow;
mod import;
mod login;
mod outbox;
mod page;
mod patience;
mod pipe;
mod read;
mod reading;
mod shell;
mod stats;
mod talk;

use std::io::{self, IsTerminal};

use diary_client::Which;
use tokio::signal::unix::SignalKind;

use crate::cli::Command;
use crate::config::Config;
use crate::error::CliError;
use crate::query::select::Plan;
use crate::render::Format;

use crate::term::input;
use crate::term::output::Output;
use crate::term::signals::Signals;
use crate::term::ui::Ui;
use deliver::tell_waiting;
pub(crate) use login::token_in;

/// Runs a command.
///
/// # Errors
/// The command could not do everything.
pub(crate) async fn run(command: Command, config: &Config) -> Result<(), CliError> {
    if csv_safe_without_csv(&command, config) {
        return Err(CliError::Usage("--csv-safe needs --format csv".to_owned()));
    }
    match command {
        Command::Login(login) => login::run(login, config).await,
        Command::Logout { address } => login::forget(address, config),
        Command::Doctor => doctor::run(config).await,
        Command::Completions { shell } => shell::completions(shell),
        Command::Man => shell::man(),
        Command::Export(export) => export::run(export, config).await,
        Command::Log { number: Some(seq), thread, select, show } => {
            let how = match (thread, select.history) {
                (true, _) => read::One::Thread,
                (_, true) => read::One::Versions,
                _ => read::One::Alone,
            };
            read::one(seq, how, &show, config).await
        }
        Command::Log { select, show, .. } => read::log(|today| select.plan(today), &show, config).await,
        Command::Search { text, mut select, show } => {
            select.select.conditions.contains.insert(0, text.join(" "));
            read::log(|today| select.plan(today), &show, config).await
        }
        Command::OnThisDay { date, conditions, show } => {
            let date = date.map(|words| words.join(" "));
            let plan = |today| Plan::each_year(&conditions, date.as_deref(), today);
            read::log(plan, &show, config).await
        }
        Command::Follow { select, show, cursor } => follow::run(select, &show, cursor, config).await,
        Command::Tags { select, json } => stats::tags(select, json, config).await,
        Command::Stats { select, options } => stats::stats(select, options, config).await,
        Command::Add { text, at, re } => add::run(&text, at.as_deref(), re, config).await,
        Command::Edit { number, text } => edit::run(number, &text, config).await,
        Command::Outbox { json, action } => outbox::run(action, json, config).await,
        Command::Import(import) => import::run(import, config).await,
    }
}

/// Runs a conversation, or writes lines from a pipe.
///
/// # Errors
/// Not everything that was written is in the diary, or the past could not be read.
pub(crate) async fn without_command(past: Which, config: &Config) -> Result<(), CliError> {
    if io::stdin().is_terminal() {
        return talk::at_terminal(past, config).await;
    }
    if past == Which::Last(0) {
        tell_waiting(config, &[], true, &Ui::default());
    }
    let (input, output) = (input::read(io::stdin()), Output::new(io::stdout()));
    let mut signals = Signals::of(&[SignalKind::interrupt(), SignalKind::terminate()]);
    pipe::run(past, config, input, output, signals.any()).await
}

fn csv_safe_without_csv(command: &Command, config: &Config) -> bool {
    match command {
        Command::Log { show, .. }
        | Command::Search { show, .. }
        | Command::OnThisDay { show, .. }
        | Command::Follow { show, .. } => {
            show.csv_safe && show.format().or(config.format) != Some(Format::Csv)
        }
        Command::Export(export) => export.csv_safe && export.format != Format::Csv,
        _ => false,
    }
}
