//! The terminal of a conversation, with a line editor if possible, and the draft that is left at the end.

use std::io::{self, IsTerminal};

use diary_client::{Author, Which};
use diary_proto::escape::escape;

use super::{Place, run};
use crate::config::Config;
use crate::error::CliError;
use crate::render::Printer;
use crate::term::editor::{self, Drafts};
use crate::term::input::{self, is_login};
use crate::term::output::{Output, say};
use crate::term::signals::Signals;
use crate::term::width;

/// Talks at a terminal, with a line editor if the output is a terminal, too.
///
/// # Errors
/// Not everything is acked, or the server could not be reached.
pub(crate) async fn at_terminal(past: Which, config: &Config) -> Result<(), CliError> {
    let view = Printer::stdout(None, config.colour.is_on(), width());
    // Before the line editor starts, which restores what it found.
    let signals = Signals::at_a_terminal();
    let drafts = Drafts::new(config.state.as_deref(), &config.server, config.author());
    let start = || editor::start(config.state.as_deref(), drafts.clone(), config.history);
    let editor = io::stdout().is_terminal().then(start);
    let ended = match editor {
        Some(Ok((typed, prompt, screen))) => {
            let output = Output::new(prompt.above().clone());
            let place = Place { config, past, view, output, prompt: Some(prompt), bare: false };
            let ended = run(place, typed, signals).await;
            if let Some(line) = screen.close().await.filter(|line| !is_login(line)) {
                let kept = drafts.keep(ended.author.as_ref(), &line);
                say(format_args!("{}", unsent_sentence(&line, kept, ended.author.as_ref(), config)));
            }
            ended
        }
        editor => {
            if let Some(Err(_)) = editor {
                let kind = std::env::var("TERM").unwrap_or_default();
                say(format_args!(
                    "TERM={kind} does not support line editing; going on without it: entries of others are shown \
                     only after /follow"
                ));
            }
            let (output, bare) = (Output::new(io::stdout()), io::stdout().is_terminal());
            let place = Place { config, past, view, output, prompt: None, bare };
            run(place, input::typed(input::read(io::stdin())), signals).await
        }
    };
    ended.how
}

/// Returns what became of an unsent line.
fn unsent_sentence(line: &str, kept: io::Result<()>, author: Option<&Author>, config: &Config) -> String {
    let renamed = author.filter(|_| author != config.author());
    match (kept, renamed) {
        (Ok(()), None) => "draft saved".to_owned(),
        (Ok(()), Some(name)) => format!("draft saved for {name}"),
        (Err(error), _) => format!("not sent, and not kept ({error}): {}", escape(line)),
    }
}
