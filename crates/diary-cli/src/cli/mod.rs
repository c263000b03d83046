//! The command line, defined with clap.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::styling::Styles;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use diary_client::{Address, Author, DEFAULT_PORT, Fingerprint, JournalName, Which};
use diary_import::{Kind, TimeFormat};
use diary_proto::command::parse_seq;
use jiff::tz::TimeZone;

use crate::query::select::{Conditions, Ordered, Select, parse_name};
use crate::render::Format;
use crate::term::Colour;
use diary_stats::By;

const EXIT_CODES: &str = "\
Exit codes: 0 success, 1 nothing found, 2 usage error, 3 server unreachable, 4 refused, 5 not acked, 6 damage found";

/// Places the options of every command behind the command's own in the help.
const SETTINGS_ORDER: usize = 100;

/// Write entries into a diary and read them.
///
/// Without a command, every line that you type, or that comes from a pipe, becomes an entry. On a terminal, type
/// /help for more.
#[derive(Debug, Clone, Parser)]
#[command(name = "diary", version, after_help = EXIT_CODES, styles = Styles::styled())]
pub(crate) struct Args {
    /// Server address; with a command, use --server
    #[arg(value_name = "HOST:PORT|tls:HOST:PORT|unix:PATH", value_parser = parse_address)]
    address: Option<Address>,

    #[command(flatten)]
    pub(crate) settings: Settings,

