//! What the program is told on its command line.

pub(crate) mod usage;

use std::path::PathBuf;

use clap::builder::styling::Styles;
use clap::builder::{EnumValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use diary_client::{Address, Author, DEFAULT_PORT, Which};
use diary_proto::escape::escape;
use jiff::tz::TimeZone;

use crate::cli::usage::{Stop, shortened};
use crate::query::select::{Conditions, Select};
use crate::render::export::Target;
use crate::render::stats::By;
use crate::render::{Colour, Format};
use diary_import::Kind;

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 nothing found, 2 usage, 3 the server cannot be reached, 4 something was refused, \
5 not all was acked, 6 damage was met";

/// Where what every command may be told stands in the help: behind what is the command's own.
const SETTINGS_ORDER: usize = 100;

/// Writes into a diary and reads it. Without a command: on a terminal, lines that are typed become entries,
/// and /help lists what else there is; from a pipe, every line is an entry.
#[derive(Debug, Clone, Parser)]
#[command(name = "diary", version, after_help = EXIT_CODES, styles = Styles::styled())]
pub(crate) struct Args {
    /// Where the server listens; with a command, say --server instead
    #[arg(value_name = "HOST:PORT|unix:PATH", value_parser = parse_address)]
    address: Option<Address>,

    #[command(flatten)]
    pub(crate) settings: Settings,

    /// How many of the newest entries to show first; without a command only
    #[arg(short = 'n', value_name = "N|all|0", allow_negative_numbers = true, value_parser = parse_past)]
    past: Option<Which>,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What every command may be told, beside the configuration file.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Settings {
    /// Where the server listens
    #[arg(long, global = true, display_order = SETTINGS_ORDER, value_name = "HOST:PORT|unix:PATH", env = "DIARY_SERVER", hide_env_values = true)]
    pub(crate) server: Option<Address>,

    /// Who writes; the login name, if not given
    #[arg(long, global = true, display_order = SETTINGS_ORDER, value_name = "NAME", env = "DIARY_NAME", hide_env_values = true, value_parser = parse_name)]
    pub(crate) name: Option<Author>,

    /// Whether to print in colour
    #[arg(long, alias = "colour", global = true, display_order = SETTINGS_ORDER, value_name = "WHEN", env = "DIARY_COLOR", hide_env_values = true)]
    pub(crate) color: Option<Colour>,

    /// The server is named on the command line, not in the environment.
    #[arg(skip)]
    pub(crate) server_is_flag: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Writes an entry and prints its seq
    Add {
        /// The text; its words are put together with spaces. A single - reads it from the input, and -- stands
        /// before a text that begins with a dash
        #[arg(required = true, value_name = "TEXT|-")]
        text: Vec<String>,
        /// When it was that it is about: the entry is of that day then. A day as for log --on, with a time of day or
        /// at noon ("2015-03-02 08:15", "yesterday at 6pm", 昨晚八点); 21:30; "half an hour ago", 两小时前; or
        /// 2015-03-02T08:15:00+08:00 for another zone's clock. What is still to come is taken, too
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
    },
    /// Prints entries; those of a single day in the order of their times
    Log {
        #[command(flatten)]
        select: Select,
        #[command(flatten)]
        show: Show,
    },
    /// Prints entries as they come, until it is interrupted
    Follow {
        #[command(flatten)]
        select: Select,
        #[command(flatten)]
        show: Show,
        /// Goes on where the last run with this file stopped, and keeps the place there
        #[arg(long, value_name = "FILE")]
        cursor: Option<PathBuf>,
    },
    /// Prints the entries that hold a text; capitals count only if it has one
    Search {
        /// What to look for; its words are put together with spaces
        #[arg(required = true, value_name = "TEXT")]
        text: Vec<String>,
        #[command(flatten)]
        select: Select,
        #[command(flatten)]
        show: Show,
    },
    /// Lists tags, #word and @name, with the number of entries that have them
    Tags {
        #[command(flatten)]
        select: Select,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Counts entries and words, and draws a year's days as a heat map
    Stats {
        #[command(flatten)]
        select: Select,
        #[command(flatten)]
        options: StatsOptions,
    },
    /// Prints the entries of this day in earlier years, the oldest first
    OnThisDay {
        /// Another day than today, and of all years up to this one: 2026-11-21, Nov 21, yesterday
        #[arg(value_name = "DATE")]
        date: Option<Vec<String>>,
        #[command(flatten)]
        conditions: Conditions,
        #[command(flatten)]
        show: Show,
    },
    /// Prints entries for other programs, or writes them into a file; all, if nothing says which
    Export(Export),
    /// Writes the entries of files: of a diary, of jrnl, of logs. Run again, it adds nothing twice
    Import(Import),
    /// Lists what could not be sent yet, or sends it
    Outbox {
        /// Lists it as one JSON object a line
        #[arg(long)]
        json: bool,
        #[command(subcommand)]
        action: Option<OutboxAction>,
    },
    /// Tries the way to the server, step by step
    Doctor,
    /// Prints the completions for a shell
    Completions {
        /// Which one
        shell: clap_complete::Shell,
    },
    /// Prints the manual page
    Man,
}

/// What is to be exported, and where.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) select: Select,

    /// What it is to be
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Target,

    /// In csv, writes an apostrophe before names and texts that a spreadsheet takes for formulas; not exact then
    #[arg(long)]
    pub(crate) csv_safe: bool,

    /// Writes it into this file, which appears once it is whole; - prints it
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Writes over the file, if there is one
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
}

/// What can be imported.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ImportFormat {
    /// One JSON object a line, as export --format json and log --json print it
    Json,
    /// jrnl's own file
    Jrnl,
    /// What jrnl --format json prints
    JrnlJson,
    /// A day file of a diary, or any log: every line is an entry
    Log,
    /// Lines such as [Sat Nov 21 08:15:02 2026] text
    Daily,
}

impl From<ImportFormat> for Kind {
    fn from(format: ImportFormat) -> Self {
        match format {
            ImportFormat::Json => Self::Json,
            ImportFormat::Jrnl => Self::Jrnl,
            ImportFormat::JrnlJson => Self::JrnlJson,
            ImportFormat::Log => Self::Log,
            ImportFormat::Daily => Self::Daily,
        }
    }
}

/// What is to be imported, and how it is read.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Import {
    /// The files; - is the input
    #[arg(required = true, value_name = "FILE|-")]
    pub(crate) files: Vec<PathBuf>,

    /// What they are; each is looked at, if not given
    #[arg(long, value_name = "FORMAT", value_parser = EnumValueParser::<ImportFormat>::new().map(Kind::from))]
    pub(crate) format: Option<Kind>,

    /// Who wrote the entries that name nobody; as --name, if not given
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub(crate) author: Option<Author>,

    /// Where the clocks were that show no zone, such as Asia/Shanghai; here, if not given
    #[arg(long, value_name = "TZ", value_parser = parse_zone)]
    pub(crate) timezone: Option<TimeZone>,

    /// How times are written, as strptime has it, if not as ISO 8601: '%d.%m.%Y %H:%M'
    #[arg(long, value_name = "FORMAT")]
    pub(crate) time_format: Option<String>,

    /// Only entries from this day on: 2026-11-21, 2026-11, yesterday
    #[arg(long, value_name = "DATE")]
    pub(crate) from: Option<String>,

    /// Only entries up to this day, with it
    #[arg(long, value_name = "DATE")]
    pub(crate) to: Option<String>,

    /// Adds entries that may have been archived, which cannot be compared; without this, nothing is added then
    #[arg(long)]
    pub(crate) even_if_archived: bool,

    /// Says what it would do, and writes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How entries are printed.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Show {
    /// How entries look; pretty on a terminal, plain elsewhere, if not given
    #[arg(long, value_name = "FORMAT", env = "DIARY_FORMAT", hide_env_values = true)]
    pub(crate) format: Option<Format>,

    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,

    /// In csv, writes an apostrophe before names and texts that a spreadsheet takes for formulas; not exact then
    #[arg(long)]
    pub(crate) csv_safe: bool,
}

