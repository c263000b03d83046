//! The `diary` program, a client of the diary.
//!
//! `cli` has the arguments, `config` the settings and `credentials` what `login` keeps. `cmd` has a module per command, plus the conversation and
//! lines from a pipe. Below it are `query` (which entries), `render` (how they look) and `term` (the terminal or
//! its substitute). Writing goes through the crate `diary-outbox`. `diary-import` parses files of other programs,
//! `diary-calendar` parses days and times as people write them, and `diary-stats` counts.

mod cli;
mod cmd;
mod config;
mod credentials;
mod error;
mod query;
mod render;
mod term;

use std::io;
use std::process::ExitCode;
use std::time::SystemTime;

use diary_proto::command::is_login;
use jiff::Timestamp;

use crate::cli::Args;
use crate::config::Config;
use crate::error::CliError;
use crate::render::careful;
use crate::term::output::{Unwritable, say};

/// Runs the program with the arguments, environment, stdin and stdout of the process.
pub fn main() -> ExitCode {
    ExitCode::from(run().map_or_else(|error| report(&error), |()| error::exit::DONE))
}

fn run() -> Result<(), CliError> {
    if std::env::args_os().any(|word| word.to_str().is_some_and(is_login)) {
        let why =
            "a token is no argument, because others on this computer see those; diary login asks for it";
        return Err(CliError::Usage(why.to_owned()));
    }
    let args = Args::of(std::env::args_os())?;
    // New entries and the names of kept files carry the time.
    if Timestamp::try_from(SystemTime::now()).is_err() {
        return Err(CliError::Usage("the clock of this computer is past the year 9999".to_owned()));
    }
    let config = Config::read(args.server(), &args.settings);
    let copes = args.command.as_ref().is_some_and(cli::Command::copes_without_file);
    if let Some(why) = config.unusable().filter(|_| !copes) {
        return Err(CliError::Usage(why.clone()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::Usage(format!("cannot start the runtime: {error}")))?;
    let ended = runtime.block_on(async {
        match args.command.clone() {
            Some(command) => cmd::run(command, &config).await,
            None => cmd::without_command(args.past(), &config).await,
        }
    });
    // Do not wait for a DNS lookup that is still running.
    runtime.shutdown_background();
    ended
}

/// Prints an error or the requested help, and returns the exit code.
fn report(error: &CliError) -> u8 {
    match error {
        CliError::Arguments(help) if !help.use_stderr() => {
            let printed = match help.print() {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                printed => printed.map_err(Unwritable::from),
            };
            return printed.map_or_else(|error| report(&error.into()), |()| error::exit::DONE);
        }
        // clap quotes arguments unescaped.
        CliError::Arguments(error) => {
            error.to_string().lines().for_each(|line| say(format_args!("{}", careful(line))));
        }
        CliError::Told(_) => {}
        error => say(format_args!("{error}")),
    }
    error.code()
}

#[cfg(test)]
mod tests;
