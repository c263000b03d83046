//! The client of the diary as a program.
//!
//! `args` and `config` are what it is told, and `usage` says what is wrong with that. Without a command, `pipe` sends
//! every line of a file or another program, and `terminal` talks with a person; `input` cuts what they read into lines,
//! and `patience` decides when a server that is away has been waited for long enough. With a command, `commands` does it:
//! it reads what `select` (and its `dates`) says, prints it as `show` says, or counts it with `stats`, and keeps in the
//! `outbox` what is not acked, from where `deliver` sends it. The crate `diary-import` reads the files of others, and
//! `export` writes for them.

mod cli;
mod cmd;
mod config;
mod deliver;
mod error;
#[cfg(test)]
mod fake;
mod outbox;
mod patience;
mod query;
mod render;
mod term;
mod time;
mod unanswered;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::SystemTime;

use diary_client::{Author, Client, Options};
use diary_proto::escape::escape;
use jiff::Timestamp;

use crate::cli::Args;
use crate::cmd::talk::{Place, Signals};
use crate::cmd::{pipe, talk as terminal};
use crate::config::Config;
use crate::error::{CliError, unreachable_sentence};
use crate::render::{Printer, careful};
use crate::term::editor::Drafts;
use crate::term::output::{Output, say};
use crate::term::{editor, input};

/// Runs the program with the process's arguments, environment, input and output.
pub fn main() -> ExitCode {
    ExitCode::from(run().map_or_else(|error| report(&error), |()| error::exit::DONE))
}

fn run() -> Result<(), CliError> {
    let args = Args::read()?;
    // New entries bear the time, and so do the names of kept files.
    if Timestamp::try_from(SystemTime::now()).is_err() {
        return Err(CliError::Usage("the clock of this computer is past the year 9999".to_owned()));
    }
    let config = Config::read(args.server(), &args.settings);
    let copes = args.command.as_ref().is_some_and(cli::Command::copes_without_file);
    if let Some(why) = config.wrong.as_ref().filter(|_| !copes) {
        return Err(CliError::Usage(why.clone()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::Usage(format!("cannot start the runtime: {error}")))?;
    let ended = runtime.block_on(async {
        match args.command.clone() {
            Some(command) => cmd::run(command, &config).await,
            None => CliError::told(converse(&args, &config).await),
        }
    });
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    ended
}

/// Prints an error, or the help that was asked for, and returns the exit code.
fn report(error: &CliError) -> u8 {
    match error {
        CliError::Arguments(help) if !help.use_stderr() => {
            let Err(error) = help.print() else { return error::exit::DONE };
            say(format_args!("the output cannot be written: {error}"));
            return error::exit::USAGE;
        }
        // clap quotes arguments as they are.
        CliError::Arguments(error) => {
            error.to_string().lines().for_each(|line| say(format_args!("{}", careful(line))));
        }
        CliError::Told(_) => {}
        error => say(format_args!("{error}")),
    }
    error.code()
}

/// Without a command: a conversation, or lines from a pipe.
async fn converse(args: &Args, config: &Config) -> u8 {
    if io::stdin().is_terminal() {
        return talk(args, config).await;
    }
    let options = Options { author: config.author.clone(), ..Options::default() };
    let client = match Client::connect(config.server.clone(), options).await {
        Ok(client) => client,
        Err(error) => {
            say(format_args!("{}", unreachable_sentence(&error)));
            return error::exit::UNREACHABLE;
        }
    };
    let (input, output) = (input::read(io::stdin()), Output::new(io::stdout()));
    pipe::run(client, args.past(), input, output, pipe::interrupted()).await
}

/// With a line editor, where the output is a terminal too.
async fn talk(args: &Args, config: &Config) -> u8 {
    let (past, view) = (args.past(), Printer::conversation(config));
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            say(format_args!("the system gives no way to listen for signals: {error}"));
            return error::exit::UNREACHABLE;
        }
    };
    let drafts = Drafts::new(config.state.as_deref(), &config.server, config.author.as_ref());
    let remembered = config.state.as_deref().filter(|_| config.history);
    let editor = io::stdout().is_terminal().then(|| editor::start(remembered, drafts.clone()));
    let ended = match editor {
        Some(Ok((typed, prompt, screen))) => {
            let output = Output::new(prompt.above().clone());
            let place = Place { config, past, view, output, prompt: Some(prompt), bare: false };
            let mut ended = terminal::run(place, typed, signals).await;
            if let Some(line) = screen.close().await {
                let kept = drafts.keep(ended.author.as_ref(), &line);
                ended.last_words.push(unsent_sentence(&line, kept, ended.author.as_ref(), config));
            }
            ended
        }
        editor => {
            if let Some(Err(_)) = editor {
                let kind = std::env::var("TERM").unwrap_or_default();
                say(format_args!(
                    "this terminal (TERM={kind}) takes no line editor; going on without one, and what others write \
                     comes only after /follow, since it would break up what you type"
                ));
            }
            let (output, bare) = (Output::new(io::stdout()), io::stdout().is_terminal());
            let place = Place { config, past, view, output, prompt: None, bare };
            terminal::run(place, input::typed(input::read(io::stdin())), signals).await
        }
    };
    ended.last_words.iter().for_each(|words| say(format_args!("{words}")));
    ended.code
}

/// What becomes of a line that nobody sent.
fn unsent_sentence(line: &str, kept: io::Result<()>, author: Option<&Author>, config: &Config) -> String {
    let renamed = author.filter(|_| author != config.author.as_ref());
    match (kept, renamed) {
        (Ok(()), None) => {
            "what stood on the line was not sent; the next conversation begins with it".to_owned()
        }
        (Ok(()), Some(name)) => {
            format!("what stood on the line was not sent; the next conversation as {name} begins with it")
        }
        (Err(error), _) => format!("not sent, and not kept ({error}): {}", escape(line)),
    }
}

#[cfg(test)]
mod tests;
