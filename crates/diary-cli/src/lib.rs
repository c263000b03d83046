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
use crate::cli::usage::Stop;
use crate::cmd::talk::Place;
use crate::cmd::{pipe, talk as terminal};
use crate::config::Config;
use crate::error::unreachable_sentence;
use crate::render::Printer;
use crate::term::editor::Drafts;
use crate::term::output::{Output, say};
use crate::term::signals::Signals;
use crate::term::{editor, input};

/// Runs the program with the process's arguments, environment, input and output.
pub fn main() -> ExitCode {
    let args = match Args::read() {
        Ok(args) => args,
        Err(Stop::Help(help)) => {
            // If it cannot be printed, nobody is there to be told.
            let _ = help.print();
            return ExitCode::from(error::exit::DONE);
        }
        Err(Stop::Wrong(why)) => {
            say(format_args!("{why}"));
            return ExitCode::from(error::exit::USAGE);
        }
    };
    // What is written bears the time, and so do the names of what is kept.
    if Timestamp::try_from(SystemTime::now()).is_err() {
        say(format_args!("this computer's clock is past the year 9999; set it first"));
        return ExitCode::from(error::exit::USAGE);
    }
    let config = Config::read(args.server(), &args.settings);
    let copes = args.command.as_ref().is_some_and(cli::Command::copes_without_file);
    if let Some(why) = config.wrong.as_ref().filter(|_| !copes) {
        say(format_args!("{why}"));
        return ExitCode::from(error::exit::USAGE);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(format_args!("the system gives no way to wait for sockets: {error}"));
            return ExitCode::from(error::exit::UNREACHABLE);
        }
    };
    let code = runtime.block_on(async {
        match args.command.clone() {
            Some(command) => cmd::run(command, &config).await,
            None => converse(&args, &config).await,
        }
    });
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    ExitCode::from(code)
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
    // Before a line editor is started, which restores what it found.
    let signals = Signals::at_a_terminal();
    let drafts = Drafts::new(config.state.as_deref(), &config.server, config.author.as_ref());
    let editor =
        io::stdout().is_terminal().then(|| editor::start(config.state.as_deref(), drafts.clone(), true));
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
