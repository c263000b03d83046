//! Line mode's commands: lines that start with one `/`.

use std::fmt;

use jiff::civil::Date;

use crate::credential::Credential;
use crate::entry::{Author, check_text, parse_number};
use crate::escape::escape;
use crate::journal::JournalName;
use crate::refusal::{Code, Refusal};
use crate::relation::Relation;
use crate::time::parse_date;

/// What every token begins with.
pub const TOKEN_PREFIX: &str = "diary_";

/// What follows: 32 bytes in base32 (RFC 4648).
const TOKEN_CHARS: usize = 52;

/// How many entries `/history` shows when nobody says.
pub const HISTORY_DEFAULT: u64 = 20;

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `/history [N | all | DATE | DATE..DATE | #SEQ..]`
    History(Which),
    /// `/follow [#SEQ]`: from that seq, or from now on.
    Follow(Option<u64>),
    /// `/follow off`
    FollowOff,
    /// `/search TEXT`, smart case: a text without capitals finds any case.
    Search(String),
    /// `/re SEQ TEXT` or `/correct SEQ TEXT`: an entry that answers or corrects an earlier one.
    Related(Relation, String),
    /// `/thread SEQ`: an entry with all that answers it.
    Thread(u64),
    /// `/name NAME`
    Name(Author),
    /// `/journal NAME`: go to that journal; without a name, list them.
    Journal(Option<JournalName>),
    /// `/login TOKEN`
    Login(Credential),
    /// `/quiet`: stop printing acks.
    Quiet,
    /// `/help`
    Help,
    /// `/quit`
    Quit,
}

/// Which entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The newest so many.
    Last(u64),
    /// All there are.
    All,
    /// From this seq to the head.
    From(u64),
    /// Those committed on these days, both included.
    Days(Day, Day),
}

/// Which entries, how many of them, and in which order. Made from a [`Which`]: all of it, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// Which entries there are to choose from.
    pub which: Which,
    /// None with a higher seq.
    pub up_to: Option<u64>,
    /// Only the newest so many, of those that fit.
    pub newest: Option<u64>,
    /// The newest first.
    pub reverse: bool,
    /// As people see them: an entry that was corrected has its newest correction right before it. A search goes by the
    /// newest texts, and the newest so many are counted without corrections.
    pub shown: bool,
}

impl Scope {
    /// The same, as people see them.
    pub fn shown(self) -> Self {
        Self { shown: true, ..self }
    }

    /// It is a range of seqs or days and nothing else, in its own order.
    pub fn is_plain(&self) -> bool {
        self.newest.is_none() && !self.reverse
    }
}

impl From<Which> for Scope {
    fn from(which: Which) -> Self {
        Self { which, up_to: None, newest: None, reverse: false, shown: false }
    }
}

/// A day, as people name it. `today` is the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Day {
    /// A calendar date.
    Date(Date),
    /// The server's current day.
    Today,
    /// The one before.
    Yesterday,
}

impl Day {
    /// The date, seen from `today`.
    pub fn date(self, today: Date) -> Date {
        match self {
            Day::Date(date) => date,
            Day::Today => today,
            Day::Yesterday => today.yesterday().unwrap_or(today),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Which::Last(count) => write!(f, "{count}"),
            Which::All => f.write_str("all"),
            Which::From(seq) => write!(f, "#{seq}.."),
            Which::Days(from, to) if from == to => write!(f, "{from}"),
            Which::Days(from, to) => write!(f, "{from}..{to}"),
        }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Day::Date(date) => write!(f, "{date}"),
            Day::Today => f.write_str("today"),
            Day::Yesterday => f.write_str("yesterday"),
        }
    }
}

impl Command {
    /// Reads a line that starts with one `/`.
    ///
    /// # Errors
    /// A refusal that names the way out.
    pub fn parse(line: &str) -> Result<Self, Refusal> {
        let line = line.strip_prefix('/').unwrap_or(line);
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = rest.trim();
        match word {
            "history" => Which::parse(argument).map(Command::History),
            "follow" => parse_follow(argument),
            "search" if argument.is_empty() => Err(bad("/search needs a text: /search TEXT")),
            "search" => Ok(Command::Search(argument.to_owned())),
            "re" => {
                parse_related(rest, Relation::Answers, FORM_OF_ANSWER, "an answer needs a text: /re SEQ TEXT")
            }
            "correct" => parse_related(
                rest,
                Relation::Corrects,
                FORM_OF_CORRECTION,
                "the new text is empty: /correct SEQ TEXT",
            ),
            "thread" => {
                let seq =
                    parse_seq(argument).ok_or(bad("/thread takes the number of an entry: /thread SEQ"))?;
                Ok(Command::Thread(seq))
            }
            "journal" if !shows_token(argument) && !argument.is_empty() => match argument.parse() {
                Ok(name) => Ok(Command::Journal(Some(name))),
                Err(bad) => Err(Refusal::new(Code::BadArgument, bad.to_string())),
            },
            "journal" if argument.is_empty() => Ok(Command::Journal(None)),
            "name" if !argument.starts_with(TOKEN_PREFIX) => Author::new(argument).map(Command::Name),
            "name" | "journal" => Err(bad("this looks like a token, which goes behind /login")),
            "login" if argument.is_empty() => Err(bad("/login needs a token: /login TOKEN")),
            "login" => Ok(Command::Login(Credential::new(argument))),
            "quiet" => alone(argument, Command::Quiet, "/quiet"),
            "help" => Ok(Command::Help),
            "quit" => alone(argument, Command::Quit, "/quit"),
            // Somebody who mistypes /login shows a token to nobody.
            _ if word.contains(TOKEN_PREFIX) => {
                Err(Refusal::new(Code::UnknownCommand, "this is not a command; a token goes behind /login"))
            }
            _ => {
                let shown: String = word.chars().take(40).collect();
                let message = format!(
                    "/{} is not a command; /help lists them, and // stores a text that starts with /",
                    escape(&shown)
                );
                Err(Refusal::new(Code::UnknownCommand, message))
            }
        }
    }
}

