//! What the program is told beside its command line: the configuration file, and then defaults.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use diary_client::{Address, Author};
use diary_proto::escape::escape;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::args::{Settings, parse_name};
use crate::show::{Colour, Format};

/// Where a diary listens unless it is told otherwise.
const DEFAULT_SERVER: &str = "127.0.0.1:8888";

/// The configuration file: `$XDG_CONFIG_HOME/diary/config.toml`. All of it may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, deserialize_with = "address")]
    server: Option<Address>,
    #[serde(default, deserialize_with = "name")]
    name: Option<Author>,
    #[serde(alias = "color")]
    colour: Option<Colour>,
    format: Option<Format>,
}

/// What is text in the file, so it stands in quotes.
const TEXTS: [&str; 5] = ["server", "name", "colour", "color", "format"];

/// What holds for one run: a flag, then the environment, then the file, then a default.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) server: Address,
    /// The same, where the command line names it.
    pub(crate) named_server: Option<Address>,
    /// Who writes; `None` leaves it to the server.
    pub(crate) author: Option<Author>,
    pub(crate) colour: Colour,
    /// How entries look, where the configuration file says it.
    pub(crate) format: Option<Format>,
    /// A flag or the environment names the server.
    pub(crate) server_is_said: bool,
    /// Where the file is, or would be.
    pub(crate) file: Option<PathBuf>,
    /// A sentence: why the file cannot be used. All else holds as if there were none.
    pub(crate) wrong: Option<String>,
    /// The folder for what outlives a run: `$XDG_STATE_HOME/diary`, else `~/.local/state/diary`.
    pub(crate) state: Option<PathBuf>,
}

impl Config {
    /// Puts together what holds. `server` is the one that the command line or the environment names.
    pub(crate) fn read(server: Option<Address>, settings: &Settings) -> Self {
        let path = home("XDG_CONFIG_HOME", ".config").map(|home| home.join("diary/config.toml"));
        let read = path.as_ref().map_or_else(|| Ok(File::default()), |path| read_file(path));
        let (file, wrong) = match read {
            Ok(file) => (file, None),
            Err(why) => (File::default(), Some(why)),
        };
        let default = || DEFAULT_SERVER.parse().expect("it is an address");
        Self {
            server_is_said: server.is_some(),
            server: server.or(file.server).unwrap_or_else(default),
            named_server: settings.server.clone().filter(|_| settings.server_is_flag),
            author: settings.name.clone().or(file.name).or_else(login_name),
            colour: settings.color.or(file.colour).unwrap_or_default(),
            format: file.format,
            file: path,
            wrong,
            state: home("XDG_STATE_HOME", ".local/state").map(|home| home.join("diary")),
        }
    }
}

fn address<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Address>, D::Error> {
    String::deserialize(value)?.parse().map(Some).map_err(D::Error::custom)
}

fn name<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Author>, D::Error> {
    parse_name(&String::deserialize(value)?).map(Some).map_err(D::Error::custom)
}

fn read_file(path: &Path) -> Result<File, String> {
    match fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).map_err(|error| syntax_sentence(path, &text, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(File::default()),
        Err(error) => {
            Err(format!("{} cannot be read: {error}; make it readable or move it away", path.display()))
        }
    }
}

/// Where the file is wrong and how, in one line.
fn syntax_sentence(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let number = text.get(..start).unwrap_or_default().matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default();
    let what = without_quotes(line).unwrap_or_else(|| {
        let why = error.message().lines().collect::<Vec<_>>().join(", ");
        format!("{}; mend the line or take it out", escape(&why))
    });
    format!("{}, line {}: {what}", path.display(), number + 1)
}

/// The mistake that nearly everyone makes first, and the line as it should be.
fn without_quotes(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.split('#').next()?.trim());
    let wanted = TEXTS.contains(&key) && !value.is_empty() && !value.contains(['"', '\'']);
    wanted.then(|| format!("the value of {key} stands in quotes: {key} = \"{}\"", escape(value)))
}

/// A folder of the XDG base directory specification: `variable`, if it is an absolute path, else `~/default`.
fn home(variable: &str, default: &str) -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| Some(absolute("HOME")?.join(default)))
}

/// The name that the user logged in with, where it can be an author.
fn login_name() -> Option<Author> {
    let said = ["USER", "LOGNAME"].into_iter().filter_map(|name| env::var(name).ok());
    let name = said.into_iter().find(|name| !name.is_empty()).or_else(|| whoami::username().ok())?;
    Author::new(&name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file() {
        let files = [
            "server = host:8888\n",
            "# mine\nname = anna # me\n",
            "server = 5\n",
            "server = [\"host\"]\n",
            "server = \"host:8888\n",
            "name = \"a\"\nserver = \"http://host:8888\"\n",
            "name = \"a b\"\n",
            "color = \"red\"\n",
            "format = \"xml\"\n",
            "name = \"a\"\ncolours = \"never\"\n",
            "name = \"a\"\nname = \"b\"\n",
            "server\n",
            "server =\n",
            "\u{1b}[2J = 1\n",
        ];
        let said = files.map(|text| match toml::from_str::<File>(text) {
            Ok(_) => panic!("{text} is sound"),
            Err(error) => format!("{text:?}\n{}", syntax_sentence(Path::new("config.toml"), text, &error)),
        });
        insta::assert_snapshot!("config_errors", said.join("\n"));
    }

    #[test]
    fn what_a_file_says() {
        let file: File = toml::from_str("server = \"h:1\"\nname = \"小明\"\nformat = \"json\"\n").unwrap();
        assert_eq!(file.server.map(|server| server.to_string()).as_deref(), Some("h:1"));
        assert!(file.name.is_some() && file.format == Some(Format::Json) && file.colour.is_none());
        for key in ["colour", "color"] {
            let file: File = toml::from_str(&format!("{key} = \"never\"\n")).unwrap();
            assert!(file.colour.is_some(), "{key}");
        }
        assert!(toml::from_str::<File>("").unwrap().server.is_none());
    }
}