/// What is shown of what was counted.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct StatsOptions {
    /// A table with a row for each of these instead
    #[arg(long, value_name = "WHAT", conflicts_with = "json")]
    pub(crate) by: Option<By>,

    /// The heat map of this calendar year; else of the 52 weeks up to today
    #[arg(long, value_name = "YEAR", value_parser = parse_year)]
    pub(crate) year: Option<i16>,

    /// Writes the heat map as a picture, too; - prints that instead
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// With --svg, over a file that is there
    #[arg(long, requires = "svg")]
    pub(crate) force: bool,

    /// Everything as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is to be done with what could not be sent.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum OutboxAction {
    /// Lists what waits, as outbox alone does
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Sends all of it
    Send,
    /// Sends one as a new entry, which the server cannot tell from one that was stored before
    SendAsNew {
        /// As `outbox` lists it
        id: String,
    },
    /// Throws one away
    Drop {
        /// As `outbox` lists it
        id: String,
    },
}

impl Command {
    /// It needs nothing of the configuration file, or says itself what is wrong with that.
    pub(crate) fn copes_without_file(&self) -> bool {
        !matches!(
            self,
            Self::Log { .. }
                | Self::Follow { .. }
                | Self::Search { .. }
                | Self::Tags { .. }
                | Self::Stats { .. }
                | Self::OnThisDay { .. }
                | Self::Export(_)
                | Self::Import(_)
        )
    }
}