    /// Number of entries to show first, without a command only [default: 20]
    #[arg(short = 'n', value_name = "N|all", allow_negative_numbers = true, value_parser = parse_past)]
    past: Option<Which>,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Options of every command. They go before the configuration file.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Settings {
    /// Server address [default: 127.0.0.1:8888]
    #[arg(long, global = true, display_order = SETTINGS_ORDER, value_name = "HOST:PORT|tls:HOST:PORT|unix:PATH", env = "DIARY_SERVER", hide_env_values = true)]
    pub(crate) server: Option<Address>,

    /// Journal [default: the one that the server offers]
    #[arg(long, global = true, display_order = SETTINGS_ORDER, value_name = "NAME", env = "DIARY_JOURNAL", hide_env_values = true)]
    pub(crate) journal: Option<JournalName>,

    /// Author of the entries that you write [default: login name]
    #[arg(long, global = true, display_order = SETTINGS_ORDER, value_name = "NAME", env = "DIARY_NAME", hide_env_values = true, value_parser = parse_name)]
    pub(crate) name: Option<Author>,

    /// When to use colour
    #[arg(long, alias = "colour", global = true, display_order = SETTINGS_ORDER, value_name = "WHEN", env = "DIARY_COLOR", hide_env_values = true)]
    pub(crate) color: Option<Colour>,

    /// The server comes from the command line, not from the environment.
    #[arg(skip)]
    pub(crate) server_is_flag: bool,

    /// The same for the journal.
    #[arg(skip)]
    pub(crate) journal_is_flag: bool,
}

/// A command.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Write an entry and print its number
    Add {
        /// Text; words are joined with spaces. - reads the text from stdin, and -- comes before a text that starts
        /// with a dash
        #[arg(required = true, value_name = "TEXT|-")]
        text: Vec<String>,
        /// Time of the entry [default: now]
        ///
        /// A day as in log --on, with a time of day or at noon: "2015-03-02 08:15", "yesterday at 6pm", 昨晚八点;
        /// a time: 21:30; a distance: "half an hour ago", 两小时前; or a time in another zone:
        /// 2015-03-02T08:15:00+08:00. It may be in the future.
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        /// Number of the entry that this one answers
        #[arg(long, value_name = "N", value_parser = parse_number)]
        re: Option<u64>,
    },
    /// Write a new text for an entry: the one that is given, or in an editor
    Edit {
        /// Number of the entry
        #[arg(value_name = "N", value_parser = parse_number)]
        number: u64,
        /// New text, instead of the editor; words are joined with spaces. - reads the text from stdin
        #[arg(value_name = "TEXT|-")]
        text: Vec<String>,
    },
    /// Print entries; those of a single day by time
    Log {
        /// Number of the only entry to print
        #[arg(value_name = "N", value_parser = parse_number_alone, conflicts_with_all = ["Select", "Conditions", "reverse"])]
        number: Option<u64>,
        /// Also print all that answers it, indented
        #[arg(long, requires = "number", conflicts_with = "history")]
        thread: bool,
        #[command(flatten)]
        select: Ordered,
        #[command(flatten)]
        show: Show,
    },
    /// Print new entries as they arrive, until Ctrl-C
    Follow {
        #[command(flatten)]
        select: Select,
        #[command(flatten)]
        show: Show,
        /// Continue where the last run with this file stopped
        #[arg(long, value_name = "FILE")]
        cursor: Option<PathBuf>,
    },
    /// Print entries that contain a text (smart case)
    Search {
        /// Text to search for; words are joined with spaces
        #[arg(required = true, value_name = "TEXT")]
        text: Vec<String>,
        #[command(flatten)]
        select: Ordered,
        #[command(flatten)]
        show: Show,
    },
    /// List tags, such as #word and @name, with the number of entries for each
    Tags {
        #[command(flatten)]
        select: Select,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Count entries and words, and draw a heat map of a year
    Stats {
        #[command(flatten)]
        select: Select,
        #[command(flatten)]
        options: StatsOptions,
    },
    /// Print the entries of this day in earlier years, oldest first
    OnThisDay {
        /// Day to look back from: 2026-11-21, Nov 21, yesterday [default: today]
        #[arg(value_name = "DATE")]
        date: Option<Vec<String>>,
        #[command(flatten)]
        conditions: Conditions,
        #[command(flatten)]
        show: Show,
    },
    /// Print all entries, or those that match, for other programs
    Export(Export),
    /// Add the entries of files; running it again adds no duplicates
    Import(Import),
    /// List or send the entries that no server has acked yet
    Outbox {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
        #[command(subcommand)]
        action: Option<OutboxAction>,
    },
    /// Log in to a server: remember its key, and the token that it knows you by
    Login(Login),
    /// Forget the key and the token of a server
    Logout {
        /// Server address [default: --server]
        #[arg(value_name = "HOST:PORT|tls:HOST:PORT|unix:PATH")]
        address: Option<Address>,
    },
    /// Check the configuration, the credentials, the outbox and the server
    Doctor,
    /// Print shell completions
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Arguments of `login`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Login {
    /// Server address [default: --server]; with =JOURNAL, the token is for that journal only
    #[arg(value_name = "HOST:PORT|tls:HOST:PORT|unix:PATH")]
    pub(crate) address: Option<Address>,

    /// File with the token [default: ask at a terminal, else read stdin]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Remember the server's key only
    #[arg(long, conflicts_with = "token_file")]
    pub(crate) no_token: bool,

    /// Fingerprint that the server must have, as it prints it [default: the system trusts its certificate, or you are
    /// asked]
    #[arg(long, value_name = "sha256:HEX")]
    pub(crate) fingerprint: Option<Fingerprint>,
}

/// Arguments of `export`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) select: Ordered,

    /// Output format
    #[arg(long, value_name = "FORMAT", value_parser = one_of(Format::EXPORTED))]
    pub(crate) format: Format,

    /// With csv, put an apostrophe before names and texts that a spreadsheet would run as formulas
    #[arg(long)]
    pub(crate) csv_safe: bool,

    /// Write to this file, which appears once it is complete; - is stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Overwrite the file
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
}

/// Arguments of `import`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Import {
    /// Files; - is stdin
    #[arg(required = true, value_name = "FILE|-")]
    pub(crate) files: Vec<PathBuf>,

