//! What the program is told beside its command line: the configuration file, and then defaults.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use diary_client::{Address, Author, BadAddress};
use diary_outbox::Outbox;
use diary_proto::escape::escape;
use toml::{Spanned, Value};

use crate::cli::usage::{one_of, shortened};
use crate::cli::{Settings, parse_name};
use crate::render::{Colour, Format};

/// Where a diary listens unless it is told otherwise.
const DEFAULT_SERVER: &str = "127.0.0.1:8888";

/// What the configuration file says: `$XDG_CONFIG_HOME/diary/config.toml`. All of it may be left out.
#[derive(Debug, Default)]
struct File {
    server: Option<Address>,
    name: Option<Author>,
    colour: Option<Colour>,
    format: Option<Format>,
}

/// What the file may say, colour in either spelling.
const NAMES: [&str; 5] = ["server", "name", "colour", "color", "format"];

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

impl Config {
    /// What was written and is not acked.
    pub(crate) fn outbox(&self) -> Outbox {
        self.state.as_ref().map_or_else(Outbox::nowhere, |state| Outbox::new(state.join("outbox")))
    }
}

fn read_file(path: &Path) -> Result<File, String> {
    match fs::read_to_string(path) {
        Ok(text) => File::read(&text).map_err(|wrong| wrong.sentence(path, &text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(File::default()),
        Err(error) => {
            Err(format!("{} cannot be read: {error}; make it readable or move it away", path.display()))
        }
    }
}

impl File {
    fn read(text: &str) -> Result<Self, Wrong> {
        let said: BTreeMap<Spanned<String>, Spanned<Value>> =
            toml::from_str(text).map_err(|error| Wrong::of_toml(&error))?;
        let mut said: Vec<_> = said.into_iter().collect();
        said.sort_by_key(|(key, _)| key.span().start);
        let mut file = Self::default();
        for (key, value) in said {
            let at = key.span().start;
            file.take(key.get_ref(), value.get_ref()).map_err(|why| Wrong { at, why })?;
        }
        Ok(file)
    }

    fn take(&mut self, key: &str, value: &Value) -> Result<(), String> {
        if !NAMES.contains(&key) {
            return Err(format!(
                "there is no {}; there are server, name, colour and format",
                escape(&shortened(key))
            ));
        }
        let said = value.as_str().ok_or_else(|| format!("the value of {key} is a text in quotes"))?;
        match key {
            "server" => self.server = Some(said.parse().map_err(|error: BadAddress| error.to_string())?),
            "name" => self.name = Some(parse_name(said)?),
            "format" => self.format = Some(one_of_them(key, said)?),
            _ if self.colour.is_some() => {
                return Err("colour is said twice; leave one of them out".to_owned());
            }
            _ => self.colour = Some(one_of_them(key, said)?),
        }
        Ok(())
    }
}

/// One of the values that there are.
fn one_of_them<T: ValueEnum>(key: &str, said: &str) -> Result<T, String> {
    T::from_str(said, false).map_err(|_| {
        let values = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let values: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
        format!("{key} takes {}, not {}", one_of(&values), escape(&shortened(said)))
    })
}

/// Where the file is wrong, and how.
struct Wrong {
    /// In bytes from its beginning.
    at: usize,
    why: String,
}

impl Wrong {
    /// What is no TOML. Its own words are for those who write parsers.
    fn of_toml(error: &toml::de::Error) -> Self {
        let why = match error.message().contains("duplicate key") {
            true => "this is said twice; leave one of them out",
            false => "a line is a name, = and a value in quotes, such as name = \"anna\"",
        };
        Self { at: error.span().map_or(0, |span| span.start), why: why.to_owned() }
    }

    /// The same in one line.
    fn sentence(&self, path: &Path, text: &str) -> String {
        let number = text.get(..self.at).unwrap_or_default().matches('\n').count();
        let line = text.lines().nth(number).unwrap_or_default();
        let what = without_quotes(line);
        format!("{}, line {}: {}", path.display(), number + 1, what.as_ref().unwrap_or(&self.why))
    }
}

/// The mistake that nearly everyone makes first, and the line as it should be.
fn without_quotes(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.split('#').next()?.trim());
    let wanted = NAMES.contains(&key) && !value.is_empty() && !value.contains(['"', '\'']);
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
            "name = \"a\"\ncolor = \"never\"\ncolour = \"never\"\n",
            "name = \"a\"\ntoken = \"x\"\n",
            "[server]\nhost = \"a\"\n",
            "name = \"a\"\nname = \"b\"\n",
            "server\n",
            "server =\n",
            "\u{1b}[2J = 1\n",
        ];
        let said = files.map(|text| match File::read(text) {
            Ok(_) => panic!("{text} is sound"),
            Err(wrong) => format!("{text:?}\n{}", wrong.sentence(Path::new("config.toml"), text)),
        });
        insta::assert_snapshot!("config_errors", said.join("\n"));
    }

    #[test]
    fn what_a_file_says() {
        let read = |text| File::read(text).map_err(|wrong| wrong.why).unwrap();
        let file = read("server = \"h:1\"\nname = \"小明\"\nformat = \"json\"\n");
        assert_eq!(file.server.map(|server| server.to_string()).as_deref(), Some("h:1"));
        assert!(file.name.is_some() && file.format == Some(Format::Json) && file.colour.is_none());
        assert!(read("").server.is_none());
        for text in ["colour = \"never\"", "color = \"never\""] {
            assert_eq!(read(text).colour, Some(Colour::Never));
        }
    }
}