impl Args {
    /// Reads the process's arguments.
    ///
    /// # Errors
    /// Wrong usage, or a question for help or the version.
    pub(crate) fn read() -> Result<Self, Stop> {
        Self::of(std::env::args_os())
    }

    pub(crate) fn of(
        words: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>,
    ) -> Result<Self, Stop> {
        let words: Vec<std::ffi::OsString> = words.into_iter().map(Into::into).collect();
        let stop = |error: clap::Error| match mistyped(&words).filter(|_| error.use_stderr()) {
            Some(why) => Stop::Wrong(why),
            None => Stop::of(error, &words),
        };
        let command = without_empty_variables(Self::command());
        let mut matches = command.try_get_matches_from(&words).map_err(stop)?;
        let server_is_flag = matches.value_source("server") == Some(ValueSource::CommandLine);
        let mut args = Self::from_arg_matches_mut(&mut matches).map_err(|error| Stop::of(error, &words))?;
        args.settings.server_is_flag = server_is_flag;
        let wrong = |message: &str| Err(Stop::Wrong(message.to_owned()));
        match (&args.command, &args.address, &args.past) {
            (Some(_), Some(address), _) => wrong(&server_behind_command(&address.to_string())),
            (Some(Command::Outbox { json: true, action: Some(_) }), ..) => {
                wrong("--json is for the list alone: diary outbox --json")
            }
            (Some(_), _, Some(_)) => wrong("-n stands behind its command: diary log -n 5"),
            (None, Some(_), _) if args.settings.server_is_flag => {
                wrong("the server is named twice, as an address and with --server; leave one of them out")
            }
            _ => Ok(args),
        }
    }

    /// The server that is named here.
    pub(crate) fn server(&self) -> Option<Address> {
        self.address.clone().or_else(|| self.settings.server.clone())
    }

    /// How many of the newest entries to show first.
    pub(crate) fn past(&self) -> Which {
        self.past.unwrap_or(Which::Last(20))
    }
}

/// The program's arguments, for completions and the manual page.
pub(crate) fn command() -> clap::Command {
    Args::command()
}

/// A variable that is empty says nothing, as everywhere.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|arg| match arg.get_env().is_some_and(is_empty) {
        true => arg.env(None::<&'static str>),
        false => arg,
    });
    command.mut_subcommands(without_empty_variables)
}

/// What is said of an address beside a command.
pub(crate) fn server_behind_command(address: &str) -> String {
    format!("with a command, say where the server is with --server {address}")
}

/// The sentence about a command that was mistyped, where what follows it would be complained of first.
fn mistyped(words: &[std::ffi::OsString]) -> Option<String> {
    let command = Args::command();
    let words = words.iter().skip(1).filter_map(|word| word.to_str()).filter(|word| !word.starts_with('-'));
    let mut commands = words.filter(|word| command.find_subcommand(word).is_some() || near(word).is_some());
    let word = commands.next()?;
    command.find_subcommand(word).is_none().then(|| no_such_command(word))
}

/// The command that a word is nearly.
pub(crate) fn near(word: &str) -> Option<String> {
    let command = Args::command();
    let likeness = |name: &&str| strsim::normalized_damerau_levenshtein(name, word);
    let names = command.get_subcommands().map(clap::Command::get_name).filter(|name| likeness(name) > 0.6);
    names.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).map(str::to_owned)
}

fn no_such_command(word: &str) -> String {
    let shown = shortened(word);
    let shown = escape(&shown);
    match near(word) {
        Some(name) => format!("there is no command {shown}; did you mean {name}?"),
        None => format!(
            "there is no command {shown} (diary --help lists them), and as an address it needs its port: \
             {shown}:{DEFAULT_PORT}"
        ),
    }
}

