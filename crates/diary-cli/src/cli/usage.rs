//! What is said of a command line that cannot be used: in one sentence what is wrong, and what would be right.

use std::borrow::Cow;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use diary_client::Address;
use diary_proto::escape::escape;

use crate::cli;

/// Characters of something that are shown in a sentence about it.
const SHOWN_MAX_CHARS: usize = 40;

/// What was said, as far as that helps to know it again.
pub(crate) fn shortened(said: &str) -> Cow<'_, str> {
    match said.char_indices().nth(SHOWN_MAX_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}…", &said[..end])),
        None => Cow::Borrowed(said),
    }
}

/// Why a command line is not done.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It asks for help or the version.
    Help(clap::Error),
    /// A sentence: it cannot be used.
    Wrong(String),
}

impl Stop {
    pub(crate) fn of(error: clap::Error, words: &[OsString]) -> Self {
        if !error.use_stderr() {
            return Self::Help(error);
        }
        Self::Wrong(Mistake { error, words }.sentence())
    }
}

struct Mistake<'a> {
    error: clap::Error,
    words: &'a [OsString],
}

impl Mistake<'_> {
    fn sentence(&self) -> String {
        let said = match self.error.kind() {
            ErrorKind::InvalidValue => self.value(),
            ErrorKind::ValueValidation => self.validation(),
            ErrorKind::UnknownArgument => self.unknown(),
            ErrorKind::InvalidSubcommand => self.no_such_command(),
            ErrorKind::MissingRequiredArgument => {
                let needs =
                    self.said(ContextKind::InvalidArg).replace(['<', '>', '.'], "").replace('|', " or ");
                let command = self.command();
                Some(format!("{command} needs {needs}; {command} --help tells more"))
            }
            ErrorKind::ArgumentConflict => self.conflict(),
            _ => None,
        };
        let said = said.unwrap_or_else(|| {
            let whole = self.error.to_string();
            let first = whole.lines().next().unwrap_or_default();
            let first = first.strip_prefix("error: ").unwrap_or(first);
            format!("{first}; {} --help tells more", self.command())
        });
        escape(&said).into_owned()
    }

    /// A value that is not one of those that there are, or none at all.
    fn value(&self) -> Option<String> {
        let (who, value) = (self.who(), self.value_said());
        let choices = match self.error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(choices)) if !choices.is_empty() => Some(one_of(choices)),
            _ => None,
        };
        Some(match (choices, value.as_str()) {
            (Some(choices), "") => format!("{who} needs a value: {choices}"),
            (None, "") => format!("{who} needs a value; {} --help says which", self.command()),
            (Some(choices), _) => format!("{who} takes {choices}, not {value}"),
            (None, _) => return None,
        })
    }

    /// A value that its own parser does not take. What stands alone has said all itself.
    fn validation(&self) -> Option<String> {
        let why = std::error::Error::source(&self.error)?;
        let is_flag = self.said(ContextKind::InvalidArg).starts_with('-');
        let before = || format!("{} {}: ", self.who(), self.value_said());
        Some(format!("{}{why}", if is_flag { before() } else { String::new() }))
    }

    fn unknown(&self) -> Option<String> {
        let (command, word) = (self.command(), self.said(ContextKind::InvalidArg));
        if word.starts_with('-') {
            return self.no_such(&word);
        }
        Some(match word.contains(':') && word.parse::<Address>().is_ok() && command.contains(' ') {
            true => cli::server_behind_command(&word),
            false => one_too_many(&word, &command),
        })
    }

    fn no_such_command(&self) -> Option<String> {
        let (command, word) = (self.command(), self.said(ContextKind::InvalidSubcommand));
        // Behind an address it need not be one; clap finds more words alike than people do.
        let is_one = command.contains(' ') || cli::near(&word).is_some();
        if is_one { self.no_such(&word) } else { Some(one_too_many(&word, &command)) }
    }

    fn no_such(&self, word: &str) -> Option<String> {
        let command = self.command();
        let near = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand].map(|kind| self.said(kind));
        let what_to_do = match near.iter().find(|near| !near.is_empty()) {
            Some(near) => format!("did you mean {near}?"),
            None if command.ends_with(" add") || command.ends_with(" search") => {
                "-- stands before a text that begins with a dash".to_owned()
            }
            None => format!("{command} --help lists what there is"),
        };
        Some(format!("{command} has no {}; {what_to_do}", shortened(word)))
    }

    fn conflict(&self) -> Option<String> {
        let both =
            [ContextKind::InvalidArg, ContextKind::PriorArg].map(|kind| flag(&self.said(kind)).to_owned());
        match both {
            [one, other] if one.is_empty() || other.is_empty() => None,
            [one, other] if one == other => Some(format!("{one} is said twice; leave one of them out")),
            [one, other] => Some(format!("{one} and {other} cannot stand together; leave one of them out")),
        }
    }

    /// Who wants a value: a flag, the variable that stands for it, or the command.
    fn who(&self) -> String {
        let arg = self.said(ContextKind::InvalidArg);
        let flag = flag(&arg);
        if !flag.starts_with('-') {
            return self.command();
        }
        let names = if flag == "--color" { &["--color", "--colour"][..] } else { &[flag] };
        let is_said = |word: &OsString| names.iter().any(|name| word.to_string_lossy().starts_with(name));
        let is_said = self.words.iter().any(is_said);
        let mut command = cli::command();
        // Flags that all commands have are known to each of them only then.
        command.build();
        let all =
            command.get_arguments().chain(command.get_subcommands().flat_map(|sub| sub.get_arguments()));
        let variable = all
            .filter(|arg| arg.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long)))
            .find_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned()));
        variable.filter(|_| !is_said).unwrap_or_else(|| flag.to_owned())
    }

    /// The command that was to be done, as it is typed.
    fn command(&self) -> String {
        let (mut command, mut name) = (cli::command(), "diary".to_owned());
        for word in self.words.iter().skip(1).filter_map(|word| word.to_str()) {
            if let Some(sub) = command.find_subcommand(word).cloned() {
                name = format!("{name} {word}");
                command = sub;
            }
        }
        name
    }

    fn value_said(&self) -> String {
        shortened(&self.said(ContextKind::InvalidValue)).into_owned()
    }

    /// What clap has to say of something; nothing, if it says nothing.
    fn said(&self, kind: ContextKind) -> String {
        match self.error.get(kind) {
            Some(ContextValue::String(said)) => said.clone(),
            Some(ContextValue::Strings(said)) => said.first().cloned().unwrap_or_default(),
            _ => String::new(),
        }
    }
}

/// `--on <DATE>` without its value.
fn flag(arg: &str) -> &str {
    arg.split_whitespace().next().unwrap_or_default()
}

/// `a, b or c`
pub(crate) fn one_of(choices: &[String]) -> String {
    match choices {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => choices.concat(),
    }
}

fn one_too_many(word: &str, command: &str) -> String {
    format!("{} is one word too many; {command} --help says what it takes", shortened(word))
}