    /// Input format [default: detected for each file]
    #[arg(long, value_name = "FORMAT", value_parser = named(IMPORTED, Kind::name))]
    pub(crate) format: Option<Kind>,

    /// Author of entries that name none [default: --name]
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub(crate) author: Option<Author>,

    /// Time zone of times that name none, such as Asia/Shanghai [default: local]
    #[arg(long, value_name = "TZ", value_parser = TimeZone::get)]
    pub(crate) timezone: Option<TimeZone>,

    /// Format of times, as for strptime: '%d.%m.%Y %H:%M' [default: ISO 8601]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) time_format: Option<TimeFormat>,

    /// Skip entries before this day: 2026-11-21, 2026-11, yesterday
    #[arg(long, value_name = "DATE")]
    pub(crate) from: Option<String>,

    /// Skip entries after this day
    #[arg(long, value_name = "DATE")]
    pub(crate) to: Option<String>,

    /// Import although the days may be archived, where duplicates cannot be found
    #[arg(long)]
    pub(crate) even_if_archived: bool,

    /// Report what would be added, and add nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options for printing entries.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Show {
    /// Output format [default: pretty on a terminal, else plain]
    #[arg(long, value_name = "FORMAT", env = "DIARY_FORMAT", hide_env_values = true, value_parser = one_of(Format::SHOWN))]
    format: Option<Format>,

    /// Same as --format json
    #[arg(long)]
    json: bool,

    /// With csv, put an apostrophe before names and texts that a spreadsheet would run as formulas
    #[arg(long)]
    pub(crate) csv_safe: bool,
}

/// Options of `stats`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct StatsOptions {
    /// Print a table with a row for each of these instead
    #[arg(long, value_name = "WHAT", conflicts_with = "json", value_parser = named(COUNTED_BY, By::name))]
    pub(crate) by: Option<By>,

    /// Calendar year of the heat map [default: the last 52 weeks]
    #[arg(long, value_name = "YEAR", value_parser = parse_year)]
    pub(crate) year: Option<i16>,

    /// Also write the heat map as SVG; - prints only that
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// Overwrite the SVG file
    #[arg(long, requires = "svg")]
    pub(crate) force: bool,

    /// Print everything as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Commands of `outbox`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum OutboxAction {
    /// List the entries, as outbox alone does
    List {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Send all of them
    Send,
    /// Send one as a new entry, which may duplicate one that was stored before
    SendAsNew {
        /// ID in the list
        id: String,
    },
    /// Delete one
    Drop {
        /// ID in the list
        id: String,
    },
}

impl Show {
    /// Returns the output format, if one is given.
    pub(crate) fn format(&self) -> Option<Format> {
        if self.json { Some(Format::Json) } else { self.format }
    }
}

impl Command {
    /// Whether the command runs with an unusable configuration file: it does not need the file, or reports the
    /// mistake itself.
    pub(crate) fn copes_without_file(&self) -> bool {
        matches!(
            self,
            Self::Add { .. } | Self::Outbox { .. } | Self::Doctor | Self::Completions { .. } | Self::Man
        )
    }
}

