//! The client of the diary as a program.
//!
//! `args` is what it is told, `input` cuts what it reads into lines. `pipe` sends every line of a file or
//! another program; `terminal` talks with a person. Both print through `render` and `output`, and
//! `patience` decides when a server that is away has been waited for long enough.

mod args;
mod exit;
#[cfg(test)]
mod fake;
mod input;
mod output;
mod patience;
mod pipe;
mod render;
mod terminal;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;
use diary_client::{Client, Error, Options};

use crate::args::Args;
use crate::output::{Output, say};
use crate::render::View;

/// Runs the program with the process's arguments, environment, input and output.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are no errors; if they cannot be printed, nobody is there to be told.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::DONE });
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(format_args!("the system gives no way to wait for sockets: {error}"));
            return ExitCode::from(exit::UNREACHABLE);
        }
    };
    let code = runtime.block_on(run(args));
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run(args: Args) -> u8 {
    let options = Options { author: args.author(), ..Options::default() };
    let client = match Client::connect(args.address.clone(), options).await {
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
        terminal::run(client, &args, input, output, view).await
    } else {
        pipe::run(client, args.past, input, output).await
    }
}

/// Why no first connection could be made, and what to do about it.
fn unreachable_sentence(error: &Error) -> String {
    match error {
        Error::NothingListens(_) => format!("{error}; start one with diary-server"),
        _ => error.to_string(),
    }
}
