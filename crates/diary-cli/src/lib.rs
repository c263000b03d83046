//! The client of the diary as a program.
//!
//! `args` and `config` are what it is told. Without a command, `pipe` sends every line of a file or another
//! program, and `terminal` talks with a person; `input` cuts what they read into lines, and `patience` decides
//! when a server that is away has been waited for long enough. With a command, `commands` does it: it reads
//! what `select` (and its `dates`) says, prints it as `show` says, and keeps in the `outbox` what is not acked,
//! from where `deliver` sends it.

mod args;
mod commands;
mod config;
mod deliver;
mod exit;
#[cfg(test)]
mod fake;
mod input;
mod outbox;
mod output;
mod patience;
mod pipe;
mod render;
mod select;
mod show;
mod terminal;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use diary_client::{Client, Error, Options};

use crate::args::Args;
use crate::config::Config;
use crate::output::{Output, say};
use crate::render::View;

/// Runs the program with the process's arguments, environment, input and output.
pub fn main() -> ExitCode {
    let args = match Args::read() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are no errors; if they cannot be printed, nobody is there to be told.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::DONE });
        }
    };
    let config = match Config::read(args.server(), &args.settings) {
        Ok(config) => config,
        Err(why) => {
            say(format_args!("{why}"));
            return ExitCode::from(exit::USAGE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(format_args!("the system gives no way to wait for sockets: {error}"));
            return ExitCode::from(exit::UNREACHABLE);
        }
    };
    let code = runtime.block_on(async {
        match args.command.clone() {
            Some(command) => commands::run(command, &config).await,
            None => converse(&args, &config).await,
        }
    });
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// Without a command: a conversation, or lines from a pipe.
async fn converse(args: &Args, config: &Config) -> u8 {
    let options = Options { author: config.author.clone(), ..Options::default() };
    let client = match Client::connect(config.server.clone(), options).await {
        Ok(client) => client,
        Err(error) => {
            say(format_args!("{}", unreachable_sentence(&error)));
            return exit::UNREACHABLE;
        }
    };
    let output = Output::new(io::stdout());
    let input = input::read(io::stdin());
    if io::stdin().is_terminal() {
        let view = if io::stdout().is_terminal() { View::terminal() } else { View::Plain };
        terminal::run(client, config, args.past(), input, output, view).await
    } else {
        pipe::run(client, args.past(), input, output).await
    }
}

/// Why no first connection could be made, and what to do about it.
pub(crate) fn unreachable_sentence(error: &Error) -> String {
    match error {
        Error::NothingListens(_) => format!("{error}; start one with diary-server"),
        _ => error.to_string(),
    }
}