impl Args {
    /// Parses the process's arguments, starting with the program's name.
    ///
    /// # Errors
    /// Wrong usage, or a request for help or the version.
    pub(crate) fn of(words: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Self, clap::Error> {
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        let command = without_empty_variables(Self::command());
        let mut matches = command.try_get_matches_from(&words).map_err(|error| better(error, &words))?;
        let is_flag = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        let (server_is_flag, journal_is_flag) = (is_flag("server"), is_flag("journal"));
        let mut args = Self::from_arg_matches_mut(&mut matches)?;
        (args.settings.server_is_flag, args.settings.journal_is_flag) = (server_is_flag, journal_is_flag);
        let conflict = match (&args.command, &args.address, &args.past) {
            (Some(_), Some(address), _) => format!("with a command, use --server {address}"),
            (Some(_), _, Some(_)) => "-n goes after the command: diary log -n 5".to_owned(),
            (Some(Command::Outbox { json: true, action: Some(_) }), ..) => {
                "--json is for the list only: diary outbox --json".to_owned()
            }
            (Some(Command::Login(Login { address: Some(_), .. })), ..)
            | (Some(Command::Logout { address: Some(_) }), ..)
            | (None, Some(_), _)
                if server_is_flag =>
            {
                "the server is given twice, as an address and with --server".to_owned()
            }
            _ => return Ok(args),
        };
        Err(Self::command().error(ErrorKind::ArgumentConflict, conflict))
    }

    /// Returns the server that the arguments or the environment name.
    pub(crate) fn server(&self) -> Option<Address> {
        let own = match &self.command {
            Some(Command::Login(Login { address, .. }) | Command::Logout { address }) => address,
            _ => &self.address,
        };
        own.clone().or_else(|| self.settings.server.clone())
    }

    /// Returns the number of newest entries to show first.
    pub(crate) fn past(&self) -> Which {
        self.past.unwrap_or(Which::Last(20))
    }
}

/// Returns the command line without the address, which is in the place of commands. For completions and
/// suggestions.
pub(crate) fn commands_only() -> clap::Command {
    let args = Args::command();
    clap::Command::new("diary")
        .version(env!("CARGO_PKG_VERSION"))
        .args(args.get_arguments().filter(|arg| !arg.is_positional()))
        .subcommands(args.get_subcommands().cloned())
}

/// Improves an error. clap takes a mistyped command for the address, and complains about that or about what
/// follows. Without the address, its error names the command and suggests others.
fn better(error: clap::Error, words: &[OsString]) -> clap::Error {
    let Err(other) = commands_only().try_get_matches_from(words) else { return error };
    let Some(ContextValue::String(word)) = other.get(ContextKind::InvalidSubcommand) else { return error };
    let suggests = other.get(ContextKind::SuggestedSubcommand).is_some();
    // The word may be meant as an address.
    let says_it_all = error.kind() == ErrorKind::ValueValidation && !suggests;
    if parse_address(word).is_ok() || says_it_all { error } else { other }
}

/// Treats empty variables as unset.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|arg| match arg.get_env().is_some_and(is_empty) {
        true => arg.env(None::<&'static str>),
        false => arg,
    });
    command.mut_subcommands(without_empty_variables)
}

/// Parses an address. A single word other than `localhost` is more likely a mistyped command than a host.
fn parse_address(word: &str) -> Result<Address, String> {
    let host = word.split('=').next().unwrap_or_default();
    let is_word = !word.is_empty() && !host.contains([':', '.', '/', '[']) && host != "localhost";
    if is_word {
        let rest = &word[host.len()..];
        return Err(format!("no such command; for a host of this name, write {host}:{DEFAULT_PORT}{rest}"));
    }
    word.parse::<Address>().map_err(|error| error.to_string())
}

/// Returns a parser for these formats.
fn one_of(formats: &[Format]) -> impl TypedValueParser<Value = Format> {
    let values = formats.iter().filter_map(ValueEnum::to_possible_value);
    PossibleValuesParser::new(values).try_map(|name| Format::from_str(&name, false))
}