/// An address. A single word is rather a command that was mistyped.
fn parse_address(word: &str) -> Result<Address, String> {
    let is_word = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
    if is_word && word != "localhost" {
        return Err(no_such_command(word));
    }
    word.parse::<Address>().map_err(|error| error.to_string())
}

pub(crate) fn parse_name(name: &str) -> Result<Author, String> {
    Author::new(name).map_err(|refusal| refusal.message.into_owned())
}

fn parse_year(word: &str) -> Result<i16, String> {
    let year = word.parse().ok().filter(|year| (0..=9999).contains(year));
    year.ok_or_else(|| "it takes a year, such as 2026".to_owned())
}

fn parse_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| format!("there is no zone {}; say Europe/Berlin or UTC", escape(name)))
}

fn parse_past(word: &str) -> Result<Which, String> {
    match Which::parse(word) {
        Ok(which @ (Which::Last(_) | Which::All)) if !word.is_empty() => Ok(which),
        _ => Err("how many entries? a number, all or 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, Stop> {
        Args::of([&["diary"], words].concat())
    }

    #[test]
    fn the_arguments_are_sound() {
        command().debug_assert();
    }

    #[test]
    fn an_address_alone_begins_a_conversation() {
        for (words, address, name, past) in [
            (&["localhost"][..], "localhost:8888", None, Which::Last(20)),
            (&["localhost:1"], "localhost:1", None, Which::Last(20)),
            (&["[::1]:1", "-n", "all"], "[::1]:1", None, Which::All),
            (&["unix:/run/d", "--name", "小明", "-n0"], "unix:/run/d", Some("小明"), Which::Last(0)),
            (&["-n", "7", "h:1", "--name=a"], "h:1", Some("a"), Which::Last(7)),
            (&["--server", "h:1"], "h:1", None, Which::Last(20)),
        ] {
            let args = parse(words).unwrap();
            assert!(args.command.is_none());
            assert_eq!(args.server().unwrap().to_string(), address);
            // The environment of whoever runs the test may name someone.
            assert!(name.is_none() || args.settings.name.as_ref().map(Author::as_str) == name);
            assert_eq!(args.past(), past);
        }
    }

    #[test]
    fn commands_take_the_server_anywhere() {
        for words in
            [&["--server", "h:1", "log"][..], &["log", "--server", "h:1"], &["log", "--json", "--server=h:1"]]
        {
            let args = parse(words).unwrap();
            assert!(matches!(args.command, Some(Command::Log { .. })), "{words:?}");
            assert_eq!(args.server().unwrap().to_string(), "h:1");
            assert!(args.settings.server_is_flag, "{words:?}");
        }
        assert!(!parse(&["log"]).unwrap().settings.server_is_flag);
        let args = parse(&["add", "a", "--name", "ben", "b", "--", "--c"]).unwrap();
        assert!(matches!(args.command, Some(Command::Add { text, .. }) if text == ["a", "b", "--c"]));
        assert_eq!(args.settings.name.as_ref().map(Author::as_str), Some("ben"));
        let args = parse(&["add", "-"]).unwrap();
        assert!(matches!(args.command, Some(Command::Add { text, .. }) if text == ["-"]));
    }

    #[test]
    fn usage_errors_say_what_to_do() {
        for (words, part) in [
            (&["myhost"][..], "as an address it needs its port: myhost:8888"),
            (&["serach"], "did you mean search?"),
            (&["lgo"], "did you mean log?"),
            (&["serach", "x"], "there is no command serach; did you mean search?"),
            (&["--server", "h:1", "lgo", "--last", "3"], "did you mean log?"),
            (&["h:1", "log"], "with a command, say where the server is with --server h:1"),
            (&["-n", "3", "log"], "-n stands behind its command: diary log -n 5"),
            (&["h:1", "-n", "-1"], "how many entries? a number, all or 0"),
            (&["h:1", "-n", "today"], "how many entries? a number, all or 0"),
            (&["h:1", "-n", ""], "how many entries?"),
            (&["h:1", "--name", "a b"], "a name has no spaces"),
            (&["h:1", "--name", "\u{200b}"], "character that can be seen"),
            (&["h:1", "--name", &"長".repeat(100)], "長…: a name may have 64 bytes, this one has 300"),
            (&["h:1", "i:2"], "i:2 is one word too many"),
            (&["add"], "diary add needs TEXT or -"),
        ] {
            let Err(Stop::Wrong(said)) = parse(words) else { panic!("{words:?} is right") };
            assert!(said.contains(part) && !said.contains('\n'), "{words:?}: {said}");
        }
    }
}