/// Whether a text is a token, alone or behind `/login`, which a person did not mean to store.
#[inline]
pub fn is_login(text: &str) -> bool {
    // It is asked for every text, and hardly any begins like this.
    let may_be = |b: &u8| matches!(b, b'/' | b'd' | b'l' | b'L') || b.is_ascii_whitespace() || !b.is_ascii();
    text.as_bytes().first().is_some_and(may_be) && shows_token(text.trim())
}

fn shows_token(text: &str) -> bool {
    const LOGIN: &str = "login";
    let bare = text.trim_start_matches('/');
    let is_login = bare.get(..LOGIN.len()).is_some_and(|word| word.eq_ignore_ascii_case(LOGIN));
    let token = if is_login { bare[LOGIN.len()..].trim_start() } else { bare };
    let Some(secret) = token.strip_prefix(TOKEN_PREFIX) else { return false };
    let is_whole = secret.len() == TOKEN_CHARS && secret.bytes().all(|b| b.is_ascii_alphanumeric());
    // Behind `/login`, it was meant for one, whatever is wrong with it.
    is_whole || (is_login && bare.len() < text.len())
}

/// Why such a text is not stored. It is not to be quoted.
pub fn stray_login() -> Refusal {
    bad(
        "this shows a token, and is not stored; /login TOKEN works at the start of a line, where one can log in",
    )
}

fn bad(message: &'static str) -> Refusal {
    Refusal::new(Code::BadArgument, message)
}

fn alone(argument: &str, command: Command, name: &str) -> Result<Command, Refusal> {
    if argument.is_empty() {
        return Ok(command);
    }
    Err(Refusal::new(Code::BadArgument, format!("{name} takes no argument")))
}

/// Reads the number of an entry; a `#` may stand before it.
pub fn parse_seq(word: &str) -> Option<u64> {
    parse_number(word.strip_prefix('#').unwrap_or(word).as_bytes()).filter(|&seq| seq > 0)
}

const FORM_OF_ANSWER: &str = "/re takes the number of an entry and a text: /re SEQ TEXT";
const FORM_OF_CORRECTION: &str = "/correct takes the number of an entry and its new text: /correct SEQ TEXT";