/// Returns a parser for these values by name, each with its help.
fn named<T, const N: usize>(
    values: [(T, &'static str); N],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let possible = values.map(|(value, help)| PossibleValue::new(name(value)).help(help));
    PossibleValuesParser::new(possible).try_map(move |said| {
        let value = values.iter().find(|(value, _)| name(*value) == said);
        value.map(|(value, _)| *value).ok_or("no such value")
    })
}

/// Formats that `import` reads.
const IMPORTED: [(Kind, &str); 5] = [
    (Kind::Json, "JSON lines, as printed by export --format json and log --json"),
    (Kind::Jrnl, "A journal file of jrnl"),
    (Kind::JrnlJson, "Output of jrnl --format json"),
    (Kind::Log, "A day file of a diary, or any log with one entry a line"),
    (Kind::Daily, "Lines like [Sat Nov 21 08:15:02 2026] text"),
];

/// Tables of `stats`.
const COUNTED_BY: [(By, &str); 6] = [
    (By::Day, "Every day with entries"),
    (By::Week, "Weeks from Monday to Sunday"),
    (By::Month, "Months"),
    (By::Year, "Years"),
    (By::Author, "Authors"),
    (By::Tag, "Tags"),
];

fn parse_year(word: &str) -> Result<i16, &'static str> {
    word.parse().ok().filter(|year| (0..=9999).contains(year)).ok_or("not a year, such as 2026")
}

/// Parses the number of an entry; a `#` may stand before it.
fn parse_number(word: &str) -> Result<u64, String> {
    parse_seq(word).ok_or_else(|| "not the number of an entry, such as 57".to_owned())
}

/// The same where people may mean a day or a text.
fn parse_number_alone(word: &str) -> Result<u64, String> {
    parse_number(word).map_err(|why| format!("{why}; days go behind --on, texts behind search"))
}

fn parse_past(word: &str) -> Result<Which, String> {
    match Which::parse(word) {
        Ok(which @ (Which::Last(_) | Which::All)) if !word.is_empty() => Ok(which),
        _ => Err("not a number or all".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Args::of([&["diary"], words].concat())
    }

    #[test]
    fn the_arguments_are_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn an_address_alone_begins_a_conversation() {
        for (words, address, name, past) in [
            (&["localhost"][..], "localhost:8888", None, Which::Last(20)),
            (&["localhost:1"], "localhost:1", None, Which::Last(20)),
            (&["localhost=work"], "localhost:8888=work", None, Which::Last(20)),
            (&["[::1]:1", "-n", "all"], "[::1]:1", None, Which::All),
            (&["unix:/run/d", "--name", "小明", "-n0"], "unix:/run/d", Some("小明"), Which::Last(0)),
            (&["-n", "7", "h:1", "--name=a"], "h:1", Some("a"), Which::Last(7)),
            (&["--server", "h:1"], "h:1", None, Which::Last(20)),
        ] {
            let args = parse(words).unwrap();
            assert!(args.command.is_none());
            assert_eq!(args.server().unwrap().to_string(), address);
            // The environment of the test run may set a name.
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
            (&["myhost"][..], "no such command; for a host of this name, write myhost:8888"),
            (&["serach"], "a similar subcommand exists: 'search'"),
            (&["myhost=work"], "write myhost:8888=work"),
            (&["qqq"], "no such command"),
            (&["lgo"], "unrecognized subcommand 'lgo'"),
            (&["lgo", "x"], "unrecognized subcommand 'lgo'"),
            (&["serach", "x"], "unrecognized subcommand 'serach'"),
            (&["--server", "h:1", "lgo", "--last", "3"], "unrecognized subcommand 'lgo'"),
            (&["h:1", "log"], "with a command, use --server h:1"),
            (&["-n", "3", "log"], "-n goes after the command: diary log -n 5"),
            (&["h:1", "-n", "-1"], "not a number or all"),
            (&["h:1", "-n", "today"], "not a number or all"),
            (&["h:1", "-n", ""], "not a number or all"),
            (&["h:1", "--name", "a b"], "a name cannot contain spaces"),
            (&["h:1", "--name", "\u{200b}"], "one visible character"),
            (&["h:1", "--name", &"長".repeat(100)], "a name can have at most 64 bytes; this one has 300"),
            (&["h:1", "i:2"], "'i:2'"),
            (&["add"], "<TEXT|->..."),
        ] {
            let error = parse(words).expect_err("the arguments are wrong");
            let said = error.to_string();
            assert!(error.use_stderr() && said.contains(part), "{words:?}: {said}");
        }
    }
}
