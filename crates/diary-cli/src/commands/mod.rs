//! What a command line asks for, one module a command.

mod add;
mod by_time;
mod doctor;
mod export;
mod import;
mod on_this_day;
mod outbox;
mod pour;
mod read;
mod shell;
mod stats;

use crate::args::Command;
use crate::config::Config;
use crate::export::Target;
use crate::show::Format;

pub(crate) use crate::output::count;
pub(crate) use outbox::tell_refused;
pub(crate) use pour::Paper;

/// Does it, and gives the exit code.
pub(crate) async fn run(command: Command, config: &Config) -> u8 {
    if csv_safe_without_csv(&command, config) {
        return read::usage("--csv-safe is for csv alone: --format csv --csv-safe");
    }
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
        Command::Tags { select, json } => stats::tags(select, json, config).await,
        Command::Stats { select, options } => stats::stats(select, options, config).await,
        Command::OnThisDay { date, conditions, show } => {
            let date = date.map(|words| words.join(" "));
            on_this_day::run(date.as_deref(), conditions, &show, config).await
        }
        Command::Follow { select, show, cursor } => read::follow(select, &show, cursor, config).await,
    }
}

fn csv_safe_without_csv(command: &Command, config: &Config) -> bool {
    match command {
        Command::Log { show, .. }
        | Command::Search { show, .. }
        | Command::OnThisDay { show, .. }
        | Command::Follow { show, .. } => show.csv_safe && show.format_said(config) != Some(Format::Csv),
        Command::Export(export) => export.csv_safe && export.format != Target::Csv,
        _ => false,
    }
}