fn parse_related(
    rest: &str,
    relation: fn(u64) -> Relation,
    form: &'static str,
    empty: &'static str,
) -> Result<Command, Refusal> {
    let rest = rest.trim_start();
    let (word, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let seq = parse_seq(word).ok_or(bad(form))?;
    if text.trim().is_empty() {
        return Err(Refusal::new(Code::Empty, empty));
    }
    check_text(text)?;
    if is_login(text) {
        return Err(stray_login());
    }
    Ok(Command::Related(relation(seq), text.to_owned()))
}

fn parse_follow(argument: &str) -> Result<Command, Refusal> {
    match argument {
        "" => Ok(Command::Follow(None)),
        "off" => Ok(Command::FollowOff),
        seq => {
            let seq = seq.strip_prefix('#').and_then(|n| parse_number(n.as_bytes())).filter(|&n| n > 0);
            seq.map(|seq| Command::Follow(Some(seq)))
                .ok_or(bad("/follow takes #SEQ (from 1), off, or nothing"))
        }
    }
}

impl Which {
    /// Reads `N`, `all`, `DATE`, `DATE..DATE` or `#SEQ..`; nothing means the newest 20.
    ///
    /// # Errors
    /// A refusal that lists the forms.
    pub fn parse(argument: &str) -> Result<Self, Refusal> {
        const FORMS: &str =
            "/history takes N, all, DATE, DATE..DATE (2026-11-21, today, yesterday) or #SEQ..";
        let read = |argument: &str| match argument {
            "" => Some(Which::Last(HISTORY_DEFAULT)),
            "all" => Some(Which::All),
            _ => {
                if let Some(seq) = argument.strip_prefix('#') {
                    let seq = parse_number(seq.strip_suffix("..")?.as_bytes()).filter(|&n| n > 0)?;
                    return Some(Which::From(seq));
                }
                if let Some(count) = parse_number(argument.as_bytes()) {
                    return Some(Which::Last(count));
                }
                let (from, to) = argument.split_once("..").unwrap_or((argument, argument));
                Some(Which::Days(Day::parse(from)?, Day::parse(to)?))
            }
        };
        match read(argument).ok_or(bad(FORMS))? {
            Which::Days(Day::Date(from), Day::Date(to)) if from > to => {
                Err(bad("the first day of a range comes first: DATE..DATE"))
            }
            which => Ok(which),
        }
    }
}

impl Day {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "today" => Some(Day::Today),
            "yesterday" => Some(Day::Yesterday),
            date => parse_date(date).map(Day::Date),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn tokens_among_texts() {
        let token = format!("diary_{}", "a2".repeat(26));
        for shown in [
            &*token,
            &format!(" {token} "),
            &format!("/login {token}"),
            " /login diary_x",
            "/LOGIN diary_x",
            &format!("login {token}"),
            &format!("//{token}"),
        ] {
            assert!(super::is_login(shown), "{shown}");
        }
        for text in [
            "",
            "diary_",
            "/login",
            "login",
            "login diary_x",
            "diary_of a night",
            &format!("{token}a"),
            &format!("see {token}"),
        ] {
            assert!(!super::is_login(text), "{text}");
        }
    }

    use super::*;

    #[test]
    fn every_form() {
        let date = |d| Day::Date(Date::constant(2026, 11, d));
        for (line, command) in [
            ("/history", Command::History(Which::Last(20))),
            ("/history 5", Command::History(Which::Last(5))),
            ("/history 0", Command::History(Which::Last(0))),
            ("/history all", Command::History(Which::All)),
            ("/history  today ", Command::History(Which::Days(Day::Today, Day::Today))),
            ("/history 2026-11-21", Command::History(Which::Days(date(21), date(21)))),
            ("/history 2026-11-20..2026-11-21", Command::History(Which::Days(date(20), date(21)))),
            ("/history yesterday..today", Command::History(Which::Days(Day::Yesterday, Day::Today))),
            ("/history #7..", Command::History(Which::From(7))),
            ("/follow", Command::Follow(None)),
            ("/follow #1", Command::Follow(Some(1))),
            ("/follow off", Command::FollowOff),
            ("/search 天气 好", Command::Search("天气 好".into())),
            ("/re 7 of course", Command::Related(Relation::Answers(7), "of course".into())),
            ("/re  #7  two ", Command::Related(Relation::Answers(7), " two ".into())),
            ("/re 7 /re 6 x", Command::Related(Relation::Answers(7), "/re 6 x".into())),
            ("/correct #7 two", Command::Related(Relation::Corrects(7), "two".into())),
            ("/thread 7", Command::Thread(7)),
            ("/thread #7", Command::Thread(7)),
            ("/name anna", Command::Name(Author::new("anna").unwrap())),
            ("/journal", Command::Journal(None)),
            ("/journal work", Command::Journal(Some("work".parse().unwrap()))),
            ("/quiet", Command::Quiet),
            ("/help", Command::Help),
            ("/help me", Command::Help),
            ("/quit", Command::Quit),
        ] {
            assert_eq!(Command::parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_so() {
        for (line, code) in [
            ("/", Code::UnknownCommand),
            ("/History", Code::UnknownCommand),
            ("/nope now", Code::UnknownCommand),
            ("/history -1", Code::BadArgument),
            ("/history 2026-02-30", Code::BadArgument),
            ("/history 2026-2-3", Code::BadArgument),
            ("/history 2026-11-21..2026-11-20", Code::BadArgument),
            ("/history #7", Code::BadArgument),
            ("/history #0..", Code::BadArgument),
            ("/history 99999999999999999999", Code::BadArgument),
            ("/follow 7", Code::BadArgument),
            ("/follow #0", Code::BadArgument),
            ("/re", Code::BadArgument),
            ("/re text", Code::BadArgument),
            ("/re 0 text", Code::BadArgument),
            ("/re ##7 text", Code::BadArgument),
            ("/re 7", Code::Empty),
            ("/re 7  ", Code::Empty),
            ("/re 7 login diary_a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2", Code::BadArgument),
            ("/correct text", Code::BadArgument),
            ("/correct 7", Code::Empty),
            ("/thread", Code::BadArgument),
            ("/thread 0", Code::BadArgument),
            ("/thread 7 8", Code::BadArgument),
            ("/follow ##7", Code::BadArgument),
            ("/search ", Code::BadArgument),
            ("/name", Code::BadArgument),
            ("/name a b", Code::BadArgument),
            ("/journal a b", Code::BadArgument),
            ("/journal ..", Code::BadArgument),
            ("/quit now", Code::BadArgument),
        ] {
            let refusal = Command::parse(line).unwrap_err();
            assert_eq!(refusal.code, code, "{line}: {refusal}");
        }
    }

    #[test]
    fn an_unknown_command_is_quoted_safely() {
        let refusal = Command::parse("/\u{1b}[31m").unwrap_err();
        assert!(refusal.message.contains("\\x1b"), "{refusal}");
    }
}
